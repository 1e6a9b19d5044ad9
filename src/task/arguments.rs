use super::{FailureKind, Json, TaskError, TaskFailure, TaskName};
use crate::error::{Error, Result};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt};

/// How a task takes its arguments. Plain data: it is stored with signatures, so that a process that does not know the
/// task can still build its input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CallShape {
    /// One parameter that is a struct or a map: the named arguments are its fields.
    Message {
        /// The parameter's name.
        parameter: String,
        /// The struct's field names, where they are known.
        #[serde(default)]
        fields: Option<Vec<String>>,
        /// The field that a previous result goes into; `None`: the result is the message.
        #[serde(default)]
        return_field: Option<String>,
    },
    /// Parameters that are bound one by one, by position or by name.
    Parameters {
        /// Their names, in order.
        names: Vec<String>,
        /// The parameter that a previous result goes into; `None`: the first one that is not bound otherwise.
        #[serde(default)]
        return_field: Option<String>,
    },
    /// A task that this process does not know: arguments are passed on as they are.
    Unknown {
        /// The named argument that a previous result goes into; `None`: it becomes the first positional one.
        #[serde(default)]
        return_field: Option<String>,
    },
}

impl Default for CallShape {
    fn default() -> Self {
        Self::Unknown { return_field: None }
    }
}

/// The arguments of one call: a JSON array of positional ones and a JSON object of named ones, either may be missing.
///
/// Made by [`args!`](crate::args), or from a reference to a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Arguments {
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kwargs: Option<Json>,
    /// The first value that could not be encoded; reported by whoever sends.
    #[serde(skip)]
    broken: Option<String>,
}

impl CallShape {
    /// Whether a task of this shape can take these arguments: their names and their number, not their types.
    ///
    /// # Errors
    /// [`Error::InvalidArguments`].
    pub(crate) fn check(&self, task: &TaskName, arguments: &Arguments) -> Result<()> {
        let Self::Parameters { names, .. } = self else { return Ok(()) };
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        match arguments.bind(task, &names) {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::InvalidArguments { reason: error.failure().message.clone() }),
        }
    }
}

impl Arguments {
    /// No arguments.
    pub fn none() -> Self {
        Self::default()
    }

    /// From parts as they stand on a wire. A `null` part counts as missing, an empty one as well.
    ///
    /// # Errors
    /// [`Error::InvalidArguments`] if `args` is not an array or `kwargs` is not an object.
    pub fn from_parts(args: Option<Json>, kwargs: Option<Json>) -> Result<Self> {
        let args = args.filter(|json| !json.is_null() && json.as_str() != "[]");
        let kwargs = kwargs.filter(|json| !json.is_null() && json.as_str() != "{}");
        if args.as_ref().is_some_and(|json| !json.as_str().starts_with('[')) {
            return Err(Error::InvalidArguments { reason: "the positional arguments are not a JSON array".into() });
        }
        if kwargs.as_ref().is_some_and(|json| !json.is_object()) {
            return Err(Error::InvalidArguments { reason: "the named arguments are not a JSON object".into() });
        }
        Ok(Self { args, kwargs, broken: None })
    }

    /// One value as a task of this shape takes it: the fields of a message, a tuple of parameters, or one parameter.
    pub fn from_value(value: Json, shape: &CallShape) -> Self {
        let one = |value: Json| Self { args: Some(Json::from_valid(format!("[{value}]"))), ..Self::default() };
        match shape {
            CallShape::Parameters { names, .. } if names.len() == 1 => one(value),
            CallShape::Parameters { names, .. } if names.len() > 1 && value.as_str().starts_with('[') => {
                Self { args: Some(value), ..Self::default() }
            }
            _ if value.is_object() => Self { kwargs: Some(value), ..Self::default() },
            _ if value.is_null() => Self::none(),
            _ => one(value),
        }
    }

    /// Arguments that could not be made: whoever sends them reports why.
    pub(crate) fn broken(error: &Error) -> Self {
        Self { broken: Some(error.to_string()), ..Self::default() }
    }

