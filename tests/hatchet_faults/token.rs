//! Tokens that the engine does not take, from the beginning or from some time on.

use crate::{LIMIT, engine::Engine, relay::cable::Cable};
use mageflow::{
    Error, Mageflow, TaskBuilder, TaskError, adapters::hatchet::HatchetClientBuilder, args, store::memory::MemoryStore,
};
use std::time::{Duration, Instant};

/// How long a token holds here: time enough to register a worker and to start a run.
const LIFE: Duration = Duration::from_secs(15);

/// The words for whoever has to make a new one.
fn is_clear(error: &Error, token: &str) {
    let text = format!("{error} {error:?}");
    assert!(matches!(error, Error::InvalidConfig { .. }) && !error.is_retryable(), "{text}");
    assert!(text.contains("HATCHET_CLIENT_TOKEN"), "{text}");
    assert!(token.split('.').all(|part| !text.contains(part)), "{text}");
}

fn client(engine: &Engine, cable: &Cable, token: &str) -> HatchetClientBuilder {
    engine.client().host_port(cable.place()).token(token).namespace(format!("token{}", std::process::id()))
}

pub(crate) async fn a_token_that_is_not_taken_costs_two_calls() {
    let Some(engine) = Engine::of_this_environment() else { return };
    let cable = Cable::to(engine.port()).await;
    let valid = engine.variable("HATCHET_CLIENT_TOKEN");
    let (signed, _) = valid.rsplit_once('.').expect("a token");
    let expired = engine.new_token(Duration::from_secs(1));
    tokio::time::sleep(Duration::from_secs(2)).await;
    for (token, word) in [(format!("{signed}.AAAA"), "another engine"), (expired, "expired on")] {
        let (before, start) = (cable.calls(), Instant::now());
        let settings = client(&engine, &cable, &token).build().expect("settings");
        let error = Mageflow::with_hatchet(settings).store(MemoryStore::new()).build().await.expect_err("a refusal");
        is_clear(&error, &token);
        assert!(error.to_string().contains(word), "{error}");
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        let calls = cable.calls() - before;
        assert!((1..=2).contains(&calls), "{calls} calls");
    }
}

pub(crate) async fn a_token_that_expires_ends_the_worker() {
    let Some(engine) = Engine::of_this_environment() else { return };
    let cable = Cable::to(engine.port()).await;
    let token = engine.new_token(LIFE);
    let made = Instant::now();
    let task = TaskBuilder::new("long").parameters([] as [&str; 0]).handler(move |_, (): ()| async {
        tokio::time::sleep(10 * LIFE).await;
        Ok::<_, TaskError>(())
    });
    let settings = client(&engine, &cable, &token).build().expect("settings");
    let mage = Mageflow::with_hatchet(settings).store(MemoryStore::new()).only_given_tasks().register(task);
    let mage = mage.build().await.expect("an engine");
    let mut worker = mage.worker("expires").spawn().await.expect("a worker");
    let id = mage.submit("long", args![]).await.expect("an id");
    let waiting = tokio::spawn({
        let mage = mage.clone();
        async move { mage.wait(&id).await }
    });
    tokio::time::sleep((LIFE + Duration::from_secs(1)).saturating_sub(made.elapsed())).await;
    let expired_at = cable.calls();
    let error = tokio::time::timeout(LIMIT, worker.ended()).await.expect("in time").expect_err("its end");
    is_clear(&error, &token);
    assert!(error.to_string().contains("expired on"), "{error}");
    // Who waits hears of it too.
    let error = tokio::time::timeout(LIMIT, waiting).await.expect("in time").expect("no panic").expect_err("an error");
    assert!(!error.is_retryable() && error.to_string().contains("expired on"), "{error}");
    let calls = cable.calls() - expired_at;
    assert!(calls < 30, "{calls} calls with a token that has expired");
}
