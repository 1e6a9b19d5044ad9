//! L2, Celery engine. Calls signatures (`celery/canvas.py`).

use super::{Canvas, Plan};
use crate::{
    adapters::celery::{
        broker::Outgoing,
        wire::{
            WireError,
            body::Embed,
            map::{self, Map},
            message::{Message, with_first},
            parcel::Route,
            signature::{Kind, Signature, deeper},
            times,
        },
    },
    task::{Json, TaskId},
};
use chrono::Utc;

/// The result of a call as Celery writes it: `[[id, parent], children]`.
type Tuple = Json;

/// Options that stay with the signature that has them, whatever the call says.
fn is_own(name: &str, stamps: &[Json]) -> bool {
    matches!(name, "group_id" | "stamped_headers") || stamps.contains(&map::text(name))
}

/// The options of a signature with those of a call laid over them.
fn merged(signature: &Signature, call: &Map) -> Map {
    let mut options = signature.options.clone();
    let stamps = options.list("stamped_headers");
    for (name, value) in call.iter() {
        if value.is_null() || (options.get(name).is_some() && is_own(name, &stamps)) {
            continue;
        }
        options.set(name.to_owned(), value.clone());
    }
    options
}

fn set_if_missing(options: &mut Map, name: &'static str, value: Option<Json>) {
    if let (None, Some(value)) = (options.get(name), value) {
        options.set(name, value);
    }
}

pub(super) fn append(options: &mut Map, name: &'static str, more: &[Json]) {
    if !more.is_empty() {
        let mut all = options.list(name);
        all.extend(more.iter().cloned());
        options.set(name, map::list(&all));
    }
}

fn new_id() -> String {
    TaskId::new().to_string()
}

fn tuple_of(id: &str, parent: Option<&Json>, children: Option<&[Json]>) -> Tuple {
    let (null, id) = (Json::null(), map::text(id));
    let own = map::list([&id, parent.unwrap_or(&null)]);
    match children {
        Some(children) => map::list([&own, &map::list(children)]),
        None => map::list([&own, &null]),
    }
}

/// Whether a tuple is that of a group.
fn is_group(tuple: &Json) -> bool {
    !tuple.as_str().ends_with(",null]")
}

