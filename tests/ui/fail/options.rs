#[mageflow::task(retry = 3)]
fn unknown() {}

#[mageflow::task(color = "red")]
fn unlike_any() {}

#[mageflow::task(retries = 3, timeout = "1s", retries = 4)]
fn duplicate() {}

#[mageflow::task(timeout = "30")]
fn no_unit() {}

#[mageflow::task(timeout = "0s")]
fn zero() {}

#[mageflow::task(timeout = 30)]
fn no_text() {}

#[mageflow::task(name = "")]
fn empty_name() {}

#[mageflow::task("name")]
fn no_option() {}

#[mageflow::task(retries = -1)]
fn negative() {}

#[mageflow::task(priority = urgent)]
fn unknown_priority() {}

#[mageflow::task(backoff = "5s")]
fn no_backoff() {}

#[mageflow::task(backoff = exponential("1s", max = "1ms"))]
fn short_cap() {}

#[mageflow::task(durable = true)]
fn flag_with_value() {}

#[mageflow::task(blocking)]
async fn blocking_async() {}

#[mageflow::task(concurrency = 0)]
fn none_at_once() {}

fn main() {
    // An error does not bring others with it.
    unknown();
}
