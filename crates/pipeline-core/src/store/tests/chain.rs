use std::{
    fs,
    time::{Duration, SystemTime},
};

use super::*;

fn names(chain: &Chain) -> Vec<String> {
    owner::list(chain.dir()).unwrap()
}

fn walk(chain: &Chain, from: Option<Cursor>) -> Result<Vec<Visited>, ChainFault> {
    let mut visited = Vec::new();
    chain.walk(from, &mut |segment| {
        visited.push(segment);
        true
    })?;
    Ok(visited)
}

#[test]
fn a_store_keeps_its_id_and_is_not_made_by_readers() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("a/logs");
    assert!(Store::open_existing(&root).unwrap().is_none());
    let store = Store::open(&root).unwrap();
    assert_eq!(store.id().0.len(), 32);
    assert_eq!(Store::open(&root).unwrap().id(), store.id());
    assert_eq!(
        owner::list(&root).unwrap(),
        ["OWNER"],
        "nothing else is left"
    );
    let other = Store::open(&dir.path().join("b")).unwrap();
    assert_ne!(other.id(), store.id());
}

#[test]
fn chains_without_an_owner_are_no_new_store() {
    let dir = tempfile::tempdir().unwrap();
    random_chain(dir.path(), &mut fastrand::Rng::with_seed(1), 1);
    fs::remove_file(dir.path().join("OWNER")).unwrap();
    assert!(Store::open(dir.path()).is_err());
    assert!(Store::open_existing(dir.path()).is_err());
    fs::write(dir.path().join("OWNER"), "{\"format\":2,\"id\":\"\"}").unwrap();
    let error = Store::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("format 2, known is 1"), "{error}");
}

#[test]
fn chains_are_listed_in_order_and_foreign_names_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for (topic, partition) in [("logs", 10), ("logs", 2), ("audit", 123_456), ("logs", 0)] {
        let chain = store.chain(topic, PartitionId(partition));
        chain.put_start(&start_at(0)).unwrap();
    }
    fs::create_dir(dir.path().join("_live/logs/p7")).unwrap();
    fs::create_dir(dir.path().join("_live/logs/lost+found")).unwrap();
    fs::write(dir.path().join("_live/file"), "").unwrap();
    let found: Vec<_> = store
        .chains()
        .unwrap()
        .iter()
        .map(|chain| (chain.topic().to_owned(), chain.partition().0))
        .collect();
    let expected = [("audit", 123_456), ("logs", 0), ("logs", 2), ("logs", 10)];
    assert_eq!(
        found,
        expected.map(|(topic, number)| (topic.to_owned(), number))
    );
}

#[test]
fn the_first_start_stands() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Store::open(dir.path())
        .unwrap()
        .chain("logs", PartitionId(0));
    assert_eq!(chain.start().unwrap(), None);
    assert_eq!(chain.put_start(&start_at(5)).unwrap(), start_at(5));
    assert_eq!(chain.put_start(&start_at(9)).unwrap(), start_at(5));
    let json = fs::read_to_string(chain.start_path()).unwrap();
    for (from, to, expected) in [
        ("\"format\":1", "\"format\":2", "format 2, known is 1"),
        ("\"firstOffset\":5", "\"firstOffset\":6", "checksum"),
        ("cluster\"", "clustes\"", "checksum"),
        ("topicId", "topicIt", "unknown field"),
        ("{", "[", "expected"),
    ] {
        assert!(json.contains(from), "{json}");
        fs::write(chain.start_path(), json.replacen(from, to, 1)).unwrap();
        let error = chain.start().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_walk_meets_every_segment_once_and_ends_where_the_chain_does() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(2);
    let chain = random_chain(dir.path(), &mut rng, 0);
    assert_eq!(end_of(&chain).next, Offset(7));
    let published: Vec<_> = (0..20).map(|_| extend(&mut rng, &chain)).collect();
    let visited = walk(&chain, None).unwrap();
    assert_eq!(visited.len(), 20);
    for (visited, published) in visited.iter().zip(&published) {
        assert_eq!(visited.trailer, published.trailer);
        assert_eq!(visited.hash, published.hash);
        assert_eq!(visited.file_len, published.bytes.len() as u64);
    }
    let end = end_of(&chain);
    let last = published.last().unwrap();
    assert_eq!(end.last, Some(last.link()));
    assert_eq!(end.next, last.trailer.next);
    assert_eq!(end.totals.sum(), u64::try_from(end.next.0 - 7).unwrap());
    for (at, segment) in published.iter().enumerate() {
        let cursor = Cursor {
            next: segment.trailer.next,
            last: Some(segment.link()),
        };
        assert_eq!(walk(&chain, Some(cursor)).unwrap().len(), 19 - at);
        let from_here = chain.walk(Some(cursor), &mut |_| true).unwrap();
        assert_eq!(from_here, Some(end.clone()));
        // Ended early, the walk says where it stands.
        let stopped = chain.walk(None, &mut |seen| seen.hash != segment.hash);
        assert_eq!(stopped.unwrap().unwrap().next, segment.trailer.next);
    }
}

