//! The store was lost, and archive and analytics were not: what is counted on, and what is refused.

use super::{
    archive::{Archived, MINUTE},
    rebuild::{begin, rebuild_as, shown},
    *,
};
use crate::{manifest::StateDir, rebuild::Rebuilt};

const NONE: (bool, bool) = (false, false);
const WITHOUT_MISSING: (bool, bool) = (true, false);
const ADOPT: (bool, bool) = (false, true);

fn rebuild(archived: &Archived, flags: (bool, bool)) -> Result<Rebuilt, String> {
    rebuild_as(archived, flags, &mut |_| true).map_err(|error| error.to_string())
}

/// A new store, with the old one's id or one of its own, whose chains begin at `start_at`. Gives
/// where the old ones ended.
fn lose_store(archived: &mut Archived, keep_id: bool, start_at: i64) -> [Offset; 3] {
    let logs = archived.world.logs();
    let end = |partition| archived.world.chain(partition).walk(None, &mut |_| true);
    let ends = [0, 1, 2].map(|partition| end(partition).unwrap().unwrap().next);
    let id = fs::read(logs.join("OWNER")).unwrap();
    fs::remove_dir_all(&logs).unwrap();
    if keep_id {
        fs::create_dir(&logs).unwrap();
        fs::write(logs.join("OWNER"), id).unwrap();
    }
    Store::open(&logs).unwrap();
    archived.world.start_at = start_at;
    ends
}

fn all_archived(seed: u64) -> Archived {
    let mut archived = Archived::new(seed);
    archived.publish_all();
    archived.run();
    archived.pass(7 * 60 * MINUTE);
    archived.run();
    archived.assert_archived();
    archived
}

/// Stores what stood from `start_at` on once more, at the same offsets, as a writer reads it from
/// Kafka.
fn store_again(archived: &Archived, partition: i32, old_end: Offset) {
    let chain = archived.world.chain(partition);
    let start_at = archived.world.start_at;
    let start = Start {
        format: 1,
        cluster_id: "cluster".to_owned(),
        topic_id: "0123456789abcdef0123456789abcdef".to_owned(),
        first_offset: Offset(start_at),
    };
    chain.put_start(&start).unwrap();
    let range = (partition, start_at)..(partition + 1, 0);
    let (mut next, mut fates, mut stored, mut ndjson) = (start_at, vec![], vec![], String::new());
    for ((_, offset), line) in archived.lines.range(range) {
        if next < *offset {
            let count = (*offset - next) as u64;
            let fate = Fate::Skipped;
            fates.push(FateRun { fate, count });
        }
        let fate = Fate::Stored;
        fates.push(FateRun { fate, count: 1 });
        stored.push(StoredRun {
            first: Offset(*offset),
            count: 1,
            received_ms: BASE_MS,
            batch: None,
            first_sequence: 0,
        });
        ndjson.push_str(line);
        ndjson.push('\n');
        next = offset + 1;
    }
    let count = (old_end.0 - next) as u64;
    let fate = Fate::Skipped;
    fates.push(FateRun { fate, count });
    let end = chain.walk(None, &mut |_| true).unwrap().unwrap();
    let draft = Draft {
        first: end.next,
        next: old_end,
        previous: end.last,
        writer: [3; 16],
        fates,
        stored,
        totals_before: end.totals,
        last: end.last_message,
    };
    let published = chain.publish(&draft.encode(ndjson.as_bytes(), 1));
    assert_eq!(published.unwrap(), Published::Linked);
}

fn below(archived: &Archived, offset: i64) -> u64 {
    let offsets = archived.lines.keys().map(|(_, at)| at);
    offsets.filter(|at| **at < offset).count() as u64
}

#[test]
fn an_emptied_store_is_refused_where_something_was_counted_or_archived() {
    for (case, keep_id) in [(0, false), (0, true), (1, false), (1, true), (2, false)] {
        let mut archived = begin(60 + case);
        lose_store(&mut archived, keep_id, 5);
        let (analytics, dir) = (archived.world.analytics(), archived.dir());
        match case {
            0 => {}
            1 => {
                fs::remove_dir_all(&dir).unwrap();
                fs::remove_dir_all(dir.with_file_name("archive-aside")).unwrap();
            }
            _ => fs::remove_dir_all(&analytics).unwrap(),
        }
        let before = (archived.world.summaries(), archived.world.manifests());
        let error = rebuild(&archived, NONE).unwrap_err();
        let named = if case == 1 && keep_id {
            "--without-missing"
        } else {
            "--adopt"
        };
        assert!(error.contains(named), "case {case}, {keep_id}: {error}");
        if !keep_id {
            let error = archived.aggregator().run(&mut |_| true).unwrap_err();
            assert!(error.to_string().contains("rebuild"), "{error}");
        }
        let after = (archived.world.summaries(), archived.world.manifests());
        assert_eq!(after, before, "case {case}, {keep_id}");
    }
}

