//! L1. What every [`SignatureStore`] has to do, as cases that any store can be run through.
//!
//! A case is given an empty store that nobody else uses, and panics where the store does not keep the contract of the
//! port. Cases run in real time with waits of at most a few hundred milliseconds; none of them demands that something
//! is fast. They are made for a runtime of several threads and pass on any.

mod commits;
mod concurrency;
mod inbox;
mod listing;
mod samples;
mod time;

pub use self::{commits::*, concurrency::*, inbox::*, listing::*, time::*};

use crate::store::SignatureStore;
use std::{pin::Pin, sync::Arc};

/// A store to be tested.
pub type Store = Arc<dyn SignatureStore>;

/// One case, as a function that can be kept in a list.
pub type CaseFn = fn(Store) -> Pin<Box<dyn Future<Output = ()> + Send>>;

macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        &[$((stringify!($case), |store| Box::pin($case(store)))),*]
    };
}

/// Every case with its name.
pub const CASES: &[(&str, CaseFn)] = cases![
    a_missing_record_is_none,
    heads_are_those_of_the_records,
    creating_twice_conflicts,
    a_stale_update_conflicts,
    a_stale_check_conflicts,
    a_missing_record_conflicts,
    the_first_unexpected_key_is_named,
    a_conflict_leaves_nothing,
    a_foreign_graph_is_refused,
    writes_apply_in_order,
    deleting_is_for_good,
    removing_takes_the_whole_graph,
    payloads_stay_intact,
    every_field_round_trips,
    an_inbox_keeps_its_order,
    only_what_was_seen_is_drained,
    appending_changes_no_version,
    appending_to_nothing_does_nothing,
    each_event_is_taken_in_once,
    one_append_is_the_first,
    an_ended_graph_is_kept_and_goes,
    a_live_graph_stays,
    a_graph_that_never_started_goes,
    many_expired_graphs_are_gone_at_once,
    going_live_again_saves_a_graph,
    alarms_ring_the_longest_overdue_first,
    an_alarm_is_claimed_once,
    a_claim_that_is_not_used_rings_again,
    an_update_moves_the_alarm,
    removing_silences_alarms,
    an_append_never_delays_an_alarm,
    what_was_not_taken_in_keeps_its_alarm,
    pages_have_everything_once,
    pages_of_roots_have_only_roots,
    a_new_graph_during_a_scan_breaks_nothing,
    writers_with_retries_count_right,
    readers_see_whole_commits,
    a_dropped_commit_is_whole,
    changed_wakes_on_an_update,
    changed_wakes_on_removal,
    changed_wakes_on_expiry,
    changed_misses_nothing_that_came_before,
    notices_reach_every_listener,
    it_answers_a_ping,
];

/// Runs every case, one after the other, each on a store of its own.
///
/// # Panics
/// If a case fails, with its name.
pub async fn run_all<F, S>(factory: F)
where
    F: Fn() -> S,
    S: Future<Output = Store>,
{
    for (name, case) in CASES {
        let store = factory().await;
        if let Err(e) = tokio::spawn(case(store)).await {
            panic!("store suite: case {name} failed: {e}");
        }
    }
}
