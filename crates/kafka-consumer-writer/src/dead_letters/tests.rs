use std::{fs, time::Instant};

use bytes::Bytes;
use kafka_link::{HeaderSlot, Message, MessageBlock};
use pipeline_core::PartitionId;

use super::{files::has_prefix, marks::Marks, *};
use crate::{
    batcher::{Batch, Chunk, Trigger},
    budget::Budget,
};

mod again;
mod damage;

fn place(partition: i32) -> Place {
    Place {
        topic: "logs".to_owned(),
        topic_id: "id".to_owned(),
        partition: PartitionId(partition),
    }
}

fn entry(offset: i64, value: &[u8]) -> Entry<'_> {
    Entry {
        kind: EntryKind::Poison,
        offset: Offset(offset),
        timestamp_ms: 1,
        header: EntryHeader::Absent,
        value: Some(value),
        detail: "bad".into(),
    }
}

fn batch(first: i64, next: i64) -> Batch {
    let budget = Budget::new(u64::MAX);
    let messages = (first..next).map(|offset| Message {
        offset: Offset(offset),
        timestamp_ms: 1,
        value: Some((0, 2)),
        header: HeaderSlot::Absent,
    });
    let block = MessageBlock {
        bytes: Bytes::from_static(b"{}"),
        messages: messages.collect(),
        first: Offset(first),
        next: Offset(next),
    };
    let chunk = Chunk::messages(block, Instant::now(), &budget);
    Batch {
        first: Offset(first),
        next: Offset(next),
        records: chunk.records(),
        bytes: chunk.bytes,
        chunks: vec![chunk],
        trigger: Trigger::Size,
    }
}

fn written(dir: &Path) -> Vec<(i32, i64)> {
    let mut keys = Vec::new();
    for path in files(dir).expect("listed") {
        read_frames(&path, FILE_KIND, &mut |_, payload| {
            read_payload(payload, &mut |place, entry| {
                keys.push((place.partition.0, entry.offset.0));
            })
            .expect("whole");
        })
        .expect("readable");
    }
    keys.sort_unstable();
    keys
}

#[test]
fn a_key_is_written_once_by_each_process_and_counted_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = |writer| DeadLetters::open(dir.path(), 1 << 20, [writer; 16]).expect("opens");
    let first = open(1);
    let entries = [entry(4, b"x"), entry(6, b"y")];
    first.keep(&place(0), &entries).expect("kept");
    first.keep(&place(0), &entries).expect("kept already");
    first.keep(&place(1), &entries[..1]).expect("kept");
    assert_eq!(first.records(), 3);
    let second = open(2);
    assert_eq!(second.records(), 3);
    // The first may have died before its fsync: what it has written proves nothing.
    second.keep(&place(0), &entries).expect("kept");
    second.keep(&place(0), &entries).expect("kept already");
    assert_eq!(second.records(), 3);
    second
        .keep(&place(0), &[entry(6, b"y"), entry(7, b"z")])
        .expect("one is new");
    assert_eq!(second.records(), 4);
    let keys = [(0, 4), (0, 4), (0, 6), (0, 6), (0, 7), (1, 4)];
    assert_eq!(written(dir.path()), keys);
}

#[test]
fn the_oldest_that_waits_is_known_also_after_a_new_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = |writer| DeadLetters::open(dir.path(), 1 << 20, [writer; 16]).expect("opens");
    let queue = open(1);
    assert_eq!(queue.oldest_ms(), None);
    let at = |offset, timestamp_ms| Entry {
        timestamp_ms,
        ..entry(offset, b"x")
    };
    queue.keep(&place(0), &[at(4, 500)]).expect("kept");
    queue.keep(&place(0), &[at(5, 700)]).expect("kept");
    assert_eq!(queue.oldest_ms(), Some(500));
    queue.keep(&place(1), &[at(9, 300)]).expect("kept");
    assert_eq!(queue.oldest_ms(), Some(300));
    let other = open(2);
    assert_eq!(other.oldest_ms(), Some(300));
    other.recount_records().expect("counted");
    assert_eq!(other.oldest_ms(), Some(300));
}

#[test]
fn a_hung_disk_keeps_nobody_from_the_counts() {
    let dir = tempfile::tempdir().expect("a directory");
    let queue = DeadLetters::open(dir.path(), 1 << 20, [1; 16]).expect("opens");
    queue.keep(&place(0), &[entry(4, b"x")]).expect("kept");
    let _hung = queue.open.lock().expect("no panic");
    queue.passed(&place(1), Offset(4));
    assert_eq!(queue.records(), 1);
    assert!(queue.bytes() > 0);
    // Nor from what is durable already.
    queue
        .keep(&place(0), &[entry(4, b"x")])
        .expect("kept already");
}