impl Canvas<'_> {
    /// Calls a signature with the results of what came before, and options of the call.
    ///
    /// # Errors
    /// If it, or what it contains, is no signature; or it is nested too deep.
    pub(in crate::adapters::celery) fn apply(
        &self,
        plan: &mut Plan,
        signature: &Signature,
        partial: &[Json],
        call: &Map,
        depth: usize,
    ) -> Result<Tuple, WireError> {
        let (options, depth) = (merged(signature, call), deeper(depth)?);
        // An immutable one takes nothing.
        let partial = if signature.immutable { &[] } else { partial };
        match signature.kind()? {
            Kind::Task => {
                let (message, route) = self.message(signature, partial, &options)?;
                let tuple = tuple_of(&message.id, None, None);
                plan.sends.push(Outgoing { parcel: message.parcel(), route });
                Ok(tuple)
            }
            Kind::Group(tasks) => self.group(plan, tasks, partial, options, depth),
            Kind::Chain(steps) => self.chain(plan, steps, partial, options, depth),
            Kind::Chord { header, body } => self.chord(plan, &header, *body, partial, options, depth),
        }
    }

    /// The message of a single task, and where it goes.
    fn message(&self, signature: &Signature, partial: &[Json], options: &Map) -> Result<(Message, Route), WireError> {
        let text = |name: &str| options.text(name).map(|text| text.into_owned());
        let id = text("task_id").unwrap_or_else(new_id);
        let args = with_first(partial, &signature.args);
        let mut message = Message::new(id.clone(), &signature.task, args, signature.kwargs.to_json());
        let headers = &mut message.headers;
        headers.set_text("root_id", text("root_id").as_deref().unwrap_or(&id));
        let same = [
            ("parent_id", "parent_id"),
            ("group_id", "group"),
            ("group_index", "group_index"),
            ("shadow", "shadow"),
            ("ignore_result", "ignore_result"),
            ("replaced_task_nesting", "replaced_task_nesting"),
            ("retries", "retries"),
            ("stamped_headers", "stamped_headers"),
            ("compression", "compression"),
        ];
        for (option, header) in same {
            if let Some(value) = options.get(option) {
                headers.set(header, value.clone());
            }
        }
        let stamped = options.list("stamped_headers");
        let mut stamps = Map::default();
        for (name, value) in options.iter() {
            if stamped.contains(&map::text(name)) {
                stamps.set(name.to_owned(), value.clone());
            }
        }
        headers.set("stamps", stamps.to_json());
        let limit = |name: &str| options.get(name).cloned().unwrap_or_default();
        headers.set("timelimit", map::list([&limit("time_limit"), &limit("soft_time_limit")]));
        let now = Utc::now();
        if let Some(seconds) = options.number("countdown") {
            headers.set_text("eta", &times::text(times::after(now, seconds)));
        } else if let Some(eta) = options.get("eta") {
            headers.set("eta", eta.clone());
        }
        if let Some(seconds) = options.number("expires") {
            headers.set_text("expires", &times::text(times::after(now, seconds)));
        } else if let Some(expires) = options.get("expires") {
            headers.set("expires", expires.clone());
        }
        let own = Map::read_optional("headers", options.get("headers").map(Json::as_str))?;
        for (name, value) in own.iter().filter(|(name, _)| !matches!(*name, "id" | "task")) {
            headers.set(name.to_owned(), value.clone());
        }
        if let Some(priority) = options.get("priority") {
            message.properties.set("priority", priority.clone());
        }
        if let Some(reply_to) = options.get("reply_to") {
            message.properties.set("reply_to", reply_to.clone());
        }
        message.embed = Embed {
            callbacks: options.list("link"),
            errbacks: options.list("link_error"),
            chain: options.list("chain"),
            chord: options.get("chord").cloned(),
        };
        let route = self.route(&signature.task, options);
        Ok((message, route))
    }

    fn route(&self, task: &str, options: &Map) -> Route {
        let text = |name: &str| options.text(name).map(|text| text.into_owned());
        let queue = text("queue").or_else(|| {
            let queue = Map::read("queue", options.get("queue")?.as_str()).ok()?;
            queue.text("name").map(|name| name.into_owned())
        });
        match (queue, text("exchange"), text("routing_key")) {
            (Some(queue), ..) => Route::queue(queue),
            (None, Some(exchange), Some(routing_key)) => Route { exchange, routing_key },
            _ => Route::queue(self.routes.queue_of(task)),
        }
    }

    fn group(
        &self,
        plan: &mut Plan,
        tasks: Vec<Signature>,
        partial: &[Json],
        mut call: Map,
        depth: usize,
    ) -> Result<Tuple, WireError> {
        let id =
            call.remove("task_id").and_then(|id| crate::wire::object::decoded(id.as_str()).map(|id| id.into_owned()));
        let id = id.unwrap_or_else(new_id);
        let mut members = Vec::with_capacity(tasks.len());
        flatten(tasks, &mut members, depth)?;
        let has_chord =
            call.get("chord").is_some() || members.iter().any(|member| member.options.get("chord").is_some());
        if has_chord && !members.is_empty() {
            let size: Result<u64, WireError> =
                members.iter().try_fold(0_u64, |sum, member| Ok(sum.saturating_add(member.count(depth)?)));
            plan.sizes.push((id.clone(), size?));
        }
        call.set_text("group_id", &id);
        let mut tuples = Vec::with_capacity(members.len());
        for (index, member) in members.iter().enumerate() {
            let mut call = call.clone();
            // One that belongs to a group outside of this one keeps its place there.
            if member.options.get("group_index").is_none() {
                call.set_int("group_index", i64::try_from(index).unwrap_or(i64::MAX));
            } else {
                call.remove("group_index");
            }
            tuples.push(self.apply(plan, member, partial, &call, depth)?);
        }
        Ok(tuple_of(&id, None, Some(&tuples)))
    }

    fn chain(
        &self,
        plan: &mut Plan,
        steps: Vec<Signature>,
        partial: &[Json],
        mut call: Map,
        depth: usize,
    ) -> Result<Tuple, WireError> {
        let mut steps = prepared(steps, depth)?;
        let outer = call.list("chain");
        let (link, errbacks) = (call.list("link"), call.list("link_error"));
        let own = ["task_id", "group_id", "group_index", "chord"].map(|name| (name, call.remove(name)));
        ["chain", "link", "link_error"].iter().for_each(|name| drop(call.remove(name)));
        let Some(last) = steps.last_mut() else { return Err(WireError::Missing { field: "tasks" }) };
        with_end(last, |options| {
            for (name, value) in own {
                set_if_missing(options, name, value);
            }
            append(options, "link", &link);
        })?;
        for step in &mut steps {
            append(&mut step.options, "link_error", &errbacks);
            freeze(step, depth)?;
        }
        let mut steps = steps.into_iter();
        let Some(first) = steps.next() else { return Err(WireError::Missing { field: "tasks" }) };
        let rest: Vec<_> = steps.collect();
        let last = match rest.last() {
            Some(last) => Some(ended_by(last, depth)?),
            None => None,
        };
        // The list is taken from its end, so what comes after the whole chain stands first.
        let chain: Vec<_> = outer.into_iter().chain(rest.iter().rev().map(Signature::to_json)).collect();
        call.set("chain", map::list(&chain));
        let tuple = self.apply(plan, &first, partial, &call, depth)?;
        Ok(last.unwrap_or(tuple))
    }

    fn chord(
        &self,
        plan: &mut Plan,
        header: &Signature,
        mut body: Signature,
        partial: &[Json],
        mut call: Map,
        depth: usize,
    ) -> Result<Tuple, WireError> {
        let group = header.id().or_else(|| call.text("task_id").map(|id| id.into_owned())).unwrap_or_else(new_id);
        call.remove("task_id");
        let parent = call.remove("parent_id");
        // A delay is one of the header.
        let delay = ["countdown", "eta"].map(|name| (name, call.remove(name)));
        let (link, errbacks) = (call.list("link"), call.list("link_error"));
        ["link", "link_error"].iter().for_each(|name| drop(call.remove(name)));
        for (name, value) in call.iter().filter(|(_, value)| !value.is_null()) {
            body.options.set(name.to_owned(), value.clone());
        }
        append(&mut body.options, "link", &link);
        append(&mut body.options, "link_error", &errbacks);
        freeze(&mut body, depth)?;
        set_if_missing(&mut body.options, "group_id", Some(map::text(&group)));
        ["chain", "chord", "group_id", "group_index"].iter().for_each(|name| drop(call.remove(name)));
        if let Some(parent) = parent {
            call.set("parent_id", parent);
        }
        for (name, value) in delay {
            if let Some(value) = value {
                call.set(name, value);
            }
        }
        let mut header = header.clone();
        header.options.set_text("task_id", &group);
        // What belongs to the whole header is said by its chord.
        header.options.remove("chord");
        let is_empty = matches!(header.kind()?, Kind::Group(tasks) if tasks.is_empty());
        if is_empty {
            return self.apply(plan, &body, &[Json::from_valid("[]")], &call, depth);
        }
        call.set("chord", body.to_json());
        // What takes the header as something else than a group would not count its ends.
        if !matches!(header.kind()?, Kind::Group(_)) {
            header = Signature { options: header.options.clone(), ..Signature::group(&[without_id(header)]) };
        }
        let tuple = self.apply(plan, &header, partial, &call, depth)?;
        let members = crate::wire::object::items("results", tuple.as_str())?;
        let members = members.get(1).map(|json| crate::wire::object::items("results", json)).transpose()?;
        if members.unwrap_or_default().iter().any(|member| is_group(&Json::from_valid(*member))) {
            plan.trees.push((group, tuple.clone()));
        }
        // Of a chain it is the result of the last step, whatever that is.
        let ended = ended_by(&body, depth)?;
        let parts = crate::wire::object::items("a result", ended.as_str())?;
        let own = parts.first().map(|own| crate::wire::object::items("a result", own)).transpose()?.unwrap_or_default();
        let null = Json::null();
        let own = map::list([&own.first().map_or_else(Json::null, |id| Json::from_valid(*id)), &tuple]);
        Ok(map::list([&own, &parts.get(1).map_or(null, |children| Json::from_valid(*children))]))
    }
}

