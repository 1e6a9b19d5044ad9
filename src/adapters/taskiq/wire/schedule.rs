//! The entries of taskiq-redis' `ListRedisScheduleSource`: a value for each schedule, and lists of their ids, one for
//! crons, one for intervals, one for each minute.

use super::{
    error::{Limits, WireError},
    labels::{LabelValue, Labels, SCHEDULE_ID},
    message::Message,
    object,
    text::{push_key, push_string},
    value::{Serializer, Stored},
};
use chrono::{DateTime, NaiveDateTime, SecondsFormat, SubsecRound, TimeDelta, Utc};
use std::{borrow::Cow, time::Duration};

/// The prefix of keys unless something else is said.
pub(crate) const DEFAULT_PREFIX: &str = "schedule";
const MINUTE: &str = "%Y-%m-%dT%H:%M";

/// A task that is sent later, once or again and again.
#[derive(Clone, Debug)]
pub(crate) struct Schedule<'a> {
    pub schedule_id: Cow<'a, str>,
    /// The id of what is sent; a new one each time if there is none.
    pub task_id: Option<Cow<'a, str>>,
    pub task_name: Cow<'a, str>,
    /// They lose their types here: texts come back as texts.
    pub labels: Labels<'a>,
    /// JSON text, an array.
    pub args: Cow<'a, str>,
    /// JSON text, an object.
    pub kwargs: Cow<'a, str>,
    pub when: When,
}

/// When a schedule's task is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// In each minute that fits.
    Cron {
        /// Five fields: minute, hour, day of the month, month, day of the week. Where both days say something, either will
        /// do.
        expression: String,
        /// The clock that the expression speaks of: an IANA time zone such as `Europe/Berlin`, or how far it is ahead of
        /// UTC as a duration of ISO 8601 such as `PT2H`. UTC if it says nothing.
        offset: Option<String>,
    },
    /// Once.
    At(DateTime<Utc>),
    /// Again and again. Whole seconds, at least one.
    Every(Duration),
}

/// The keys of one source.
#[derive(Clone, Debug)]
pub(crate) struct ScheduleKeys {
    prefix: String,
}

impl ScheduleKeys {
    pub(crate) fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into() }
    }

    /// Where the value of a schedule is. Written first, then the id is appended to its list.
    pub(crate) fn data(&self, schedule_id: &str) -> String {
        format!("{}:data:{schedule_id}", self.prefix)
    }

    pub(crate) fn cron(&self) -> String {
        format!("{}:cron", self.prefix)
    }

    pub(crate) fn interval(&self) -> String {
        format!("{}:interval", self.prefix)
    }

    /// When each schedule was sent last, for our schedulers alone.
    pub(crate) fn sent(&self) -> String {
        format!("{}:mageflow:sent", self.prefix)
    }

    /// The list of a minute.
    pub(crate) fn minute(&self, at: DateTime<Utc>) -> String {
        format!("{}:time:{}", self.prefix, at.format(MINUTE))
    }

    /// The list that a schedule's id belongs to.
    pub(crate) fn list(&self, when: &When) -> String {
        match when {
            When::Cron { .. } => self.cron(),
            When::At(at) => self.minute(*at),
            When::Every(_) => self.interval(),
        }
    }

    /// What `SCAN` is given to find the lists of all minutes.
    pub(crate) fn minutes_pattern(&self) -> String {
        let mut pattern = String::with_capacity(self.prefix.len() + 8);
        for c in self.prefix.chars() {
            if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
                pattern.push('\\');
            }
            pattern.push(c);
        }
        pattern + ":time:*"
    }

    /// The minute of a list.
    pub(crate) fn minute_of(&self, key: &str) -> Option<DateTime<Utc>> {
        let minute = key.strip_prefix(&self.prefix)?.strip_prefix(":time:")?;
        NaiveDateTime::parse_from_str(minute, MINUTE).ok().map(|time| time.and_utc())
    }
}

impl<'a> Schedule<'a> {
    /// Sends `message` at the given times, under its own id each time.
    pub(crate) fn of(message: Message<'a>, schedule_id: impl Into<Cow<'a, str>>, when: When) -> Self {
        Self {
            schedule_id: schedule_id.into(),
            task_id: Some(message.task_id),
            task_name: message.task_name,
            labels: message.labels,
            args: message.args,
            kwargs: message.kwargs,
            when,
        }
    }