#[test]
fn room_made_by_others_is_seen() {
    let dir = tempfile::tempdir().expect("a directory");
    let foreign = dir.path().join("unsaved-foreign.dlq");
    fs::write(&foreign, vec![0; 4_000]).expect("written");
    let queue = DeadLetters::open(dir.path(), 4_000, [1; 16]).expect("opens");
    assert_eq!(queue.bytes(), 4_000);
    queue
        .keep(&place(0), &[entry(1, b"x")])
        .expect_err("no room");
    fs::remove_file(&foreign).expect("removed");
    queue.keep(&place(0), &[entry(1, b"x")]).expect("kept");
    let used = queue.bytes();
    queue.recount().expect("listed");
    assert_eq!(queue.bytes(), used);
}

#[test]
fn a_file_that_went_away_stops_no_start() {
    let dir = tempfile::tempdir().expect("a directory");
    // Listed, and not there when it is looked at.
    let gone = dir.path().join("gone");
    for name in ["unsaved-x.dlq", "records-x.dlq"] {
        std::os::unix::fs::symlink(&gone, dir.path().join(name)).expect("linked");
    }
    let queue = DeadLetters::open(dir.path(), 4_000, [1; 16]).expect("opens");
    assert_eq!((queue.records(), queue.bytes()), (0, 0));
}

#[test]
fn a_copy_that_comes_after_its_batch_has_landed_is_not_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let queue = DeadLetters::open(dir.path(), 1 << 20, [1; 16]).expect("opens");
    let copy = || {
        queue
            .copy_unsaved(&place(0), &batch(10, 20), "slow disk")
            .expect("written")
    };
    queue.passed(&place(0), Offset(20));
    assert_eq!(copy(), None);
    assert!(files(dir.path()).expect("listed").is_empty());
    assert_eq!(queue.bytes(), 0);
    queue.passed(&place(0), Offset(19));
    assert!(copy().is_some());
}

#[test]
fn a_topic_made_anew_has_keys_of_its_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let queue = DeadLetters::open(dir.path(), 1 << 20, [1; 16]).expect("opens");
    queue.keep(&place(0), &[entry(4, b"x")]).expect("kept");
    let anew = Place {
        topic_id: "another".to_owned(),
        ..place(0)
    };
    queue.keep(&anew, &[entry(4, b"y")]).expect("kept");
    assert_eq!(queue.records(), 2);
}

#[test]
fn a_full_queue_refuses_and_copies_leave_half_of_it_for_poison() {
    let dir = tempfile::tempdir().expect("a directory");
    let queue = DeadLetters::open(dir.path(), 4_000, [1; 16]).expect("opens");
    let large = vec![b'x'; 5_000];
    let refused = queue.keep(&place(0), &[entry(1, &large)]);
    assert_eq!(
        refused.expect_err("no room").kind(),
        io::ErrorKind::StorageFull
    );
    assert_eq!(queue.records(), 0);
    let mut copies = 0;
    for n in 0..40 {
        let batch = batch(n * 10, n * 10 + 10);
        let copied = queue.copy_unsaved(&place(0), &batch, "no space");
        copies += u32::from(copied.expect("written").is_some());
    }
    assert!((1..40).contains(&copies), "{copies}");
    queue
        .keep(&place(0), &[entry(1, b"small")])
        .expect("there is room for poison");
}

#[test]
fn a_copy_stays_until_the_chain_has_passed_all_of_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let queue = DeadLetters::open(dir.path(), 1 << 20, [1; 16]).expect("opens");
    let copy = |partition, first, next| {
        queue
            .copy_unsaved(&place(partition), &batch(first, next), "no space")
            .expect("written")
    };
    let path = copy(0, 10, 20).expect("a copy");
    assert!(copy(0, 10, 20).is_none(), "it is there already");
    let other = copy(1, 10, 20).expect("a copy");
    let used = queue.bytes();
    let pass = |next| {
        queue
            .remove_passed_copies(&place(0), Offset(next))
            .expect("removed");
    };
    pass(19);
    assert!(path.exists());
    pass(20);
    assert!(!path.exists() && other.exists());
    assert!(queue.bytes() < used);
    assert_eq!(queue.records(), 0, "copies wait for nobody");
}

#[test]
fn a_copy_that_a_killed_process_left_goes_once_the_chain_has_passed_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = |writer| DeadLetters::open(dir.path(), 1 << 20, [writer; 16]).expect("opens");
    let left = open(1)
        .copy_unsaved(&place(0), &batch(10, 20), "no space")
        .expect("written")
        .expect("a copy");
    let queue = open(2);
    let pass = |next| {
        queue.passed(&place(0), Offset(next));
        let any = queue.has_passed_copies(&place(0), Offset(next));
        queue
            .remove_passed_copies(&place(0), Offset(next))
            .expect("removed");
        any
    };
    assert!(!pass(10) && left.exists(), "at the start");
    assert!(pass(25) && !left.exists());
    assert!(!pass(30), "nothing is left to do");
}

