use std::{fs, sync::Mutex};

use super::{super::verify::*, snapshot::snapshot_of, *};

fn prove(root: &Path) -> Report {
    verify(root, &Which::default(), &|_, _| ()).unwrap()
}

fn damage(root: &Path) -> Vec<Damage> {
    let report = prove(root);
    let of_chains = report.chains.into_iter().flat_map(|chain| chain.damage);
    report.damage.into_iter().chain(of_chains).collect()
}

fn segments(chain: &Chain) -> Vec<Visited> {
    let mut all = Vec::new();
    chain
        .walk(None, &mut |segment| {
            all.push(segment);
            true
        })
        .unwrap();
    all
}

#[test]
fn whole_stores_raise_no_alarm() {
    for seed in 0..40 {
        let dir = tempfile::tempdir().unwrap();
        let mut rng = fastrand::Rng::with_seed(seed);
        let count = rng.usize(0..12);
        let chain = random_chain(dir.path(), &mut rng, count);
        let all = segments(&chain);
        let cut = if count > 0 { rng.usize(0..count) } else { 0 };
        if cut > 0 {
            chain.put_snapshot(&snapshot_of(&chain)).unwrap();
            chain.put_watermark(all[cut].trailer.first).unwrap();
            // Removed only in part, as by a process that died.
            for old in &all[..rng.usize(0..=cut)] {
                fs::remove_file(&old.path).unwrap();
            }
        }
        let steps = Mutex::new(Vec::new());
        let step = |done, total| steps.lock().unwrap().push((done, total));
        let report = verify(dir.path(), &Which::default(), &step).unwrap();
        let [report] = report.chains.as_slice() else {
            panic!("one chain, {} reports", report.chains.len());
        };
        let steps = steps.into_inner().unwrap();
        assert_eq!(report.damage, [], "seed {seed}");
        let end = end_of(&chain);
        assert_eq!(report.next, end.next);
        assert_eq!(report.totals, end.totals);
        assert_eq!(report.segments, (count - cut) as u64);
        assert_eq!(
            report.first.0,
            if cut > 0 { all[cut].trailer.first.0 } else { 7 }
        );
        let bytes: u64 = all[cut..].iter().map(|segment| segment.file_len).sum();
        assert_eq!(report.bytes, bytes);
        if let Some((done, total)) = steps.last() {
            assert_eq!(done, total);
        }
    }
}

#[test]
fn every_flipped_byte_of_a_chain_is_found_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(1);
    let chain = random_chain(dir.path(), &mut rng, 3);
    let mut paths: Vec<_> = segments(&chain)
        .iter()
        .map(|one| one.path.clone())
        .collect();
    paths.push(chain.start_path());
    for path in paths {
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << rng.u32(..8);
            if path == chain.start_path() && bytes[at].is_ascii_whitespace() {
                continue; // JSON means the same with another blank at its end.
            }
            fs::write(&path, &bytes).unwrap();
            let found = damage(dir.path());
            assert!(
                found.iter().any(|one| one.path == path),
                "{} byte {at}: {found:?}",
                path.display()
            );
        }
        fs::write(&path, &whole).unwrap();
        assert_eq!(damage(dir.path()), []);
    }
}

#[test]
fn each_file_but_the_last_removed_is_found_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(2);
    let chain = random_chain(dir.path(), &mut rng, 8);
    let aside = dir.path().join("aside");
    for begun_at in [0, 3] {
        let all = segments(&chain);
        let mut paths: Vec<_> = all[..all.len() - 1]
            .iter()
            .map(|one| one.path.clone())
            .collect();
        paths.push(chain.start_path());
        for path in &paths {
            fs::rename(path, &aside).unwrap();
            let found = damage(dir.path());
            assert_eq!(found.len(), 1, "only what is damaged is named: {found:?}");
            assert_eq!(&found[0].path, path);
            assert!(found[0].detail.contains("missing"), "{found:?}");
            fs::rename(&aside, path).unwrap();
        }
        if begun_at == 0 {
            chain.put_snapshot(&snapshot_of(&chain)).unwrap();
            let removal = chain.remove_before(all[3].trailer.first, &mut || true);
            assert_eq!(removal.unwrap().segments, 3);
        }
    }
    // The watermark gone: what it had covered is missed. The end gone behind a watermark, too.
    let all = segments(&chain);
    let mark = chain.dir().join(format!("w{:020}", all[0].trailer.first.0));
    fs::rename(&mark, &aside).unwrap();
    assert_eq!(damage(dir.path())[0].path, chain.segment_path(Offset(7)));
    fs::rename(&aside, &mark).unwrap();
    for one in &all {
        fs::remove_file(&one.path).unwrap();
    }
    assert_eq!(damage(dir.path())[0].path, all[0].path);
}

