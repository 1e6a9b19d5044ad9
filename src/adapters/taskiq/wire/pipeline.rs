//! Pipelines of `taskiq-pipelines`. Two labels of a message say which steps there are and which one it is; whoever has
//! stored the result of a step sends the next one.

use super::{
    error::{Limits, WireError},
    labels::{LabelValue, Labels},
    message::Message,
    object,
    result::{NewResult, Outcome},
    text::{self, deeper_than, push_key, push_string},
};
use crate::task::{FailureKind, Json, TaskFailure};
use base64::{Engine, prelude::BASE64_STANDARD};
use std::{borrow::Cow, time::Duration};

/// The number of the step that a message is, from 0.
pub(crate) const CURRENT_STEP: &str = "_pipe_current_step";
/// All steps.
pub(crate) const DATA: &str = "_pipe_data";
/// What Python writes into the result of the last step when an earlier one failed.
pub(crate) const ABORT_LOG: &str = "Error found while executing pipeline.";

/// The pipeline that a message belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Pipeline {
    current: usize,
    /// The steps as JSON text.
    steps: String,
    /// The id that each step's result will have.
    ids: Vec<String>,
}

/// What follows a step.
#[derive(Debug)]
pub(crate) enum Next<'a> {
    One(Message<'static>),
    Many(FanOut<'a>),
}

/// One task for each item of a result, and one that collects their results.
#[derive(Debug)]
pub(crate) struct FanOut<'a> {
    step: Step<'a>,
    /// For each item, its task's id and the item itself.
    items: Vec<(String, Cow<'a, str>)>,
    /// To be sent after the items.
    pub collector: Message<'static>,
}

/// Why a pipeline cannot go on. To be recorded under [`Pipeline::last_id`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PipelineError {
    #[error("the description of the pipeline cannot be read: {0}")]
    Broken(#[from] WireError),
    #[error("steps of the type `{name}` exist in Python only")]
    UnknownStep { name: String },
    #[error("Pipeline was aborted. Result of the previous task is not iterable.")]
    NotIterable,
}

impl From<PipelineError> for TaskFailure {
    fn from(error: PipelineError) -> Self {
        Self::new(FailureKind::Terminal, error.to_string())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Sequential,
    Mapper,
    Filter,
}

#[derive(Debug)]
struct Step<'a> {
    kind: Type,
    task_name: Cow<'a, str>,
    labels: object::Fields<'a>,
    /// Where the result before goes to.
    to: To<'a>,
    kwargs: &'a str,
    skip_errors: bool,
    check_interval: &'a str,
}

#[derive(Debug)]
enum To<'a> {
    First,
    Named(Cow<'a, str>),
    Nowhere,
}

impl Pipeline {
    /// The pipeline that these labels speak of.
    ///
    /// # Errors
    /// If there is one and its description cannot be read. Nobody can say then who waits for its end.
    pub(crate) fn of(labels: &Labels<'_>, limits: &Limits) -> Result<Option<Self>, WireError> {
        let current = match labels.get(CURRENT_STEP) {
            None | Some(LabelValue::Null) => return Ok(None),
            Some(LabelValue::Int(number)) => usize::try_from(number).ok(),
            Some(LabelValue::Text(text)) => text.trim().parse().ok(),
            Some(_) => None,
        };
        let current = current.ok_or(WireError::Label { name: CURRENT_STEP, expected: "the number of a step" })?;
        let bad = WireError::Label { name: DATA, expected: "the steps of a pipeline as JSON" };
        let steps = match labels.get(DATA) {
            Some(LabelValue::Bytes(bytes)) => String::from_utf8(bytes).map_err(|_| bad)?,
            Some(LabelValue::Json(json)) => json.to_owned(),
            Some(LabelValue::Text(text)) if text.starts_with('[') => text.into_owned(),
            // A schedule loses the type of a label.
            Some(LabelValue::Text(text)) => {
                let bytes = BASE64_STANDARD.decode(text.as_bytes()).map_err(|_| bad.clone())?;
                String::from_utf8(bytes).map_err(|_| bad)?
            }
            _ => return Err(bad),
        };
        if deeper_than(limits.depth, steps.as_bytes()) {
            return Err(WireError::TooDeep { limit: limits.depth });
        }
        let mut ids = Vec::new();
        for step in object::items("the pipeline", &steps)? {
            let fields = object::fields("a step", step)?;
            ids.push(object::string("task_id", object::require(&fields, "task_id")?)?.into_owned());
        }
        Ok(Some(Self { current, steps, ids }))
    }

    /// The id under which somebody waits for the end of the pipeline, unless this step is its end.
    pub(crate) fn last_id(&self) -> Option<&str> {
        let last = self.ids.len().checked_sub(1)?;
        (self.current < last).then(|| self.ids[last].as_str())
    }

    /// What is to be stored because this step failed, and under which id.
    pub(crate) fn abort<'a>(&'a self, outcome: &'a Outcome) -> Option<(&'a str, NewResult<'a>)> {
        let result = NewResult { log: Some(ABORT_LOG), ..NewResult::new(outcome, Duration::ZERO) };
        self.last_id().map(|id| (id, result))
    }

    /// What is to be sent once the result of this step is stored; `None` at the end of the pipeline. `parent` is the id of
    /// this step, `new_id` makes ids for the tasks of items.
    ///
    /// # Errors
    /// If the pipeline cannot go on.
    pub(crate) fn next<'a>(
        &'a self,
        parent: &str,
        value: &'a Json,
        new_id: impl FnMut() -> String,
    ) -> Result<Option<Next<'a>>, PipelineError> {
        let number = self.current.saturating_add(1);
        let Some(id) = self.ids.get(number) else { return Ok(None) };
        let steps = object::items("the pipeline", &self.steps)?;
        let step = Step::read(steps.get(number).copied().unwrap_or_default())?;
        if step.kind == Type::Sequential {
            let mut message = step.message(id, value.as_str());
            self.mark(&mut message.labels, number);
            return Ok(Some(Next::One(message)));
        }
        let ids = std::iter::repeat_with(new_id);
        // Items first: an id is only asked for where there is one.
        let items: Vec<_> = iterated(value.as_str())?.into_iter().zip(ids).map(|(item, id)| (id, item)).collect();
        let collector = self.collector(&step, number, parent, &items);
        Ok(Some(Next::Many(FanOut { step, items, collector })))
    }

    fn mark(&self, labels: &mut Labels<'_>, number: usize) {
        labels.set_bytes(DATA, self.steps.as_bytes());
        labels.set_int(CURRENT_STEP, i64::try_from(number).unwrap_or(i64::MAX));
    }

    fn collector(
        &self,
        step: &Step<'_>,
        number: usize,
        parent: &str,
        items: &[(String, Cow<'_, str>)],
    ) -> Message<'static> {
        let mut args = String::from("[[");
        for (position, (id, _)) in items.iter().enumerate() {
            if position > 0 {
                args.push(',');
            }
            push_string(&mut args, id);
        }
        args.push(']');
        let name = match step.kind {
            Type::Filter => {
                args.push(',');
                push_string(&mut args, parent);
                Collect::FILTER
            }
            _ => Collect::MAP,
        };
        args.push(']');
        let kwargs = format!("{{\"check_interval\":{},\"skip_errors\":{}}}", step.check_interval, step.skip_errors);
        let mut message = Message::of_parts(self.ids[number].clone(), name, args, kwargs);
        self.mark(&mut message.labels, number);
        message
    }
}

