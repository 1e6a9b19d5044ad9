//! L2, embedded engine. All that waits and all who fetch, under one lock: queues, timers, and the pools of slots.

use super::{
    config::EmbeddedConfig,
    queue::{Limits, Message, Queue, RoomWaiter, Wakes},
    results::Retention,
    run::{Again, Run},
    timers::{Due, Timer, Timers, later},
};
use crate::task::DEFAULT_QUEUE;
use chrono::{DateTime, Utc};
use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// How many timers are carried out under one hold of the lock.
const DUE_AT_ONCE: usize = 256;

/// How many waiting messages count on one woken slot before another one is woken besides. If each woke a slot, a slot
/// would be woken for work that an awake one has done by then; if all counted on one, they would be stuck with it when
/// its thread is blocked by somebody else.
const WAITING_PER_WAKE: usize = 16;

/// How a submitted run gets into its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entrance {
    /// If there is room.
    Room,
    /// In any case.
    Over,
    /// Its room was counted in before.
    Reserved,
    /// Later, and then in any case.
    At(Instant),
}

/// The queue has no room.
#[derive(Debug)]
pub(super) struct Full;

/// What a slot is told when it asks for work.
#[derive(Debug)]
pub(super) enum Next {
    Take(Message),
    /// There is none. The slot's bell rings when there is.
    Idle,
    /// Its worker fetches no more.
    Closed,
}

/// A slot's place in its pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    pub(super) pool: u32,
    /// Tells this pool from one that gets its number later.
    pub(super) opening: u64,
    pub(super) slot: u32,
}

/// A delivery that needs nothing more from the scheduler but to be noted.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) message: Message,
    /// Its end, if it has a result.
    pub(super) end: Option<End>,
}

/// When a run ended, and how long its result is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) at: DateTime<Utc>,
    /// The same for the clock by which results are kept.
    pub(super) now: Instant,
    pub(super) ttl: Duration,
}

/// Slots of one worker that serve the same queues.
#[derive(Debug)]
struct Pool {
    opening: u64,
    queues: Vec<u32>,
    /// Queues of which it takes the expired messages alone.
    helped: Vec<u32>,
    /// The queue that is asked first next time.
    turn: usize,
    bells: Vec<Arc<Notify>>,
    idle: Vec<u32>,
    /// How many were woken and have not asked yet. Each wakes the next one if there is still more to do.
    waking: u32,
}

/// All that waits and all who fetch.
#[derive(Debug)]
pub(super) struct Scheduler {
    max_queued: usize,
    queues: Vec<Queue>,
    names: HashMap<Arc<str>, u32>,
    pools: Vec<Option<Pool>>,
    openings: u64,
    limits: Limits,
    timers: Timers,
    retention: Retention,
    ticket: u64,
}

impl Scheduler {
    pub(super) fn new(config: &EmbeddedConfig) -> Self {
        Self {
            // Without room for one, a submitter would wait for ever.
            max_queued: config.max_queued.max(1),
            queues: vec![Queue::new()],
            names: HashMap::from([(DEFAULT_QUEUE.into(), 0)]),
            pools: Vec::new(),
            openings: 0,
            limits: Limits::default(),
            timers: Timers::default(),
            retention: Retention::new(config.max_results),
            ticket: 0,
        }
    }

    fn queue_of(&mut self, run: &Run) -> u32 {
        run.options.queue.as_deref().map_or(0, |name| self.queue(name))
    }

    fn queue(&mut self, name: &str) -> u32 {
        if let Some(index) = self.names.get(name) {
            return *index;
        }
        let index = self.queues.len() as u32;
        self.queues.push(Queue::new());
        self.names.insert(name.into(), index);
        index
    }

    fn at(&mut self, queue: u32) -> &mut Queue {
        &mut self.queues[queue as usize]
    }

    fn next_ticket(&mut self) -> u64 {
        self.ticket += 1;
        self.ticket
    }

    // ----- what comes in -----

    /// Lets a submitted run in.
    pub(super) fn enter(&mut self, run: &Arc<Run>, entrance: Entrance, wakes: &mut Wakes) -> Result<(), Full> {
        let queue = self.queue_of(run);
        match entrance {
            Entrance::At(due) => {
                self.delay(run.clone(), queue, due, true, wakes);
                return Ok(());
            }
            Entrance::Room if !self.has_room(queue) => return Err(Full),
            Entrance::Room | Entrance::Over => self.at(queue).counted += 1,
            Entrance::Reserved => {}
        }
        let expires = run.options.schedule_timeout.map(|limit| later(Instant::now(), limit));
        self.push(run.clone(), queue, expires, wakes);
        self.wake_for(queue, wakes);
        Ok(())
    }

