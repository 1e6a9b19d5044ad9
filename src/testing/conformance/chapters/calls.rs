//! What the chapters on signatures share: calls by name, and tasks that tests can hold, count and look into.

use super::super::{
    Environment, Probe,
    tasks::{message_task, probe, task, with},
};
use crate::{
    Arguments, Backoff, CallShape, Error, IntoSignature, Json, Mageflow, MageflowBuilder, RegisteredTask, Result,
    Signature, SignatureHandle, Status, Swarm, SwarmHandle, TakesAny, TaskContext, TaskError, TaskFailure, Untyped,
    WorkerHandle,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

/// A signature that says nothing of its types.
pub(super) type Call = Signature<Untyped, Json, TakesAny>;

/// A task by its name.
pub(super) fn call(task: &str) -> Call {
    Signature::by_name(task)
}

/// A task by its name, with named arguments of its own.
pub(super) fn call_with(task: &str, named_arguments: Value) -> Call {
    call(task).kwargs(named(named_arguments))
}

/// Named arguments.
pub(super) fn named(value: Value) -> Arguments {
    Arguments::from_parts(None, Some(value.into())).expect("an object")
}

/// A chain that says nothing of its types.
pub(super) fn chain_of(steps: impl IntoIterator<Item = Call>) -> Call {
    crate::chain(steps.into_iter().collect::<Vec<_>>())
}

/// A closed swarm.
pub(super) fn swarm_of(items: impl IntoIterator<Item = Call>) -> Swarm<Untyped, Json> {
    crate::swarm(items).closed()
}

/// A swarm as a step, item or callback.
pub(super) fn part(swarm: Swarm<Untyped, Json>) -> Call {
    swarm.into_signature().untyped()
}

/// A short time, for what has to be waited for.
pub(super) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The value of a result.
pub(super) fn value(json: Result<Json>) -> Value {
    json.expect("a result").to_value()
}

/// Why a signature failed.
pub(super) fn failure<T: std::fmt::Debug>(result: Result<T>) -> TaskFailure {
    match result {
        Err(Error::SignatureFailed { failure, .. }) => *failure,
        other => panic!("expected a failed signature, got {other:?}"),
    }
}

/// `gate(x)`: notes `at <x>`, goes on once `open <x>` is noted, notes `past <x>`, gives `x` back.
pub(super) fn gate() -> RegisteredTask {
    task("gate", &["x"], |context: TaskContext, (x,): (Value,)| async move {
        let probe = probe(&context)?;
        probe.note(format!("at {x}"));
        probe.until_noted(&format!("open {x}"), 1).await;
        probe.note(format!("past {x}"));
        Ok(x)
    })
}

/// `tick(x)`: notes `tick <x>`, gives `x` back.
pub(super) fn tick() -> RegisteredTask {
    task("tick", &["x"], |context: TaskContext, (x,): (Value,)| async move {
        probe(&context)?.note(format!("tick {x}"));
        Ok(x)
    })
}

/// `shaky(x)`: notes `attempt <n>`, fails twice, then gives the number of its attempt back. Has four attempts.
pub(super) fn shaky() -> RegisteredTask {
    let shaky = task("shaky", &["x"], |context: TaskContext, (_,): (Value,)| async move {
        let attempt = context.execution_info().attempt_number;
        probe(&context)?.note(format!("attempt {attempt}"));
        if attempt < 3 { Err(TaskError::new(format!("not yet at attempt {attempt}"))) } else { Ok(attempt) }
    });
    with(shaky, |options| {
        options.retries = 3;
        options.backoff = Backoff::constant(ms(1));
    })
}

/// `broken(x)`: notes `attempt <n>` and fails at each of its three attempts.
pub(super) fn broken() -> RegisteredTask {
    let broken = task("broken", &["x"], |context: TaskContext, (_,): (Value,)| async move {
        let attempt = context.execution_info().attempt_number;
        probe(&context)?.note(format!("attempt {attempt}"));
        Err::<(), _>(TaskError::new(format!("broken at attempt {attempt}")))
    });
    with(broken, |options| {
        options.retries = 2;
        options.backoff = Backoff::constant(ms(1));
    })
}

/// `show`: gives its whole message back.
pub(super) fn show() -> RegisteredTask {
    message_task("show", |_, message: Value| async move { Ok(message) })
}

/// `tell`: notes its whole message as `told <message>`. `tell2` and so on can be made of it.
pub(super) fn tell(name: &'static str) -> RegisteredTask {
    message_task(name, move |context: TaskContext, message: Value| async move {
        probe(&context)?.note(format!("{name} {message}"));
        Ok(message)
    })
}

/// `work(x)`: notes `at work <attempt>`, waits to be let through, gives `x` back. Notes `dropped` if it does not get
/// that far.
pub(super) fn work() -> RegisteredTask {
    task("work", &["x"], |context: TaskContext, (x,): (Value,)| async move {
        let mut guard = NoteDrop(Some(probe(&context)?));
        let probe = probe(&context)?;
        probe.note(format!("at work {}", context.execution_info().attempt_number));
        probe.pass().await;
        guard.0 = None;
        Ok(x)
    })
}

struct NoteDrop(Option<Arc<Probe>>);

impl Drop for NoteDrop {
    fn drop(&mut self) {
        if let Some(probe) = &self.0 {
            probe.note("dropped");
        }
    }
}

/// The same task that takes its arguments in another way.
pub(super) fn shaped(mut task: RegisteredTask, shape: CallShape) -> RegisteredTask {
    Arc::make_mut(&mut task.definition).shape = Arc::new(shape);
    task
}

/// The same task on a queue of its own.
pub(super) fn on_queue(task: RegisteredTask, queue: &str) -> RegisteredTask {
    with(task, |options| options.queue = Some(queue.to_owned()))
}

/// Runs a few signatures through all queues, so that whatever was sent before has had its turn. Needs `inc`.
pub(super) async fn quiet(mage: &Mageflow) {
    for _ in 0..3 {
        let sum = mage.chain(vec![call("inc"), call("inc")]).run(&0).await;
        assert_eq!(value(sum), 2);
    }
}

/// The lines that begin so, without that beginning.
pub(super) fn lines(probe: &Probe, beginning: &str) -> Vec<String> {
    let lines = probe.lines();
    lines.iter().filter_map(|line| line.strip_prefix(beginning)).map(str::to_owned).collect()
}

/// Where each item stands.
pub(super) async fn statuses(swarm: &SwarmHandle<Untyped, Json>) -> Vec<Status> {
    swarm.items(0, u32::MAX).await.expect("items").into_iter().map(|item| item.status).collect()
}

/// Cancels at once what does not end by itself.
pub(super) fn brisk(builder: MageflowBuilder) -> MageflowBuilder {
    builder.configure(|config| config.cancel_grace = ms(20))
}

/// An engine with these tasks, brisk settings and a worker.
pub(super) async fn started(
    env: &Environment,
    tasks: impl IntoIterator<Item = RegisteredTask>,
) -> (Mageflow, WorkerHandle) {
    env.start_with(tasks, brisk).await
}

/// A task, a chain and a swarm of `task`, and what comes out when it gives back 7.
pub(super) fn kinds(task: &str) -> [(Call, Value); 3] {
    [
        (call(task), json!(7)),
        (chain_of([call(task), call(task)]), json!(7)),
        (part(swarm_of([call(task), call(task)])), json!([7, 7])),
    ]
}

/// A handle that says nothing of its types.
pub(super) type Handle = SignatureHandle<Untyped, Json>;

/// Where it stands.
pub(super) async fn status(handle: &Handle) -> Status {
    handle.status().await.unwrap()
}

/// `polite(x)`: notes `at work`, and why it was asked to end.
pub(super) fn polite() -> RegisteredTask {
    task("polite", &["x"], |context: TaskContext, (_,): (Value,)| async move {
        let probe = probe(&context)?;
        probe.note("at work");
        let reason = context.cancelled().await;
        probe.note(format!("asked to end: {reason:?} {}", context.is_cancelled()));
        Err::<(), _>(TaskError::new("ended early"))
    })
}
