//! When a connection is told to end, and when its place may go.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A connection that was accepted at this time.
fn accepted() -> (Arc<Activity>, Instant) {
    let now = Instant::now();
    (Arc::new(Activity::new(now)), now)
}

/// Begins and ends a request.
fn one_request(activity: &Arc<Activity>, at: Instant) {
    drop(activity.begin(false, at).unwrap());
    // The end is taken from the clock, which this test leaves behind.
    activity.state().silent_since = at;
}

#[test]
fn the_first_head_has_its_time_whether_bytes_come_or_not() {
    for bytes in [false, true] {
        let (activity, t) = accepted();
        if bytes {
            activity.heard(t + 9 * SECOND);
        }
        assert_eq!(activity.due(t + 10 * SECOND), None);
        let gone = Some((Told::Gone, Reason::SlowHead));
        assert_eq!(activity.due(t + 11 * SECOND), gone);
        assert_eq!(activity.due(t + 12 * SECOND), None, "told once");
        assert!(activity.begin(false, t).is_none(), "nothing is taken now");
    }
}

#[test]
fn a_later_head_has_its_time_from_its_first_byte_on() {
    let (activity, t) = accepted();
    one_request(&activity, t);
    activity.heard(t + 30 * SECOND);
    activity.heard(t + 39 * SECOND);
    assert_eq!(activity.due(t + 40 * SECOND), None);
    let gone = Some((Told::Gone, Reason::SlowHead));
    assert_eq!(activity.due(t + 41 * SECOND), gone);
}

#[test]
fn an_idle_connection_is_told_to_end_and_then_ended() {
    let (activity, t) = accepted();
    one_request(&activity, t);
    assert_eq!(activity.due(t + 75 * SECOND), None);
    let told = activity.due(t + 76 * SECOND);
    assert_eq!(told, Some((Told::Goodbye, Reason::Idle)));
    // A request that was on its way is answered.
    let late = activity.begin(false, t + 77 * SECOND).unwrap();
    assert_eq!(activity.due(t + 99 * SECOND), None);
    drop(late);
    let told = activity.due(t + 99 * SECOND);
    assert_eq!(told, Some((Told::Gone, Reason::Idle)));
}

#[test]
fn what_is_in_work_is_never_ended_nor_spare() {
    let (activity, t) = accepted();
    let begun = activity.begin(true, t).unwrap();
    drop(begun.receiving);
    assert_eq!(activity.due(t + 1000 * SECOND), None);
    assert_eq!(activity.spare(t + 1000 * SECOND), None);
    drop(begun.working);
}

#[test]
fn the_longest_silent_is_the_most_spare_and_then_the_slowest_body() {
    let (one, t) = accepted();
    assert_eq!(one.spare(t + SECOND / 2), None);
    let silent = one.spare(t + SECOND).unwrap();
    assert_eq!(silent, Spare::Silent(t));
    assert!(silent < Spare::Silent(t + SECOND));
    assert!(Spare::Silent(t + 1000 * SECOND) < Spare::Slow(0));
    assert!(Spare::Slow(0) < Spare::Slow(1));
}

#[test]
fn who_has_moved_since_it_was_looked_at_keeps_its_place() {
    let (activity, t) = accepted();
    let spare = activity.spare(t + SECOND).unwrap();
    one_request(&activity, t + SECOND);
    assert_eq!(activity.give_up(spare, t + 2 * SECOND), None);
    let begun = activity.begin(true, t + 2 * SECOND).unwrap();
    assert_eq!(activity.give_up(spare, t + 9 * SECOND), None);
    drop(begun);
    activity.state().silent_since = t + 3 * SECOND;
    let spare = activity.spare(t + 4 * SECOND).unwrap();
    let given = activity.give_up(spare, t + 4 * SECOND);
    assert_eq!(given, Some(Reason::MadeRoom));
    assert_eq!(activity.give_up(spare, t + 4 * SECOND), None, "once");
    assert!(activity.begin(false, t).is_none());
}

#[test]
fn only_a_body_that_hardly_comes_is_hurried() {
    let (activity, t) = accepted();
    let begun = activity.begin(true, t).unwrap();
    let receiving = begun.receiving.unwrap();
    assert_eq!(activity.spare(t + SECOND / 2), None);
    receiving.heard(10 * 1024);
    assert_eq!(activity.spare(t + 10 * SECOND), None);
    let slow = activity.spare(t + 11 * SECOND).unwrap();
    assert_eq!(slow, Spare::Slow(930));
    assert!(!receiving.is_hurried(Waker::noop()));
    let given = activity.give_up(slow, t + 11 * SECOND);
    assert_eq!(given, Some(Reason::SlowBody));
    assert!(receiving.is_hurried(Waker::noop()));
    assert_eq!(activity.spare(t + 99 * SECOND), None, "once");
}
