//! A job system in one process: `cargo run --example quickstart [FOLDER]`.
//!
//! Every file of the folder becomes an item of a swarm, every item is a chain (read, count words, summarise), one step
//! fails now and then and is retried, and a callback merges all summaries into a report. A second run over the same
//! files is paused, resumed and cancelled.

use mageflow::prelude::*;
use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
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

/// Reading files blocks, so it runs on a thread of its own.
#[mageflow::task(blocking)]
fn read(path: PathBuf) -> Result<Text, TaskError> {
    let text = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
    Ok(Text { path, text })
}

/// Fails at its first attempt for every fifth file, as things do.
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
    tokio::time::sleep(Duration::from_millis(40)).await;
    path
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()));
    let mut files = Vec::new();
    find_files(&folder, &mut files)?;
    if files.is_empty() {
        return Err(format!("there are no files in {}", folder.display()).into());
    }
    println!("{} files in {}", files.len(), folder.display());

    let mage = Mageflow::embedded().build().await?;
    let worker = mage.worker("quickstart").spawn().await?;

    first_run(&mage, &files).await?;
    second_run(&mage, &files).await?;

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
    let mut retried = 0;
    for item in 0..files.len() as u32 {
        let count = swarm.item(item).await?.item(1).await?.result().await?;
        retried += usize::from(count.attempts > 1);
    }
    println!("done in {:.2?}; {retried} files needed a second attempt\n", started.elapsed());
    Ok(())
}

async fn second_run(mage: &Mageflow, files: &[PathBuf]) -> mageflow::Result<()> {
    let swarm = mage
        .swarm(files.iter().map(|path| chain((ponder.sign(path), ponder))))
        .max_concurrency(4)
        .run_no_wait(args![])
        .await?;
    let half = (files.len() as u32 / 4).max(1);
    watch(&swarm, |progress| progress.done >= half).await?;
    swarm.pause().await?;
    println!("\npaused:    {}", line(&swarm.result().await?));
    swarm.resume().await?;
    watch(&swarm, |progress| progress.done >= half * 2).await?;
    println!("\nresumed:   {}", line(&swarm.result().await?));
    swarm.cancel().await?;
    println!("cancelled: {}", line(&swarm.result().await?));
    Ok(())
}

/// Shows the progress until `enough`.
async fn watch<I: ?Sized, O>(
    swarm: &SwarmHandle<I, O>,
    enough: impl Fn(&mageflow::Progress) -> bool,
) -> mageflow::Result<()> {
    loop {
        let result = swarm.result().await?;
        let progress = result.progress.unwrap_or_default();
        if std::io::stdout().is_terminal() {
            let filled = (progress.done * 40 / progress.total.max(1)) as usize;
            print!("\r[{:<40}] {:>5}/{} ", "#".repeat(filled), progress.done, progress.total);
            let _ = std::io::stdout().flush();
        }
        if enough(&progress) || result.is_ended() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn line(result: &mageflow::SignatureResult) -> String {
    let progress = result.progress.unwrap_or_default();
    format!("{:?}, {} of {} files done", result.status, progress.done, progress.total)
}

/// All files below a folder but for hidden ones and build output, at most 2000.
fn find_files(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries: Vec<_> = std::fs::read_dir(folder)?.filter_map(Result::ok).collect();
    entries.sort_by_key(std::fs::DirEntry::path);
    for entry in entries {
        let name = entry.file_name();
        let skipped = name.to_string_lossy().starts_with('.') || name == "target" || name == "node_modules";
        if skipped || files.len() >= 2000 {
            continue;
        }
        if entry.file_type()?.is_dir() {
            find_files(&entry.path(), files)?;
        } else if entry.metadata()?.len() <= 1 << 20 {
            files.push(entry.path());
        }
    }
    Ok(())
}