    /// Adds a positional argument.
    pub fn arg<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        match Json::encode(value) {
            Ok(json) => self.args = Some(appended(self.args.as_ref(), '[', &json, ']')),
            Err(e) => self.break_with(format!("positional argument: {e}")),
        }
        self
    }

    /// Adds a named argument.
    pub fn kwarg<T: Serialize + ?Sized>(mut self, name: &str, value: &T) -> Self {
        match (Json::encode(name), Json::encode(value)) {
            (Ok(key), Ok(json)) => {
                let entry = Json::from_valid(format!("{key}:{json}"));
                self.kwargs = Some(appended(self.kwargs.as_ref(), '{', &entry, '}'));
            }
            (_, Err(e)) | (Err(e), _) => self.break_with(format!("argument `{name}`: {e}")),
        }
        self
    }

    fn break_with(&mut self, reason: String) {
        self.broken.get_or_insert(reason);
    }

    /// The positional arguments, a JSON array.
    pub fn args(&self) -> Option<&Json> {
        self.args.as_ref()
    }

    /// The named arguments, a JSON object.
    pub fn kwargs(&self) -> Option<&Json> {
        self.kwargs.as_ref()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.args.is_none() && self.kwargs.is_none()
    }

    /// The size in bytes of what travels.
    pub fn size(&self) -> usize {
        [&self.args, &self.kwargs].into_iter().flatten().map(|json| json.as_str().len()).sum()
    }

    /// The same, or the reason why a value could not be encoded.
    ///
    /// # Errors
    /// [`Error::InvalidArguments`].
    pub fn checked(self) -> Result<Self> {
        match self.broken {
            Some(reason) => Err(Error::InvalidArguments { reason }),
            None => Ok(self),
        }
    }

    /// Binds to the parameters of `task`. Used by the code that `#[task]` generates.
    ///
    /// # Errors
    /// [`FailureKind::InvalidInput`], terminal, naming the task and what does not fit.
    pub fn bind<'a>(
        &'a self,
        task: &'a TaskName,
        names: &'a [&'a str],
    ) -> std::result::Result<BoundArguments<'a>, TaskError> {
        let unfit = |reason: String| invalid(task, &reason);
        let args = self.args.as_ref().map_or("[]", Json::as_str);
        let args: Vec<&RawValue> = serde_json::from_str(args).map_err(|e| unfit(e.to_string()))?;
        if args.len() > names.len() {
            return Err(unfit(format!("takes {} arguments, got {}", names.len(), args.len())));
        }
        let mut values: Vec<Option<&RawValue>> = args.into_iter().map(Some).collect();
        values.resize(names.len(), None);
        if let Some(kwargs) = &self.kwargs {
            let Entries(kwargs) = serde_json::from_str(kwargs.as_str()).map_err(|e| unfit(e.to_string()))?;
            for (name, value) in kwargs {
                let Some(index) = names.iter().position(|known| *known == name) else {
                    return Err(unfit(format!("unknown argument `{name}`; it takes {}", quoted(names))));
                };
                if values[index].replace(value).is_some() {
                    return Err(unfit(format!("argument `{name}` is given twice")));
                }
            }
        }
        Ok(BoundArguments { task, names, values })
    }

    /// Decodes the one message of `task`. Used by the code that `#[task]` generates.
    ///
    /// The message is the object of named arguments; or the only positional argument, with the named ones laid over
    /// it; or, if the message has no field of the parameter's name, the value given under that name alone.
    ///
    /// # Errors
    /// [`FailureKind::InvalidInput`], terminal, naming the task, the parameter and the expected type.
    pub fn message<T: DeserializeOwned>(
        &self,
        task: &TaskName,
        parameter: &str,
        fields: Option<&[String]>,
    ) -> std::result::Result<T, TaskError> {
        let decode = |text: &str| serde_json::from_str(text).map_err(|e| unfit::<T>(task, parameter, &e));
        match (&self.args, &self.kwargs) {
            (None, None) => serde_json::from_str("{}").or_else(|_| decode("null")),
            (None, Some(kwargs)) => {
                let is_field = fields.is_some_and(|known| known.iter().any(|field| field == parameter));
                if !is_field
                    && let Ok(Entries(entries)) = serde_json::from_str(kwargs.as_str())
                    && let [(name, value)] = &entries[..]
                    && name == parameter
                {
                    return decode(value.get());
                }
                decode(kwargs.as_str())
            }
            (Some(args), kwargs) => {
                let args: Vec<&RawValue> =
                    serde_json::from_str(args.as_str()).map_err(|e| invalid(task, &e.to_string()))?;
                match (&args[..], kwargs) {
                    ([value], None) => decode(value.get()),
                    ([value], Some(kwargs)) => {
                        let mut merged = Json::from(*value).to_value();
                        crate::signature::merge(&mut merged, kwargs.to_value());
                        serde_json::from_value(merged).map_err(|e| unfit::<T>(task, parameter, &e))
                    }
                    _ => Err(invalid(task, &format!("takes one message, got {} arguments", args.len()))),
                }
            }
        }
    }
}

