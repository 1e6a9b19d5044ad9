//! Objects of JSON whose values are looked at one by one and otherwise passed on as they are: headers, properties, options.

use crate::{
    task::Json,
    wire::{WireError, object, text::push_key},
};
use std::{borrow::Cow, sync::LazyLock};

/// The most entries of one object. Headers have about twenty.
const MOST: usize = 1024;

/// A JSON object, in order. A value that is `null` counts as missing, as it does in Celery.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Map(Vec<(Cow<'static, str>, Json)>);

impl Map {
    /// Reads an object. `field` is how an error names it.
    ///
    /// # Errors
    /// If it is none, or has too many entries.
    pub(crate) fn read(field: &'static str, json: &str) -> Result<Self, WireError> {
        let fields = object::fields(field, json)?;
        if fields.len() > MOST {
            return Err(WireError::Invalid { field, expected: "an object of at most 1024 entries" });
        }
        let entries = fields.into_iter().map(|(name, value)| (named(&name), shared(value)));
        Ok(Self(entries.collect()))
    }

    /// The same where nothing or `null` is an empty one.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn read_optional(field: &'static str, json: Option<&str>) -> Result<Self, WireError> {
        match json {
            None | Some("null") => Ok(Self::default()),
            Some(json) => Self::read(field, json),
        }
    }

    /// The value, unless it is missing or `null`. The last one of a name counts, as in Python.
    pub(crate) fn get(&self, name: &str) -> Option<&Json> {
        let found = self.0.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value).filter(|value| !value.is_null())
    }

    /// The value if it is a text.
    pub(crate) fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        object::decoded(self.get(name)?.as_str())
    }

    /// The value if it is a whole number.
    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        self.get(name)?.as_str().parse().ok()
    }

    /// The value if it is a number.
    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        self.get(name)?.as_str().parse().ok()
    }

    /// The value if it is true or false.
    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        self.get(name)?.as_str().parse().ok()
    }

    /// The values of a list; one value that is no list counts as a list of it.
    pub(crate) fn list(&self, name: &str) -> Vec<Json> {
        let Some(value) = self.get(name) else { return Vec::new() };
        match object::items("a list", value.as_str()) {
            Ok(items) => items.into_iter().map(Json::from_valid).collect(),
            Err(_) => vec![value.clone()],
        }
    }

    /// Sets a value, in the place where it stood or at the end.
    pub(crate) fn set(&mut self, name: impl Into<Cow<'static, str>>, value: Json) {
        let name = name.into();
        match self.0.iter_mut().rev().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name, value)),
        }
    }

    pub(crate) fn set_text(&mut self, name: impl Into<Cow<'static, str>>, value: &str) {
        self.set(name, text(value));
    }

    pub(crate) fn set_int(&mut self, name: impl Into<Cow<'static, str>>, value: i64) {
        self.set(name, Json::from_valid(value.to_string()));
    }

    /// A text, or `null`.
    pub(crate) fn set_optional(&mut self, name: impl Into<Cow<'static, str>>, value: Option<&str>) {
        self.set(name, value.map_or_else(Json::null, text));
    }

    /// Takes a value out; `None` if it was missing or `null`.
    pub(crate) fn remove(&mut self, name: &str) -> Option<Json> {
        let mut found = None;
        self.0.retain_mut(|(known, value)| {
            let is_it = known == name;
            if is_it {
                found = Some(std::mem::take(value));
            }
            !is_it
        });
        found.filter(|value| !value.is_null())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends it as JSON.
    pub(crate) fn write(&self, out: &mut String) {
        out.push('{');
        for (name, value) in &self.0 {
            push_key(out, name);
            out.push_str(value.as_str());
        }
        out.push('}');
    }

    pub(crate) fn to_json(&self) -> Json {
        let mut out = String::with_capacity(32 * self.0.len() + 2);
        self.write(&mut out);
        Json::from_valid(out)
    }
}

/// Names of headers and properties that nearly all messages have, so that they need no memory of their own.
const USUAL: [&str; 27] = [
    "lang",
    "task",
    "id",
    "shadow",
    "eta",
    "expires",
    "group",
    "group_index",
    "retries",
    "timelimit",
    "root_id",
    "parent_id",
    "argsrepr",
    "kwargsrepr",
    "origin",
    "ignore_result",
    "replaced_task_nesting",
    "stamped_headers",
    "stamps",
    "correlation_id",
    "reply_to",
    "delivery_mode",
    "delivery_info",
    "priority",
    "body_encoding",
    "delivery_tag",
    "mageflow_options",
];

fn named(name: &str) -> Cow<'static, str> {
    let usual = USUAL.iter().find(|usual| **usual == name);
    usual.map_or_else(|| Cow::Owned(name.to_owned()), |usual| Cow::Borrowed(*usual))
}

/// Values that most headers have, once for all of them.
fn shared(value: &str) -> Json {
    static SHARED: LazyLock<[Json; 5]> = LazyLock::new(|| ["null", "{}", "0", "true", "false"].map(Json::from_valid));
    let known = SHARED.iter().find(|json| json.as_str() == value);
    known.cloned().unwrap_or_else(|| Json::from_valid(value))
}

/// A text as JSON.
pub(crate) fn text(value: &str) -> Json {
    Json::from_valid(crate::wire::text::string(value))
}

/// A list of values as JSON.
pub(crate) fn list<'a>(values: impl IntoIterator<Item = &'a Json>) -> Json {
    let mut out = String::from("[");
    for value in values {
        if out.len() > 1 {
            out.push(',');
        }
        out.push_str(value.as_str());
    }
    out.push(']');
    Json::from_valid(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_passed_on_as_they_were() {
        let json = r#"{"a":18446744073709551616,"b":null,"c":[1, {"d":1.50}],"ü\n":"x"}"#;
        let mut map = Map::read("x", json).unwrap();
        assert_eq!(map.to_json().as_str(), json);
        assert!(map.get("b").is_none() && map.get("z").is_none());
        assert_eq!(map.text("ü\n").as_deref(), Some("x"));
        assert_eq!(map.list("c").len(), 2);
        assert_eq!(map.list("ü\n"), [text("x")]);
        map.set_int("b", 3);
        assert_eq!((map.int("b"), map.remove("b").is_some(), map.int("b")), (Some(3), true, None));
        assert!(Map::read("x", "[]").is_err() && Map::read_optional("x", Some("null")).unwrap().is_empty());
    }
}
