//! The bytes of a message: what serializers and compressions of kombu have made of its arguments.

use super::{WireError, map, msgpack};
use crate::{
    task::Json,
    wire::{Limits, object, pickle::Pickled, text::deeper_than},
};
use flate2::{
    Compression,
    read::{MultiGzDecoder, ZlibDecoder},
    write::ZlibEncoder,
};
use std::{
    borrow::Cow,
    io::{Read, Write},
};

/// The type of all that is written here.
pub(crate) const JSON: &str = "application/json";
const MSGPACK: &str = "application/x-msgpack";
const PICKLE: &str = "application/x-python-serialize";
/// What kombu calls both `zlib` and `gzip`, and is a zlib stream.
pub(crate) const ZLIB: &str = "application/x-gzip";

/// What becomes of the result beside the task's own arguments: who is called next, and whom it belongs to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Embed {
    pub(crate) callbacks: Vec<Json>,
    pub(crate) errbacks: Vec<Json>,
    /// Reversed: the next step is the last element.
    pub(crate) chain: Vec<Json>,
    /// The body of the chord that this is a header task of.
    pub(crate) chord: Option<Json>,
}

/// A body taken apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Body {
    /// A list.
    pub(crate) args: Json,
    /// An object.
    pub(crate) kwargs: Json,
    pub(crate) embed: Embed,
}

/// The JSON text of bytes in whatever form they are. That it is JSON is not looked at yet.
///
/// # Errors
/// If the form is not read, or is another one than it says.
pub(crate) fn text<'a>(
    bytes: &'a [u8],
    content_type: &str,
    compression: Option<&str>,
    pickle: bool,
    limits: &Limits,
) -> Result<Cow<'a, str>, WireError> {
    let bytes = match compression {
        None => Cow::Borrowed(bytes),
        Some(ZLIB) => Cow::Owned(inflated(bytes, limits)?),
        Some(_) => return Err(WireError::Invalid { field: "compression", expected: "zlib or gzip" }),
    };
    limits.check_size(bytes.len())?;
    let text = match content_type {
        // Messages of others may lack it; what they contain is told by itself.
        JSON | "" => match bytes {
            Cow::Borrowed(bytes) => Cow::Borrowed(object::utf8(bytes)?),
            Cow::Owned(bytes) => Cow::Owned(object::utf8(&bytes)?.to_owned()),
        },
        MSGPACK => Cow::Owned(msgpack::to_json(&bytes, limits)?),
        PICKLE if pickle => Cow::Owned(Pickled::read(&bytes, limits)?.to_json()?),
        PICKLE => {
            return Err(WireError::Invalid {
                field: "content-type",
                expected: "JSON; pickles are refused unless they are allowed, see `accept_pickle`",
            });
        }
        _ => {
            return Err(WireError::Invalid {
                field: "content-type",
                expected: "application/json or application/x-msgpack",
            });
        }
    };
    if deeper_than(limits.depth, text.as_bytes()) {
        return Err(WireError::TooDeep { limit: limits.depth });
    }
    Ok(text)
}

fn inflated(bytes: &[u8], limits: &Limits) -> Result<Vec<u8>, WireError> {
    let most = limits.bytes as u64 + 1;
    let mut out = Vec::new();
    let read = match bytes {
        // Some clients mean what they say.
        [0x1f, 0x8b, ..] => MultiGzDecoder::new(bytes).take(most).read_to_end(&mut out),
        _ => ZlibDecoder::new(bytes).take(most).read_to_end(&mut out),
    };
    read.map_err(|_| WireError::Invalid { field: "the compressed bytes", expected: "a zlib stream" })?;
    limits.check_size(out.len())?;
    Ok(out)
}

/// The same bytes as a zlib stream.
pub(crate) fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::with_capacity(bytes.len() / 2), Compression::default());
    // A vector takes everything.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

impl Body {
    /// Takes the body of protocol 2 apart.
    ///
    /// # Errors
    /// If it is none.
    pub(crate) fn read(json: &str) -> Result<Self, WireError> {
        let items = object::items("body", json)?;
        let [args, kwargs, embed] = items[..] else {
            return Err(WireError::Invalid {
                field: "body",
                expected: "a list of arguments, named arguments and `embed`",
            });
        };
        Ok(Self { embed: Embed::read(embed)?, ..Self::of_parts(args, kwargs)? })
    }

