//! `dlq list|show|replay`: what did not go into the store is seen, and goes there once someone has
//! decided; once, however often it is replayed and wherever a replay is killed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use kafka_consumer_writer::{
    command::dlq::{
        Which,
        replay::{How, Outcome, replay},
    },
    dead_letters::{
        marks::{self, Marks},
        survey, tidy,
    },
    repair,
};
use pipeline_core::{Offset, dlq::FrameWriter, lifecycle::Shutdown};
use serde_json::Value;

use crate::{
    raw,
    rig::{Rig, TOPIC, Writer, command, line, wait_for},
};

mod again;

/// Batches 0 to 3 stored, with a window of two batches: it begins at 2.
const WINDOW: &str = "dedupMaxBatches: 2; flushSize: 1";

async fn with_a_small_window() -> (Rig, Writer) {
    let rig = Rig::new(1).await;
    let writer = rig.writer("", WINDOW);
    for batch in 0..4 {
        rig.send(0, batch, &[0], batch as i64).await;
        rig.caught_up().await;
    }
    (rig, writer)
}

fn dlq(rig: &Rig) -> PathBuf {
    rig.dir.path().join("dlq/consumer")
}

async fn replayed(rig: &Rig, which: &Which, how: &How) -> Outcome {
    let config = rig.config(rig.dir.path(), "", "");
    let (which, how) = (which.clone(), how.clone());
    // It has a runtime of its own, and the directory for itself.
    let run = move || {
        let dir = &config.consumer.dlq_dir;
        let lock = tidy::lock_replay(dir).expect("nobody else replays");
        let outcome = replay(&config, &which, &how, &Shutdown::manual()).expect("readable");
        if !how.sending.dry_run {
            tidy::tidy(dir, &lock, config.consumer.dlq_max_bytes).expect("tidied");
        }
        outcome
    };
    tokio::task::spawn_blocking(run).await.expect("no panic")
}

