//! L2, Hatchet engine. The stream on which a worker asks for what its durable runs did before, and hears what they wait for.

use super::{
    Answered, Shared, failed,
    session::Session,
    wire::{
        dispatcher::WorkerId,
        durable::{
            Answer, Ask, Awaited, Completed, Durable, EntryRef, Evict, Question, Told, WorkerStatus, error_type,
        },
    },
};
use crate::{adapters::StopReason, error::Result, task::Backoff};
use futures_util::{StreamExt, stream};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{Notify, mpsc, oneshot};
use tonic::Status;

/// How long an answer may take, reconnections included.
const ANSWER: Duration = Duration::from_secs(60);
/// How often the engine is told what is waited for: it answers with what was completed in between.
const STATUS: Duration = Duration::from_secs(1);
/// A broken stream is opened again after waits between these.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// One invocation of a durable run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Invocation {
    pub(super) task_run: String,
    pub(super) number: i32,
}

/// Something that was asked for and has an end: a wait, or a child.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    pub(super) invocation: Invocation,
    pub(super) branch: i64,
    pub(super) node: i64,
}

impl Entry {
    pub(super) fn of(entry: EntryRef) -> Self {
        let EntryRef { task_run, invocation, branch, node } = entry;
        Self { invocation: Invocation { task_run, number: invocation }, branch, node }
    }
}

/// What a worker's durable runs share.
pub(super) struct DurableStream {
    shared: Arc<Shared>,
    board: Mutex<Board>,
    /// Somebody asks, so the stream is to be opened.
    wanted: Notify,
}

#[derive(Default)]
struct Board {
    /// Into the open stream.
    ask: Option<mpsc::UnboundedSender<Question>>,
    /// Of one invocation, one question may be open: answers do not say what they answer.
    open: HashMap<Invocation, (Ask, oneshot::Sender<std::result::Result<Told, Status>>)>,
    awaited: HashMap<Entry, Option<oneshot::Sender<Completed>>>,
    /// What ended before anybody waited for it.
    ended: HashMap<Entry, Completed>,
}

