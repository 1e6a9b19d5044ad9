//! Chains and swarms.

use super::*;
use crate::error::Error;

fn swarm_of(total: u32, limits: SwarmLimits) -> Record {
    let mut swarm = started(Kind::Swarm(limits), total);
    swarm.state.counters.closed = true;
    swarm
}

fn swarm(total: u32, max_concurrency: u32) -> Record {
    swarm_of(total, SwarmLimits { max_concurrency, ..SwarmLimits::default() })
}

fn fill(swarm: &mut Record) {
    while let Fill::Start { count, .. } = swarm.swarm_next(None) {
        (0..count).for_each(|_| swarm.swarm_reached(None));
    }
}

#[test]
fn a_chain_goes_step_by_step() {
    let mut chain = started(Kind::Chain, 3);
    for step in 0..3 {
        assert_eq!(chain.chain_absorb(&[]), Chain::Start(step));
        chain.chain_started();
        assert_eq!(chain.chain_absorb(&[]), Chain::Wait);
        let told = chain.chain_absorb(&[event(step, Status::Done)]);
        assert_eq!(told, if step < 2 { Chain::Start(step + 1) } else { Chain::Done });
    }
    assert_eq!(chain.state.counters.done, 3);
}

#[test]
fn a_chain_that_was_not_started_waits() {
    let mut chain = record(Kind::Chain);
    chain.state.counters.total = 2;
    assert_eq!(chain.chain_absorb(&[]), Chain::Wait);
    assert_eq!(chain.chain_absorb(&[event(0, Status::Done)]), Chain::Wait);
}

#[test]
fn a_chain_ignores_what_it_was_told_before_and_what_does_not_run() {
    let mut chain = started(Kind::Chain, 3);
    chain.chain_started();
    let twice = [event(0, Status::Done), event(0, Status::Done), event(0, Status::Failed)];
    assert_eq!(chain.chain_absorb(&twice), Chain::Start(1));
    chain.chain_started();
    // Step 0 once more, and a step that was not reached.
    assert_eq!(chain.chain_absorb(&[event(0, Status::Failed), event(2, Status::Done)]), Chain::Wait);
    assert_eq!((chain.state.counters.done, chain.state.counters.failed, chain.state.counters.running), (1, 0, 1));
    assert_eq!(chain.chain_absorb(&[event(1, Status::Done)]), Chain::Start(2));
}

#[test]
fn a_chain_stops_at_the_first_failure_or_cancellation() {
    for (status, expected) in [(Status::Failed, Chain::Failed(0)), (Status::Cancelled, Chain::Cancelled)] {
        let mut chain = started(Kind::Chain, 3);
        chain.chain_started();
        assert_eq!(chain.chain_absorb(&[event(0, status)]), expected);
        assert_eq!(chain.state.counters.running, 0);
    }
}

#[test]
fn a_paused_chain_counts_but_starts_nothing() {
    let mut chain = started(Kind::Chain, 2);
    chain.chain_started();
    assert!(chain.pause(Status::Suspended));
    assert_eq!(chain.chain_absorb(&[event(0, Status::Done)]), Chain::Wait);
    assert_eq!(chain.state.counters.done, 1);
    chain.resume().unwrap();
    assert_eq!(chain.chain_absorb(&[]), Chain::Start(1));
}

#[test]
fn an_ended_chain_takes_nothing_in() {
    let mut chain = started(Kind::Chain, 2);
    chain.chain_started();
    chain.end(Status::Cancelled, None, now());
    let before = chain.state.counters;
    assert_eq!(chain.chain_absorb(&[event(0, Status::Done)]), Chain::Wait);
    assert_eq!(chain.state.counters, before);
}

#[test]
fn a_swarm_fills_its_places_and_no_more() {
    let mut swarm = swarm(5, 2);
    assert_eq!(swarm.swarm_next(None), Fill::Start { from: 0, count: 2 });
    fill(&mut swarm);
    assert_eq!(swarm.swarm_absorb(&[]), Fill::Wait);
    // The second one first.
    assert_eq!(swarm.swarm_absorb(&[event(1, Status::Done)]), Fill::Start { from: 2, count: 1 });
    assert_eq!(swarm.swarm_absorb(&[event(0, Status::Failed)]), Fill::Start { from: 2, count: 2 });
    fill(&mut swarm);
    assert_eq!(
        swarm.swarm_absorb(&[event(2, Status::Cancelled), event(3, Status::Done)]),
        Fill::Start { from: 4, count: 1 }
    );
    fill(&mut swarm);
    assert_eq!(swarm.swarm_absorb(&[event(4, Status::Done)]), Fill::Done);
    let counters = swarm.state.counters;
    assert_eq!((counters.done, counters.failed, counters.cancelled, counters.running), (3, 1, 1, 0));
}

