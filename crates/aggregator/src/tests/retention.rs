use std::time::Duration;

use pipeline_core::store::{SnapshotHead, SnapshotWriter, verify};

use super::{
    archive::{Archived, MINUTE},
    *,
};

const HOURS: i64 = 60 * MINUTE;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A snapshot of an empty window behind all of a chain, as the writer puts it, twice.
pub(super) fn snapshot(archived: &Archived, partition: i32) {
    let chain = archived.world.chain(partition);
    let mut names = Vec::new();
    let end = chain
        .walk(None, &mut |visited| {
            names.push(visited.trailer.first);
            true
        })
        .unwrap()
        .unwrap();
    let head = SnapshotHead {
        end,
        names,
        window_start: Offset(0),
    };
    chain
        .put_snapshot(&SnapshotWriter::new(&head, 0).finish())
        .unwrap();
}

fn live(archived: &Archived) -> [usize; 3] {
    [0, 1, 2].map(
        |partition| match archived.world.chain(partition).dir().is_dir() {
            true => archived.world.segments(partition).len(),
            false => 0,
        },
    )
}

#[test]
fn segments_go_once_they_are_archived_for_long_enough_and_never_the_last() {
    let mut archived = Archived::new(31);
    for _ in 0..3 {
        archived.publish_all();
    }
    for partition in 0..3 {
        snapshot(&archived, partition);
    }
    archived.run();
    assert_eq!(live(&archived), [6, 6, 6]);
    // A record of 2099 is in every chain, and one of 1970: they wait for archiveMaxWait alone.
    archived.pass(6 * HOURS);
    archived.run();
    archived.assert_archived();
    archived.pass(HOURS - 1);
    assert_eq!(archived.run().removed, 0);
    archived.pass(1);
    assert_eq!(archived.run().removed, 15);
    assert_eq!(live(&archived), [1, 1, 1]);
    archived.assert_archived();

    // Counting goes on behind what is gone, and so does the rest.
    archived.publish_all();
    archived.run();
    archived.pass(8 * HOURS);
    archived.run();
    archived.assert_archived();
    let which = verify::Which::default();
    let proof = verify::verify(&archived.world.logs(), &which, &|_, _| {}).unwrap();
    assert!(proof.is_whole(), "{proof:?}");
}

#[test]
fn what_no_snapshot_covers_stays_and_what_waits_keeps_what_is_behind_it() {
    let mut archived = Archived::new(32);
    archived.publish_all();
    archived.run();
    archived.pass(7 * HOURS);
    archived.run();
    archived.pass(2 * HOURS);
    assert_eq!(archived.run().removed, 0, "no snapshots");
    assert_eq!(live(&archived), [2, 2, 2]);
    snapshot(&archived, 1);
    archived.pass(2 * MINUTE);
    assert_eq!(archived.run().removed, 1);
    assert_eq!(live(&archived), [2, 1, 2]);
    archived.assert_archived();
}

#[test]
fn a_removal_that_is_killed_anywhere_or_met_by_another_removes_nothing_else() {
    let begin = || {
        let mut archived = Archived::new(33);
        for _ in 0..3 {
            archived.publish(0, 3);
            archived.publish(1, 3);
        }
        for partition in 0..2 {
            snapshot(&archived, partition);
        }
        archived.run();
        archived.pass(6 * HOURS);
        archived.run();
        archived.pass(HOURS);
        archived
    };
    for other in [false, true] {
        let mut at = 0;
        loop {
            let mut archived = begin();
            let mut removals = 0;
            let outcome = archived.aggregator().run(&mut |step| {
                removals += usize::from(step == Step::RemoveSegment);
                if removals == at && step == Step::RemoveSegment {
                    if other {
                        archived.run();
                    }
                    return other;
                }
                true
            });
            let over = outcome.is_ok() && removals < at.max(1);
            archived.run();
            assert_eq!(live(&archived)[..2], [1, 1]);
            archived.publish(1, 3);
            archived.run();
            archived.assert_archived();
            if over {
                break;
            }
            at += 1;
        }
        assert!(at > 5, "{at}");
    }
}

