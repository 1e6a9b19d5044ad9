//! L4. The one wrapper around every run, on every engine: gate, arguments, timeout, stop, panic, verdict, record.

use crate::{
    adapters::{Delivery, DeliveryHandler, Disposition, SignatureMark, Stop, StopReason},
    context::{AppState, Surroundings, TaskContext},
    engine::{Engine, Entered, Finished, SignedRun},
    registry::{HandlerFuture, RegisteredTask, Registry},
    signature::{Status, Verdict},
    task::{Arguments, FailureKind, Json, TaskError, TaskExecutionInfo, TaskFailure, TaskOptions},
};
use std::{
    any::Any,
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

/// How long a delivery rests that could not be looked up or recorded because the store failed.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// How often the end of a run is tried to be recorded before it is left to the rescuer.
const RECORD_TRIES: u32 = 5;

/// Runs deliveries for a worker.
pub(crate) struct TaskRunner {
    around: Arc<Surroundings>,
    /// Deliveries of tasks that nobody registered.
    unknown: AtomicU64,
}

/// One attempt that can be made.
struct Prepared<'a> {
    task: &'a RegisteredTask,
    options: Arc<TaskOptions>,
    context: TaskContext,
    arguments: Arguments,
    stop: Stop,
}

/// How one attempt ended.
#[derive(Debug)]
enum Judged {
    Done(Json),
    Failed(TaskFailure),
    Retry { after: Duration, failure: TaskFailure },
    Cancelled,
    GivenBack,
}

/// What the task's future came to.
enum Ran {
    Ended(Result<Json, TaskError>),
    TimedOut,
    /// It was asked to end, and ended within the grace period or was dropped.
    Stopped(Option<Result<Json, TaskError>>),
}

impl TaskRunner {
    pub(crate) fn new(engine: Engine, registry: Arc<Registry>, state: AppState) -> Self {
        Self { around: Arc::new(Surroundings { engine, registry, state }), unknown: AtomicU64::new(0) }
    }

    fn engine(&self) -> &Engine {
        &self.around.engine
    }

