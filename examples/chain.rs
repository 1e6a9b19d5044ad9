//! Chains: one step after the other, each given what the one before it returned.
//!
//! `cargo run --example chain`

use mageflow::{Error, prelude::*};

#[derive(Debug, Serialize, Deserialize)]
struct Photo {
    url: String,
    width: u32,
}

#[mageflow::task]
fn fetch(url: String) -> Photo {
    Photo { url, width: 4000 }
}

// The result of the previous step is the whole message.
#[mageflow::task]
fn shrink(photo: Photo) -> Result<Photo, TaskError> {
    match photo.url.ends_with(".txt") {
        true => Err(TaskError::terminal(format!("{} is no photo", photo.url))),
        false => Ok(Photo { width: photo.width / 10, ..photo }),
    }
}

// With several parameters, the marked one takes the previous result; the others come from the signature's own arguments.
#[mageflow::task]
fn store(folder: String, #[return_value] photo: Photo) -> String {
    format!("{folder}/{} ({} px)", photo.url, photo.width)
}

// A message says which of its fields takes the result. Unmarked, a field `mageflow_results` would.
#[derive(Serialize, Deserialize)]
struct Announcement {
    channel: String,
    text: String,
}

#[mageflow::task(return_field = "text")]
fn announce(announcement: Announcement) -> String {
    format!("#{}: {}", announcement.channel, announcement.text)
}

#[mageflow::task]
fn on_done(result: String) {
    println!("  on_success was given {result:?}");
}

// An error callback finds the original message under its own name, and the error under the name `error`.
#[mageflow::task]
fn on_failed(url: String, error: TaskFailure) {
    let task = error.task_name.map(|name| name.to_string()).unwrap_or_default();
    println!("  on_error was given {url:?} and `{task}` saying {:?}", error.message);
}

#[tokio::main]
async fn main() -> mageflow::Result<()> {
    let mage = Mageflow::embedded().build().await?;
    let worker = mage.worker("examples").spawn().await?;

    // A tuple of steps. A step that does not take what the one before it returns does not compile.
    let stored: String = mage.chain((fetch, shrink, store.sign(args![folder = "thumbs"]))).run("a.png").await?;
    println!("tuple: {stored}");

    // The same, step by step. `then` makes any signature longer.
    let chain = mage.sign(fetch).then(shrink).then(store.sign(args![folder = "small"]));
    let chain = chain.then(announce.sign(args![channel = "photos"]));
    println!("then: {}", chain.run("b.png").await?);

    // A step that lives in another process is known by its name alone. `returns` says what the compiler cannot know.
    let by_name = Signature::by_name("shrink").returns::<Photo>();
    let photo = mage.sign(fetch).then(by_name).run("c.png").await?;
    println!("by name: {photo:?}");

    // Named arguments of the chain reach every step that has such a parameter; a step's own are stronger.
    let chain = mage.chain((fetch, shrink, store)).kwargs(args![folder = "archive"]);
    println!("kwargs: {}", chain.run("d.png").await?);

    // Steps of one type fit into a list.
    let halves = mage.chain(vec![shrink.signature(); 3]);
    println!("list: {:?}", halves.run(&Photo { url: "e.png".into(), width: 4000 }).await?);

    // Created, a chain is stored and has a key. Callbacks run once, when the chain has ended.
    let chain = mage.chain((fetch, shrink, store.sign(args![folder = "thumbs"]))).name("photo");
    let chain = chain.on_success(on_done).on_error(on_failed);

    println!("created:");
    let good = chain.clone().create().await?;
    good.run_no_wait("f.png").await?;
    good.on_success().wait_result(None).await?; // a callback is a signature, too
    println!("  yields {:?}", good.wait().await?);

    // A chain stops at the first final failure. The steps behind it never start.
    println!("failed:");
    let bad = chain.create().await?;
    bad.run_no_wait("notes.txt").await?;
    bad.on_error().wait_result(None).await?;
    match bad.wait().await {
        Err(Error::SignatureFailed { failure, .. }) => println!("  wait says: {failure}"),
        other => println!("  {other:?}"),
    }
    for step in bad.items(0, 10).await? {
        println!("  step {}: {:?}", step.index, step.status);
    }
    worker.shutdown().await
}
