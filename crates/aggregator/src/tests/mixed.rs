//! A backlog in whose segments the hours lie mixed: what is read and written to count it, and how
//! often it is read to be archived. Counted in bytes and segments, not in time.

use super::{archive::Archived, *};
use pipeline_core::store::StoredRecord;

use crate::state::StateName;

const STRETCH: i64 = 1 << 21;
const HOURS: i64 = 3_600_000;

/// Segments read for the archive of a backlog of so many, each with records of each hour, and how
/// many plans that took.
fn read_of(stretches: usize, each: usize) -> (usize, usize) {
    let mut archived = Archived::new(9);
    for _ in 0..stretches {
        for partition in 0..2 {
            for _ in 0..each {
                archived.publish(partition, 6);
            }
            // As if so many records were between them.
            let end = archived.world.chain(partition).walk(None, &mut |_| true);
            let end = end.unwrap().unwrap().next.0;
            archived
                .world
                .skip(partition, STRETCH - end.rem_euclid(STRETCH));
        }
    }
    archived.run();
    archived.pass(7 * HOURS);
    let (mut read, mut commits) = (0, 0);
    let report = archived.aggregator().run(&mut |step| {
        read += usize::from(step == Step::ReadForArchive);
        commits += usize::from(step == Step::PutManifest);
        true
    });
    assert_eq!(report.unwrap().archived, archived.lines.len() as u64);
    archived.assert_archived();
    (read, commits - 1)
}

#[test]
fn ten_times_a_backlog_of_mixed_hours_is_ten_times_the_reading() {
    const EACH: usize = 3;
    let (one, _) = read_of(1, EACH);
    let (ten, plans) = read_of(10, EACH);
    assert!(plans >= 10, "{plans} plans: else it all fits into one");
    // A plan takes about half of what a stretch of both chains holds.
    assert!(one <= 3 * 2 * EACH, "{one} segments read");
    assert!(ten <= 10 * one + 2 * EACH, "{ten} and {one} segments read");
}

/// Each segment is a portion.
fn one_by_one(held: HeldBounds) -> Settings {
    Settings {
        portion: Portion {
            plain_bytes_max: 1,
            ..Portion::default()
        },
        held,
        ..Settings::default()
    }
}

/// A backlog of so many segments, each with records of many days.
fn mixed(segments: usize) -> World {
    let mut world = World::new(4);
    for segment in 0..segments {
        let records = (0..40).map(|number| {
            let mut record = world.random_record();
            record.hour_ms = BASE_MS - world.rng.i64(0..6 * 24) * HOUR_MS;
            record.path = format!("/{segment}/{number}");
            record
        });
        let records = records.collect();
        world.publish(segment as i32 % 2, records);
    }
    world
}

/// Bytes of states, read and written, to count `world`; and its commits.
fn states_of(world: &World, held: HeldBounds) -> (usize, u64) {
    let counts = world.analytics().join("_state/counts");
    let mut bytes = 0;
    let report = world.aggregator_set(one_by_one(held)).run(&mut |step| {
        if step == Step::PutManifest {
            let mut periods: BTreeMap<_, BTreeMap<u64, usize>> = BTreeMap::new();
            let mut number = 0;
            for (name, state) in files_below(&counts) {
                let name = StateName::parse(&name).unwrap();
                number = number.max(name.number);
                let numbers = periods.entry(name.period).or_default();
                numbers.insert(name.number, state.len());
            }
            for numbers in periods.values().filter(|it| it.contains_key(&number)) {
                // The new one, and the one that it was made from.
                bytes += numbers.values().rev().take(2).sum::<usize>();
            }
        }
        true
    });
    (bytes, report.unwrap().commits)
}

