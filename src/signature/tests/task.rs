//! The gate, the end of an attempt, and the lifecycle that all kinds share.

use super::*;
use crate::error::Error;

fn delivered(epoch: u32, native: u32, token: u64) -> Delivered {
    Delivered { epoch, native, token }
}

/// Asks the gate at store time `at` (in seconds).
fn gate(task: &mut Record, delivered: Delivered, control: Control, at: u64) -> Gate {
    task.gate(delivered, control, StoreTime(at * 1000), LEASE, now())
}

/// A task in the hands of worker run 7, since store time 0.
fn running_task() -> Record {
    let mut task = started_task();
    assert_eq!(gate(&mut task, delivered(1, 1, 7), Control::Go, 0), Gate::Run { attempt: 1 });
    task
}

#[test]
fn the_gate_lets_a_first_delivery_run_and_notes_who_has_it() {
    let task = running_task();
    assert_eq!(task.state.status, Status::Active);
    assert_eq!(task.state.run, Some(Run { token: 7, native: 1, lease_until: StoreTime(30_000) }));
    assert!(task.is_run_by(7) && !task.is_run_by(8));
}

#[test]
fn the_gate_skips_what_is_stale_or_was_never_started() {
    let mut task = record(task_kind());
    assert_eq!(gate(&mut task, delivered(0, 1, 7), Control::Go, 0), Gate::Skip);
    let mut task = started_task();
    task.state.epoch = 3;
    for epoch in [0, 2, 4] {
        let before = task.clone();
        assert_eq!(gate(&mut task, delivered(epoch, 1, 7), Control::Go, 0), Gate::Skip);
        assert_eq!(task, before);
    }
    task.state.parked = true;
    assert_eq!(gate(&mut task, delivered(3, 1, 7), Control::Go, 0), Gate::Skip);
}

#[test]
fn the_gate_tells_once_more_how_an_ended_task_ended() {
    for (status, outcome) in [
        (Status::Done, Some(Outcome::Done(json("1")))),
        (Status::Failed, Some(Outcome::Failed(failure()))),
        (Status::Cancelled, None),
    ] {
        let mut task = running_task();
        task.end(status, outcome, now());
        for control in [Control::Go, Control::Suspend, Control::Cancel] {
            assert_eq!(gate(&mut task, delivered(1, 1, 8), control, 1), Gate::Ended);
        }
        assert_eq!(gate(&mut task, delivered(2, 1, 8), Control::Go, 1), Gate::Skip, "another sending is stale");
        assert_eq!(task.state.status, status);
    }
}

#[test]
fn the_gate_keeps_a_second_worker_out_until_the_lease_has_ended() {
    let mut task = running_task();
    let busy = |left| Gate::Busy { left: Duration::from_secs(left) };
    assert_eq!(gate(&mut task, delivered(1, 1, 8), Control::Go, 10), busy(20));
    assert!(task.is_run_by(7));
    assert_eq!(gate(&mut task, delivered(1, 1, 8), Control::Go, 30), Gate::Run { attempt: 1 });
    assert!(task.is_run_by(8) && !task.is_run_by(7));
    assert_eq!(task.state.attempts, 0, "a lost worker uses up no attempt");
}

#[test]
fn the_gate_lets_the_same_worker_run_in_again() {
    let mut task = running_task();
    assert_eq!(gate(&mut task, delivered(1, 1, 7), Control::Go, 10), Gate::Run { attempt: 1 });
    assert_eq!(task.state.run.unwrap().lease_until, StoreTime(40_000));
}

#[test]
fn the_gate_follows_the_engine_to_a_later_attempt_and_not_back() {
    let mut task = running_task();
    assert_eq!(gate(&mut task, delivered(1, 2, 8), Control::Go, 1), Gate::Run { attempt: 1 });
    assert_eq!(gate(&mut task, delivered(1, 1, 7), Control::Go, 1), Gate::Skip);
    assert_eq!(gate(&mut task, delivered(1, 1, 7), Control::Go, 99), Gate::Skip);
    assert!(task.is_run_by(8));
}

#[test]
fn the_gate_skips_duplicates_of_an_attempt_that_ended() {
    let mut task = running_task();
    assert_eq!(task.finish(7, Verdict::Retry, Control::Go, now()), Some(Ending::default()));
    assert_eq!(gate(&mut task, delivered(1, 1, 8), Control::Go, 1), Gate::Skip);
    assert_eq!(gate(&mut task, delivered(1, 2, 8), Control::Go, 1), Gate::Run { attempt: 2 });
}

