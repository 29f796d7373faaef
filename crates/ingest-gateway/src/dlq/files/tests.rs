//! The directory through crashes, damage and full disks.

mod bounds;
mod damage;

use std::{fs, sync::Arc};

use pipeline_core::{Offset, PartitionId};
use tempfile::TempDir;

use super::*;
use crate::{
    batch::{Progress, test::batch_of},
    dlq::{
        entry::{DATA_KIND, Head, Reason},
        load::{Choice, Loaded, load},
        mark::MARKS_KIND,
        names::{data_numbers, data_path, marks_numbers, marks_of, marks_paths},
    },
};

const LIMITS: FileLimits = FileLimits {
    bytes_max: 64 << 20,
    file_bytes_max: 64 << 20,
};

fn dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn entry(id: u8, lines: &[&str]) -> Entry {
    let batch = batch_of(id, lines);
    Entry {
        head: Head {
            reason: Reason::KafkaAway,
            may_have_been_sent: false,
            partition: Some(PartitionId(0)),
            since: None,
            batch: batch.id,
            received_ms: 1,
            stored_ms: 2,
            cluster_id: "c".into(),
            topic: "t".into(),
        },
        records: Arc::clone(&batch.records),
        first: 0,
        end: lines.len(),
    }
}

fn store(files: &mut Files, entries: &[Entry]) {
    for result in files.store(entries) {
        result.unwrap();
    }
}

fn loaded(dir: &Path, number: u64) -> Loaded {
    load(dir, number, &|_, _| Choice::Send).unwrap()
}

fn sent_to(partition: i32, since: i64) -> Progress {
    Progress {
        partition: Some(PartitionId(partition)),
        since: Some(Offset(since)),
        may_have_been_sent: true,
        acknowledged: 0,
    }
}

fn done(loaded: &Loaded, places: &[usize]) -> Vec<DoneMark> {
    let mark = |place: &usize| DoneMark {
        position: loaded.pending[*place].position,
        records: loaded.pending[*place].records,
    };
    places.iter().map(mark).collect()
}

#[test]
fn however_many_files_have_marks_one_pair_of_them_is_open() {
    let dir = dir();
    let mut files = Files::open(dir.path(), LIMITS).unwrap();
    for _ in 0..20 {
        store(&mut files, &[entry(1, &["a"]), entry(2, &["b"])]);
        files.seal();
    }
    let numbers = files.sealed();
    assert_eq!(numbers.len(), 20);
    for number in &numbers {
        let done = done(&loaded(dir.path(), *number), &[0]);
        files.mark_done(*number, done).unwrap();
    }
    let open = files.known.values().filter(|file| file.marks.is_some());
    assert_eq!(open.count(), 1);
    drop(files);
    let files = Files::open(dir.path(), LIMITS).unwrap();
    assert_eq!(files.totals().entries, 20, "each mark counts");
}

#[test]
fn totals_follow_what_is_stored_and_done_also_over_a_restart() {
    let dir = dir();
    let mut files = Files::open(dir.path(), LIMITS).unwrap();
    store(&mut files, &[entry(1, &["a", "b"]), entry(2, &["c"])]);
    store(&mut files, &[entry(3, &["d"])]);
    assert_eq!((files.totals().entries, files.totals().records), (3, 4));
    assert!(
        files.sealed().is_empty(),
        "the current file is not to be read"
    );
    files.seal();
    assert_eq!(files.sealed(), [1]);
    let read = loaded(dir.path(), 1);
    assert_eq!(read.pending.len(), 3);
    files.mark_done(1, done(&read, &[0])).unwrap();
    for _ in 0..3 {
        assert_eq!((files.totals().entries, files.totals().records), (2, 2));
        drop(files);
        files = Files::open(dir.path(), LIMITS).unwrap();
    }
    assert_eq!(loaded(dir.path(), 1).pending, read.pending[1..]);
    files.mark_done(1, done(&read, &[1, 2])).unwrap();
    assert_eq!(files.totals(), Totals::default());
    assert!(data_numbers(dir.path()).unwrap().is_empty());
    assert!(marks_numbers(dir.path()).unwrap().is_empty());
}