#[test]
fn all_damage_is_found_in_one_go() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(3);
    let chain = random_chain(dir.path(), &mut rng, 9);
    let all = segments(&chain);
    fs::remove_file(&all[1].path).unwrap();
    fs::remove_file(&all[2].path).unwrap();
    fs::write(&all[5].path, b"junk").unwrap();
    fs::remove_file(&all[6].path).unwrap();
    let mut found: Vec<_> = damage(dir.path()).into_iter().map(|one| one.path).collect();
    found.sort();
    let expected = [1, 2, 5, 6].map(|at: usize| all[at].path.clone());
    assert_eq!(found, expected);
}

#[test]
fn a_segment_of_another_history_breaks_the_links() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(4);
    let chain = random_chain(dir.path(), &mut rng, 4);
    let third = segments(&chain).swap_remove(2);
    let (_, _, ndjson) = read_segment(&third.path).unwrap();
    // Whole in itself, with the same records, but not what the fourth one was put behind.
    let forged = |spoil: fn(&mut Draft)| {
        let mut draft = Draft {
            first: third.trailer.first,
            next: third.trailer.next,
            previous: third.trailer.previous,
            writer: [0xee; 16],
            fates: third.trailer.fates.clone(),
            stored: third.trailer.stored.clone(),
            totals_before: third.trailer.totals_before(),
            last: third.trailer.last,
        };
        spoil(&mut draft);
        fs::write(&third.path, draft.encode(&ndjson, 1).bytes).unwrap();
        damage(dir.path())
    };
    let fourth = chain.segment_path(third.trailer.next);
    let found = forged(|_| ());
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].path, fourth);
    let found = forged(|draft| draft.totals_before.lost += 1);
    assert!(found.iter().any(|one| one.path == third.path), "{found:?}");
    let found = forged(|draft| draft.previous.as_mut().unwrap().hash.0[5] ^= 1);
    assert!(found.iter().any(|one| one.path == third.path), "{found:?}");
    // Sums that fit, of totals that do not: told by the segment before.
    let before = third.trailer.totals_before();
    assert!(before.stored > 0, "{before:?}");
    let found = forged(|draft| {
        draft.totals_before.stored -= 1;
        draft.totals_before.lost += 1;
    });
    assert!(found.iter().any(|one| one.path == third.path), "{found:?}");
    // Sums that do not fit, at a watermark, where the segment before is not known.
    chain.put_watermark(third.trailer.first).unwrap();
    let found = forged(|draft| draft.totals_before.lost += 1);
    assert!(found.iter().any(|one| one.path == third.path), "{found:?}");
    assert!(chain.walk(None, &mut |_| true).is_err());

    // A name inside another segment's range.
    let dir = tempfile::tempdir().unwrap();
    let chain = random_chain(dir.path(), &mut rng, 1);
    let one = segments(&chain).pop().unwrap();
    let within = chain.segment_path(one.trailer.first.next());
    fs::copy(&one.path, &within).unwrap();
    assert_eq!(damage(dir.path())[0].path, within);
    assert!(chain.walk(None, &mut |_| true).is_err());
}

#[test]
fn no_store_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    assert!(verify(dir.path(), &Which::default(), &|_, _| ()).is_err());
}

#[test]
fn a_file_that_cannot_be_read_is_its_chains_damage_and_ends_no_proof() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(31);
    let chain = random_chain(dir.path(), &mut rng, 4);
    let all = segments(&chain);
    // A directory opens and does not read, whoever asks.
    let hidden = dir.path().join("hidden");
    for path in [chain.start_path(), all[1].path.clone()] {
        fs::rename(&path, &hidden).unwrap();
        fs::create_dir(&path).unwrap();
        let report = prove(dir.path());
        let [report] = report.chains.as_slice() else {
            panic!("one chain, {} reports", report.chains.len());
        };
        let [damage] = report.damage.as_slice() else {
            panic!("{:?}", report.damage);
        };
        assert_eq!(damage.path, path);
        assert!(damage.detail.starts_with("cannot be read"), "{damage:?}");
        assert_eq!(report.next, end_of_report(&all), "it goes on behind it");
        fs::remove_dir(&path).unwrap();
        fs::rename(&hidden, &path).unwrap();
    }
    assert_eq!(damage(dir.path()), []);
}

fn end_of_report(all: &[Visited]) -> Offset {
    all.last().unwrap().trailer.next
}

