//! Messages that are not the gateway's, or not records at all.

use kafka_consumer_writer::dead_letters::EntryKind;
use kafka_link::{BATCH_MEMORY_MAX, BatchEncoder, Codec};
use pipeline_core::{Offset, envelope::Envelope};

use crate::{
    raw::{self, CONTROL, Record},
    rig::{Rig, TOPIC, batch_id, line},
};

fn envelope(batch: u64, sequence: u32) -> [u8; 37] {
    Envelope {
        batch: batch_id(batch),
        sequence,
        received_ms: 1_600_000_000_000,
        since: Offset(0),
    }
    .encode()
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_goes_to_the_dead_letters_and_its_neighbours_are_stored() {
    let rig = Rig::new(1).await;
    let good = line(1, 0);
    let head = envelope(1, 0);
    let mut newer = head;
    newer[0] = 2;
    let large = format!(
        r#"{{"timestamp":"2026-01-02T03:04:05Z","path":"/","userAgent":"{}"}}"#,
        "x".repeat(300_000)
    );
    let name = "sluice";
    let poison: [(Vec<u8>, &str); 8] = [
        (raw::one(None, &[]), "null"),
        (raw::one(Some(b"not json"), &[]), "malformed"),
        (raw::one(Some(br#"{"path":"/"}"#), &[]), "missing"),
        (raw::one(Some(large.as_bytes()), &[]), "too_large"),
        (raw::one(Some(good.as_bytes()), &[(name, None)]), "null"),
        (
            raw::one(
                Some(good.as_bytes()),
                &[(name, Some(&head)), (name, Some(&head))],
            ),
            "more than once",
        ),
        (
            raw::one(Some(good.as_bytes()), &[(name, Some(b"short"))]),
            "version 115",
        ),
        (
            raw::one(Some(good.as_bytes()), &[(name, Some(&newer))]),
            "version 2",
        ),
    ];
    for (n, (batch, _)) in poison.iter().enumerate() {
        rig.broker.append_raw(TOPIC, 0, batch).expect("appended");
        rig.send(0, 100 + n as u64, &[0], 0).await;
    }
    let writer = rig.writer("", "");
    rig.caught_up().await;
    writer.stop().await;
    rig.check_exact((0..8).map(|n| (100 + n, 0)));
    let found = rig.dead_letters();
    assert_eq!(found.len(), 8, "{found:?}");
    for (n, (_, reason)) in poison.iter().enumerate() {
        let (kind, detail) = &found[&(0, 2 * n as i64)];
        assert_eq!(*kind, EntryKind::Poison);
        assert!(detail.contains(reason), "{n}: {detail}");
    }
    assert_eq!(rig.totals().poison, 8);
    // The next writer counts them and writes none again.
    let writer = rig.writer("", "");
    rig.send(0, 200, &[0], 0).await;
    rig.caught_up().await;
    writer.stop().await;
    assert_eq!(rig.dead_letters().len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_other_producers_are_checked_made_canonical_and_never_duplicates() {
    let rig = Rig::new(1).await;
    let value = b" { \"userAgent\" : \"\", \"path\":\"/x\", \"timestamp\":\"2026-01-02T05:04:05+02:00\" }\n";
    for _ in 0..2 {
        let foreign = raw::one(Some(value), &[("trace", Some(b"1")), ("empty", None)]);
        rig.broker.append_raw(TOPIC, 0, &foreign).expect("appended");
    }
    let writer = rig.writer("", "");
    rig.caught_up().await;
    writer.stop().await;
    let stored = rig.stored();
    assert_eq!(stored.len(), 2);
    for record in &stored {
        assert_eq!(record.identity, None);
        assert!(
            record.line.contains("2026-01-02T03:04:05Z") && record.line.contains(r#""-""#),
            "{}",
            record.line
        );
        assert!(!record.line.contains('\n'));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn control_records_and_compacted_gaps_are_skipped() {
    let rig = Rig::new(1).await;
    let (first, second) = (line(1, 0), line(1, 1));
    let (head, tail) = (envelope(1, 0), envelope(1, 1));
    let holey = raw::batch(
        0,
        -1,
        &[
            (
                1,
                Record {
                    value: Some(first.as_bytes()),
                    headers: &[("sluice", Some(&head))],
                },
            ),
            (
                4,
                Record {
                    value: Some(second.as_bytes()),
                    headers: &[("sluice", Some(&tail))],
                },
            ),
        ],
        6,
    );
    rig.broker.append_raw(TOPIC, 0, &holey).expect("appended");
    let marker = Record {
        value: Some(&[0, 0, 0, 0, 0, 0]),
        headers: &[],
    };
    let control = raw::batch(CONTROL | 1 << 4, 42, &[(0, marker)], 0);
    rig.broker.append_raw(TOPIC, 0, &control).expect("appended");
    let writer = rig.writer("", "");
    rig.caught_up().await;
    writer.stop().await;
    let offsets: Vec<i64> = rig.stored().iter().map(|record| record.offset).collect();
    assert_eq!(offsets, [1, 4]);
    let totals = rig.totals();
    assert_eq!((totals.stored, totals.skipped), (2, 6));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_older_than_the_window_is_put_aside_and_one_that_is_surely_new_is_stored() {
    let rig = Rig::new(1).await;
    let window = "dedupMaxBatches: 2; flushSize: 1";
    let writer = rig.writer("", window);
    for batch in 0..4 {
        rig.send(0, batch, &[0], batch as i64).await;
        rig.caught_up().await;
    }
    // Batches 0 and 1 have left the window, whose start is 2 now.
    rig.send(0, 0, &[0], 0).await;
    rig.send(0, 3, &[0], 3).await;
    rig.send(0, 9, &[0], 2).await;
    rig.caught_up().await;
    writer.stop().await;
    rig.check_exact((0..4).chain([9]).map(|batch| (batch, 0)));
    let found = rig.dead_letters();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[&(0, 4)].0, EntryKind::Undecidable);
    let totals = rig.totals();
    assert_eq!((totals.undecidable, totals.duplicate), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_batch_that_would_become_too_large_is_poison_as_a_whole_and_stops_nothing() {
    let mut bomb = BatchEncoder::new(1_700_000_000_000);
    let large = vec![b' '; BATCH_MEMORY_MAX];
    for value in [&large[..], line(9, 9).as_bytes()] {
        bomb.push(value, None);
    }
    drop(large);
    let bomb = bomb.finish(Codec::Zstd).bytes;
    is_poison_as_a_whole(&bomb, "decompresses to more than 128 MiB").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_with_a_right_checksum_that_cannot_be_read_is_poison_and_stops_nothing() {
    let mut batch = BatchEncoder::new(1_700_000_000_000);
    for sequence in [8, 9] {
        batch.push(line(9, sequence).as_bytes(), None);
    }
    let mut batch = batch.finish(Codec::None).bytes.to_vec();
    // The first record's length: behind the header of 61 bytes.
    batch[61] ^= 0x55;
    let checksum = crc32c::crc32c(&batch[21..]).to_be_bytes();
    batch[17..21].copy_from_slice(&checksum);
    is_poison_as_a_whole(&batch, "cannot be read").await;
}

/// A batch of two messages, between others.
async fn is_poison_as_a_whole(batch: &[u8], why: &str) {
    let rig = Rig::new(1).await;
    rig.send(0, 1, &[0], 0).await;
    rig.broker.append_raw(TOPIC, 0, batch).expect("appended");
    let writer = rig.writer("", "");
    rig.caught_up().await;
    // The chain ends behind it, and whoever comes next compares its last message with the log.
    writer.kill().await;
    rig.send(0, 2, &[0], 0).await;
    let writer = rig.writer("", "");
    rig.caught_up().await;
    writer.stop().await;
    rig.check_exact([(1, 0), (2, 0)]);
    let totals = rig.totals();
    assert_eq!((totals.stored, totals.poison, totals.skipped), (2, 2, 0));
    let found = rig.dead_letters();
    let (kind, detail) = &found[&(0, 1)];
    assert_eq!((found.len(), *kind), (1, EntryKind::Poison));
    assert!(
        detail.contains(&format!("all offsets up to 3, {why}")),
        "{detail}"
    );
}