    /// The same from arguments alone. Named ones may be `null`.
    pub(super) fn of_parts(args: &str, kwargs: &str) -> Result<Self, WireError> {
        object::expect("args", args, '[', "an array")?;
        let kwargs = if kwargs == "null" { "{}" } else { kwargs };
        object::expect("kwargs", kwargs, '{', "an object")?;
        Ok(Self { args: Json::from_valid(args), kwargs: Json::from_valid(kwargs), embed: Embed::default() })
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let mut out = String::with_capacity(self.args.as_str().len() + self.kwargs.as_str().len() + 96);
        out.push('[');
        out.push_str(self.args.as_str());
        out.push(',');
        out.push_str(self.kwargs.as_str());
        out.push(',');
        self.embed.write(&mut out);
        out.push(']');
        out.into_bytes()
    }
}

impl Embed {
    fn read(json: &str) -> Result<Self, WireError> {
        let map = map::Map::read_optional("embed", Some(json))?;
        Ok(Self {
            callbacks: map.list("callbacks"),
            errbacks: map.list("errbacks"),
            chain: map.list("chain"),
            chord: map.get("chord").cloned(),
        })
    }

    fn write(&self, out: &mut String) {
        let list = |list: &[Json]| if list.is_empty() { Json::null() } else { map::list(list) };
        let chord = self.chord.as_ref().map_or("null", Json::as_str);
        let parts =
            [("callbacks", list(&self.callbacks)), ("errbacks", list(&self.errbacks)), ("chain", list(&self.chain))];
        out.push('{');
        for (name, value) in parts {
            out.push_str(&format!("\"{name}\":{value},"));
        }
        out.push_str(&format!("\"chord\":{chord}}}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn bodies_come_back_as_they_were() {
        let json = r#"[[1],{"a":18446744073709551616},{"callbacks":[{"task":"x"}],"errbacks":null,"chain":[1,2],"chord":{"task":"y"}}]"#;
        let body = Body::read(json).unwrap();
        assert_eq!((body.embed.callbacks.len(), body.embed.chain.len()), (1, 2));
        assert_eq!(String::from_utf8(body.write()).unwrap(), json);
        assert_eq!(Body::read("[[],null,null]").unwrap().kwargs.as_str(), "{}");
        for broken in ["[]", "[[],{}]", "{}", "[null,{},{}]", "[[],[],{}]", "[[],{},[]]"] {
            assert!(Body::read(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn compressed_bodies_are_read_with_a_limit() {
        // What kombu 5.7 makes of `[[1], {}, {}]` with `compression='gzip'`.
        let captured = hex("789c8b8e368cd551a8ae05e158001ba8042a");
        let limits = Limits::default();
        assert_eq!(text(&captured, JSON, Some(ZLIB), false, &limits).unwrap(), "[[1], {}, {}]");
        let bomb = deflated(&vec![b' '; 1 << 20]);
        assert!(matches!(
            text(&bomb, JSON, Some(ZLIB), false, &Limits::with_bytes(1000)),
            Err(WireError::TooLarge { .. })
        ));
        assert_eq!(text(&deflated(b"[1]"), JSON, Some(ZLIB), false, &limits).unwrap(), "[1]");
        assert!(text(b"[1]", JSON, Some(ZLIB), false, &limits).is_err());
        assert!(text(b"[1]", JSON, Some("application/zstd"), false, &limits).is_err());
    }

    #[test]
    fn pickles_are_refused_unless_they_are_allowed() {
        let pickle = hex("80049509000000000000005d94284b014b02652e");
        let limits = Limits::default();
        let refused = text(&pickle, PICKLE, None, false, &limits).unwrap_err().to_string();
        assert!(refused.contains("accept_pickle"), "{refused}");
        assert_eq!(text(&pickle, PICKLE, None, true, &limits).unwrap(), "[1,2]");
        assert!(text(b"[]", "application/x-yaml", None, true, &limits).is_err());
        assert!(text(b"[]", "application/json; charset=utf-8", None, true, &limits).is_err());
    }
}
