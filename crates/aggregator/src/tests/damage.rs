use std::fs;

use super::*;
use crate::manifest::{Manifest, StateDir};

#[test]
fn a_damaged_segment_halts_its_partition_and_no_other() {
    for missing in [false, true] {
        let mut world = World::with_records(1);
        world.run().unwrap();
        let counted = world.put.len();
        for partition in 0..3 {
            for _ in 0..3 {
                world.publish_random(partition, 10);
            }
        }
        let path = world.segments(1).remove(4);
        let whole = fs::read(&path).unwrap();
        if missing {
            fs::remove_file(&path).unwrap();
        } else {
            let mut bytes = whole.clone();
            bytes[20] ^= 1;
            fs::write(&path, bytes).unwrap();
        }
        let mut aggregator = world.aggregator();
        for _ in 0..2 {
            let report = aggregator.run(&mut |_| true).unwrap();
            let [halted] = report.halted.as_slice() else {
                panic!("{:?}", report.halted);
            };
            assert_eq!(halted.partition, PartitionId(1));
            assert!(
                halted.fault.contains(path.to_str().unwrap()),
                "{}",
                halted.fault
            );
        }
        // Two segments of that partition are left out.
        let found: u64 = world.manifest()["counted"].as_u64().unwrap();
        assert_eq!(found, counted as u64 + 70);
        // Put right, it goes on where it was.
        fs::write(&path, whole).unwrap();
        let report = aggregator.run(&mut |_| true).unwrap();
        assert_eq!((report.records, report.halted.len()), (20, 0));
        world.assert_counted();
    }
}

/// Its records are counted as they come out of it, long before that is seen.
#[test]
fn a_large_segment_that_is_damaged_at_its_end_adds_nothing() {
    let mut world = World::with_records(7);
    world.publish_random(0, 5);
    world.publish_random(1, 8_000);
    world.publish_random(2, 5);
    let (put, path) = (world.put.clone(), world.segments(1).pop().unwrap());
    let whole = fs::read(&path).unwrap();
    let end = world
        .chain(1)
        .look(world.chain(1).greatest_name().unwrap().unwrap());
    let trailer = end.unwrap().unwrap().trailer;
    assert!(trailer.plain_len > 1 << 20, "{}", trailer.plain_len);
    let mut bytes = whole.clone();
    bytes[trailer.data_len as usize - 9] ^= 1;
    fs::write(&path, bytes).unwrap();
    let large = world.put.len() - 8_005..world.put.len() - 5;
    world.put.drain(large);
    let report = world.run().unwrap();
    let fault = &report.halted[0].fault;
    assert!(fault.contains(path.to_str().unwrap()), "{fault}");
    world.assert_counted();
    fs::write(&path, whole).unwrap();
    world.put = put;
    assert_eq!(world.run().unwrap().records, 8_000);
    world.assert_counted();
}

#[test]
fn a_line_that_is_no_record_halts_before_its_segment() {
    let mut world = World::with_records(2);
    let good = world.random_record();
    let line = world.line(&good);
    world.publish_lines(1, &[line, "{\"path\":\"/\"}".to_owned()]);
    world.publish_random(2, 5);
    let report = world.run().unwrap();
    assert_eq!(report.halted.len(), 1);
    let fault = &report.halted[0].fault;
    assert!(fault.contains("is not a record"), "{fault}");
    world.assert_counted();
}

#[test]
fn a_chain_of_another_history_halts() {
    let mut world = World::with_records(3);
    world.run().unwrap();
    let before = world.summaries();
    // The partition is written anew, as after a lost directory.
    fs::remove_dir_all(world.chain(1).dir()).unwrap();
    let report = world.run().unwrap();
    assert_eq!(report.halted.len(), 1, "gone");
    assert!(
        report.halted[0].fault.contains("START"),
        "{:?}",
        report.halted
    );
    for _ in 0..4 {
        world.publish_random(1, 12);
    }
    let report = world.run().unwrap();
    assert_eq!(report.halted.len(), 1, "another");
    assert_eq!(world.summaries(), before);
}

#[test]
fn a_chain_with_another_start_halts() {
    let mut world = World::with_records(13);
    world.run().unwrap();
    let chain = world.chain(1);
    let mut start = chain.start().unwrap().unwrap();
    start.topic_id = "f".repeat(32);
    fs::remove_file(chain.start_path()).unwrap();
    chain.put_start(&start).unwrap();
    world.publish_random(2, 4);
    let report = world.run().unwrap();
    assert_eq!((report.halted.len(), report.records), (1, 4));
    assert!(
        report.halted[0].fault.contains("START"),
        "{:?}",
        report.halted
    );
    world.assert_counted();
}

#[test]
fn a_first_look_at_a_chain_that_lost_its_beginning_halts() {
    let mut world = World::with_records(4);
    for segments in [world.segments(0), world.segments(1)] {
        fs::remove_file(&segments[0]).unwrap();
    }
    let second = world.segments(2).remove(1);
    let name = second.file_name().unwrap().to_str().unwrap();
    let offset = Offset(name[..20].parse().unwrap());
    world.chain(2).put_watermark(offset).unwrap();
    fs::remove_file(world.segments(2).first().unwrap()).ok();
    world.publish_random(3, 4);
    let report = world.run();
    // What is behind a watermark was never counted, so it is missed like the rest.
    let report = report.unwrap();
    assert!(report.halted.len() >= 2, "{:?}", report.halted);
    assert!(report.records >= 4);
}

