struct Opaque;

#[derive(serde::Serialize)]
struct WriteOnly;

#[derive(Debug)]
struct NotAnError;

type Fallible = Result<i64, String>;

struct SearchResult<T>(T);

#[mageflow::task]
fn unreadable_input(_a: Opaque) {}

#[mageflow::task]
fn unreadable_inputs(_a: u8, _b: WriteOnly) {}

#[mageflow::task]
fn unreadable_output() -> WriteOnly {
    WriteOnly
}

#[mageflow::task]
async fn unwritable_output() -> Result<Opaque, mageflow::TaskError> {
    Ok(Opaque)
}

#[mageflow::task]
fn no_error() -> Result<u8, NotAnError> {
    Ok(1)
}

#[mageflow::task]
fn hidden_result() -> Fallible {
    Ok(1)
}

#[mageflow::task]
fn no_result() -> SearchResult<u8> {
    SearchResult(1)
}

fn main() {}
