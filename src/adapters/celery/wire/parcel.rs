//! A message as brokers carry it, and how kombu's virtual transports put it into one JSON text (`kombu/transport/virtual`).

use super::{WireError, map::Map, values::mended};
use crate::wire::{
    Limits, object,
    text::{deeper_than, push_key, push_string},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::borrow::Cow;

/// Headers, properties and bytes. On AMQP these are in different places, on Redis in one text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Parcel {
    pub(crate) content_type: String,
    pub(crate) content_encoding: String,
    pub(crate) headers: Map,
    pub(crate) properties: Map,
    pub(crate) body: Vec<u8>,
}

/// Where a parcel is sent, or came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Route {
    /// Empty for the default exchange, where the routing key is the name of a queue.
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
}

impl Route {
    /// Straight to a queue.
    pub(crate) fn queue(name: impl Into<String>) -> Self {
        Self { exchange: String::new(), routing_key: name.into() }
    }
}

const DELIVERY_INFO: &str = "delivery_info";

impl Parcel {
    /// Reads kombu's JSON text.
    ///
    /// # Errors
    /// What is wrong with it. Headers and properties that are missing are empty.
    pub(crate) fn decode(bytes: &[u8], limits: &Limits) -> Result<Self, WireError> {
        limits.check_size(bytes.len())?;
        let json = object::utf8(bytes)?;
        if deeper_than(limits.depth, bytes) {
            return Err(WireError::TooDeep { limit: limits.depth });
        }
        match object::fields("the message", json) {
            Ok(fields) => Self::of_fields(&fields),
            // Python writes more than JSON has.
            Err(_) => Self::of_fields(&object::fields("the message", &json_text(bytes)?)?),
        }
    }

    fn of_fields(fields: &object::Fields<'_>) -> Result<Self, WireError> {
        let text = |name| object::get(fields, name).and_then(object::decoded).unwrap_or_default().into_owned();
        let properties = Map::read_optional("properties", object::get(fields, "properties"))?;
        let body = object::string("body", object::require(fields, "body")?)?;
        let body = match properties.text("body_encoding").as_deref() {
            Some("base64") => STANDARD
                .decode(&*body)
                .map_err(|_| WireError::Invalid { field: "body", expected: "a text in Base64" })?,
            _ => body.into_owned().into_bytes(),
        };
        Ok(Self {
            content_type: text("content-type"),
            content_encoding: text("content-encoding"),
            headers: Map::read_optional("headers", object::get(fields, "headers"))?,
            properties,
            body,
        })
    }

    /// Writes kombu's JSON text, under a tag that no other message has.
    pub(crate) fn encode(&self, route: &Route, tag: &str) -> Vec<u8> {
        let mut out = String::with_capacity(self.body.len() * 4 / 3 + 1024);
        out.push_str("{\"body\":\"");
        STANDARD.encode_string(&self.body, &mut out);
        out.push_str("\",\"content-encoding\":");
        push_string(&mut out, &self.content_encoding);
        out.push_str(",\"content-type\":");
        push_string(&mut out, &self.content_type);
        out.push_str(",\"headers\":");
        self.headers.write(&mut out);
        out.push_str(",\"properties\":{");
        for (name, value) in self.properties.iter() {
            if !matches!(name, DELIVERY_INFO | "body_encoding" | "delivery_tag" | "delivery_mode") {
                push_key(&mut out, name);
                out.push_str(value.as_str());
            }
        }
        push_key(&mut out, "delivery_mode");
        out.push_str("2,\"delivery_info\":{\"exchange\":");
        push_string(&mut out, &route.exchange);
        out.push_str(",\"routing_key\":");
        push_string(&mut out, &route.routing_key);
        out.push_str("},\"body_encoding\":\"base64\",\"delivery_tag\":");
        push_string(&mut out, tag);
        out.push_str("}}");
        out.into_bytes()
    }

    /// Urgency as the properties say it.
    pub(crate) fn priority(&self) -> u8 {
        priority_of(&self.properties)
    }

    /// Where it was sent to, as far as it says.
    #[cfg(test)]
    pub(crate) fn route(&self) -> Route {
        let info = self.properties.get(DELIVERY_INFO).and_then(|json| Map::read(DELIVERY_INFO, json.as_str()).ok());
        let info = info.unwrap_or_default();
        let text = |name| info.text(name).unwrap_or_default().into_owned();
        Route { exchange: text("exchange"), routing_key: text("routing_key") }
    }

    /// Whether it was delivered before: by one who did not end it.
    pub(crate) fn is_redelivered(&self) -> bool {
        self.headers.flag("redelivered").unwrap_or_default()
    }
}

pub(super) fn priority_of(properties: &Map) -> u8 {
    u8::try_from(properties.number("priority").unwrap_or_default().clamp(0.0, 255.0) as i64).unwrap_or_default()
}

/// JSON text, mended where Python has written what strict JSON has not.
pub(super) fn json_text(bytes: &[u8]) -> Result<Cow<'_, str>, WireError> {
    let text = object::utf8(bytes)?;
    match serde_json::from_str::<&serde_json::value::RawValue>(text) {
        Ok(_) => Ok(Cow::Borrowed(text)),
        Err(error) => {
            let mended = mended(text);
            match serde_json::from_str::<&serde_json::value::RawValue>(&mended) {
                Ok(_) => Ok(Cow::Owned(mended)),
                Err(_) => Err(WireError::json(&error)),
            }
        }
    }
}