    /// Writes the value of its data key.
    ///
    /// # Errors
    /// [`WireError::Invalid`] for an interval that Python would refuse, [`WireError::Unpicklable`].
    pub(crate) fn encode(&self, serializer: Serializer) -> Result<Vec<u8>, WireError> {
        let mut out = String::with_capacity(self.args.len() + self.kwargs.len() + 256);
        out.push('{');
        push_text(&mut out, "task_name", Some(&self.task_name));
        push_key(&mut out, "labels");
        self.labels.write_untyped(&mut out);
        push_key(&mut out, "args");
        out.push_str(&self.args);
        push_key(&mut out, "kwargs");
        out.push_str(&self.kwargs);
        push_text(&mut out, "task_id", self.task_id.as_deref());
        push_text(&mut out, "schedule_id", Some(&self.schedule_id));
        let (mut cron, mut offset, mut time, mut interval) = (None, None, None, None);
        match &self.when {
            When::Cron { expression, offset: zone } => (cron, offset) = (Some(&**expression), zone.as_deref()),
            When::At(at) => time = Some(at.to_rfc3339_opts(SecondsFormat::Micros, true)),
            When::Every(every) => interval = Some(checked(*every)?),
        }
        push_text(&mut out, "cron", cron);
        push_text(&mut out, "cron_offset", offset);
        push_text(&mut out, "time", time.as_deref());
        push_key(&mut out, "interval");
        out.push_str(&interval.map_or_else(|| "null".to_owned(), |every| every.as_secs().to_string()));
        out.push('}');
        serializer.encode(out)
    }

    /// The message that is due. `new_id` is asked for an id if the schedule has none.
    pub(crate) fn into_message(self, new_id: impl FnOnce() -> String) -> Message<'static> {
        let id = self.task_id.map_or_else(new_id, Cow::into_owned);
        let (name, args, kwargs) = (self.task_name.into_owned(), self.args.into_owned(), self.kwargs.into_owned());
        let mut message = Message::of_parts(id, name, args, kwargs);
        for name in self.labels.names() {
            let own = name.to_owned();
            match self.labels.get(name) {
                Some(LabelValue::Text(value)) => message.labels.set_text(own, &value),
                Some(LabelValue::Int(value)) => message.labels.set_int(own, value),
                Some(LabelValue::Float(value)) => message.labels.set_float(own, value),
                Some(LabelValue::Bool(value)) => message.labels.set_bool(own, value),
                Some(LabelValue::Bytes(value)) => message.labels.set_bytes(own, &value),
                Some(LabelValue::Json(json)) => message.labels.set_native(own, json.to_owned()),
                Some(LabelValue::Null) | None => message.labels.set_native(own, "null"),
            }
        }
        message.labels.set_text(SCHEDULE_ID, &self.schedule_id);
        message
    }
}

fn push_text(out: &mut String, name: &str, value: Option<&str>) {
    push_key(out, name);
    match value {
        Some(value) => push_string(out, value),
        None => out.push_str("null"),
    }
}

impl Schedule<'static> {
    /// Reads the value of a data key, in either form.
    ///
    /// # Errors
    /// If it is no schedule.
    pub(crate) fn decode(bytes: &[u8], limits: &Limits) -> Result<Self, WireError> {
        let stored = Stored::read("the schedule", bytes, "", limits)?;
        let part = |name: &'static str, first, expected| {
            let json = stored.any(name).ok_or(WireError::Missing { field: name })?;
            object::expect(name, json, first, expected)?;
            Ok::<_, WireError>(json)
        };
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Ok(Self {
            schedule_id: owned(stored.text("schedule_id")?),
            task_id: stored.optional_text("task_id")?.map(owned),
            task_name: owned(stored.text("task_name")?),
            labels: Labels::read(part("labels", '{', "an object")?, None, limits)?.into_owned(),
            args: Cow::Owned(part("args", '[', "an array")?.to_owned()),
            kwargs: Cow::Owned(part("kwargs", '{', "an object")?.to_owned()),
            when: when(&stored)?,
        })
    }
}

/// In the order in which Python looks.
fn when(stored: &Stored<'_>) -> Result<When, WireError> {
    if let Some(expression) = stored.optional_text("cron")? {
        let offset = stored.optional_text("cron_offset")?.map(Cow::into_owned);
        return Ok(When::Cron { expression: expression.into_owned(), offset });
    }
    if let Some(text) = stored.optional_text("time")? {
        let bad = WireError::Invalid { field: "time", expected: "a date and a time in the form of ISO 8601" };
        return time(&text).map(When::At).ok_or(bad);
    }
    let json = stored.get("interval").ok_or(WireError::Missing { field: "interval" })?;
    let text = object::decoded(json).unwrap_or(Cow::Borrowed(json));
    let seconds = text.parse().ok().or_else(|| iso_seconds(&text));
    let every = seconds.map(Duration::from_secs).ok_or(BAD_INTERVAL)?;
    checked(every).map(When::Every)
}

