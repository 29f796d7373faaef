use std::{fs, path::PathBuf};

use super::*;
use crate::store::{
    repair::{Examined, Repair},
    verify::{Which, verify},
};

fn names(chain: &Chain) -> Vec<Offset> {
    chain.list().unwrap().segments
}

fn examine(chain: &Chain) -> Examined {
    chain.examine(&mut || {}).unwrap()
}

fn repairable(chain: &Chain) -> Repair {
    match examine(chain) {
        Examined::Repairable(repair) => repair,
        other => panic!("{other:?}"),
    }
}

fn aside(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("_aside/logs/p00003")
}

fn spoil(path: &std::path::Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_or_missing_segment_takes_the_end_behind_it_aside_and_the_rest_is_whole() {
    for (seed, segment) in (0..12).zip([0, 3, 5].into_iter().cycle()) {
        let dir = tempfile::tempdir().unwrap();
        let mut rng = fastrand::Rng::with_seed(seed);
        let chain = random_chain(dir.path(), &mut rng, 6);
        assert!(matches!(examine(&chain), Examined::Whole));
        let all = names(&chain);
        let path = chain.segment_path(all[segment]);
        let is_missing = seed % 2 == 0 && segment < 5;
        if is_missing {
            fs::remove_file(&path).unwrap();
        } else {
            let len = fs::read(&path).unwrap().len();
            spoil(&path, rng.usize(..len));
        }
        let found = repairable(&chain);
        assert_eq!(found.next, all[segment]);
        let damage = found.damage.to_string();
        assert!(damage.contains(&path.display().to_string()), "{damage}");
        // Cut off after any file, it is found again.
        let mut cut = repairable(&chain);
        cut.aside.truncate(1);
        chain
            .set_aside(&cut, &aside(&dir), &mut || true)
            .unwrap()
            .unwrap();
        assert!(
            chain
                .set_aside(&found, &aside(&dir), &mut || true)
                .unwrap()
                .is_none(),
            "the chain has changed since"
        );
        if names(&chain).len() > segment {
            chain
                .set_aside(&repairable(&chain), &aside(&dir), &mut || true)
                .unwrap();
        }
        assert!(matches!(examine(&chain), Examined::Whole));
        assert_eq!(names(&chain), all[..segment]);
        assert_eq!(end_of(&chain).next, all[segment]);
        let kept = fs::read_dir(aside(&dir)).unwrap().count();
        assert_eq!(kept, 6 - segment - usize::from(is_missing));
        // Twice is kept twice.
        extend(&mut rng, &chain);
        spoil(&chain.segment_path(all[segment]), 0);
        chain
            .set_aside(&repairable(&chain), &aside(&dir), &mut || true)
            .unwrap();
        assert_eq!(fs::read_dir(aside(&dir)).unwrap().count(), kept + 1);
        extend(&mut rng, &chain);
    }
}

#[test]
fn snapshots_that_know_of_the_end_go_with_it_and_without_one_before_it_nothing_does() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(1);
    let chain = random_chain(dir.path(), &mut rng, 4);
    chain.put_snapshot(&snapshot_of(&chain)).unwrap();
    let all = names(&chain);
    spoil(&chain.segment_path(all[3]), 9);
    // Nothing is gone: the trailers say what the window held.
    assert_eq!(repairable(&chain).aside.len(), 3);
    spoil(&chain.segment_path(all[3]), 9);
    chain.remove_before(all[2], &mut || true).unwrap();
    spoil(&chain.segment_path(all[3]), 9);
    let Examined::Hopeless { why, .. } = examine(&chain) else {
        panic!("the snapshot's window holds what the damaged segment has stored");
    };
    assert!(why.contains("no snapshot"), "{why}");
    spoil(&chain.segment_path(all[3]), 9);
    let covered = extend(&mut rng, &chain);
    spoil(&chain.segment_path(covered.trailer.first), 9);
    let repair = repairable(&chain);
    assert_eq!(repair.aside.len(), 1, "the snapshot before it stays");
    chain
        .set_aside(&repair, &aside(&dir), &mut || true)
        .unwrap()
        .unwrap();
    assert_eq!(end_of(&chain).next, covered.trailer.first);
    assert_eq!(chain.snapshots().unwrap().len(), 2);
    // At the watermark there is nothing to go back to.
    spoil(&chain.segment_path(all[2]), 9);
    assert!(matches!(examine(&chain), Examined::Hopeless { .. }));
}

