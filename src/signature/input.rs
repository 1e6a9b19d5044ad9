//! What a run is given: the message or the previous result, with the named arguments of its containers and its own
//! laid over it.

use super::Status;
use crate::{
    error::{Error, Result},
    task::{Arguments, CallShape, Json, TaskFailure},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;

/// What a signature was started with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// The message, the previous result, or what a callback is told.
    pub source: Source,
    /// The named arguments of its containers, the outermost weakest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inherited: Option<Json>,
}

/// Where an input comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// From whoever started it.
    Message(Arguments),
    /// From the step before, or from the signature whose success this is the callback of.
    Previous(Json),
    /// From the signature whose failure this is the callback of.
    Failure {
        /// What that one was started with.
        message: Arguments,
        /// Why it failed.
        failure: Arc<TaskFailure>,
    },
}

/// What an `on_complete` callback is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Completion {
    /// How it ended.
    pub status: Status,
    /// What came out, if it was done.
    pub result: Option<Json>,
    /// Why it failed, if it did.
    pub error: Option<TaskFailure>,
}

impl Completion {
    /// How something ended.
    pub fn new(status: Status, result: Option<Json>, error: Option<TaskFailure>) -> Self {
        Self { status, result, error }
    }
}

impl Input {
    /// Whether it is this message.
    pub fn is_message(&self, message: &Arguments) -> bool {
        matches!(&self.source, Source::Message(own) if own == message)
    }

    /// Bytes, for limits.
    pub fn size(&self) -> usize {
        let source = match &self.source {
            Source::Message(arguments) | Source::Failure { message: arguments, .. } => arguments.size(),
            Source::Previous(json) => json.as_str().len(),
        };
        source + self.inherited.as_ref().map_or(0, |json| json.as_str().len())
    }

    /// The message that an error callback is shown: the arguments it was started with, or the previous result.
    pub fn message(&self) -> Arguments {
        match &self.source {
            Source::Message(arguments) | Source::Failure { message: arguments, .. } => arguments.clone(),
            Source::Previous(json) => Arguments::from_value(json.clone(), &CallShape::default()),
        }
    }

    /// The named arguments that the children of a container with these own arguments inherit.
    pub fn passed_on(&self, own: &Arguments) -> Option<Json> {
        match (&self.inherited, own.kwargs()) {
            (None, own) => own.cloned(),
            (Some(outer), None) => Some(outer.clone()),
            (Some(outer), Some(own)) => {
                let mut merged = outer.to_value();
                merge(&mut merged, own.to_value());
                Some(merged.into())
            }
        }
    }
}

/// Lays `over` onto `base`: objects key by key at any depth, anything else replaces.
pub fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => merge_fields(base, over),
        (base, over) => *base = over,
    }
}

fn merge_fields(base: &mut Map<String, Value>, over: Map<String, Value>) {
    for (key, value) in over {
        match base.get_mut(&key) {
            Some(slot) => merge(slot, value),
            None => {
                base.insert(key, value);
            }
        }
    }
}

/// The arguments of a run of a task of this shape.
///
/// # Errors
/// [`Error::InvalidArguments`] if stored arguments are not what they should be.
pub fn resolve(shape: &CallShape, own: &Arguments, input: &Input) -> Result<Arguments> {
    if let (Source::Message(message), None, true) = (&input.source, &input.inherited, own.is_empty()) {
        return Ok(message.clone());
    }
    let layers = Layers { inherited: object(input.inherited.as_ref())?, own: object(own.kwargs())? };
    match shape {
        CallShape::Message { parameter, fields, return_field } => {
            let into = return_field
                .as_deref()
                .or_else(|| fields.iter().flatten().find(|field| *field == RESULTS).map(String::as_str));
            message_of(parameter, into, own, layers, input)
        }
        CallShape::Parameters { names, return_field } => {
            parameters_of(names, return_field.as_deref(), own, layers, input)
        }
        CallShape::Unknown { return_field } => unknown_of(return_field.as_deref(), own, layers, input),
    }
}

/// The field that a previous result goes into where nothing else is said.
const RESULTS: &str = "mageflow_results";
/// The argument that an error callback finds its error in.
const ERROR: &str = "error";

struct Layers {
    inherited: Map<String, Value>,
    own: Map<String, Value>,
}

impl Layers {
    fn over(self, base: Map<String, Value>) -> Value {
        let mut merged = Value::Object(base);
        merge(&mut merged, Value::Object(self.inherited));
        merge(&mut merged, Value::Object(self.own));
        merged
    }

    fn is_empty(&self) -> bool {
        self.inherited.is_empty() && self.own.is_empty()
    }
}