#[test]
fn a_thousand_healthy_chains_raise_no_alarm() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut rng = fastrand::Rng::with_seed(50);
    let mut ends = Vec::new();
    for number in 0..1_000 {
        let chain = store.chain(&format!("t{}", number % 7), PartitionId(number / 7));
        let start = start_at(rng.i64(0..1 << 40));
        chain.put_start(&start).unwrap();
        let mut end = ChainEnd {
            next: start.first_offset,
            last: None,
            totals: Totals::default(),
            last_message: None,
        };
        let mut names = Vec::new();
        for _ in 0..rng.usize(0..12) {
            let (draft, lines) = random_draft(&mut rng, &end);
            let segment = draft.encode(&lines, 1);
            fs::write(chain.segment_path(draft.first), &segment.bytes).unwrap();
            names.push(draft.first);
            end = ChainEnd {
                next: draft.next,
                last: Some(segment.link()),
                totals: segment.trailer.totals,
                last_message: draft.last,
            };
        }
        if let Some(&mark) = rng.choice(&names)
            && rng.bool()
        {
            let snapshot = snapshot_of(&chain);
            for half in ["a", "b"] {
                let name = format!("{:020}.window-{half}", snapshot.next.0);
                fs::write(chain.dir().join(name), &snapshot.bytes).unwrap();
            }
            // Removed only in part, as by a process that died.
            let mut left = rng.usize(0..=names.len());
            let removed = chain.remove_before(mark, &mut || {
                left = left.saturating_sub(1);
                left > 0
            });
            assert!(!removed.unwrap().held_back);
        }
        ends.push((chain.topic().to_owned(), chain.partition(), end));
    }
    let report = prove(dir.path());
    assert!(report.is_whole(), "{report:?}");
    ends.sort_by_key(|(topic, partition, _)| (topic.clone(), *partition));
    let found = report.chains.iter();
    let found: Vec<_> = found
        .map(|chain| {
            (
                chain.topic.clone(),
                chain.partition,
                chain.next,
                chain.totals,
            )
        })
        .collect();
    let expected: Vec<_> = ends
        .into_iter()
        .map(|(topic, partition, end)| (topic, partition, end.next, end.totals))
        .collect();
    assert_eq!(expected.len(), 1_000);
    assert!(
        report
            .chains
            .iter()
            .filter(|it| it.first != it.start.as_ref().unwrap().first_offset)
            .count()
            > 200
    );
    assert_eq!(found, expected);
}

#[test]
fn a_topic_that_cannot_be_listed_is_damage_and_ends_no_proof() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(32);
    let chain = random_chain(dir.path(), &mut rng, 2);
    let loops = dir.path().join("_live/loops");
    std::os::unix::fs::symlink(&loops, &loops).unwrap();
    let report = prove(dir.path());
    let [damage] = report.damage.as_slice() else {
        panic!("{report:?}");
    };
    assert_eq!(damage.path, loops);
    assert_eq!(report.chains[0].next, end_of(&chain).next);
    assert_eq!(report.chains[0].damage, []);
    let which = Which {
        topic: Some("logs".to_owned()),
        partition: Some(PartitionId(3)),
    };
    let report = verify(dir.path(), &which, &|_, _| ()).unwrap();
    assert!(report.is_whole());
    assert_eq!(report.chains.len(), 1);
}

#[test]
fn a_chain_that_is_there_twice_is_damage_and_one_that_may_be_gone_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(33);
    let chain = random_chain(dir.path(), &mut rng, 8);
    let topic = chain.dir().parent().unwrap();
    let copy = topic.join("p00007");
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(chain.dir()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    // Also where the first one goes on.
    for _ in 0..2 {
        let report = prove(dir.path());
        let [damage] = report.damage.as_slice() else {
            panic!("{report:?}");
        };
        assert_eq!(damage.path, copy);
        assert!(damage.detail.contains("a copy"), "{}", damage.detail);
        extend(&mut rng, &chain);
    }
    let own = chain.partition().0;
    let absent: Vec<_> = prove(dir.path())
        .absent
        .into_iter()
        .map(|it| (it.topic, it.first.0, it.last.0))
        .collect();
    let gap = |first, last| (chain.topic().to_owned(), first, last);
    let expected = [gap(0, own - 1), gap(own + 1, 6)];
    assert_eq!(absent, expected);
    fs::remove_dir_all(copy).unwrap();
    assert_eq!(prove(dir.path()).absent.len(), 1);
    assert!(prove(dir.path()).is_whole());
}

#[test]
fn a_chain_that_is_a_link_to_nowhere_is_not_taken_for_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let chain = random_chain(dir.path(), &mut fastrand::Rng::with_seed(1), 2);
    let elsewhere = dir.path().join("elsewhere");
    fs::rename(chain.dir(), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, chain.dir()).unwrap();
    assert_eq!(damage(dir.path()), []);
    fs::rename(&elsewhere, dir.path().join("unmounted")).unwrap();
    let found = damage(dir.path());
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].path, chain.dir());
}
