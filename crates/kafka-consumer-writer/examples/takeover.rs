//! How long a take-over reads a chain of 20,000 live segments whose duplicate window is full:
//! `cargo run --release -p kafka-consumer-writer --example takeover [DIR]`.
//!
//! On two busy cores: 0.1 s with a snapshot (5.2 MB, 256 trailers behind it), 0.2 s without one
//! while all is in the page cache.
//!
//! Once without a snapshot, then with one that is as old as it may get; and what one publish takes
//! in such a directory. Drop the page cache in between to see it cold: give a directory, and call
//! it again with the same one, which then only reads.

use std::{fs, path::PathBuf, time::Instant};

use kafka_consumer_writer::{
    load::{Loaded, load},
    snapshots::{SEGMENTS_MAX, make},
};
use pipeline_core::{
    BatchId, Offset, PartitionId,
    store::{
        Chain, Draft, Encoded, Fate, FateRun, Start, Store, StoredRun, Totals, chain::FORMAT,
        segment::LEVEL,
    },
};

const SEGMENTS: u64 = 20_000;
const WINDOW: usize = 250_000;
const RECORDS_IN_BATCH: u32 = 8;

fn main() {
    let given = std::env::args().nth(1).map(PathBuf::from);
    let own = tempfile::tempdir().expect("a directory");
    let root = given.unwrap_or_else(|| own.path().to_owned());
    let chain = Store::open(&root)
        .expect("a store")
        .chain("logs", PartitionId(0));
    if chain.start().expect("readable").is_some() {
        read(&chain, "as it stands");
        return;
    }
    let start = Start {
        format: FORMAT,
        cluster_id: "c".to_owned(),
        topic_id: "t".to_owned(),
        first_offset: Offset(0),
    };
    chain.put_start(&start).expect("put");
    let mut random = fastrand::Rng::with_seed(1);
    let mut last = None;
    for number in 0..SEGMENTS - SEGMENTS_MAX {
        last = Some(add(&chain, last.as_ref(), number, &mut random));
    }
    read(&chain, "without a snapshot");
    let started = Instant::now();
    let bytes = make(&chain, WINDOW).expect("made");
    println!(
        "a snapshot of {bytes} bytes made in {:?}",
        started.elapsed()
    );
    for number in SEGMENTS - SEGMENTS_MAX..SEGMENTS {
        last = Some(add(&chain, last.as_ref(), number, &mut random));
    }
    for _ in 0..5 {
        read(&chain, "with a snapshot");
    }
    for number in SEGMENTS..SEGMENTS + 3 {
        let segment = segment(last.as_ref(), number, &mut random);
        let started = Instant::now();
        chain.publish(&segment).expect("published");
        println!("published in {:?}", started.elapsed());
        last = Some(segment);
    }
}

fn read(chain: &Chain, how: &str) {
    let started = Instant::now();
    let loaded = load(chain, WINDOW).expect("whole").expect("begun");
    let took = started.elapsed();
    let Loaded {
        memory,
        names,
        behind,
        ..
    } = loaded;
    println!(
        "{how}: {took:?} for {} segments, {} batches, {behind} trailers read",
        names.len(),
        memory.window.batches(),
    );
}

/// As a publish leaves it, without its fsyncs.
fn add(chain: &Chain, last: Option<&Encoded>, number: u64, random: &mut fastrand::Rng) -> Encoded {
    let encoded = segment(last, number, random);
    fs::write(chain.segment_path(encoded.trailer.first), &encoded.bytes).expect("written");
    encoded
}

/// With as many new batches as fill the window over the whole chain.
fn segment(last: Option<&Encoded>, number: u64, random: &mut fastrand::Rng) -> Encoded {
    let first = last.map_or(Offset(0), |last| last.trailer.next);
    let batches = WINDOW as u64 * (number + 1) / SEGMENTS - WINDOW as u64 * number / SEGMENTS;
    let mut stored = Vec::new();
    let mut next = first;
    for _ in 0..batches {
        stored.push(StoredRun {
            first: next,
            count: RECORDS_IN_BATCH,
            received_ms: 1_700_000_000_000 + next.0,
            batch: Some(BatchId(random.u128(..).to_be_bytes())),
            first_sequence: 0,
        });
        next = Offset(next.0 + i64::from(RECORDS_IN_BATCH));
    }
    let records = (next.0 - first.0) as u64;
    let line = format!("{{\"path\":\"/{:032x}\"}}\n", random.u128(..));
    let draft = Draft {
        first,
        next,
        previous: last.map(Encoded::link),
        writer: [1; 16],
        fates: vec![FateRun {
            fate: Fate::Stored,
            count: records,
        }],
        stored,
        totals_before: last.map_or_else(Totals::default, |last| last.trailer.totals),
        last: None,
    };
    draft.encode(line.repeat(records as usize).as_bytes(), LEVEL)
}
