use std::fs;

use super::{
    super::verify::{Which, verify},
    *,
};

/// A snapshot of the chain as it stands, with batches that nobody checks.
pub fn snapshot_of(chain: &Chain) -> EncodedSnapshot {
    let mut names = Vec::new();
    let end = chain.walk(None, &mut |visited| {
        names.push(visited.trailer.first);
        true
    });
    let head = SnapshotHead {
        end: end.unwrap().unwrap(),
        names,
        window_start: Offset(3),
    };
    let mut writer = SnapshotWriter::new(&head, 2);
    for (id, runs) in [(1, &[(0, 4), (6, 6)][..]), (2, &[(u32::MAX, u32::MAX)])] {
        let batch = SnapshotBatch {
            batch: BatchId([id; 16]),
            received_ms: -5 * i64::from(id),
            greatest: Offset(40 - i64::from(id)),
        };
        writer.batch(&batch, runs);
    }
    writer.finish()
}

fn head_of(snapshot: &EncodedSnapshot) -> SnapshotHead {
    SnapshotReader::open(&snapshot.bytes).unwrap().head
}

fn resume(chain: &Chain, snapshot: &EncodedSnapshot) -> Result<(Resumed, usize), ChainFault> {
    let mut visited = 0;
    let resumed = chain.resume(&head_of(snapshot), &mut |_| visited += 1)?;
    Ok((resumed, visited))
}

fn names(chain: &Chain) -> Vec<Offset> {
    chain.list().unwrap().segments
}

fn remove(chain: &Chain, before: Offset) -> Removal {
    chain.remove_before(before, &mut || true).unwrap()
}

#[test]
fn a_snapshot_is_read_as_it_was_written_and_no_byte_of_it_may_change() {
    let dir = tempfile::tempdir().unwrap();
    let chain = random_chain(dir.path(), &mut fastrand::Rng::with_seed(1), 9);
    let written = snapshot_of(&chain);
    let mut reader = SnapshotReader::open(&written.bytes).unwrap();
    assert_eq!(reader.head.end, end_of(&chain));
    assert_eq!(reader.head.names, names(&chain));
    assert_eq!((reader.head.window_start, reader.left()), (Offset(3), 2));
    let (batch, runs) = reader.batch().unwrap().unwrap();
    assert_eq!((batch.received_ms, batch.greatest), (-5, Offset(39)));
    assert_eq!(runs, [(0, 4), (6, 6)]);
    let (batch, runs) = reader.batch().unwrap().unwrap();
    assert_eq!(batch.batch, BatchId([2; 16]));
    assert_eq!(runs, [(u32::MAX, u32::MAX)]);
    assert!(reader.batch().unwrap().is_none());
    for at in 0..written.bytes.len() {
        let mut damaged = written.bytes.clone();
        damaged[at] ^= 1;
        assert!(SnapshotReader::open(&damaged).is_err(), "byte {at}");
        assert!(SnapshotReader::open(&written.bytes[..at]).is_err());
    }
    let mut newer = written.bytes.clone();
    newer[8] = 2;
    let error = SnapshotReader::open(&newer).unwrap_err().to_string();
    assert!(error.contains("version 2, known is 1"), "{error}");
}

#[test]
fn each_snapshot_stands_twice_and_replaces_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(2);
    let chain = random_chain(dir.path(), &mut rng, 3);
    let first = snapshot_of(&chain);
    extend(&mut rng, &chain);
    let second = snapshot_of(&chain);
    for (put, stands) in [(&first, &first), (&second, &second), (&first, &second)] {
        chain.put_snapshot(put).unwrap();
        let found = chain.snapshots().unwrap();
        for file in &found[..2] {
            assert_eq!(file.next, stands.next);
            assert_eq!(file.read().unwrap().unwrap(), stands.bytes);
        }
        // Of the one before it one file stays, for a repair.
        let older: Vec<_> = found[2..].iter().map(|file| file.next).collect();
        let expected = [first.next].repeat(usize::from(stands.next != first.next));
        assert_eq!(older, expected, "{found:?}");
    }
    // One half of a greater one replaces nothing: its other half may never come.
    extend(&mut rng, &chain);
    let third = snapshot_of(&chain);
    fs::write(
        chain.dir().join(format!("{:020}.window-b", third.next.0)),
        "",
    )
    .unwrap();
    chain.put_snapshot(&second).unwrap();
    assert_eq!(chain.snapshots().unwrap().len(), 4);
    chain.put_snapshot(&third).unwrap();
    let found = chain.snapshots().unwrap();
    let nexts: Vec<_> = found.iter().map(|file| file.next).collect();
    assert_eq!(nexts, [third.next, third.next, second.next, first.next]);
    assert_eq!(found[1].read().unwrap().unwrap(), third.bytes);
}

