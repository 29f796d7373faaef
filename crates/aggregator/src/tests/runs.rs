use std::{fs, time::SystemTime};

use super::*;
use crate::{hour::Period, manifest::StateDir, state::Head};

#[test]
fn every_stored_record_is_counted_once_over_many_runs() {
    for seed in 0..10 {
        let mut world = World::new(seed);
        let mut lasting = world.aggregator_with(small());
        for round in 0..8 {
            for _ in 0..world.rng.usize(0..4) {
                let partition = world.rng.i32(0..3);
                let records = world.rng.usize(0..30);
                world.publish_random(partition, records);
            }
            // One process that goes on, and now and then another in its place.
            let report = if round % 3 == 2 {
                lasting = world.aggregator_with(small());
                world.run().unwrap()
            } else {
                lasting.run(&mut |_| true).unwrap()
            };
            assert!(report.halted.is_empty());
            world.assert_counted();
        }
        assert!(world.put.len() > 50, "seed {seed}");
    }
}

#[test]
fn the_size_of_portions_changes_no_count() {
    let world = World::with_records(1);
    let report = world.run().unwrap();
    assert_eq!((report.commits, report.records), (1, 108));
    let whole = world.found();
    for portion in [
        small(),
        Portion {
            plain_bytes_max: 1,
            counts_bytes_max: usize::MAX,
        },
        Portion {
            plain_bytes_max: u64::MAX,
            counts_bytes_max: 1,
        },
    ] {
        fs::remove_dir_all(world.analytics()).unwrap();
        let report = world.aggregator_with(portion).run(&mut |_| true).unwrap();
        assert!(report.commits > 2, "{}", report.commits);
        assert_eq!(report.records, 108);
        assert_eq!(world.found(), whole);
        world.assert_counted();
    }
}

#[test]
fn nothing_new_writes_nothing() {
    let world = World::with_records(2);
    let mut lasting = world.aggregator();
    lasting.run(&mut |_| true).unwrap();
    let times = || {
        let files = files_below(world.dir.path());
        let times = files.into_keys().map(|file| {
            let metadata = fs::metadata(world.dir.path().join(&file)).unwrap();
            (file, metadata.modified().unwrap())
        });
        times.collect::<Vec<(String, SystemTime)>>()
    };
    let before = times();
    for report in [
        lasting
            .run(&mut |step| panic!("{step:?} though nothing is new"))
            .unwrap(),
        world.run().unwrap(),
    ] {
        assert_eq!(
            (
                report.commits,
                report.summaries,
                report.records,
                report.reports
            ),
            (0, 0, 0, 0)
        );
    }
    assert_eq!(times(), before);
}

#[test]
fn a_run_writes_only_what_has_changed() {
    let mut world = World::with_records(3);
    world.run().unwrap();
    let before = files_below(&world.analytics());
    let mut record = world.random_record();
    record.hour_ms = BASE_MS;
    record.site = Some("a.example".to_owned());
    world.publish(0, vec![record]);
    world.run().unwrap();
    world.assert_counted();
    let after = files_below(&world.analytics());
    let new: Vec<_> = after
        .iter()
        .filter(|(file, bytes)| before.get(*file) != Some(bytes))
        .map(|(file, _)| file.as_str())
        .collect();
    let expected = [
        "2015-05-17/summary.json",
        "2015-05-17/summary_10.json",
        "_state/counts/2015-05-17-",
        "_state/counts/2015-05-17T10-",
        "_state/m000000000",
        "_state/reports/2015-05-17",
        "report.html",
        "reports/a.example.html",
    ];
    let is_that = |(file, expected): (&&str, &str)| file.starts_with(expected);
    assert_eq!(new.len(), expected.len(), "{new:?}");
    assert!(new.iter().zip(expected).all(is_that), "{new:?}");
}

#[test]
fn segments_without_records_move_the_cursor_alone() {
    let mut world = World::with_records(4);
    world.run().unwrap();
    let before = world.summaries();
    world.publish(1, Vec::new());
    let report = world.run().unwrap();
    assert_eq!(
        (report.commits, report.records, report.summaries),
        (1, 0, 0)
    );
    assert_eq!(world.summaries(), before);
    let report = world.run().unwrap();
    assert_eq!(report.commits, 0, "the cursor is behind it");
}

#[test]
fn only_the_last_two_manifests_and_their_states_are_kept() {
    let mut world = World::new(5);
    for process in 0..3 {
        let mut aggregator = world.aggregator();
        for _ in 0..3 {
            world.publish_random(process, 20);
            aggregator.run(&mut |_| true).unwrap();
            let manifests = world.manifests();
            assert_eq!(manifests.len(), 2, "{manifests:?}");
            let dir = StateDir::open(&world.analytics()).unwrap();
            let mut named = Vec::new();
            for number in dir.numbers().unwrap() {
                let manifest = dir.read(number).unwrap().unwrap();
                for day in manifest.days.keys() {
                    let name = manifest.state_name(*day).unwrap();
                    let head = Head::read(dir.counts(), &name).unwrap();
                    named.push(name.file_name());
                    for (hour, entry) in head.hours {
                        named.push(entry.name(Period::Hour(hour)).file_name());
                    }
                }
            }
            named.sort();
            named.dedup();
            let states = files_below(&world.analytics().join("_state/counts"));
            assert_eq!(states.into_keys().collect::<Vec<_>>(), named);
        }
    }
}