#[test]
fn of_two_publishers_exactly_one_extends_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(3);
    let chain = random_chain(dir.path(), &mut rng, 2);
    for _ in 0..20 {
        let end = end_of(&chain);
        let attempts: Vec<_> = (0..2)
            .map(|_| {
                let (draft, lines) = random_draft(&mut rng, &end);
                draft.encode(&lines, 1)
            })
            .collect();
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let tasks: Vec<_> = attempts
                .iter()
                .map(|segment| scope.spawn(|| chain.publish(segment).unwrap()))
                .collect();
            tasks.into_iter().map(|task| task.join().unwrap()).collect()
        });
        let winner = outcomes
            .iter()
            .position(|outcome| *outcome == Published::Linked)
            .unwrap();
        assert_eq!(outcomes[1 - winner], Published::NameTaken);
        assert_eq!(end_of(&chain).last, Some(attempts[winner].link()));
    }
    assert!(
        names(&chain).iter().all(|name| !name.starts_with('.')),
        "temporary files are removed"
    );
}

#[test]
fn a_publisher_below_the_watermark_removes_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(4);
    let chain = random_chain(dir.path(), &mut rng, 1);
    let (draft, lines) = random_draft(&mut rng, &end_of(&chain));
    let late = draft.encode(&lines, 1);
    let taken = extend(&mut rng, &chain);
    let end = extend(&mut rng, &chain);

    // Others have moved on and removed what the late one wants to write.
    chain.put_watermark(end.trailer.first).unwrap();
    for segment in walk(&chain, None).unwrap() {
        assert_eq!(segment.trailer.first, end.trailer.first);
    }
    assert_eq!(chain.publish(&late).unwrap(), Published::NameTaken);
    // Whatever stands under the name before its own (another late one may have put it there just
    // now): the watermark alone decides.
    assert!(
        chain
            .segment_path(late.trailer.previous.unwrap().first)
            .exists()
    );
    fs::remove_file(chain.segment_path(taken.trailer.first)).unwrap();

    assert_eq!(chain.publish(&late).unwrap(), Published::BelowWatermark);
    assert!(!chain.segment_path(late.trailer.first).exists());
    assert_eq!(end_of(&chain).last, Some(end.link()));
    assert_eq!(chain.watermark().unwrap(), Some(end.trailer.first));
    assert_eq!(
        chain.publish(&end).unwrap(),
        Published::NameTaken,
        "a name at the watermark is the chain's"
    );
    // A chain whose last segment alone is left goes on.
    extend(&mut rng, &chain);
}

#[test]
fn a_publisher_trusts_its_last_segment_only_while_it_is_the_very_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(14);
    let frozen = random_chain(dir.path(), &mut rng, 1);
    let own = extend(&mut rng, &frozen);
    let (draft, lines) = random_draft(&mut rng, &end_of(&frozen));
    let late = draft.encode(&lines, 1);
    // Another process goes on and removes; then one more late one puts back what we had written.
    let other = Store::open(dir.path())
        .unwrap()
        .chain("logs", PartitionId(3));
    for _ in 0..3 {
        extend(&mut rng, &other);
    }
    let end = end_of(&other).last.unwrap().first;
    other.put_watermark(end).unwrap();
    for old in walk(&other, None).unwrap() {
        assert_eq!(old.trailer.first, end);
    }
    for name in other.list().unwrap().segments {
        if name < end {
            fs::remove_file(other.segment_path(name)).unwrap();
        }
    }
    assert_eq!(frozen.publish(&late).unwrap(), Published::BelowWatermark);
    fs::write(other.segment_path(own.trailer.first), &own.bytes).unwrap();
    assert_eq!(frozen.publish(&late).unwrap(), Published::BelowWatermark);
    assert!(!frozen.segment_path(late.trailer.first).exists());
    assert_eq!(end_of(&frozen).last.unwrap().first, end);
}

#[test]
fn a_walk_begins_at_the_greatest_watermark() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(5);
    let chain = random_chain(dir.path(), &mut rng, 10);
    let all = walk(&chain, None).unwrap();
    let end = end_of(&chain);
    for at in [3, 7] {
        chain.put_watermark(all[at].trailer.first).unwrap();
        for old in &all[..at] {
            let _ = fs::remove_file(&old.path);
        }
        assert_eq!(walk(&chain, None).unwrap().len(), 10 - at);
        assert_eq!(end_of(&chain), end);
    }
    // A cursor behind the removed ones still holds by its link; one before them cannot go on.
    let cursor = |at: usize| Cursor {
        next: all[at].trailer.next,
        last: Some(all[at].link()),
    };
    assert_eq!(walk(&chain, Some(cursor(6))).unwrap().len(), 3);
    assert!(matches!(
        walk(&chain, Some(cursor(5))),
        Err(ChainFault::Missing { path, .. }) if path == all[6].path
    ));
    let mut wrong = cursor(6);
    wrong.last.as_mut().unwrap().hash.0[0] ^= 1;
    assert!(matches!(
        walk(&chain, Some(wrong)),
        Err(ChainFault::Damaged { path, .. }) if path == all[7].path
    ));
}

