//! Calls that travel inside of messages: single tasks, groups, chains and chords (`celery/canvas.py`).

use super::{
    WireError,
    map::{self, Map},
};
use crate::{task::Json, wire::object};

/// How deep signatures may contain signatures.
pub(crate) const DEPTH: usize = 40;

/// One signature as it stands in JSON. What it contains is looked at where it is needed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Signature {
    pub(crate) task: String,
    /// A list.
    pub(crate) args: Json,
    pub(crate) kwargs: Map,
    pub(crate) options: Map,
    pub(crate) subtask_type: Option<String>,
    /// Whether it takes no result of what came before.
    pub(crate) immutable: bool,
}

/// What a signature is a call of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Task,
    Group(Vec<Signature>),
    Chain(Vec<Signature>),
    Chord { header: Box<Signature>, body: Box<Signature> },
}

impl Signature {
    /// Reads one.
    ///
    /// # Errors
    /// If it is none.
    pub(crate) fn read(json: &str) -> Result<Self, WireError> {
        let map = Map::read("a signature", json)?;
        let part = |name: &'static str| Map::read_optional(name, map.get(name).map(Json::as_str));
        let task = map.text("task").ok_or(WireError::Missing { field: "task" })?.into_owned();
        let args = map.get("args").cloned().unwrap_or_else(|| Json::from_valid("[]"));
        object::expect("args", args.as_str(), '[', "an array")?;
        Ok(Self {
            task,
            args,
            kwargs: part("kwargs")?,
            options: part("options")?,
            subtask_type: map.text("subtask_type").map(|kind| kind.into_owned()),
            immutable: map.flag("immutable").unwrap_or_default(),
        })
    }

    /// A call of one task.
    pub(crate) fn task(task: impl Into<String>, args: Json, kwargs: Map) -> Self {
        Self { task: task.into(), args, kwargs, options: Map::default(), subtask_type: None, immutable: false }
    }

    fn container(task: &str, kind: &str, kwargs: Map) -> Self {
        let args = Json::from_valid("[]");
        Self { subtask_type: Some(kind.into()), ..Self::task(task, args, kwargs) }
    }

    /// Side by side.
    pub(crate) fn group(tasks: &[Signature]) -> Self {
        Self::container("celery.group", "group", Self::with_tasks(tasks))
    }

    /// One after the other.
    pub(crate) fn chain(tasks: &[Signature]) -> Self {
        Self::container("celery.chain", "chain", Self::with_tasks(tasks))
    }

    /// Side by side, and then one that takes all results.
    pub(crate) fn chord(header: &Signature, body: &Signature) -> Self {
        let mut kwargs = Map::default();
        kwargs.set("kwargs", Json::from_valid("{}"));
        kwargs.set("header", header.to_json());
        kwargs.set("body", body.to_json());
        Self::container("celery.chord", "chord", kwargs)
    }

    /// Replaces what a group or chain consists of.
    pub(crate) fn set_tasks(&mut self, tasks: &[Signature]) {
        let tasks: Vec<_> = tasks.iter().map(Signature::to_json).collect();
        self.kwargs.set("tasks", map::list(&tasks));
    }

    /// Takes no result of what came before, nor does whatever begins in it (`celery/canvas.py`, `set_immutable`).
    ///
    /// # Errors
    /// If it is nested too deep.
    pub(crate) fn make_immutable(&mut self, depth: usize) -> Result<(), WireError> {
        let depth = deeper(depth)?;
        self.immutable = true;
        match self.kind()? {
            Kind::Task => {}
            Kind::Group(mut tasks) => {
                tasks.iter_mut().try_for_each(|task| task.make_immutable(depth))?;
                self.set_tasks(&tasks);
            }
            Kind::Chain(mut tasks) => {
                tasks.first_mut().map_or(Ok(()), |task| task.make_immutable(depth))?;
                self.set_tasks(&tasks);
            }
            Kind::Chord { mut header, .. } => {
                header.make_immutable(depth)?;
                self.kwargs.set("header", header.to_json());
            }
        }
        Ok(())
    }

    fn with_tasks(tasks: &[Signature]) -> Map {
        let tasks: Vec<_> = tasks.iter().map(Signature::to_json).collect();
        let mut kwargs = Map::default();
        kwargs.set("tasks", map::list(&tasks));
        kwargs
    }

    /// What it is, with what it contains one level deep.
    ///
    /// # Errors
    /// If what it contains is none.
    pub(crate) fn kind(&self) -> Result<Kind, WireError> {
        let name = self.subtask_type.as_deref().unwrap_or_default();
        Ok(match (name, &*self.task) {
            ("group", _) | ("", "celery.group") => Kind::Group(self.tasks()?),
            ("chain", _) | ("", "celery.chain") => Kind::Chain(self.tasks()?),
            ("chord", _) | ("", "celery.chord") => {
                let header = self.kwargs.get("header").ok_or(WireError::Missing { field: "header" })?;
                let body = self.kwargs.get("body").ok_or(WireError::Missing { field: "body" })?;
                // A list is a group without options.
                let header = match object::items("header", header.as_str()) {
                    Ok(items) => Self::group(&read_all(&items)?),
                    Err(_) => Self::read(header.as_str())?,
                };
                Kind::Chord { header: Box::new(header), body: Box::new(Self::read(body.as_str())?) }
            }
            _ => Kind::Task,
        })
    }