fn listed(rig: &Rig, which: &Which) -> Vec<Value> {
    let mut out = Vec::new();
    which.list(&dlq(rig), true, &mut out).expect("listed");
    let text = String::from_utf8(out).expect("UTF-8");
    let parse = |line| serde_json::from_str(line).expect("JSON");
    let mut rows: Vec<Value> = text.lines().map(parse).collect();
    let totals = rows.pop().expect("totals come last");
    assert_eq!(totals["totals"]["messages"], rows.len());
    rows
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for item in fs::read_dir(from).expect("listed") {
        let path = item.expect("listed").path();
        fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("copied");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_replayed_twice_is_stored_once() {
    let (rig, writer) = with_a_small_window().await;
    // Older than the window, but never stored: nobody can know.
    rig.send(0, 9, &[5], 0).await;
    rig.caught_up().await;
    let all = Which::default();
    let rows = listed(&rig, &all);
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(
        (
            &rows[0]["kind"],
            &rows[0]["offset"],
            &rows[0]["state"],
            &rows[0]["sequence"]
        ),
        (&"undecidable".into(), &4.into(), &"waits".into(), &5.into())
    );
    let before = rig.dir.path().join("before");
    copy_dir(&dlq(&rig), &before);

    let mut dry = How::default();
    dry.sending.dry_run = true;
    let outcome = replayed(&rig, &all, &dry).await;
    assert_eq!(outcome.places.values().sum::<u64>(), 1);
    assert_eq!((outcome.sent, rig.log_end(0)), (0, 5), "nothing is sent");

    let how = How::default();
    let outcome = replayed(&rig, &all, &how).await;
    assert_eq!((outcome.sent, outcome.left.len()), (1, 0), "{outcome:?}");
    rig.caught_up().await;
    let stored = |rig: &Rig| {
        let lines = rig.stored().into_iter().map(|record| record.line);
        lines.filter(|found| *found == line(9, 5)).count()
    };
    assert_eq!(stored(&rig), 1);
    // Done: nothing is left to be replayed, or to be seen.
    assert_eq!(replayed(&rig, &all, &how).await.sent, 0);
    assert!(listed(&rig, &all).is_empty());
    assert_eq!(rig.log_end(0), 6);

    // As if it had been killed between Kafka's word and its mark: sent again, stored once.
    for item in fs::read_dir(dlq(&rig)).expect("listed") {
        let path = item.expect("listed").path();
        if path.to_string_lossy().contains("marks-") {
            fs::remove_file(path).expect("removed");
        }
    }
    assert_eq!(replayed(&rig, &all, &how).await.sent, 1);
    rig.caught_up().await;
    assert_eq!((stored(&rig), rig.log_end(0)), (1, 7));
    assert_eq!(rig.totals().duplicate, 1);

    // Its writer lives: the file stays, and goes once the writer is gone. The marks stay.
    assert_eq!(rig.dead_letter_files("records-").len(), 1);
    writer.stop().await;
    rig.writer("", WINDOW).stop().await;
    assert!(rig.dead_letter_files("records-").is_empty());
    assert_eq!(rig.dead_letter_files("marks-").len(), 1);
    // An old copy of the directory changes nothing either.
    copy_dir(&before, &dlq(&rig));
    assert_eq!(replayed(&rig, &all, &how).await.sent, 0);
    assert_eq!((stored(&rig), rig.totals().duplicate), (1, 1));
}

/// As after a roll back: a later version may have sent it, and only that one can say under what.
#[tokio::test(flavor = "multi_thread")]
async fn beside_marks_that_nobody_here_can_read_nothing_is_sent() {
    let (rig, writer) = with_a_small_window().await;
    rig.send(0, 9, &[5], 0).await;
    rig.caught_up().await;
    let path = dlq(&rig).join("marks-tomorrow.dlq");
    let mut tomorrow = FrameWriter::create(&path, marks::KIND).expect("made");
    tomorrow.append(b"\x02 a mark").expect("written");
    let (all, how) = (Which::default(), How::default());
    let outcome = replayed(&rig, &all, &how).await;
    assert_eq!((outcome.sent, rig.log_end(0)), (0, 5), "{outcome:?}");
    let why: Vec<_> = outcome.left.into_keys().collect();
    assert!(why[0].contains("marks cannot be read"), "{why:?}");
    let mut out = Vec::new();
    all.list(&dlq(&rig), true, &mut out).expect("listed");
    let said = String::from_utf8(out).expect("UTF-8");
    assert!(said.contains("version 2, known is 1"), "{said}");

    fs::remove_file(path).expect("removed");
    assert_eq!(replayed(&rig, &all, &how).await.sent, 1);
    rig.caught_up().await;
    writer.stop().await;
    assert_eq!(rig.totals().stored, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_stays_until_it_is_corrected() {
    let rig = Rig::new(1).await;
    let broken = br#"{"timestamp":"2026-01-02T03:04:05Z","path":"/mend"}"#;
    for value in [&broken[..], b"\xff\xfe"] {
        let batch = raw::one(Some(value), &[]);
        rig.broker.append_raw(TOPIC, 0, &batch).expect("appended");
    }
    // A good value with a header that nobody understands.
    let batch = raw::one(Some(line(7, 7).as_bytes()), &[("sluice", Some(b"?"))]);
    rig.broker.append_raw(TOPIC, 0, &batch).expect("appended");
    let writer = rig.writer("", "");
    rig.caught_up().await;
    let all = Which::default();
    assert_eq!(listed(&rig, &all).len(), 3);
    let one = Which {
        from_offset: Some(1),
        to_offset: Some(2),
        kind: vec!["poison".to_owned()],
        ..Which::default()
    };
    assert_eq!(listed(&rig, &one).len(), 1);

    // What passes the rules goes, what does not stays.
    let outcome = replayed(&rig, &all, &How::default()).await;
    assert_eq!(outcome.sent, 1);
    assert_eq!(outcome.left.values().sum::<u64>(), 2, "{outcome:?}");
    assert!(outcome.left.keys().all(|why| why.contains("still poison")));
    assert_eq!(listed(&rig, &all).len(), 2);

    let mut shown = Vec::new();
    all.show(&dlq(&rig), false, &mut shown).expect("shown");
    let shown = String::from_utf8(shown).expect("UTF-8");
    let first: Value = serde_json::from_str(shown.lines().next().expect("two")).expect("JSON");
    assert_eq!(
        first["value"].as_str().map(str::as_bytes),
        Some(&broken[..])
    );
    let mended = rig.dir.path().join("mended.ndjson");
    let mut corrected = first.clone();
    corrected["value"] =
        r#"{"timestamp":"2026-01-02T03:04:05Z","path":"/mend","userAgent":"t"}"#.into();
    fs::write(&mended, format!("{corrected}\n")).expect("written");
    let how = How {
        corrected: Some(mended.clone()),
        ..How::default()
    };
    let outcome = replayed(&rig, &all, &how).await;
    assert_eq!((outcome.sent, outcome.left.len()), (1, 0), "{outcome:?}");
    assert!(outcome.unmatched.is_empty(), "{outcome:?}");
    // Again, it is done with; of a message that is not there it says so.
    corrected["offset"] = 77.into();
    let mut file = fs::OpenOptions::new().append(true).open(&mended);
    let file = file.as_mut().expect("opened");
    std::io::Write::write_all(file, format!("{corrected}\n").as_bytes()).expect("written");
    let outcome = replayed(&rig, &all, &how).await;
    assert_eq!(outcome.sent, 0);
    let place = ("logs".to_owned(), 0, 77);
    assert_eq!(outcome.unmatched.into_iter().collect::<Vec<_>>(), [place]);
    rig.caught_up().await;
    let rows = listed(&rig, &all);
    assert_eq!((rows.len(), &rows[0]["offset"]), (1, &1.into()));
    writer.stop().await;
    let stored = rig.stored();
    assert_eq!(stored.len(), 2);
    assert!(stored[1].line.contains("/mend"), "{stored:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_thrown_away_waits_no_longer_and_the_books_go_on_counting_it() {
    let rig = Rig::new(1).await;
    for value in [&b"1"[..], b"2", b"3"] {
        let batch = raw::one(Some(value), &[]);
        rig.broker.append_raw(TOPIC, 0, &batch).expect("appended");
    }
    let writer = rig.writer("", "");
    rig.caught_up().await;
    let offsets = |rig: &Rig| -> Vec<Value> {
        let rows = listed(rig, &Which::default());
        rows.into_iter().map(|row| row["offset"].clone()).collect()
    };
    let discard = |args: &[&str]| {
        let args = [&["dlq", "discard"], args].concat();
        let ended = command(&rig, &args).wait_with_output().expect("it ends");
        let out = String::from_utf8(ended.stdout).expect("UTF-8");
        (ended.status.code(), out)
    };
    // Nobody is there to be asked; and to look changes nothing.
    let (code, out) = discard(&["--from-offset", "1"]);
    assert_eq!(code, Some(1), "{out}");
    assert!(
        out.contains("throwing 2 away of topic logs partition 0, poison: wrong_type\n"),
        "{out}"
    );
    let (code, out) = discard(&["--dry-run"]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("would throw 3 away"), "{out}");
    assert_eq!(offsets(&rig), [0, 1, 2]);

    let (code, out) = discard(&["--from-offset", "1", "--yes"]);
    assert_eq!(code, Some(0), "{out}");
    assert_eq!(offsets(&rig), [0]);
    let done = Which {
        done: true,
        ..Which::default()
    };
    assert_eq!(listed(&rig, &done)[1]["state"], "thrown away");
    // The writer that lives counts them no more; what it keeps comes with a replay as before.
    let queue = &writer.shared().dead_letters;
    wait_for("the metric to follow", || queue.records() == 1).await;
    assert_eq!(replayed(&rig, &done, &How::default()).await.sent, 0);
    let (code, out) = discard(&["--yes"]);
    assert_eq!(code, Some(0), "{out}");
    let (code, out) = discard(&["--yes"]);
    assert_eq!((code, out.trim()), (Some(0), "nothing to throw away"));
    writer.stop().await;
    assert_eq!(rig.totals().poison, 3);
    rig.writer("", "").stop().await;
    assert!(rig.dead_letter_files("records-").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_replayed_and_is_read_again_after_a_repair_is_stored_once() {
    let (rig, writer) = with_a_small_window().await;
    rig.send(0, 9, &[5], 0).await;
    rig.caught_up().await;
    let (all, how) = (Which::default(), How::default());
    assert_eq!(replayed(&rig, &all, &how).await.sent, 1);
    rig.caught_up().await;
    writer.stop().await;
    let count = || {
        let stored = rig.stored();
        stored.iter().filter(|it| it.line == line(9, 5)).count()
    };
    assert_eq!(count(), 1);

    // Read again from 1 on, with a window that would hold them all: no doubt is left.
    fs::write(rig.chain(0).segment_path(Offset(1)), b"damaged").expect("written");
    let config = rig.config(rig.dir.path(), "", "");
    let mut out = Vec::new();
    let code = repair::run(&config, false, &mut out)
        .await
        .expect("written");
    assert_eq!(code, 0, "{}", String::from_utf8_lossy(&out));
    assert_eq!(rig.next(0), Some(1));
    let writer = rig.writer("", "");
    rig.caught_up().await;
    assert_eq!(writer.shared().dead_letters.records(), 0);
    writer.stop().await;
    assert_eq!((count(), rig.totals().undecidable), (1, 1));
    assert!(listed(&rig, &all).is_empty());
    assert_eq!(replayed(&rig, &all, &how).await.sent, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_killed_goes_on_and_stores_each_once() {
    const MESSAGES: u32 = 60;
    let (rig, writer) = with_a_small_window().await;
    let sequences: Vec<u32> = (0..MESSAGES).collect();
    rig.send(0, 9, &sequences, 0).await;
    rig.caught_up().await;
    assert_eq!(rig.totals().undecidable, u64::from(MESSAGES));
    writer.stop().await;
    let done = || {
        let marks = Marks::read(&dlq(&rig)).expect("readable");
        let mut done = 0;
        survey(&dlq(&rig), &marks, &mut |seen| {
            done += u32::from(seen.progress.is_done());
            Ok(())
        })
        .expect("readable");
        done
    };
    for at_least in [5, 20] {
        let mut child = command(&rig, &["dlq", "replay", "--rate", "40"]);
        wait_for("some to be sent", || done() >= at_least).await;
        child.kill().expect("killed");
        child.wait().expect("ended");
        assert!(done() < MESSAGES);
    }
    let ended = command(&rig, &["dlq", "replay"]).wait_with_output();
    let ended = ended.expect("ended");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}");
    // Its writer is gone and all are done.
    assert!(rig.dead_letter_files("records-").is_empty(), "{said}");
    // A window that holds them all.
    let writer = rig.writer("", "");
    rig.caught_up().await;
    writer.stop().await;
    let stored = rig.stored();
    for sequence in sequences {
        let wanted = line(9, sequence);
        let count = stored.iter().filter(|it| it.line == wanted).count();
        assert_eq!(count, 1, "sequence {sequence}");
    }
    assert!(rig.dead_letters().is_empty());
}