#[test]
fn segments_removed_during_a_walk_are_not_missing() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(6);
    let chain = random_chain(dir.path(), &mut rng, 10);
    let all = walk(&chain, None).unwrap();
    let mut seen = Vec::new();
    let end = chain.walk(None, &mut |segment| {
        if seen.len() == 2 {
            chain.put_watermark(all[8].trailer.first).unwrap();
            for old in &all[..8] {
                fs::remove_file(&old.path).unwrap();
            }
        }
        seen.push(segment.trailer.first);
        true
    });
    assert_eq!(end.unwrap().unwrap(), end_of(&chain));
    let expected = [0, 1, 2, 8, 9].map(|at: usize| all[at].trailer.first);
    assert_eq!(seen, expected);
}

#[test]
fn each_removed_segment_but_the_last_halts_the_walk() {
    let dir = tempfile::tempdir().unwrap();
    let chain = random_chain(dir.path(), &mut fastrand::Rng::with_seed(7), 6);
    let all = walk(&chain, None).unwrap();
    for gone in &all[..5] {
        let aside = dir.path().join("aside");
        fs::rename(&gone.path, &aside).unwrap();
        let fault = walk(&chain, None).unwrap_err();
        assert!(
            matches!(&fault, ChainFault::Missing { path, .. } if *path == gone.path),
            "{fault}"
        );
        fs::rename(&aside, &gone.path).unwrap();
    }
    fs::remove_file(chain.start_path()).unwrap();
    let fault = walk(&chain, None).unwrap_err();
    assert!(matches!(fault, ChainFault::Missing { path, .. } if path == chain.start_path()));
}

#[test]
fn a_cursor_whose_segment_is_gone_or_other_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(8);
    let chain = random_chain(dir.path(), &mut rng, 3);
    let last = walk(&chain, None).unwrap().pop().unwrap();
    let cursor = Cursor {
        next: last.trailer.next,
        last: Some(last.link()),
    };
    assert!(walk(&chain, Some(cursor)).unwrap().is_empty());
    for (wrong, what) in [
        (
            Cursor {
                next: Offset(cursor.next.0 + 1),
                ..cursor
            },
            "ends at",
        ),
        (
            Cursor {
                last: Some(Link {
                    hash: SegmentHash([0; 32]),
                    ..last.link()
                }),
                ..cursor
            },
            "hash",
        ),
        (
            Cursor {
                next: Offset(3),
                last: None,
            },
            "begins at",
        ),
    ] {
        let fault = walk(&chain, Some(wrong)).unwrap_err().to_string();
        assert!(fault.contains(what), "{fault}");
    }
    fs::remove_file(&last.path).unwrap();
    assert!(matches!(
        walk(&chain, Some(cursor)),
        Err(ChainFault::Missing { path, .. }) if path == last.path
    ));
    // The whole directory gone is no new chain for a reader that had got somewhere.
    fs::remove_dir_all(chain.dir()).unwrap();
    assert!(walk(&chain, Some(cursor)).is_err());
    assert!(walk(&chain, None).unwrap().is_empty());
}

#[test]
fn names_of_no_segment_are_no_segment() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(9);
    let chain = random_chain(dir.path(), &mut rng, 3);
    let end = end_of(&chain);
    for name in [
        ".tmp-1-2-00000000000000000999.ndjson.zst",
        "00000000000000000999.ndjson",
        "999.ndjson.zst",
        "0000000000000000+999.ndjson.zst",
        "99999999999999999999.ndjson.zst",
        "w999",
        "window.snapshot",
    ] {
        fs::write(chain.dir().join(name), "junk").unwrap();
    }
    assert_eq!(end_of(&chain), end);
    extend(&mut rng, &chain);
}

#[test]
fn only_stale_temporaries_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let chain = random_chain(dir.path(), &mut fastrand::Rng::with_seed(10), 2);
    let before = names(&chain);
    let stale = chain.dir().join(".tmp-1-stale");
    let fresh = chain.dir().join(".tmp-1-fresh");
    let now = SystemTime::now();
    for (path, age) in [(&stale, 7_200), (&fresh, 60)] {
        let file = fs::File::create(path).unwrap();
        file.set_modified(now - Duration::from_secs(age)).unwrap();
    }
    let hour_ago = now - Duration::from_secs(3_600);
    assert_eq!(chain.remove_stale_temporaries(hour_ago).unwrap(), 1);
    assert!(!stale.exists());
    fs::remove_file(fresh).unwrap();
    assert_eq!(names(&chain), before);
}
