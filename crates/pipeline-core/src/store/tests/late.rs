//! One that was frozen between two steps of its own, while a repair and others went on: it removes
//! nothing of theirs when it wakes.

use std::{fs, thread};

use super::{super::repair::Examined, *};
use crate::fsx::{
    Step,
    faults::{Fault, Rule, under},
};

/// A segment of so many offsets, none of them stored.
pub fn skipped(end: &ChainEnd, count: i64, writer: u8) -> Encoded {
    let draft = Draft {
        first: end.next,
        next: Offset(end.next.0 + count),
        previous: end.last,
        writer: [writer; 16],
        fates: vec![FateRun {
            fate: Fate::Skipped,
            count: u64::try_from(count).unwrap(),
        }],
        stored: Vec::new(),
        totals_before: end.totals,
        last: end.last_message,
    };
    draft.encode(b"", 1)
}

pub fn add(chain: &Chain, count: i64, writer: u8) -> Encoded {
    let segment = skipped(&end_of(chain), count, writer);
    assert_eq!(chain.publish(&segment).unwrap(), Published::Linked);
    segment
}

/// As a repair does.
pub fn cut(chain: &Chain, segments: &[&Encoded]) {
    for segment in segments {
        fs::remove_file(chain.segment_path(segment.trailer.first)).unwrap();
    }
}

pub fn snapshot(chain: &Chain) -> EncodedSnapshot {
    super::snapshot::snapshot_of(chain)
}

fn contents(chain: &Chain) -> Vec<Vec<u8>> {
    let files = chain.snapshots().unwrap();
    let read = files.iter().map(|file| file.read().unwrap().unwrap());
    read.collect()
}

pub fn hang(chain: &Chain, step: Step, nth: u64) -> Rule {
    let rule = under(chain.dir()).step(step).nth(nth);
    rule.then(Fault::Hangs)
}

pub fn wait(rule: &Rule) {
    while rule.hits() == 0 {
        thread::yield_now();
    }
}

/// Two values on one directory are two processes.
pub fn two(root: &Path) -> (Chain, Chain) {
    let frozen = random_chain(root, &mut fastrand::Rng::with_seed(1), 0);
    let other = Store::open(root).unwrap().chain("logs", PartitionId(3));
    (frozen, other)
}

#[test]
fn a_publisher_never_takes_back_what_another_has_put_under_its_name() {
    for behind_its_look in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (frozen, other) = two(dir.path());
        add(&frozen, 10, 1);
        let before = add(&frozen, 10, 1);
        let own = skipped(&end_of(&frozen), 10, 1);
        thread::scope(|scope| {
            let linked = hang(&frozen, Step::SyncDir, 1);
            let looked = hang(&frozen, Step::Rename, 1);
            let publish = scope.spawn(|| frozen.publish(&own).unwrap());
            wait(&linked);
            cut(&other, &[&before]);
            if behind_its_look {
                linked.release();
                wait(&looked);
            }
            cut(&other, &[&own]);
            add(&other, 10, 2);
            add(&other, 10, 2);
            let end = end_of(&other);
            assert_eq!(end.next, own.trailer.next);
            linked.release();
            looked.release();
            assert_eq!(publish.join().unwrap(), Published::Severed);
            assert_eq!(end_of(&other), end, "{behind_its_look}");
        });
        let left = owner::list(frozen.dir()).unwrap();
        assert_eq!(left.len(), 4, "START and three segments: {left:?}");
    }
}