#[test]
fn another_store_is_not_counted_on() {
    let mut world = World::with_records(5);
    world.run().unwrap();
    fs::remove_dir_all(world.logs()).unwrap();
    let error = world.run().unwrap_err();
    assert!(matches!(error, RunError::OtherStore { .. }), "{error}");
    Store::open(&world.logs()).unwrap();
    world.publish_random(0, 5);
    let error = world.run().unwrap_err();
    assert!(
        error.is_final() && matches!(error, RunError::OtherStore { .. }),
        "{error}"
    );
}

#[test]
fn lost_manifests_are_damage_and_no_first_start() {
    let world = World::with_records(6);
    world.run().unwrap();
    for path in world.manifests() {
        fs::remove_file(path).unwrap();
    }
    let error = world.run().unwrap_err();
    assert!(matches!(error, RunError::NoManifest { .. }), "{error}");
    fs::remove_dir_all(world.analytics().join("_state")).unwrap();
    let error = world.run().unwrap_err();
    assert!(
        error.is_final() && matches!(error, RunError::NoManifest { .. }),
        "{error}"
    );
    assert!(world.manifests().is_empty());
}

#[test]
fn damaged_states_and_manifests_are_named() {
    let mut world = World::with_records(7);
    world.run().unwrap();
    let state = world.analytics().join("_state");
    let manifest = world.manifests().pop().unwrap();
    let whole = fs::read_to_string(&manifest).unwrap();
    for (from, to) in [
        ("\"counted\":108", "\"counted\":109"),
        ("{", "["),
        ("sha256", "sha255"),
    ] {
        assert!(whole.contains(from), "{whole}");
        fs::write(&manifest, whole.replacen(from, to, 1)).unwrap();
        let error = world.run().unwrap_err();
        assert!(error.is_final());
        assert!(
            error.to_string().contains(manifest.to_str().unwrap()),
            "{error}"
        );
    }
    fs::write(&manifest, whole).unwrap();

    let mut record = world.random_record();
    record.hour_ms = BASE_MS;
    world.publish(0, vec![record]);
    let states = files_below(&state.join("counts"));
    let name = states
        .keys()
        .find(|name| name.starts_with("2015-05-17T10"))
        .unwrap();
    let path = state.join("counts").join(name);
    // Cut off, and whole but not the one that was named.
    let other = states.values().find(|bytes| **bytes != states[name]);
    for bytes in [&states[name][..9], other.unwrap()] {
        fs::write(&path, bytes).unwrap();
        let error = world.run().unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        assert!(
            error.contains("has hash") || error.contains("too early"),
            "{error}"
        );
    }
    fs::remove_file(&path).unwrap();
    let error = world.run().unwrap_err();
    assert!(error.is_final());
    assert!(error.to_string().contains("missing although"), "{error}");
    fs::write(&path, &states[name]).unwrap();
    world.run().unwrap();
    world.assert_counted();
}

#[test]
fn books_that_do_not_add_up_halt() {
    let spoil: [fn(&mut Manifest); 4] = [
        |manifest| manifest.counted += 1,
        |manifest| manifest.aside += 1,
        |manifest| manifest.chains[0].read += 1,
        |manifest| manifest.days.values_mut().next().unwrap().requests += 1,
    ];
    for (number, spoil) in spoil.into_iter().enumerate() {
        let mut world = World::with_records(8);
        world.run().unwrap();
        let dir = StateDir::open(&world.analytics()).unwrap();
        let mut manifest = dir
            .read(*dir.numbers().unwrap().last().unwrap())
            .unwrap()
            .unwrap();
        spoil(&mut manifest);
        manifest.number += 1;
        assert!(dir.put(&manifest).unwrap());
        world.publish_random(0, 5);
        let before = world.manifests();
        let error = world.run().unwrap_err();
        assert!(
            matches!(error, RunError::Books(_)),
            "case {number}: {error}"
        );
        assert!(error.is_final());
        assert!(
            before.ends_with(&world.manifests()),
            "nothing was committed"
        );
    }
}

#[test]
fn an_unknown_format_is_refused() {
    let world = World::with_records(9);
    world.run().unwrap();
    let dir = StateDir::open(&world.analytics()).unwrap();
    let mut manifest = dir.read(2).unwrap().unwrap();
    manifest.number = 3;
    manifest.format = 99;
    assert!(dir.put(&manifest).unwrap());
    let error = world.run().unwrap_err().to_string();
    assert!(error.contains("format 99, known is 2"), "{error}");
}

#[test]
fn a_directory_that_cannot_be_listed_halts_its_partition_and_no_other() {
    let mut world = World::with_records(21);
    world.run().unwrap();
    let dir = world.chain(1).dir().to_owned();
    let aside = world.analytics().join("aside");
    fs::rename(&dir, &aside).unwrap();
    // A link to itself: any look at it fails, whoever looks.
    std::os::unix::fs::symlink(&dir, &dir).unwrap();
    world.publish_random(2, 4);
    let report = world.run().unwrap();
    assert_eq!((report.halted.len(), report.records), (1, 4));
    assert_eq!(report.halted[0].partition, PartitionId(1));
    fs::remove_file(&dir).unwrap();
    fs::rename(&aside, &dir).unwrap();
    assert_eq!(world.run().unwrap().halted.len(), 0);
    world.assert_counted();
}

#[test]
fn a_damaged_manifest_before_the_greatest_stops_nothing() {
    let mut world = World::with_records(22);
    world.run().unwrap();
    world.publish_random(0, 4);
    world.run().unwrap();
    let before = world.manifests().into_iter().rev().nth(1).unwrap();
    fs::write(before, b"{").unwrap();
    world.publish_random(1, 5);
    assert_eq!(world.run().unwrap().records, 5);
    world.assert_counted();
}