#[test]
fn a_late_record_changes_its_own_hour_and_day() {
    let mut world = World::with_records(6);
    world.run().unwrap();
    let before = world.summaries();
    let mut record = world.random_record();
    record.hour_ms = BASE_MS - 40 * 365 * 24 * HOUR_MS;
    world.publish(2, vec![record]);
    world.run().unwrap();
    world.assert_counted();
    let mut after = world.summaries();
    after.retain(|file, bytes| before.get(file) != Some(bytes));
    let changed: Vec<_> = after.into_keys().collect();
    assert_eq!(
        changed,
        ["1975-05-27/summary.json", "1975-05-27/summary_10.json"]
    );
}

#[test]
fn a_record_far_ahead_of_its_receipt_is_counted_aside() {
    let mut world = World::with_records(7);
    let mut ahead = world.random_record();
    // All is received at BASE_MS.
    ahead.hour_ms = BASE_MS + 24 * HOUR_MS;
    let line = World::line_at(&ahead, ahead.hour_ms + 1);
    world.publish_lines(0, &[line.clone(), line]);
    world.aside = 2;
    let report = world.run().unwrap();
    assert_eq!(report.aside, 2);
    world.assert_counted();

    // Exactly 24 h ahead is in its hour.
    world.publish_lines(0, &[World::line_at(&ahead, ahead.hour_ms)]);
    world.put.push(ahead);
    assert_eq!(world.run().unwrap().aside, 0);
    world.assert_counted();
}

/// What a group by the `site` of the records, or of the archive, gives.
#[test]
fn a_site_is_counted_by_its_name_as_it_stands() {
    let mut world = World::new(11);
    let mut record = world.random_record();
    let lines = [
        "Shop.example",
        "shop.example",
        "SHOP.example",
        "shop.example",
    ]
    .map(|site| {
        record.site = Some(site.to_owned());
        World::line_at(&record, BASE_MS)
    });
    world.publish_lines(0, &lines);
    world.run().unwrap();
    let summary = &world.found()["2015-05-17/summary_10.json"];
    let sites = summary["sites"].as_object().unwrap().iter();
    let requests: Vec<_> = sites.map(|(site, of)| (&**site, &of["requests"])).collect();
    assert_eq!(
        requests,
        [
            ("SHOP.example", &json!(1)),
            ("Shop.example", &json!(1)),
            ("shop.example", &json!(2)),
        ]
    );
}

#[test]
fn a_run_covers_what_was_stored_when_it_began() {
    let world = std::cell::RefCell::new(World::with_records(8));
    let mut aggregator = world.borrow().aggregator();
    let mut publishes = 0;
    let report = aggregator.run(&mut |step| {
        if step == Step::FoldSegment && publishes < 100 {
            publishes += 1;
            world.borrow_mut().publish_random(2, 1);
        }
        true
    });
    assert_eq!(report.unwrap().records, 108);
    assert!((9..100).contains(&publishes), "{publishes}");
    aggregator.run(&mut |_| true).unwrap();
    world.borrow().assert_counted();
}

#[test]
fn a_summary_that_is_missing_or_old_is_made_again_byte_for_byte() {
    let world = World::with_records(9);
    let mut lasting = world.aggregator();
    lasting.run(&mut |_| true).unwrap();
    let whole = world.summaries();
    let files: Vec<_> = whole.keys().cloned().collect();
    for (number, file) in files.iter().enumerate() {
        let path = world.analytics().join(file);
        match number % 3 {
            0 => fs::remove_file(&path).unwrap(),
            1 => fs::write(&path, "{\n  \"hour\": \"x\",\n  \"manifest\": 1,\n").unwrap(),
            _ => fs::write(&path, "").unwrap(),
        }
    }
    let report = lasting.run(&mut |_| true).unwrap();
    assert_eq!(report.summaries, 0, "not looked for in every run");
    lasting.recheck();
    let report = lasting.run(&mut |_| true).unwrap();
    assert!(report.summaries + report.reports >= files.len() as u64);
    assert_eq!(world.summaries(), whole);

    fs::remove_dir_all(world.analytics().join("2015-05-17")).unwrap();
    world.run().unwrap();
    assert_eq!(world.summaries(), whole);
}

#[test]
fn without_a_store_there_is_nothing_to_count() {
    let world = World::new(10);
    fs::remove_dir_all(world.logs()).unwrap();
    let mut aggregator = world.aggregator();
    assert_eq!(aggregator.run(&mut |_| true).unwrap().commits, 0);
    let mut world = world;
    Store::open(&world.logs()).unwrap();
    world.publish_random(0, 5);
    assert_eq!(aggregator.run(&mut |_| true).unwrap().records, 5);
    world.assert_counted();
}
