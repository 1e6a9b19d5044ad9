//! L2, Hatchet engine. What only this library writes and reads: a text under a key of its own, in the metadata of a run,
//! in its input and in its output. Workers and clients of the official SDKs pass it over.

use crate::{
    adapters::{Invocation, SignatureMark},
    task::{Differing, Json, Said, TaskData, TaskOptions, TaskOverrides},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};
use std::{collections::BTreeMap, sync::Arc};

/// The key of what is ours.
pub(crate) const OWN: &str = "_mageflow";
/// The key of an id of ours, for runs that are not known by the engine's alone.
pub(crate) const OWN_ID: &str = "_mageflow_id";
/// A key that the engine adds to runs that have none.
const TRACE: &str = "traceparent";
/// What the keys begin with that the engine adds by itself.
const OF_ENGINE: &str = "hatchet__";

/// Whether a JSON text comes back as it is from an engine that reads numbers as floating-point ones, and refuses the
/// character U+0000.
pub(crate) fn survives(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => match end_of_string(bytes, at) {
                Some(end) => at = end,
                None => return false,
            },
            b'-' | b'0'..=b'9' => {
                let token = bytes[at..]
                    .iter()
                    .take_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
                let end = at + token.count();
                if !number_survives(&text[at..end]) {
                    return false;
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    true
}

/// Behind the string that begins here, unless it has a character that the engine refuses.
fn end_of_string(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return Some(at + 1),
            b'\\' if bytes[at + 1..].starts_with(b"u0000") => return None,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    Some(bytes.len())
}

/// Integers that every floating-point number can be, and fractions, which are written in the shortest way on both sides.
fn number_survives(token: &str) -> bool {
    let digits = token.strip_prefix('-').unwrap_or(token);
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return digits.len() <= 15 && token != "-0";
    }
    let has_exponent = digits.bytes().any(|byte| matches!(byte, b'e' | b'E'));
    !has_exponent && digits.split_once('.').is_some_and(|(_, fraction)| fraction.bytes().any(|byte| byte != b'0'))
}

/// An object with one more entry, whose value is JSON text.
pub(crate) fn with_entry(object: &str, key: &str, value: &str) -> String {
    match object.strip_suffix('}') {
        Some("{") => format!("{{\"{key}\":{value}}}"),
        Some(open) => format!("{open},\"{key}\":{value}}}"),
        None => object.to_owned(),
    }
}

/// The entries of an object, unread.
pub(crate) type Entries<'a> = BTreeMap<std::borrow::Cow<'a, str>, &'a RawValue>;

/// The entries of an object that may have one of ours.
pub(crate) fn entries(object: &str) -> Option<Entries<'_>> {
    let may_have = object.contains(OWN);
    may_have.then(|| serde_json::from_str(object).ok()).flatten()
}

/// What a sender of ours says about a run, in its metadata.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    pub(crate) mark: Option<SignatureMark>,
    pub(crate) options: Option<Arc<TaskOptions>>,
    pub(crate) overrides: Option<Arc<TaskOverrides>>,
    pub(crate) queued_at: Option<DateTime<Utc>>,
    /// Attempts that were made in runs before this one.
    pub(crate) before: u32,
    /// Whether a sender of ours started it, who understands outputs of ours.
    pub(crate) is_ours: bool,
}

#[derive(Serialize)]
struct Written<'a> {
    /// In milliseconds since 1970.
    at: i64,
    /// Whether the task's data has what the engine adds where it is missing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    traced: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<&'a SignatureMark>,
    #[serde(skip_serializing_if = "Option::is_none")]
    options: Option<Differing<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    overrides: Option<Said<'a>>,
}

#[derive(Deserialize)]
struct Read {
    at: i64,
    #[serde(default)]
    traced: bool,
    #[serde(default)]
    before: u32,
    mark: Option<SignatureMark>,
    options: Option<Arc<TaskOptions>>,
    overrides: Option<Arc<TaskOverrides>>,
}

/// The metadata of a run: the task's data, and what is ours as text, which dashboards can show.
pub(crate) fn metadata(invocation: &Invocation, at: DateTime<Utc>, has_id: bool) -> Result<String, serde_json::Error> {
    let Invocation { mark, options, options_known, overrides, task_data, .. } = invocation;
    let own = serde_json::to_string(&Written {
        at: at.timestamp_millis(),
        traced: task_data.as_ref().is_some_and(|data| data.contains_key(TRACE)),
        mark: mark.as_ref(),
        options: options_known.then_some(Differing(options)),
        overrides: overrides.as_deref().map(Said),
    })?;
    let mut text = match task_data {
        Some(data) => serde_json::to_string(&**data)?,
        None => "{}".to_owned(),
    };
    if has_id {
        text = with_entry(&text, OWN_ID, &serde_json::to_string(&invocation.id)?);
    }
    Ok(with_entry(&text, OWN, &serde_json::to_string(&own)?))
}

/// The metadata of a run that goes on where another one ended, after so many attempts.
pub(crate) fn metadata_again(text: &str, at: DateTime<Utc>, before: u32) -> Option<String> {
    let mut all: Map<String, Value> = serde_json::from_str(text).ok()?;
    let mut own: Map<String, Value> = serde_json::from_str(all.get(OWN)?.as_str()?).ok()?;
    own.insert("at".into(), at.timestamp_millis().into());
    own.insert("before".into(), before.into());
    all.retain(|key, _| !key.starts_with(OF_ENGINE));
    all.insert(OWN.into(), serde_json::to_string(&own).ok()?.into());
    serde_json::to_string(&all).ok()
}