impl FanOut<'_> {
    /// One message for each item. Made as they are asked for: arguments that all items share can be large.
    pub(crate) fn messages(&self) -> impl ExactSizeIterator<Item = Message<'static>> {
        self.items.iter().map(|(id, item)| self.step.message(id, item))
    }
}

impl<'a> Step<'a> {
    fn read(json: &'a str) -> Result<Self, PipelineError> {
        let fields = object::fields("a step", json)?;
        let name = object::string("step_type", object::require(&fields, "step_type")?)?;
        let kind = match &*name {
            "sequential" => Type::Sequential,
            "mapper" => Type::Mapper,
            "filter" => Type::Filter,
            other => return Err(PipelineError::UnknownStep { name: other.chars().take(80).collect() }),
        };
        let data = object::fields("step_data", object::require(&fields, "step_data")?)?;
        let get = |name| object::get(&data, name).filter(|json| *json != "null");
        let to = match get("param_name") {
            Some(json) if json.starts_with('"') => match object::string("param_name", json)? {
                name if name.is_empty() && kind != Type::Sequential => To::First,
                name => To::Named(name),
            },
            Some("-1") if kind == Type::Sequential => To::Nowhere,
            _ => To::First,
        };
        let kwargs = get("additional_kwargs").unwrap_or("{}");
        object::expect("additional_kwargs", kwargs, '{', "an object")?;
        let check_interval = get("check_interval").filter(|json| json.parse::<f64>().is_ok()).unwrap_or("0.5");
        Ok(Self {
            kind,
            task_name: object::string("task_name", object::require(&data, "task_name")?)?,
            labels: object::fields("labels", get("labels").unwrap_or("{}"))?,
            to,
            kwargs,
            skip_errors: get("skip_errors") == Some("true"),
            check_interval,
        })
    }

