//! What goes wrong, and when: drawn before anything starts, so that it depends on the seed alone.

use super::fleet::Fleet;
use chrono::{DateTime, Utc};
use std::{io, time::Duration};
use tokio::time::Instant;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// A worker process is killed.
    Kill(usize),
    /// The server ends, at once or in order, and stays away for so long.
    Stop { at_once: bool, away: Duration },
    /// The server closes the connections of this type.
    Cut(&'static str),
    /// The server forgets its scripts.
    Flush,
}

/// What is to be disturbed.
pub(crate) trait Breakable {
    /// Ends it: at once, or in good order.
    async fn stop(&mut self, at_once: bool) -> io::Result<()>;
    /// Brings it back.
    async fn go_on(&mut self) -> io::Result<()>;
    /// Ends its connections of this type. Answers whether that was done.
    async fn cut(&mut self, kind: &'static str) -> bool;
    /// Has it forget its scripts. Answers whether that was done.
    async fn flush(&mut self) -> bool;
}

/// Faults in their order, from the start of a run.
pub(crate) struct Schedule {
    faults: Vec<(Duration, Fault)>,
    pub(crate) length: Duration,
}

impl Schedule {
    /// One kill a second for as long as the server is up in all, and while it is away; the server away once for each
    /// of `stops`.
    pub(crate) fn draw(seed: u64, up: Duration, stops: &[Duration]) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed);
        let length = up + stops.iter().sum::<Duration>();
        let (mut faults, mut outages, mut before) = (Vec::new(), Vec::new(), Duration::ZERO);
        for (turn, away) in (1..).zip(stops) {
            let at = before + up * turn / (stops.len() as u32 + 1);
            faults.push((at, Fault::Stop { at_once: turn != 1, away: *away }));
            outages.push(at..at + *away);
            before += *away;
        }
        let is_up = |at: &Duration| !outages.iter().any(|outage| outage.contains(at));
        let seconds = u32::try_from(length.as_secs()).unwrap_or(u32::MAX);
        for second in 0..seconds {
            let within = |dice: &mut fastrand::Rng| {
                Duration::from_secs(second.into()) + Duration::from_millis(dice.u64(0..1000))
            };
            faults.push((within(&mut dice), Fault::Kill(dice.usize(..1 << 16))));
            let (cut, flush, kind) = (within(&mut dice), within(&mut dice), dice.bool());
            if second % 3 == 1 && is_up(&cut) {
                faults.push((cut, Fault::Cut(if kind { "normal" } else { "pubsub" })));
            }
            if second % 4 == 2 && is_up(&flush) {
                faults.push((flush, Fault::Flush));
            }
        }
        faults.sort_by_key(|(at, _)| *at);
        Self { faults, length }
    }

    /// With one of so many kills and cuts: where it takes long until the work of the killed goes to others.
    pub(crate) fn with_one_of(mut self, many: usize) -> Self {
        let (mut kills, mut cuts) = (0, 0);
        self.faults.retain(|(_, fault)| {
            let count = match fault {
                Fault::Kill(_) => &mut kills,
                Fault::Cut(_) => &mut cuts,
                _ => return true,
            };
            *count += 1;
            *count % many == 1
        });
        self
    }
}

/// What went wrong.
#[derive(Debug, Default)]
pub(crate) struct Injected {
    pub(crate) stops: Vec<Duration>,
    pub(crate) cuts: u32,
    pub(crate) flushes: u32,
    /// When the server, the connections to it, or its scripts were gone.
    pub(crate) outages: Vec<Outage>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Outage {
    pub(crate) since: DateTime<Utc>,
    pub(crate) back: DateTime<Utc>,
    pub(crate) fault: Fault,
}

/// A server that is to come back.
#[derive(Clone, Copy)]
struct Away {
    until: Instant,
    since: DateTime<Utc>,
    fault: Fault,
    length: Duration,
}

impl Away {
    async fn come_back(self, server: &mut impl Breakable, injected: &mut Injected) -> io::Result<()> {
        tokio::time::sleep_until(self.until).await;
        server.go_on().await?;
        injected.stops.push(self.length);
        injected.outages.push(Outage { since: self.since, back: Utc::now(), fault: self.fault });
        Ok(())
    }
}

/// Lets everything go wrong, and brings it back.
pub(crate) async fn inject(
    schedule: &Schedule,
    server: &mut impl Breakable,
    fleet: &mut Fleet,
) -> io::Result<Injected> {
    let (start, mut injected) = (Instant::now(), Injected::default());
    let mut away: Option<Away> = None;
    for (at, fault) in &schedule.faults {
        let at = start + *at;
        if let Some(gone) = away.take_if(|gone| gone.until <= at) {
            gone.come_back(server, &mut injected).await?;
        }
        tokio::time::sleep_until(at).await;
        let since = Utc::now();
        match *fault {
            Fault::Kill(number) => fleet.kill(number)?,
            Fault::Stop { at_once, away: length } => {
                server.stop(at_once).await?;
                away = Some(Away { until: Instant::now() + length, since, fault: *fault, length });
            }
            Fault::Cut(kind) => {
                injected.cuts += u32::from(server.cut(kind).await);
                injected.outages.push(Outage { since, back: Utc::now(), fault: *fault });
            }
            Fault::Flush => {
                injected.flushes += u32::from(server.flush().await);
                injected.outages.push(Outage { since, back: Utc::now(), fault: *fault });
            }
        }
    }
    if let Some(gone) = away {
        gone.come_back(server, &mut injected).await?;
    }
    Ok(injected)
}
