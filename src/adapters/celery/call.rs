//! L2, Celery engine. Celery's canvas for Rust clients: signatures, chains, groups and chords of tasks that workers of either
//! language run.

use super::{
    CeleryAdapter, CeleryApp, CelerySchedule, OWNER, Shared,
    backend::Waiter,
    canvas::Plan,
    wire::{
        map::{self, Map},
        signature::Signature,
    },
};
use crate::{
    error::{Error, Result},
    task::{Arguments, IntoArguments, Json, TaskId, TaskName, TaskResult, Untyped},
    wire::object,
};
use chrono::{DateTime, Utc};
use futures_util::future::{BoxFuture, try_join_all};
use std::{fmt, sync::Arc, time::Duration};

/// A call in Celery's own form, which Python calls a signature: of one task, or of several as a chain, a group or a chord.
///
/// What one task returns is the first argument of the next, unless that is [immutable](Self::immutable).
///
/// ```
/// use mageflow::{adapters::celery::CeleryCall, args};
///
/// let thumbnails = CeleryCall::group([
///     CeleryCall::task("images.resize", args![100]),
///     CeleryCall::task("images.resize", args![200]),
/// ]);
/// let all = CeleryCall::chain([
///     CeleryCall::task("images.fetch", args!["https://example.com/a.png"]),
///     thumbnails,
///     CeleryCall::task("images.publish", args![]).queue("python"),
/// ]);
/// ```
#[derive(Clone)]
#[must_use = "nothing is called before it is sent"]
pub struct CeleryCall {
    signature: Signature,
    /// The first argument that could not be encoded.
    broken: Option<String>,
}

impl CeleryCall {
    /// What is sent, or which argument could not be encoded.
    pub(super) fn signature(self) -> std::result::Result<Signature, String> {
        self.broken.map_or(Ok(self.signature), Err)
    }

    /// A call of one task, by its name.
    pub fn task(task: impl Into<TaskName>, arguments: impl IntoArguments<Untyped>) -> Self {
        let task = task.into();
        let (arguments, broken) = match arguments.into_arguments(&crate::task::CallShape::default()) {
            Ok(arguments) => (arguments, None),
            Err(error) => (Arguments::none(), Some(error.to_string())),
        };
        let args = arguments.args().cloned().unwrap_or_else(|| Json::from_valid("[]"));
        let kwargs = Map::read_optional("kwargs", arguments.kwargs().map(Json::as_str));
        let broken = broken.or_else(|| kwargs.as_ref().err().map(ToString::to_string));
        Self { signature: Signature::task(task.as_str(), args, kwargs.unwrap_or_default()), broken }
    }

    /// One after the other, each with the result before it. A group that is followed by a call is a chord.
    pub fn chain(steps: impl IntoIterator<Item = CeleryCall>) -> Self {
        Self::of_many(steps, Signature::chain)
    }

    /// Side by side; yields a list of what they return, in their order.
    pub fn group(calls: impl IntoIterator<Item = CeleryCall>) -> Self {
        Self::of_many(calls, Signature::group)
    }

    /// Side by side, and then `body` with a list of what they returned.
    pub fn chord(header: impl IntoIterator<Item = CeleryCall>, body: CeleryCall) -> Self {
        let mut header = Self::group(header);
        let broken = header.broken.take().or(body.broken);
        Self { signature: Signature::chord(&header.signature, &body.signature), broken }
    }

    fn of_many(calls: impl IntoIterator<Item = CeleryCall>, make: fn(&[Signature]) -> Signature) -> Self {
        let mut broken = None;
        let signatures: Vec<_> = calls
            .into_iter()
            .map(|call| {
                broken = broken.take().or(call.broken);
                call.signature
            })
            .collect();
        Self { signature: make(&signatures), broken }
    }

    /// Takes no result of what came before: Python's `si`. Of a group, none of its calls does; of a chain, its first; of a chord,
    /// none of its header.
    pub fn immutable(mut self) -> Self {
        let broken = self.signature.make_immutable(0).err();
        self.broken = self.broken.or(broken.map(|error| format!("the call: {error}")));
        self
    }

    /// The queue that it is sent to. Defaults to that of the routes.
    pub fn queue(self, name: &str) -> Self {
        self.set("queue", map::text(name))
    }

    /// How urgent it is: on Redis 0 comes first, and 9 last. Defaults to 0, as in Python.
    pub fn priority(self, priority: u8) -> Self {
        self.set("priority", Json::from_valid(priority.to_string()))
    }

    /// Begins not before so much time has passed since it was sent.
    pub fn countdown(self, wait: Duration) -> Self {
        self.set("countdown", Json::from_valid(format!("{:?}", wait.as_secs_f64())))
    }

