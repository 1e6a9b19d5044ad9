//! A job system in one process: `cargo run --example quickstart [FOLDER]`.
//!
//! Every file of the folder becomes an item of a swarm, every item is a chain (read, count words, summarise), one step
//! fails now and then and is retried, and a callback merges all summaries into a report. A second run over the same
//! files is paused, resumed and cancelled.

use mageflow::{Progress, SignatureResult, prelude::*};
use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

#[derive(Serialize, Deserialize)]
struct Text {
    path: PathBuf,
    text: String,
}

#[derive(Serialize, Deserialize)]
struct Counted {
    path: PathBuf,
    lines: usize,
    words: usize,
}

#[derive(Serialize, Deserialize)]
struct Summary {
    kind: String,
    lines: usize,
    words: usize,
}

/// Reading files blocks, so it runs on a thread of its own. A file that cannot be read fails for good, at once.
#[mageflow::task(blocking)]
fn read(path: PathBuf) -> Result<Text, TaskError> {
    let bytes = std::fs::read(&path).map_err(|error| TaskError::terminal(at(&path, &error)))?;
    Ok(Text { path, text: String::from_utf8_lossy(&bytes).into_owned() })
}

/// Fails at its first attempt for every fifth length of a file, as things do. Any error is tried again.
#[mageflow::task(retries = 3, backoff = constant("5ms"))]
#[with_ctx]
async fn count_words(input: Text, ctx: TaskContext) -> Result<Counted, TaskError> {
    if ctx.execution_info().attempt_number == 1 && input.text.len().is_multiple_of(5) {
        return Err(TaskError::new("an unlucky file"));
    }
    let (lines, words) = (input.text.lines().count(), input.text.split_whitespace().count());
    Ok(Counted { path: input.path, lines, words })
}

#[mageflow::task]
fn summarise(counted: Counted) -> Summary {
    let kind = counted.path.extension().map_or("other".into(), |kind| kind.to_string_lossy().into_owned());
    Summary { kind, lines: counted.lines, words: counted.words }
}

/// The success callback of the swarm: gets the summaries in the order of the files, `None` where there is none.
#[mageflow::task]
fn report(summaries: Vec<Option<Summary>>) -> String {
    let mut kinds: BTreeMap<String, (usize, usize, usize)> = BTreeMap::new();
    for summary in summaries.into_iter().flatten() {
        let row = kinds.entry(summary.kind).or_default();
        *row = (row.0 + 1, row.1 + summary.lines, row.2 + summary.words);
    }
    let mut rows: Vec<_> = kinds.into_iter().collect();
    rows.sort_by_key(|(_, (_, _, words))| std::cmp::Reverse(*words));
    let mut table = format!("{:<12} {:>6} {:>8} {:>9}\n", "kind", "files", "lines", "words");
    for (kind, (files, lines, words)) in rows {
        table.push_str(&format!("{kind:<12} {files:>6} {lines:>8} {words:>9}\n"));
    }
    table
}

/// Slow on purpose, so that there is time to pause it.
#[mageflow::task]
async fn ponder(path: PathBuf) -> PathBuf {
    tokio::time::sleep(Duration::from_millis(20)).await;
    path
}

#[tokio::main]
async fn main() {
    if let Err(error) = quickstart().await {
        eprintln!("quickstart: {error}");
        std::process::exit(1);
    }
}

async fn quickstart() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args_os().nth(1).map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    let mut found = Found::default();
    found.look_into(&folder).map_err(|error| at(&folder, &error))?;
    println!("{}: {} files to read, binary files skipped: {}", folder.display(), found.files.len(), found.binary);
    for note in &found.notes {
        println!("skipped {note}");
    }
    if found.files.is_empty() {
        println!("so there is nothing to do");
        return Ok(());
    }

    let mage = Mageflow::embedded().build().await?;
    let worker = mage.worker("quickstart").spawn().await?;

    first_run(&mage, &found.files).await?;
    second_run(&mage, &found.files).await?;

    worker.shutdown().await?;
    Ok(())
}