#[test]
fn ten_times_a_backlog_of_mixed_hours_reads_and_writes_ten_times_the_states() {
    let (one, ten) = (mixed(10), mixed(100));
    // Else it would show nothing.
    let each = [&one, &ten].map(|world| states_of(world, NOTHING_HELD));
    assert!(each[1].0 > 25 * each[0].0, "{each:?}");
    assert_eq!((each[0].1, each[1].1), (10, 100));
    let found = [&one, &ten].map(World::found);
    for world in [&one, &ten] {
        fs::remove_dir_all(world.analytics()).unwrap();
    }
    let held = [&one, &ten].map(|world| states_of(world, HeldBounds::default()));
    assert!(held[1].0 <= 10 * held[0].0, "{held:?}");
    // The first portion, eight times that, eight times these; and what is left.
    assert!(held[1].1 <= 4, "{held:?}");
    assert_eq!([&one, &ten].map(World::found), found);
    ten.assert_counted();
}

#[test]
fn what_is_held_has_bounds_and_none_changes_a_count() {
    let world = mixed(30);
    let usual = HeldBounds::default();
    let mut all = None;
    for (bounds, commits) in [
        (usual, 3..=3),
        (
            HeldBounds {
                bytes_max: 1,
                ..usual
            },
            30..=30,
        ),
        (
            HeldBounds {
                day_bytes_max: 1,
                ..usual
            },
            30..=30,
        ),
        (
            HeldBounds {
                records_max: 200,
                ..usual
            },
            6..=6,
        ),
        (
            HeldBounds {
                pieces_max: 13,
                ..usual
            },
            9..=20,
        ),
        (
            HeldBounds {
                segments_max: 3,
                ..usual
            },
            9..=9,
        ),
    ] {
        let (_, found) = states_of(&world, bounds);
        assert!(commits.contains(&found), "{found} commits: {bounds:?}");
        world.assert_counted();
        let all = all.get_or_insert_with(|| world.found());
        assert_eq!(world.found(), *all, "{bounds:?}");
        fs::remove_dir_all(world.analytics()).unwrap();
    }
}

/// Few counts under long names weigh as much as they will when they are added to their day.
#[test]
fn what_a_portion_weighs_for_a_day_has_its_strings() {
    let line = |path: &str| {
        format!(
            "{{\"timestamp\":\"2015-05-17T10:00:00Z\",\"path\":\"{path}\",\"userAgent\":\"-\"}}"
        )
    };
    let mut delta = crate::fold::Delta::new(false);
    for number in 0..100 {
        let line = line(&format!("/{number}/{}", "x".repeat(4_000)));
        let stored = StoredRecord {
            offset: Offset(number),
            received_ms: BASE_MS,
            batch: None,
            sequence: 0,
            line: line.as_bytes(),
        };
        delta.add(&stored).unwrap();
    }
    let days: Vec<usize> = delta.days().into_values().collect();
    assert!(days.len() == 1 && days[0] > 400_000, "{days:?}");
}

/// The portion with that segment is read again up to it; what was held before stays.
#[test]
fn a_damaged_segment_behind_what_is_held_takes_nothing_of_it() {
    let mut world = mixed(30);
    let path = world.segments(1).pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[20] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let settings = Settings {
        portion: small(),
        ..one_by_one(HeldBounds::default())
    };
    let report = world.aggregator_set(settings).run(&mut |_| true).unwrap();
    assert!(report.commits <= 4, "{}", report.commits);
    assert_eq!((report.halted.len(), report.records), (1, 29 * 40));
    world.put.truncate(29 * 40);
    world.assert_counted();
    // Put right, it goes on where it was.
    bytes[20] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(world.run().unwrap().records, 40);
}

#[test]
fn a_process_killed_while_counts_are_held_counts_all_once() {
    let settings = one_by_one(HeldBounds::default());
    let mut at = 0;
    loop {
        let world = mixed(12);
        let killed = world.aggregator_set(settings).run(&mut kill_at(at));
        world.aggregator_set(settings).run(&mut |_| true).unwrap();
        world.assert_counted();
        if killed.is_ok() {
            break;
        }
        // Every step until the first are committed, then some.
        at += if at < 30 { 1 } else { 41 };
    }
    assert!(at > 400, "{at} steps");
}