    /// Begins not before this time.
    pub fn eta(self, time: DateTime<Utc>) -> Self {
        self.set("eta", map::text(&super::wire::times::text(time)))
    }

    /// Does not begin when so much time has passed since it was sent: it ends as expired.
    pub fn expires(self, limit: Duration) -> Self {
        self.set("expires", Json::from_valid(format!("{:?}", limit.as_secs_f64())))
    }

    /// How long one attempt may take.
    pub fn time_limit(self, limit: Duration) -> Self {
        self.set("time_limit", Json::from_valid(format!("{:?}", limit.as_secs_f64())))
    }

    /// Stores no result.
    pub fn ignore_result(self) -> Self {
        self.set("ignore_result", Json::from_valid("true"))
    }

    /// A header of the message, beside those of Celery.
    pub fn header(mut self, name: &str, value: impl Into<Json>) -> Self {
        let headers = self.signature.options.get("headers").and_then(|json| Map::read("headers", json.as_str()).ok());
        let mut headers = headers.unwrap_or_default();
        headers.set(name.to_owned(), value.into());
        self.signature.options.set("headers", headers.to_json());
        self
    }

    /// Is called with the result: Python's `link`.
    pub fn link(self, callback: CeleryCall) -> Self {
        self.append("link", callback)
    }

    /// Is called with the id of the task that failed: Python's `link_error`.
    pub fn link_error(self, callback: CeleryCall) -> Self {
        self.append("link_error", callback)
    }

    fn append(mut self, name: &'static str, callback: CeleryCall) -> Self {
        let mut all = self.signature.options.list(name);
        all.push(callback.signature.to_json());
        self.broken = self.broken.or(callback.broken);
        self.set(name, map::list(&all))
    }

    fn set(mut self, name: &'static str, value: Json) -> Self {
        self.signature.options.set(name, value);
        self
    }
}

impl fmt::Debug for CeleryCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CeleryCall").field("task", &self.signature.task).finish_non_exhaustive()
    }
}

/// What was called: the tasks whose results are its result.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CeleryResult {
    /// One task: also that at the end of a chain, and the body of a chord.
    Task(TaskId),
    /// A group, with what its members are.
    Group {
        /// Celery's id of the group.
        id: String,
        /// In their order.
        members: Vec<CeleryResult>,
    },
}

impl CeleryResult {
    /// Reads `[[id, parent], children]`.
    fn read(tuple: &str) -> Option<Self> {
        let items = object::items("a result", tuple).ok()?;
        let [own, children] = items[..] else { return None };
        let id = object::decoded(object::items("a result", own).ok()?.first()?)?;
        if children == "null" {
            return Some(Self::Task(TaskId::from(&*id)));
        }
        let children = object::items("results", children).ok()?;
        let members = children.into_iter().map(Self::read).collect::<Option<Vec<_>>>()?;
        Some(Self::Group { id: id.into_owned(), members })
    }

    /// Writes `[[id, parent], children]`.
    fn to_json(&self) -> Json {
        let null = Json::null();
        let own = |id: &str| map::list([&map::text(id), &null]);
        match self {
            Self::Task(id) => map::list([&own(&id.to_string()), &null]),
            Self::Group { id, members } => {
                let members: Vec<_> = members.iter().map(Self::to_json).collect();
                map::list([&own(id), &map::list(&members)])
            }
        }
    }

    fn ids<'a>(&'a self, ids: &mut Vec<&'a TaskId>) {
        match self {
            Self::Task(id) => ids.push(id),
            Self::Group { members, .. } => members.iter().for_each(|member| member.ids(ids)),
        }
    }
}

/// What is stored of a task, in Celery's words.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CeleryState {
    /// `STARTED`, `RETRY`, `SUCCESS`, `FAILURE`, `REVOKED`, or what the task calls it.
    pub state: String,
    /// The result, the exception as an object, or what the task says about its state. Types of kombu stand there as they are
    /// written, see [`CeleryValue`](super::CeleryValue).
    pub result: Json,
    /// Of a failure.
    pub traceback: Option<String>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
}

/// Sends calls in Celery's own form and waits for their results. Cheap to clone.
///
/// ```no_run
/// use mageflow::{adapters::celery::{CeleryApp, CeleryCall, CeleryCanvas}, args};
///
/// # async fn run() -> mageflow::Result<()> {
/// let canvas = CeleryCanvas::connect(CeleryApp::new("redis://localhost:6379")).await?;
/// let numbers = (0..3).map(|n| CeleryCall::task("py.add", args![n, 1]));
/// let sum = canvas.run(CeleryCall::chord(numbers, CeleryCall::task("py.sum", args![]))).await?;
/// assert_eq!(sum.as_str(), "6");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct CeleryCanvas {
    shared: Arc<Shared>,
}