#[test]
fn a_name_within_a_segment_is_set_aside_and_the_chain_is_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let chain = random_chain(dir.path(), &mut fastrand::Rng::with_seed(2), 3);
    let all = names(&chain);
    let end = end_of(&chain);
    let strange = chain.segment_path(Offset(all[1].0 + 1));
    fs::copy(chain.segment_path(all[1]), &strange).unwrap();
    assert!(chain.walk(None, &mut |_| true).is_err());
    let repair = repairable(&chain);
    assert!(repair.damage.to_string().contains("belongs to no chain"));
    assert_eq!(repair.aside, [strange]);
    chain
        .set_aside(&repair, &aside(&dir), &mut || true)
        .unwrap()
        .unwrap();
    assert_eq!((names(&chain), end_of(&chain)), (all, end));
}

fn snapshot_of(chain: &Chain) -> EncodedSnapshot {
    let head = SnapshotHead {
        end: end_of(chain),
        names: names(chain)
            .into_iter()
            .filter(|name| chain.watermark().unwrap().is_none_or(|mark| *name >= mark))
            .collect(),
        window_start: Offset(0),
    };
    SnapshotWriter::new(&head, 0).finish()
}

/// As the writer does when it takes a partition: from the newest snapshot.
fn taken(chain: &Chain) -> Result<ChainEnd, ChainFault> {
    let newest = chain.snapshots().unwrap().remove(0);
    let bytes = newest.read().unwrap().unwrap();
    let head = SnapshotReader::open(&bytes).unwrap().head;
    Ok(chain.resume(&head, &mut |_| {})?.end)
}

#[test]
fn damage_before_the_newest_snapshot_goes_back_to_an_older_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(3);
    let chain = random_chain(dir.path(), &mut rng, 4);
    for _ in 0..6 {
        chain.put_snapshot(&snapshot_of(&chain)).unwrap();
        extend(&mut rng, &chain);
    }
    chain.put_snapshot(&snapshot_of(&chain)).unwrap();
    let all = names(&chain);
    chain.remove_before(all[2], &mut || true).unwrap();
    for at in [8, 6, 5] {
        spoil(&chain.segment_path(all[at]), 9);
        let repair = repairable(&chain);
        assert_eq!(repair.next, all[at]);
        chain
            .set_aside(&repair, &aside(&dir), &mut || true)
            .unwrap()
            .unwrap();
        assert!(matches!(examine(&chain), Examined::Whole));
        assert_eq!(taken(&chain).unwrap().next, all[at]);
        assert_eq!(end_of(&chain).next, all[at]);
        let report = verify(dir.path(), &Which::default(), &|_, _| {}).unwrap();
        assert!(report.is_whole(), "{report:?}");
    }
    // Before the oldest snapshot there is none that says what the window held.
    spoil(&chain.segment_path(all[3]), 9);
    assert!(matches!(examine(&chain), Examined::Hopeless { .. }));
}

fn is_whole(dir: &tempfile::TempDir) -> bool {
    let report = verify(dir.path(), &Which::default(), &|_, _| {}).unwrap();
    report.is_whole()
}

