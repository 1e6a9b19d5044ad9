//! L2, Hatchet engine. Tasks as the engine's workflows with one task each, and their names. Pure.

use super::{
    ENGINE, HatchetClient, HatchetTaskOptions,
    client::{action, duration},
    invalid,
    wire::workflows::{PutWorkflow, Task},
};
use crate::{
    adapters::FRAMEWORK_TASKS,
    error::{Error, Result},
    task::{DEFAULT_QUEUE, Priority, TaskDefinition, TaskName, TaskOptions},
};
use serde_json::Value;
use std::{collections::HashMap, time::Duration};

/// The slots of the user's tasks.
pub(super) const USER_SLOTS: &str = "default";
/// The slots of durable ones: the engine gives them no others.
pub(super) const DURABLE_SLOTS: &str = "durable";
/// The slots of the library's own tasks.
pub(super) const FRAMEWORK_SLOTS: &str = "mageflow";
/// How long an attempt is the worker's unless it asks for more time, which it does while it runs.
pub(super) const LEASE: Duration = Duration::from_secs(300);
/// How far the engine's timeout lies behind the task's own, which the worker enforces.
const BEHIND: Duration = Duration::from_secs(60);
/// Failed attempts that the engine lets pass beyond those that the task asks for: what a worker gives back at its end
/// counts as one, and a call may ask for more than its task.
const HEADROOM: u32 = 20;
/// For what may wait for ever: the engine has no word for that.
const ALWAYS: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// Between the name of a task and a queue that is not its own.
const TO_QUEUE: &str = "--";

/// The name of the workflow that a task is in, without the namespace.
///
/// The engine has no queues. Workers register for what they serve, so each queue that a task is sent to besides its own has
/// a workflow.
pub(super) fn workflow_name(task: &str, own: Option<&str>, queue: Option<&str>) -> String {
    let own = own.unwrap_or(DEFAULT_QUEUE);
    match queue.unwrap_or(own) {
        queue if queue == own => task.to_owned(),
        queue => format!("{task}{TO_QUEUE}{queue}"),
    }
}

/// What a worker of these queues registers for a task: actions, which are the engine's queues, each behind the name of its
/// workflow.
pub(super) fn actions(client: &HatchetClient, task: &TaskDefinition, queues: &[String]) -> Vec<(String, String)> {
    let (name, own) = (task.name.as_str(), task.options.queue.as_deref());
    let action_of = |workflow: &str| {
        let workflow = client.namespaced(workflow);
        let action = action(&workflow, name);
        (workflow, action)
    };
    let mut actions = Vec::new();
    for queue in queues {
        if *queue == own.unwrap_or(DEFAULT_QUEUE) {
            actions.push(action_of(name));
        }
        // Also its own: a sender that does not know the task does not know that it is.
        if *queue != DEFAULT_QUEUE || own.is_some_and(|own| own != DEFAULT_QUEUE) {
            actions.push(action_of(&format!("{name}{TO_QUEUE}{queue}")));
        }
    }
    actions
}

/// The slots that a worker has of its own for a task whose runs are limited.
pub(super) fn slots_of(task: &TaskName) -> String {
    format!("mageflow.{task}")
}

/// How often the engine lets a task fail.
pub(super) fn retries(options: &TaskOptions) -> u32 {
    options.retries.max(HEADROOM).saturating_add(HEADROOM).min(i32::MAX.unsigned_abs())
}

/// How long the engine lets an attempt run before it looks after it.
pub(super) fn native_timeout(options: &TaskOptions) -> Duration {
    options.timeout.map_or(LEASE, |timeout| timeout + options.stagger.unwrap_or_default() + BEHIND)
}

/// The number of a priority: 3 comes first.
pub(super) fn priority(priority: Priority) -> i32 {
    match priority {
        Priority::Low => 1,
        Priority::Normal => 2,
        Priority::High => 3,
    }
}