    fn tasks(&self) -> Result<Vec<Signature>, WireError> {
        let tasks = self.kwargs.get("tasks").ok_or(WireError::Missing { field: "tasks" })?;
        read_all(&object::items("tasks", tasks.as_str())?)
    }

    pub(crate) fn to_json(&self) -> Json {
        let mut all = Map::default();
        all.set_text("task", &self.task);
        all.set("args", self.args.clone());
        all.set("kwargs", self.kwargs.to_json());
        all.set("options", self.options.to_json());
        all.set_optional("subtask_type", self.subtask_type.as_deref());
        all.set("immutable", Json::from_valid(if self.immutable { "true" } else { "false" }));
        all.to_json()
    }

    /// The id that was given to it before it was sent.
    pub(crate) fn id(&self) -> Option<String> {
        self.options.text("task_id").map(|id| id.into_owned())
    }

    /// How many ends it counts as in a chord: the last element of a chain, the body of a chord, all of a group.
    ///
    /// # Errors
    /// If it is nested too deep, or what it contains is no signature.
    pub(crate) fn count(&self, depth: usize) -> Result<u64, WireError> {
        let deeper = deeper(depth)?;
        match self.kind()? {
            Kind::Task => Ok(1),
            Kind::Group(tasks) => tasks.iter().try_fold(0_u64, |sum, task| Ok(sum.saturating_add(task.count(deeper)?))),
            Kind::Chain(tasks) => {
                for task in tasks.iter().rev() {
                    let count = task.count(deeper)?;
                    if count > 0 {
                        return Ok(count);
                    }
                }
                Ok(0)
            }
            Kind::Chord { body, .. } => body.count(deeper),
        }
    }
}

/// One level down.
///
/// # Errors
/// [`WireError::TooDeep`].
pub(crate) fn deeper(depth: usize) -> Result<usize, WireError> {
    if depth >= DEPTH { Err(WireError::TooDeep { limit: DEPTH }) } else { Ok(depth + 1) }
}

fn read_all(items: &[&str]) -> Result<Vec<Signature>, WireError> {
    items.iter().map(|json| Signature::read(json)).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A step of a chain as a client of 5.7 sent it: `group(t.mul(10), t.mul(20)) | t.xsum`.
    pub(crate) const CHORD: &str = r#"{"task": "celery.chord", "args": [], "kwargs": {"kwargs": {}, "header": {"task": "celery.group", "args": [], "kwargs": {"tasks": [{"task": "t.mul", "args": [10], "kwargs": {}, "options": {"task_id": "m1", "reply_to": "r"}, "subtask_type": null, "immutable": false}, {"task": "t.mul", "args": [20], "kwargs": {}, "options": {"task_id": "m2"}, "subtask_type": null, "immutable": false}]}, "options": {"task_id": "gid", "root_id": null, "parent_id": null}, "subtask_type": "group", "immutable": false}, "body": {"task": "t.xsum", "args": [], "kwargs": {}, "options": {"task_id": "b", "group_id": "gid"}, "subtask_type": null, "immutable": false}}, "options": {"task_id": "gid"}, "subtask_type": "chord", "immutable": false}"#;

    #[test]
    fn captured_signatures_are_read_and_written() {
        let chord = Signature::read(CHORD).unwrap();
        assert_eq!(Signature::read(chord.to_json().as_str()).unwrap(), chord);
        let Kind::Chord { header, body } = chord.kind().unwrap() else { panic!("no chord") };
        let Kind::Group(tasks) = header.kind().unwrap() else { panic!("no group") };
        assert_eq!((tasks.len(), tasks[1].id(), body.id()), (2, Some("m2".into()), Some("b".into())));
        assert_eq!((chord.count(0).unwrap(), header.count(0).unwrap()), (1, 2));
    }

    #[test]
    fn containers_are_made_and_counted() {
        let task = |name: &str| Signature::task(name, Json::from_valid("[1]"), Map::default());
        let group = Signature::group(&[task("a"), Signature::chain(&[task("b"), Signature::group(&[])]), task("c")]);
        assert_eq!(group.count(0).unwrap(), 3);
        assert_eq!(Signature::chord(&group, &Signature::group(&[task("x"), task("y")])).count(0).unwrap(), 2);
        let mut deep = task("a");
        for _ in 0..=DEPTH {
            deep = Signature::chain(&[deep]);
        }
        assert_eq!(deep.count(0), Err(WireError::TooDeep { limit: DEPTH }));
        for broken in ["{}", "[]", r#"{"task":1}"#, r#"{"task":"t","args":{}}"#] {
            assert!(Signature::read(broken).is_err(), "{broken}");
        }
        assert!(Signature::read(r#"{"task":"celery.chord","subtask_type":"chord"}"#).unwrap().kind().is_err());
    }
}
