//! L2, Hatchet engine. Arguments as inputs of runs, which are JSON objects, and back.
//!
//! Named arguments are the object, so that others can read it, the engine's expressions among them. What the object does
//! not tell, or the engine would change, stands as text beside it.

use super::own::{OWN, entries, survives, with_entry};
use crate::task::{Arguments, CallShape, Json, TaskName};
use serde::Deserialize;
use serde_json::value::RawValue;

/// What the engine gives a task, as far as it is used.
#[derive(Debug, Deserialize)]
pub(crate) struct Payload<'a> {
    #[serde(borrow, default)]
    pub(crate) input: Option<&'a RawValue>,
    /// Errors of the tasks of a workflow that failed, by their names.
    #[serde(default)]
    pub(crate) step_run_errors: Option<std::collections::BTreeMap<String, String>>,
}

/// The input of a run. `shape` is that of the task, if it is known.
///
/// # Errors
/// If the arguments cannot be written, which arguments that were checked can be.
pub(crate) fn encode(
    task: &TaskName,
    arguments: &Arguments,
    shape: Option<&CallShape>,
) -> Result<String, serde_json::Error> {
    let (object, tells_all) = readable(task, arguments, shape)?;
    let is_clear = tells_all && !object.contains(OWN);
    if is_clear && survives(&object) {
        return Ok(object);
    }
    let exact = serde_json::to_string(&serde_json::to_string(arguments)?)?;
    // Numbers that lose digits can still be looked at; a character that is refused cannot be sent.
    let object = if object.contains(OWN) || object.contains("\\u0000") { "{}" } else { &object };
    Ok(with_entry(object, OWN, &exact))
}

/// An object for those who look at it, and whether it tells all.
fn readable(
    task: &TaskName,
    arguments: &Arguments,
    shape: Option<&CallShape>,
) -> Result<(String, bool), serde_json::Error> {
    let named = arguments.kwargs().map_or("{}", Json::as_str);
    let Some(positional) = arguments.args() else { return Ok((named.to_owned(), true)) };
    if let Some(CallShape::Parameters { names, .. }) = shape
        && let Some(bound) = bound(task, arguments, names)?
    {
        return Ok((bound, true));
    }
    let values: Vec<&RawValue> = serde_json::from_str(positional.as_str())?;
    match (&values[..], arguments.kwargs()) {
        ([value], None) if value.get().starts_with('{') => Ok((value.get().to_owned(), false)),
        _ => Ok((with_entry(named, "args", positional.as_str()), false)),
    }
}

/// All arguments by the names of their parameters, if they fit.
fn bound(task: &TaskName, arguments: &Arguments, names: &[String]) -> Result<Option<String>, serde_json::Error> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let Ok(bound) = arguments.bind(task, &names) else { return Ok(None) };
    let mut object = "{}".to_owned();
    for (index, name) in names.iter().enumerate() {
        if let Some(value) = bound.text(index) {
            let name = serde_json::to_string(name)?;
            object = with_entry(&object, name.trim_matches('"'), value);
        }
    }
    Ok(Some(object))
}

/// The arguments that a run was started with.
///
/// # Errors
/// What is wrong with them, without any of their text.
pub(crate) fn decode(input: Option<&RawValue>) -> Result<Arguments, &'static str> {
    const NO_INPUT: &str = "the input of the run is not a JSON object";
    let Some(input) = input else { return Ok(Arguments::none()) };
    let Some(entries) = entries(input.get()) else {
        return Arguments::from_parts(None, Some(Json::from(input))).map_err(|_| NO_INPUT);
    };
    let Some(exact) = entries.get(OWN) else {
        return Arguments::from_parts(None, Some(Json::from(input))).map_err(|_| NO_INPUT);
    };
    let exact = serde_json::from_str::<String>(exact.get()).ok();
    let exact = exact.and_then(|text| serde_json::from_str::<Arguments>(&text).ok());
    // A list and an object, which nobody has looked at yet.
    let exact = exact.and_then(|read| Arguments::from_parts(read.args().cloned(), read.kwargs().cloned()).ok());
    exact.ok_or("`_mageflow` in the input of the run is not what this version of the library writes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args;
    use serde_json::{Value, json};

    fn sent(arguments: &Arguments, shape: Option<&CallShape>) -> (Value, Arguments) {
        let text = encode(&"t".into(), arguments, shape).unwrap();
        let raw: &RawValue = serde_json::from_str(&text).unwrap();
        (serde_json::from_str(&text).unwrap(), decode(Some(raw)).unwrap())
    }

    fn parameters(names: &[&str]) -> CallShape {
        CallShape::Parameters { names: names.iter().map(|name| (*name).to_owned()).collect(), return_field: None }
    }

    #[test]
    fn named_arguments_are_the_input() {
        let named = Arguments::none().kwarg("url", "x").kwarg("n", &1);
        assert_eq!(sent(&named, None), (json!({"url": "x", "n": 1}), named.clone()));
        assert_eq!(sent(&Arguments::none(), None), (json!({}), Arguments::none()));
    }

    #[test]
    fn positions_get_their_names_where_those_are_known() {
        let shape = parameters(&["a", "b"]);
        let (input, back) = sent(&args![1, "x"], Some(&shape));
        assert_eq!((input, back), (json!({"a": 1, "b": "x"}), Arguments::none().kwarg("a", &1).kwarg("b", "x")));
        // What does not fit is told by the worker, who has to see it as it was given.
        let too_many = args![1, 2, 3];
        assert_eq!(sent(&too_many, Some(&shape)).1, too_many);
    }

    #[test]
    fn what_the_input_cannot_tell_stands_beside_it() {
        for arguments in [
            args![1, 2],
            args![json!({"url": "x"})],
            args![json!({"url": "x"}), 1],
            args![9_007_199_254_740_993_i64],
            Arguments::none().kwarg("f", &1.0).kwarg("nul", "\0"),
            Arguments::none().kwarg(OWN, "x"),
            Arguments::none().kwarg("x", &format!("a {OWN} in a text")),
        ] {
            let (input, back) = sent(&arguments, None);
            assert!(input.is_object() && back == arguments, "{input}");
            assert!(!input.to_string().contains("\\u0000\""), "{input}");
        }
        // A worker of the official SDK finds the fields of its model.
        assert_eq!(sent(&args![json!({"url": "x"})], None).0["url"], "x");
    }

    #[test]
    fn inputs_of_others_are_named_arguments_or_refused() {
        let of = |text: &str| {
            let raw: &RawValue = serde_json::from_str(text).unwrap();
            decode(Some(raw)).map_err(str::to_owned)
        };
        assert_eq!(of(r#"{"a":1}"#), Ok(Arguments::none().kwarg("a", &1)));
        assert_eq!((of("null"), decode(None)), (Ok(Arguments::none()), Ok(Arguments::none())));
        assert!(of("[1]").is_err() && of(r#"{"_mageflow":1}"#).unwrap_err().contains("_mageflow"));
    }
}
