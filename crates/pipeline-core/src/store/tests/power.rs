//! The power is cut behind every step of a chain's life: what was published is there, and the
//! chain goes on.

use std::path::Path;

use super::{snapshot::snapshot_of, *};
use crate::{
    fsx::{
        self, Step,
        faults::{Fault, under},
        recording::record,
    },
    store::{
        segment::LEVEL,
        verify::{Which, verify},
    },
};

const EIO: i32 = 5;

/// START, segments, some of them linked by a try whose directory sync failed, snapshots, and removal
/// behind them. Gives after each what may be relied upon.
fn live(root: &Path, rng: &mut fastrand::Rng, promised: &mut dyn FnMut(i64)) {
    let store = Store::open(root).unwrap();
    let chain = store.chain("logs", PartitionId(3));
    chain.put_start(&start_at(7)).unwrap();
    promised(7);
    let mut names = Vec::new();
    for segment in 0..5 {
        let end = end_of(&chain);
        let (draft, lines) = random_draft(rng, &end);
        let encoded = draft.encode(&lines, LEVEL);
        names.push(encoded.trailer.first);
        if rng.u32(0..3) == 0 {
            let fails = under(chain.dir()).step(Step::SyncDir).nth(1);
            let fails = fails.then(Fault::Fails(EIO));
            chain.publish(&encoded).unwrap_err();
            drop(fails);
            // As the writer does: look, and sync what it finds to be its own.
            assert_eq!(end_of(&chain).last, Some(encoded.link()));
            chain.sync().unwrap();
        } else {
            assert_eq!(chain.publish(&encoded).unwrap(), Published::Linked);
        }
        promised(encoded.trailer.next.0);
        if segment >= 2 {
            // Each replaces the one before, and lets go of one segment more.
            chain.put_snapshot(&snapshot_of(&chain)).unwrap();
            let removal = chain.remove_before(names[segment - 1], &mut || true);
            assert!(removal.unwrap().segments > 0);
        }
    }
}

#[test]
fn wherever_the_power_is_cut_what_was_published_is_there_and_the_chain_goes_on() {
    let mut states = 0;
    for seed in 0..3 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("logs");
        std::fs::create_dir(&root).unwrap();
        let recording = record(&root);
        live(&root, &mut rng, &mut |next| {
            recording.mark(u64::try_from(next).unwrap());
        });
        for cut in 0..=recording.len() {
            for _ in 0..4 {
                let after = tempfile::tempdir().unwrap();
                recording.power_cut(cut, &mut rng, after.path()).unwrap();
                let promised = recording.promised(cut).last().copied();
                let case = format!("seed {seed}, cut behind {cut}: {promised:?} promised");
                goes_on(after.path(), promised, &mut rng, &case);
                states += 1;
            }
        }
    }
    assert!(states > 400, "{states} states");
}

fn goes_on(root: &Path, promised: Option<u64>, rng: &mut fastrand::Rng, case: &str) {
    let store = Store::open(root).unwrap();
    let whole = || {
        let report = verify(root, &Which::default(), &|_, _| {}).unwrap();
        assert!(report.is_whole(), "{case}: {report:?}");
    };
    whole();
    let chain = store.chain("logs", PartitionId(3));
    let end = chain.walk(None, &mut |_| true).unwrap();
    let next = end.as_ref().map(|end| end.next.0);
    let least = promised.map(|next| i64::try_from(next).unwrap());
    assert!(next >= least, "{case}: ends at {next:?}");
    chain.put_start(&start_at(7)).unwrap();
    extend(rng, &chain);
    whole();
}

#[test]
fn the_recording_loses_what_was_not_synced_and_nothing_else() {
    let (mut with, mut without, mut torn) = (0, 0, 0);
    let dir = tempfile::tempdir().unwrap();
    let recording = record(dir.path());
    fsx::put_if_absent(&dir.path().join("kept"), b"kept").unwrap();
    let temporary = fsx::Temporary::write_in(dir.path(), b"linked").unwrap();
    temporary.link(&dir.path().join("linked")).unwrap();
    let mut file = fsx::File::create_new(&dir.path().join("written"), fsx::Access::Umask).unwrap();
    std::io::Write::write_all(&mut file, b"written").unwrap();
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..200 {
        let after = tempfile::tempdir().unwrap();
        recording
            .power_cut(recording.len(), &mut rng, after.path())
            .unwrap();
        let read = |name: &str| std::fs::read(after.path().join(name)).ok();
        assert_eq!(read("kept").as_deref(), Some(b"kept".as_slice()));
        match read("linked") {
            Some(linked) => {
                assert_eq!(linked, b"linked", "its bytes were synced");
                with += 1;
            }
            None => without += 1,
        }
        torn += u32::from(read("written").is_some_and(|written| written != b"written"));
    }
    assert!(with > 20 && without > 20 && torn > 20);
}
