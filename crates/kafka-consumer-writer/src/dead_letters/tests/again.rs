//! What was put aside and is read again.

use pipeline_core::fsx::{
    Step,
    faults::{Fault, under},
};

use super::*;

#[test]
fn what_was_replayed_does_not_wait_again_when_a_killed_writers_messages_are_read_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = |writer| DeadLetters::open(dir.path(), 1 << 20, [writer; 16]).expect("opens");
    let waiting = || {
        let marks = Marks::read(dir.path()).expect("readable");
        let mut waiting = Vec::new();
        survey(dir.path(), &marks, &mut |seen| {
            if !seen.progress.is_done() {
                waiting.push(seen.entry.offset.0);
            }
            Ok(())
        })
        .expect("readable");
        waiting
    };
    // Durable, and its writer was killed before the segment was linked.
    let entries = [entry(4, b"x"), entry(6, b"y")];
    open(1).keep(&place(0), &entries[..1]).expect("kept");
    done(dir.path(), &[4]);
    assert_eq!(tidy::tidy_if_free(dir.path(), 1 << 20).expect("tidied"), 1);
    let next = open(2);
    let known = |from| {
        let known = next.put_aside_from(&place(0), Offset(from));
        let known = known.expect("readable").into_iter();
        known.map(|it| it.0).collect::<Vec<_>>()
    };
    assert!(known(4) == [4] && known(5).is_empty());
    next.keep(&place(0), &entries).expect("kept");
    assert_eq!((next.records(), waiting()), (1, vec![6]));
    // A repair cuts off what has been passed.
    next.passed(&place(0), Offset(7));
    assert!(known(7).is_empty());
    assert!(known(5) == [6] && known(4) == [4, 6]);
    assert_eq!((next.records(), waiting()), (1, vec![6]));
    let other = Place {
        topic_id: "another".to_owned(),
        ..place(0)
    };
    let of_other = next.put_aside_from(&other, Offset(0)).expect("readable");
    assert!(of_other.is_empty());
}

#[test]
fn what_a_repair_cut_off_is_known_though_the_first_look_for_it_fails() {
    let dir = tempfile::tempdir().expect("a directory");
    let queue = DeadLetters::open(dir.path(), 1 << 20, [1; 16]).expect("opens");
    queue.keep(&place(0), &[entry(4, b"x")]).expect("kept");
    queue.passed(&place(0), Offset(7));
    let eio = 5;
    let rule = under(dir.path()).step(Step::List).then(Fault::Fails(eio));
    let failed = queue.put_aside_from(&place(0), Offset(3));
    assert_eq!(failed.expect_err("no list").raw_os_error(), Some(eio));
    drop(rule);
    let known = queue.put_aside_from(&place(0), Offset(3));
    assert_eq!(known.expect("readable"), BTreeSet::from([Offset(4)]));
}
