//! Looks on until everything is at its end, or nothing goes on any more.

use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// What is usual.
const STUCK: Duration = Duration::from_secs(45);
/// How often the progress is told.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// How long a look waits for the next one.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(300);

/// What is looked at.
pub(crate) trait Watched {
    /// Looks once at everything that is not settled. What cannot be read now is looked at the next time.
    async fn look(&mut self);
    /// Something that changes whenever anything gets on, in words.
    fn progress(&self) -> String;
    fn is_settled(&self) -> bool;
    /// Notes everything that is not at its end now that nothing goes on any more.
    async fn note_stuck(&mut self);
    /// Without any progress for so long, what has not ended is stuck.
    fn patience(&self) -> Duration {
        STUCK
    }
}

/// Tells from time to time how far it is.
struct Teller {
    name: &'static str,
    told: Instant,
}

impl Teller {
    fn tell(&mut self, watched: &impl Watched) {
        if self.told.elapsed() >= TELL_EVERY {
            self.told = Instant::now();
            eprintln!("{}: {}", self.name, watched.progress());
        }
    }
}

pub(crate) async fn look_until(name: &'static str, watched: &mut impl Watched, over: &CancellationToken) {
    let mut teller = Teller { name, told: Instant::now() };
    while !over.is_cancelled() {
        watched.look().await;
        teller.tell(watched);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Until all is settled, or nothing goes on any more.
pub(crate) async fn watch_the_rest(name: &'static str, watched: &mut impl Watched) {
    let mut teller = Teller { name, told: Instant::now() };
    let (mut progress, mut since) = (watched.progress(), Instant::now());
    loop {
        watched.look().await;
        teller.tell(watched);
        if watched.is_settled() {
            return;
        }
        if watched.progress() != progress {
            (progress, since) = (watched.progress(), Instant::now());
        } else if since.elapsed() > watched.patience() {
            return watched.note_stuck().await;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