impl CeleryCanvas {
    /// Connects, and checks that the servers can be used.
    ///
    /// # Errors
    /// As [`CeleryAdapter::connect`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn connect(app: CeleryApp) -> Result<Self> {
        Ok(CeleryAdapter::connect(app).await?.canvas())
    }

    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Sends a call, and answers with where its result will be.
    ///
    /// # Errors
    /// [`Error::InvalidArguments`] if an argument cannot be encoded or calls are nested too deep, [`Error::Engine`] if the
    /// server does not answer; some of the tasks may have been sent then.
    ///
    /// # Cancel safety
    /// Dropped, some of the tasks may have been sent.
    pub async fn send(&self, call: CeleryCall) -> Result<CeleryResult> {
        let (plan, result) = self.planned(&call)?;
        self.carry_out(plan).await?;
        Ok(result)
    }

    /// Sends a call and waits for its result: what its last task returned, or a list for a group.
    ///
    /// # Errors
    /// As [`send`](Self::send); [`Error::TaskFailed`] or [`Error::TaskCancelled`] for the first task that has no result.
    ///
    /// # Cancel safety
    /// As [`send`](Self::send). What was sent goes on.
    pub async fn run(&self, call: CeleryCall) -> Result<Json> {
        let (plan, result) = self.planned(&call)?;
        let mut ids = Vec::new();
        result.ids(&mut ids);
        let mut waiters: Vec<_> = ids.iter().map(|id| self.shared.backend.waiter(&id.to_string())).collect();
        // Before anything is sent: its end may come at once.
        try_join_all(waiters.iter_mut().map(|waiter| waiter.ready())).await?;
        self.carry_out(plan).await?;
        let mut waiters = ids.into_iter().zip(waiters).collect::<Vec<_>>().into_iter();
        gathered(&result, &mut waiters, false).await
    }

    /// Waits for the result of what was sent before.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub async fn wait(&self, result: &CeleryResult) -> Result<Json> {
        let mut ids = Vec::new();
        result.ids(&mut ids);
        let mut waiters: Vec<_> = ids.iter().map(|id| self.shared.backend.waiter(&id.to_string())).collect();
        try_join_all(waiters.iter_mut().map(|waiter| waiter.ready())).await?;
        let mut waiters = ids.into_iter().zip(waiters).collect::<Vec<_>>().into_iter();
        gathered(result, &mut waiters, true).await
    }

    /// What is known of one task right now.
    ///
    /// # Errors
    /// [`Error::Engine`].
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub async fn result(&self, id: &TaskId) -> Result<TaskResult> {
        self.shared.result(id).await
    }

    /// What is stored of a task, in Celery's words: also a state that the task has given itself. Nothing is stored of one that
    /// waits.
    ///
    /// # Errors
    /// [`Error::Engine`].
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub async fn state(&self, id: &TaskId) -> Result<Option<CeleryState>> {
        let stored = self.shared.stored(&id.to_string()).await?;
        Ok(stored.map(|stored| CeleryState {
            state: stored.state,
            result: stored.result,
            traceback: stored.traceback,
            ended_at: stored.date_done,
        }))
    }

    /// Keeps which tasks are in a group, under its id: Python's `GroupResult.save`. Kept as long as results are.
    ///
    /// # Errors
    /// [`Error::InvalidArguments`] for what is no group, [`Error::Engine`].
    ///
    /// # Cancel safety
    /// Dropped, it may have been kept.
    pub async fn save(&self, result: &CeleryResult) -> Result<()> {
        let CeleryResult::Group { id, .. } = result else {
            return Err(Error::InvalidArguments { reason: "only a group can be saved".into() });
        };
        self.shared.backend.prepare(&[(id.clone(), result.to_json())], &[]).await
    }

    /// The tasks of a group that was saved, by this library or by Python: `GroupResult.restore`.
    ///
    /// # Errors
    /// [`Error::Engine`], also if what is kept cannot be read.
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub async fn restore(&self, id: &str) -> Result<Option<CeleryResult>> {
        let Some(kept) = self.shared.backend.tree(id).await? else { return Ok(None) };
        let tree = std::str::from_utf8(&kept).ok().and_then(|text| Map::read("a saved group", text).ok());
        let result = tree.and_then(|tree| CeleryResult::read(tree.get("result")?.as_str()));
        result.map(Some).ok_or_else(|| OWNER.failed("restore a group", "what is kept cannot be read", false))
    }

    /// A schedule, without entries so far, of calls that are sent again and again.
    pub fn schedule(&self) -> CelerySchedule {
        CelerySchedule::new(self.clone())
    }

    /// Whether this can be sent.
    pub(super) fn check(&self, call: &CeleryCall) -> Result<()> {
        self.planned(call).map(drop)
    }

    /// Up to when the times of a schedule's entry have been seen to.
    pub(super) async fn seen(&self, entry: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>> {
        let seen = self.shared.broker.seen(entry, now.timestamp_millis()).await?;
        Ok(DateTime::from_timestamp_millis(seen).unwrap_or(now))
    }

    /// Sends what an entry of a schedule sends at a time, unless somebody did. Answers whether it did.
    pub(super) async fn send_due(&self, entry: &str, at: DateTime<Utc>, call: &CeleryCall) -> Result<bool> {
        let (plan, _) = self.planned(call)?;
        self.shared.backend.prepare(&plan.trees, &plan.sizes).await?;
        self.shared.broker.publish_due(entry, at.timestamp_millis(), &plan.sends).await
    }

    fn planned(&self, call: &CeleryCall) -> Result<(Plan, CeleryResult)> {
        if let Some(reason) = &call.broken {
            return Err(Error::InvalidArguments { reason: reason.clone() });
        }
        let mut plan = Plan::default();
        let applied = self.shared.canvas().apply(&mut plan, &call.signature, &[], &Map::default(), 0);
        let tuple = applied.map_err(|error| Error::InvalidArguments { reason: format!("the call: {error}") })?;
        let result = CeleryResult::read(tuple.as_str());
        let result = result.ok_or_else(|| OWNER.failed("call", "no result", false))?;
        Ok((plan, result))
    }

    async fn carry_out(&self, plan: Plan) -> Result<()> {
        self.shared.backend.prepare(&plan.trees, &plan.sizes).await?;
        self.shared.send(&plan.sends).await
    }
}

