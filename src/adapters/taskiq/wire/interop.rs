//! What is written here, given to Python's own classes, and the other way around.

use super::{
    error::Limits,
    labels::{LabelValue, Labels},
    message::Message,
    pipeline::{Next, Pipeline},
    python::Python,
    result::{NewResult, Outcome, Progress, RunFacts, StoredResult},
    schedule::{Schedule, When},
    value::Serializer,
};
use crate::{
    args,
    task::{FailureKind, Json, TaskFailure, TaskStatus},
};
use serde_json::{Value, json};
use std::time::Duration;

const BOTH: [Serializer; 2] = [Serializer::Pickle, Serializer::Json];

/// Helpers of all scripts: lines of hexadecimal in, lines of JSON or hexadecimal out.
const PRELUDE: &str = r#"
import sys, json, asyncio
from taskiq import InMemoryBroker, TaskiqResult, TaskiqMessage
from taskiq.formatters.proxy_formatter import ProxyFormatter
from taskiq.formatters.json_formatter import JSONFormatter
from taskiq.serializers import PickleSerializer, JSONSerializer
from taskiq.kicker import AsyncKicker
from taskiq.scheduler.scheduled_task import ScheduledTask
from taskiq.depends.progress_tracker import TaskProgress
broker = InMemoryBroker()
both = [PickleSerializer(), JSONSerializer()]
lines = [bytes.fromhex(line) for line in sys.stdin.read().split()]
def show(value): print(json.dumps(value))
"#;