    /// Everything that is known before the task's code runs. Not part of the future that runs it, which is smaller so.
    fn prepare(&self, delivery: Delivery, signed: Option<&SignedRun>) -> Result<Prepared<'_>, Box<Judged>> {
        let Delivery { mut info, arguments, options, overrides, stop, .. } = delivery;
        if let Some(run) = signed {
            info.attempt_number = run.attempt;
        }
        let failed = |failure: TaskFailure, info: &TaskExecutionInfo| {
            Box::new(Judged::Failed(signed_failure(failure.of(&info.task_name, info.attempt_number), signed)))
        };
        let Some(task) = self.around.registry.get(info.task_name.as_str()) else {
            let name = &info.task_name;
            let count = self.unknown.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::warn!(task = %name, id = %info.workflow_id, count, "no such task is registered");
            let known = format!("task `{name}` is not registered here; known: {}", self.around.registry.names());
            return Err(failed(TaskFailure::new(FailureKind::UnknownTask, known), &info));
        };
        let arguments = arguments.map_err(|failure| failed(failure, &info))?;
        let options = match (options, overrides) {
            (Some(options), _) => options,
            (None, Some(overrides)) => overrides.over(&task.definition.options),
            (None, None) => task.definition.options.clone(),
        };
        let signature = signed.map(|run| run.key.clone());
        let context = TaskContext::new(info, signature, self.around.clone(), stop.clone(), &options);
        Ok(Prepared { task, options, context, arguments, stop })
    }

    async fn attempt(&self, prepared: Prepared<'_>, signed: Option<&SignedRun>) -> Judged {
        let Prepared { task, options, context, arguments, stop } = prepared;
        if let Some(window) = options.stagger
            && let Some(judged) = self.stagger(window, &context, &stop).await
        {
            return judged;
        }
        let ran = self.drive(task, &context, arguments, options.timeout.is_some(), &stop).await;
        self.judge(ran, &context, &options, &stop, signed)
    }

    /// Waits a random time within the window, and moves the deadline, here and at the engine, away by that much.
    async fn stagger(&self, window: Duration, context: &TaskContext, stop: &Stop) -> Option<Judged> {
        let wait = window.mul_f64(fastrand::f64());
        // An engine without a deadline of its own has nothing to move.
        let _ = context.refresh_timeout(wait).await;
        tokio::select! {
            () = tokio::time::sleep(wait) => None,
            reason = stop.fired() => Some(match reason {
                StopReason::Cancel => Judged::Cancelled,
                _ => Judged::GivenBack,
            }),
        }
    }

    async fn drive(
        &self,
        task: &RegisteredTask,
        context: &TaskContext,
        arguments: Arguments,
        limited: bool,
        stop: &Stop,
    ) -> Ran {
        let handler = &task.handler;
        let started = catch_unwind(AssertUnwindSafe(|| handler(context.clone(), arguments)));
        let mut future = match started {
            Ok(future) => Caught(Some(future)),
            Err(panic) => return Ran::Ended(Err(panicked(&*panic))),
        };
        tokio::select! {
            biased;
            ended = &mut future => return Ran::Ended(ended),
            () = context.deadline().passed(), if limited => return Ran::TimedOut,
            _ = stop.fired() => {}
        }
        Ran::Stopped(tokio::time::timeout(self.engine().config().cancel_grace, future).await.ok())
    }

    fn judge(
        &self,
        ran: Ran,
        context: &TaskContext,
        options: &TaskOptions,
        stop: &Stop,
        signed: Option<&SignedRun>,
    ) -> Judged {
        let error = match ran {
            _ if stop.reason() == Some(StopReason::Cancel) => return Judged::Cancelled,
            Ran::Ended(Ok(json)) | Ran::Stopped(Some(Ok(json))) => match self.too_large(&json) {
                None => return Judged::Done(json),
                Some(failure) => failure.into(),
            },
            // One that watches the signal itself may have ended before anybody looked: what it says is no failure.
            Ran::Stopped(_) => return Judged::GivenBack,
            Ran::Ended(Err(_)) if stop.reason().is_some() => return Judged::GivenBack,
            Ran::Ended(Err(error)) => error,
            Ran::TimedOut => {
                let limit = options.timeout.unwrap_or_default();
                TaskFailure::new(FailureKind::Timeout, format!("took longer than its timeout of {limit:?}")).into()
            }
        };
        let info = context.execution_info();
        let (attempt, delay) = (info.attempt_number, error.delay());
        let failure = signed_failure(error.into_failure().of(&info.task_name, attempt), signed);
        let again = failure.kind.is_retryable()
            && attempt < options.max_attempts()
            && self.engine().adapter().should_retry(info, &failure);
        match again {
            true => {
                let after = delay.unwrap_or_else(|| options.backoff.delay(attempt, fastrand::f64()));
                Judged::Retry { after, failure }
            }
            false => Judged::Failed(failure),
        }
    }

    fn too_large(&self, json: &Json) -> Option<TaskFailure> {
        let (size, limit) = (json.as_str().len(), self.engine().max_payload());
        (size > limit).then(|| {
            let message = format!("the result has {size} bytes, the limit is {limit}");
            TaskFailure::new(FailureKind::PayloadTooLarge, message)
        })
    }

    /// Records the end of a signed run, and says what the engine is to do with the delivery.
    async fn record(&self, mut run: SignedRun, judged: Judged) -> Disposition {
        let (verdict, after) = match &judged {
            Judged::Done(json) => (Verdict::Done(json.clone()), Duration::ZERO),
            Judged::Failed(failure) => (Verdict::Failed(failure.clone()), Duration::ZERO),
            Judged::Retry { after, .. } => (Verdict::Retry, *after),
            Judged::Cancelled => (Verdict::Cancelled, Duration::ZERO),
            Judged::GivenBack => (Verdict::GivenBack, Duration::ZERO),
        };
        for attempt in 1..=RECORD_TRIES {
            match run.finish(&verdict, after).await {
                Ok(Finished::Lost) => return Disposition::Skipped,
                Ok(Finished::Ended(Status::Cancelled)) => return Disposition::Cancelled,
                Ok(Finished::Parked) => return Disposition::Skipped,
                Ok(Finished::Ended(_) | Finished::Waiting) => return judged.into(),
                Err(error) => {
                    tracing::warn!(%error, key = %run.key, attempt, "the end of a run could not be recorded");
                    tokio::time::sleep(STORE_PAUSE * attempt).await;
                }
            }
        }
        // Nothing is final before it is recorded: the task runs again rather than getting lost.
        Disposition::GiveBack { after: STORE_PAUSE }
    }
}