/// Two that were frozen: one behind its link, and one that links below the watermark, where the
/// other's file before it had stood.
#[test]
fn what_stands_below_the_watermark_for_a_moment_is_not_what_a_publisher_goes_on_from() {
    for own_before in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (frozen, other) = two(dir.path());
        let stale = skipped(&end_of(&frozen), 20, 2);
        let before = add(if own_before { &frozen } else { &other }, 10, 1);
        let own = skipped(&end_of(&frozen), 10, 1);
        thread::scope(|scope| {
            let linked = hang(&frozen, Step::SyncDir, 1);
            let publish = scope.spawn(|| frozen.publish(&own).unwrap());
            wait(&linked);
            other.put_watermark(own.trailer.first).unwrap();
            cut(&other, &[&before]);
            let path = other.segment_path(before.trailer.first);
            fs::write(&path, &stale.bytes).unwrap();
            linked.release();
            assert_eq!(publish.join().unwrap(), Published::Linked, "{own_before}");
            fs::remove_file(path).unwrap();
        });
        assert_eq!(end_of(&other).next, own.trailer.next, "{own_before}");
    }
}

#[test]
fn a_publisher_whose_file_is_gone_behind_the_watermark_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (frozen, other) = two(dir.path());
    let before = skipped(&end_of(&frozen), 10, 1);
    other.publish(&before).unwrap();
    let own = skipped(&end_of(&frozen), 10, 1);
    thread::scope(|scope| {
        let linked = hang(&frozen, Step::SyncDir, 1);
        let publish = scope.spawn(|| frozen.publish(&own).unwrap());
        wait(&linked);
        let end = add(&other, 10, 2);
        other.put_watermark(end.trailer.first).unwrap();
        cut(&other, &[&before, &own]);
        linked.release();
        assert_eq!(publish.join().unwrap(), Published::BelowWatermark);
    });
}

#[test]
fn a_missing_predecessor_is_a_removed_one_only_where_the_watermark_is_at_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let (frozen, other) = two(dir.path());
    other.publish(&skipped(&end_of(&other), 10, 1)).unwrap();
    let before = skipped(&end_of(&other), 10, 1);
    other.publish(&before).unwrap();
    let late = skipped(&end_of(&other), 10, 1);
    // A repair; others go on, to names of their own, and what was before is removed.
    cut(&other, &[&before]);
    add(&other, 5, 2);
    let mark = add(&other, 30, 2);
    other.put_watermark(mark.trailer.first).unwrap();
    for name in &other.list().unwrap().segments[..2] {
        fs::remove_file(other.segment_path(*name)).unwrap();
    }
    let end = end_of(&other);
    // The name is free, and not below the watermark.
    assert!(mark.trailer.first < late.trailer.first);
    assert_eq!(frozen.publish(&late).unwrap(), Published::Severed);
    assert_eq!(end_of(&other), end);
    // Where the removal is one of this chain, it goes on.
    let next = skipped(&end, 10, 3);
    other.put_watermark(end.next).unwrap();
    cut(&other, &[&mark]);
    assert_eq!(frozen.publish(&next).unwrap(), Published::Linked);
}

#[test]
fn a_late_snapshot_of_what_a_repair_has_taken_leaves_the_others_one_alone() {
    for frozen_at in [
        None,
        Some((Step::Link, 1)),
        Some((Step::SyncDir, 1)),
        Some((Step::Link, 2)),
        Some((Step::SyncDir, 2)),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (frozen, other) = two(dir.path());
        add(&frozen, 10, 1);
        let last = add(&frozen, 10, 1);
        let late = snapshot(&frozen);
        thread::scope(|scope| {
            let rule = frozen_at.map(|(step, nth)| hang(&frozen, step, nth));
            let put = |at: Option<&Rule>| {
                let put = scope.spawn(|| frozen.put_snapshot(&late).unwrap());
                at.inspect(|rule| wait(rule));
                put
            };
            let early = rule.as_ref().map(|rule| put(Some(rule)));
            cut(&other, &[&last]);
            add(&other, 10, 2);
            let ours = snapshot(&other);
            assert_eq!(ours.next, late.next);
            assert!(other.put_snapshot(&ours).unwrap());
            rule.as_ref().inspect(|rule| rule.release());
            let put = early.unwrap_or_else(|| put(None));
            assert!(!put.join().unwrap(), "{frozen_at:?}");
            assert_eq!(contents(&other), [&*ours.bytes; 2], "{frozen_at:?}");
        });
        let left = owner::list(frozen.dir()).unwrap();
        assert!(left.iter().all(|name| !name.starts_with('.')), "{left:?}");
    }
}

