//! The life of a worker: start, serve, drain.

use crate::{
    config::Configuration,
    exit::{self, Failure},
    health::Health,
    http,
    metrics::About,
    output::Output,
};
use mageflow::{Backoff, Mageflow, MageflowBuilder, StopSignals, WorkerHandle};
use sd_notify::NotifyState;
use serde_json::json;
use std::time::Duration;

/// How long threads that block have at the end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a worker is to be.
struct Plan {
    engine: String,
    name: String,
    queues: Vec<String>,
    tasks: Vec<String>,
}

impl Plan {
    fn new(mage: &MageflowBuilder, config: &Configuration) -> Result<Self, Failure> {
        let queues = config.queues()?;
        let engine = config.backend.as_ref().map_or("the program's own", |backend| backend.backend_type.name());
        let name = config.worker_name(&queues);
        let tasks = mage.tasks()?.into_iter().map(|task| task.name.to_string()).collect();
        Ok(Self { engine: engine.to_owned(), name, queues, tasks })
    }
}

/// Says what a worker would serve.
pub(crate) fn describe(mage: &MageflowBuilder, config: &Configuration, output: Output) -> Result<(), Failure> {
    let Plan { engine, name, queues, tasks } = Plan::new(mage, config)?;
    let slots = config.worker.concurrency;
    let line = format!(
        "would serve as {name}: engine {engine}, queues {}, {slots} slots, {} tasks: {}",
        queues.join(","),
        tasks.len(),
        tasks.join(", ")
    );
    output.answer(&line, &json!({"worker": name, "engine": engine, "queues": queues, "slots": slots, "tasks": tasks}))
}

/// Runs a worker until it is told to stop.
pub(crate) fn run(mage: MageflowBuilder, config: &Configuration) -> Result<(), Failure> {
    let plan = Plan::new(&mage, config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(exit::FAILED, format!("cannot start: {error}")))?;
    let ended = runtime.block_on(serve(mage, config, &plan));
    // A task's thread that blocks cannot be ended.
    runtime.shutdown_timeout(LAST_WORDS);
    ended
}

async fn serve(mage: MageflowBuilder, config: &Configuration, plan: &Plan) -> Result<(), Failure> {
    // First of all: as the first process of a container it would not be ended by a signal that nobody listens to.
    let mut signals = StopSignals::listen()?;
    let health = Health::new(&config.worker);
    if let Some(address) = config.worker.http {
        let about = About { engine: plan.engine.clone(), name: plan.name.clone() };
        let address = http::start(address, about, health.clone())?;
        tracing::info!(%address, "probes and metrics are served");
    }
    let (mage, mut worker) = tokio::select! {
        started = start(mage, config, plan, &health) => started?,
        () = signals.next() => {
            tracing::info!("stopped before the worker had started");
            return Ok(());
        }
    };
    health.looked(Ok(()));
    let Plan { engine, name, queues, tasks } = plan;
    let slots = config.worker.concurrency;
    let (queues, tasks) = (queues.join(","), tasks.join(","));
    tracing::info!(worker = %name, %engine, %queues, slots, %tasks, "serving");
    let status = format!("serving {queues} on {engine}");
    notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
    let watch =
        tokio::spawn(watch(mage, config.worker.health_check_interval, config.worker.health_timeout, health.clone()));
    let guard = tokio::spawn(guard(health.clone()));
    let ended = obey(&mut worker, &mut signals, &health).await;
    watch.abort();
    guard.abort();
    match &ended {
        Ok(()) => tracing::info!(worker = %name, "stopped"),
        Err(error) => tracing::error!(worker = %name, %error, "the worker ended"),
    }
    Ok(ended?)
}

/// Starts the worker, and tries again for as long as the engine cannot be reached.
async fn start(
    mage: MageflowBuilder,
    config: &Configuration,
    plan: &Plan,
    health: &Health,
) -> Result<(Mageflow, WorkerHandle), Failure> {
    let waits = Backoff::exponential(Duration::from_millis(250), Duration::from_secs(10));
    let mage = crate::client::on_engine(mage, config);
    let mut tries = 0;
    loop {
        let started = async {
            let mage = mage.clone().build().await?;
            let worker = mage
                .worker(&plan.name)
                .queues(&plan.queues)
                .concurrency(config.worker.concurrency)
                .grace(config.worker.shutdown_timeout)
                .stats(&health.stats);
            let worker = worker.spawn().await?;
            Ok::<_, mageflow::Error>((mage, worker))
        };
        match started.await {
            Ok(started) => return Ok(started),
            Err(error) if error.is_retryable() => {
                tries += 1;
                let wait = waits.delay(tries, fastrand::f64());
                tracing::warn!(%error, tries, ?wait, "the engine cannot be reached; trying again");
                tokio::time::sleep(wait).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Until the worker has ended, by itself or because a signal asked for it.
async fn obey(worker: &mut WorkerHandle, signals: &mut StopSignals, health: &Health) -> mageflow::Result<()> {
    tokio::select! {
        ended = worker.ended() => return ended,
        () = signals.next() => {}
    }
    tracing::info!("draining; a second signal stops at once");
    health.draining();
    notify(&[NotifyState::Stopping, NotifyState::Status("draining")]);
    worker.drain();
    tokio::select! {
        ended = worker.ended() => return ended,
        () = signals.next() => {}
    }
    tracing::info!("stopping at once");
    worker.stop();
    worker.ended().await
}

/// Looks at the engine again and again.
async fn watch(mage: Mageflow, interval: Duration, timeout: Duration, health: Health) {
    let mut was_found = true;
    loop {
        tokio::time::sleep(interval).await;
        let found = match tokio::time::timeout(timeout, mage.ping()).await {
            Ok(found) => found.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {timeout:?}")),
        };
        match &found {
            Ok(()) if !was_found => tracing::info!("the engine can be reached again"),
            Err(reason) if was_found => tracing::warn!(%reason, "the engine cannot be reached"),
            _ => {}
        }
        was_found = found.is_ok();
        health.looked(found);
    }
}

/// Tells systemd's watchdog, where it asks, that the worker lives.
async fn guard(health: Health) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    loop {
        if health.is_alive().is_ok() {
            notify(&[NotifyState::Watchdog]);
        }
        tokio::time::sleep(limit / 2).await;
    }
}

/// Tells systemd, where it listens.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd cannot be told");
    }
}