impl From<Judged> for Disposition {
    fn from(judged: Judged) -> Self {
        match judged {
            Judged::Done(json) => Self::Done(json),
            Judged::Failed(failure) => Self::Failed(failure),
            Judged::Retry { after, failure } => Self::Retry { after, failure },
            Judged::Cancelled => Self::Cancelled,
            Judged::GivenBack => Self::GiveBack { after: Duration::ZERO },
        }
    }
}

impl TaskRunner {
    async fn handle_signed(&self, mark: SignatureMark, delivery: Delivery) -> Disposition {
        let run = match self.engine().enter(&mark, delivery.info.attempt_number, &delivery.stop).await {
            Ok(Entered::Run(run)) => run,
            Ok(Entered::Cancelled) => return Disposition::Cancelled,
            Ok(Entered::Done(json)) => return Disposition::Done(json),
            Ok(Entered::Failed(failure)) => return Disposition::Failed(failure),
            Ok(Entered::Skipped) => return Disposition::Skipped,
            Ok(Entered::Busy(left)) => return Disposition::GiveBack { after: left },
            Err(error) => {
                tracing::warn!(%error, key = %mark.key, "cannot look up a delivered signature");
                return Disposition::GiveBack { after: STORE_PAUSE };
            }
        };
        let judged = match self.prepare(delivery, Some(&run)) {
            Ok(prepared) => self.attempt(prepared, Some(&run)).await,
            Err(judged) => *judged,
        };
        self.record(run, judged).await
    }
}

impl DeliveryHandler for TaskRunner {
    // Written out: a run without a signature gets a future of its own, which is a quarter of the size.
    fn handle<'a, 'b>(&'a self, mut delivery: Delivery) -> Pin<Box<dyn Future<Output = Disposition> + Send + 'b>>
    where
        'a: 'b,
    {
        if let Some(mark) = delivery.mark.take() {
            return Box::pin(self.handle_signed(mark, delivery));
        }
        match self.prepare(delivery, None) {
            Ok(prepared) => Box::pin(async { self.attempt(prepared, None).await.into() }),
            Err(judged) => Box::pin(std::future::ready((*judged).into())),
        }
    }
}

impl fmt::Debug for TaskRunner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskRunner").field("engine", self.engine()).finish_non_exhaustive()
    }
}

fn signed_failure(failure: TaskFailure, signed: Option<&SignedRun>) -> TaskFailure {
    match signed {
        Some(run) => run.signed(failure),
        None => failure,
    }
}

/// A future whose panics are its failures, also when it is dropped before its end.
struct Caught(Option<HandlerFuture>);

impl Future for Caught {
    type Output = Result<Json, TaskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // It is there until it is dropped.
        let Some(future) = &mut self.0 else { return Poll::Pending };
        catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)))
            .unwrap_or_else(|panic| Poll::Ready(Err(panicked(&*panic))))
    }
}

impl Drop for Caught {
    fn drop(&mut self) {
        let future = self.0.take();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(future))) {
            tracing::warn!(error = %panicked(&*panic), "a task panicked while it was dropped");
        }
    }
}

fn panicked(panic: &(dyn Any + Send)) -> TaskError {
    let message = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (None, Some(text)) => text.clone(),
        (None, None) => "a panic without a text".to_owned(),
    };
    TaskFailure::new(FailureKind::Panic, message).into()
}
