use super::*;
use serde::{Deserialize, Deserializer};
use std::collections::{BTreeMap, HashMap};

fn fields<T: DeserializeOwned>() -> Vec<(String, bool)> {
    match shape_of::<T>() {
        Shape::Fields(fields) => fields.into_iter().map(|field| (field.name, field.required)).collect(),
        other => panic!("{other:?}"),
    }
}

fn owned<const N: usize>(fields: [(&str, bool); N]) -> Vec<(String, bool)> {
    fields.map(|(name, required)| (name.to_owned(), required)).to_vec()
}

fn date_time() -> Value {
    json!({"type": "string", "format": "date-time"})
}

#[derive(Deserialize)]
#[expect(dead_code)]
struct Order {
    id: u64,
    #[serde(rename = "when")]
    at: chrono::DateTime<chrono::Utc>,
    note: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    customer: Customer,
    after_customer: i8,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code)]
struct Customer {
    full_name: String,
    balance: f64,
}

#[test]
fn a_struct_tells_its_fields_and_which_are_required() {
    let expected =
        [("id", true), ("when", true), ("note", false), ("tags", false), ("customer", true), ("after_customer", true)];
    assert_eq!(fields::<Order>(), owned(expected));
    let expected = json!({
        "type": "object",
        "title": "Order",
        "properties": {
            "id": {"type": "integer", "minimum": 0, "maximum": u64::MAX},
            "when": date_time(),
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "tags": {"type": "array", "items": {"type": "string"}},
            "customer": {
                "type": "object",
                "title": "Customer",
                "properties": {"fullName": {"type": "string"}, "balance": {"type": "number"}},
                "required": ["fullName", "balance"],
            },
            "after_customer": {"type": "integer", "minimum": -128, "maximum": 127},
        },
        "required": ["id", "when", "customer", "after_customer"],
    });
    assert_eq!(schema_of::<Order>(), expected);
}

#[test]
fn a_struct_with_defaults_requires_nothing() {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Options {
        a: i32,
        b: chrono::NaiveDate,
    }
    assert_eq!(fields::<Options>(), owned([("a", false), ("b", false)]));
    assert_eq!(schema_of::<Options>().get("required"), None);
}

#[test]
fn simple_types() {
    assert_eq!(schema_of::<bool>(), json!({"type": "boolean"}));
    assert_eq!(schema_of::<f32>(), json!({"type": "number"}));
    assert_eq!(schema_of::<char>(), json!({"type": "string", "minLength": 1, "maxLength": 1}));
    assert_eq!(schema_of::<()>(), json!({"type": "null"}));
    assert_eq!(schema_of::<i128>(), json!({"type": "integer"}));
    assert_eq!(schema_of::<u128>(), json!({"type": "integer", "minimum": 0}));
    assert_eq!(schema_of::<std::num::NonZeroU8>(), json!({"type": "integer", "minimum": 0, "maximum": 255}));
    assert_eq!(schema_of::<uuid::Uuid>(), json!({"type": "string", "format": "uuid"}));
    assert_eq!(schema_of::<std::net::Ipv4Addr>(), json!({"type": "string", "format": "ipv4"}));
    assert_eq!(schema_of::<Vec<Option<bool>>>()["items"]["anyOf"][1], json!({"type": "null"}));
    for shape in [shape_of::<i64>(), shape_of::<String>(), shape_of::<()>(), shape_of::<Vec<u8>>()] {
        assert_eq!(shape, Shape::Value);
    }
}

#[test]
fn tuples_and_arrays() {
    let pair = schema_of::<(bool, String)>();
    assert_eq!(pair["prefixItems"], json!([{"type": "boolean"}, {"type": "string"}]));
    let array = json!({"type": "array", "items": {"type": "boolean"}, "minItems": 3, "maxItems": 3});
    assert_eq!(schema_of::<[bool; 3]>(), array);
    #[derive(Deserialize)]
    #[expect(dead_code)]
    struct Point(f64, chrono::DateTime<chrono::Utc>, bool);
    assert_eq!(schema_of::<Point>()["prefixItems"], json!([{"type": "number"}, date_time(), {"type": "boolean"}]));
}

