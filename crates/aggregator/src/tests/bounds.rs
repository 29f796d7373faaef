use super::*;

fn limited(keys: usize, sites: usize) -> Settings {
    Settings {
        portion: small(),
        limits: Limits { keys, sites },
        ..Settings::default()
    }
}

fn sum(counts: &Value) -> u64 {
    let counts = counts.as_object().unwrap().values();
    counts.map(|count| count.as_u64().unwrap()).sum()
}

/// That `found` holds all requests of `right`, the exact counts, and is as exact as it says.
fn assert_bounded(file: &str, found: &Value, right: &Value, keys: usize) -> bool {
    let mut all_exact = true;
    for field in [
        "requests",
        "requestsPerClient",
        "requestsPerStatus",
        "bytes",
    ] {
        assert_eq!(found[field], right[field], "{file}: {field}");
    }
    for (dimension, accuracy) in found["accuracy"].as_object().unwrap() {
        let (Some(found), Some(right)) = (found.get(dimension), right.get(dimension)) else {
            continue;
        };
        assert_eq!(sum(found), sum(right), "{file}: {dimension}");
        if accuracy["exact"] == json!(true) {
            assert_eq!(found, right, "{file}: {dimension}");
            continue;
        }
        all_exact = false;
        let error = accuracy["errorMax"].as_u64().unwrap();
        let counts = found.as_object().unwrap();
        assert_eq!(counts["other"], accuracy["other"]);
        assert!(counts.len() <= keys + 1, "{file}: {dimension}: {counts:?}");
        assert!(error <= sum(right) / (keys as u64 + 1), "{file}: {error}");
        for (key, right) in right.as_object().unwrap() {
            let found = counts.get(key).map_or(0, |count| count.as_u64().unwrap());
            let right = right.as_u64().unwrap();
            assert!(found <= right && right <= found + error, "{file}: {key}");
        }
    }
    all_exact
}

#[test]
fn above_the_bound_totals_are_exact_and_the_summary_says_what_is_not() {
    let (mut exact, mut bounded) = (0, 0);
    for seed in 0..4 {
        let mut world = World::with_records(seed);
        let mut aggregator = world.aggregator_set(limited(6, 10));
        for _ in 0..4 {
            aggregator.run(&mut |_| true).unwrap();
            let right = world.expected();
            for (file, found) in world.found() {
                for site in ["a.example", "b.example"] {
                    let (found, right) = (&found["sites"][site], &right[&file]["sites"][site]);
                    if right.is_null() {
                        assert!(found.is_null());
                    } else if assert_bounded(&file, found, right, 6) {
                        exact += 1;
                    } else {
                        bounded += 1;
                    }
                }
                // The sum over all sites has their keys.
                assert_eq!(found["requests"], right[&file]["requests"]);
                assert_eq!(sum(&found["requestsPerPath"]), right[&file]["requests"]);
            }
            world.publish_random(1, 40);
        }
    }
    assert!(exact > 10 && bounded > 10, "{exact} {bounded}");
}

/// `cargo xtask counts distinct` is the same with 50 million, and looks at the process's memory.
#[test]
fn whatever_number_of_paths_comes_what_is_kept_does_not_grow() {
    const KEYS: usize = 200;
    let mut world = World::new(50);
    let settings = Settings {
        portion: Portion {
            counts_bytes_max: 40_000,
            ..Portion::default()
        },
        held: NOTHING_HELD,
        limits: Limits {
            keys: KEYS,
            sites: 10,
        },
        ..Settings::default()
    };
    let mut aggregator = world.aggregator_set(settings);
    let (mut sizes, mut commits) = (Vec::new(), 0);
    for round in 0..10 {
        for segment in 0..5 {
            let records = (0..200).map(|number| {
                let mut record = world.random_record();
                record.hour_ms = BASE_MS;
                record.site = Some("a.example".to_owned());
                record.path = match world.rng.u8(..10) {
                    0 => format!("/again/{}", world.rng.u8(..20)),
                    _ => format!("/{round}/{segment}/{number}"),
                };
                record
            });
            let records = records.collect();
            world.publish(segment % 3, records);
        }
        commits += aggregator.run(&mut |_| true).unwrap().commits;
        let state = files_below(&world.analytics().join("_state/counts"));
        sizes.push(state.values().map(Vec::len).max().unwrap());
    }
    // A portion ends where its counts are large, not where there is nothing more to read.
    assert!(commits >= 20, "{commits}");
    assert!(sizes[9] < sizes[1] * 5 / 4, "{sizes:?}");
    for (file, found) in world.found() {
        let right = &world.expected()[&file]["sites"]["a.example"];
        let found = &found["sites"]["a.example"];
        assert!(!assert_bounded(&file, found, right, KEYS));
        let again = right["requestsPerPath"].as_object().unwrap().iter();
        for (path, _) in again.filter(|(path, _)| path.starts_with("/again/")) {
            assert!(found["requestsPerPath"][path].is_u64(), "{path} is heavy");
        }
    }
}

#[test]
fn sites_above_their_bound_are_counted_together() {
    let mut world = World::new(5);
    let mut records = Vec::new();
    for site in 0..20 {
        for _ in 0..20 - site {
            let mut record = world.random_record();
            record.hour_ms = BASE_MS;
            record.site = Some(format!("s{site:02}.example"));
            records.push(record);
        }
    }
    world.publish(0, records);
    world
        .aggregator_set(limited(100, 5))
        .run(&mut |_| true)
        .unwrap();
    let found = &world.found()["2015-05-17/summary_10.json"];
    let sites: Vec<_> = found["sites"].as_object().unwrap().keys().collect();
    assert_eq!(
        sites,
        [
            "s00.example",
            "s01.example",
            "s02.example",
            "s03.example",
            "s04.example"
        ]
    );
    assert_eq!(found["requests"], 210);
    assert_eq!(found["otherSites"]["requests"], 210 - 90);
    assert_eq!(found["sitesErrorMax"], 15);
}

#[test]
fn paths_are_counted_without_their_query_where_that_is_asked_for() {
    let mut world = World::with_records(6);
    let settings = Settings {
        strip_query: true,
        ..Settings::default()
    };
    world.aggregator_set(settings).run(&mut |_| true).unwrap();
    for record in &mut world.put {
        record.path.truncate(record.path.find('?').unwrap());
    }
    world.assert_counted();
}
