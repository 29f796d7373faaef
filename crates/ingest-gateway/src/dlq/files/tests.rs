//! The directory through crashes, damage and full disks.

mod bounds;
mod damage;
mod starts;

use std::{fs, os::unix::fs::PermissionsExt, sync::Arc};

use pipeline_core::{Offset, PartitionId};
use tempfile::TempDir;

use super::*;
use crate::{
    batch::{Progress, test::batch_of},
    dlq::{
        entry::{DATA_KIND, Head, test::head_of},
        load::{Choice, Loaded, load},
        mark::MARKS_KIND,
        names::{Listing, data_path, marks_paths},
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
            partition: Some(PartitionId(0)),
            ..head_of(batch.id)
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

/// One of the files that are there.
fn file(dir: &Path, number: u64) -> DataFile {
    let mut files = Listing::read(dir).unwrap().files.into_iter();
    files.find(|file| file.number == number).unwrap()
}

fn numbers(files: &Files) -> Vec<u64> {
    files.sealed().iter().map(|file| file.number).collect()
}

fn loaded(dir: &Path, number: u64) -> Loaded {
    let to = PartitionId(0);
    load(dir, &file(dir, number), &|_, _| Choice::Send { to }).unwrap()
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
    let numbers = numbers(&files);
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
    assert_eq!(numbers(&files), [1]);
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
    assert_eq!(Listing::read(dir.path()).unwrap(), Listing::default());
}

#[test]
fn a_number_is_never_used_again() {
    let dir = dir();
    for expected in 1..4 {
        let mut files = Files::open(dir.path(), LIMITS).unwrap();
        store(&mut files, &[entry(1, &["a"]), entry(2, &["b"])]);
        files.seal();
        let number = *numbers(&files).last().unwrap();
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
    assert_eq!(numbers(&files), [1, 3]);
    drop(files);
    let files = Files::open(dir.path(), LIMITS).unwrap();
    assert_eq!(numbers(&files), [1, 3]);
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
    assert_eq!(numbers(&files), [1, 2]);
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
        assert_eq!(Listing::read(dir.path()).unwrap(), Listing::default());
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
        assert_eq!(numbers(&files), [2], "the number is not used again");
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
    assert_eq!(numbers(&files), [1]);
}

#[test]
fn all_that_is_made_is_for_its_owner_alone() {
    let above = dir();
    let queue = above.path().join("above/queue");
    let mut files = Files::open(&queue, LIMITS).unwrap();
    store(&mut files, &[entry(1, &["a"]), entry(2, &["b"])]);
    drop(files);
    // Damage, so that something is set aside.
    let path = data_path(&queue, 1);
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    let mut files = Files::open(&queue, LIMITS).unwrap();
    store(&mut files, &[entry(3, &["c"])]);
    let read = loaded(&queue, 1);
    assert_eq!(read.pending.len(), 1);
    let mut seen = modes(&queue);
    files.mark_done(1, done(&read, &[0])).unwrap();
    seen.extend(modes(&queue));
    let names = ["LOCK", "RESERVE", ".pdlq", ".pdlm", ".pdlm2", DAMAGED];
    for name in names {
        let is_there = seen
            .keys()
            .any(|path| path.to_str().unwrap().ends_with(name));
        assert!(is_there, "no {name} in {seen:?}");
    }
    for (path, (is_dir, mode)) in seen {
        let allowed = if is_dir { 0o700 } else { 0o600 };
        assert_eq!(mode, allowed, "{}", path.display());
    }
}

/// Of a directory and all that is below it: whether it is one, and its mode.
fn modes(path: &Path) -> BTreeMap<PathBuf, (bool, u32)> {
    let metadata = fs::metadata(path).unwrap();
    let mode = metadata.permissions().mode() & 0o777;
    let mut modes = BTreeMap::from([(path.to_owned(), (metadata.is_dir(), mode))]);
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            modes.extend(self::modes(&entry.unwrap().path()));
        }
    }
    modes
}