#[test]
fn maps_are_objects() {
    let expected = json!({"type": "object", "additionalProperties": {"type": "boolean"}});
    assert_eq!(schema_of::<HashMap<String, bool>>(), expected);
    assert_eq!(schema_of::<BTreeMap<chrono::NaiveDate, bool>>(), expected);
    assert_eq!(schema_of::<HashMap<u32, bool>>(), expected);
    assert_eq!(shape_of::<HashMap<String, bool>>(), Shape::AnyObject);
}

#[test]
fn whatever_comes_is_true() {
    #[derive(Deserialize)]
    #[serde(untagged)]
    #[expect(dead_code)]
    enum Either {
        Number(i64),
        Text(String),
    }
    #[derive(Deserialize)]
    #[serde(tag = "kind")]
    #[expect(dead_code)]
    enum Tagged {
        A { x: i32 },
        B,
    }
    for schema in [schema_of::<Value>(), schema_of::<Either>(), schema_of::<Tagged>(), schema_of::<crate::Json>()] {
        assert_eq!(schema, Value::Bool(true));
    }
    for shape in [shape_of::<Value>(), shape_of::<Tagged>(), shape_of::<crate::Json>()] {
        assert_eq!(shape, Shape::AnyObject);
    }
    #[derive(Deserialize)]
    #[expect(dead_code)]
    struct Holder {
        before: Value,
        raw: crate::Json,
        either: Either,
        after: i64,
    }
    assert_eq!(fields::<Holder>(), owned([("before", true), ("raw", true), ("either", true), ("after", true)]));
}

#[test]
fn flattened_structs_are_objects() {
    #[derive(Deserialize)]
    #[expect(dead_code)]
    struct Outer {
        id: u32,
        #[serde(flatten)]
        inner: Customer,
    }
    assert_eq!(schema_of::<Outer>(), json!({"type": "object"}));
    assert_eq!(shape_of::<Outer>(), Shape::AnyObject);
}

#[test]
fn enums() {
    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Level {
        Low,
        High,
    }
    assert_eq!(schema_of::<Level>(), json!({"title": "Level", "type": "string", "enum": ["low", "high"]}));
    #[derive(Deserialize)]
    #[expect(dead_code)]
    enum Figure {
        Nothing,
        Circle(f64),
        Line(bool, bool),
        Square { side: u8 },
    }
    let schema = schema_of::<Figure>();
    let choices = schema["oneOf"].as_array().unwrap();
    assert_eq!(choices[0], json!({"type": "string", "enum": ["Nothing"]}));
    assert_eq!(choices[1]["properties"]["Circle"], json!({"type": "number"}));
    assert_eq!(choices[2]["properties"]["Line"]["maxItems"], json!(2));
    assert_eq!(choices[3]["properties"]["Square"]["required"], json!(["side"]));
    #[derive(Deserialize)]
    #[expect(dead_code)]
    struct Holder {
        figure: Figure,
        level: Level,
        last: bool,
    }
    assert_eq!(fields::<Holder>(), owned([("figure", true), ("level", true), ("last", true)]));
}

