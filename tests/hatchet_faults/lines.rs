//! Connections that are cut, of a worker and of a client, while runs are under way.

use crate::{
    engine::Engine,
    relay::cable::{Cable, Cut},
    worker::{Killed, RUNS, all_begun, all_have_results, mageflow, started},
};
use mageflow::args;

async fn nothing_is_lost_or_doubled(what: &str, cut: Cut) {
    let Some(engine) = Engine::of_this_environment() else { return };
    let cable = Cable::to(engine.port()).await;
    let (namespace, place) = (format!("{what}{}_", std::process::id()), cable.place());
    let mage = mageflow(&namespace, &place).await;
    let _worker = Killed::launch(&namespace, &place);
    let ids = all_begun(&mage, &namespace, 3_000).await;
    let before = cable.opened();
    let cutting = async { cable.cut(cut) };
    tokio::join!(all_have_results(&mage, &ids), cutting);
    // Both were cut off, and came back before the engine gave the runs to others.
    assert!(cable.opened() >= before + 2, "{before} connections, then {}", cable.opened());
    assert_eq!(started(&namespace).len(), RUNS);
    // What is new goes the new way.
    let new = mage.submit_many((0..1).map(|n| ("slow", args![n = n, millis = 1]))).await.expect("a run");
    all_have_results(&mage, &new).await;
}

pub(crate) async fn a_connection_that_is_reset_is_made_again() {
    nothing_is_lost_or_doubled("reset", Cut::Reset).await;
}

pub(crate) async fn a_connection_that_falls_silent_is_made_again() {
    nothing_is_lost_or_doubled("silent", Cut::Silent).await;
}
