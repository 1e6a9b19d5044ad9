//! L2, embedded engine. One queue: three priorities, FIFO within each; and the tasks that may not run more than so often
//! at once.

use super::run::Run;
use crate::task::{Priority, TaskName};
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};
use tokio::{sync::Notify, time::Instant};

/// A run that waits for a slot.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) run: Arc<Run>,
    /// Later ones are higher. The message counts only while the run's place notes the same.
    pub(super) ticket: u64,
    pub(super) queue: u32,
    /// When it will have waited too long. A slot may meet it then before its timer is carried out.
    pub(super) expires: Option<Instant>,
    /// It waited too long: delivered to be recorded, not to be run.
    pub(super) expired: bool,
}

impl Message {
    pub(super) fn is_live(&self) -> bool {
        self.run.place.is(self.ticket)
    }

    /// Whether it has waited too long by now.
    pub(super) fn is_late(&self) -> bool {
        self.expires.is_some_and(|at| at <= Instant::now())
    }

    /// How many runs of its task may go on at once.
    pub(super) fn limit(&self) -> Option<u32> {
        if self.expired { None } else { self.run.options.concurrency.map(|limit| limit.max(1)) }
    }
}

/// Messages of one queue that wait in the same place, by priority, each in the order of its tickets.
#[derive(Debug, Default)]
pub(super) struct Lanes([VecDeque<Message>; 3]);

impl Lanes {
    fn lane(&mut self, message: &Message) -> &mut VecDeque<Message> {
        &mut self.0[match message.run.options.priority {
            Priority::High => 0,
            Priority::Normal => 1,
            Priority::Low => 2,
        }]
    }

    pub(super) fn push(&mut self, message: Message) {
        self.lane(&message).push_back(message);
    }

    /// Puts a message back where its ticket says.
    pub(super) fn restore(&mut self, message: Message) {
        let lane = self.lane(&message);
        let at = lane.partition_point(|other| other.ticket < message.ticket);
        lane.insert(at, message);
    }

    pub(super) fn pop(&mut self) -> Option<Message> {
        self.0.iter_mut().find_map(VecDeque::pop_front)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(VecDeque::is_empty)
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(VecDeque::len).sum()
    }

    fn drop_dead(&mut self) {
        for lane in &mut self.0 {
            lane.retain(Message::is_live);
        }
    }
}

/// A submitter that waits for room.
#[derive(Debug, Default)]
pub(super) struct RoomWaiter {
    /// It has been counted in. Changed under the scheduler's lock.
    pub(super) granted: AtomicBool,
    pub(super) bell: Notify,
}

/// One queue.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) lanes: Lanes,
    /// Those that waited too long.
    pub(super) expired: VecDeque<Message>,
    /// How many wait here or are about to.
    pub(super) counted: usize,
    /// Removed messages that are still in the lanes, about.
    dead: usize,
    pub(super) room: VecDeque<Arc<RoomWaiter>>,
    /// The pools that serve it.
    pub(super) pools: Vec<u32>,
    /// The pools that look after its expired messages alone.
    pub(super) helpers: Vec<u32>,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            lanes: Lanes::default(),
            expired: VecDeque::new(),
            counted: 0,
            dead: 0,
            room: VecDeque::new(),
            pools: Vec::new(),
            helpers: Vec::new(),
        }
    }

    pub(super) fn pop_expired(&mut self) -> Option<Message> {
        while let Some(message) = self.expired.pop_front() {
            if message.is_live() {
                return Some(message);
            }
        }
        None
    }

    /// Notes that a message in its lanes was removed; forgets such messages once they are the greater part.
    pub(super) fn note_dead(&mut self) {
        self.dead += 1;
        if self.dead > 64 && self.dead > self.lanes.len() / 2 {
            self.lanes.drop_dead();
            self.dead = 0;
        }
    }
}

/// The runs of those tasks that limit themselves.
#[derive(Debug, Default)]
pub(super) struct Limits(HashMap<TaskName, Limit>);

#[derive(Debug, Default)]
struct Limit {
    running: u32,
    /// Messages that met the limit, by queue.
    parked: Vec<(u32, Lanes)>,
}

impl Limits {
    /// Counts the start of a message in; or keeps the message until a run of its task has ended.
    ///
    /// While some are parked, as many of the task run or stand in a lane as the limit allows: each end lets go of one
    /// in each queue, and nothing is parked below the limit. So none is forgotten.
    pub(super) fn start(&mut self, message: Message, limit: u32) -> Option<Message> {
        if !self.0.contains_key(&message.run.task) {
            self.0.insert(message.run.task.clone(), Limit::default());
        }
        let Some(own) = self.0.get_mut(&message.run.task) else { return Some(message) };
        if own.running < limit {
            own.running += 1;
            return Some(message);
        }
        match own.parked.iter_mut().find(|(queue, _)| *queue == message.queue) {
            Some((_, lanes)) => lanes.restore(message),
            None => {
                let (queue, mut lanes) = (message.queue, Lanes::default());
                lanes.push(message);
                own.parked.push((queue, lanes));
            }
        }
        None
    }

    /// Notes the end of a run.
    pub(super) fn end(&mut self, task: &TaskName) {
        if let Some(own) = self.0.get_mut(task) {
            own.running = own.running.saturating_sub(1);
        }
    }

    /// Takes the message that is to be tried next, one of each queue.
    pub(super) fn unpark(&mut self, task: &TaskName) -> Vec<Message> {
        let Some(own) = self.0.get_mut(task) else { return Vec::new() };
        let mut next = Vec::new();
        own.parked.retain_mut(|(_, lanes)| {
            next.extend(std::iter::from_fn(|| lanes.pop()).find(Message::is_live));
            !lanes.is_empty()
        });
        if own.running == 0 && own.parked.is_empty() {
            self.0.remove(task);
        }
        next
    }
}

/// Whom to wake once the scheduler's lock is free: waking may cost a system call.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    pub(super) slots: Vec<Arc<Notify>>,
    pub(super) room: Vec<Arc<RoomWaiter>>,
    /// The earliest timer has changed.
    pub(super) timers: bool,
}

impl Wakes {
    pub(super) fn grant(&mut self, waiter: Arc<RoomWaiter>) {
        waiter.granted.store(true, Relaxed);
        self.room.push(waiter);
    }

    pub(super) fn fire(self, timers: &Notify) {
        for slot in self.slots {
            slot.notify_one();
        }
        for waiter in self.room {
            waiter.bell.notify_one();
        }
        if self.timers {
            timers.notify_waiters();
        }
    }
}
