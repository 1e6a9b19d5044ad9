#[mageflow::with_ctx]
async fn ctx(_ctx: mageflow::TaskContext) {}

#[mageflow::with_signature]
async fn signature(_key: mageflow::SignatureKey) {}

#[mageflow::stagger_execution("10s")]
async fn stagger() {}

#[mageflow::with_ctx]
struct Item;

fn main() {}