#[test]
fn the_gate_refuses_while_paused_keeps_the_message_and_costs_no_attempt() {
    for (control, status) in [(Control::Suspend, Status::Suspended), (Control::Interrupt, Status::Interrupted)] {
        let mut task = started_task();
        assert!(task.pause(status));
        assert_eq!(gate(&mut task, delivered(1, 1, 7), control, 0), Gate::Refuse);
        assert!(task.state.parked && task.state.run.is_none() && task.input.is_some());
        assert_eq!((task.state.status, task.state.attempts), (status, 0));
        assert_eq!(gate(&mut task, delivered(1, 1, 7), Control::Go, 0), Gate::Skip, "refused once, it is sent anew");
        task.resume().unwrap();
        assert!(task.unpark() && !task.unpark());
        assert_eq!(gate(&mut task, delivered(1, 1, 7), Control::Go, 0), Gate::Skip, "of the sending before the pause");
        assert_eq!(gate(&mut task, delivered(2, 1, 7), Control::Go, 0), Gate::Run { attempt: 1 });
    }
}

#[test]
fn the_gate_says_when_a_task_is_to_be_cancelled() {
    let mut task = started_task();
    assert_eq!(gate(&mut task, delivered(1, 1, 7), Control::Cancel, 0), Gate::Cancel);
    assert_eq!(task.state.run, None);
    let mut task = running_task();
    assert_eq!(gate(&mut task, delivered(1, 1, 8), Control::Cancel, 1), Gate::Busy { left: Duration::from_secs(29) });
}

#[test]
fn finishing_ends_it_tells_the_container_and_names_the_callbacks() {
    for (verdict, status, attempts, callbacks) in [
        (Verdict::Done(json("5")), Status::Done, 0, vec![Role::OnSuccess, Role::OnComplete]),
        (Verdict::Failed(failure()), Status::Failed, 1, vec![Role::OnError, Role::OnComplete]),
        (Verdict::Cancelled, Status::Cancelled, 0, vec![Role::OnComplete]),
    ] {
        let mut task = running_task();
        let parent = task.plan.parent.clone().unwrap().key;
        let ending = task.finish(7, verdict.clone(), Control::Go, now()).unwrap();
        assert_eq!(ending, Ending { tell: Some((parent, event(3, status))), callbacks });
        assert_eq!((task.state.status, task.state.attempts), (status, attempts));
        assert!(task.state.ended_at.is_some() && task.state.run.is_none() && !task.is_live());
        match (verdict, task.outcome.as_deref().unwrap()) {
            (Verdict::Done(told), Outcome::Done(kept)) => assert_eq!(told, *kept),
            (Verdict::Failed(told), Outcome::Failed(kept)) => {
                assert_eq!((&told.message, Some(&task.key)), (&kept.message, kept.signature.as_ref()));
            }
            (Verdict::Cancelled, Outcome::Ended) => {}
            (verdict, outcome) => panic!("{verdict:?} left {outcome:?}"),
        }
    }
}

#[test]
fn finishing_with_a_lost_token_changes_nothing() {
    let mut task = running_task();
    let before = task.clone();
    for verdict in [Verdict::Done(json("1")), Verdict::Failed(failure()), Verdict::Retry, Verdict::GivenBack] {
        assert_eq!(task.finish(8, verdict, Control::Go, now()), None);
    }
    assert_eq!(task, before);
    task.end(Status::Cancelled, None, now());
    assert_eq!(task.finish(7, Verdict::Done(json("1")), Control::Go, now()), None);
    assert_eq!(task.state.status, Status::Cancelled);
}

#[test]
fn a_retry_counts_and_waits_for_the_next_delivery() {
    let mut task = running_task();
    assert_eq!(task.finish(7, Verdict::Retry, Control::Go, now()), Some(Ending::default()));
    let state = &task.state;
    assert_eq!((state.status, state.attempts, state.native, state.parked), (Status::Pending, 1, 1, false));
    assert!(task.is_live());
}

#[test]
fn a_retry_while_paused_is_put_aside_and_counts() {
    for (control, status) in [(Control::Suspend, Status::Suspended), (Control::Interrupt, Status::Interrupted)] {
        let mut task = running_task();
        assert!(task.pause(status));
        assert_eq!(task.finish(7, Verdict::Retry, control, now()), Some(Ending::default()));
        assert_eq!((task.state.status, task.state.attempts, task.state.parked), (status, 1, true));
        task.resume().unwrap();
        assert!(task.unpark());
        // The engine counts anew from 1; the attempts of the task go on.
        assert_eq!(gate(&mut task, delivered(2, 1, 9), Control::Go, 1), Gate::Run { attempt: 2 });
    }
}

#[test]
fn what_is_given_back_does_not_count() {
    let mut task = running_task();
    assert_eq!(task.finish(7, Verdict::GivenBack, Control::Go, now()), Some(Ending::default()));
    let state = &task.state;
    assert_eq!((state.status, state.attempts, state.native, state.parked), (Status::Pending, 0, 0, false));
    assert_eq!(gate(&mut task, delivered(1, 1, 8), Control::Go, 1), Gate::Run { attempt: 1 });
    assert!(task.pause(Status::Interrupted));
    task.finish(8, Verdict::GivenBack, Control::Interrupt, now()).unwrap();
    assert!(task.state.parked);
}