#[test]
fn old_days_of_the_archive_go_as_a_whole() {
    let mut archived = Archived::new(34);
    archived.publish_all();
    archived.run();
    archived.pass(7 * HOURS);
    archived.run();
    archived.assert_archived();
    let now_ms = archived.now_ms.load(std::sync::atomic::Ordering::SeqCst);
    let age = Duration::from_millis((now_ms - BASE_MS) as u64);
    let days = |archived: &Archived| {
        let rows = archived.files().into_keys();
        rows.filter_map(|name| Some(name.split_once("/hour")?.0.to_owned()))
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert!(
        days(&archived).contains("date=2015-05-16"),
        "{:?}",
        days(&archived)
    );
    assert!(days(&archived).contains("date=1970-05-17"));
    // 2015-05-17 has not been over for so long.
    archived.policy.archive_retention = Some(age - DAY / 2);
    archived.run();
    let left = days(&archived);
    assert!(
        left.iter()
            .all(|day| day == "date=2015-05-17" || day.starts_with("aside/")),
        "{left:?}"
    );
    assert!(left.contains("date=2015-05-17"));
    assert!(
        left.iter().any(|day| day.starts_with("aside/")),
        "written just now"
    );
    assert!(!archived.dir().join("date=2015-05-16").exists());
    archived.policy.archive_retention = Some(Duration::from_secs(3600));
    archived.run();
    assert!(days(&archived).is_empty(), "{:?}", days(&archived));
    // Late for a day that is gone: counted, archived, gone.
    archived.publish(0, 4);
    archived.pass(7 * HOURS);
    assert_eq!(archived.run().archived, 4);
    assert!(days(&archived).iter().all(|day| day.starts_with("aside/")));
}

#[test]
fn old_days_of_the_analytics_go_and_the_books_still_add_up() {
    let mut archived = Archived::new(35);
    archived.publish_all();
    archived.run();
    assert!(archived.world.analytics().join("2015-05-16").exists());
    assert!(archived.world.analytics().join("1970-05-17").exists());
    let age = Duration::from_millis(
        (archived.now_ms.load(std::sync::atomic::Ordering::SeqCst) - BASE_MS) as u64,
    );
    let kept = archived.world.summaries();
    archived.policy.analytics_retention = Some(age - DAY / 2);
    // Killed at each step of it, it is finished by the next one.
    let mut at = 0;
    while archived.aggregator().run(&mut kill_at(at)).is_err() {
        at += 1;
    }
    archived.publish(0, 9);
    archived.run();
    archived.run();
    let mut left = archived.world.summaries();
    for page in left.extract_if(.., |name, _| name.ends_with(".html")) {
        let page = String::from_utf8(page.1).unwrap();
        assert!(page.contains("\"firstDay\":\"2015-05-17\",\"days\":1,"));
    }
    let of_reports = files_below(&archived.world.analytics().join("_state/reports"));
    assert_eq!(of_reports.into_keys().collect::<Vec<_>>(), ["2015-05-17"]);
    assert!(!left.is_empty() && left.keys().all(|name| name.starts_with("2015-05-17/")));
    let before = kept
        .keys()
        .filter(|name| name.starts_with("2015-05-17/"))
        .count();
    assert!(left.len() >= before);
    let manifest = archived.world.manifest();
    let days = manifest["days"].as_object().unwrap();
    assert!(days.keys().all(|day| day == "2015-05-17"));
    assert_eq!(
        manifest["counted"],
        json!(archived.lines.len() as u64 - archived.world.aside)
    );
    assert!(manifest["expired"].as_u64().unwrap() > 0);
    // States that no manifest names are gone, but for those that the one before names.
    archived.run();
    archived.pass(7 * HOURS);
    archived.run();
    archived.assert_archived();
}