fn run(script: &str, input: &[Vec<u8>]) -> Option<Vec<String>> {
    let python = Python::with("taskiq, taskiq_redis, taskiq_pipelines")?;
    let input: Vec<String> = input.iter().map(|bytes| hex(bytes)).collect();
    let out = python.run(&format!("{PRELUDE}{script}"), &input.join("\n"));
    Some(out.lines().map(str::to_owned).collect())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn value(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

#[test]
fn python_reads_our_messages() {
    let arguments = args!["ü\n\u{1}\"", u64::MAX, 0.1, b = [1.5], c = None::<u8>];
    let mut message = Message::new("my id", "rust:do_it", &arguments);
    message.labels.set_int("i", -5);
    message.labels.set_text("s", "a\"é");
    message.labels.set_float("f", 30.0);
    message.labels.set_bool("b", true);
    message.labels.set_bytes("y", b"\xff\x00");
    message.labels.set_task_data(json!({"k": null}).as_object().unwrap());
    message.labels.set_attempt(3);
    let script = r#"
for formatter in (ProxyFormatter(broker), JSONFormatter()):
    m = formatter.loads(lines[0])
    m.parse_labels()
    m.labels["y"] = list(m.labels["y"])
    show([m.task_id, m.task_name, m.labels, m.args, m.kwargs])
"#;
    let Some(out) = run(script, &[message.encode()]) else { return };
    assert_eq!(out.len(), 2);
    let labels = json!({
        "i": -5, "s": "a\"é", "f": 30.0, "b": true, "y": [255, 0], "_mageflow_task_data": "{\"k\":null}", "_retries": 2
    });
    let (args, kwargs) = (json!(["ü\n\u{1}\"", u64::MAX, 0.1]), json!({"b": [1.5], "c": null}));
    for line in out {
        assert_eq!(value(&line), json!(["my id", "rust:do_it", labels, args, kwargs]));
    }
}

#[test]
fn we_read_pythons_messages_and_python_reads_them_again() {
    let script = r#"
k = AsyncKicker(task_name="pkg.jobs:add", broker=broker, labels=dict(i=5, s="é", f=1.5, b=True, y=b"\xff", n=None, d={"k": 1}, retry_on_error=True, timeout=0.5, max_retries=4))
m = k._prepare_message(1, "é\U0001f600", [2**70, None], b={"x": 0.1})
for formatter in (ProxyFormatter(broker), JSONFormatter()):
    print(formatter.dumps(m).message.hex())
"#;
    let Some(out) = run(script, &[]) else { return };
    let again: Vec<_> = out
        .iter()
        .map(|line| {
            let bytes = unhex(line);
            let mut message = Message::decode(&bytes, &Limits::default()).unwrap();
            assert_eq!(message.labels.get("y"), Some(LabelValue::Bytes(vec![0xff])));
            assert_eq!(message.labels.get("i"), Some(LabelValue::Int(5)));
            assert_eq!(message.labels.timeout().unwrap(), Some(Duration::from_millis(500)));
            assert_eq!((message.labels.max_retries().unwrap(), message.labels.attempt().unwrap()), (Some(4), 1));
            assert_eq!(message.labels.retry_on_error().unwrap(), Some(true));
            let args: Vec<Json> = message.arguments().unwrap().args().unwrap().decode().unwrap();
            assert_eq!(args[1].decode::<String>().unwrap(), "é😀");
            message.labels.set_attempt(2);
            message.encode()
        })
        .collect();
    let script = r#"
for line in lines:
    m = ProxyFormatter(broker).loads(line)
    m.parse_labels()
    assert m.labels.pop("y") == b"\xff"
    assert m.args == [1, "é\U0001f600", [2**70, None]] and m.kwargs == {"b": {"x": 0.1}}, m
    assert m.labels == dict(i=5, s="é", f=1.5, b=True, n="None", d="{'k': 1}", retry_on_error=True, timeout=0.5, max_retries=4, _retries=1), m
    print("ok")
"#;
    assert_eq!(run(script, &again).unwrap(), ["ok", "ok"]);
}

#[test]
fn python_reads_our_results() {
    let returned = Json::parse(r#"{"é":[1,18446744073709551616,0.5,null,true,"\u0000"]}"#).unwrap();
    let mut failure = TaskFailure::new(FailureKind::Panic, "it broke").with_error_type("app::Broken");
    failure.causes = vec!["first".into(), "second".into()];
    let outcomes = [
        Outcome::Returned(returned),
        Outcome::Failed(failure),
        Outcome::Failed(TaskFailure::new(FailureKind::Timeout, "too slow")),
        Outcome::Failed(TaskFailure::new(FailureKind::InvalidInput, "no")),
        Outcome::Failed(TaskFailure::new(FailureKind::Error, "k").with_error_type("KeyError")),
        Outcome::Cancelled,
        Outcome::Skipped,
    ];
    let mut labels = Labels::default();
    labels.set_int("n", 5);
    let facts = RunFacts { attempt: 2, ..RunFacts::default() };
    let mut input = Vec::new();
    for serializer in BOTH {
        for outcome in &outcomes {
            let new = NewResult {
                labels: Some(&labels),
                facts: Some(&facts),
                ..NewResult::new(outcome, Duration::from_millis(1250))
            };
            input.push(new.encode(serializer).unwrap());
        }
    }
    let script = r#"
for n, line in enumerate(lines):
    r = TaskiqResult.model_validate(both[n // 7].loadb(line))
    try:
        r.raise_for_error()
        raised = None
    except Exception as e:
        raised = [type(e).__name__, str(e), str(e.__cause__)]
    show([r.is_err, r.return_value, r.execution_time, r.labels["n"], raised])
"#;
    let Some(out) = run(script, &input) else { return };
    assert_eq!(out.len(), 14);
    let failed = |name: &str, text: &str, cause: &str| json!([true, null, 1.25, 5, [name, text, cause]]);
    for half in out.chunks(7) {
        // As text: the number is too large for a value of serde_json.
        let first = r#"[false, {"\u00e9": [1, 18446744073709551616, 0.5, null, true, "\u0000"]}, 1.25, 5, null]"#;
        assert_eq!(half[0], first);
        assert_eq!(value(&half[1]), failed("RuntimeError", "it broke", "first"));
        assert_eq!(value(&half[2]), failed("TimeoutError", "too slow", "None"));
        assert_eq!(value(&half[3]), failed("ValueError", "no", "None"));
        assert_eq!(value(&half[4]), failed("KeyError", "'k'", "None"));
        assert_eq!(value(&half[5]), failed("TaskCancelledError", "the task was cancelled", "None"));
        assert_eq!(value(&half[6]), failed("TaskSkippedError", "the task was skipped", "None"));
    }
}

#[test]
fn we_read_pythons_results() {
    let script = r#"
import taskiq.exceptions
class Odd(Exception):
    def __init__(self, *, code): super().__init__(code)
def caught(f):
    try: f()
    except BaseException as e: return e
def chained():
    try: {}["missing"]
    except KeyError as e: raise ValueError("outer", 2) from e
def in_context():
    try: 1 / 0
    except ZeroDivisionError: raise RuntimeError("inner failed")
async def limit():
    import anyio
    with anyio.fail_after(0.01): await asyncio.sleep(1)
errors = [None, caught(chained), caught(in_context), Odd(code=7), taskiq.exceptions.TaskRejectedError(), caught(lambda: asyncio.run(limit()))]
deep = ValueError("leaf")
# Python's own time for this doubles with each level.
for n in range(5):
    outer = ValueError("level %d" % n)
    outer.__cause__ = deep
    deep = outer
errors.append(deep)
for s in both:
    for e in errors:
        r = TaskiqResult(is_err=e is not None, return_value=None if e else {"é": [2**64, 0.1, None]}, execution_time=0.25, labels={"n": 3, "_retries": 1}, error=e)
        print(s.dumpb(r.model_dump(mode="json")).hex())
"#;
    let Some(out) = run(script, &[]) else { return };
    assert_eq!(out.len(), 14);
    for half in out.chunks(7) {
        let results: Vec<_> =
            half.iter().map(|line| StoredResult::decode(&unhex(line), &Limits::default()).unwrap()).collect();
        let Outcome::Returned(json) = &results[0].outcome else { panic!("{:?}", results[0]) };
        let text = json.as_str().replace(' ', "").replace("\\u00e9", "é");
        assert_eq!(text, r#"{"é":[18446744073709551616,0.1,null]}"#);
        assert_eq!((results[0].execution_time, results[0].facts.attempt), (Duration::from_millis(250), 2));
        let failures: Vec<_> = results[1..]
            .iter()
            .map(|result| match &result.outcome {
                Outcome::Failed(failure) => failure,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!((&*failures[0].error_type, &*failures[0].message), ("ValueError", "('outer', 2)"));
        assert_eq!(failures[0].causes, ["KeyError: missing"]);
        assert_eq!(failures[1].causes, ["ZeroDivisionError: division by zero"]);
        assert_eq!((&*failures[2].error_type, &*failures[2].message), ("__main__.Odd", "7"));
        assert_eq!(failures[3].error_type, "taskiq.exceptions.TaskRejectedError");
        assert_eq!((failures[4].kind, &*failures[4].error_type), (FailureKind::Timeout, "TimeoutError"));
        assert_eq!((&*failures[5].message, failures[5].causes.len()), ("level 4", 5));
        let task = results[1].clone().into_task_result("i".into());
        assert_eq!((task.status, task.attempt), (TaskStatus::Failed, 2));
    }
}

#[test]
fn progress_goes_both_ways() {
    let input = BOTH.map(|serializer| Progress::running(0.5, "half").encode(serializer).unwrap());
    let script = r#"
for s, line in zip(both, lines):
    p = TaskProgress.model_validate(s.loadb(line))
    print(s.dumpb(p.model_dump(mode="json")).hex())
"#;
    let Some(out) = run(script, &input) else { return };
    assert_eq!(out.len(), 2);
    for line in out {
        let got = Progress::decode(&unhex(&line), &Limits::default()).unwrap();
        assert_eq!(got.state, "STARTED");
        assert_eq!(got.meta.to_value(), json!({"fraction": 0.5, "message": "half"}));
    }
}

/// Lets Python's middleware and ours take the same step, and compares what is sent.
#[test]
fn pipelines_go_on_as_python_would() {
    let script = r#"
from taskiq_pipelines import Pipeline, PipelineMiddleware
async def f(*args, **kwargs): ...
task = broker.register_task(f, task_name="m:f", queue="q", n=3)
p = Pipeline(broker, task)
p.call_next(task, k=[1]).call_next(task, param_name="p", k={"é": None}).call_after(task, k=2)
p.map(task, param_name="p", k=1).filter(task, skip_errors=True, check_interval=0.25)
sent = []
async def kick(message): sent.append(message.message)
broker.kick = kick
async def all():
    middleware = PipelineMiddleware()
    middleware.set_broker(broker)
    await p.kiq(7)
    for step in range(len(p.steps)):
        print(sent[-1].hex())
        message = ProxyFormatter(broker).loads(sent[-1])
        message.parse_labels()
        sent.clear()
        value = [[1], {"a": "é"}, 0.5] if step > 1 else {"x": [1, None]}
        await middleware.post_save(message, TaskiqResult(is_err=False, return_value=value, execution_time=0))
        show([value, [json.loads(m) for m in sent]])
asyncio.run(all())
"#;
    let Some(out) = run(script, &[]) else { return };
    let mut kinds = Vec::new();
    for pair in out.chunks(2) {
        let (bytes, told) = (unhex(&pair[0]), value(&pair[1]));
        let message = Message::decode(&bytes, &Limits::default()).unwrap();
        let pipeline = Pipeline::of(&message.labels, &Limits::default()).unwrap().unwrap();
        let returned = Json::from(told[0].clone());
        // The ids of the items are new on both sides: Python's are taken over.
        let theirs = told[1].as_array().unwrap();
        let mut ids = theirs.iter().map(|message| message["task_id"].as_str().unwrap().to_owned());
        let next = pipeline.next(&message.task_id, &returned, || ids.next().unwrap()).unwrap();
        let ours: Vec<Message<'_>> = match next {
            None => Vec::new(),
            Some(Next::One(message)) => vec![message],
            Some(Next::Many(fan)) => fan.messages().chain([fan.collector.clone()]).collect(),
        };
        kinds.push(ours.len());
        assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert_eq!(comparable(&serde_json::from_slice(&ours.encode()).unwrap()), comparable(theirs));
        }
    }
    assert_eq!(kinds, [1, 1, 1, 4, 4, 0]);
}

/// A message with the steps of its pipeline decoded: Python writes them with other spaces.
fn comparable(message: &Value) -> Value {
    let bytes = message.to_string().into_bytes();
    let decoded = Message::decode(&bytes, &Limits::default()).unwrap();
    let mut message = message.clone();
    if let Some(LabelValue::Bytes(steps)) = decoded.labels.get("_pipe_data") {
        message["labels"]["_pipe_data"] = serde_json::from_slice(&steps).unwrap();
    }
    message
}

#[test]
fn schedules_go_both_ways() {
    let arguments = args![1, b = "é"];
    let zone = Some("Europe/Berlin".to_owned());
    let whens = [
        When::At("2030-01-02T03:04:05.000678Z".parse().unwrap()),
        When::Every(Duration::from_secs(93_784)),
        When::Every(Duration::from_secs(400 * 86_400)),
        When::Cron { expression: "*/5 * * * *".into(), offset: zone },
    ];
    let mut input = Vec::new();
    for serializer in BOTH {
        for when in &whens {
            let mut message = Message::new("i", "t", &arguments);
            message.labels.set_int("n", 3);
            input.push(Schedule::of(message, "sid", when.clone()).encode(serializer).unwrap());
        }
    }
    let script = r#"
from datetime import timedelta
for n, line in enumerate(lines):
    s = both[n // 4]
    t = ScheduledTask.model_validate(s.loadb(line))
    # As Python code would give it: this is written in the form of ISO 8601.
    if t.interval: t.interval = timedelta(seconds=t.interval)
    print(s.dumpb(t.model_dump(mode="json")).hex())
"#;
    let Some(out) = run(script, &input) else { return };
    assert_eq!(out.len(), 8);
    for (line, when) in out.iter().zip(whens.iter().chain(&whens)) {
        let schedule = Schedule::decode(&unhex(line), &Limits::default()).unwrap();
        assert_eq!(&schedule.when, when);
        let message = schedule.into_message(|| panic!("it has an id"));
        assert_eq!(message.arguments().unwrap().kwargs().unwrap().to_value(), json!({"b": "é"}));
        assert_eq!(message.labels.get("n"), Some(LabelValue::Text("3".into())));
    }
}
