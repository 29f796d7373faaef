//! What released versions wrote is read: the store and the consumer DLQ under tests/fixtures. And
//! what a version of tomorrow writes is refused by name.

mod dead_letters;

use std::{fs, path::Path};

use kafka_consumer_writer::{command::verify::Verify, load::load};
use pipeline_core::{
    BatchId, Offset, PartitionId,
    store::{
        Chain, Draft, Fate, FateRun, LastMessage, Published, SnapshotBatch, SnapshotHead,
        SnapshotReader, SnapshotWriter, Start, Store, StoredRun, Totals, read_segment,
    },
};
use testbed::fixtures;

const STORE_ID: &str = "0123456789abcdef0123456789abcdef";
const TOPIC_ID: &str = "fedcba9876543210fedcba9876543210";
const WINDOW: usize = 10;

fn chain(root: &Path) -> Chain {
    Store::open(root).unwrap().chain("logs", PartitionId(3))
}

fn line(number: u32) -> String {
    format!(
        "{{\"timestamp\":\"2026-01-31T12:00:{number:02}Z\",\"path\":\"/{number}\",\"userAgent\":\"-\"}}\n"
    )
}

fn run(first: i64, count: u32, batch: Option<u8>, first_sequence: u32) -> StoredRun {
    StoredRun {
        first: Offset(first),
        count,
        received_ms: 1_769_860_800_000 + first,
        batch: batch.map(|id| BatchId([id; 16])),
        first_sequence,
    }
}

fn start() -> Start {
    Start {
        format: 1,
        cluster_id: "MkU3OEVBNTcwNTJENDM2Qg".to_owned(),
        topic_id: TOPIC_ID.to_owned(),
        first_offset: Offset(1000),
    }
}

/// A chain of three segments, the first of them removed behind a watermark, with its window.
fn make_store(root: &Path) {
    fs::write(
        root.join("OWNER"),
        format!("{{\"format\":1,\"id\":\"{STORE_ID}\"}}"),
    )
    .unwrap();
    let chain = chain(root);
    chain.put_start(&start()).unwrap();
    let fates = |all: &[(Fate, u64)]| {
        let runs = all.iter();
        runs.map(|(fate, count)| FateRun {
            fate: *fate,
            count: *count,
        })
        .collect::<Vec<_>>()
    };
    let segments = [
        (
            1000,
            fates(&[(Fate::Stored, 4)]),
            vec![run(1000, 4, Some(0xaa), 0)],
        ),
        (
            1004,
            fates(&[
                (Fate::Stored, 2),
                (Fate::Duplicate, 1),
                (Fate::Poison, 1),
                (Fate::Undecidable, 1),
                (Fate::Skipped, 1),
                (Fate::Lost, 10),
                (Fate::Stored, 1),
            ]),
            vec![run(1004, 2, Some(0xaa), 4), run(1020, 1, None, 0)],
        ),
        (
            1021,
            fates(&[(Fate::Stored, 3)]),
            vec![run(1021, 3, Some(0xbb), 7)],
        ),
    ];
    let mut end = chain.walk(None, &mut |_| true).unwrap().unwrap();
    for (first, fates, stored) in segments {
        assert_eq!(end.next, Offset(first));
        let length: u64 = fates.iter().map(|run| run.count).sum();
        let records: u32 = stored.iter().map(|run| run.count).sum();
        let next = Offset(first + i64::try_from(length).unwrap());
        let draft = Draft {
            first: end.next,
            next,
            previous: end.last,
            writer: [0x22; 16],
            fates,
            stored,
            totals_before: end.totals,
            last: Some(LastMessage {
                offset: Offset(next.0 - 1),
                hash: [0x44; 16],
            }),
        };
        let lines: String = (0..records).map(line).collect();
        let segment = draft.encode(lines.as_bytes(), 1);
        assert_eq!(chain.publish(&segment).unwrap(), Published::Linked);
        end = chain.walk(None, &mut |_| true).unwrap().unwrap();
        if first != 1004 {
            continue;
        }
        let head = SnapshotHead {
            end: end.clone(),
            names: vec![Offset(1000), Offset(1004)],
            window_start: Offset(990),
        };
        let mut window = SnapshotWriter::new(&head, 1);
        let batch = SnapshotBatch {
            batch: BatchId([0xaa; 16]),
            received_ms: 1_769_860_801_000,
            greatest: Offset(1005),
        };
        window.batch(&batch, &[(0, 5)]);
        assert!(chain.put_snapshot(&window.finish()).unwrap());
    }
    chain.put_watermark(Offset(1004)).unwrap();
    fs::remove_file(chain.segment_path(Offset(1000))).unwrap();
}