#[test]
fn damaged_snapshots_that_others_replace_are_set_aside() {
    for removed in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut rng = fastrand::Rng::with_seed(6);
        let chain = random_chain(dir.path(), &mut rng, 4);
        for _ in 0..3 {
            chain.put_snapshot(&snapshot_of(&chain)).unwrap();
            extend(&mut rng, &chain);
        }
        if removed {
            let all = names(&chain);
            chain.remove_before(all[2], &mut || true).unwrap();
        }
        let files = chain.snapshots().unwrap();
        assert_eq!(files.len(), 4, "the newest twice, each older one once");
        spoil(&files[0].path, 9);
        spoil(&files[2].path, 9);
        assert!(!is_whole(&dir));
        assert!(matches!(examine(&chain), Examined::Whole));
        let damaged: Vec<_> = [&files[0], &files[2]].map(|it| it.path.clone()).into();
        assert_eq!(chain.damaged_snapshots().unwrap(), damaged);
        let mended = chain.mend_snapshots(&aside(&dir)).unwrap();
        let name = files[2].path.file_name().unwrap();
        // The one of the newest is made anew from its other file.
        assert_eq!(
            (mended.completed, mended.aside),
            (true, vec![aside(&dir).join(name)])
        );
        assert!(is_whole(&dir) && aside(&dir).join(name).exists());
        assert_eq!(chain.snapshots().unwrap().len(), 3);
        assert_eq!(
            chain.mend_snapshots(&aside(&dir)).unwrap(),
            Default::default()
        );
        // Both of the newest: the older one that reads stands in their place.
        for file in &files[..2] {
            spoil(&file.path, 9);
        }
        let mended = chain.mend_snapshots(&aside(&dir)).unwrap();
        assert_eq!((mended.completed, mended.aside.len()), (true, 2));
        assert!(is_whole(&dir));
        assert_eq!(taken(&chain).unwrap(), end_of(&chain));
        // With a damaged segment it goes the same way.
        spoil(&chain.snapshots().unwrap()[1].path, 9);
        spoil(
            &chain.segment_path(names(&chain)[names(&chain).len() - 1]),
            9,
        );
        chain
            .set_aside(&repairable(&chain), &aside(&dir), &mut || true)
            .unwrap()
            .unwrap();
        assert!(is_whole(&dir));
    }
}

#[test]
fn an_end_that_is_gone_and_that_a_snapshot_knows_is_found_and_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(4);
    let chain = random_chain(dir.path(), &mut rng, 4);
    chain.put_snapshot(&snapshot_of(&chain)).unwrap();
    for _ in 0..2 {
        extend(&mut rng, &chain);
    }
    let all = names(&chain);
    chain.put_snapshot(&snapshot_of(&chain)).unwrap();
    chain.remove_before(all[2], &mut || true).unwrap();
    let last = chain.segment_path(all[5]);
    fs::remove_file(&last).unwrap();
    let taking = taken(&chain).unwrap_err().to_string();
    assert!(taking.contains(&last.display().to_string()), "{taking}");
    let report = verify(dir.path(), &Which::default(), &|_, _| {}).unwrap();
    let damage = &report.chains[0].damage;
    assert_eq!(damage.len(), 1, "{damage:?}");
    assert_eq!(damage[0].path, last);
    let repair = repairable(&chain);
    assert_eq!((repair.next, repair.aside.len()), (all[5], 2));
    let found = repair.damage.to_string();
    assert!(found.contains(&last.display().to_string()), "{found}");
    chain
        .set_aside(&repair, &aside(&dir), &mut || true)
        .unwrap()
        .unwrap();
    assert!(matches!(examine(&chain), Examined::Whole));
    assert_eq!(taken(&chain).unwrap().next, all[5]);
    extend(&mut rng, &chain);
    assert!(matches!(examine(&chain), Examined::Whole));
}

#[test]
fn a_snapshot_of_what_a_repair_has_taken_is_taken_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(5);
    let chain = random_chain(dir.path(), &mut rng, 4);
    // Made by one that is frozen before it puts it.
    let late = snapshot_of(&chain);
    spoil(&chain.segment_path(names(&chain)[2]), 9);
    chain
        .set_aside(&repairable(&chain), &aside(&dir), &mut || true)
        .unwrap();
    while end_of(&chain).next <= late.next {
        extend(&mut rng, &chain);
    }
    let end = end_of(&chain);
    assert!(!chain.put_snapshot(&late).unwrap(), "taken back");
    assert!(chain.snapshots().unwrap().is_empty());
    // Ended before it could be.
    let path = chain.dir().join(format!("{:020}.window-a", late.next.0));
    fs::write(path, &late.bytes).unwrap();
    assert!(taken(&chain).is_err());
    chain
        .set_aside(&repairable(&chain), &aside(&dir), &mut || true)
        .unwrap();
    assert!(matches!(examine(&chain), Examined::Whole));
    assert!(chain.snapshots().unwrap().is_empty());
    assert_eq!(end_of(&chain), end);
}
