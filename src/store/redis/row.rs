//! L1. Records as text: what a script is given of them, and what it answers.

use super::failed;
use crate::{
    error::{Error, Result},
    signature::{Event, Record, SignatureKey, State, Status, StoreTime},
    store::{Head, Stored, Write},
};
use ::redis::{Cmd, Value};
use serde::{Serialize, de::DeserializeOwned};
use std::{sync::Arc, time::Duration};

/// Hexadecimal digits of a version, and of the commit that wrote a part.
const DIGITS: usize = 16;

pub(super) fn version_text(version: u64) -> String {
    format!("{version:016x}")
}

fn encoded<T: Serialize>(value: &T, key: &SignatureKey) -> Result<String> {
    serde_json::to_string(value).map_err(|error| failed("commit", format!("{key} cannot be encoded: {error}"), false))
}

/// Input or outcome; `-` where there is none.
fn optional<T: Serialize>(value: &Option<Arc<T>>, key: &SignatureKey) -> Result<String> {
    value.as_deref().map_or_else(|| Ok("-".into()), |value| encoded(value, key))
}

fn millis(time: Duration) -> u64 {
    // Far below what a script can count exactly, and still some millennia.
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).min(1 << 47)
}

fn alarm_text(alarm: Option<Duration>) -> String {
    alarm.map_or_else(String::new, |alarm| millis(alarm).to_string())
}

/// The arguments of a commit, without those that differ between tries.
pub(super) struct Writes(Vec<Vec<u8>>);

impl Writes {
    pub(super) fn new(live: i32, keep: Duration, outlive: Duration, writes: &[Write]) -> Result<Self> {
        let mut all = Self(Vec::with_capacity(3 + 7 * writes.len()));
        all.push(live.to_string());
        all.push(millis(keep).to_string());
        all.push(millis(outlive).to_string());
        for write in writes {
            all.add(write)?;
        }
        Ok(all)
    }

    fn push(&mut self, text: impl Into<Vec<u8>>) {
        self.0.push(text.into());
    }

    fn add(&mut self, write: &Write) -> Result<()> {
        let key = write.key();
        match write {
            Write::Create { record, alarm } => {
                self.begin("c", key);
                self.push(alarm_text(*alarm));
                self.push(encoded(&record.plan, key)?);
                self.push(encoded(&record.state, key)?);
                self.push(optional(&record.input, key)?);
                self.push(optional(&record.outcome, key)?);
            }
            Write::Update { record, version, input_changed, outcome_changed, drained, alarm } => {
                self.begin("u", key);
                self.push(version_text(*version));
                self.push(drained.to_string());
                self.push(alarm_text(*alarm));
                self.push(encoded(&record.state, key)?);
                self.push(if *input_changed { optional(&record.input, key)? } else { String::new() });
                self.push(if *outcome_changed { optional(&record.outcome, key)? } else { String::new() });
            }
            Write::Append { event, alarm, .. } => {
                self.begin("a", key);
                self.push(event_text(*event));
                self.push(millis(*alarm).to_string());
            }
            Write::Check { version, .. } => {
                self.begin("k", key);
                self.push(version_text(*version));
            }
            Write::Delete { .. } => self.begin("d", key),
        }
        Ok(())
    }

    fn begin(&mut self, word: &str, key: &SignatureKey) {
        self.push(word);
        self.push(key.path());
    }

    pub(super) fn add_to(&self, command: &mut Cmd) {
        for argument in &self.0 {
            command.arg(argument.as_slice());
        }
    }
}

const STATUSES: [(Status, &str); 7] = [
    (Status::Done, "done"),
    (Status::Failed, "failed"),
    (Status::Cancelled, "cancelled"),
    (Status::Pending, "pending"),
    (Status::Active, "active"),
    (Status::Suspended, "suspended"),
    (Status::Interrupted, "interrupted"),
];

/// Slot and status; the script adds by when it has to be taken in.
fn event_text(event: Event) -> String {
    let word = STATUSES.iter().find(|(status, _)| *status == event.status).map_or("?", |(_, word)| word);
    format!("{} {word}", event.slot)
}

fn parse_event(text: &str) -> Option<Event> {
    let mut words = text.split(' ');
    let slot = words.next()?.parse().ok()?;
    let word = words.next()?;
    STATUSES.iter().find(|(_, own)| *own == word).map(|(status, _)| Event { slot, status: *status })
}

/// What a script answered is not what it should be.
pub(super) fn unexpected(operation: &'static str) -> Error {
    failed(operation, "the server's answer is not what the script should give", false)
}

pub(super) fn array(operation: &'static str, value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(values) => Ok(values),
        _ => Err(unexpected(operation)),
    }
}

pub(super) fn number(operation: &'static str, value: Option<&Value>) -> Result<u64> {
    match value {
        Some(Value::Int(number)) => u64::try_from(*number).map_err(|_| unexpected(operation)),
        _ => Err(unexpected(operation)),
    }
}

pub(super) fn text(operation: &'static str, value: &Value) -> Result<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).map_err(|_| unexpected(operation)),
        Value::SimpleString(text) => Ok(text.clone()),
        _ => Err(unexpected(operation)),
    }
}

pub(super) fn now(operation: &'static str, answer: &[Value]) -> Result<StoreTime> {
    number(operation, answer.first()).map(StoreTime)
}

