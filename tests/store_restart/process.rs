//! The process: what it runs, what it submits, and how the test starts and kills it.

use crate::journal::Journal;
use chrono::Utc;
use mageflow::{
    IntoSignature, Json, Mageflow, Signature, SubmitOptions, TakesAny, TaskContext, TaskError, Untyped, args, chain,
    store::redis::RedisConfig, swarm,
};
use serde_json::Value;
use std::{
    io::Read,
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};

type Any = Signature<Untyped, Json, TakesAny>;

/// How long the plain task has to wait: longer than a process that is to be killed lives.
pub(crate) const PLAIN_DELAY: Duration = Duration::from_secs(3);
const LEASE: Duration = Duration::from_secs(1);
const RESCUE: Duration = Duration::from_millis(100);

/// Notes that it runs, takes its time, and gives its path, or the paths of what came before it.
#[mageflow::task]
#[mageflow::with_ctx]
async fn step(ctx: TaskContext, #[default] before: Value, millis: u64) -> Result<Value, TaskError> {
    let key = ctx.signature_key().ok_or_else(|| TaskError::terminal("it is signed"))?;
    ctx.state::<Journal>()?.started(key, Utc::now(), 1, 0).await;
    tokio::time::sleep(Duration::from_millis(millis)).await;
    Ok(match before {
        Value::Array(paths) => paths.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ").into(),
        _ => key.path().into(),
    })
}

/// Notes that it runs.
#[mageflow::task]
#[mageflow::with_ctx]
async fn plain(ctx: TaskContext) -> Result<(), TaskError> {
    let nobody = mageflow::SignatureKey::root(mageflow::signature::GraphId::new()).to_string();
    let key = format!("{nobody}/plain").parse().map_err(TaskError::terminal)?;
    ctx.state::<Journal>()?.started(&key, Utc::now(), 1, 0).await;
    Ok(())
}

/// Takes more than a second: a step, a swarm of two tasks and a chain, a step; with callbacks.
fn graph() -> Any {
    let part = |millis: u64| Signature::by_name("step").kwargs(args![millis = millis]);
    let items = [part(300), part(900), chain([part(200), part(700)])];
    let middle = swarm(items).closed().on_success(part(10)).into_signature().untyped();
    chain(vec![part(200), middle, part(300)]).on_success(part(10)).on_complete(part(10)).on_error(part(10))
}

pub(crate) async fn mageflow(url: &str, prefix: &str) -> mageflow::Result<Mageflow> {
    let journal = Journal::new(url, &format!("{prefix}-journal"))
        .map_err(|error| mageflow::Error::InvalidConfig { reason: error.to_string() })?;
    let builder = Mageflow::embedded().redis(RedisConfig::from_url(url)?.prefix(prefix)).configure(|config| {
        (config.lease, config.dispatch_grace, config.rescue_interval) = (LEASE, LEASE, RESCUE);
    });
    builder.only_given_tasks().task(step).task(plain).state(journal).build().await
}

/// Works until it is killed, or until the test is gone.
pub(crate) async fn serve(url: &str, prefix: &str, submits: bool) -> ExitCode {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let mage = mageflow(url, prefix).await.unwrap();
    let mut worker = mage.worker("restart").spawn().await.unwrap();
    if submits {
        mage.run_no_wait_opts(plain, args![], &SubmitOptions::new().run_after(PLAIN_DELAY)).await.unwrap();
        let handle = mage.sign(graph()).run_no_wait(args![]).await.unwrap();
        Journal::new(url, &format!("{prefix}-journal")).unwrap().fed(0, handle.key()).await;
    }
    worker.ended().await.unwrap();
    ExitCode::SUCCESS
}

/// The running process. Dropped, it is killed, with no time to do anything.
pub(crate) struct Killed(Child);

impl Killed {
    pub(crate) fn launch(url: &str, prefix: &str, submits: bool) -> Self {
        let command = Command::new(std::env::current_exe().unwrap())
            .args(["process", url, prefix, &submits.to_string()])
            .stdin(Stdio::piped())
            .spawn();
        Self(command.unwrap())
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}
