use std::time::Duration;

use pipeline_core::PartitionId;

use super::*;
use crate::archive::tally::Size;

const HOUR: i64 = 3_600_000;
/// 2015-05-17T10:00:00Z
const BASE: i64 = 1_431_856_800_000;

fn policy() -> Policy {
    Policy {
        after: Duration::from_secs(900),
        max_wait: Duration::from_secs(6 * 3600),
        file_bytes: 1_000,
        plan_bytes: 10_000,
        memory_bytes: 10_000,
        plans_max: 1,
        live_retention: Duration::from_secs(3600),
        archive_retention: None,
        analytics_retention: None,
    }
}

fn chain(partition: i32) -> ChainId {
    ChainId::new("logs", PartitionId(partition))
}

/// The segment [first, next) of `partition` with one size for each place.
fn arrival(
    partition: i32,
    first: i64,
    next: i64,
    stored_ms: i64,
    places: &[(&str, u64)],
) -> Arrival {
    let size = |(place, bytes): &(&str, u64)| {
        let size = Size {
            records: 1,
            bytes: *bytes,
        };
        (place.parse().unwrap(), size)
    };
    Arrival {
        chain: chain(partition),
        first: Offset(first),
        next: Offset(next),
        stored_ms,
        sizes: places.iter().map(size).collect(),
    }
}

fn planned(archive: &mut Archive, now_ms: i64) -> Vec<String> {
    let before = archive.plan.len();
    archive.plan(9, now_ms, &policy(), &BTreeSet::new());
    let files = archive.plan[before..].iter();
    files.map(|file| file.place.to_string()).collect()
}

#[test]
fn an_hour_is_due_when_it_is_over_and_quiet_or_its_first_record_has_waited() {
    let minute = 60_000;
    let with = |place: &str, stored: &[i64]| {
        let mut archive = Archive::default();
        for (number, stored) in stored.iter().enumerate() {
            let first = number as i64;
            archive.add(
                &arrival(0, first, first + 1, *stored, &[(place, 10)]),
                i64::MAX,
            );
        }
        archive
    };
    for (place, stored, now, due) in [
        (
            "2015-05-17T10",
            &[BASE + 59 * minute][..],
            BASE + 74 * minute - 1,
            false,
        ),
        (
            "2015-05-17T10",
            &[BASE + 59 * minute],
            BASE + 74 * minute,
            true,
        ),
        // Quiet for long, and not over.
        ("2015-05-17T10", &[BASE], BASE + 59 * minute, false),
        ("2015-05-17T10", &[BASE], BASE + 60 * minute, true),
        // Over for long, and not quiet.
        (
            "2015-05-10T10",
            &[BASE, BASE + 30 * minute],
            BASE + 44 * minute,
            false,
        ),
        (
            "2015-05-10T10",
            &[BASE, BASE + 30 * minute],
            BASE + 45 * minute,
            true,
        ),
        ("1970-01-01T00", &[BASE], BASE + 15 * minute, true),
        // Never quiet, never over: the first one has waited long enough.
        (
            "2015-05-10T10",
            &[BASE, BASE + 6 * HOUR - 1],
            BASE + 6 * HOUR - 1,
            false,
        ),
        (
            "2015-05-10T10",
            &[BASE, BASE + 6 * HOUR - 1],
            BASE + 6 * HOUR,
            true,
        ),
        ("aside:2099-01-01T00", &[BASE], BASE + 6 * HOUR - 1, false),
        ("aside:2099-01-01T00", &[BASE], BASE + 6 * HOUR, true),
    ] {
        let planned = planned(&mut with(place, stored), now);
        assert_eq!(
            planned.len(),
            usize::from(due),
            "{place} {stored:?} at {now}"
        );
    }
}

#[test]
fn a_file_written_in_the_future_was_stored_now() {
    let mut archive = Archive::default();
    archive.add(&arrival(0, 0, 1, i64::MAX, &[("2015-05-10T10", 1)]), BASE);
    assert_eq!(archive.oldest_ms(), Some(BASE));
}

