//! A removal and a repair of one chain at once, in whichever order they come to their steps.

use std::{fs, thread};

use super::{
    super::repair::{Examined, Repair},
    late::{add, hang, snapshot, two, wait},
    *,
};
use crate::fsx::{
    Step,
    faults::{Fault, under},
};

fn names(chain: &Chain) -> Vec<Offset> {
    chain.list().unwrap().segments
}

fn repairable(chain: &Chain) -> Repair {
    match chain.examine(&mut || {}).unwrap() {
        Examined::Repairable(repair) => repair,
        other => panic!("{other:?}"),
    }
}

fn spoil(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[5] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// The names that are none of segments or snapshots, but for START.
fn others(chain: &Chain) -> Vec<String> {
    let mut names = owner::list(chain.dir()).unwrap();
    names.retain(|name| name.starts_with(['.', 'w']));
    names
}

#[test]
fn a_watermark_that_is_put_late_over_a_repair_is_taken_back_and_nothing_is_removed() {
    // With borders of its own behind the repair, or the same one and no snapshot that covers it.
    for (counts, damaged) in [(&[15, 15][..], 1), (&[10, 20], 2)] {
        let dir = tempfile::tempdir().unwrap();
        let (frozen, other) = two(dir.path());
        for _ in 0..4 {
            add(&frozen, 10, 1);
        }
        frozen.put_snapshot(&snapshot(&frozen)).unwrap();
        let before = names(&frozen)[2];
        thread::scope(|scope| {
            let puts = hang(&frozen, Step::Link, 1);
            let removal = scope.spawn(|| frozen.remove_before(before, &mut || true).unwrap());
            wait(&puts);
            spoil(&other.segment_path(names(&other)[damaged]));
            let aside = dir.path().join("aside");
            let moved = other.set_aside(&repairable(&other), &aside, &mut || true);
            assert!(moved.unwrap().is_some());
            for count in counts {
                add(&other, *count, 2);
            }
            let (end, there) = (end_of(&other), names(&other));
            puts.release();
            let removal = removal.join().unwrap();
            assert!(removal.held_back, "{removal:?}");
            assert_eq!((removal.segments, removal.watermark), (0, None));
            assert_eq!((end_of(&other), names(&other)), (end, there));
        });
        assert_eq!(others(&other), [""; 0]);
    }
}

#[test]
fn a_late_watermark_that_stands_well_by_then_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (frozen, other) = two(dir.path());
    for _ in 0..4 {
        add(&frozen, 10, 1);
    }
    frozen.put_snapshot(&snapshot(&frozen)).unwrap();
    let before = names(&frozen)[2];
    thread::scope(|scope| {
        let puts = hang(&frozen, Step::Link, 1);
        let removal = scope.spawn(|| frozen.remove_before(before, &mut || true).unwrap());
        wait(&puts);
        spoil(&other.segment_path(names(&other)[1]));
        let aside = dir.path().join("aside");
        let moved = other.set_aside(&repairable(&other), &aside, &mut || true);
        assert!(moved.unwrap().is_some());
        for count in [5, 5, 20] {
            add(&other, count, 2);
        }
        other.put_snapshot(&snapshot(&other)).unwrap();
        let end = end_of(&other);
        puts.release();
        let removal = removal.join().unwrap();
        assert_eq!(removal.watermark, Some(before));
        assert_eq!(end_of(&other), end);
    });
    // What came between its names is nobody's, and goes with the next one.
    let removal = other.remove_before(Offset(0), &mut || true).unwrap();
    assert_eq!((removal.segments, removal.held_back), (1, false));
    assert_eq!(names(&other), [before]);
}

#[test]
fn a_repair_that_a_new_watermark_overtakes_stops_and_puts_back_what_it_has_moved() {
    let dir = tempfile::tempdir().unwrap();
    let (chain, other) = two(dir.path());
    for _ in 0..5 {
        add(&chain, 10, 1);
    }
    chain.put_snapshot(&snapshot(&chain)).unwrap();
    let all = names(&chain);
    let snapshots = chain.snapshots().unwrap();
    spoil(&chain.segment_path(all[4]));
    let repair = repairable(&chain);
    let aside = dir.path().join("aside");
    thread::scope(|scope| {
        let moves = under(&aside).step(Step::Link).nth(1);
        let moves = moves.then(Fault::Hangs);
        let moved = scope.spawn(|| chain.set_aside(&repair, &aside, &mut || true).unwrap());
        wait(&moves);
        let removal = other.remove_before(all[3], &mut || true).unwrap();
        assert_eq!((removal.segments, removal.held_back), (3, false));
        moves.release();
        assert_eq!(moved.join().unwrap(), None);
    });
    assert_eq!(chain.snapshots().unwrap(), snapshots);
    assert_eq!(names(&chain), all[3..]);
    assert_eq!(fs::read_dir(&aside).unwrap().count(), 0);
    // One that was there before it is told by its examination.
    let stale = chain.set_aside(&repair, &aside, &mut || true);
    assert_eq!(stale.unwrap(), None);
}

#[test]
fn below_a_watermark_that_stands_on_nothing_nothing_is_removed_and_a_repair_sets_it_aside() {
    let dir = tempfile::tempdir().unwrap();
    let (chain, _) = two(dir.path());
    for _ in 0..4 {
        add(&chain, 10, 1);
    }
    chain.put_snapshot(&snapshot(&chain)).unwrap();
    let (end, all) = (end_of(&chain), names(&chain));
    let mark = Offset(all[2].0 + 5);
    chain.put_watermark(mark).unwrap();
    let removal = chain.remove_before(Offset(0), &mut || true).unwrap();
    assert_eq!((removal.segments, removal.held_back), (0, true));
    let repair = repairable(&chain);
    assert_eq!(repair.next, end.next);
    assert_eq!(repair.aside, [chain.watermark_path(mark)]);
    let aside = dir.path().join("aside");
    let moved = chain.set_aside(&repair, &aside, &mut || true);
    assert!(moved.unwrap().is_some());
    assert_eq!((end_of(&chain), names(&chain)), (end, all.clone()));
    // Where something is gone below it, it is what says so.
    chain.put_watermark(mark).unwrap();
    fs::remove_file(chain.segment_path(all[0])).unwrap();
    let found = chain.examine(&mut || {}).unwrap();
    assert!(matches!(found, Examined::Hopeless { .. }), "{found:?}");
}