fn message_of(
    parameter: &str,
    into: Option<&str>,
    own: &Arguments,
    mut layers: Layers,
    input: &Input,
) -> Result<Arguments> {
    // A message signed as a single positional value is the strongest layer but for named ones.
    if let [value] = &mut array(own.args())?[..] {
        match value.take() {
            Value::Object(signed) => {
                let named = std::mem::replace(&mut layers.own, signed);
                merge_fields(&mut layers.own, named);
            }
            value => return Ok(Arguments::none().arg(&value)),
        }
    }
    let base = match &input.source {
        Source::Message(message) => match (&mut array(message.args())?[..], message.kwargs()) {
            ([Value::Object(one)], kwargs) => {
                let mut base = Value::Object(std::mem::take(one));
                merge(&mut base, Value::Object(object(kwargs)?));
                base
            }
            ([], kwargs) => Value::Object(object(kwargs)?),
            // Not a struct: there is nothing to lay names over.
            _ if layers.own.is_empty() => return Ok(message.clone()),
            _ => Value::Object(Map::new()),
        },
        Source::Previous(result) => match (into, result.to_value()) {
            (Some(field), value) => Value::Object(Map::from_iter([(field.to_owned(), value)])),
            (None, Value::Null) => Value::Object(Map::new()),
            (None, Value::Object(fields)) => Value::Object(fields),
            (None, value) if layers.own.is_empty() => return Ok(Arguments::none().arg(&value)),
            // The message was signed, so the result has nowhere to go.
            (None, _) => Value::Object(Map::new()),
        },
        Source::Failure { message, failure } => {
            if parameter == ERROR || parameter == "failure" {
                return Ok(Arguments::none().arg(&**failure));
            }
            let mut base = match &mut array(message.args())?[..] {
                [Value::Object(one)] => std::mem::take(one),
                _ => Map::new(),
            };
            merge_fields(&mut base, object(message.kwargs())?);
            base.insert(ERROR.into(), encoded(&**failure)?);
            Value::Object(base)
        }
    };
    let base = if let Value::Object(base) = base { base } else { Map::new() };
    Arguments::from_parts(None, Some(layers.over(base).into()))
}

fn parameters_of(
    names: &[String],
    return_field: Option<&str>,
    own: &Arguments,
    mut layers: Layers,
    input: &Input,
) -> Result<Arguments> {
    // What containers hand down is meant for whoever has such a parameter.
    layers.inherited.retain(|name, _| names.contains(name));
    if names.len() < array(own.args())?.len() {
        return Ok(own.clone()); // binding reports it with the task's name
    }
    for (name, value) in names.iter().zip(array(own.args())?) {
        layers.own.entry(name).or_insert(value);
    }
    let mut base = Map::new();
    let free = |base: &Map<String, Value>, layers: &Layers| {
        let bound = |name: &str| [base, &layers.inherited, &layers.own].iter().any(|map| map.contains_key(name));
        names.iter().find(|name| !bound(name)).cloned()
    };
    match &input.source {
        Source::Message(message) => {
            let args = array(message.args())?;
            if args.len() > names.len() || layers.is_empty() {
                return Ok(message.clone());
            }
            base.extend(names.iter().cloned().zip(args));
            base.append(&mut object(message.kwargs())?);
        }
        Source::Previous(result) => {
            let marked = return_field.or_else(|| names.iter().map(String::as_str).find(|name| *name == RESULTS));
            if let Some(name) = marked.map(str::to_owned).or_else(|| free(&base, &layers)) {
                base.insert(name, result.to_value());
            }
        }
        Source::Failure { message, failure } => {
            let named = object(message.kwargs())?;
            let positional = array(message.args())?;
            let error = encoded(&**failure)?;
            let has_error = names.iter().any(|name| name == ERROR);
            if has_error {
                base.insert(ERROR.into(), error.clone());
            }
            // A message may speak of an older error; that one is not for the argument.
            let fits = |name: &String| name != ERROR && names.contains(name);
            if named.keys().any(fits) {
                base.extend(named.into_iter().filter(|(name, _)| fits(name)));
            } else if !named.is_empty() && (has_error || names.len() > 1) {
                if let Some(name) = free(&base, &layers) {
                    base.insert(name, Value::Object(named));
                }
            } else if has_error || names.len() > positional.len() {
                for value in positional {
                    if let Some(name) = free(&base, &layers) {
                        base.insert(name, value);
                    }
                }
            }
            if !has_error && let Some(name) = free(&base, &layers) {
                base.insert(name, error);
            }
        }
    }
    Arguments::from_parts(None, Some(layers.over(base).into()))
}

fn unknown_of(return_field: Option<&str>, own: &Arguments, layers: Layers, input: &Input) -> Result<Arguments> {
    let (mut args, mut base) = (array(own.args())?, Map::new());
    match &input.source {
        Source::Message(message) => {
            if args.is_empty() {
                args = array(message.args())?;
            }
            base = object(message.kwargs())?;
        }
        Source::Previous(result) => match return_field {
            Some(field) => {
                base.insert(field.to_owned(), result.to_value());
            }
            None => args.insert(0, result.to_value()),
        },
        Source::Failure { message, failure } => {
            if args.is_empty() {
                args = array(message.args())?;
            }
            base = object(message.kwargs())?;
            base.insert(ERROR.into(), encoded(&**failure)?);
        }
    }
    Arguments::from_parts(Some(Value::Array(args).into()), Some(layers.over(base).into()))
}

fn object(json: Option<&Json>) -> Result<Map<String, Value>> {
    json.map_or(Ok(Map::new()), |json| json.decode().map_err(|e| broken(&e)))
}

fn array(json: Option<&Json>) -> Result<Vec<Value>> {
    json.map_or(Ok(Vec::new()), |json| json.decode().map_err(|e| broken(&e)))
}

fn encoded<T: Serialize>(value: &T) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| broken(&e))
}

fn broken(error: &serde_json::Error) -> Error {
    Error::InvalidArguments { reason: error.to_string() }
}
