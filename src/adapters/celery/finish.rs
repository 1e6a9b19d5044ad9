//! L2, Celery engine. Records outcomes and acknowledges, many at a time: few round trips when little is going on, no more for
//! hundreds of outcomes when much is.

use super::{
    Shared,
    backend::{Counted, Joined, Part, Record},
    broker::{End, Hold, Outgoing},
    canvas::{Plan, chord_failed, joined_failure},
    wire::{
        map::{self, Map},
        meta::{SUCCESS, StoredMeta},
        signature::Signature,
    },
};
use crate::{
    error::Result,
    redis::Backoff,
    task::Json,
    wire::{Limits, object},
};
use futures_util::{
    StreamExt,
    future::{BoxFuture, try_join_all},
    stream::FuturesUnordered,
};
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The most outcomes of one round trip.
const BATCH: usize = 256;
/// After how long it is asked again whether the body of a chord was called that somebody else is to call.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How deep results of groups may be nested in results of groups.
const DEEPEST: usize = 32;

/// What becomes of a message that a worker had. In this order: what is to be prepared, what is stored, what is counted; then
/// the message ends, and what follows it is sent in the same step.
#[derive(Debug)]
pub(super) struct Finish {
    pub(super) hold: Arc<Hold>,
    pub(super) records: Vec<Record>,
    /// Ends of tasks of chords.
    pub(super) parts: Vec<Part>,
    pub(super) plan: Plan,
    pub(super) end: End,
}

impl Finish {
    /// Ends a message, and nothing else.
    pub(super) fn acknowledge(hold: Arc<Hold>) -> Self {
        Self::of(hold, End::Acknowledge(Vec::new()))
    }

    pub(super) fn of(hold: Arc<Hold>, end: End) -> Self {
        Self { hold, records: Vec::new(), parts: Vec::new(), plan: Plan::default(), end }
    }

    /// Sends this after it.
    pub(super) fn send(&mut self, message: Outgoing) {
        if let End::Acknowledge(next) | End::Follow(next) = &mut self.end {
            next.push(message);
        }
    }

    /// Takes what a plan demands.
    pub(super) fn follow(&mut self, shared: &Shared, mut plan: Plan, ttl: Option<Duration>) {
        self.records.extend(plan.metas.drain(..).map(|meta| shared.record(&meta, ttl)));
        self.parts.append(&mut plan.parts);
        if let End::Acknowledge(next) | End::Follow(next) = &mut self.end {
            next.append(&mut plan.sends);
        }
        self.plan = plan;
    }
}

pub(super) struct Finisher {
    shared: Arc<Shared>,
}

/// How far a batch is, so that what has succeeded is not done again after a failure.
#[derive(Default)]
struct Done {
    prepared: bool,
    stored: bool,
    parts: usize,
    /// The outcomes, by their numbers, that cannot end yet: the body of their chord is still to be called by somebody else.
    pending: HashSet<usize>,
}