#[test]
fn a_number_is_never_used_again() {
    let dir = dir();
    for expected in 1..4 {
        let mut files = Files::open(dir.path(), LIMITS).unwrap();
        store(&mut files, &[entry(1, &["a"]), entry(2, &["b"])]);
        files.seal();
        let number = *files.sealed().last().unwrap();
        assert_eq!(number, expected);
        if number > 1 {
            let read = loaded(dir.path(), number);
            files.mark_done(number, done(&read, &[0])).unwrap();
        }
    }
}

#[test]
fn files_leave_in_any_order() {
    let dir = dir();
    let mut files = Files::open(dir.path(), LIMITS).unwrap();
    for id in 1..=3 {
        store(&mut files, &[entry(id, &["a"])]);
        files.seal();
    }
    let read = loaded(dir.path(), 2);
    files.mark_done(2, done(&read, &[0])).unwrap();
    assert_eq!(files.sealed(), [1, 3]);
    drop(files);
    let files = Files::open(dir.path(), LIMITS).unwrap();
    assert_eq!(files.sealed(), [1, 3]);
}

#[test]
fn a_large_file_is_ended_and_another_begun() {
    let dir = dir();
    let limits = FileLimits {
        file_bytes_max: 100,
        ..LIMITS
    };
    let mut files = Files::open(dir.path(), limits).unwrap();
    for id in 1..=3 {
        store(&mut files, &[entry(id, &["a line that is long enough"])]);
    }
    assert_eq!(files.sealed(), [1, 2]);
    assert_eq!(files.totals().entries, 3);
}

#[test]
fn marks_of_sends_are_there_after_a_restart() {
    let dir = dir();
    let mut files = Files::open(dir.path(), LIMITS).unwrap();
    store(&mut files, &[entry(1, &["a"]), entry(2, &["b"])]);
    files.seal();
    let position = loaded(dir.path(), 1).pending[1].position;
    let mark = SentMark {
        position,
        partition: PartitionId(4),
        since: Offset(17),
    };
    files.mark_sent(1, vec![mark]).unwrap();
    drop(files);
    let _files = Files::open(dir.path(), LIMITS).unwrap();
    let read = loaded(dir.path(), 1);
    assert!(!read.pending[0].progress.may_have_been_sent);
    assert_eq!(read.pending[1].progress, sent_to(4, 17));
}

#[test]
fn a_flipped_bit_costs_at_most_one_entry_and_never_the_start() {
    let source = dir();
    let mut files = Files::open(source.path(), LIMITS).unwrap();
    store(
        &mut files,
        &[entry(1, &["a"]), entry(2, &["b"]), entry(3, &["c"])],
    );
    drop(files);
    let bytes = fs::read(data_path(source.path(), 1)).unwrap();
    let mut rng = fastrand::Rng::with_seed(11);
    for _ in 0..50 {
        let dir = dir();
        let mut damaged = bytes.clone();
        let at = rng.usize(..bytes.len());
        damaged[at] ^= 1 << rng.u32(..8);
        fs::write(data_path(dir.path(), 1), &damaged).unwrap();
        let mut files = Files::open(dir.path(), LIMITS).unwrap();
        let read = loaded(dir.path(), 1);
        assert!(read.pending.len() >= 2, "byte {at}");
        assert_eq!(read.pending.len() as u64, files.totals().entries);
        // What is whole goes its way, and the file is set aside.
        let all: Vec<_> = (0..read.pending.len()).collect();
        files.mark_done(1, done(&read, &all)).unwrap();
        assert_eq!(files.totals().entries, 0);
        assert!(data_numbers(dir.path()).unwrap().is_empty());
        let aside: Vec<_> = fs::read_dir(dir.path().join(DAMAGED))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert_eq!(aside.len(), 1, "byte {at}");
        let kept = fs::read(&aside[0]).unwrap();
        assert_eq!(files.totals().bytes, kept.len() as u64, "still counted");
        assert!(kept.len() < damaged.len(), "only what is damaged");
        drop(files);
        let mut files = Files::open(dir.path(), LIMITS).unwrap();
        store(&mut files, &[entry(4, &["d"])]);
        files.seal();
        assert_eq!(files.sealed(), [2], "the number is not used again");
    }
}