    fn message(&self, id: &str, value: &str) -> Message<'static> {
        let (args, kwargs) = match &self.to {
            To::First => (format!("[{value}]"), self.kwargs.to_owned()),
            To::Nowhere => ("[]".to_owned(), self.kwargs.to_owned()),
            To::Named(name) => ("[]".to_owned(), with(self.kwargs, name, value)),
        };
        let mut message = Message::of_parts(id.to_owned(), self.task_name.clone().into_owned(), args, kwargs);
        for (name, json) in &self.labels {
            match object::decoded(json) {
                Some(text) => message.labels.set_text(name.clone().into_owned(), &text),
                None => message.labels.set_native(name.clone().into_owned(), (*json).to_owned()),
            }
        }
        message
    }
}

/// Named arguments with one more, or another value for one that is there.
fn with(kwargs: &str, name: &str, value: &str) -> String {
    let mut out = String::with_capacity(kwargs.len() + name.len() + value.len() + 8);
    out.push('{');
    // Checked before: it is an object.
    for (known, json) in object::fields("additional_kwargs", kwargs).unwrap_or_default() {
        if known != name {
            push_key(&mut out, &known);
            out.push_str(json);
        }
    }
    push_key(&mut out, name);
    out.push_str(value);
    out.push('}');
    out
}

/// The items that Python finds in a value: those of a list, the characters of a text, the keys of a dictionary.
fn iterated(json: &str) -> Result<Vec<Cow<'_, str>>, PipelineError> {
    match json.as_bytes().first() {
        Some(b'[') => Ok(object::items("the result", json)?.into_iter().map(Cow::Borrowed).collect()),
        Some(b'{') => {
            let fields = object::fields("the result", json)?;
            Ok(fields.iter().map(|(name, _)| Cow::Owned(text::string(name))).collect())
        }
        Some(b'"') => {
            let text = object::string("the result", json)?;
            let mut buffer = [0; 4];
            Ok(text.chars().map(|c| Cow::Owned(text::string(c.encode_utf8(&mut buffer)))).collect())
        }
        _ => Err(PipelineError::NotIterable),
    }
}

/// What a collector is asked to do: wait for the tasks of items, then make one result of theirs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Collect {
    pub ids: Vec<String>,
    /// Of a filter: whose result the items are from.
    pub parent: Option<String>,
    pub check_interval: Duration,
    pub skip_errors: bool,
}

impl Collect {
    /// The task that collects what a mapper's tasks return.
    pub(crate) const MAP: &'static str = "taskiq_pipelines.shared.wait_tasks";
    /// The task that keeps the items for which a filter's tasks return something true.
    pub(crate) const FILTER: &'static str = "taskiq_pipelines.shared.filter_tasks";

    /// What this message asks for, if it is a collector's.
    ///
    /// # Errors
    /// If it is and its arguments do not fit.
    pub(crate) fn of(message: &Message<'_>) -> Result<Option<Self>, WireError> {
        let (filter, names): (bool, &[&str]) = match &*message.task_name {
            Self::MAP => (false, &["task_ids", "check_interval", "skip_errors"]),
            Self::FILTER => (true, &["task_ids", "parent_task_id", "check_interval", "skip_errors"]),
            _ => return Ok(None),
        };
        let args = object::items("args", &message.args)?;
        let kwargs = object::fields("kwargs", &message.kwargs)?;
        let get = |name: &str| {
            let place = names.iter().position(|known| *known == name);
            place.and_then(|place| args.get(place).copied()).or_else(|| object::get(&kwargs, name))
        };
        let ids = object::items("task_ids", get("task_ids").ok_or(WireError::Missing { field: "task_ids" })?)?;
        let ids = ids.into_iter().map(|id| object::string("task_ids", id).map(Cow::into_owned));
        let ids = ids.collect::<Result<_, _>>()?;
        let parent = if filter {
            let id = get("parent_task_id").ok_or(WireError::Missing { field: "parent_task_id" })?;
            Some(object::string("parent_task_id", id)?.into_owned())
        } else {
            None
        };
        let interval = get("check_interval").and_then(|json| json.parse().ok());
        let interval = interval.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Ok(Some(Self {
            ids,
            parent,
            check_interval: interval.unwrap_or(Duration::from_millis(500)),
            // Python's defaults, which differ.
            skip_errors: get("skip_errors").map_or(!filter, |json| json == "true"),
        }))
    }