impl DurableStream {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, board: Mutex::default(), wanted: Notify::new() }
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks, and waits for the answer. The caller makes sure that it asks one thing at a time.
    pub(super) async fn ask(&self, of: &Invocation, ask: Ask) -> Result<Told> {
        let (answer, told) = oneshot::channel();
        {
            let mut board = self.board();
            if let Some(open) = &board.ask {
                let _ = open.send(Question { ask: Some(ask.clone()) });
            }
            board.open.insert(of.clone(), (ask, answer));
        }
        self.wanted.notify_one();
        let told = tokio::time::timeout(ANSWER, told).await;
        self.board().open.remove(of);
        match told {
            Ok(Ok(told)) => told.map_err(|status| failed("go on with a durable run", status)),
            Ok(Err(_)) => Err(failed("go on with a durable run", Status::unavailable("the worker ends"))),
            Err(_) => {
                let status = Status::deadline_exceeded(format!("no answer within {ANSWER:?}"));
                Err(failed("go on with a durable run", status))
            }
        }
    }

    /// Says something that has no answer.
    pub(super) fn tell(&self, ask: Ask) {
        if let Some(open) = &self.board().ask {
            let _ = open.send(Question { ask: Some(ask) });
        }
    }

    /// Resolves when something has ended. Dropped, nobody waits for it any more.
    pub(super) async fn ended(&self, entry: &Entry) -> Completed {
        let (sender, completed) = oneshot::channel();
        {
            let mut board = self.board();
            if let Some(completed) = board.ended.remove(entry) {
                return completed;
            }
            board.awaited.insert(entry.clone(), Some(sender));
        }
        let _waiting = Waiting { stream: self, entry };
        match completed.await {
            Ok(completed) => completed,
            // The worker ends, and with it this run.
            Err(_) => std::future::pending().await,
        }
    }

    /// Forgets an invocation that is over.
    pub(super) fn forget(&self, of: &Invocation) {
        let mut board = self.board();
        board.open.remove(of);
        board.awaited.retain(|entry, _| entry.invocation != *of);
        board.ended.retain(|entry, _| entry.invocation != *of);
    }

    /// Keeps the stream open once somebody has asked something, for ever.
    pub(super) async fn keep(self: Arc<Self>, session: Arc<Session>, held: Arc<super::held::Held>) {
        self.wanted.notified().await;
        let pauses = Backoff::exponential(FIRST_PAUSE, LONGEST_PAUSE);
        let durable = Durable::new(self.shared.connection.calls().clone());
        let mut failures = 0;
        loop {
            let opened = tokio::time::Instant::now();
            let ended = self.listen(&durable, &session.worker(), &held).await;
            failures = if opened.elapsed() >= LONGEST_PAUSE { 1 } else { failures + 1 };
            tracing::info!(reason = %Answered::from(ended), "the stream of durable runs is opened again");
            tokio::time::sleep(pauses.delay(failures, fastrand::f64())).await;
        }
    }

    async fn listen(&self, durable: &Durable, worker: &str, held: &super::held::Held) -> Status {
        let (ask, mut questions) = mpsc::unbounded_channel();
        let register = Ask::Register(WorkerId { worker: worker.to_owned() });
        let _ = ask.send(Question { ask: Some(register) });
        {
            let mut board = self.board();
            // What was asked on the last stream may not have been heard: the engine knows what it did before.
            for (question, _) in board.open.values() {
                let _ = ask.send(Question { ask: Some(question.clone()) });
            }
            board.ask = Some(ask);
        }
        let asking = stream::poll_fn(move |context| questions.poll_recv(context));
        let mut answers = match durable.open(asking).await {
            Ok(answers) => answers,
            Err(status) => return status,
        };
        let mut ticks = tokio::time::interval(STATUS);
        loop {
            tokio::select! {
                answer = answers.next() => match answer {
                    Some(Ok(Answer { told: Some(told) })) => self.hear(told, held),
                    Some(Ok(Answer { told: None })) => {}
                    Some(Err(status)) => return status,
                    None => return Status::unavailable("the engine ended it"),
                },
                _ = ticks.tick() => self.tell_status(worker),
            }
        }
    }

    fn tell_status(&self, worker: &str) {
        let board = self.board();
        if board.awaited.is_empty() {
            return;
        }
        let waiting = board.awaited.keys().map(|entry| Awaited {
            task_run: entry.invocation.task_run.clone(),
            branch: entry.branch,
            node: entry.node,
            invocation: entry.invocation.number,
        });
        let status = WorkerStatus { worker: worker.to_owned(), waiting: waiting.collect() };
        if let Some(ask) = &board.ask {
            let _ = ask.send(Question { ask: Some(Ask::Status(status)) });
        }
    }

    fn hear(&self, told: Told, held: &super::held::Held) {
        let of = match &told {
            Told::Registered(_) => return,
            Told::Completed(_) => None,
            Told::Memo(found) => found.entry.clone().map(|entry| Entry::of(entry).invocation),
            Told::Waiting(waiting) => waiting.entry.clone().map(|entry| Entry::of(entry).invocation),
            Told::Refused(refused) => refused.entry.clone().map(|entry| Entry::of(entry).invocation),
            Told::Started(started) => {
                Some(Invocation { task_run: started.task_run.clone(), number: started.invocation })
            }
            Told::Evicted(evicted) => {
                Some(Invocation { task_run: evicted.task_run.clone(), number: evicted.invocation })
            }
            Told::Outdated(outdated) => {
                tracing::debug!(run = outdated.task_run, reason = outdated.reason, "another invocation took over");
                held.evict(&outdated.task_run, outdated.invocation, StopReason::Lost);
                return;
            }
        };
        match (told, of) {
            (Told::Completed(completed), _) => self.complete(completed),
            (told, Some(of)) => {
                let open = self.board().open.remove(&of);
                if let Some((_, answer)) = open {
                    let _ = answer.send(judged(told));
                }
            }
            (_, None) => tracing::warn!("the engine answers without saying to whom"),
        }
    }

    fn complete(&self, completed: Completed) {
        let Some(entry) = completed.entry.clone().map(Entry::of) else { return };
        let mut board = self.board();
        match board.awaited.get_mut(&entry).and_then(Option::take) {
            Some(waiting) => drop(waiting.send(completed)),
            None => drop(board.ended.insert(entry, completed)),
        }
    }

    /// Has the engine take an invocation out of the worker until what it waits for has ended.
    pub(super) async fn evict(&self, of: &Invocation) -> Result<()> {
        let evict = Evict { invocation: of.number, task_run: of.task_run.clone(), reason: Some("it waits".into()) };
        self.ask(of, Ask::Evict(evict)).await.map(drop)
    }
}

fn judged(told: Told) -> std::result::Result<Told, Status> {
    match told {
        Told::Refused(refused) if refused.error_type == error_type::NONDETERMINISM => Err(Status::invalid_argument(
            format!("it does something else than when it ran before: {}", refused.message),
        )),
        Told::Refused(refused) => Err(Status::internal(refused.message)),
        told => Ok(told),
    }
}

struct Waiting<'a> {
    stream: &'a DurableStream,
    entry: &'a Entry,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.stream.board().awaited.remove(self.entry);
    }
}