fn done(dir: &Path, offsets: &[i64]) {
    done_at(&place(0), dir, offsets);
}

fn done_at(place: &Place, dir: &Path, offsets: &[i64]) {
    let landed = Offset(1_000);
    let marks: Vec<_> = offsets
        .iter()
        .map(|offset| (Offset(*offset), marks::Mark::Done { landed }))
        .collect();
    let mut writer = marks::MarksWriter::new(dir);
    writer.append(place, &marks).expect("durable");
}

#[test]
fn what_is_replayed_waits_no_longer_and_goes_once_its_writer_is_gone() {
    let dir = tempfile::tempdir().expect("a directory");
    let queue = DeadLetters::open(dir.path(), 1 << 20, [1; 16]).expect("opens");
    let entries = [entry(4, b"x"), entry(6, b"y")];
    queue.keep(&place(0), &entries).expect("kept");
    done(dir.path(), &[4]);
    queue.recount_records().expect("counted");
    assert_eq!(queue.records(), 1);
    done(dir.path(), &[6]);
    assert_eq!(tidy::tidy_if_free(dir.path(), 1 << 20).expect("tidied"), 0);
    queue.keep(&place(0), &[entry(7, b"z")]).expect("kept");
    queue.recount_records().expect("counted");
    assert_eq!(queue.records(), 1, "what came last waits");
    drop(queue);
    assert_eq!(tidy::tidy_if_free(dir.path(), 1 << 20).expect("tidied"), 0);
    done(dir.path(), &[7]);
    let replaying = tidy::lock_replay(dir.path()).expect("free");
    assert_eq!(
        tidy::tidy_if_free(dir.path(), 1 << 20).expect("passed by"),
        0
    );
    drop(replaying);
    assert_eq!(tidy::tidy_if_free(dir.path(), 1 << 20).expect("tidied"), 1);
    let left = files(dir.path()).expect("listed");
    assert!(left.iter().all(|path| has_prefix(path, marks::PREFIX)));
    assert_eq!(left.len(), 3, "the marks stay");
}

#[test]
fn marks_that_no_file_has_leave_the_oldest_first_and_at_once_where_the_topic_has_no_id() {
    let dir = tempfile::tempdir().expect("a directory");
    let marks_files = || {
        let mut paths = files(dir.path()).expect("listed");
        paths.retain(|path| has_prefix(path, marks::PREFIX));
        paths
    };
    let offsets: Vec<i64> = (0..50).collect();
    let mut written: Vec<PathBuf> = Vec::new();
    for age in (1..=4).rev() {
        done(dir.path(), &offsets);
        let new = marks_files().into_iter().find(|it| !written.contains(it));
        let path = new.expect("one more");
        let when = std::time::SystemTime::now() - std::time::Duration::from_secs(age * 60);
        let file = fs::File::options().write(true).open(&path).expect("there");
        file.set_modified(when).expect("set");
        written.push(path);
    }
    let each = len(&written[0]).expect("there");
    let tidy = |kept: u64| {
        let tidied = tidy::tidy_if_free(dir.path(), (each + 10) * kept * 16);
        tidied.expect("tidied")
    };
    assert_eq!(tidy(4), 0);
    assert_eq!(tidy(2), 2);
    assert!(written[2..].iter().all(|path| path.exists()));

    let nameless = Place {
        topic_id: String::new(),
        ..place(0)
    };
    done_at(&nameless, dir.path(), &offsets);
    assert_eq!((tidy(9), marks_files().len()), (1, 2));
}

#[test]
fn what_is_put_aside_during_a_count_waits_for_none_of_it_and_is_counted_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = |writer| DeadLetters::open(dir.path(), 1 << 20, [writer; 16]).expect("opens");
    open(1)
        .keep(&place(0), &[entry(1, b"x"), entry(2, b"y")])
        .expect("kept");
    let queue = open(2);
    queue.begin_count();
    // One that a file has by then, and a new one.
    let entries = [entry(2, b"y"), entry(5, b"z")];
    queue.keep(&place(0), &entries).expect("kept");
    let counted = queue.count_records();
    queue.keep(&place(0), &[entry(6, b"z")]).expect("kept");
    assert_eq!(queue.records(), 4);
    queue.end_count(counted).expect("counted");
    assert_eq!(queue.records(), 4);
    queue.begin_count();
    let counted = queue.count_records();
    queue.end_count(counted).expect("counted");
    assert_eq!(queue.records(), 4);
}