#[test]
fn one_transition_starts_a_bounded_number_of_items() {
    let mut swarm = swarm(10_000, u32::MAX);
    let Fill::Start { from: 0, count } = swarm.swarm_next(None) else { panic!("nothing to start") };
    assert!(count < 1000);
    fill(&mut swarm);
    assert_eq!(swarm.state.counters.running, 10_000);
}

#[test]
fn a_concurrency_of_zero_is_one() {
    assert_eq!(swarm(2, 0).swarm_next(None), Fill::Start { from: 0, count: 1 });
}

#[test]
fn an_open_swarm_waits_for_items_and_a_closed_empty_one_is_done() {
    let mut swarm = swarm(0, 2);
    swarm.state.counters.closed = false;
    assert_eq!(swarm.swarm_next(None), Fill::Wait);
    assert!(swarm.swarm_close().unwrap());
    assert!(!swarm.swarm_close().unwrap());
    assert_eq!(swarm.swarm_next(None), Fill::Done);
}

#[test]
fn a_swarm_that_was_not_started_or_has_ended_waits() {
    let mut idle = record(Kind::Swarm(SwarmLimits::default()));
    idle.state.counters.total = 3;
    assert_eq!(idle.swarm_next(None), Fill::Wait);
    let mut ended = swarm(3, 1);
    ended.end(Status::Cancelled, None, now());
    assert_eq!(ended.swarm_absorb(&[event(0, Status::Done)]), Fill::Wait);
}

#[test]
fn a_paused_swarm_counts_but_starts_nothing() {
    let mut swarm = swarm(3, 1);
    fill(&mut swarm);
    assert!(swarm.pause(Status::Suspended));
    assert_eq!(swarm.swarm_absorb(&[event(0, Status::Done)]), Fill::Wait);
    assert!(swarm.swarm_add(1).is_err(), "it is closed, paused or not");
    swarm.resume().unwrap();
    assert_eq!(swarm.swarm_absorb(&[]), Fill::Start { from: 1, count: 1 });
}

#[test]
fn failures_up_to_the_limit_fail_the_swarm_with_the_last_one() {
    let limits = SwarmLimits { stop_after_n_failures: Some(2), ..SwarmLimits::default() };
    let mut swarm = swarm_of(9, limits);
    fill(&mut swarm);
    assert_eq!(swarm.swarm_absorb(&[event(4, Status::Failed), event(5, Status::Cancelled)]), Fill::Wait);
    assert_eq!(swarm.swarm_absorb(&[event(7, Status::Done), event(2, Status::Failed)]), Fill::Failed(2));
}

#[test]
fn items_that_ended_before_their_turn_are_counted_and_not_started() {
    let mut swarm = swarm(3, 3);
    swarm.swarm_reached(Some(Status::Cancelled));
    swarm.swarm_reached(Some(Status::Failed));
    assert_eq!(swarm.swarm_next(None), Fill::Start { from: 2, count: 1 });
    swarm.swarm_reached(None);
    let counters = swarm.state.counters;
    assert_eq!((counters.cancelled, counters.failed, counters.running), (1, 1, 1));
}

#[test]
fn additions_are_numbered_up_to_the_limit_and_up_to_the_close() {
    let limits = SwarmLimits { max_task_allowed: Some(4), ..SwarmLimits::default() };
    let mut swarm = started(Kind::Swarm(limits), 1);
    assert_eq!(swarm.swarm_add(2).unwrap(), Added { first: 1 });
    assert!(matches!(swarm.swarm_add(2), Err(Error::TooManyTasks { limit: 4, .. })));
    assert_eq!(swarm.swarm_add(1).unwrap(), Added { first: 3 });
    assert_eq!(swarm.state.counters.total, 4);
    swarm.swarm_close().unwrap();
    assert!(matches!(swarm.swarm_add(1), Err(Error::SwarmClosed { .. })));
    for status in [Status::Cancelled, Status::Failed] {
        swarm.state.status = status;
        assert!(matches!(swarm.swarm_add(1), Err(Error::SwarmCanceled { .. })));
    }
}

#[test]
fn an_unlimited_swarm_still_has_an_end() {
    let mut swarm = started(Kind::Swarm(SwarmLimits::default()), u32::MAX - 1);
    assert!(swarm.swarm_add(1).is_ok());
    assert!(matches!(swarm.swarm_add(1), Err(Error::TooManyTasks { .. })));
}

#[test]
fn only_swarms_take_items_and_can_be_closed() {
    let mut chain = started(Kind::Chain, 2);
    assert!(matches!(chain.swarm_add(1), Err(Error::WrongKind { .. })));
    assert!(matches!(chain.swarm_close(), Err(Error::WrongKind { .. })));
}