/// The arguments of one call, matched with the parameters they are for.
#[derive(Debug)]
pub struct BoundArguments<'a> {
    task: &'a TaskName,
    names: &'a [&'a str],
    values: Vec<Option<&'a RawValue>>,
}

impl BoundArguments<'_> {
    /// Decodes the parameter at `index`.
    ///
    /// # Errors
    /// [`FailureKind::InvalidInput`], terminal, if it is missing or of another type.
    pub fn take<T: DeserializeOwned>(&self, index: usize) -> std::result::Result<T, TaskError> {
        let name = self.names.get(index).copied().unwrap_or_default();
        match self.values.get(index).copied().flatten() {
            Some(value) => serde_json::from_str(value.get()).map_err(|e| unfit::<T>(self.task, name, &e)),
            None => Err(invalid(
                self.task,
                &format!("argument `{name}` is missing; expected {}", std::any::type_name::<T>()),
            )),
        }
    }

    /// The JSON text that was given for the parameter at `index`.
    pub(crate) fn text(&self, index: usize) -> Option<&str> {
        self.values.get(index).copied().flatten().map(RawValue::get)
    }

    /// Decodes the parameter at `index`, or takes the default if it was not given.
    ///
    /// # Errors
    /// [`FailureKind::InvalidInput`], terminal, if it is of another type.
    pub fn take_or<T: DeserializeOwned>(
        &self,
        index: usize,
        default: impl FnOnce() -> T,
    ) -> std::result::Result<T, TaskError> {
        match self.values.get(index) {
            Some(Some(_)) => self.take(index),
            _ => Ok(default()),
        }
    }
}

/// What can be given as the arguments of a task whose input is `I`: [`args!`](crate::args), or a reference to an `I`.
/// By name (`I` = [`Untyped`](crate::Untyped)) a reference to anything that serde can encode.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an input of this task",
    label = "the task takes `{I}`",
    note = "give a reference to the task's message, a reference to a tuple of its parameters, or `args![...]`"
)]
pub trait IntoArguments<I: ?Sized> {
    /// Encodes for a task of this shape.
    ///
    /// # Errors
    /// [`Error::InvalidArguments`] if a value cannot be encoded as JSON.
    fn into_arguments(self, shape: &CallShape) -> Result<Arguments>;
}

impl<I: ?Sized> IntoArguments<I> for Arguments {
    fn into_arguments(self, _: &CallShape) -> Result<Arguments> {
        self.checked()
    }
}

impl<I: Serialize + ?Sized> IntoArguments<I> for &I {
    fn into_arguments(self, shape: &CallShape) -> Result<Arguments> {
        encode_for(self, shape)
    }
}

impl<T: Serialize + ?Sized> IntoArguments<super::Untyped> for &T {
    fn into_arguments(self, shape: &CallShape) -> Result<Arguments> {
        encode_for(self, shape)
    }
}

/// A borrowed text or list for a task that takes an owned one.
impl IntoArguments<String> for &str {
    fn into_arguments(self, shape: &CallShape) -> Result<Arguments> {
        encode_for(self, shape)
    }
}

impl<T: Serialize> IntoArguments<Vec<T>> for &[T] {
    fn into_arguments(self, shape: &CallShape) -> Result<Arguments> {
        encode_for(self, shape)
    }
}

impl<T: Serialize, const N: usize> IntoArguments<Vec<T>> for &[T; N] {
    fn into_arguments(self, shape: &CallShape) -> Result<Arguments> {
        encode_for(&self[..], shape)
    }
}

fn encode_for<T: Serialize + ?Sized>(value: &T, shape: &CallShape) -> Result<Arguments> {
    let json = Json::encode(value).map_err(|e| Error::InvalidArguments { reason: e.to_string() })?;
    Ok(Arguments::from_value(json, shape))
}

/// `[1]` + `2` = `[1,2]`; nothing + `2` = `[2]`.
fn appended(list: Option<&Json>, open: char, item: &Json, close: char) -> Json {
    match list.map(Json::as_str) {
        Some(list) => Json::from_valid(format!("{},{item}{close}", &list[..list.len() - 1])),
        None => Json::from_valid(format!("{open}{item}{close}")),
    }
}

fn quoted(names: &[&str]) -> String {
    match names {
        [] => "none".into(),
        names => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    }
}

pub(super) fn invalid(task: &TaskName, reason: &str) -> TaskError {
    TaskFailure::new(FailureKind::InvalidInput, format!("task `{task}`: {reason}")).into()
}