#[test]
fn what_is_planned_is_taken_once_and_the_oldest_first() {
    let mut archive = Archive::default();
    archive.add(
        &arrival(
            0,
            0,
            10,
            BASE + 1,
            &[("2015-05-10T10", 600), ("2015-05-10T11", 1)],
        ),
        i64::MAX,
    );
    archive.add(
        &arrival(1, 0, 10, BASE, &[("2015-05-10T10", 600)]),
        i64::MAX,
    );
    archive.add(
        &arrival(0, 10, 20, BASE + 2, &[("2015-05-10T12", 9_999)]),
        i64::MAX,
    );
    archive.add(
        &arrival(0, 20, 30, BASE + 2, &[("2015-05-10T13", 1)]),
        i64::MAX,
    );
    assert_eq!(archive.waiting(), 5);
    let now = BASE + HOUR;
    assert_eq!(
        planned(&mut archive, now),
        // Two files of one hour; the bound is gone over once, and then reached.
        [
            "2015-05-10T10",
            "2015-05-10T10",
            "2015-05-10T11",
            "2015-05-10T12"
        ]
    );
    assert_eq!(archive.waiting(), 5);
    assert_eq!(archive.floor(&chain(0)), Some(Offset(0)));
    let names: BTreeSet<String> = archive.plan.iter().map(|file| file.name.clone()).collect();
    assert_eq!(names.len(), 4);
    assert!(
        names
            .iter()
            .all(|name| name.starts_with("00000000000000000009-"))
    );
    // Late for an hour that is planned: another file, later.
    archive.add(&arrival(1, 10, 11, now, &[("2015-05-10T10", 5)]), i64::MAX);
    assert_eq!(archive.floor(&chain(1)), Some(Offset(0)));
    archive.done(&names);
    assert_eq!((archive.archived, archive.waiting()), (4, 2));
    assert_eq!(archive.floor(&chain(0)), Some(Offset(20)));
    assert_eq!(archive.floor(&chain(1)), Some(Offset(10)));
    assert_eq!(planned(&mut archive, now), ["2015-05-10T13"]);
    assert_eq!(planned(&mut archive, now + HOUR), ["2015-05-10T10"]);
    assert_eq!(archive.oldest_ms(), None);
}

#[test]
fn a_blocked_chain_is_left_out_and_comes_later() {
    let mut archive = Archive::default();
    for partition in 0..2 {
        archive.add(
            &arrival(partition, 0, 10, BASE, &[("2015-05-10T10", 1)]),
            i64::MAX,
        );
    }
    let now = BASE + HOUR;
    let blocked = BTreeSet::from([chain(0)]);
    assert!(archive.plan(1, now, &policy(), &blocked));
    assert_eq!(archive.plan[0].parts.len(), 1);
    assert_eq!(archive.plan[0].parts[0].chain, chain(1));
    assert!(!archive.plan(2, now, &policy(), &blocked));
    assert_eq!(archive.pending.len(), 1);
    assert!(archive.plan(3, now, &policy(), &BTreeSet::new()));
    assert!(archive.pending.is_empty());
}

#[test]
fn the_parts_of_a_place_are_few_and_hold_each_record_once() {
    let mut archive = Archive::default();
    let mut rng = fastrand::Rng::with_seed(7);
    let mut records = 0;
    let mut at = [0; 3];
    for _ in 0..2_000 {
        let partition = rng.usize(..3);
        let first = at[partition];
        at[partition] += rng.i64(1..5);
        if rng.u8(..3) > 0 {
            records += 1;
            let bytes = [10, 1 << 20][rng.usize(..2)];
            let place = [("2015-05-10T10", bytes)];
            archive.add(
                &arrival(partition as i32, first, at[partition], BASE, &place),
                i64::MAX,
            );
        }
    }
    let parts = &archive.pending[&"2015-05-10T10".parse().unwrap()].parts;
    assert_eq!(parts.iter().map(|part| part.records).sum::<u64>(), records);
    let bytes: u64 = parts.iter().map(|part| part.bytes).sum();
    assert!(
        parts.len() as u64 <= 3 * (PARTS_MAX as u64 + 1) + 2 * bytes / PART_BYTES,
        "{}",
        parts.len()
    );
    for pair in parts.windows(2) {
        assert!(pair[0].chain < pair[1].chain || pair[0].next <= pair[1].first);
        assert!(pair.iter().all(|part| part.first < part.next));
    }
}