/// The text of a message that is put back, marked as delivered before; and its priority. Everything else stays as it was.
///
/// # Errors
/// If it is no message.
pub(crate) fn redelivered(bytes: &[u8]) -> Result<(Vec<u8>, u8), WireError> {
    let json = json_text(bytes)?;
    let mut message = Map::read("the message", &json)?;
    let mut headers = Map::read_optional("headers", message.get("headers").map(crate::task::Json::as_str))?;
    let mut properties = Map::read_optional("properties", message.get("properties").map(crate::task::Json::as_str))?;
    let truth = || crate::task::Json::from_valid("true");
    headers.set("redelivered", truth());
    if let Some(info) = properties.get(DELIVERY_INFO) {
        let mut info = Map::read(DELIVERY_INFO, info.as_str())?;
        info.set("redelivered", truth());
        properties.set(DELIVERY_INFO, info.to_json());
    }
    message.set("headers", headers.to_json());
    message.set("properties", properties.to_json());
    let mut out = String::with_capacity(json.len() + 64);
    message.write(&mut out);
    Ok((out.into_bytes(), priority_of(&properties)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What a client of 5.7 pushed to the list `celery`.
    pub(crate) const CAPTURED: &str = r#"{"body": "W1sxLCAyXSwge30sIHsiY2FsbGJhY2tzIjogbnVsbCwgImVycmJhY2tzIjogbnVsbCwgImNoYWluIjogbnVsbCwgImNob3JkIjogbnVsbH1d", "content-encoding": "utf-8", "content-type": "application/json", "headers": {"lang": "py", "task": "t.add", "id": "35f3d565-0000-4000-8000-000000000001", "shadow": null, "eta": null, "expires": null, "group": null, "group_index": null, "retries": 0, "timelimit": [null, null], "root_id": "35f3d565-0000-4000-8000-000000000001", "parent_id": null, "argsrepr": "(1, 2)", "kwargsrepr": "{}", "origin": "gen13418@vm", "ignore_result": false, "replaced_task_nesting": 0, "stamped_headers": null, "stamps": {}}, "properties": {"correlation_id": "35f3d565-0000-4000-8000-000000000001", "reply_to": "bfc3cbbd-0000-3000-8000-000000000002", "delivery_mode": 2, "delivery_info": {"exchange": "", "routing_key": "celery"}, "priority": 4, "body_encoding": "base64", "delivery_tag": "314cda47-0000-4000-8000-000000000003"}}"#;

    #[test]
    fn a_captured_parcel_is_read_and_written() {
        let parcel = Parcel::decode(CAPTURED.as_bytes(), &Limits::default()).unwrap();
        let body = r#"[[1, 2], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]"#;
        assert_eq!(parcel.body, body.as_bytes());
        assert_eq!((parcel.route(), parcel.priority(), parcel.is_redelivered()), (Route::queue("celery"), 4, false));
        assert_eq!(parcel.headers.text("task").as_deref(), Some("t.add"));
        let again = parcel.encode(&Route::queue("other"), "tag");
        let read = Parcel::decode(&again, &Limits::default()).unwrap();
        assert_eq!((read.route(), &read.body, &read.headers), (Route::queue("other"), &parcel.body, &parcel.headers));
        assert_eq!(read.properties.text("delivery_tag").as_deref(), Some("tag"));
        assert_eq!(read.properties.text("reply_to"), parcel.properties.text("reply_to"));
    }

    #[test]
    fn what_is_put_back_says_so_and_is_otherwise_the_same() {
        let (back, priority) = redelivered(CAPTURED.as_bytes()).unwrap();
        assert_eq!(priority, 4);
        let (was, is) = (
            Parcel::decode(CAPTURED.as_bytes(), &Limits::default()).unwrap(),
            Parcel::decode(&back, &Limits::default()).unwrap(),
        );
        assert!(is.is_redelivered());
        assert_eq!((&is.body, is.route()), (&was.body, was.route()));
        assert!(
            String::from_utf8(back)
                .unwrap()
                .contains(r#""delivery_info":{"exchange":"","routing_key":"celery","redelivered":true}"#)
        );
        assert!(redelivered(b"[]").is_err() && redelivered(b"\xff").is_err());
    }

    #[test]
    fn bodies_may_be_plain_text_and_much_may_be_missing() {
        let plain = br#"{"body": "[[NaN],{},{}]", "headers": {"task": "t"}}"#;
        let parcel = Parcel::decode(plain, &Limits::default()).unwrap();
        assert_eq!((&*parcel.body, &*parcel.content_type), (&b"[[NaN],{},{}]"[..], ""));
        for broken in [
            "",
            "5",
            "{}",
            r#"{"body":5}"#,
            r#"{"body":"%","properties":{"body_encoding":"base64"}}"#,
            r#"{"body":"","headers":[]}"#,
        ] {
            assert!(Parcel::decode(broken.as_bytes(), &Limits::default()).is_err(), "{broken}");
        }
    }
}
