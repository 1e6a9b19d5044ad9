//! L2, Hatchet engine. What starts runs other than somebody who asks for one: events and times; and what holds them up.

use super::{
    HatchetConnection, HatchetTrigger, HatchetWindow, failed, invalid,
    wire::{
        events::{EventsService, PushEvent},
        workflows::PutRateLimit,
    },
};
use crate::{
    error::{Error, Result},
    task::Json,
};
use chrono::Utc;
use serde_json::{Value, json};

impl HatchetConnection {
    /// Tells the engine of an event. It starts the tasks that are [declared](super::HatchetTaskOptions::event) for it, and
    /// wakes durable runs that wait for it. The key gets the namespace. Answers with the event's id.
    ///
    /// # Errors
    /// [`Error::InvalidArguments`] if the payload is not a JSON object, [`Error::Engine`].
    ///
    /// # Cancel safety
    /// Dropped early, it was told or not.
    pub async fn push_event(&self, key: &str, payload: impl Into<Json>) -> Result<String> {
        let payload = payload.into();
        if !payload.is_object() {
            return Err(Error::InvalidArguments { reason: "the payload of an event must be a JSON object".into() });
        }
        let event = PushEvent {
            key: self.client().namespaced(key),
            payload: payload.as_str().to_owned(),
            at: Some(Utc::now().into()),
            ..PushEvent::default()
        };
        let events = EventsService::new(self.calls().clone(), self.client().response_timeout);
        let pushed = events.push(event).await;
        pushed.map(|event| event.id).map_err(|status| failed("push an event", status))
    }

    /// Sets a limit for all tasks that [name](super::HatchetRateLimit::of) its key: so many units in each window.
    ///
    /// # Errors
    /// [`Error::Engine`].
    ///
    /// # Cancel safety
    /// Dropped early, it was set or not.
    pub async fn put_rate_limit(&self, key: impl Into<String>, limit: u32, window: HatchetWindow) -> Result<()> {
        let limit = i32::try_from(limit).map_err(|_| invalid("a rate limit is 2147483647 at most"))?;
        let rate = PutRateLimit { key: key.into(), limit, window: window.number() };
        self.workflows().put_rate_limit(rate).await.map_err(|status| failed("set a rate limit", status))
    }

    /// Has the engine start a run again and again: `expression` has five fields, or six with seconds in front, in UTC. The name tells the times of a
    /// workflow apart. Answers with an id for [`delete_cron`](Self::delete_cron).
    ///
    /// Uses the REST API.
    ///
    /// # Errors
    /// Those of [`trigger`](Self::trigger), [`Error::InvalidArguments`] if the expression has another number of fields, and
    /// [`Error::Engine`] if there is no such workflow.
    ///
    /// # Cancel safety
    /// Dropped early, it was made or not.
    pub async fn create_cron(&self, name: &str, expression: &str, trigger: &HatchetTrigger) -> Result<String> {
        // The engine takes any text, and starts nothing then.
        if !matches!(expression.split_whitespace().count(), 5 | 6) {
            let reason = format!("`{expression}` is no cron expression: five fields are expected, or six with seconds");
            return Err(Error::InvalidArguments { reason });
        }
        let run = trigger.cron(self.client())?;
        let object = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|_| json!({}));
        let cron = json!({
            "cronName": name,
            "cronExpression": expression,
            "input": object(&run.input),
            "additionalMetadata": object(run.metadata.as_deref().unwrap_or("{}")),
            "priority": run.priority,
        });
        self.rest().create_cron(&run.name, cron).await.map_err(|status| failed("make a cron", status))
    }

    /// Ends what [`create_cron`](Self::create_cron) made. Uses the REST API.
    ///
    /// # Errors
    /// [`Error::Engine`], also if there is no such cron.
    ///
    /// # Cancel safety
    /// Dropped early, it was deleted or not.
    pub async fn delete_cron(&self, id: &str) -> Result<()> {
        self.rest().delete_cron(id).await.map_err(|status| failed("delete a cron", status))
    }
}
