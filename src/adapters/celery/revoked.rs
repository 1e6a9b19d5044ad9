//! L2, Celery engine. What was cancelled, as far as this worker has heard, and what it has in hands.

use super::wire::{map::Map, parcel::Parcel};
use crate::{
    adapters::{Stop, StopReason},
    task::Json,
    wire::object,
};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// The most ids that are remembered, as in Celery.
const MOST: usize = 50_000;

/// What is known of cancelled tasks.
#[derive(Debug, Default)]
pub(super) struct Revoked(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    ids: HashSet<String>,
    order: VecDeque<String>,
    running: HashMap<String, Vec<Running>>,
}

#[derive(Debug)]
struct Running {
    stop: Stop,
    has_begun: Arc<AtomicBool>,
}

/// A request to all workers (`celery/worker/control.py`).
#[derive(Debug, PartialEq)]
pub(super) struct Revoke {
    pub(super) ids: Vec<String>,
    /// Whether what runs is to be stopped, too.
    pub(super) terminate: bool,
}

impl Revoke {
    /// Reads a request; `None` for all others and those that are not for this worker.
    pub(super) fn read(parcel: &Parcel, node: &str) -> Option<Self> {
        let request = Map::read("a request", object::utf8(&parcel.body).ok()?).ok()?;
        if request.text("method")? != "revoke" {
            return None;
        }
        let to = request.list("destination");
        if !to.is_empty() && !to.iter().any(|name| object::decoded(name.as_str()).is_some_and(|name| name == node)) {
            return None;
        }
        let arguments = Map::read("arguments", request.get("arguments")?.as_str()).ok()?;
        let ids = arguments.list("task_id");
        let ids = ids.iter().filter_map(|id| object::decoded(id.as_str()).map(|id| id.into_owned())).collect();
        Some(Self { ids, terminate: arguments.flag("terminate").unwrap_or_default() })
    }

    /// The request to all workers to end these.
    pub(super) fn parcel(&self) -> Parcel {
        let ids: Vec<_> = self.ids.iter().map(|id| super::wire::map::text(id)).collect();
        let ids = super::wire::map::list(&ids);
        let body = format!(
            r#"{{"method":"revoke","arguments":{{"task_id":{ids},"terminate":{},"signal":"SIGTERM"}},"destination":null,"pattern":null,"matcher":null}}"#,
            self.terminate
        );
        let mut headers = Map::default();
        headers.set_int("clock", 1);
        headers.set("expires", Json::null());
        Parcel {
            content_type: super::wire::body::JSON.into(),
            content_encoding: "utf-8".into(),
            headers,
            properties: Map::default(),
            body: body.into_bytes(),
        }
    }
}

impl Revoked {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what was cancelled, and stops what has not begun, or everything.
    pub(super) fn note(&self, revoke: &Revoke) {
        let mut known = self.lock();
        for id in &revoke.ids {
            if known.ids.insert(id.clone()) {
                known.order.push_back(id.clone());
            }
            for running in known.running.get(id).into_iter().flatten() {
                if revoke.terminate || !running.has_begun.load(Ordering::Acquire) {
                    running.stop.fire(StopReason::Cancel);
                }
            }
        }
        while known.order.len() > MOST {
            let oldest = known.order.pop_front();
            oldest.map(|id| known.ids.remove(&id));
        }
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.lock().ids.contains(id)
    }

    /// Stops everything that is in hands.
    pub(super) fn stop_all(&self, reason: StopReason) {
        self.lock().running.values().flatten().for_each(|running| running.stop.fire(reason));
    }

    /// Notes a message in hands, until what is answered is dropped.
    pub(super) fn run<'a>(&'a self, id: &str, stop: &Stop) -> Run<'a> {
        let running = Running { stop: stop.clone(), has_begun: Arc::default() };
        let has_begun = running.has_begun.clone();
        self.lock().running.entry(id.to_owned()).or_default().push(running);
        Run { revoked: self, id: id.to_owned(), has_begun }
    }
}

/// A message in the hands of this worker.
pub(super) struct Run<'a> {
    revoked: &'a Revoked,
    id: String,
    has_begun: Arc<AtomicBool>,
}

impl Run<'_> {
    /// From now on its task runs.
    pub(super) fn begins(&self) {
        self.has_begun.store(true, Ordering::Release);
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        let mut known = self.revoked.lock();
        if let Some(all) = known.running.get_mut(&self.id) {
            all.retain(|running| !Arc::ptr_eq(&running.has_begun, &self.has_begun));
            if all.is_empty() {
                known.running.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(body: &str) -> Parcel {
        Parcel { body: body.as_bytes().to_vec(), ..Parcel::default() }
    }

    #[test]
    fn captured_requests_are_read() {
        let captured = r#"{"method": "revoke", "arguments": {"task_id": "495e", "terminate": false, "signal": "SIGTERM"}, "destination": null, "pattern": null, "matcher": null}"#;
        let want = |terminate| Some(Revoke { ids: vec!["495e".into()], terminate });
        assert_eq!(Revoke::read(&request(captured), "w@h"), want(false));
        let many = captured.replace("\"495e\"", "[\"495e\"]").replace("false", "true");
        assert_eq!(Revoke::read(&request(&many), "w@h"), want(true));
        let other = captured.replace("\"destination\": null", "\"destination\": [\"x@y\"]");
        assert_eq!(Revoke::read(&request(&other), "w@h"), None);
        assert_eq!(Revoke::read(&request(&other), "x@y"), want(false));
        assert_eq!(Revoke::read(&request(&captured.replace("revoke", "ping")), "w@h"), None);
        assert_eq!(Revoke::read(&want(true).unwrap().parcel(), "w@h"), want(true));
    }

    #[test]
    fn what_waits_is_stopped_and_what_runs_only_if_it_is_to_be() {
        let (revoked, [waits, runs]) = (Revoked::default(), [Stop::default(), Stop::default()]);
        let (_first, second) = (revoked.run("a", &waits), revoked.run("a", &runs));
        second.begins();
        let revoke = |terminate| Revoke { ids: vec!["a".into()], terminate };
        revoked.note(&revoke(false));
        assert_eq!((waits.reason(), runs.reason()), (Some(StopReason::Cancel), None));
        revoked.note(&revoke(true));
        assert_eq!(runs.reason(), Some(StopReason::Cancel));
        assert!(revoked.has("a") && !revoked.has("b"));
        drop((_first, second));
        assert!(revoked.lock().running.is_empty());
        revoked.note(&Revoke { ids: (0..=MOST).map(|n| n.to_string()).collect(), terminate: false });
        assert!(!revoked.has("a") && revoked.lock().order.len() == MOST);
    }
}