#[test]
fn above_the_bound_entries_are_refused_and_below_it_taken_again() {
    let dir = dir();
    let limits = FileLimits {
        bytes_max: 2_000,
        ..LIMITS
    };
    let mut files = Files::open(dir.path(), limits).unwrap();
    let mut kept = 0;
    let refusal = loop {
        match files
            .store(&[entry(1, &["a line of some length"])])
            .remove(0)
        {
            Ok(()) => kept += 1,
            Err(refusal) => break refusal,
        }
        assert!(kept < 1000, "no bound");
    };
    assert!(kept > 0);
    assert!(!refusal.may_be_kept);
    assert_eq!(files.totals().entries, kept);
    assert!(files.totals().bytes <= limits.bytes_max);
    files.seal();
    let read = loaded(dir.path(), 1);
    let all: Vec<_> = (0..read.pending.len()).collect();
    files.mark_done(1, done(&read, &all)).unwrap();
    store(&mut files, &[entry(2, &["b"])]);
}

#[test]
fn a_directory_that_is_gone_refuses_and_recovers_with_a_new_file() {
    let dir = dir();
    let queue = dir.path().join("queue");
    let mut files = Files::open(&queue, LIMITS).unwrap();
    fs::rename(&queue, dir.path().join("away")).unwrap();
    let refusal = files.store(&[entry(1, &["a"])]).remove(0).unwrap_err();
    assert!(!refusal.may_be_kept, "{refusal}");
    assert_eq!(files.totals().entries, 0);
    fs::rename(dir.path().join("away"), &queue).unwrap();
    store(&mut files, &[entry(2, &["b"])]);
    drop(files);
    let files = Files::open(&queue, LIMITS).unwrap();
    assert_eq!(files.totals().entries, 1);
}

#[test]
fn what_was_refused_after_a_failed_write_is_not_there_after_a_restart() {
    let dir = dir();
    let mut files = Files::open(dir.path(), LIMITS).unwrap();
    store(&mut files, &[entry(1, &["kept"])]);
    // As if the write of the second had failed half way.
    let current = files.current.as_mut().unwrap();
    let mut payload = Vec::new();
    entry(2, &["refused"]).encode_into(&mut payload);
    current.writer.append(&payload).unwrap();
    let refusal = files.give_up_current("fsync", &io::Error::other("the disk is gone"));
    assert!(!refusal.may_be_kept);
    store(&mut files, &[entry(3, &["kept, too"])]);
    drop(files);
    let files = Files::open(dir.path(), LIMITS).unwrap();
    assert_eq!(files.totals().entries, 2);
    assert_eq!(files.sealed(), [1, 2]);
}

#[test]
fn files_of_tomorrow_stay_as_they_are_and_do_not_stop_a_start() {
    let dir = dir();
    let path = data_path(dir.path(), 3);
    let header = [b"sluicefr".as_slice(), &DATA_KIND, &3_u32.to_be_bytes()].concat();
    let mut tomorrow = b"\x50\x2a\x4d\x18\x14\0\0\0".to_vec();
    tomorrow.extend(&header);
    tomorrow.extend(crc32c::crc32c(&header).to_be_bytes());
    tomorrow.extend(b"who knows what");
    fs::write(&path, &tomorrow).unwrap();
    for start in 0..3 {
        let mut files = Files::open(dir.path(), LIMITS).unwrap();
        assert_eq!(files.totals().entries, start);
        store(&mut files, &[entry(1, &["a"])]);
        files.seal();
        assert_eq!(files.sealed()[0], 3);
    }
    assert_eq!(fs::read(path).unwrap(), tomorrow);
}