#[test]
fn what_the_archive_has_of_a_lost_store_stays_counted_and_the_new_one_is_counted_on() {
    let mut archived = all_archived(63);
    let (before, lost) = (shown(&archived), archived.lines.len() as u64);
    lose_store(&mut archived, false, 200);
    let rebuilt = rebuild(&archived, ADOPT).unwrap();
    assert_eq!((rebuilt.records, rebuilt.taken_over), (lost, lost));
    assert_eq!(shown(&archived), before);
    // New books: of the new store's beginning.
    let books = |archived: &Archived| {
        let dir = StateDir::at(&archived.world.analytics());
        dir.greatest().unwrap().unwrap().books()
    };
    assert_eq!(books(&archived), [0, 0, 0]);
    let aside = archived.world.aside;
    archived.publish_all();
    archived.run();
    let new = archived.lines.len() as u64 - lost;
    let new_aside = archived.world.aside - aside;
    assert_eq!(books(&archived), [new, new - new_aside, new_aside]);
    archived.pass(7 * 60 * MINUTE);
    archived.run();
    archived.assert_archived();
    // Once more from the archive: the same.
    let after = shown(&archived);
    assert!(rebuild(&archived, NONE).unwrap_err().contains("--adopt"));
    let rebuilt = rebuild(&archived, ADOPT).unwrap();
    assert_eq!((rebuilt.records, rebuilt.taken_over), (lost + new, lost));
    assert_eq!(shown(&archived), after);
    assert_eq!(archived.run().commits, 0);
}

#[test]
fn what_was_counted_and_is_nowhere_any_more_is_given_up_only_when_asked() {
    let mut archived = begin(64);
    // An hour of its own, of which nothing is archived.
    let mut alone = archived.world.random_record();
    alone.hour_ms = BASE_MS + 7 * HOUR_MS;
    archived.world.publish(1, vec![alone]);
    archived.run();
    assert!(shown(&archived).contains_key("2015-05-17/summary_17.json"));
    let rows = archived.rows().len() as u64;
    lose_store(&mut archived, false, 500);
    let error = rebuild(&archived, ADOPT).unwrap_err();
    assert!(error.contains("--without-missing"), "{error}");
    let rebuilt = rebuild(&archived, (true, true)).unwrap();
    assert_eq!((rebuilt.records, rebuilt.taken_over), (rows, rows));
    assert_eq!(rebuilt.nowhere, archived.lines.len() as u64 + 1 - rows);
    // Summaries of hours that nothing is left of are not shown any more.
    let sums = archived
        .world
        .summaries()
        .into_iter()
        .filter(|(name, _)| name.ends_with(".json") && !name.ends_with("summary.json"));
    let requests = sums.map(|(_, bytes)| {
        let summary: Value = serde_json::from_slice(&bytes).unwrap();
        summary["requests"].as_u64().unwrap()
    });
    assert_eq!(requests.sum::<u64>(), rows - rebuilt.aside);
}

#[test]
fn a_chain_begun_anew_under_the_old_id_counts_what_is_in_archive_and_chain_once() {
    let mut archived = begin(65);
    let before = shown(&archived);
    let ends = lose_store(&mut archived, true, 25);
    for (partition, end) in ends.into_iter().enumerate() {
        store_again(&archived, partition as i32, end);
    }
    let rebuilt = rebuild(&archived, NONE).unwrap();
    assert_eq!(rebuilt.records, archived.lines.len() as u64);
    assert_eq!(rebuilt.taken_over, below(&archived, 25));
    assert_eq!((rebuilt.missing, rebuilt.nowhere), (0, 0));
    assert_eq!(shown(&archived), before);
    archived.publish(0, 7);
    archived.run();
    archived.pass(7 * 60 * MINUTE);
    archived.run();
    archived.assert_archived();
    let after = shown(&archived);
    let rebuilt = rebuild(&archived, NONE).unwrap();
    assert_eq!(rebuilt.taken_over, below(&archived, 25));
    assert_eq!(shown(&archived), after);

    // Kafka had less of it than was not archived.
    let mut archived = begin(66);
    let kept = archived.rows();
    let ends = lose_store(&mut archived, true, 40);
    for (partition, end) in ends.into_iter().enumerate() {
        store_again(&archived, partition as i32, end);
    }
    let lost = archived.lines.keys();
    let lost = lost
        .filter(|at| at.1 < 40 && !kept.contains_key(at))
        .count() as u64;
    if lost > 0 {
        let error = rebuild(&archived, NONE).unwrap_err();
        assert!(error.contains("--without-missing"), "{error}");
    }
    let rebuilt = rebuild(&archived, WITHOUT_MISSING).unwrap();
    assert_eq!(rebuilt.nowhere, lost);
    assert_eq!(rebuilt.records + lost, archived.lines.len() as u64);
}

#[test]
fn a_chain_that_may_hold_what_was_taken_over_is_not_counted() {
    let mut archived = all_archived(67);
    lose_store(&mut archived, false, 200);
    archived.publish(0, 5);
    rebuild(&archived, ADOPT).unwrap();
    let counted = archived.world.manifest()["counted"].clone();
    archived.world.start_at = 5;
    archived.publish(2, 5);
    archived.world.start_at = 200;
    archived.publish(1, 5);
    let report = archived.run();
    assert_eq!(report.records, 5);
    assert_eq!(report.halted.len(), 1, "{:?}", report.halted);
    assert_eq!(report.halted[0].partition, PartitionId(2));
    assert!(archived.world.manifest()["counted"].as_u64() >= counted.as_u64());
    let error = rebuild(&archived, ADOPT).unwrap_err();
    assert!(error.contains("cannot be decided"), "{error}");
}