    fn has_room(&self, queue: u32) -> bool {
        let queue = &self.queues[queue as usize];
        // Those who wait come first.
        queue.room.is_empty() && queue.counted < self.max_queued
    }

    /// Counts in as many of the first of these as there is room for; answers how many may come.
    pub(super) fn reserve<'a>(&mut self, runs: impl Iterator<Item = &'a (Arc<Run>, Entrance)>) -> usize {
        let mut reserved = 0;
        for (run, entrance) in runs {
            if *entrance == Entrance::Room {
                let queue = self.queue_of(run);
                if !self.has_room(queue) {
                    break;
                }
                self.at(queue).counted += 1;
            }
            reserved += 1;
        }
        reserved
    }

    /// Queues up for room. `None`: there was some, and the run is counted in.
    pub(super) fn wait_for_room(&mut self, run: &Run) -> Option<Arc<RoomWaiter>> {
        let queue = self.queue_of(run);
        if self.has_room(queue) {
            self.at(queue).counted += 1;
            return None;
        }
        let waiter = Arc::new(RoomWaiter::default());
        self.at(queue).room.push_back(waiter.clone());
        Some(waiter)
    }

    /// Gives up room that was counted in, or the wait for it.
    pub(super) fn give_up_room(&mut self, run: &Run, waiter: Option<&Arc<RoomWaiter>>, wakes: &mut Wakes) {
        let queue = self.queue_of(run);
        match waiter {
            Some(waiter) if !waiter.granted.load(Relaxed) => {
                self.at(queue).room.retain(|other| !Arc::ptr_eq(other, waiter));
            }
            _ => self.uncount(queue, wakes),
        }
    }

    /// One less waits; lets in who waits for room.
    fn uncount(&mut self, queue: u32, wakes: &mut Wakes) {
        let max = self.max_queued;
        let queue = self.at(queue);
        queue.counted = queue.counted.saturating_sub(1);
        while queue.counted < max {
            let Some(waiter) = queue.room.pop_front() else { return };
            queue.counted += 1;
            wakes.grant(waiter);
        }
    }

    /// Adds a message that is counted in already.
    fn push(&mut self, run: Arc<Run>, queue: u32, expires: Option<Instant>, wakes: &mut Wakes) {
        let ticket = self.next_ticket();
        run.place.set(ticket, queue, true);
        if let Some(at) = expires {
            wakes.timers |= self.timers.add(Timer { at, ticket, queue, run: run.clone(), due: Due::Expires });
        }
        self.at(queue).lanes.push(Message { run, ticket, queue, expires, expired: false });
    }

    fn delay(&mut self, run: Arc<Run>, queue: u32, at: Instant, first: bool, wakes: &mut Wakes) {
        let ticket = self.next_ticket();
        run.place.set(ticket, queue, false);
        wakes.timers |= self.timers.add(Timer { at, ticket, queue, run, due: Due::Enters { first } });
    }

    /// Carries out what is due; answers when something is due next.
    pub(super) fn advance(&mut self, now: Instant, wakes: &mut Wakes) -> Option<Instant> {
        // Bit by bit: many may be due at once, and others wait for the lock.
        for _ in 0..DUE_AT_ONCE {
            let Some(timer) = self.timers.pop_due(now) else { break };
            let Timer { at, queue, run, due, .. } = timer;
            match due {
                Due::Enters { first } => {
                    self.at(queue).counted += 1;
                    let limit = run.options.schedule_timeout.filter(|_| first);
                    self.push(run, queue, limit.map(|limit| later(at, limit)), wakes);
                }
                // Given back by a worker that shut down, it stands under its old ticket, but it was started in time.
                Due::Expires if run.was_started() => {}
                Due::Expires => {
                    let ticket = self.next_ticket();
                    run.place.set(ticket, queue, true);
                    let own = self.at(queue);
                    own.expired.push_back(Message { run, ticket, queue, expires: None, expired: true });
                    own.note_dead();
                }
            }
            self.wake_for(queue, wakes);
        }
        self.timers.next()
    }

    // ----- what goes back or away -----

    /// Takes a waiting run out. `false` if it does not wait.
    pub(super) fn withdraw(&mut self, run: &Run, wakes: &mut Wakes) -> bool {
        match run.place.clear() {
            None => false,
            Some((queue, counted)) => {
                if counted {
                    self.at(queue).note_dead();
                    self.uncount(queue, wakes);
                }
                if !counted || run.options.schedule_timeout.is_some() {
                    self.timers.note_dead();
                }
                true
            }
        }
    }

    /// Takes a delivered message back, for `after` or, if that is zero, at the end of its queue.
    pub(super) fn requeue(&mut self, message: Message, after: Duration, wakes: &mut Wakes) {
        self.release(&message, wakes);
        let Message { run, queue, .. } = message;
        if after.is_zero() {
            self.at(queue).counted += 1;
            self.push(run, queue, None, wakes);
            self.wake_for(queue, wakes);
        } else {
            self.delay(run, queue, later(Instant::now(), after), false, wakes);
        }
    }

    /// Takes a delivered message back to where it stood.
    pub(super) fn restore(&mut self, message: Message, wakes: &mut Wakes) {
        self.release(&message, wakes);
        let queue = message.queue;
        message.run.place.set(message.ticket, queue, true);
        let own = self.at(queue);
        own.counted += 1;
        if message.expired {
            own.expired.push_front(message);
        } else {
            own.lanes.restore(message);
        }
        self.wake_for(queue, wakes);
    }

    /// Notes that a delivery has ended, and lets in those that waited for it.
    fn release(&mut self, message: &Message, wakes: &mut Wakes) {
        if message.limit().is_some() {
            self.limits.end(&message.run.task);
            let mut queues = Vec::new();
            self.unpark(message, &mut queues);
            self.wake_for_all(queues, wakes);
        }
    }

    /// Puts parked messages of the task of `of` back into their queues, which are added to `queues`.
    fn unpark(&mut self, of: &Message, queues: &mut Vec<u32>) {
        for message in self.limits.unpark(&of.run.task) {
            queues.push(message.queue);
            self.at(message.queue).lanes.restore(message);
        }
    }

    /// Notes an end. Results that are to be dropped are added to `dropped`.
    pub(super) fn finish(&mut self, finished: Finished, dropped: &mut Vec<Arc<Run>>, wakes: &mut Wakes) {
        let Finished { message, end } = finished;
        self.release(&message, wakes);
        if let Some(end) = end {
            self.keep(message.run, end, dropped);
        }
    }

    /// Keeps the result of an ended run for its time.
    pub(super) fn keep(&mut self, run: Arc<Run>, end: End, dropped: &mut Vec<Arc<Run>>) {
        self.retention.keep(run, end.ttl, end.now, dropped);
    }

    /// Goes back to waiting, unless its end was asked for: then it is handed back to be ended.
    pub(super) fn again(
        &mut self,
        message: Message,
        again: Again,
        after: Option<Duration>,
        wakes: &mut Wakes,
    ) -> Option<Message> {
        // Under the lock, as a cancellation looks at the place and at the state in one go.
        if !message.run.wait_again(again) {
            return Some(message);
        }
        match after {
            Some(after) => self.requeue(message, after, wakes),
            None => self.restore(message, wakes),
        }
        None
    }

    // ----- who fetches -----

    /// Opens a pool of `slots` slots.
    pub(super) fn open(&mut self, queues: &[&str], helped: &[&str], slots: usize) -> (Seat, Vec<Arc<Notify>>) {
        let number = |scheduler: &mut Self, names: &[&str]| {
            let mut numbers: Vec<u32> = names.iter().map(|name| scheduler.queue(name)).collect();
            numbers.sort_unstable();
            numbers.dedup();
            numbers
        };
        let (queues, helped) = (number(self, queues), number(self, helped));
        let free = self.pools.iter().position(Option::is_none).unwrap_or_else(|| {
            self.pools.push(None);
            self.pools.len() - 1
        });
        let pool = free as u32;
        for queue in &queues {
            self.at(*queue).pools.push(pool);
        }
        for queue in &helped {
            self.at(*queue).helpers.push(pool);
        }
        self.openings += 1;
        let opening = self.openings;
        let bells: Vec<_> = (0..slots).map(|_| Arc::new(Notify::new())).collect();
        let idle = Vec::with_capacity(slots);
        self.pools[free] = Some(Pool { opening, queues, helped, turn: 0, bells: bells.clone(), idle, waking: 0 });
        (Seat { pool, opening, slot: 0 }, bells)
    }

    /// Closes a pool: its slots get nothing more, and others are woken for what its woken ones leave behind.
    pub(super) fn close(&mut self, seat: Seat, wakes: &mut Wakes) {
        let Some(pool) = self.pools[seat.pool as usize].take_if(|pool| pool.opening == seat.opening) else { return };
        for queue in &pool.queues {
            self.at(*queue).pools.retain(|other| *other != seat.pool);
        }
        for queue in &pool.helped {
            self.at(*queue).helpers.retain(|other| *other != seat.pool);
        }
        wakes.slots.extend(pool.idle.iter().map(|slot| pool.bells[*slot as usize].clone()));
        for queue in pool.queues.into_iter().chain(pool.helped) {
            self.wake_for(queue, wakes);
        }
    }

    /// Gives a slot its next message. `woken`: its bell has rung since it was last here.
    pub(super) fn next(&mut self, seat: Seat, woken: bool, wakes: &mut Wakes) -> Next {
        let index = seat.pool as usize;
        // Where there may be more to do than this slot takes. Most often nowhere, and no allocation.
        let mut more = Vec::new();
        match &mut self.pools[index] {
            Some(pool) if pool.opening == seat.opening => {
                if woken {
                    pool.waking = pool.waking.saturating_sub(1);
                    more.extend(pool.queues.iter().chain(&pool.helped));
                }
            }
            _ => return Next::Closed,
        }
        let found = self.take(index, &mut more, wakes);
        if found.is_none()
            && let Some(pool) = &mut self.pools[index]
        {
            pool.idle.push(seat.slot);
        }
        self.wake_for_all(more, wakes);
        found.map_or(Next::Idle, Next::Take)
    }

    fn take(&mut self, pool: usize, more: &mut Vec<u32>, wakes: &mut Wakes) -> Option<Message> {
        let (mut turn, count) = self.pools[pool].as_ref().map(|pool| (pool.turn, pool.queues.len()))?;
        for _ in 0..count {
            let own = self.pools[pool].as_mut()?;
            let queue = own.queues[turn];
            turn = if turn + 1 < count { turn + 1 } else { 0 };
            own.turn = turn;
            if let Some(message) = self.take_from(queue, more, wakes) {
                return Some(message);
            }
        }
        let helped = self.pools[pool].as_ref().map_or(0, |pool| pool.helped.len());
        for index in 0..helped {
            let queue = self.pools[pool].as_ref()?.helped[index];
            if let Some(message) = self.at(queue).pop_expired() {
                return Some(self.taken(message, wakes));
            }
        }
        None
    }

    fn take_from(&mut self, queue: u32, more: &mut Vec<u32>, wakes: &mut Wakes) -> Option<Message> {
        if let Some(message) = self.at(queue).pop_expired() {
            return Some(self.taken(message, wakes));
        }
        loop {
            let mut message = self.at(queue).lanes.pop()?;
            let limit = message.limit();
            let (live, late) = (message.is_live(), message.is_late());
            // One that does not run may have been let go in place of another one of its task.
            if limit.is_some() && (late || !live) {
                self.unpark(&message, more);
            }
            if !live {
                continue;
            }
            if late {
                message.expired = true;
                return Some(self.taken(message, wakes));
            }
            let started = match limit {
                None => Some(message),
                Some(limit) => self.limits.start(message, limit),
            };
            if let Some(message) = started {
                return Some(self.taken(message, wakes));
            }
        }
    }

    fn taken(&mut self, mut message: Message, wakes: &mut Wakes) -> Message {
        message.run.place.clear();
        message.expires = None;
        if message.run.options.schedule_timeout.is_some() {
            self.timers.note_dead();
        }
        self.uncount(message.queue, wakes);
        message
    }

    fn wake_for_all(&mut self, queues: Vec<u32>, wakes: &mut Wakes) {
        for queue in queues {
            self.wake_for(queue, wakes);
        }
    }

    /// Wakes one slot for what waits in `queue`, unless enough are on their way already.
    fn wake_for(&mut self, queue: u32, wakes: &mut Wakes) {
        let own = &self.queues[queue as usize];
        let pools: &[u32] = if own.lanes.is_empty() { &[] } else { &own.pools };
        let (expired, helpers): (&[u32], &[u32]) =
            if own.expired.is_empty() { (&[], &[]) } else { (&own.pools, &own.helpers) };
        let mut lacking = (own.lanes.len() + own.expired.len()).div_ceil(WAITING_PER_WAKE);
        let mut sleeper = None;
        for pool in pools.iter().chain(expired).chain(helpers) {
            let Some(own) = &self.pools[*pool as usize] else { continue };
            lacking = lacking.saturating_sub(own.waking as usize);
            if lacking == 0 {
                return;
            }
            if sleeper.is_none() && !own.idle.is_empty() {
                sleeper = Some(*pool);
            }
        }
        if let Some(Some(pool)) = sleeper.map(|pool| &mut self.pools[pool as usize])
            && let Some(slot) = pool.idle.pop()
        {
            pool.waking += 1;
            wakes.slots.push(pool.bells[slot as usize].clone());
        }
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.queues.iter().map(|queue| queue.lanes.len()).sum(), self.timers.len())
    }

    #[cfg(test)]
    pub(super) fn waiting(&mut self, name: &str) -> usize {
        let queue = self.queue(name);
        self.at(queue).counted
    }
}