#[test]
fn newtypes_are_what_is_in_them() {
    #[derive(Deserialize)]
    struct Id(#[expect(dead_code)] chrono::DateTime<chrono::Utc>);
    #[derive(Deserialize)]
    struct Wrapped(#[expect(dead_code)] Customer);
    assert_eq!(schema_of::<Id>(), date_time());
    assert_eq!(fields::<Wrapped>(), owned([("fullName", true), ("balance", true)]));
}

#[test]
fn recursion_ends() {
    #[derive(Deserialize)]
    #[expect(dead_code)]
    struct Tree {
        name: String,
        left: Option<Box<Tree>>,
        children: Vec<Tree>,
        named: HashMap<String, Tree>,
        last: bool,
    }
    let schema = schema_of::<Tree>();
    assert_eq!(schema["properties"]["left"], Value::Bool(true));
    assert_eq!(schema["properties"]["children"], json!({"type": "array", "items": true}));
    assert_eq!(schema["required"], json!(["name", "children", "named", "last"]));
    #[derive(Deserialize)]
    #[expect(dead_code)]
    enum Term {
        Sum(Box<Term>, Box<Term>),
        List(Vec<Term>),
        Number(f64),
    }
    assert_eq!(schema_of::<Term>()["oneOf"].as_array().unwrap().len(), 3);
    #[derive(Deserialize)]
    struct Nested(#[expect(dead_code)] Vec<Nested>);
    assert_eq!(schema_of::<Nested>(), json!({"type": "array", "items": true}));
    // The same generic type twice is not recursion.
    #[derive(Deserialize)]
    #[expect(dead_code)]
    struct Page<T> {
        item: T,
    }
    let twice = schema_of::<Page<Page<bool>>>();
    assert_eq!(twice["properties"]["item"]["properties"]["item"], json!({"type": "boolean"}));
}

#[test]
fn types_that_grow_without_end_are_described_in_part() {
    macro_rules! wide {
        ($($name:ident($next:ty))*) => {$(
            #[derive(Deserialize)]
            #[expect(dead_code)]
            struct $name { a: Box<$next>, b: Box<$next>, c: Box<$next>, d: Box<$next>, e: Box<$next>, f: Box<$next> }
        )*};
    }
    wide! { A(B) B(C) C(D) D(E) E(F) F(bool) }
    let begin = std::time::Instant::now();
    assert_eq!(schema_of::<A>()["type"], json!("object"));
    assert!(begin.elapsed().as_secs() < 5, "{:?}", begin.elapsed());
}

#[test]
fn unusual_types_do_no_harm() {
    struct Panics;
    impl<'de> Deserialize<'de> for Panics {
        fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            panic!("a probe, this is no failure");
        }
    }
    struct Refuses;
    impl<'de> Deserialize<'de> for Refuses {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            String::deserialize(deserializer)?;
            Err(serde::de::Error::custom("never"))
        }
    }
    #[derive(Deserialize)]
    #[serde(try_from = "String")]
    struct Even;
    impl TryFrom<String> for Even {
        type Error = String;
        fn try_from(text: String) -> Result<Self, String> {
            if text == "1s" { Ok(Self) } else { Err(text) }
        }
    }
    #[derive(Deserialize)]
    #[expect(dead_code)]
    struct Holder {
        even: Even,
        refuses: Refuses,
        unknown: bool,
    }
    assert_eq!(schema_of::<Panics>(), Value::Bool(true));
    assert_eq!(schema_of::<Refuses>(), json!({"type": "string"}));
    // What comes after a value that cannot be made up is not known to be required.
    assert_eq!(fields::<Holder>(), owned([("even", true), ("refuses", true), ("unknown", false)]));
}

#[test]
fn standard_and_own_types() {
    assert_eq!(fields::<std::time::Duration>(), owned([("secs", true), ("nanos", true)]));
    assert_eq!(schema_of::<crate::task::TaskFailure>()["required"], json!(["kind", "message"]));
    assert_eq!(schema_of::<std::collections::BTreeSet<bool>>()["type"], json!("array"));
    assert_eq!(schema_of::<std::borrow::Cow<'static, str>>(), json!({"type": "string"}));
    assert_eq!(schema_of::<Result<bool, String>>()["oneOf"].as_array().unwrap().len(), 2);
    assert_eq!(schema_of::<std::path::PathBuf>(), json!({"type": "string"}));
    assert_eq!(schema_of::<std::time::SystemTime>()["type"], json!("object"));
}
