//! L2, TaskIQ engine. Pipelines of `taskiq-pipelines`: whoever ends a step sends the next one, and two tasks of that package
//! collect what the tasks of a step's items returned.

use super::{
    Shared,
    finish::{End, Finish, Outcome},
    queue::{Kind, Queue, Successor},
    wire::{
        Limits,
        message::Message,
        pipeline::{Collect, Next, Pipeline},
        result::{Outcome as Ended, StoredResult},
    },
};
use crate::{
    adapters::Disposition,
    task::{FailureKind, Json, TaskFailure, TaskId},
};
use std::time::Duration;

/// The shortest time between two looks of a task that collects.
const SHORTEST_LOOK: Duration = Duration::from_millis(50);

impl Shared {
    /// Adds to the end of a step what its pipeline demands.
    pub(super) fn follow(&self, ended: &Ended, message: &Message<'_>, finish: &mut Finish) {
        let pipeline = match Pipeline::of(&message.labels, &Limits::default()) {
            Ok(Some(pipeline)) => pipeline,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, id = &*message.task_id, "the pipeline of a task cannot be read; it ends here");
                return;
            }
        };
        let Ended::Returned(value) = ended else { return self.abort(&pipeline, ended, finish) };
        match pipeline.next(&message.task_id, value, || TaskId::new().to_string()) {
            Ok(None) => {}
            Ok(Some(Next::One(next))) => self.send_next(&next, finish),
            Ok(Some(Next::Many(fan_out))) => {
                let sends = fan_out.messages().map(|item| (self.queue_of(&item), item.encode()));
                finish.sends.extend(sends);
                self.send_next(&fan_out.collector, finish);
            }
            Err(error) => self.abort(&pipeline, &Ended::Failed(error.into()), finish),
        }
    }

    fn queue_of(&self, message: &Message<'_>) -> Queue {
        self.broker.queue_of(message.labels.queue_name().as_deref())
    }

    fn send_next(&self, next: &Message<'_>, finish: &mut Finish) {
        let (queue, entry) = (self.queue_of(next), &finish.holding.entry);
        // In one step with the end of this one, so that it is not sent twice. That takes a queue that can be left, on the
        // same node.
        let in_one = entry.queue.kind != Kind::Channel && (entry.queue == queue || !self.link.server().is_cluster());
        if in_one {
            finish.end = End::Replace(Successor { queue, after: Duration::ZERO, message: next.encode() });
        } else {
            finish.sends.push((queue, next.encode()));
        }
    }

    /// Tells those who wait for the end of a pipeline that it does not come.
    fn abort(&self, pipeline: &Pipeline, ended: &Ended, finish: &mut Finish) {
        let Some((id, result)) = pipeline.abort(ended) else { return };
        match result.encode(self.broker.results.serializer) {
            Ok(value) => {
                let (key, ttl) = (self.broker.result_key(id), self.broker.results.ttl);
                finish.outcomes.push(Outcome { key, value, ttl, reply: None });
            }
            Err(error) => tracing::warn!(%error, id, "the end of a pipeline cannot be written"),
        }
    }

    /// One look of a task that collects. As long as something is missing it is given back, so it takes nobody's slot.
    pub(super) async fn collect(&self, collect: &Collect) -> Disposition {
        match self.try_collect(collect).await {
            Ok(Some(Ok(json))) => Disposition::Done(json),
            Ok(Some(Err(failure))) => Disposition::Failed(*failure),
            Ok(None) => Disposition::GiveBack { after: collect.check_interval.max(SHORTEST_LOOK) },
            Err(error) => {
                tracing::warn!(%error, "the results of a pipeline's step cannot be read yet");
                Disposition::GiveBack { after: collect.check_interval.max(SHORTEST_LOOK) }
            }
        }
    }

    async fn try_collect(&self, collect: &Collect) -> crate::Result<Option<Result<Json, Box<TaskFailure>>>> {
        let limits = Limits::default();
        let read = |id: &str, bytes: Vec<u8>| {
            // What cannot be read now cannot be read later.
            StoredResult::decode(&bytes, &limits).map_or_else(
                |error| Ended::Failed(TaskFailure::new(FailureKind::Terminal, format!("the result of {id}: {error}"))),
                |stored| stored.outcome,
            )
        };
        let mut outcomes = Vec::with_capacity(collect.ids.len());
        for (id, stored) in collect.ids.iter().zip(self.stored(&collect.ids).await?) {
            let Some(bytes) = stored else { return Ok(None) };
            outcomes.push(read(id, bytes));
        }
        let parent = match &collect.parent {
            Some(id) => self.stored(std::slice::from_ref(id)).await?.pop().flatten().map(|bytes| read(id, bytes)),
            None => None,
        };
        let parent = if let Some(Ended::Returned(json)) = &parent { Some(json) } else { None };
        Ok(Some(collect.gather(&outcomes, parent)))
    }
}