impl Finisher {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Until nobody is left who could have an outcome. After `now`, only as long as `grace`.
    pub(super) async fn run(self, mut outcomes: mpsc::Receiver<Finish>, now: CancellationToken, grace: Duration) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut pending = FuturesUnordered::new();
        loop {
            tokio::select! {
                count = outcomes.recv_many(&mut batch, BATCH) => if count == 0 { break },
                Some(finish) = pending.next() => batch.push(finish),
            }
            for finish in self.within(&mut batch, &now, grace).await {
                pending.push(async {
                    tokio::time::sleep(ASK_AGAIN).await;
                    finish
                });
            }
        }
        // Whoever takes them next asks again.
        while let Some(finish) = pending.next().await {
            batch.push(Finish::of(finish.hold, End::Requeue));
        }
        self.within(&mut batch, &now, grace).await;
    }

    /// Records a batch while there is time, and answers what has to be asked again.
    async fn within(&self, batch: &mut Vec<Finish>, now: &CancellationToken, grace: Duration) -> Vec<Finish> {
        let late = async {
            now.cancelled().await;
            tokio::time::sleep(grace).await;
        };
        let pending = tokio::select! {
            pending = self.until_recorded(batch) => pending,
            () = late => {
                tracing::warn!(count = batch.len(), "outcomes could not be recorded; their tasks run again");
                HashSet::new()
            }
        };
        let numbered = batch.drain(..).enumerate();
        numbered.filter_map(|(number, finish)| pending.contains(&number).then_some(finish)).collect()
    }

    async fn until_recorded(&self, batch: &[Finish]) -> HashSet<usize> {
        let (mut backoff, mut done) = (Backoff::new(), Done::default());
        while let Err(error) = self.record(batch, &mut done).await {
            tracing::warn!(%error, count = batch.len(), "outcomes could not be recorded yet");
            tokio::time::sleep(backoff.next()).await;
        }
        done.pending
    }

    async fn record(&self, batch: &[Finish], done: &mut Done) -> Result<()> {
        let shared = &*self.shared;
        if !done.prepared {
            let trees: Vec<_> = batch.iter().flat_map(|finish| finish.plan.trees.iter().cloned()).collect();
            let sizes: Vec<_> = batch.iter().flat_map(|finish| finish.plan.sizes.iter().cloned()).collect();
            shared.backend.prepare(&trees, &sizes).await?;
            done.prepared = true;
        }
        if !done.stored {
            let records: Vec<_> = batch.iter().flat_map(|finish| finish.records.iter().cloned()).collect();
            shared.backend.store(&records).await?;
            done.stored = true;
        }
        let numbered = batch.iter().enumerate();
        let (owners, parts): (Vec<_>, Vec<_>) =
            numbered.flat_map(|(number, finish)| finish.parts.iter().map(move |part| (number, part.clone()))).unzip();
        while done.parts < parts.len() {
            let range = done.parts..(done.parts + BATCH).min(parts.len());
            let theirs = shared.count(&parts[range.clone()], 0).await?;
            done.pending.extend(theirs.into_iter().map(|at| owners[range.start + at]));
            done.parts = range.end;
        }
        let ended = batch.iter().enumerate().filter(|(number, _)| !done.pending.contains(number));
        let ended: Vec<_> = ended.map(|(_, finish)| (&*finish.hold, &finish.end)).collect();
        shared.broker.settle(&ended).await
    }
}

impl Shared {
    /// Counts ends of tasks of chords, and calls the bodies of those that are complete with them. Answers the numbers of those
    /// whose body somebody else is to call: were that one lost and these forgotten, nobody would.
    pub(super) fn count<'a>(&'a self, parts: &'a [Part], depth: usize) -> BoxFuture<'a, Result<Vec<usize>>> {
        Box::pin(async move {
            // Each with a command of its own that travels with the others.
            let counted = try_join_all(parts.iter().map(|part| self.backend.count(part))).await?;
            let mut theirs = Vec::new();
            for (number, (part, counted)) in parts.iter().zip(counted).enumerate() {
                let joined = match counted {
                    Counted::Nothing => continue,
                    Counted::Theirs => {
                        theirs.push(number);
                        continue;
                    }
                    Counted::Ours(joined) => joined,
                };
                let mut backoff = Backoff::new();
                while let Err(error) = self.join(part, &joined, depth).await {
                    tracing::warn!(%error, group = part.group, "the body of a chord could not be called yet");
                    tokio::time::sleep(backoff.next()).await;
                }
            }
            Ok(theirs)
        })
    }

    async fn join(&self, part: &Part, joined: &Joined, depth: usize) -> Result<()> {
        let group = &*part.group;
        let body = match Signature::read(part.body.as_str()) {
            Ok(body) => body,
            Err(error) => {
                tracing::warn!(%error, group, "the body of a chord cannot be read; it is not called");
                return self.backend.give_up(group).await;
            }
        };
        let called = match self.gathered(joined).await? {
            Ok(results) => self.called(part, &body, &results),
            Err(words) => Err(words),
        };
        match called {
            Ok(plan) => {
                if !self.backend.begin(group, joined).await? {
                    tracing::warn!(group, "another worker calls the body of a chord");
                    return Ok(());
                }
                self.carry_out(plan, depth).await?;
                self.backend.end(group, joined).await
            }
            Err(words) => {
                tracing::warn!(group, body = body.task, "a chord has failed");
                self.carry_out(chord_failed(&self.canvas(), &body, &words, &part.root), depth).await?;
                self.backend.give_up(group).await
            }
        }
    }