const BAD_INTERVAL: WireError = WireError::Invalid {
    field: "interval",
    expected: "whole seconds, at least one, as a number or in the form of ISO 8601",
};

fn checked(every: Duration) -> Result<Duration, WireError> {
    // Python's own durations end at a billion days.
    let longest = Duration::from_secs(999_999_999 * 86_400);
    if every.as_secs() == 0 || every.subsec_nanos() > 0 || every > longest { Err(BAD_INTERVAL) } else { Ok(every) }
}

/// With a zone, or without one in UTC. To the microsecond, as Python has it.
fn time(text: &str) -> Option<DateTime<Utc>> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.to_utc().trunc_subsecs(6));
    }
    let naive = |form| NaiveDateTime::parse_from_str(text, form).ok();
    let time = naive("%Y-%m-%dT%H:%M:%S%.f").or_else(|| naive("%Y-%m-%d %H:%M:%S%.f"))?;
    Some(time.and_utc().trunc_subsecs(6))
}

/// How far a duration of ISO 8601 is ahead, or behind with a minus.
pub(crate) fn offset_of(text: &str) -> Option<TimeDelta> {
    let (text, sign) = text.strip_prefix('-').map_or((text, 1), |text| (text, -1));
    TimeDelta::try_seconds(sign * i64::try_from(iso_seconds(text)?).ok()?)
}

/// The seconds of a duration such as `P1DT2H` or `PT1M30S`. A year has 365 days, as Python's pydantic writes it.
fn iso_seconds(text: &str) -> Option<u64> {
    let rest = text.strip_prefix('P')?;
    let (date, time) = rest.split_once('T').unwrap_or((rest, ""));
    const DAY: u64 = 86_400;
    let date = units(date, &[('Y', 365 * DAY), ('W', 7 * DAY), ('D', DAY)])?;
    date.checked_add(units(time, &[('H', 3600), ('M', 60), ('S', 1)])?)
}

