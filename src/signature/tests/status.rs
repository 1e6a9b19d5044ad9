//! What a signature may do, given what contains it.

use super::*;

const ALL: [Status; 7] = [
    Status::Pending,
    Status::Active,
    Status::Suspended,
    Status::Interrupted,
    Status::Cancelled,
    Status::Done,
    Status::Failed,
];

/// The control of an active task below ancestors of these statuses, the nearest first.
fn below(ancestors: &[(Status, bool)]) -> Control {
    Control::of(Status::Active, ancestors.iter().map(|(status, callback)| (Some(*status), *callback)))
}

#[test]
fn every_status_is_ended_paused_or_neither() {
    let names = |is: fn(Status) -> bool| ALL.into_iter().filter(|status| is(*status)).collect::<Vec<_>>();
    assert_eq!(names(Status::is_ended), [Status::Cancelled, Status::Done, Status::Failed]);
    assert_eq!(names(Status::is_paused), [Status::Suspended, Status::Interrupted]);
}

#[test]
fn its_own_pause_counts() {
    for status in ALL {
        let expected = match status {
            Status::Suspended => Control::Suspend,
            Status::Interrupted => Control::Interrupt,
            _ => Control::Go,
        };
        assert_eq!(Control::of(status, []), expected);
        assert_eq!(expected.is_pause(), status.is_paused());
    }
}

#[test]
fn the_strongest_of_what_contains_it_counts() {
    use Status::{Active, Cancelled, Done, Failed, Interrupted, Suspended};
    assert_eq!(below(&[(Active, false), (Active, false)]), Control::Go);
    assert_eq!(below(&[(Active, false), (Suspended, false)]), Control::Suspend);
    assert_eq!(below(&[(Suspended, false), (Interrupted, false)]), Control::Interrupt);
    assert_eq!(below(&[(Interrupted, false), (Suspended, false)]), Control::Interrupt);
    for ended in [Cancelled, Failed, Done] {
        assert_eq!(below(&[(Interrupted, false), (ended, false)]), Control::Cancel);
    }
}

#[test]
fn a_callback_waits_for_a_pause_above_it_and_outlives_an_end() {
    assert_eq!(below(&[(Status::Suspended, true)]), Control::Suspend);
    assert_eq!(below(&[(Status::Cancelled, true)]), Control::Go);
    assert_eq!(below(&[(Status::Failed, true), (Status::Cancelled, true)]), Control::Go);
    assert_eq!(below(&[(Status::Cancelled, false), (Status::Active, true)]), Control::Cancel);
}

#[test]
fn what_is_missing_has_no_say() {
    assert_eq!(Control::of(Status::Active, [(None, false), (None, true)]), Control::Go);
}
