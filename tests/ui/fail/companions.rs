#[mageflow::task]
#[mageflow::with_ctx]
#[mageflow::with_ctx]
fn twice_below(_ctx: mageflow::TaskContext) {}

#[mageflow::with_ctx]
#[mageflow::with_ctx]
#[mageflow::task]
fn twice_above(_ctx: mageflow::TaskContext) {}

#[mageflow::with_signature]
#[mageflow::task]
#[mageflow::with_signature]
fn twice_around(_key: mageflow::SignatureKey) {}

#[mageflow::task]
#[mageflow::with_ctx(now)]
fn arguments_below(_ctx: mageflow::TaskContext) {}

#[mageflow::with_ctx(now)]
#[mageflow::task]
fn arguments_above(_ctx: mageflow::TaskContext) {}

#[mageflow::task]
#[mageflow::stagger_execution]
fn no_window() {}

#[mageflow::stagger_execution(10)]
#[mageflow::task]
fn number() {}

#[mageflow::task]
#[mageflow::stagger_execution("soon")]
fn no_duration() {}

#[mageflow::task(stagger = "1s")]
#[mageflow::stagger_execution("1s")]
fn said_twice() {}

fn main() {}
