//! What zstd's level and the number of records of a segment cost and save:
//! `cargo run --release -p kafka-consumer-writer --example segment_size [LOG]`.
//!
//! Bytes a record in the store (trailer and all), processor time to make a segment of records
//! that are assembled already (zstd, both hashes, trailer) and to read it whole. On an access log
//! (combined, or NDJSON), or on made records of 195 bytes. A log shorter than a segment would be
//! there twice in it and look smaller than it is, so there is no such line.

use std::{
    hint::black_box,
    io::Cursor,
    path::PathBuf,
    process::id,
    time::{Duration, Instant},
};

use pipeline_core::{
    BatchId, Offset,
    store::{Draft, Fate, FateRun, StoredRun, Totals},
};
use testbed::{
    access_log,
    blast::{Media, bodies},
    process::cpu_of,
};

const LEVELS: [i32; 5] = [-1, 1, 2, 3, 6];
const SIZES: [usize; 5] = [128, 512, 2_048, 8_192, 32_768];
/// Of a gateway's batches.
const RECORDS_IN_BATCH: usize = 100;
/// `/proc` counts in hundredths of a second.
const MEASURED: Duration = Duration::from_millis(500);

fn main() {
    let lines: Vec<String> = match std::env::args_os().nth(1).map(PathBuf::from) {
        Some(file) => access_log::read(&file).expect("a log"),
        None => bodies(1, Media::NdJson, 66, 1_000)
            .iter()
            .flat_map(|body| std::str::from_utf8(body).expect("JSON").lines())
            .map(str::to_owned)
            .collect(),
    };
    let plain = lines.iter().map(|line| line.len() + 1).sum::<usize>() / lines.len();
    println!("{} records of {plain} bytes\n", lines.len());
    println!("| level | records a segment | bytes a record | µs to make one | µs to read one |");
    println!("|---|---|---|---|---|");
    for level in LEVELS {
        for size in SIZES.into_iter().filter(|size| *size <= lines.len()) {
            let segments: Vec<(Draft, Vec<u8>)> = lines.chunks_exact(size).map(draft).collect();
            let records = segments.len() * size;
            let encoded: Vec<_> = segments
                .iter()
                .map(|(draft, ndjson)| draft.encode(ndjson, level))
                .collect();
            let bytes: usize = encoded.iter().map(|encoded| encoded.bytes.len()).sum();
            let make = micros(records, || {
                for (draft, ndjson) in &segments {
                    black_box(draft.encode(ndjson, level));
                }
            });
            let read = micros(records, || {
                for encoded in &encoded {
                    let plain = zstd::decode_all(Cursor::new(&encoded.bytes)).expect("zstd");
                    black_box(plain);
                }
            });
            println!(
                "| {level} | {size} | {:.1} | {make:.2} | {read:.2} |",
                bytes as f64 / records as f64
            );
        }
    }
}

/// Processor time for one of `records`.
fn micros(records: usize, mut work: impl FnMut()) -> f64 {
    let cpu = || cpu_of(id()).expect("/proc");
    let (before, start, mut rounds) = (cpu(), Instant::now(), 0);
    while start.elapsed() < MEASURED {
        work();
        rounds += 1;
    }
    (cpu() - before).as_secs_f64() * 1e6 / (rounds * records) as f64
}

fn draft(lines: &[String]) -> (Draft, Vec<u8>) {
    let mut ndjson = Vec::new();
    let mut stored = Vec::new();
    for (number, batch) in lines.chunks(RECORDS_IN_BATCH).enumerate() {
        for line in batch {
            ndjson.extend_from_slice(line.as_bytes());
            ndjson.push(b'\n');
        }
        stored.push(StoredRun {
            first: Offset((number * RECORDS_IN_BATCH) as i64),
            count: batch.len() as u32,
            received_ms: 1_700_000_000_000 + number as i64,
            batch: Some(BatchId(fastrand::u128(..).to_be_bytes())),
            first_sequence: 0,
        });
    }
    let draft = Draft {
        first: Offset(0),
        next: Offset(lines.len() as i64),
        previous: None,
        writer: [1; 16],
        fates: vec![FateRun {
            fate: Fate::Stored,
            count: lines.len() as u64,
        }],
        stored,
        totals_before: Totals::default(),
        last: None,
    };
    (draft, ndjson)
}