async fn first_run(mage: &Mageflow, files: &[PathBuf]) -> mageflow::Result<()> {
    let started = Instant::now();
    let swarm = mage
        .swarm(files.iter().map(|path| chain((read.sign(path), count_words, summarise))))
        .max_concurrency(8)
        .on_success(report)
        .closed()
        .run_no_wait(args![])
        .await?;
    watch(&swarm, |progress| progress.done + progress.failed == progress.total).await?;
    swarm.wait_result(None).await?;
    let table = swarm.on_success().wait().await?;
    println!("\n{}", table.decode::<String>().unwrap_or_default());

    let (mut failed, mut retried) = (Vec::new(), 0);
    for item in swarm.items(0, files.len() as u32).await? {
        if let Some(error) = item.error {
            failed.push(error.message);
            continue;
        }
        let counting = swarm.item(item.index).await?.item(1).await?.result().await?;
        retried += usize::from(counting.attempts > 1);
    }
    if let Some(first) = failed.first() {
        println!("files that failed: {}, the first one because of {first}", failed.len());
    }
    println!("done in {:.2?}; {retried} files needed a second attempt\n", started.elapsed());
    Ok(())
}

async fn second_run(mage: &Mageflow, files: &[PathBuf]) -> mageflow::Result<()> {
    // A few files are pondered over several times, so that there is something to pause.
    let items = files.len().max(40);
    let swarm = mage
        .swarm(files.iter().cycle().take(items).map(|path| chain((ponder.sign(path), ponder))))
        .max_concurrency(4)
        .closed()
        .run_no_wait(args![])
        .await?;
    let quarter = items as u32 / 4;
    watch(&swarm, |progress| progress.done >= quarter).await?;
    swarm.pause().await?;
    // The steps that run go on to their end, then nothing moves any more.
    tokio::time::sleep(Duration::from_millis(100)).await;
    println!("\npaused:    {}", line(&swarm.result().await?));
    tokio::time::sleep(Duration::from_millis(300)).await;
    println!("and still: {}", line(&swarm.result().await?));
    swarm.resume().await?;
    watch(&swarm, |progress| progress.done >= quarter * 2).await?;
    println!("\nresumed:   {}", line(&swarm.result().await?));
    swarm.cancel().await?;
    println!("cancelled: {}", line(&swarm.result().await?));
    Ok(())
}

/// Shows the progress until `enough`: a bar on a terminal, elsewhere a line at each quarter.
async fn watch<I: ?Sized, O>(swarm: &SwarmHandle<I, O>, enough: impl Fn(&Progress) -> bool) -> mageflow::Result<()> {
    let mut quarters = None;
    loop {
        let result = swarm.result().await?;
        let progress = result.progress.unwrap_or_default();
        let (ended, total) = (progress.done + progress.failed, progress.total.max(1));
        if io::stdout().is_terminal() {
            print!("\r[{:<40}] {ended:>5}/{total} ", "#".repeat((ended * 40 / total) as usize));
            let _ = io::stdout().flush();
        } else if quarters.is_none_or(|before| before < ended * 4 / total) {
            // Where a run is resumed, the quarters that are over are not told again.
            if quarters.replace(ended * 4 / total).is_some() {
                println!("{:>3} %: {ended} of {total}", ended * 4 / total * 25);
            }
        }
        if enough(&progress) || result.is_ended() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn line(result: &SignatureResult) -> String {
    let progress = result.progress.unwrap_or_default();
    format!("{:?}, {} of {} items done", result.status, progress.done, progress.total)
}

/// What is below a folder, but for hidden files, symlinks, build output and files over 1 MiB: at most 2000 text files.
#[derive(Default)]
struct Found {
    files: Vec<PathBuf>,
    binary: usize,
    notes: Vec<String>,
}

impl Found {
    fn look_into(&mut self, folder: &Path) -> io::Result<()> {
        let mut entries: Vec<_> = std::fs::read_dir(folder)?.filter_map(Result::ok).collect();
        entries.sort_by_key(std::fs::DirEntry::path);
        for entry in entries {
            let (name, path) = (entry.file_name(), entry.path());
            let skipped = name.to_string_lossy().starts_with('.') || name == "target" || name == "node_modules";
            let Ok(kind) = entry.file_type() else { continue };
            if skipped || self.files.len() >= 2000 {
                continue;
            }
            if kind.is_dir() {
                if let Err(error) = self.look_into(&path) {
                    self.notes.push(at(&path, &error));
                }
            } else if kind.is_file() && entry.metadata().is_ok_and(|file| file.len() <= 1 << 20) {
                match is_binary(&path) {
                    Ok(true) => self.binary += 1,
                    // One that cannot be read fails as a task, which is what the report is for.
                    Ok(false) | Err(_) => self.files.push(path),
                }
            }
        }
        Ok(())
    }
}

/// Whether there is a NUL byte near its beginning.
fn is_binary(path: &Path) -> io::Result<bool> {
    let mut start = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(std::fs::File::open(path)?, 1024), &mut start)?;
    Ok(start.contains(&0))
}

fn at(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}
