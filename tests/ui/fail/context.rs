use mageflow::{SignatureKey, TaskContext};

#[mageflow::task]
async fn without_with_ctx(_a: u8, _ctx: TaskContext) {}

#[mageflow::task]
#[mageflow::with_ctx]
async fn without_parameter(_a: u8) {}

#[mageflow::with_ctx]
#[mageflow::task]
async fn without_parameter_above(_a: u8) {}

#[mageflow::task]
#[mageflow::with_ctx]
async fn two_contexts(_a: TaskContext, _b: TaskContext) {}

#[mageflow::task]
#[mageflow::with_ctx]
async fn by_reference(_ctx: &TaskContext) {}

#[mageflow::task]
#[mageflow::with_signature]
async fn no_key(_a: u8) {}

#[mageflow::task]
#[mageflow::with_signature]
async fn two_keys(_a: SignatureKey, _b: Option<SignatureKey>) {}

#[mageflow::task]
#[mageflow::with_ctx]
async fn default_context(#[default] _ctx: TaskContext) {}

fn main() {}