#[test]
fn a_retry_or_a_return_below_something_cancelled_is_a_cancellation() {
    for verdict in [Verdict::Retry, Verdict::GivenBack] {
        let mut task = running_task();
        let ending = task.finish(7, verdict, Control::Cancel, now()).unwrap();
        assert_eq!(ending.callbacks, [Role::OnComplete]);
        assert_eq!((task.state.status, task.state.attempts), (Status::Cancelled, 0));
    }
    let mut task = running_task();
    task.finish(7, Verdict::Done(json("1")), Control::Cancel, now()).unwrap();
    assert_eq!(task.state.status, Status::Done, "what got done is done");
}

#[test]
fn it_is_started_once_and_keeps_a_message_of_its_own() {
    let mut task = record(task_kind());
    task.input = Some(Arc::new(Input { source: Source::Message(crate::args!["own"]), inherited: None }));
    task.start(message(), Some(json(r#"{"a":1}"#)), now()).unwrap();
    let input = task.input.clone().unwrap();
    assert_eq!(input.source, Source::Message(crate::args!["own"]));
    assert_eq!(input.inherited, Some(json(r#"{"a":1}"#)));
    assert!(matches!(task.start(message(), None, now()), Err(Error::AlreadyStarted { .. })));
    let mut ended = record(task_kind());
    ended.end(Status::Cancelled, None, now());
    assert!(matches!(ended.start(message(), None, now()), Err(Error::AlreadyStarted { .. })));
}

#[test]
fn what_is_paused_before_its_start_waits_for_the_resume() {
    let mut task = record(task_kind());
    assert!(task.pause(Status::Suspended));
    task.start(message(), None, now()).unwrap();
    assert!(task.state.parked && task.is_live());
    task.resume().unwrap();
    assert_eq!(task.state.status, Status::Pending);
    assert!(task.unpark());
    let mut chain = record(Kind::Chain);
    assert!(chain.pause(Status::Suspended));
    chain.start(message(), None, now()).unwrap();
    assert_eq!(chain.state.status, Status::Suspended);
    chain.resume().unwrap();
    assert_eq!(chain.state.status, Status::Active);
}

#[test]
fn an_interruption_overrides_a_suspension_and_not_the_other_way_round() {
    let mut task = running_task();
    assert!(task.pause(Status::Suspended));
    assert!(!task.pause(Status::Suspended));
    assert!(task.pause(Status::Interrupted));
    assert!(!task.pause(Status::Suspended) && !task.pause(Status::Interrupted));
    task.resume().unwrap();
    assert_eq!(task.state.status, Status::Active, "it still runs");
    assert!(matches!(task.resume(), Err(Error::NotSuspended { status: Status::Active, .. })));
}

#[test]
fn ends_are_final() {
    for status in [Status::Done, Status::Failed, Status::Cancelled] {
        let mut task = running_task();
        task.end(status, None, now());
        let before = task.clone();
        assert!(!task.pause(Status::Suspended) && !task.pause(Status::Interrupted) && !task.unpark());
        assert!(task.resume().is_err());
        for other in [Status::Done, Status::Failed, Status::Cancelled] {
            assert_eq!(task.end(other, Some(Outcome::Failed(failure())), now()), Ending::default());
        }
        assert_eq!(task, before);
    }
}

#[test]
fn an_end_before_the_start_is_told_to_nobody() {
    let mut task = started_task();
    task.state.started = false;
    assert_eq!(task.clone().end(Status::Cancelled, None, now()), Ending::default());
    // It failed without having been started, for example because it expired: whoever asked to be told is told.
    let ending = task.end(Status::Failed, Some(Outcome::Failed(failure())), now());
    assert_eq!((ending.tell, ending.callbacks), (None, vec![Role::OnError, Role::OnComplete]));
}

#[test]
fn a_failure_keeps_the_signature_that_it_names() {
    let mut task = running_task();
    let other = SignatureKey::root(GraphId::new());
    let mut failure = failure();
    failure.signature = Some(other.clone());
    task.end(Status::Failed, Some(Outcome::Failed(failure)), now());
    assert_eq!(task.failure().unwrap().signature, Some(other));
}

#[test]
fn arguments_are_those_of_a_task() {
    let mut task = record(task_kind());
    Arc::make_mut(&mut task.plan).own = crate::args![a = 1];
    assert_eq!(task.arguments().unwrap(), crate::args![a = 1]);
    task.start(message(), None, now()).unwrap();
    assert_eq!(task.arguments().unwrap(), crate::args![1, a = 1]);
    assert!(matches!(record(Kind::Chain).arguments(), Err(Error::WrongKind { .. })));
}
