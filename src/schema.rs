//! L0. JSON Schema of any type that serde can decode, found by decoding it: no derive, no dependency.
//!
//! A type's `Deserialize` asks its deserializer for what it expects. [`trace`] answers with a deserializer that writes
//! the questions down. One decoding visits one field or variant, so a type is decoded as often as it has parts.
//!
//! What cannot be found out is `true`, which allows anything: types that take whatever comes (`serde_json::Value`,
//! untagged and internally tagged enums), recursion, and the parts behind a value that none of the probes satisfies.

mod node;
mod trace;

use crate::task::ParameterInfo;
use node::{Content, Form, Node};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// The JSON Schema (draft 2020-12) of `T`.
pub(crate) fn schema_of<T: DeserializeOwned>() -> Value {
    schema(&trace::trace::<T>())
}

/// What arguments a type is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A struct: its fields are named arguments.
    Fields(Vec<ParameterInfo>),
    /// A map, or a type that takes whatever comes.
    AnyObject,
    /// Anything else: one value.
    Value,
}

/// What arguments `T` is made of.
pub(crate) fn shape_of<T: DeserializeOwned>() -> Shape {
    match trace::trace::<T>().content {
        Content::Struct { fields, required, .. } => {
            let info = |name: &'static str| ParameterInfo { name: name.to_owned(), required: required.contains(&name) };
            Shape::Fields(fields.iter().map(|(name, _)| info(name)).collect())
        }
        Content::Map { .. } | Content::Any => Shape::AnyObject,
        _ => Shape::Value,
    }
}

fn schema(node: &Node) -> Value {
    match &node.content {
        Content::Unknown | Content::Any => Value::Bool(true),
        Content::Null => json!({"type": "null"}),
        Content::Bool => json!({"type": "boolean"}),
        Content::Number => json!({"type": "number"}),
        Content::Char => json!({"type": "string", "minLength": 1, "maxLength": 1}),
        Content::Text { format } => match format.filter(|_| node.satisfied) {
            Some(format) => json!({"type": "string", "format": format}),
            None => json!({"type": "string"}),
        },
        Content::Bytes => json!({"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}}),
        Content::Integer { least, most } => integer(least.as_ref(), most.as_ref()),
        Content::Optional(inner) => optional(schema(inner)),
        Content::List(item) => json!({"type": "array", "items": schema(item)}),
        Content::Tuple(items) => tuple(items),
        Content::Map { value, .. } => match schema(value) {
            Value::Bool(true) => json!({"type": "object"}),
            value => json!({"type": "object", "additionalProperties": value}),
        },
        Content::Struct { title, fields, required } => object(title, fields, required),
        Content::Enum { title, variants } => choice(title, variants),
    }
}

fn integer(least: Option<&Value>, most: Option<&Value>) -> Value {
    let mut schema = json!({"type": "integer"});
    for (key, bound) in [("minimum", least), ("maximum", most)] {
        if let Some(bound) = bound {
            schema[key] = bound.clone();
        }
    }
    schema
}

fn optional(inner: Value) -> Value {
    match inner {
        Value::Bool(true) => inner,
        inner => json!({"anyOf": [inner, {"type": "null"}]}),
    }
}

fn tuple(items: &[Node]) -> Value {
    let schemas: Vec<Value> = items.iter().map(schema).collect();
    let mut tuple = json!({"type": "array", "minItems": items.len(), "maxItems": items.len()});
    match &schemas[..] {
        // A Rust array, most likely.
        [first, rest @ ..] if !rest.is_empty() && rest.iter().all(|schema| schema == first) => {
            tuple["items"] = first.clone();
        }
        [] => {}
        schemas => tuple["prefixItems"] = schemas.into(),
    }
    tuple
}

fn object(title: &str, fields: &[(&'static str, Node)], required: &[&str]) -> Value {
    let properties: Map<String, Value> = fields.iter().map(|(name, node)| ((*name).to_owned(), schema(node))).collect();
    let mut object = json!({"type": "object", "properties": properties});
    if !title.is_empty() {
        object["title"] = title.into();
    }
    if !required.is_empty() {
        object["required"] = required.into();
    }
    object
}

fn choice(title: &str, variants: &[node::Variant]) -> Value {
    let is_unit = |variant: &&node::Variant| variant.form == Form::Unit;
    let names: Vec<&str> = variants.iter().filter(is_unit).map(|variant| variant.name).collect();
    let data = variants.iter().filter(|variant| !is_unit(variant)).map(|variant| {
        json!({
            "type": "object",
            "properties": {variant.name: schema(&variant.payload)},
            "required": [variant.name],
            "additionalProperties": false,
        })
    });
    let mut choices: Vec<Value> = data.collect();
    if !names.is_empty() {
        choices.insert(0, json!({"type": "string", "enum": names}));
    }
    let mut schema = match choices.len() {
        1 => choices.remove(0),
        _ => json!({"oneOf": choices}),
    };
    schema["title"] = title.into();
    schema
}

#[cfg(test)]
mod tests;