#[test]
fn a_store_of_each_version_is_read_whole_and_gone_on_from() {
    let dir = tempfile::tempdir().unwrap();
    fixtures::copy_to(dir.path(), "store", make_store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.id().0, STORE_ID);
    let chain = chain(dir.path());
    assert_eq!(chain.start().unwrap(), Some(start()));
    assert_eq!(chain.watermark().unwrap(), Some(Offset(1004)));

    // From the snapshot of the window, and the trailer behind it.
    let loaded = load(&chain, WINDOW).unwrap().unwrap();
    assert_eq!((loaded.start, loaded.behind), (start(), 1));
    assert_eq!(loaded.names, [Offset(1004), Offset(1021)]);
    let memory = loaded.memory;
    assert_eq!(memory.end.next, Offset(1024));
    let totals = Totals {
        stored: 10,
        duplicate: 1,
        poison: 1,
        undecidable: 1,
        skipped: 1,
        lost: 10,
    };
    assert_eq!(memory.end.totals, totals);
    assert_eq!(
        (memory.window.batches(), memory.window.start()),
        (2, Offset(990))
    );
    assert_eq!(memory.window.oldest_received_ms(), Some(1_769_860_801_000));

    let (trailer, _, lines) = read_segment(&chain.segment_path(Offset(1004))).unwrap();
    let expected: String = (0..3).map(line).collect();
    assert_eq!(String::from_utf8(lines).unwrap(), expected);
    assert_eq!(
        trailer.stored,
        [run(1004, 2, Some(0xaa), 4), run(1020, 1, None, 0)]
    );
    let fates = trailer.fates.iter().map(|run| (run.fate, run.count));
    let fates: Vec<_> = fates.collect();
    assert_eq!((fates.len(), fates[5]), (7, (Fate::Lost, 10)));

    // All of it is proved; and the next segment goes behind it.
    let mut out = Vec::new();
    let asked = Verify::default();
    let code = asked.prove(dir.path(), None, &mut out).unwrap();
    assert_eq!(code, 0, "{}", String::from_utf8_lossy(&out));
    let next = Draft {
        first: Offset(1024),
        next: Offset(1025),
        previous: memory.end.last,
        writer: [0x33; 16],
        fates: vec![FateRun {
            fate: Fate::Skipped,
            count: 1,
        }],
        stored: Vec::new(),
        totals_before: totals,
        last: memory.end.last_message,
    };
    assert_eq!(
        chain.publish(&next.encode(b"", 1)).unwrap(),
        Published::Linked
    );
    let end = load(&chain, WINDOW).unwrap().unwrap().memory.end;
    assert_eq!(end.next, Offset(1025));
}

#[test]
fn a_store_of_tomorrow_is_refused_by_the_version_that_it_names() {
    let dir = tempfile::tempdir().unwrap();
    fixtures::copy_to(dir.path(), "store", make_store);
    let chain = chain(dir.path());
    let changed = |path: &Path, from: &str, to: &str| {
        let bytes = fs::read(path).unwrap();
        let at = bytes
            .windows(from.len())
            .rposition(|part| part == from.as_bytes())
            .unwrap();
        let mut other = bytes.clone();
        other[at..at + from.len()].copy_from_slice(to.as_bytes());
        fs::write(path, &other).unwrap();
        bytes
    };
    let owner = dir.path().join("OWNER");
    let whole = changed(&owner, "\"format\":1", "\"format\":2");
    let error = Store::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("format 2, known is 1"), "{error}");
    fs::write(&owner, whole).unwrap();

    let whole = changed(&chain.start_path(), "\"format\":1", "\"format\":2");
    let error = load(&chain, WINDOW).unwrap_err().to_string();
    assert!(error.contains("format 2, known is 1"), "{error}");
    fs::write(chain.start_path(), whole).unwrap();

    let snapshot = chain.snapshots().unwrap().remove(0).path;
    changed(&snapshot, "SLWINDOW\u{1}", "SLWINDOW\u{2}");
    let bytes = fs::read(&snapshot).unwrap();
    let error = SnapshotReader::open(&bytes).err().unwrap().to_string();
    assert_eq!(error, "snapshot has version 2, known is 1");
    // Of a segment: `an_unknown_version_is_refused_by_name` in pipeline-core.
}