#[test]
fn segments_stay_as_long_as_they_should_once_they_are_archived() {
    let mut archive = Archive::default();
    let stay = 1_600;
    // One segment of ten offsets is archived each 7 ms.
    let mut archived_at = Vec::new();
    for step in 0..2_000_i64 {
        let now = BASE + 7 * step;
        archive.mark(chain(0), Offset(10 * step), now, stay);
        archived_at.push(now);
        let removable = archive
            .archived_for(&chain(0), now, stay)
            .unwrap_or(Offset(0));
        for (number, at) in archived_at.iter().enumerate() {
            let ready = Offset(10 * number as i64) <= removable;
            if number > 0 && ready {
                assert!(*at + stay <= now, "removed too early");
            }
            if at + stay + stay / MARKS + 7 <= now {
                assert!(ready, "segment {number} stays for too long");
            }
        }
        assert!(archive.marks[&chain(0)].len() <= MARKS as usize + 3);
    }
    // Nothing more comes: what stands is removed in the end.
    let end = BASE + 7 * 1_999;
    let all = archive.archived_for(&chain(0), end + stay, stay);
    assert_eq!(all, Some(Offset(19_990)));
    // At once, where they are not to stay.
    archive.mark(chain(1), Offset(5), end, 0);
    assert_eq!(archive.archived_for(&chain(1), end, 0), Some(Offset(5)));
    // A clock that goes back years does not make them stay for years.
    archive.mark(chain(0), Offset(19_990), 0, stay);
    assert_eq!(
        archive.archived_for(&chain(0), stay, stay),
        Some(Offset(19_990))
    );
}

#[test]
fn a_plan_takes_whole_stretches_so_that_no_segment_is_read_for_many() {
    const STRETCHES: i64 = 8;
    let mut archive = Archive::default();
    let places: Vec<String> = (0..24)
        .map(|hour| format!("2015-05-10T{hour:02}"))
        .collect();
    let sizes: Vec<_> = places.iter().map(|place| (place.as_str(), 10)).collect();
    for at in 0..STRETCHES * 10 {
        let (first, next) = (at * STRETCH / 10, (at + 1) * STRETCH / 10);
        // Some hours are not in every segment.
        let sizes = &sizes[..sizes.len() - at as usize % 3];
        for partition in 0..2 {
            archive.add(&arrival(partition, first, next, BASE, sizes), i64::MAX);
        }
    }
    // Of the lines of one stretch of both chains.
    let policy = Policy {
        plan_bytes: 2 * 10 * 24 * 10,
        ..policy()
    };
    let mut reads: BTreeMap<(ChainId, i64), u32> = BTreeMap::new();
    let mut plans = 0;
    while archive.plan(9, BASE + 6 * HOUR, &policy, &BTreeSet::new()) {
        plans += 1;
        let mut read = BTreeSet::new();
        for part in archive.plan.drain(..).flat_map(|file| file.parts) {
            assert_eq!(stretch(part.first), stretch(Offset(part.next.0 - 1)));
            read.insert((part.chain, stretch(part.first)));
        }
        for stretch in read {
            *reads.entry(stretch).or_default() += 1;
        }
    }
    assert!(plans >= 7, "{plans}");
    assert_eq!(reads.len(), 2 * STRETCHES as usize);
    assert!(reads.values().all(|times| *times <= 2), "{reads:?}");
    assert!(archive.pending.is_empty());
}