/// A task as a workflow, for a queue.
///
/// # Errors
/// [`Error::InvalidConfig`] for a name that the engine does not take, [`Error::Unsupported`] for an option it lacks.
pub(super) fn workflow(client: &HatchetClient, task: &TaskDefinition, queue: Option<&str>) -> Result<PutWorkflow> {
    let options = &task.options;
    if options.result_ttl.is_some() {
        let what = format!("a time for which the result of `{}` is kept; the tenant has one", task.name);
        return Err(Error::unsupported(ENGINE, what));
    }
    if options.durable && options.concurrency.is_some() {
        return Err(Error::unsupported(ENGINE, format!("a limit of the runs of a durable task (`{}`)", task.name)));
    }
    let nothing = HatchetTaskOptions::default();
    let native = client.task_options.get(task.name.as_str()).unwrap_or(&nothing);
    let name = workflow_name(task.name.as_str(), options.queue.as_deref(), queue);
    for name in [&name, native.on_failure.as_ref().unwrap_or(&name)] {
        check(name)?;
    }
    let full = client.namespaced(&name);
    let task_of = |workflow: &str, name: &str, native: &HatchetTaskOptions| Task {
        name: name.to_lowercase(),
        action: action(workflow, name),
        timeout: duration(native_timeout(options)),
        inputs: "{}".into(),
        retries: i32::try_from(retries(options)).unwrap_or(i32::MAX),
        rate_limits: native.rate_limits.iter().map(|limit| limit.0.clone()).collect(),
        labels: native.labels.iter().map(|(key, label)| (key.clone(), label.0.clone())).collect(),
        concurrency: native.concurrency.iter().map(|limit| limit.0.clone()).collect(),
        schedule_timeout: Some(duration(options.schedule_timeout.unwrap_or(ALWAYS))),
        durable: options.durable,
        slots: slots(task),
        ..Task::default()
    };
    // Events and times start a run once, so only in the task's own queue.
    let is_own = name == task.name.as_str();
    let on_failure = native.on_failure.as_ref().map(|other| {
        let mut failed = task_of(&client.namespaced(other), other, &nothing);
        (failed.slots, failed.durable) = (HashMap::from([(USER_SLOTS.to_owned(), 1)]), false);
        failed
    });
    Ok(PutWorkflow {
        tasks: vec![task_of(&full, task.name.as_str(), native)],
        name: full,
        description: native.description.clone(),
        event_triggers: native.events.iter().filter(|_| is_own).map(|key| client.namespaced(key)).collect(),
        cron_triggers: native.crons.iter().filter(|_| is_own).cloned().collect(),
        cron_input: native.cron_input.as_ref().map(|input| input.as_str().to_owned()),
        on_failure,
        sticky: native.sticky.map(|sticky| sticky.number()),
        default_priority: Some(priority(options.priority)),
        input_schema: schema(task),
        ..PutWorkflow::default()
    })
}

/// Whose slots a task takes.
pub(super) fn pool(task: &TaskDefinition) -> &'static str {
    match task.options.durable {
        _ if FRAMEWORK_TASKS.contains(&task.name.as_str()) => FRAMEWORK_SLOTS,
        true => DURABLE_SLOTS,
        false => USER_SLOTS,
    }
}

fn slots(task: &TaskDefinition) -> HashMap<String, i32> {
    let mut slots = HashMap::from([(pool(task).to_owned(), 1)]);
    if task.options.concurrency.is_some() {
        slots.insert(slots_of(&task.name), 1);
    }
    slots
}

/// The schema of the input, unless anything is allowed.
fn schema(task: &TaskDefinition) -> Option<Vec<u8>> {
    let schema = (task.input_schema)();
    (schema != Value::Bool(true)).then(|| schema.to_string().into_bytes())
}