type Waiters<'a> = std::vec::IntoIter<(&'a TaskId, Box<dyn Waiter>)>;

fn gathered<'a, 'b>(result: &'a CeleryResult, waiters: &'a mut Waiters<'b>, looks: bool) -> BoxFuture<'a, Result<Json>>
where
    'b: 'a,
{
    Box::pin(async move {
        match result {
            CeleryResult::Task(_) => {
                let Some((id, mut waiter)) = waiters.next() else { return Ok(Json::null()) };
                let result = waiter.ended(looks).await?.into_task_result(id.clone());
                result.output::<Json>()
            }
            CeleryResult::Group { members, .. } => {
                let mut results = Vec::with_capacity(members.len());
                for member in members {
                    results.push(gathered(member, waiters, looks).await?);
                }
                Ok(map::list(&results))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args;

    #[test]
    fn calls_are_signatures() {
        let call = CeleryCall::task("t", args![1, a = 2])
            .queue("q")
            .priority(3)
            .countdown(Duration::from_millis(1500))
            .header("mine", serde_json::json!({"x": 1}))
            .header("other", Json::null())
            .link(CeleryCall::task("l", args![]))
            .immutable();
        let signature = &call.signature;
        assert_eq!((signature.args.as_str(), signature.kwargs.int("a"), signature.immutable), ("[1]", Some(2), true));
        assert_eq!(signature.options.number("countdown"), Some(1.5));
        assert_eq!(signature.options.get("headers").unwrap().as_str(), r#"{"mine":{"x":1},"other":null}"#);
        assert_eq!(signature.options.list("link").len(), 1);
        assert_eq!(format!("{call:?}"), "CeleryCall { task: \"t\", .. }");
        let group = CeleryCall::group([CeleryCall::task("t", args![]), CeleryCall::task("t", args![])]);
        let chain = CeleryCall::chain([group, CeleryCall::task("t", args![])]).immutable();
        assert_eq!(chain.signature.to_json().as_str().matches(r#""immutable":true"#).count(), 4);
        let broken = std::collections::BTreeMap::from([((1, 2), 3)]);
        let group = CeleryCall::group([CeleryCall::task("t", args![]), CeleryCall::task("t", args![broken])]);
        assert!(group.broken.is_some() && CeleryCall::chain([group]).broken.is_some());
    }

    #[test]
    fn results_are_trees() {
        let read = CeleryResult::read(r#"[["g",null],[[["a",null],null],[["b",[["p",null],null]],null]]]"#);
        let Some(CeleryResult::Group { id, members }) = read else { panic!("no group") };
        assert_eq!((&*id, members), ("g", ["a", "b"].map(|id| CeleryResult::Task(id.into())).to_vec()));
        let tree = CeleryResult::Group { id: "g".into(), members: vec![CeleryResult::Task("a".into())] };
        assert_eq!(CeleryResult::read(tree.to_json().as_str()), Some(tree));
        assert!(CeleryResult::read("[]").is_none() && CeleryResult::read("5").is_none());
    }
}
