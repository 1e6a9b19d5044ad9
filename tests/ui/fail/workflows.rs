#[mageflow::workflow]
fn takes(_steps: u32) -> [&'static str; 1] {
    ["a"]
}

#[mageflow::workflow]
async fn waits() -> [&'static str; 1] {
    ["a"]
}

#[mageflow::workflow]
fn generic<T>() -> [&'static str; 1] {
    ["a"]
}

#[mageflow::workflow(title = "x")]
fn option() -> [&'static str; 1] {
    ["a"]
}

#[mageflow::workflow(name = "")]
fn nameless() -> [&'static str; 1] {
    ["a"]
}

#[mageflow::workflow]
struct Item;

#[mageflow::workflow]
fn no_steps() -> u32 {
    1
}

fn main() {}