fn check(name: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if !name.is_empty() && name.chars().all(fits) {
        return Ok(());
    }
    Err(invalid(format!("a task or queue cannot be named `{name}` there: only letters, digits, `.`, `-` and `_`")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        adapters::FrameworkTask,
        adapters::hatchet::client::tests::client,
        adapters::hatchet::{HatchetConcurrency, HatchetDesiredLabel, HatchetRateLimit, HatchetSticky, HatchetWindow},
        task::CallShape,
    };
    use std::sync::Arc;

    fn task(name: &str, change: impl FnOnce(&mut TaskOptions)) -> TaskDefinition {
        let mut task = TaskDefinition::new(name, CallShape::default());
        change(Arc::make_mut(&mut task.options));
        task
    }

    #[test]
    fn a_task_is_a_workflow_of_its_name() {
        let put = workflow(&client(), &task("Resize", |_| {}), None).unwrap();
        assert_eq!((put.name.as_str(), put.default_priority, put.input_schema), ("dev_Resize", Some(2), None));
        let task = &put.tasks[0];
        assert_eq!((task.name.as_str(), task.action.as_str()), ("resize", "dev_resize:resize"));
        assert_eq!((task.timeout.as_str(), task.retries, task.durable), ("300000ms", 40, false));
        assert_eq!((task.backoff_factor, task.slots.clone()), (None, HashMap::from([("default".into(), 1)])));
        assert_eq!(task.schedule_timeout.as_deref(), Some("3153600000000ms"));
    }

    #[test]
    fn options_are_translated() {
        let put = workflow(
            &client(),
            &task("t", |options| {
                (options.retries, options.timeout) = (100, Some(Duration::from_secs(30)));
                (options.schedule_timeout, options.priority) = (Some(Duration::from_millis(1500)), Priority::High);
                options.concurrency = Some(2);
            }),
            None,
        )
        .unwrap();
        let task = &put.tasks[0];
        assert_eq!((task.timeout.as_str(), task.retries, task.durable), ("90000ms", 120, false));
        assert_eq!((task.schedule_timeout.as_deref(), put.default_priority), (Some("1500ms"), Some(3)));
        assert_eq!(task.slots, HashMap::from([("default".into(), 1), ("mageflow.t".into(), 1)]));
    }

    #[test]
    fn the_librarys_own_tasks_have_slots_and_times_of_their_own() {
        for own in FrameworkTask::usual() {
            let put = workflow(&client(), &task(own.name, |options| *options = own.options.clone()), None).unwrap();
            let task = &put.tasks[0];
            assert_eq!(task.slots, HashMap::from([("mageflow".into(), 1)]));
            let minutes = if own.name == "mageflow_on_swarm_item_done" { 2 } else { 6 };
            assert_eq!(task.timeout, format!("{}ms", minutes * 60_000), "{}", own.name);
            let retries = match own.name {
                "mageflow_on_swarm_item_done" | "mageflow_on_swarm_item_error" => 5,
                "mageflow_swarm_fill_tasks" => 4,
                _ => 3,
            };
            assert_eq!((own.options.retries, task.concurrency.len()), (retries, 0), "{}", own.name);
        }
    }

    #[test]
    fn durable_tasks_have_slots_of_their_own() {
        let put = workflow(&client(), &task("t", |options| options.durable = true), None).unwrap();
        assert!(put.tasks[0].durable);
        assert_eq!(put.tasks[0].slots, HashMap::from([("durable".into(), 1)]));
        let limited = task("t", |options| (options.durable, options.concurrency) = (true, Some(1)));
        assert!(matches!(workflow(&client(), &limited, None), Err(Error::Unsupported { .. })));
    }

    #[test]
    fn native_options_are_translated_for_the_tasks_own_queue() {
        let native = HatchetTaskOptions::new()
            .description("d")
            .event("photo:uploaded")
            .cron("0 6 * * *")
            .concurrency(HatchetConcurrency::queue("input.owner", 2))
            .rate_limit(HatchetRateLimit::by_key("owners", "input.owner", 5, HatchetWindow::Minute))
            .sticky(HatchetSticky::Hard)
            .desired_label("gpu", HatchetDesiredLabel::at_least(2))
            .on_failure("Alert");
        let client = client().task_options("t", native);
        let put = workflow(&client, &task("t", |_| {}), None).unwrap();
        assert_eq!(
            (put.event_triggers, put.cron_triggers),
            (vec!["dev_photo:uploaded".to_owned()], vec!["0 6 * * *".to_owned()])
        );
        let own = &put.tasks[0];
        assert_eq!((own.concurrency[0].max_runs, own.concurrency[0].strategy), (Some(2), Some(3)));
        assert_eq!((own.rate_limits[0].window, own.labels["gpu"].comparator), (Some(1), Some(3)));
        let failed = put.on_failure.unwrap();
        assert_eq!((failed.name.as_str(), failed.action.as_str()), ("alert", "dev_alert:alert"));
        let elsewhere = workflow(&client, &task("t", |_| {}), Some("b")).unwrap();
        assert_eq!(
            (elsewhere.name.as_str(), elsewhere.event_triggers.len(), elsewhere.cron_triggers.len()),
            ("dev_t--b", 0, 0)
        );
    }

    #[test]
    fn what_the_engine_lacks_is_refused_by_name() {
        let refused =
            |name: &str, change: fn(&mut TaskOptions)| workflow(&client(), &task(name, change), None).unwrap_err();
        let error = refused("t", |options| options.result_ttl = Some(Duration::ZERO));
        assert!(matches!(&error, Error::Unsupported { operation, .. } if operation.contains("`t`")), "{error}");
        assert!(refused("pkg.jobs:add", |_| {}).to_string().contains("`pkg.jobs:add`"));
        assert!(matches!(workflow(&client(), &task("t", |_| {}), Some("a b")), Err(Error::InvalidConfig { .. })));
    }

    #[test]
    fn workers_register_for_what_they_serve() {
        let of = |task: &TaskDefinition, queues: &[&str]| {
            let queues: Vec<_> = queues.iter().map(|queue| (*queue).to_owned()).collect();
            actions(&client(), task, &queues).into_iter().map(|(_, action)| action).collect::<Vec<_>>()
        };
        let (plain, photos) = (task("t", |_| {}), task("p", |options| options.queue = Some("photos".into())));
        assert_eq!(of(&plain, &["default"]), ["dev_t:t"]);
        assert_eq!(of(&plain, &["a", "b"]), ["dev_t--a:t", "dev_t--b:t"]);
        assert_eq!(of(&photos, &["default", "photos"]), ["dev_p--default:p", "dev_p:p", "dev_p--photos:p"]);
        assert_eq!(workflow_name("t", None, Some("default")), "t");
        assert_eq!(workflow_name("p", Some("photos"), Some("photos")), "p");
        assert_eq!(workflow_name("p", Some("photos"), Some("default")), "p--default");
    }
}
