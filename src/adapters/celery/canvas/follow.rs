//! L2, Celery engine. What the end of a task leads to (`celery/app/trace.py`, `celery/backends/base.py`).

use super::{
    Canvas, Plan,
    apply::{append, with_end},
};
use crate::{
    adapters::celery::{
        backend::Part,
        wire::{
            WireError, failure,
            map::{self, Map},
            message::Message,
            meta::{self, Meta},
            signature::{Kind, Signature, deeper},
        },
    },
    task::{Json, TaskId},
    wire::object,
};

/// Options of the calls that a task makes at its end.
fn call_of(message: &Message) -> Map {
    let mut call = Map::default();
    call.set_text("parent_id", &message.id);
    call.set_text("root_id", &message.root_id());
    call
}

/// Calls what follows a result: callbacks, and the next step of a chain. Answers with the results of these calls besides.
///
/// # Errors
/// If what follows is no signature. The task has failed then.
pub(in crate::adapters::celery) fn succeeded(
    canvas: &Canvas<'_>,
    message: &Message,
    result: &Json,
) -> Result<(Plan, Vec<Json>), WireError> {
    let (mut plan, mut children) = (Plan::default(), Vec::new());
    let (call, partial) = (call_of(message), std::slice::from_ref(result));
    let embed = &message.embed;
    let callbacks = embed.callbacks.iter().map(|json| Signature::read(json.as_str())).collect::<Result<Vec<_>, _>>()?;
    match &callbacks[..] {
        [] => {}
        [one] => children.push(canvas.apply(&mut plan, one, partial, &call, 0)?),
        several => {
            let is_group = |one: &Signature| Ok::<_, WireError>(matches!(one.kind()?, Kind::Group(_)));
            let mut others = Vec::new();
            for one in several {
                if is_group(one)? {
                    children.push(canvas.apply(&mut plan, one, partial, &call, 0)?);
                } else {
                    others.push(one.clone());
                }
            }
            if !others.is_empty() {
                children.push(canvas.apply(&mut plan, &Signature::group(&others), partial, &call, 0)?);
            }
        }
    }
    if let Some((next, rest)) = embed.chain.split_last() {
        let mut call = call;
        if !rest.is_empty() {
            call.set("chain", map::list(rest));
        }
        children.push(canvas.apply(&mut plan, &Signature::read(next.as_str())?, partial, &call, 0)?);
    }
    Ok((plan, children))
}

/// Calls a signature in the place of a task: under its id, and with everything that follows it (`celery/app/task.py`).
///
/// # Errors
/// If it is no signature, or a group: the id of a task is that of one result.
pub(in crate::adapters::celery) fn replaced(
    canvas: &Canvas<'_>,
    message: &Message,
    mut signature: Signature,
) -> Result<Plan, WireError> {
    let (embed, headers) = (&message.embed, &message.headers);
    if matches!(signature.kind()?, Kind::Group(_)) {
        return Err(WireError::Invalid { field: "replacement", expected: "a task, a chain or a chord" });
    }
    with_end(&mut signature, |options| options.set_text("task_id", &message.id))?;
    append(&mut signature.options, "link", &embed.callbacks);
    append(&mut signature.options, "link_error", &embed.errbacks);
    let mut call = Map::default();
    call.set_text("root_id", &message.root_id());
    for (option, header) in [("parent_id", "parent_id"), ("group_id", "group"), ("group_index", "group_index")] {
        if let Some(value) = headers.get(header).filter(|value| !value.is_null()) {
            call.set(option, value.clone());
        }
    }
    call.set_int("replaced_task_nesting", headers.int("replaced_task_nesting").unwrap_or_default().saturating_add(1));
    if !embed.chain.is_empty() {
        call.set("chain", map::list(&embed.chain));
    }
    if let Some(body) = &embed.chord {
        call.set("chord", body.clone());
    }
    let stamps = message.stamps();
    if !stamps.is_empty() {
        let names: Vec<_> = message.stamped_headers().iter().map(|name| map::text(name)).collect();
        call.set("stamped_headers", map::list(&names));
        stamps.iter().for_each(|(name, value)| call.set(name.to_owned(), value.clone()));
    }
    let mut plan = Plan::default();
    canvas.apply(&mut plan, &signature, &[], &call, 0)?;
    Ok(plan)
}

