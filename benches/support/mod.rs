//! What benches have in common: a runtime, repetitions, a line for each figure, and what the machine can do at all.

// Each bench uses its own part of it.
#![allow(dead_code)]

pub(crate) mod limit;

/// One measure.
pub(crate) struct Figure<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: f64,
    pub(crate) unit: &'a str,
    /// Of a peer, or the limit, in the same run.
    pub(crate) peer: f64,
}

/// Prints a figure as one line of fields apart by tabs.
pub(crate) fn report(figure: Figure<'_>) {
    let Figure { name, value, unit, peer } = figure;
    let digits = if value < 1000.0 { 2 } else { 0 };
    println!("{name}\t{value:.digits$}\t{unit}\t{peer:.digits$}\t{:.2}", value / peer);
}

/// The same without a peer.
pub(crate) fn report_alone(name: &str, value: f64, unit: &str) {
    let digits = if value < 1000.0 { 2 } else { 0 };
    println!("{name}\t{value:.digits$}\t{unit}\t-\t-");
}

/// The median of so many runs.
pub(crate) fn rounds(count: usize, mut run: impl FnMut() -> f64) -> f64 {
    median((0..count.max(1)).map(|_| run()))
}

pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Runs on a fresh runtime of two workers, as a task of it: the thread that waits outside is no third one.
pub(crate) fn run<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::spawn(future).await.expect("a clean end") })
}

/// The words on the command line: how many tasks, how many rounds, and which measure alone.
pub(crate) fn words(tasks: usize, rounds: usize) -> (usize, usize, Option<String>) {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let number = |index: usize, default| words.get(index).and_then(|word| word.parse().ok()).unwrap_or(default);
    (number(0, tasks), number(1, rounds), words.get(2).cloned())
}

/// A line of the kernel's account of this process, in megabytes; 0 where there is none.
pub(crate) fn megabytes(what: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// Seconds that this process has kept processors busy; 0 where that cannot be told.
pub(crate) fn busy() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, which may contain anything, ends with the last parenthesis.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split(' ');
    // The kernel counts hundredths.
    fields.skip(12).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}
