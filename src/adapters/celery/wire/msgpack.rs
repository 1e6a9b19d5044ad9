//! L2, Celery engine. Bodies that kombu's serializer `msgpack` has written, as JSON. Pure.

use super::WireError;
use crate::wire::Limits;
use rmpv::{ValueRef, decode::read_value_ref_with_max_depth};
use serde_json::{Map, Number, Value};

/// # Errors
/// If these are no such bytes, or have in them what JSON has no form for.
pub(super) fn to_json(bytes: &[u8], limits: &Limits) -> Result<String, WireError> {
    let mut rest = bytes;
    let value = read_value_ref_with_max_depth(&mut rest, limits.depth).map_err(|_| invalid("a msgpack value"))?;
    if !rest.is_empty() {
        return Err(invalid("one msgpack value"));
    }
    serde_json::to_string(&json(value)?).map_err(|error| WireError::json(&error))
}

fn invalid(expected: &'static str) -> WireError {
    WireError::Invalid { field: "body", expected }
}

fn json(value: ValueRef<'_>) -> Result<Value, WireError> {
    Ok(match value {
        ValueRef::Nil => Value::Null,
        ValueRef::Boolean(is) => Value::Bool(is),
        ValueRef::Integer(number) => {
            let small = number.as_i64().map(Number::from).or_else(|| number.as_u64().map(Number::from));
            Value::Number(small.ok_or(invalid("integers of 64 bits"))?)
        }
        ValueRef::F32(number) => float(number.into())?,
        ValueRef::F64(number) => float(number)?,
        ValueRef::String(text) => Value::String(text.into_str().ok_or(invalid("texts in UTF-8"))?.to_owned()),
        ValueRef::Binary(bytes) => {
            let text = std::str::from_utf8(bytes).map_err(|_| invalid("bytes that are text"))?;
            Value::String(text.to_owned())
        }
        ValueRef::Array(items) => Value::Array(items.into_iter().map(json).collect::<Result<_, _>>()?),
        ValueRef::Map(entries) => {
            let mut object = Map::new();
            for (key, value) in entries {
                let Value::String(key) = json(key)? else { return Err(invalid("maps whose keys are texts")) };
                object.insert(key, json(value)?);
            }
            Value::Object(object)
        }
        ValueRef::Ext(..) => return Err(invalid("plain values: extension types are not read")),
    })
}

fn float(number: f64) -> Result<Value, WireError> {
    Number::from_f64(number).map(Value::Number).ok_or(invalid("numbers that JSON has"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<String, WireError> {
        to_json(bytes, &Limits::default())
    }

    #[test]
    fn bodies_of_python_are_read() {
        // msgpack.packb([[1, -2, 2.5, "ä", b"hi", None, True], {"a": [2**63]}, {"chord": None}])
        let bytes = b"\x93\x97\x01\xfe\xcb\x40\x04\0\0\0\0\0\0\xa2\xc3\xa4\xc4\x02hi\xc0\xc3\x81\xa1a\x91\xcf\x80\0\0\0\0\0\0\0\x81\xa5chord\xc0";
        let json = r#"[[1,-2,2.5,"ä","hi",null,true],{"a":[9223372036854775808]},{"chord":null}]"#;
        assert_eq!(read(bytes).unwrap(), json);
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for broken in [
            &b""[..],
            b"\x93",
            b"\x01\x02",
            b"\xd4\x01\x05",
            b"\x81\x01\x02",
            b"\xcb\x7f\xf8\0\0\0\0\0\0",
            b"\xc4\x01\xff",
            b"\xdd\xff\xff\xff\xff",
            &[0x91; 100_000],
        ] {
            assert!(read(broken).is_err(), "{:?}", broken.get(..8));
        }
    }
}