fn without_id(mut signature: Signature) -> Signature {
    signature.options.remove("task_id");
    signature
}

/// Members of groups in a group are members of it.
fn flatten(tasks: Vec<Signature>, members: &mut Vec<Signature>, depth: usize) -> Result<(), WireError> {
    let depth = deeper(depth)?;
    for task in tasks {
        match task.kind()? {
            Kind::Group(tasks) => flatten(tasks, members, depth)?,
            _ => members.push(task),
        }
    }
    Ok(())
}

/// The steps of a chain as they are carried out: without chains and empty groups in it, and a group before another step is
/// a chord with that step as its body.
fn prepared(steps: Vec<Signature>, depth: usize) -> Result<Vec<Signature>, WireError> {
    let mut plain = Vec::with_capacity(steps.len());
    splice(steps, &mut plain, depth)?;
    let mut done: Vec<Signature> = Vec::with_capacity(plain.len());
    for step in plain.into_iter().rev() {
        match step.kind()? {
            Kind::Group(_) if !done.is_empty() => {
                let body = done.pop().unwrap_or_else(|| step.clone());
                let mut chord = Signature::chord(&step, &body);
                chord.immutable = step.immutable;
                done.push(chord);
            }
            _ => done.push(step),
        }
    }
    done.reverse();
    Ok(done)
}