fn unfit<T>(task: &TaskName, name: &str, error: &serde_json::Error) -> TaskError {
    invalid(task, &format!("argument `{name}`: expected {}: {error}", std::any::type_name::<T>()))
}

/// The entries of an object, in order, values unparsed. A repeated key stays repeated.
struct Entries<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of named arguments")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some((Key(key), value)) = map.next_entry()? {
                    entries.push((key, value));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(V)
    }
}

/// A key that borrows where it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// The arguments of a call: positional ones first, then named ones.
///
/// ```
/// use mageflow::args;
///
/// let call = args![10, "text", verbose = true];
/// assert_eq!(call.args().unwrap().as_str(), r#"[10,"text"]"#);
/// assert_eq!(call.kwargs().unwrap().as_str(), r#"{"verbose":true}"#);
/// assert!(args![].is_empty());
/// ```
#[macro_export]
macro_rules! args {
    (@add $arguments:expr;) => { $arguments };
    (@add $arguments:expr; $name:ident = $value:expr $(, $($rest:tt)*)?) => {
        $crate::args!(@add $arguments.kwarg(stringify!($name), &$value); $($($rest)*)?)
    };
    (@add $arguments:expr; $value:expr $(, $($rest:tt)*)?) => {
        $crate::args!(@add $arguments.arg(&$value); $($($rest)*)?)
    };
    ($($arguments:tt)*) => { $crate::args!(@add $crate::Arguments::none(); $($arguments)*) };
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &[&str] = &["a", "b"];

    fn bound(arguments: &Arguments) -> std::result::Result<(i64, String), TaskError> {
        let task = TaskName::from("t");
        let bound = arguments.bind(&task, NAMES)?;
        Ok((bound.take(0)?, bound.take_or(1, || "default".into())?))
    }

    #[test]
    fn binds_by_position_by_name_and_by_default() {
        assert_eq!(bound(&args![1, "x"]).unwrap(), (1, "x".into()));
        assert_eq!(bound(&args![1, b = "x"]).unwrap(), (1, "x".into()));
        assert_eq!(bound(&args![b = "x", a = 1]).unwrap(), (1, "x".into()));
        assert_eq!(bound(&args![1]).unwrap(), (1, "default".into()));
    }

    #[test]
    fn misfits_name_the_task_the_argument_and_the_type() {
        for (arguments, words) in [
            (args![], "argument `a` is missing; expected i64"),
            (args!["x"], "argument `a`: expected i64"),
            (args![1, "x", 3], "takes 2 arguments, got 3"),
            (args![1, a = 2], "argument `a` is given twice"),
            (args![1, c = 2], "unknown argument `c`; it takes `a`, `b`"),
        ] {
            let error = bound(&arguments).unwrap_err();
            assert_eq!(error.failure().kind, FailureKind::InvalidInput);
            assert!(error.to_string().contains(words), "{error}");
            assert!(error.to_string().contains("task `t`"), "{error}");
        }
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Photo {
        url: String,
        #[serde(default)]
        size: u8,
    }

    #[test]
    fn a_message_comes_as_fields_as_one_value_or_under_its_name() {
        let photo = Photo { url: "u".into(), size: 2 };
        let fields = ["url".to_owned(), "size".to_owned()];
        for arguments in [
            args![url = "u", size = 2],
            args![photo],
            args![photo = photo],
            args![Photo { url: "u".into(), size: 1 }, size = 2],
        ] {
            let got: Photo = arguments.message(&"t".into(), "photo", Some(&fields)).unwrap();
            assert_eq!(got, photo);
        }
        let error = args![size = 1].message::<Photo>(&"t".into(), "photo", None).unwrap_err();
        assert!(error.to_string().contains("argument `photo`: expected"), "{error}");
    }

    #[test]
    fn a_value_is_laid_out_for_the_shape_it_goes_to() {
        let message = CallShape::Message { parameter: "m".into(), fields: None, return_field: None };
        let two = CallShape::Parameters { names: vec!["a".into(), "b".into()], return_field: None };
        let one = CallShape::Parameters { names: vec!["a".into()], return_field: None };
        let json = |text: &str| Json::parse(text).unwrap();
        assert_eq!(Arguments::from_value(json(r#"{"a":1}"#), &message), args![a = 1]);
        assert_eq!(Arguments::from_value(json("[1,2]"), &two), args![1, 2]);
        assert_eq!(Arguments::from_value(json("[1,2]"), &one), args![[1, 2]]);
        assert_eq!(Arguments::from_value(json("7"), &CallShape::default()), args![7]);
        assert!(Arguments::from_value(json("null"), &CallShape::default()).is_empty());
    }
}
