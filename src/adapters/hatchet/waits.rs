//! L2, Hatchet engine. Ends of runs for those who wait here: one stream for all of them, opened again when it breaks.

use super::wire::{
    dispatcher::{Dispatcher, RunEnded},
    workflows::RunId,
};
use crate::task::Backoff;
use futures_util::{StreamExt, stream};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A broken stream is opened again after waits between these.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A stream that lived for so long was a good one.
const GOOD: Duration = Duration::from_secs(5);

/// How many who wait look at the engine at once.
const LOOKS: usize = 4;
/// How long a place is kept free after a look that found no end: the stream will tell, and the engine has work to do.
const REST: Duration = Duration::from_millis(200);

/// Those who wait, by the ids of their runs.
#[derive(Debug)]
pub(super) struct Waits {
    board: Arc<Mutex<Board>>,
    /// First come, first served.
    looks: Arc<Semaphore>,
    /// Ends the stream together with this.
    end: CancellationToken,
    _end: DropGuard,
}

#[derive(Debug, Default)]
struct Board {
    waiting: HashMap<String, Vec<Waiter>>,
    next: u64,
    /// Into the open stream. `None` before the first one waits.
    asked: Option<mpsc::UnboundedSender<RunId>>,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    told: oneshot::Sender<RunEnded>,
}

/// A turn to look at the engine. Who has one must not ask for another.
pub(super) struct Turn(OwnedSemaphorePermit);

impl Turn {
    /// The look found no end: the next one is to come later.
    pub(super) fn was_early(self) {
        tokio::spawn(async move {
            tokio::time::sleep(REST).await;
            drop(self.0);
        });
    }
}

/// One who waits. Dropped, it is forgotten.
pub(super) struct Wait<'a> {
    waits: &'a Waits,
    id: String,
    number: u64,
    told: oneshot::Receiver<RunEnded>,
}

impl Default for Waits {
    fn default() -> Self {
        let end = CancellationToken::new();
        let looks = Arc::new(Semaphore::new(LOOKS));
        Self { board: Arc::default(), looks, end: end.clone(), _end: end.drop_guard() }
    }
}

fn lock(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Waits {
    /// Notes that somebody waits for the end of a run.
    pub(super) fn wait(&self, dispatcher: &Dispatcher, id: &str) -> Wait<'_> {
        let (told, receiver) = oneshot::channel();
        let mut board = lock(&self.board);
        let number = board.next;
        board.next += 1;
        let waiters = board.waiting.entry(id.to_owned()).or_default();
        let is_first = waiters.is_empty();
        waiters.push(Waiter { number, told });
        match &board.asked {
            // Whoever reads it looks at the board when the next stream is opened.
            Some(asked) if is_first => drop(asked.send(RunId { id: id.to_owned() })),
            Some(_) => {}
            None => {
                let (asked, questions) = mpsc::unbounded_channel();
                let _ = asked.send(RunId { id: id.to_owned() });
                board.asked = Some(asked);
                let (end, board) = (self.end.clone(), self.board.clone());
                let keep = keep(dispatcher.clone(), board, questions);
                tokio::spawn(async move { end.run_until_cancelled(keep).await });
            }
        }
        Wait { waits: self, id: id.to_owned(), number, told: receiver }
    }

    /// Resolves when it is one's turn to look. Dropped, one's place is given up.
    pub(super) async fn turn(&self) -> Turn {
        match self.looks.clone().acquire_owned().await {
            Ok(place) => Turn(place),
            // Never closed.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Wait<'_> {
    /// Resolves once the stream tells. Never, if it falls silent.
    pub(super) async fn told(&mut self) -> RunEnded {
        match (&mut self.told).await {
            Ok(ended) => ended,
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut board = lock(&self.waits.board);
        if let Some(waiters) = board.waiting.get_mut(&self.id) {
            waiters.retain(|waiter| waiter.number != self.number);
            if waiters.is_empty() {
                board.waiting.remove(&self.id);
            }
        }
    }
}

/// Keeps a stream open, for ever.
async fn keep(dispatcher: Dispatcher, board: Arc<Mutex<Board>>, mut questions: mpsc::UnboundedReceiver<RunId>) {
    let pauses = Backoff::exponential(FIRST_PAUSE, LONGEST_PAUSE);
    let mut failures = 0;
    loop {
        let opened = tokio::time::Instant::now();
        // Once the questions end, so does the stream: the sender is kept on the board.
        let asking = stream::poll_fn(move |context| questions.poll_recv(context));
        let ended = listen(&dispatcher, &board, asking).await;
        failures = if opened.elapsed() >= GOOD { 1 } else { failures + 1 };
        tracing::debug!(reason = %ended, "the stream of ends of runs is opened again");
        tokio::time::sleep(pauses.delay(failures, fastrand::f64())).await;
        let (asked, next) = mpsc::unbounded_channel();
        let mut board = lock(&board);
        for id in board.waiting.keys() {
            let _ = asked.send(RunId { id: id.clone() });
        }
        board.asked = Some(asked);
        questions = next;
    }
}

/// Reads a stream until it ends, and says why it did.
async fn listen(
    dispatcher: &Dispatcher,
    board: &Mutex<Board>,
    asking: impl futures_util::Stream<Item = RunId> + Send + 'static,
) -> String {
    let mut ends = match dispatcher.run_ends(asking).await {
        Ok(ends) => ends,
        Err(status) => return super::Answered::from(status).to_string(),
    };
    loop {
        match ends.next().await {
            Some(Ok(ended)) => {
                let waiters = lock(board).waiting.remove(&ended.run).unwrap_or_default();
                for waiter in waiters {
                    let _ = waiter.told.send(ended.clone());
                }
            }
            Some(Err(status)) => return super::Answered::from(status).to_string(),
            None => return "the engine ended it".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn few_look_at_once_and_all_get_their_turn() {
        let waits = Arc::new(Waits::default());
        let (came, mut order) = mpsc::unbounded_channel();
        let start = tokio::time::Instant::now();
        for number in 0..3 * LOOKS {
            let (waits, came) = (waits.clone(), came.clone());
            tokio::spawn(async move {
                let turn = waits.turn().await;
                came.send((number, start.elapsed())).unwrap();
                turn.was_early();
            });
        }
        for number in 0..3 * LOOKS {
            let (first, at) = order.recv().await.unwrap();
            let round = u32::try_from(number / LOOKS).unwrap();
            assert_eq!(first, number);
            assert!((REST * round..REST * (round + 1)).contains(&at), "{number} at {at:?}");
        }
        // Who found what it looked for leaves its place at once.
        tokio::time::sleep(REST).await;
        let start = tokio::time::Instant::now();
        for _ in 0..3 * LOOKS {
            drop(waits.turn().await);
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