fn units(text: &str, known: &[(char, u64)]) -> Option<u64> {
    let (mut total, mut rest, mut known) = (0_u64, text, known.iter());
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let unit = rest[end..].chars().next()?;
        // Each unit once, the largest first.
        let (_, seconds) = known.find(|(name, _)| *name == unit)?;
        let number = rest[..end].strip_suffix(".0").unwrap_or(&rest[..end]);
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*seconds)?)?;
        rest = &rest[end + unit.len_utf8()..];
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Serializer; 2] = [Serializer::Pickle, Serializer::Json];
    const CAPTURED: &str = r#"{"task_name": "pkg.jobs:add", "labels": {"n": "3"}, "args": [1], "kwargs": {"b": 2}, "task_id": null, "schedule_id": "js", "cron": null, "cron_offset": null, "time": null, "interval": "PT1M30S"}"#;

    fn decode(json: &str) -> Result<Schedule<'static>, WireError> {
        let both = BOTH.map(|serializer| Schedule::decode(&serializer.encode(json).unwrap(), &Limits::default()));
        let [pickled, plain] = both;
        assert_eq!(pickled.as_ref().map(|s| &s.when), plain.as_ref().map(|s| &s.when));
        pickled
    }

    #[test]
    fn captured_values_are_read_and_sent() {
        let schedule = decode(CAPTURED).unwrap();
        assert_eq!(schedule.when, When::Every(Duration::from_secs(90)));
        let message = schedule.into_message(|| "fresh".into());
        assert_eq!((&*message.task_id, &*message.task_name, &*message.args), ("fresh", "pkg.jobs:add", "[1]"));
        assert_eq!(message.labels.get("n"), Some(LabelValue::Text("3".into())));
        assert_eq!(message.labels.schedule_id().as_deref(), Some("js"));
    }

    #[test]
    fn schedules_come_back_as_they_were_written() {
        let arguments = crate::args![1, b = 2];
        let at = DateTime::from_timestamp_micros(1_764_157_040_123_456).unwrap();
        let zone = Some("Europe/Berlin".to_owned());
        for when in [
            When::At(at),
            When::Every(Duration::from_secs(90)),
            When::Cron { expression: "*/5 * * * *".into(), offset: zone },
            When::Cron { expression: "0 0 * * 1".into(), offset: None },
        ] {
            let mut message = Message::new("id", "t", &arguments);
            message.labels.set_int("n", 3);
            let schedule = Schedule::of(message, "sid", when.clone());
            for serializer in BOTH {
                let bytes = schedule.encode(serializer).unwrap();
                let back = Schedule::decode(&bytes, &Limits::default()).unwrap();
                assert_eq!((&back.when, back.task_id.as_deref(), &*back.schedule_id), (&when, Some("id"), "sid"));
                let message = back.into_message(|| panic!("it has one"));
                assert_eq!(message.arguments().unwrap(), arguments);
                assert_eq!(message.labels.get("n"), Some(LabelValue::Text("3".into())));
            }
        }
        let odd = Schedule::of(Message::new("i", "t", &arguments), "s", When::Every(Duration::from_millis(1500)));
        assert!(odd.encode(Serializer::Json).is_err());
    }

    #[test]
    fn native_labels_keep_their_types() {
        let json = CAPTURED.replace(r#"{"n": "3"}"#, r#"{"n":3,"f":1.5,"b":true,"o":{"a":1},"z":null}"#);
        let message = decode(&json).unwrap().into_message(|| "i".into());
        let text = String::from_utf8(message.encode()).unwrap();
        let labels = r#""labels":{"n":"3","f":"1.5","b":"True","o":{"a":1},"z":null,"schedule_id":"js"}"#;
        assert!(text.contains(labels), "{text}");
        assert!(text.contains(r#""labels_types":{"n":2,"f":4,"b":5,"schedule_id":3}"#), "{text}");
    }

    #[test]
    fn times_and_intervals_are_read_as_python_writes_them() {
        let with = |field: &str, value: &str| {
            let json = CAPTURED.replace(r#""PT1M30S""#, "null");
            let json = json.replace(&format!(r#""{field}": null"#), &format!(r#""{field}": {value}"#));
            decode(&json).map(|schedule| schedule.when)
        };
        let at = |text: &str| When::At(text.parse().unwrap());
        for (value, want) in [
            (r#""2024-01-02T03:04:05""#, at("2024-01-02T03:04:05Z")),
            (r#""2024-01-02T03:04:05.000678Z""#, at("2024-01-02T03:04:05.000678Z")),
            (r#""2024-01-02T03:04:05+02:00""#, at("2024-01-02T01:04:05Z")),
            (r#""2024-01-02 03:04:05.5""#, at("2024-01-02T03:04:05.5Z")),
        ] {
            assert_eq!(with("time", value), Ok(want), "{value}");
        }
        let intervals = [("5", 5), (r#""5""#, 5), (r#""P1DT2H""#, 93_600), (r#""P1Y2D""#, 367 * 86_400)];
        for (value, seconds) in intervals {
            assert_eq!(with("interval", value), Ok(When::Every(Duration::from_secs(seconds))), "{value}");
        }
        for value in ["0", "-1", "1.5", r#""PT0S""#, r#""-PT1S""#, r#""PT0.5S""#, r#""P""#, "[]"] {
            assert!(with("interval", value).is_err(), "{value}");
        }
        for value in [r#""PT1S1S""#, r#""PT1é""#, r#""P99999999999999999Y""#] {
            assert!(with("interval", value).is_err(), "{value}");
        }
        for value in ["5", r#""soon""#, r#""2024-01-02""#] {
            assert!(with("time", value).is_err(), "{value}");
        }
        assert_eq!(with("x", "1"), Err(WireError::Missing { field: "interval" }));
    }

    #[test]
    fn keys_are_those_of_python() {
        let keys = ScheduleKeys::new(DEFAULT_PREFIX);
        let at: DateTime<Utc> = "2024-01-02T03:04:59.9Z".parse().unwrap();
        assert_eq!(keys.data("js"), "schedule:data:js");
        assert_eq!(keys.list(&When::At(at)), "schedule:time:2024-01-02T03:04");
        assert_eq!(keys.list(&When::Every(Duration::from_secs(1))), "schedule:interval");
        assert_eq!(keys.list(&When::Cron { expression: String::new(), offset: None }), "schedule:cron");
        assert_eq!(keys.minute_of("schedule:time:2024-01-02T03:04"), Some("2024-01-02T03:04:00Z".parse().unwrap()));
        for key in ["schedule:time:x", "schedule:cron", "other:time:2024-01-02T03:04", ""] {
            assert_eq!(keys.minute_of(key), None);
        }
        assert_eq!(ScheduleKeys::new("a*[b").minutes_pattern(), r"a\*\[b:time:*");
    }
}