/// What the metadata of a run says: the task's data, and what is ours.
///
/// What a child was given by its parent is none of ours: the engine and the SDKs copy metadata from parents to children.
///
/// # Errors
/// What is wrong with it, without any of its text.
pub(crate) fn read_metadata(text: Option<&str>, is_child: bool) -> Result<(Option<TaskData>, Sent), &'static str> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok((None, Sent::default())) };
    let data: Option<Map<String, Value>> =
        serde_json::from_str(text).map_err(|_| "the metadata of the run is not a JSON object")?;
    let mut data = data.unwrap_or_default();
    data.remove(OWN_ID);
    let own = data.remove(OWN);
    data.retain(|key, _| !key.starts_with(OF_ENGINE));
    let sent = match own {
        Some(Value::String(own)) if !is_child => {
            let Read { at, traced, before, mark, options, overrides } = serde_json::from_str(&own)
                .map_err(|_| "`_mageflow` in the metadata of the run is not what this version of the library writes")?;
            if !traced {
                data.remove(TRACE);
            }
            Sent { mark, options, overrides, queued_at: DateTime::from_timestamp_millis(at), before, is_ours: true }
        }
        _ => Sent::default(),
    };
    Ok(((!data.is_empty()).then(|| Arc::new(data)), sent))
}

/// Facts of an attempt that the engine does not keep with its outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) attempt: u32,
    /// In milliseconds since 1970, like the next.
    pub(crate) started: i64,
    pub(crate) ended: i64,
}

impl Facts {
    pub(crate) fn started_at(&self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_millis(self.started)
    }

    pub(crate) fn ended_at(&self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_millis(self.ended)
    }
}

/// Text of JSON that was checked when it was read.
pub(crate) fn json(raw: &RawValue) -> Json {
    Json::from(raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        signature::{GraphId, SignatureKey},
        task::{Arguments, TaskName},
    };
    use serde_json::json;

    #[test]
    fn what_the_engine_would_change_is_found() {
        for kept in ["{}", r#"{"a":[1,-2.5,0.125,"1.0"],"b":null}"#, "999999999999999", r#""\\u0000""#, "0", "[true]"] {
            assert!(survives(kept), "{kept}");
        }
        for changed in ["1.0", "1e3", "9007199254740993", r#"{"a":-0}"#, r#"["x\u0000"]"#, "1000000000000000", "2.000"]
        {
            assert!(!survives(changed), "{changed}");
        }
    }

    #[test]
    fn metadata_comes_back_as_it_was_sent() {
        let mut invocation = Invocation::new(TaskName::from("t"), Arguments::none(), Arc::default());
        let mark = SignatureMark { key: SignatureKey::root(GraphId::new()).child(3), epoch: 7 };
        invocation.mark = Some(mark.clone());
        invocation.task_data = Some(Arc::new(Map::from_iter([("user".to_owned(), json!("Zoë"))])));
        invocation.overrides = Some(Arc::new(TaskOverrides { retries: Some(2), ..TaskOverrides::default() }));
        let at = DateTime::from_timestamp_millis(1_764_157_040_123).unwrap();
        let text = metadata(&invocation, at, true).unwrap();
        let values: Map<String, Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(values[OWN_ID], json!(invocation.id.to_string()));
        assert!(values[OWN].is_string() && values["user"] == "Zoë", "{text}");

        let (data, sent) = read_metadata(Some(&text), false).unwrap();
        assert_eq!(data.unwrap().get("user"), Some(&json!("Zoë")));
        assert_eq!((sent.mark.as_ref(), sent.queued_at, sent.is_ours), (Some(&mark), Some(at), true));
        assert_eq!((sent.options.unwrap().retries, sent.overrides.unwrap().retries), (0, Some(2)));
        let again = metadata_again(&text, at + chrono::TimeDelta::seconds(1), 3).unwrap();
        let (data, later) = read_metadata(Some(&again), false).unwrap();
        assert_eq!((later.before, later.mark.as_ref(), data.is_some()), (3, sent.mark.as_ref(), true));
        assert_eq!(later.queued_at, Some(at + chrono::TimeDelta::seconds(1)));
        // A child that somebody gave its parent's metadata.
        let (data, sent) = read_metadata(Some(&text), true).unwrap();
        assert!(data.is_some() && sent.mark.is_none() && !sent.is_ours);
    }

    #[test]
    fn metadata_of_others_is_data() {
        let of = |text: &str| read_metadata(Some(text), false);
        let (data, sent) = of(r#"{"a":1,"hatchet__event_id":"x"}"#).unwrap();
        assert_eq!((data.unwrap().len(), sent.is_ours), (1, false));
        assert!(of("{}").unwrap().0.is_none() && of("").unwrap().0.is_none() && of("null").unwrap().0.is_none());
        assert!(of("[1]").is_err() && of(r#"{"_mageflow":"secret"}"#).unwrap_err().contains("_mageflow"));
    }
}