#[test]
fn a_walk_from_a_snapshot_opens_only_what_is_behind_it_and_ends_at_the_same_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(3);
    let chain = random_chain(dir.path(), &mut rng, 1);
    for more in 0..10 {
        let snapshot = snapshot_of(&chain);
        for _ in 0..more {
            extend(&mut rng, &chain);
        }
        let (resumed, visited) = resume(&chain, &snapshot).unwrap();
        assert_eq!(visited, more);
        assert_eq!(resumed.end, end_of(&chain));
        assert_eq!(resumed.names, names(&chain));
    }
}

#[test]
fn a_walk_from_a_snapshot_finds_each_missing_and_each_strange_segment() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(4);
    let chain = random_chain(dir.path(), &mut rng, 8);
    let snapshot = snapshot_of(&chain);
    for _ in 0..3 {
        extend(&mut rng, &chain);
    }
    let all = names(&chain);
    for gone in &all[..10] {
        let (path, aside) = (chain.segment_path(*gone), dir.path().join("aside"));
        fs::rename(&path, &aside).unwrap();
        let fault = resume(&chain, &snapshot).unwrap_err();
        assert!(
            matches!(&fault, ChainFault::Missing { path: named, .. } if *named == path),
            "{fault}"
        );
        fs::rename(&aside, &path).unwrap();
    }
    for strange in [all[2].0 + 1, all[9].0 + 1] {
        let path = chain.segment_path(Offset(strange));
        fs::copy(chain.segment_path(all[1]), &path).unwrap();
        let fault = resume(&chain, &snapshot).unwrap_err();
        assert!(
            matches!(&fault, ChainFault::Damaged { path: named, .. } if *named == path),
            "{fault}"
        );
        fs::remove_file(path).unwrap();
    }
    resume(&chain, &snapshot).unwrap();
    // Another chain's segment in the place of the last one that it covers.
    let other = tempfile::tempdir().unwrap();
    let foreign = random_chain(other.path(), &mut fastrand::Rng::with_seed(4), 7);
    let (draft, lines) = random_draft(&mut rng, &end_of(&foreign));
    fs::write(chain.segment_path(all[7]), draft.encode(&lines, 1).bytes).unwrap();
    assert!(matches!(
        resume(&chain, &snapshot),
        Err(ChainFault::Damaged { .. })
    ));
}

#[test]
fn nothing_is_removed_without_two_whole_snapshots() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(5);
    let chain = random_chain(dir.path(), &mut rng, 6);
    let all = names(&chain);
    let nothing = |chain: &Chain| {
        let removal = remove(chain, Offset(i64::MAX));
        assert!(removal.held_back);
        assert_eq!((removal.segments, removal.watermark), (0, None));
        assert_eq!(names(chain), all);
    };
    nothing(&chain);
    chain.put_snapshot(&snapshot_of(&chain)).unwrap();
    let one = chain.snapshots().unwrap().remove(1);
    let whole = fs::read(&one.path).unwrap();
    for spoiled in [&whole[..whole.len() - 1], b""] {
        fs::write(&one.path, spoiled).unwrap();
        nothing(&chain);
    }
    fs::remove_file(&one.path).unwrap();
    nothing(&chain);
    fs::write(&one.path, &whole).unwrap();
    let removal = remove(&chain, Offset(i64::MAX));
    assert_eq!(
        (removal.segments, removal.watermark),
        (5, Some(all[5])),
        "all but the end"
    );
    assert!(!removal.held_back);
}

#[test]
fn verify_names_a_damaged_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let chain = random_chain(dir.path(), &mut fastrand::Rng::with_seed(15), 4);
    let damage = || {
        let report = verify(dir.path(), &Which::default(), &|_, _| {});
        let found = report.unwrap().chains.remove(0).damage;
        found.into_iter().map(|it| it.path).collect::<Vec<_>>()
    };
    chain.put_snapshot(&snapshot_of(&chain)).unwrap();
    remove(&chain, Offset(i64::MAX));
    assert!(damage().is_empty());
    let files = chain.snapshots().unwrap();
    fs::write(&files[1].path, "cut off").unwrap();
    assert_eq!(damage(), [files[1].path.clone()]);
    let whole = files[0].read().unwrap().unwrap();
    fs::write(&files[1].path, &whole).unwrap();
    assert!(damage().is_empty());
    let elsewhere = chain.dir().join(format!("{:020}.window-a", 1));
    fs::write(&elsewhere, &whole).unwrap();
    assert_eq!(
        damage(),
        std::slice::from_ref(&elsewhere),
        "under another number"
    );
    fs::remove_file(elsewhere).unwrap();
    for at in 0..whole.len() {
        let mut spoiled = whole.clone();
        spoiled[at] ^= 1 << (at % 8);
        fs::write(&files[at % 2].path, &spoiled).unwrap();
        assert_eq!(damage(), [files[at % 2].path.clone()], "byte {at}");
        fs::write(&files[at % 2].path, &whole).unwrap();
    }
}

