//! L4. The one wrapper around every run, on every engine: gate, arguments, timeout, stop, panic, verdict, record.

use crate::{
    adapters::{Delivery, DeliveryHandler, Disposition, Stop, StopReason},
    context::{AppState, TaskContext},
    engine::{Engine, Entered, Finished, SignedRun},
    registry::{HandlerFuture, RegisteredTask, Registry},
    signature::{Status, Verdict},
    task::{Arguments, FailureKind, Json, TaskError, TaskExecutionInfo, TaskFailure, TaskOptions},
};
use async_trait::async_trait;
use std::{
    any::Any,
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

/// How long a delivery rests that could not be looked up or recorded because the store failed.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// How often the end of a run is tried to be recorded before it is left to the rescuer.
const RECORD_TRIES: u32 = 5;

/// Runs deliveries for a worker.
pub(crate) struct TaskRunner {
    engine: Engine,
    registry: Arc<Registry>,
    state: AppState,
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
        Self { engine, registry, state }
    }

    async fn attempt(
        &self,
        mut info: TaskExecutionInfo,
        arguments: Result<Arguments, TaskFailure>,
        options: Option<Arc<TaskOptions>>,
        stop: &Stop,
        signed: Option<&SignedRun>,
    ) -> Judged {
        if let Some(run) = signed {
            info.attempt_number = run.attempt;
        }
        let (name, attempt) = (info.task_name.clone(), info.attempt_number);
        let failed = |failure: TaskFailure| Judged::Failed(signed_failure(failure.of(&name, attempt), signed));
        let Some(task) = self.registry.get(name.as_str()) else {
            tracing::warn!(task = %name, id = %info.workflow_id, "no such task is registered");
            let known = format!("task `{name}` is not registered here; known: {}", self.registry.names());
            return failed(TaskFailure::new(FailureKind::UnknownTask, known));
        };
        let arguments = match arguments {
            Ok(arguments) => arguments,
            Err(failure) => return failed(failure),
        };
        let options = options.unwrap_or_else(|| task.definition.options.clone());
        if let Some(judged) = self.stagger(&options, &info, stop).await {
            return judged;
        }
        let context = TaskContext::new(
            info,
            signed.map(|run| run.key.clone()),
            self.engine.clone(),
            self.registry.clone(),
            stop.clone(),
            self.state.clone(),
            &options,
        );
        let ran = self.drive(task, context.clone(), arguments, options.timeout.is_some(), stop).await;
        self.judge(ran, &context, &options, stop, signed)
    }

    /// Waits a random time within the window, and gives the engine's own deadline that much more.
    async fn stagger(&self, options: &TaskOptions, info: &TaskExecutionInfo, stop: &Stop) -> Option<Judged> {
        let wait = options.stagger?.mul_f64(fastrand::f64());
        // An engine without a deadline of its own has nothing to move.
        let _ = info.raw_context.refresh_timeout(wait).await;
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
        context: TaskContext,
        arguments: Arguments,
        limited: bool,
        stop: &Stop,
    ) -> Ran {
        let handler = &task.handler;
        let started = catch_unwind(AssertUnwindSafe(|| handler(context.clone(), arguments)));
        let future = match started {
            Ok(future) => future,
            Err(panic) => return Ran::Ended(Err(panicked(&*panic))),
        };
        let mut future = pin!(Caught(future));
        tokio::select! {
            biased;
            ended = &mut future => return Ran::Ended(ended),
            () = context.deadline().passed(), if limited => return Ran::TimedOut,
            _ = stop.fired() => {}
        }
        Ran::Stopped(tokio::time::timeout(self.engine.config().cancel_grace, future).await.ok())
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
            && self.engine.adapter().should_retry(info, &failure);
        match again {
            true => {
                let after = delay.unwrap_or_else(|| options.backoff.delay(attempt, fastrand::f64()));
                Judged::Retry { after, failure }
            }
            false => Judged::Failed(failure),
        }
    }

    fn too_large(&self, json: &Json) -> Option<TaskFailure> {
        let (size, limit) = (json.as_str().len(), self.engine.max_payload());
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

#[async_trait]
impl DeliveryHandler for TaskRunner {
    async fn handle(&self, delivery: Delivery) -> Disposition {
        let Delivery { info, arguments, mark, options, stop } = delivery;
        let Some(mark) = mark else {
            return self.attempt(info, arguments, options, &stop, None).await.into();
        };
        let run = match self.engine.enter(&mark, info.attempt_number, &stop).await {
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
        let judged = self.attempt(info, arguments, options, &stop, Some(&run)).await;
        self.record(run, judged).await
    }
}

impl fmt::Debug for TaskRunner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskRunner").field("engine", &self.engine).finish_non_exhaustive()
    }
}

fn signed_failure(failure: TaskFailure, signed: Option<&SignedRun>) -> TaskFailure {
    match signed {
        Some(run) => run.signed(failure),
        None => failure,
    }
}

/// A future whose panics are its failures.
struct Caught(HandlerFuture);

impl Future for Caught {
    type Output = Result<Json, TaskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(cx)))
            .unwrap_or_else(|panic| Poll::Ready(Err(panicked(&*panic))))
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