    fn called(&self, part: &Part, body: &Signature, results: &Json) -> std::result::Result<Plan, String> {
        let (mut plan, mut call) = (Plan::default(), Map::default());
        call.set_text("parent_id", &part.task);
        if body.options.get("root_id").is_none() {
            call.set_text("root_id", &part.root);
        }
        let applied = self.canvas().apply(&mut plan, body, std::slice::from_ref(results), &call, 0);
        applied.map(|_| plan).map_err(|error| format!("Callback error: {error}"))
    }

    /// The results of a header as a list, or in which words it has failed.
    async fn gathered(&self, joined: &Joined) -> Result<std::result::Result<Json, String>> {
        if let Some(words) = joined.members.iter().find_map(joined_failure) {
            return Ok(Err(words));
        }
        if let Some(tree) = &joined.tree {
            let tree =
                Map::read("the tree of results", tree.as_str()).ok().and_then(|tree| tree.get("result").cloned());
            return match tree {
                Some(tree) => self.results_of(&tree, 0).await,
                None => Ok(Err("Join error: the tree of results cannot be read".into())),
            };
        }
        let result = |member: &Json| {
            object::items("an ended task", member.as_str()).ok()?.get(3).map(|json| Json::from_valid(*json))
        };
        let results: Vec<_> = joined.members.iter().filter_map(result).collect();
        Ok(Ok(map::list(&results)))
    }

    /// What the tasks of a tree returned, in its form.
    fn results_of<'a>(
        &'a self,
        tree: &'a Json,
        depth: usize,
    ) -> BoxFuture<'a, Result<std::result::Result<Json, String>>> {
        Box::pin(async move {
            let unreadable = || Ok(Err("Join error: the tree of results cannot be read".to_owned()));
            let Ok(items) = object::items("a result", tree.as_str()) else { return unreadable() };
            let [own, children] = items[..] else { return unreadable() };
            if depth > DEEPEST {
                return unreadable();
            }
            if children != "null" {
                let Ok(children) = object::items("results", children) else { return unreadable() };
                let mut results = Vec::with_capacity(children.len());
                for child in children {
                    match self.results_of(&Json::from_valid(child), depth + 1).await? {
                        Ok(result) => results.push(result),
                        Err(words) => return Ok(Err(words)),
                    }
                }
                return Ok(Ok(map::list(&results)));
            }
            let id = object::items("a result", own).ok().and_then(|own| object::decoded(own.first()?));
            let Some(id) = id else { return unreadable() };
            let stored = self.backend.load(&[id.clone().into_owned()]).await?.pop().flatten();
            let stored = stored.and_then(|bytes| StoredMeta::decode(&bytes, &Limits::default()).ok());
            Ok(match stored {
                Some(stored) if stored.state == SUCCESS => Ok(stored.result),
                Some(stored) => {
                    Err(format!("Dependency {id} raised {}", super::wire::failure::shown(stored.result.as_str())))
                }
                None => Err(format!("Join error: no result of {id}")),
            })
        })
    }

    /// Does everything that a plan demands.
    async fn carry_out(&self, plan: Plan, depth: usize) -> Result<()> {
        self.backend.prepare(&plan.trees, &plan.sizes).await?;
        let records: Vec<_> = plan.metas.iter().map(|meta| self.record(meta, None)).collect();
        self.backend.store(&records).await?;
        self.send(&plan.sends).await?;
        if plan.parts.is_empty() {
            return Ok(());
        }
        if depth > DEEPEST {
            tracing::warn!("chords are nested too deep; one of them does not end");
            return Ok(());
        }
        match self.count(&plan.parts, depth + 1).await?.len() {
            0 => Ok(()),
            _ => Err(super::OWNER.failed("call the body of a chord", "another worker is to call it", true)),
        }
    }
}
