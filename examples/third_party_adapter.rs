//! An adapter of your own: the smallest engine, a tokio channel. Copy it and put your queue in the channel's place.
//!
//! `cargo run --example third_party_adapter`

use mageflow::{Error, Result, TaskDefinition, TaskExecutionInfo, TaskOptions, adapters::*, prelude::*};
use mageflow::{store::memory::MemoryStore, task::NativeContext};
use std::{any::Any, collections::HashMap, pin::pin, sync::Arc, time::Duration};
use tokio::sync::{Mutex, Semaphore, mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const NAME: &str = "channel";

fn unsupported<T>(operation: &str) -> Result<T> {
    Err(Error::Unsupported { engine: NAME, operation: operation.into() })
}

/// What is sent: an invocation, and which attempt it is.
type Message = (Invocation, u32);

/// The connection. Clones are the same one: the sender and the workers share it.
#[derive(Clone, Debug)]
struct Channel {
    sender: mpsc::UnboundedSender<Message>,
    receiver: Arc<Mutex<mpsc::UnboundedReceiver<Message>>>,
    results: watch::Sender<HashMap<TaskId, TaskResult>>, // kept for ever: a real engine drops them
}

#[async_trait::async_trait]
impl TaskManagerAdapter for Channel {
    fn name(&self) -> &'static str {
        NAME
    }
    // Claim what holds, nothing else: the core refuses a delayed start by itself because `delay` is not claimed.
    fn capabilities(&self) -> Capabilities {
        let mut claims = Capabilities::default();
        (claims.results, claims.metadata) = (true, true);
        claims
    }
    // Refuse an option that would silently do nothing.
    fn task(&self, definition: &TaskDefinition) -> Result<NativeTask> {
        match &*definition.options {
            TaskOptions { priority: Priority::Low | Priority::High, .. } => unsupported("priorities"),
            TaskOptions { concurrency: Some(_), .. } => unsupported("`concurrency` of a task"),
            TaskOptions { schedule_timeout: Some(_), .. } => unsupported("`schedule_timeout`"),
            TaskOptions { queue: Some(queue), .. } if queue != "mageflow" => unsupported("queues"),
            _ => Ok(Box::new(definition.name.clone())),
        }
    }
    fn durable_task(&self, definition: &TaskDefinition) -> Result<NativeTask> {
        self.task(definition)
    }
    fn create_framework_tasks(&self) -> Vec<FrameworkTask> {
        FRAMEWORK_TASKS.map(|name| FrameworkTask { name, options: TaskOptions::default() }).into()
    }
    fn workflow(&self, _: Arc<[Arc<TaskDefinition>]>) -> Arc<dyn WorkflowAdapter> {
        Arc::new(self.clone())
    }
    fn worker(&self, options: WorkerOptions) -> Result<Box<dyn WorkerAdapter>> {
        Ok(Box::new(ChannelWorker { channel: self.clone(), options }))
    }
    fn extract_execution_info(&self, raw: &dyn NativeContext) -> Option<TaskExecutionInfo> {
        raw.as_any().downcast_ref().map(Context::info)
    }
    fn should_retry(&self, _: &TaskExecutionInfo, _: &TaskFailure) -> bool {
        true
    }
    async fn ping(&self) -> Result<()> {
        Ok(())
    }
    fn native_client(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

#[async_trait::async_trait]
impl WorkflowAdapter for Channel {
    async fn run_no_wait(&self, sent: Invocation) -> Result<TaskId> {
        let (id, pending) = (sent.id.clone(), TaskResult::pending(sent.id.clone(), Some(sent.task.clone())));
        self.results.send_modify(|all| {
            all.entry(id.clone()).or_insert(pending);
        });
        let _ = self.sender.send((sent, 1)); // the receiver lives as long as `self`
        Ok(id)
    }
    async fn run_many_no_wait(&self, invocations: Vec<Invocation>) -> Result<Vec<TaskId>> {
        let mut ids = Vec::new();
        for invocation in invocations {
            ids.push(self.run_no_wait(invocation).await?);
        }
        Ok(ids)
    }
    async fn run(&self, invocation: Invocation) -> Result<TaskResult> {
        self.wait(&self.run_no_wait(invocation).await?).await
    }
    async fn result(&self, id: &TaskId) -> Result<TaskResult> {
        self.results.borrow().get(id).cloned().ok_or_else(|| Error::UnknownTaskId { task_id: id.clone() })
    }
    async fn wait(&self, id: &TaskId) -> Result<TaskResult> {
        let mut results = self.results.subscribe();
        let _ = results.wait_for(|all| all.get(id).is_none_or(TaskResult::is_ended)).await;
        self.result(id).await
    }
    async fn cancel(&self, _: &TaskId) -> Result<()> {
        unsupported("to cancel a task by its id")
    }
}

/// What a run sees of the engine.
#[derive(Clone, Debug)]
struct Context(Message);

impl Context {
    fn info(&self) -> TaskExecutionInfo {
        let (sent, attempt) = &self.0;
        let mut info = TaskExecutionInfo::new(sent.task.clone(), sent.id.clone(), *attempt, Box::new(self.clone()));
        info.task_data = sent.task_data.clone().unwrap_or_default();
        info
    }
}

#[async_trait::async_trait]
impl NativeContext for Context {
    fn log(&self, _: &str) -> Result<()> {
        unsupported("to keep log lines")
    }
    async fn heartbeat(&self) -> Result<()> {
        Ok(()) // nobody has to be told
    }
    async fn progress(&self, _: f64, _: &str) -> Result<()> {
        unsupported("to publish progress")
    }
    async fn refresh_timeout(&self, _: Duration) -> Result<()> {
        Ok(()) // there is no deadline but the core's
    }
    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

#[derive(Clone, Debug)]
struct ChannelWorker {
    channel: Channel,
    options: WorkerOptions,
}

#[async_trait::async_trait]
impl WorkerAdapter for ChannelWorker {
    async fn start(self: Box<Self>, handler: Arc<dyn DeliveryHandler>, ready: CancellationToken) -> Result<()> {
        let (slots, rest) = (Arc::new(Semaphore::new(self.options.concurrency)), CancellationToken::new());
        let (shutdown, runs) = (&self.options.shutdown, TaskTracker::new());
        let mut receiver = self.channel.receiver.lock().await;
        ready.cancel();
        while let Some(Some(message)) = shutdown.drain.run_until_cancelled(receiver.recv()).await {
            let (this, handler, slots, rest) = (self.clone(), handler.clone(), slots.clone(), rest.clone());
            runs.spawn(async move {
                // The library's own tasks get through when user tasks have taken all slots.
                let needs_slot = !FRAMEWORK_TASKS.contains(&message.0.task.as_str());
                match if needs_slot { slots.acquire().await.map(Some) } else { Ok(None) } {
                    Ok(_slot) => this.deliver(message, &*handler, rest).await,
                    Err(_) => drop(this.channel.sender.send(message)), // drained: it is for another worker
                }
            });
        }
        slots.close();
        runs.close();
        tokio::select! {
            () = runs.wait() => {}
            () = tokio::time::sleep(self.options.grace) => {}
            () = shutdown.now.cancelled() => {}
        }
        rest.cancel();
        runs.wait().await;
        Ok(())
    }
}

impl ChannelWorker {
    /// Hands a message to the core and carries out what the core decides.
    async fn deliver(&self, message: Message, handler: &dyn DeliveryHandler, rest: CancellationToken) {
        let ((sent, attempt), stop) = (&message, Stop::default());
        let info = Context(message.clone()).info();
        let mut delivery = Delivery::new(info, Ok(sent.arguments.clone()), stop.clone());
        delivery.mark = sent.mark.clone();
        delivery.options = sent.options_known.then(|| sent.options.clone());
        let mut ended = TaskResult::pending(sent.id.clone(), Some(sent.task.clone()));
        (ended.attempt, ended.started_at) = (*attempt, Some(chrono::Utc::now()));
        let mut handled = pin!(handler.handle(delivery));
        let disposition = tokio::select! {
            disposition = &mut handled => disposition,
            () = rest.cancelled() => (stop.fire(StopReason::Shutdown), handled.await).1,
        };
        (ended.status, ended.result, ended.error) = match disposition {
            Disposition::Done(json) => (TaskStatus::Completed, Some(json), None),
            Disposition::Failed(failure) => (TaskStatus::Failed, None, Some(failure)),
            Disposition::Cancelled => (TaskStatus::Cancelled, None, None),
            Disposition::Skipped => return self.channel.results.send_modify(|all| drop(all.remove(&sent.id))),
            Disposition::Retry { after, .. } => return self.again((sent.clone(), attempt + 1), after),
            Disposition::GiveBack { after } => return self.again(message, after),
        };
        ended.completed_at = Some(chrono::Utc::now());
        self.channel.results.send_modify(|all| drop(all.insert(sent.id.clone(), ended)));
    }
    fn again(&self, message: Message, after: Duration) {
        let sender = self.channel.sender.clone();
        tokio::spawn(async move { (tokio::time::sleep(after).await, sender.send(message)).1 });
    }
}

#[mageflow::task(retries = 1, backoff = constant("1ms"))]
#[with_ctx]
async fn double(n: i64, ctx: TaskContext) -> Result<i64, TaskError> {
    let is_first = ctx.execution_info().attempt_number == 1;
    if is_first { Err(TaskError::new("the second attempt works")) } else { Ok(n * 2) }
}

#[tokio::main]
async fn main() -> Result<()> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let channel = Channel { sender, receiver: Arc::new(Mutex::new(receiver)), results: watch::Sender::default() };
    let mage = Mageflow::with_adapter(channel).store(MemoryStore::new()).build().await?;
    let worker = mage.worker("examples").concurrency(4).spawn().await?;

    println!("a task: {}", mage.run(double, args![4]).await?);
    let id = mage.submit("double", args![5]).await?;
    let result = mage.wait(&id).await?;
    println!("submitted: {} at attempt {}", result.output::<i64>()?, result.attempt);
    println!("a chain: {}", mage.chain((double, double, double)).run(args![1]).await?);

    // What it does not claim is refused, not ignored.
    let later = SubmitOptions::new().run_after(Duration::from_secs(1));
    for refused in [mage.submit_opts("double", args![1], &later).await.err(), mage.cancel(&id).await.err()] {
        println!("refused: {}", refused.map(|error| error.to_string()).unwrap_or_default());
    }
    worker.shutdown().await
}
