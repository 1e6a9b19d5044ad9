//! A task is called like the function that it was.

use mageflow::{Task, TaskError};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Photo {
    url: String,
}

/// Documented, and public within the crate.
#[mageflow::task]
pub(crate) async fn resize(mut photo: Photo) -> Result<String, TaskError> {
    photo.url.push_str("/small");
    Ok(photo.url)
}

#[mageflow::task]
fn add_numbers(a: i64, b: i64) -> i64 {
    a + b
}

// Any error that is one, and aliases that say what they are.
#[mageflow::task]
fn parse(text: String) -> Result<i64, std::num::ParseIntError> {
    text.parse()
}

// What turns into a boxed error, and what has a conversion of its own.
#[mageflow::task]
fn text_error() -> Result<u8, String> {
    Err("no".to_owned())
}

#[mageflow::task]
async fn boxed_error() -> Result<u8, Box<dyn std::error::Error + Send + Sync>> {
    Ok("1".parse()?)
}

struct Own;

impl From<Own> for TaskError {
    fn from(_: Own) -> Self {
        TaskError::terminal("own")
    }
}

#[mageflow::task]
fn own_error() -> Result<u8, Own> {
    Err(Own)
}

mod net {
    pub type NetResult<T> = Result<T, std::io::Error>;
}

#[mageflow::task]
fn fetch(text: String) -> net::NetResult<String> {
    Ok(text)
}

// Data that is called a result.
#[mageflow::task]
fn look() -> mageflow::TaskResult {
    unreachable!()
}

// A body may submit the task itself, and a panic inside is one of the function.
#[mageflow::task]
async fn again(n: u32) -> u32 {
    let _name = &again.registered().definition.name;
    if n == 0 { 0 } else { again(n - 1).await }
}

macro_rules! tasks {
    ($($name:ident: $ty:ty),*) => {$(
        #[mageflow::task]
        #[mageflow::with_ctx]
        fn $name(x: $ty, _ctx: mageflow::TaskContext) -> $ty {
            x
        }
    )*};
}
tasks! { echo_number: i64, echo_text: String }

#[mageflow::task]
#[cfg(any())]
fn absent(_: Nowhere) {}

fn takes(_: impl Task<Input = (i64, i64), Output = i64>) {}

fn main() {
    assert_eq!(add_numbers(1, 2), 3);
    assert_eq!(parse("4".into()).unwrap(), 4);
    assert_eq!(fetch("x".into()).unwrap(), "x");
    takes(add_numbers);
    #[mageflow::task(name = "inner")]
    fn in_a_function(a: u8) -> u8 {
        a
    }
    assert_eq!(in_a_function(1), 1);
    let _ = (text_error, boxed_error, own_error, look, echo_number, echo_text);
    let _future = async { (resize(Photo { url: String::new() }).await, again(3).await) };
}