#[test]
fn what_a_newer_snapshot_replaces_stays_where_a_repair_has_taken_the_newer_one() {
    let dir = tempfile::tempdir().unwrap();
    let (frozen, other) = two(dir.path());
    add(&frozen, 10, 1);
    let older = snapshot(&frozen);
    frozen.put_snapshot(&older).unwrap();
    let last = add(&frozen, 10, 1);
    let newer = snapshot(&frozen);
    thread::scope(|scope| {
        let removing = hang(&frozen, Step::Rename, 1);
        let put = scope.spawn(|| frozen.put_snapshot(&newer).unwrap());
        wait(&removing);
        cut(&other, &[&last]);
        for file in &other.snapshots().unwrap()[..2] {
            assert_eq!(file.next, newer.next);
            fs::remove_file(&file.path).unwrap();
        }
        removing.release();
        put.join().unwrap();
    });
    assert_eq!(contents(&other), [&*older.bytes; 2]);
}

#[test]
fn the_newest_snapshot_that_reads_is_made_to_stand_in_two_files() {
    let dir = tempfile::tempdir().unwrap();
    let (chain, _) = two(dir.path());
    assert!(!chain.complete_newest_snapshot().unwrap(), "there is none");
    let mut put = Vec::new();
    for _ in 0..2 {
        add(&chain, 10, 1);
        put.push(snapshot(&chain));
        chain.put_snapshot(put.last().unwrap()).unwrap();
    }
    assert!(!chain.complete_newest_snapshot().unwrap(), "it does");
    let files = chain.snapshots().unwrap();
    let [older, newest] = [0, 1].map(|at| &*put[at].bytes);
    for spoiled in [0, 1] {
        fs::write(&files[spoiled].path, "cut off").unwrap();
        assert!(chain.complete_newest_snapshot().unwrap());
        assert_eq!(contents(&chain), [newest, newest, older]);
        fs::remove_file(&files[spoiled].path).unwrap();
        assert!(chain.complete_newest_snapshot().unwrap());
        assert_eq!(contents(&chain), [newest, newest, older]);
    }
    // Where neither of its files reads it is the one before it.
    for file in &files[..2] {
        fs::write(&file.path, "cut off").unwrap();
    }
    assert!(chain.complete_newest_snapshot().unwrap());
    assert_eq!(
        contents(&chain),
        [b"cut off", &b"cut off"[..], older, older]
    );
}

#[test]
fn where_no_snapshot_reads_behind_a_watermark_a_repair_says_that_there_is_no_hope() {
    let dir = tempfile::tempdir().unwrap();
    let (chain, _) = two(dir.path());
    add(&chain, 10, 1);
    add(&chain, 10, 1);
    chain.put_snapshot(&snapshot(&chain)).unwrap();
    chain.remove_before(Offset(i64::MAX), &mut || true).unwrap();
    assert!(matches!(
        chain.examine(&mut || {}).unwrap(),
        Examined::Whole
    ));
    let hopeless = || match chain.examine(&mut || {}).unwrap() {
        Examined::Hopeless { damage, why } => format!("{damage}: {why}"),
        other => panic!("{other:?}"),
    };
    let files = chain.snapshots().unwrap();
    for file in &files {
        fs::write(&file.path, "cut off").unwrap();
    }
    let said = hopeless();
    assert!(
        said.contains(&files[0].path.display().to_string()),
        "{said}"
    );
    for file in &files {
        fs::remove_file(&file.path).unwrap();
    }
    assert!(hopeless().contains(&chain.dir().display().to_string()));
}