#[test]
fn verify_misses_what_a_snapshot_knows_and_a_snapshot_where_segments_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(16);
    let chain = random_chain(dir.path(), &mut rng, 4);
    let damage = || {
        let report = verify(dir.path(), &Which::default(), &|_, _| {});
        let found = report.unwrap().chains.remove(0).damage;
        found.into_iter().map(|it| it.path).collect::<Vec<_>>()
    };
    let aside = dir.path().join("aside");
    chain.put_snapshot(&snapshot_of(&chain)).unwrap();
    let files = chain.snapshots().unwrap();
    let all = names(&chain);
    // Nothing is gone yet, so it need not be there: its writer may have died half way.
    fs::rename(&files[1].path, &aside).unwrap();
    assert!(damage().is_empty());
    // The chain's end, which no look at the segments alone can miss.
    let end = chain.segment_path(all[3]);
    fs::remove_file(&end).unwrap();
    assert_eq!(damage(), [end]);
    fs::rename(&aside, &files[1].path).unwrap();

    let chain = Store::open(dir.path())
        .unwrap()
        .chain("logs", PartitionId(3));
    fs::remove_dir_all(chain.dir()).unwrap();
    let chain = random_chain(dir.path(), &mut rng, 4);
    chain.put_snapshot(&snapshot_of(&chain)).unwrap();
    remove(&chain, Offset(i64::MAX));
    assert!(damage().is_empty());
    let files = chain.snapshots().unwrap();
    for file in &files {
        fs::rename(&file.path, &aside).unwrap();
        assert_eq!(damage(), std::slice::from_ref(&file.path), "one of two");
        fs::rename(&aside, &file.path).unwrap();
    }
    for file in &files {
        fs::remove_file(&file.path).unwrap();
    }
    assert_eq!(damage(), [chain.dir().to_owned()]);
}

#[test]
fn a_removal_goes_up_to_what_is_asked_and_covered_and_the_chain_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(6);
    let chain = random_chain(dir.path(), &mut rng, 6);
    chain.put_snapshot(&snapshot_of(&chain)).unwrap();
    let snapshot = snapshot_of(&chain);
    for _ in 0..4 {
        extend(&mut rng, &chain);
    }
    let all = names(&chain);
    let end = end_of(&chain);
    for (before, left) in [
        (all[0].0, 0),
        (all[1].0 - 1, 0),
        (all[1].0, 1),
        (all[4].0 + 1, 4),
        (all[4].0, 4),
        // Covered is what ends at the snapshot, at the beginning of the seventh.
        (all[8].0, 6),
        (i64::MAX, 6),
    ] {
        let removal = remove(&chain, Offset(before));
        assert_eq!(removal.held_back, before >= all[8].0);
        assert_eq!(names(&chain), all[left..], "before {before}");
        assert_eq!(end_of(&chain), end);
        let (resumed, visited) = resume(&chain, &snapshot).unwrap();
        assert_eq!((resumed.end, visited), (end.clone(), 4));
        assert_eq!(resumed.names, all[left..]);
    }
    let marks = owner::list(chain.dir()).unwrap();
    let marks = marks.iter().filter(|name| name.starts_with('w')).count();
    assert_eq!(marks, 2, "older watermarks are gone");
    // Up to the snapshot's end and beyond the last segment that it covers, the chain links on.
    extend(&mut rng, &chain);
    assert_eq!(resume(&chain, &snapshot).unwrap().1, 5);
}

#[test]
fn a_removal_that_was_cut_off_is_finished_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(7);
    let chain = random_chain(dir.path(), &mut rng, 9);
    let snapshot = snapshot_of(&chain);
    chain.put_snapshot(&snapshot).unwrap();
    let all = names(&chain);
    let mut left = 4;
    let removal = chain.remove_before(all[7], &mut || {
        left -= 1;
        left >= 0
    });
    let removal = removal.unwrap();
    assert!(removal.stopped);
    assert_eq!(removal.segments, 3);
    assert_eq!(chain.watermark().unwrap(), Some(all[7]));
    assert_eq!(names(&chain), all[3..]);
    // What is left below the watermark is nobody's.
    assert_eq!(resume(&chain, &snapshot).unwrap().0.names, all[7..]);
    let removal = remove(&chain, Offset(0));
    assert_eq!((removal.segments, removal.held_back), (4, false));
    assert_eq!(names(&chain), all[7..]);
    let report = verify(dir.path(), &Which::default(), &|_, _| {});
    assert!(report.unwrap().is_whole());
}

#[test]
fn a_chain_with_a_missing_segment_is_not_removed_from() {
    let dir = tempfile::tempdir().unwrap();
    let chain = random_chain(dir.path(), &mut fastrand::Rng::with_seed(8), 6);
    chain.put_snapshot(&snapshot_of(&chain)).unwrap();
    let all = names(&chain);
    fs::remove_file(chain.segment_path(all[3])).unwrap();
    let fault = chain.remove_before(all[5], &mut || true).unwrap_err();
    assert!(matches!(fault, ChainFault::Missing { .. }), "{fault}");
    assert_eq!(chain.watermark().unwrap(), None);
    assert_eq!(names(&chain).len(), 5);
}
