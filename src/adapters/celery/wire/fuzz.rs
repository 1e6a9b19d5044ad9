//! Mutated messages, signatures and results: no decoder panics, none makes more than it may.

use super::{
    body::Body,
    message::Message,
    meta::{self, StoredMeta},
    parcel::{self, Parcel, Route},
    signature::Signature,
    values,
};
use crate::{
    fuzz::{fuzz, is_json},
    task::Json,
    wire::Limits,
};

const LIMITS: Limits = Limits { bytes: 64 << 10, depth: 20, labels: 16, values: 4096 };

#[test]
fn parcels_are_read_or_errors() {
    let plain = br#"{"body":"[[1],{\"a\":NaN},null]","headers":{"task":"t","id":"i","eta":"2030-01-02T03:04:05","timelimit":[1,null],"stamps":{"a":1},"stamped_headers":["a"]},"properties":{"priority":3}}"#;
    let old = br#"{"body":"{\"task\":\"t\",\"id\":\"i\",\"args\":[1],\"kwargs\":{},\"callbacks\":[]}","headers":{},"properties":{}}"#;
    let seeds = [parcel::tests::CAPTURED.as_bytes().to_vec(), plain.to_vec(), old.to_vec()];
    fuzz("celery parcel", &seeds, |bytes| {
        let _ = parcel::redelivered(bytes);
        let Ok(parcel) = Parcel::decode(bytes, &LIMITS) else { return false };
        let _ = (parcel.priority(), parcel.route(), parcel.is_redelivered());
        assert!(is_json(std::str::from_utf8(&parcel.encode(&Route::queue("q"), "t")).unwrap()));
        let Ok(message) = Message::read(parcel, true, &LIMITS) else { return true };
        let _ = (message.retries(), message.time_limit(), message.eta(), message.expires(), message.ignore_result());
        let _ = (message.mark(), message.options(), message.task_data(), message.stamps(), message.stamped_headers());
        message.arguments().unwrap();
        let again = message.parcel().encode(&Route::queue("q"), "t");
        let again = Parcel::decode(&again, &Limits::default()).unwrap();
        let again = Message::read(again, false, &Limits::default()).unwrap();
        assert_eq!((again.args, again.kwargs, again.embed), (message.args, message.kwargs, message.embed));
        true
    });
}

#[test]
fn bodies_and_signatures_are_read_or_errors() {
    let body = r#"[[1,2],{"a":1},{"callbacks":[{"task":"x"}],"errbacks":null,"chain":[],"chord":{"task":"y"}}]"#;
    fuzz("celery body", &[body.as_bytes().to_vec()], |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return false };
        let Ok(body) = Body::read(text) else { return false };
        assert_eq!(Body::read(std::str::from_utf8(&body.write()).unwrap()).unwrap(), body);
        true
    });
    fuzz("celery signature", &[super::signature::tests::CHORD.as_bytes().to_vec()], |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return false };
        let Ok(signature) = Signature::read(text) else { return false };
        let _ = signature.count(0);
        Signature::read(signature.to_json().as_str()).is_ok()
    });
}

#[test]
fn results_are_read_or_errors() {
    let mut seeds = meta::tests::CAPTURED.map(|text| text.as_bytes().to_vec()).to_vec();
    let mut compressed = b"\0celery-compressed\0application/x-gzip\0".to_vec();
    compressed.extend(super::body::deflated(&seeds[1]));
    seeds.push(compressed);
    fuzz("celery result", &seeds, |bytes| {
        let Ok(meta) = StoredMeta::decode(bytes, &LIMITS) else { return false };
        let result = meta.into_task_result("i".into());
        assert!(result.result.as_ref().is_none_or(|json| is_json(json.as_str())));
        true
    });
}

#[test]
fn values_stay_json() {
    let seeds = [
        r#"[{"__type__":"datetime","__value__":"2020"},{"__type__":"uuid","__value__":{"hex":"00000000000000000000000000000005"}},{"__type__":"x","__value__":[{"__type__":"bytes","__value__":"a"}]},{"{":1}]"#,
        r#"{"a":[NaN,-Infinity,"\ud800\ude00\ud83d\ude00"],"__type__":1}"#,
    ];
    fuzz("celery values", &seeds.map(|text| text.as_bytes().to_vec()), |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return false };
        let mended = values::mended(text);
        let Ok(json) = Json::parse(&mended) else { return false };
        assert!(is_json(&values::plain(json.as_str())), "{mended}");
        true
    });
}