    /// The result of all, from the outcomes of the tasks in the order of their ids, and for a filter the value that its
    /// parent returned.
    ///
    /// # Errors
    /// If one of them failed and that is not to be overlooked.
    pub(crate) fn gather(&self, outcomes: &[Outcome], parent: Option<&Json>) -> Result<Json, Box<TaskFailure>> {
        let failure = |error: PipelineError| Box::new(TaskFailure::from(error));
        let filtered = match (&self.parent, parent) {
            (None, _) => None,
            (Some(_), Some(value)) => Some(iterated(value.as_str()).map_err(failure)?),
            (Some(_), None) => return Err(failure(PipelineError::NotIterable)),
        };
        let mut out = String::from("[");
        for (number, (id, outcome)) in self.ids.iter().zip(outcomes).enumerate() {
            let reason = match (outcome, &filtered) {
                (Outcome::Returned(value), None) => {
                    push_item(&mut out, value.as_str());
                    continue;
                }
                (Outcome::Returned(value), Some(items)) => {
                    if let Some(item) = items.get(number).filter(|_| is_true(value.as_str())) {
                        push_item(&mut out, item);
                    }
                    continue;
                }
                _ if self.skip_errors => continue,
                (Outcome::Failed(failed), _) => &failed.message,
                (Outcome::Cancelled | Outcome::Skipped, _) => "it was cancelled",
            };
            let step = if filtered.is_some() { "filtering" } else { "mapping" };
            let words = format!("Task {id} returned an error. {step} failed. Reason: {reason}");
            return Err(TaskFailure::new(FailureKind::Error, words).into());
        }
        out.push(']');
        Ok(Json::from_valid(out))
    }
}

fn push_item(out: &mut String, item: &str) {
    if out.len() > 1 {
        out.push(',');
    }
    out.push_str(item);
}