fn splice(steps: Vec<Signature>, plain: &mut Vec<Signature>, depth: usize) -> Result<(), WireError> {
    let depth = deeper(depth)?;
    let count = steps.len();
    for step in steps {
        match step.kind()? {
            Kind::Chain(steps) => splice(steps, plain, depth)?,
            Kind::Group(tasks) if tasks.is_empty() && count > 1 => {}
            Kind::Group(tasks) if tasks.len() == 1 => splice(tasks, plain, depth)?,
            _ => plain.push(step),
        }
    }
    Ok(())
}

/// Changes the options of what ends last in a step: the body of a chord, else the step itself.
pub(super) fn with_end(step: &mut Signature, change: impl FnOnce(&mut Map)) -> Result<(), WireError> {
    match step.kind()? {
        Kind::Chord { body, .. } => {
            let mut body = *body;
            change(&mut body.options);
            step.kwargs.set("body", body.to_json());
        }
        _ => change(&mut step.options),
    }
    Ok(())
}

/// Gives an id to each task whose result is one of this signature, so that it is known before they are sent.
fn freeze(signature: &mut Signature, depth: usize) -> Result<(), WireError> {
    let depth = deeper(depth)?;
    match signature.kind()? {
        Kind::Task => set_if_missing(&mut signature.options, "task_id", Some(map::text(&new_id()))),
        Kind::Group(mut tasks) => {
            set_if_missing(&mut signature.options, "task_id", Some(map::text(&new_id())));
            tasks.iter_mut().try_for_each(|task| freeze(task, depth))?;
            signature.set_tasks(&tasks);
        }
        Kind::Chain(mut steps) => {
            let id = signature.options.get("task_id").cloned();
            if let Some(last) = steps.last_mut() {
                with_end(last, |options| set_if_missing(options, "task_id", id))?;
                freeze(last, depth)?;
            }
            signature.set_tasks(&steps);
        }
        Kind::Chord { mut body, .. } => {
            freeze(&mut body, depth)?;
            signature.kwargs.set("body", body.to_json());
        }
    }
    Ok(())
}

/// The result of a signature that has its ids.
fn ended_by(signature: &Signature, depth: usize) -> Result<Tuple, WireError> {
    let depth = deeper(depth)?;
    let id = signature.id().unwrap_or_default();
    match signature.kind()? {
        Kind::Task => Ok(tuple_of(&id, None, None)),
        Kind::Chain(steps) => steps.last().map_or_else(|| Ok(tuple_of(&id, None, None)), |last| ended_by(last, depth)),
        Kind::Chord { body, .. } => ended_by(&body, depth),
        Kind::Group(tasks) => {
            let children = tasks.iter().map(|task| ended_by(task, depth)).collect::<Result<Vec<_>, _>>()?;
            Ok(tuple_of(&id, None, Some(&children)))
        }
    }
}
