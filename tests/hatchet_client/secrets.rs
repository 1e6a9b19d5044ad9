//! No log, at any level and of any library below, shows the token.

use super::{LIMIT, builder, client, refusal, run_until, unique};
use mageflow::adapters::hatchet::{HatchetTask, HatchetTrigger, HatchetWorkflow};
use serde_json::json;
use std::{
    fmt::{Debug, Write},
    sync::{Mutex, PoisonError},
};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

static TAKEN_DOWN: Mutex<String> = Mutex::new(String::new());

/// Takes down everything that is logged in this process.
struct Everything;

struct Line(String);

impl Line {
    fn of(target: &str) -> Self {
        Self(format!("{target} "))
    }

    fn take_down(self) {
        let mut all = TAKEN_DOWN.lock().unwrap_or_else(PoisonError::into_inner);
        all.push_str(&self.0);
        all.push('\n');
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{field}={value:?} ").expect("text");
    }
}

impl Subscriber for Everything {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let mut line = Line::of(attributes.metadata().target());
        attributes.record(&mut line);
        line.take_down();
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        let mut line = Line::of("span");
        values.record(&mut line);
        line.take_down();
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::of(event.metadata().target());
        event.record(&mut line);
        line.take_down();
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn the_token_is_in_no_log() {
    let Some(client) = client() else { return };
    tracing::subscriber::set_global_default(Everything).unwrap();
    let token = std::env::var("HATCHET_CLIENT_TOKEN").unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();

    let connection = client.clone().connect().await.unwrap();
    let name = unique("logged");
    connection.put_workflow(&HatchetWorkflow::new(&name).task(HatchetTask::new("step"))).await.unwrap();
    let id = connection.trigger(&HatchetTrigger::new(&name, json!({"input": "of the task"}))).await.unwrap();
    tokio::time::timeout(LIMIT, run_until(&connection, &id, |_| true)).await.unwrap();
    refusal(builder(&client).token(format!("{signed}.AAAA")).build().unwrap()).await;

    let taken_down = TAKEN_DOWN.lock().unwrap().clone();
    // The layer that has the token in its hands was listened to.
    assert!(taken_down.contains("h2::") && taken_down.contains("send_headers"), "{taken_down}");
    let claims = signed.rsplit('.').next().unwrap();
    for part in [claims, signature] {
        let line = taken_down.lines().find(|line| line.contains(part));
        assert!(line.is_none(), "{line:?}");
    }
    assert!(!taken_down.contains("Bearer"));
}