/// What Python takes for true.
fn is_true(json: &str) -> bool {
    match json.as_bytes().first() {
        Some(b'[' | b'{') => json[1..].trim_ascii_start().len() > 1,
        Some(b'"') => json.len() > 2,
        Some(b't') => true,
        Some(b'f' | b'n') | None => false,
        Some(_) => json.parse::<f64>() != Ok(0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn step(kind: &str, data: &Value, id: &str) -> Value {
        let mut all = json!({"task_name": "m:f", "labels": {"n": "3"}, "param_name": null, "additional_kwargs": {}});
        if kind != "sequential" {
            all["skip_errors"] = json!(false);
            all["check_interval"] = json!(0.25);
        }
        for (name, value) in data.as_object().unwrap() {
            all[name] = value.clone();
        }
        json!({"step_type": kind, "step_data": all, "task_id": id})
    }

    fn pipeline(current: i64, steps: &Value) -> Pipeline {
        let mut labels = Labels::default();
        labels.set_int(CURRENT_STEP, current);
        labels.set_bytes(DATA, steps.to_string().as_bytes());
        Pipeline::of(&labels, &Limits::default()).unwrap().unwrap()
    }

    fn next<'a>(pipeline: &'a Pipeline, value: &'a Json) -> Result<Option<Next<'a>>, PipelineError> {
        let mut count = 0;
        pipeline.next("parent", value, move || {
            count += 1;
            format!("new{count}")
        })
    }

    fn one(data: &Value, value: &str) -> Message<'static> {
        let steps = json!([step("sequential", &json!({}), "a"), step("sequential", data, "b")]);
        match next(&pipeline(0, &steps), &Json::parse(value).unwrap()) {
            Ok(Some(Next::One(message))) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_result_goes_where_the_step_says() {
        let message = one(&json!({"additional_kwargs": {"k": [1]}}), "7");
        assert_eq!((&*message.task_id, &*message.task_name), ("b", "m:f"));
        assert_eq!((&*message.args, &*message.kwargs), ("[7]", r#"{"k":[1]}"#));
        assert_eq!(message.labels.names().collect::<Vec<_>>(), ["n", DATA, CURRENT_STEP]);
        assert_eq!(message.labels.get(CURRENT_STEP), Some(LabelValue::Int(1)));
        let message = one(&json!({"param_name": "p", "additional_kwargs": {"p": 0, "k": 1}}), r#""x""#);
        assert_eq!((&*message.args, &*message.kwargs), ("[]", r#"{"k":1,"p":"x"}"#));
        let message = one(&json!({"param_name": -1}), "7");
        assert_eq!((&*message.args, &*message.kwargs), ("[]", "{}"));
    }

    #[test]
    fn the_description_survives_from_step_to_step() {
        let plain = json!({});
        let steps =
            json!([step("sequential", &plain, "a"), step("sequential", &plain, "b"), step("filter", &plain, "c")]);
        let first = pipeline(0, &steps);
        assert_eq!(first.last_id(), Some("c"));
        let null = Json::null();
        let Ok(Some(Next::One(second))) = next(&first, &null) else { panic!() };
        let bytes = second.encode();
        let second = Message::decode(&bytes, &Limits::default()).unwrap();
        let second = Pipeline::of(&second.labels, &Limits::default()).unwrap().unwrap();
        let value = Json::parse("[1]").unwrap();
        let Ok(Some(Next::Many(fan))) = next(&second, &value) else { panic!() };
        let last = Pipeline::of(&fan.collector.labels, &Limits::default()).unwrap().unwrap();
        assert_eq!(last.last_id(), None);
        assert!(next(&last, &null).unwrap().is_none());
        assert!(last.abort(&Outcome::Cancelled).is_none());
    }

    fn fanned(kind: &str, data: &Value, value: &str) -> (Vec<(String, String, String)>, Message<'static>) {
        let steps = json!([step("sequential", &json!({}), "a"), step(kind, data, "b")]);
        let (pipeline, value) = (pipeline(0, &steps), Json::parse(value).unwrap());
        let Ok(Some(Next::Many(fan))) = next(&pipeline, &value) else { panic!("{kind}") };
        let messages = fan.messages().map(|message| {
            assert_eq!(message.labels.names().collect::<Vec<_>>(), ["n"], "items are no part of the pipeline");
            (message.task_id.into_owned(), message.args.into_owned(), message.kwargs.into_owned())
        });
        let messages = messages.collect();
        (messages, fan.collector)
    }

    #[test]
    fn mappers_and_filters_send_one_message_for_each_item_and_one_that_collects() {
        let own = |id: &str, args: &str, kwargs: &str| (id.to_owned(), args.to_owned(), kwargs.to_owned());
        let data = json!({"additional_kwargs": {"k": 1}, "skip_errors": true});
        let (items, collector) = fanned("mapper", &data, "[1,[2]]");
        assert_eq!(items, [own("new1", "[1]", r#"{"k":1}"#), own("new2", "[[2]]", r#"{"k":1}"#)]);
        assert_eq!((&*collector.task_id, &*collector.task_name), ("b", Collect::MAP));
        assert_eq!(&*collector.args, r#"[["new1","new2"]]"#);
        assert_eq!(&*collector.kwargs, r#"{"check_interval":0.25,"skip_errors":true}"#);
        let (items, collector) = fanned("filter", &json!({"param_name": "p"}), r#"{"x":1,"y":2}"#);
        assert_eq!(items, [own("new1", "[]", r#"{"p":"x"}"#), own("new2", "[]", r#"{"p":"y"}"#)]);
        assert_eq!(&*collector.args, r#"[["new1","new2"],"parent"]"#);
        assert_eq!(fanned("mapper", &json!({"param_name": ""}), r#""é""#).0, [own("new1", r#"["é"]"#, "{}")]);
        assert_eq!(&*fanned("mapper", &json!({}), "[]").1.args, "[[]]");
        let asked = Collect::of(&collector).unwrap().unwrap();
        assert_eq!((asked.ids.len(), asked.parent.as_deref()), (2, Some("parent")));
        assert_eq!((asked.check_interval, asked.skip_errors), (Duration::from_millis(250), false));
    }

    #[test]
    fn what_cannot_go_on_says_so_and_whom_to_tell() {
        let (first, null) = (step("sequential", &json!({}), "a"), Json::null());
        let unknown = json!([first, {"step_type": "mine", "step_data": {}, "task_id": "b"}]);
        let error = next(&pipeline(0, &unknown), &null).unwrap_err();
        assert_eq!(error, PipelineError::UnknownStep { name: "mine".into() });
        let mapper = json!([first, step("mapper", &json!({}), "b")]);
        assert_eq!(next(&pipeline(0, &mapper), &null).unwrap_err(), PipelineError::NotIterable);
        let broken = json!([first, {"step_type": "mapper", "step_data": {"task_name": 5}, "task_id": "b"}]);
        assert!(matches!(next(&pipeline(0, &broken), &null), Err(PipelineError::Broken(_))));
        let pipeline = pipeline(0, &mapper);
        let failed = Outcome::Failed(PipelineError::NotIterable.into());
        let (id, result) = pipeline.abort(&failed).unwrap();
        assert_eq!((id, result.log, result.execution_time), ("b", Some(ABORT_LOG), Duration::ZERO));
    }

    #[test]
    fn the_description_is_read_in_each_form_and_refused_where_it_is_none() {
        let steps = json!([step("sequential", &json!({}), "a")]).to_string();
        let with = |value: &str| {
            let labels = format!(r#"{{"_pipe_current_step":"0","_pipe_data":{value}}}"#);
            Pipeline::of(&Labels::read(&labels, None, &Limits::default()).unwrap(), &Limits::default())
        };
        for value in [text::string(&steps), text::string(&BASE64_STANDARD.encode(&steps)), steps] {
            assert_eq!(with(&value).unwrap().unwrap().ids, ["a"], "{value}");
        }
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for value in ["null", "5", r#""!""#, r#""/w==""#, "{}", "[5]", "[{}]", r#"[{"task_id":5}]"#, &deep] {
            assert!(with(value).is_err(), "{value}");
        }
        assert!(Pipeline::of(&Labels::default(), &Limits::default()).unwrap().is_none());
        let mut odd = Labels::default();
        odd.set_int(CURRENT_STEP, -1);
        assert!(Pipeline::of(&odd, &Limits::default()).is_err());
    }

    #[test]
    fn collectors_make_one_result_of_many() {
        let outcome = |text: &str| Outcome::Returned(Json::parse(text).unwrap());
        let asked = |name: &'static str, args: &'static str, kwargs: &'static str| {
            Collect::of(&Message::of_parts("i", name, args, kwargs)).unwrap()
        };
        let map = asked(Collect::MAP, r#"[["a","b"]]"#, r#"{"check_interval":1,"skip_errors":false}"#).unwrap();
        assert_eq!(map.gather(&[outcome("1"), outcome("[]")], None).unwrap().as_str(), "[1,[]]");
        let failed = Outcome::Failed(TaskFailure::new(FailureKind::Error, "no"));
        let error = map.gather(&[outcome("1"), failed.clone()], None).unwrap_err();
        assert_eq!(error.message, "Task b returned an error. mapping failed. Reason: no");
        assert!(map.gather(&[Outcome::Cancelled, outcome("1")], None).is_err());
        let skipping = asked(Collect::MAP, r#"[["a","b"], 0.5]"#, "{}").unwrap();
        assert_eq!(skipping.gather(&[failed.clone(), outcome("2")], None).unwrap().as_str(), "[2]");
        let filter = asked(Collect::FILTER, r#"[["a","b","c"],"p"]"#, "{}").unwrap();
        let parent = Json::parse(r#"["x", "y", "z"]"#).unwrap();
        let outcomes = [outcome("0.0"), outcome("true"), outcome("[ 0 ]")];
        assert_eq!(filter.gather(&outcomes, Some(&parent)).unwrap().as_str(), r#"["y","z"]"#);
        assert!(filter.gather(&[failed], Some(&parent)).unwrap_err().message.contains("filtering"));
        assert!(filter.gather(&outcomes, None).is_err() && filter.gather(&outcomes, Some(&Json::null())).is_err());
        assert!(asked("m:f", "[]", "{}").is_none());
        assert!(Collect::of(&Message::of_parts("i", Collect::MAP, "[]", "{}")).is_err());
        let truths = [(r#""""#, false), ("[]", false), ("{ }", false), ("-0", false), ("null", false)];
        for (json, want) in truths.into_iter().chain([(r#""0""#, true), (r#"" ""#, true), ("1e-9", true)]) {
            assert_eq!(is_true(json), want, "{json}");
        }
    }
}