/// Tells everybody who waits for what comes after a task that it does not come. `meta` is what is stored of the task itself.
pub(in crate::adapters::celery) fn failed(canvas: &Canvas<'_>, message: &Message, meta: &Meta) -> Plan {
    let mut plan = Plan::default();
    for step in &message.embed.chain {
        if let Err(error) = fail_step(&mut plan, step, meta, &message.root_id(), 0) {
            tracing::warn!(%error, id = message.id, "a step of a chain cannot be read; whoever waits for it waits on");
        }
    }
    call_back(canvas, &mut plan, &message.embed.errbacks, &message.id, &call_of(message));
    plan
}

fn call_back(canvas: &Canvas<'_>, plan: &mut Plan, errbacks: &[Json], id: &str, call: &Map) {
    let errbacks: Result<Vec<_>, _> = errbacks.iter().map(|json| Signature::read(json.as_str())).collect();
    let called = errbacks.and_then(|errbacks| match errbacks.is_empty() {
        true => Ok(()),
        false => canvas.apply(plan, &Signature::group(&errbacks), &[map::text(id)], call, 0).map(drop),
    });
    if let Err(error) = called {
        tracing::warn!(%error, id, "error callbacks cannot be read; they are not called");
    }
}

fn fail_step(plan: &mut Plan, step: &Json, meta: &Meta, root: &str, depth: usize) -> Result<(), WireError> {
    let (step, depth) = (Signature::read(step.as_str())?, deeper(depth)?);
    if let Some(id) = step.id() {
        let group_id = step.options.text("group_id").map(|id| id.into_owned());
        plan.metas.push(Meta { task_id: id, group_id, parent_id: None, children: Vec::new(), ..meta.clone() });
    }
    plan.parts.extend(part_of(&step, meta, root));
    if let Kind::Chord { body, .. } = step.kind()? {
        fail_step(plan, &body.to_json(), meta, root, depth)?;
    }
    for step in step.options.list("chain") {
        fail_step(plan, &step, meta, root, depth)?;
    }
    Ok(())
}

/// The end of a task that never runs, where it belongs to a chord.
fn part_of(signature: &Signature, meta: &Meta, root: &str) -> Option<Part> {
    Some(Part {
        group: signature.options.text("group_id")?.into_owned(),
        task: signature.id()?,
        index: signature.options.int("group_index"),
        state: meta.state.clone(),
        result: meta.result.clone(),
        body: signature.options.get("chord")?.clone(),
        root: root.to_owned(),
        token: TaskId::new().to_string(),
    })
}

/// The words of a chord's error, if a member of its header has failed.
pub(in crate::adapters::celery) fn joined_failure(member: &Json) -> Option<String> {
    let items = object::items("an ended task", member.as_str()).ok()?;
    let [_, task, state, result] = items[..] else { return Some("an ended task cannot be read".into()) };
    let (task, state) = (object::decoded(task).unwrap_or_default(), object::decoded(state)?);
    matches!(&*state, meta::FAILURE | meta::REVOKED)
        .then(|| format!("Dependency {task} raised {}", failure::shown(result)))
}

/// What happens instead of a chord's body whose header has failed.
pub(in crate::adapters::celery) fn chord_failed(
    canvas: &Canvas<'_>,
    body: &Signature,
    words: &str,
    root: &str,
) -> Plan {
    let mut plan = Plan::default();
    let mut meta = Meta::new("", meta::FAILURE, failure::chord_error(words));
    meta.traceback = Some(format!("celery.exceptions.ChordError: {words}"));
    let ends = match body.kind() {
        Ok(Kind::Group(tasks)) => tasks,
        _ => vec![body.clone()],
    };
    for end in &ends {
        let Some(id) = end.id() else { continue };
        let mut call = Map::default();
        call.set_text("parent_id", &id);
        call.set_text("root_id", root);
        let mut errbacks = end.options.list("link_error");
        if ends.len() > 1 {
            errbacks.extend(body.options.list("link_error"));
        }
        if let Err(error) = fail_step(&mut plan, &end.to_json(), &meta, root, 0) {
            tracing::warn!(%error, id, "the body of a chord cannot be read");
        }
        call_back(canvas, &mut plan, &errbacks, &id, &call);
    }
    if matches!(body.kind(), Ok(Kind::Group(_))) {
        for step in body.options.list("chain") {
            if let Err(error) = fail_step(&mut plan, &step, &meta, root, 0) {
                tracing::warn!(%error, "a step after a chord cannot be read");
            }
        }
    }
    plan
}