#[test]
fn a_write_that_never_ended_leaves_nothing_behind() {
    let dir = dir();
    let mut files = Files::open(dir.path(), LIMITS).unwrap();
    store(&mut files, &[entry(1, &["a"])]);
    let whole = files.totals().bytes;
    store(&mut files, &[entry(2, &["b"])]);
    drop(files);
    let path = data_path(dir.path(), 1);
    let bytes = fs::read(&path).unwrap();
    for cut in 1..20 {
        fs::write(&path, &bytes[..bytes.len() - cut]).unwrap();
        for marks in marks_of(dir.path(), 1).unwrap() {
            for copy in marks_paths(dir.path(), 1, marks) {
                fs::remove_file(copy).unwrap();
            }
        }
        let mut files = Files::open(dir.path(), LIMITS).unwrap();
        let read = loaded(dir.path(), 1);
        assert_eq!(
            (read.pending.len(), read.seen.damage.len()),
            (1, 0),
            "cut {cut}"
        );
        assert_eq!(fs::metadata(&path).unwrap().len(), whole, "cut {cut}");
        if cut == 19 {
            files.mark_done(1, done(&read, &[0])).unwrap();
            assert_eq!(files.totals(), Totals::default());
        }
    }
}

#[test]
fn an_entry_said_to_be_done_twice_counts_once() {
    let dir = dir();
    let mut files = Files::open(dir.path(), LIMITS).unwrap();
    store(&mut files, &[entry(1, &["a"]), entry(2, &["b"])]);
    files.seal();
    let read = loaded(dir.path(), 1);
    for _ in 0..2 {
        files.mark_done(1, done(&read, &[0])).unwrap();
        assert_eq!((files.totals().entries, files.totals().records), (1, 1));
    }
    drop(files);
    let files = Files::open(dir.path(), LIMITS).unwrap();
    assert_eq!((files.totals().entries, files.totals().records), (1, 1));
    assert_eq!(files.sealed(), [1]);
}

#[test]
fn what_was_done_before_the_end_was_noted_counts_once_at_every_start() {
    let dir = dir();
    let mut files = Files::open(dir.path(), LIMITS).unwrap();
    store(
        &mut files,
        &[entry(1, &["a", "b"]), entry(2, &["c"]), entry(3, &["d"])],
    );
    drop(files);
    // As a process leaves it that could not note the end of the file, and later a replay.
    let mark = Mark::Done(done(&loaded(dir.path(), 1), &[0]));
    let mut marks = FrameWriter::create(&marks_paths(dir.path(), 1, 1)[0], MARKS_KIND).unwrap();
    marks.append(&mark.encode()).unwrap();
    marks.sync().unwrap();
    drop(marks);
    for _ in 0..3 {
        let files = Files::open(dir.path(), LIMITS).unwrap();
        assert_eq!((files.totals().entries, files.totals().records), (2, 2));
        assert_eq!(files.sealed(), [1]);
    }
}

#[test]
fn an_entry_that_this_version_cannot_read_stays() {
    let dir = dir();
    let mut files = Files::open(dir.path(), LIMITS).unwrap();
    store(&mut files, &[entry(1, &["a"])]);
    let current = files.current.as_mut().unwrap();
    current.writer.append(b"\xffan entry of tomorrow").unwrap();
    current.writer.sync().unwrap();
    drop(files);
    let mut files = Files::open(dir.path(), LIMITS).unwrap();
    let read = loaded(dir.path(), 1);
    assert_eq!((read.pending.len(), read.seen.unknown), (1, 1));
    files.mark_done(1, done(&read, &[0])).unwrap();
    drop(files);
    let files = Files::open(dir.path(), LIMITS).unwrap();
    assert_eq!(files.totals().entries, 1);
    assert!(data_path(dir.path(), 1).exists());
}

#[test]
fn one_process_at_a_time_has_the_directory() {
    let dir = dir();
    let files = Files::open(dir.path(), LIMITS).unwrap();
    let error = Files::open(dir.path(), LIMITS).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    drop(files);
    Files::open(dir.path(), LIMITS).unwrap();
}
