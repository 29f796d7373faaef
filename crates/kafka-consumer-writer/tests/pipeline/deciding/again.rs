//! One record that was put aside more than once, or that may have been sent already.

use super::*;

fn count(rig: &Rig, wanted: &str) -> usize {
    let stored = rig.stored();
    stored.iter().filter(|it| it.line == wanted).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_one_record_that_were_put_aside_are_stored_once() {
    let (rig, writer) = with_a_small_window().await;
    let (all, how) = (Which::default(), How::default());
    // Nobody can know whether it was stored; and it comes twice.
    rig.send(0, 9, &[5], 0).await;
    rig.send(0, 9, &[5, 6], 0).await;
    rig.caught_up().await;
    assert_eq!(listed(&rig, &all).len(), 3);
    let mut dry = How::default();
    dry.sending.dry_run = true;
    let outcome = replayed(&rig, &all, &dry).await;
    assert_eq!(outcome.places.values().sum::<u64>(), 2);
    assert_eq!((outcome.settled, rig.log_end(0)), (1, 7));

    let outcome = replayed(&rig, &all, &how).await;
    assert_eq!((outcome.sent, outcome.settled), (2, 1), "{outcome:?}");
    assert!(outcome.left.is_empty(), "{outcome:?}");
    rig.caught_up().await;
    assert!(listed(&rig, &all).is_empty());
    // And again, once its first copies are done with and their file is gone.
    writer.stop().await;
    let writer = rig.writer("", WINDOW);
    assert!(rig.dead_letter_files("records-").is_empty());
    rig.send(0, 9, &[5], 0).await;
    rig.caught_up().await;
    assert_eq!(listed(&rig, &all).len(), 1);
    let outcome = replayed(&rig, &all, &how).await;
    assert_eq!((outcome.sent, outcome.settled), (0, 1), "{outcome:?}");
    assert!(listed(&rig, &all).is_empty());
    rig.caught_up().await;
    writer.stop().await;
    assert_eq!((count(&rig, &line(9, 5)), count(&rig, &line(9, 6))), (1, 1));
    assert_eq!(rig.totals().undecidable, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_marks_that_cannot_be_read_may_speak_of_is_not_sent() {
    let (rig, writer) = with_a_small_window().await;
    let (all, how) = (Which::default(), How::default());
    rig.send(0, 9, &[5], 0).await;
    rig.caught_up().await;
    writer.stop().await;
    let bad = dlq(&rig).join("marks-0.dlq");
    fs::create_dir(&bad).expect("made");
    // It stops no start.
    let writer = rig.writer("", WINDOW);
    rig.send(0, 10, &[0], 5).await;
    rig.caught_up().await;
    let outcome = replayed(&rig, &all, &how).await;
    assert_eq!((outcome.sent, outcome.left.len()), (0, 1), "{outcome:?}");
    let named = outcome.survey.damage.join(" ");
    assert!(named.contains(&bad.display().to_string()), "{named}");
    fs::remove_dir(&bad).expect("removed");
    assert_eq!(replayed(&rig, &all, &how).await.sent, 1);
    rig.caught_up().await;
    writer.stop().await;
    assert_eq!(count(&rig, &line(9, 5)), 1);
}