/// What is behind the digits of a part.
fn decoded<T: DeserializeOwned>(value: &Value, key: &SignatureKey, expected: &'static str) -> Result<T> {
    let Value::BulkString(bytes) = value else { return Err(unexpected("load")) };
    parsed(bytes.get(DIGITS..).unwrap_or_default(), key, expected)
}

/// A state is behind its record's versions, the present one and some before it.
fn state_of(value: &Value, key: &SignatureKey) -> Result<State> {
    let Value::BulkString(bytes) = value else { return Err(unexpected("load")) };
    let versions = bytes.chunks_exact(DIGITS).take_while(|digits| digits.iter().all(u8::is_ascii_hexdigit)).count();
    parsed(&bytes[versions * DIGITS..], key, "state")
}

fn parsed<T: DeserializeOwned>(json: &[u8], key: &SignatureKey, expected: &'static str) -> Result<T> {
    serde_json::from_slice(json).map_err(|source| Error::Decode {
        what: format!("what is stored of {key}"),
        expected,
        source,
    })
}

fn digits(value: &Value) -> Result<u64> {
    let Value::BulkString(bytes) = value else { return Err(unexpected("load")) };
    let digits = bytes.get(..DIGITS).and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).ok_or_else(|| unexpected("load"))
}

fn part<T: DeserializeOwned>(value: &Value, key: &SignatureKey, expected: &'static str) -> Result<Option<Arc<T>>> {
    match value {
        Value::Nil => Ok(None),
        value => decoded(value, key, expected).map(|value| Some(Arc::new(value))),
    }
}

/// A record from its row `{state, plan, input, outcome, events}`.
pub(super) fn stored(key: &SignatureKey, row: &Value) -> Result<Option<Stored>> {
    let row = match row {
        Value::Nil => return Ok(None),
        Value::Array(row) => row,
        _ => return Err(unexpected("load")),
    };
    let [state, plan, input, outcome, events] = row.as_slice() else { return Err(unexpected("load")) };
    let record = Record {
        key: key.clone(),
        plan: Arc::new(decoded(plan, key, "plan")?),
        state: state_of(state, key)?,
        input: part(input, key, "input")?,
        outcome: part(outcome, key, "outcome")?,
    };
    let inbox = match events {
        Value::Nil => Vec::new(),
        Value::Array(events) => events
            .iter()
            .map(|event| parse_event(&text("load", event)?).ok_or_else(|| unexpected("load")))
            .collect::<Result<_>>()?,
        _ => return Err(unexpected("load")),
    };
    Ok(Some(Stored { record: Arc::new(record), version: digits(state)?, inbox }))
}

/// A head from a state.
pub(super) fn head(key: &SignatureKey, state: &Value) -> Result<Option<Head>> {
    match state {
        Value::Nil => Ok(None),
        state => Ok(Some(Head { version: digits(state)?, status: state_of(state, key)?.status })),
    }
}

/// Version and waiting flag of a write; 0 where its record is gone.
pub(super) fn written(value: &Value) -> Result<(u64, bool)> {
    match value {
        Value::BulkString(bytes) if bytes.is_empty() => Ok((0, false)),
        value @ Value::BulkString(bytes) => Ok((digits(value)?, bytes.get(DIGITS) == Some(&b'1'))),
        _ => Err(unexpected("commit")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_and_versions_come_back() {
        for (status, word) in STATUSES {
            let event = Event { slot: u32::MAX, status };
            assert_eq!(event_text(event), format!("{} {word}", u32::MAX));
            assert_eq!(parse_event(&format!("{} 1764000000000", event_text(event))), Some(event));
        }
        for text in ["", "1", "x done", "1 nonsense", "-1 done"] {
            assert_eq!(parse_event(text), None, "{text}");
        }
        for version in [1, u64::MAX] {
            let row = Value::BulkString(format!("{}1", version_text(version)).into_bytes());
            assert_eq!(written(&row).unwrap(), (version, true));
        }
        assert_eq!(written(&Value::BulkString(Vec::new())).unwrap(), (0, false));
    }

    #[test]
    fn a_state_is_found_behind_any_number_of_versions() {
        let key = SignatureKey::root(crate::signature::GraphId::new());
        let json = serde_json::to_string(&State::default()).unwrap();
        for earlier in [0, 1, 32] {
            let row = version_text(7) + &version_text(6).repeat(earlier) + &json;
            let found = head(&key, &Value::BulkString(row.into_bytes())).unwrap().unwrap();
            assert_eq!(found, Head { version: 7, status: Status::default() });
        }
    }

    #[test]
    fn what_is_no_row_is_an_error_and_no_panic() {
        let key = SignatureKey::root(crate::signature::GraphId::new());
        let bytes = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        for value in [bytes(""), bytes("12"), bytes("zzzzzzzzzzzzzzzz{}"), bytes("0000000000000001{"), Value::Int(1)] {
            assert!(head(&key, &value).is_err());
            let row = Value::Array(vec![value.clone(), value.clone(), Value::Nil, Value::Nil, Value::Nil]);
            assert!(stored(&key, &row).is_err());
        }
        assert!(stored(&key, &Value::Array(Vec::new())).is_err() && stored(&key, &Value::Okay).is_err());
        assert!(written(&Value::Nil).is_err() && written(&bytes("1")).is_err());
    }
}
