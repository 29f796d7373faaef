//! `docs/store.md` says what the code does: each example on it is what the product writes, is
//! decoded, and encoded again to the same bytes; its tests exist. `UPDATE_DOCS=1` writes the
//! examples anew.

mod dead_letters;
mod named;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use kafka_consumer_writer::takeover::commit_metadata;
use pipeline_core::{
    BatchId, Offset, PartitionId,
    envelope::Envelope,
    store::{
        Chain, ChainEnd, Draft, Encoded, Fate, FateRun, LastMessage, Link, SegmentHash,
        SnapshotBatch, SnapshotHead, SnapshotReader, SnapshotWriter, Start, Store, StoreId,
        StoredRun, Totals, read_segment,
    },
};

const TOPIC_ID: &str = "0123456789abcdef0123456789abcdef";
const LINES: &str = "{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n{\"n\":4}\n";

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/store.md")
}

/// Bytes with what they mean, a line each.
fn described(bytes: &[u8], fields: &[(usize, &str)]) -> String {
    let mut at = 0;
    let mut text = String::new();
    for (len, what) in fields {
        let hex: Vec<String> = bytes[at..at + len]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        at += len;
        // Long ones go over several lines; only the last of them says what they are.
        let lines: Vec<_> = hex.chunks(16).collect();
        for (number, line) in lines.iter().enumerate() {
            let what = if number + 1 == lines.len() { what } else { &"" };
            let line = format!("{:47}  {what}", line.join(" "));
            writeln!(text, "{}", line.trim_end()).unwrap();
        }
    }
    assert_eq!(at, bytes.len(), "each byte is described");
    text
}

/// The bytes in the first column of an example.
fn bytes_of(example: &str) -> Vec<u8> {
    let hex = |line: &str| -> Vec<u8> {
        let column = line.get(..47).unwrap_or(line).split_whitespace();
        column
            .map(|byte| u8::from_str_radix(byte, 16).unwrap())
            .collect()
    };
    example.lines().flat_map(hex).collect()
}

/// Tests run side by side, and each writes the whole page.
static PAGE: Mutex<()> = Mutex::new(());

/// The example on the page; written anew first where that is asked for.
fn example(name: &str, is: &str) -> String {
    let _alone = PAGE.lock().unwrap_or_else(PoisonError::into_inner);
    let text = fs::read_to_string(page()).unwrap();
    let mark = format!("<!-- example: {name} -->\n```\n");
    let (before, rest) = text.split_once(&mark).expect("the page has its mark");
    let (found, after) = rest.split_once("```").unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(page(), format!("{before}{mark}{is}```{after}")).unwrap();
        return is.to_owned();
    }
    assert_eq!(
        found, is,
        "docs/store.md is not what the code writes; UPDATE_DOCS=1 mends it"
    );
    found.to_owned()
}

fn segment() -> Encoded {
    let run = |first, count, received_ms, batch, first_sequence| StoredRun {
        first: Offset(first),
        count,
        received_ms,
        batch,
        first_sequence,
    };
    let batch = BatchId([0x33; 16]);
    let draft = Draft {
        first: Offset(1200),
        next: Offset(1206),
        previous: Some(Link {
            first: Offset(1100),
            hash: SegmentHash([0x11; 32]),
        }),
        writer: [0x22; 16],
        fates: [
            (Fate::Stored, 3),
            (Fate::Duplicate, 1),
            (Fate::Stored, 1),
            (Fate::Skipped, 1),
        ]
        .map(|(fate, count)| FateRun { fate, count })
        .to_vec(),
        stored: vec![
            run(1200, 3, 1_700_000_000_123, Some(batch), 7),
            run(1204, 1, 1_700_000_000_200, None, 0),
        ],
        totals_before: Totals {
            stored: 1190,
            duplicate: 10,
            ..Totals::default()
        },
        last: Some(LastMessage {
            offset: Offset(1204),
            hash: [0x44; 16],
        }),
    };
    draft.encode(LINES.as_bytes(), 1)
}

#[test]
fn the_segment_on_the_page_is_what_is_written_and_read() {
    let segment = segment();
    let trailer_len = segment.bytes.len() - segment.trailer.data_len as usize - 24;
    let fields = [
        (
            segment.trailer.data_len as usize,
            "zstd: four lines of NDJSON",
        ),
        (4, "a skippable frame"),
        (4, "of so many bytes"),
        (4, "SLTR"),
        (2, "version 1"),
        (2, "first: 1200"),
        (1, "next: 6 more"),
        (1, "there is a previous segment"),
        (1, "which begins 100 before"),
        (32, "and has this hash"),
        (16, "writer"),
        (1, "length of the data"),
        (32, "its SHA-256"),
        (1, "length of the NDJSON: 32"),
        (2, "stored: 1194"),
        (1, "duplicate: 11"),
        (1, "poison"),
        (1, "undecidable"),
        (1, "skipped: 1"),
        (1, "lost"),
        (1, "there is a last message"),
        (2, "at 1204"),
        (16, "with this hash"),
        (1, "4 runs of fates"),
        (1, "3 stored"),
        (1, "1 duplicate"),
        (1, "1 stored"),
        (1, "1 skipped"),
        (1, "2 runs of stored records"),
        (1, "the first begins at once"),
        (1, "with 3 records"),
        (6, "received at 1700000000123"),
        (1, "of a new batch"),
        (16, "with this id"),
        (1, "from sequence 7 on"),
        (1, "the second begins 1 behind it"),
        (1, "with 1 record"),
        (2, "received 77 ms later"),
        (1, "of no batch"),
        (4, "length of the trailer"),
        (4, "its CRC-32C"),
        (8, "SLUICEND"),
    ];
    assert!(trailer_len > 128);
    let found = bytes_of(&example("segment", &described(&segment.bytes, &fields)));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("segment");
    fs::write(&path, &found).unwrap();
    let (trailer, hash, lines) = read_segment(&path).unwrap();
    assert_eq!((&trailer, hash), (&segment.trailer, segment.hash));
    assert_eq!(lines, LINES.as_bytes());
    let again = Draft {
        first: trailer.first,
        next: trailer.next,
        previous: trailer.previous,
        writer: trailer.writer,
        totals_before: trailer.totals_before(),
        last: trailer.last,
        fates: trailer.fates,
        stored: trailer.stored,
    };
    assert_eq!(again.encode(&lines, 1).bytes, found);
}

/// The chain of an empty store, with its directory.
fn chain(root: &Path) -> Chain {
    let store = Store::open(root).unwrap();
    let chain = store.chain("logs", PartitionId(3));
    fs::create_dir_all(chain.dir()).unwrap();
    chain
}

#[test]
fn the_start_on_the_page_is_what_is_written_and_read() {
    let start = Start {
        format: 1,
        cluster_id: "MkU3OEVBNTcwNTJENDM2Qg".to_owned(),
        topic_id: TOPIC_ID.to_owned(),
        first_offset: Offset(0),
    };
    let dir = tempfile::tempdir().unwrap();
    let written = chain(&dir.path().join("written"));
    written.put_start(&start).unwrap();
    let found = example("start", &fs::read_to_string(written.start_path()).unwrap());
    let read = chain(&dir.path().join("read"));
    fs::write(read.start_path(), &found).unwrap();
    assert_eq!(read.start().unwrap(), Some(start));
    // JSON is JSON, but a field that nobody knows is of a version that nobody knows.
    for (from, to) in [
        (",", " ,"),
        ("\"format\":1", "\"format\":2"),
        ("{", "{\"x\":1,"),
    ] {
        fs::write(read.start_path(), found.replacen(from, to, 1)).unwrap();
        assert_eq!(read.start().is_ok(), to == " ,", "{to}");
    }
}

#[test]
fn owner_watermark_and_commit_on_the_page_are_what_is_written_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let made = Store::open(dir.path()).unwrap();
    let id = StoreId("0123456789abcdef".repeat(2));
    let owner = fs::read_to_string(dir.path().join("OWNER")).unwrap();
    let owner = owner.replace(&made.id().0, &id.0) + "\n";
    let found = example("owner", &owner);
    fs::write(dir.path().join("OWNER"), found.trim_end()).unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(*store.id(), id);

    let found = example("commit", &format!("{}\n", commit_metadata(&id)));
    assert!(found.contains(&id.0));

    let chain = chain(dir.path());
    chain.put_watermark(Offset(1200)).unwrap();
    let items = fs::read_dir(chain.dir()).unwrap();
    let names = items.map(|item| item.unwrap().file_name().into_string().unwrap());
    let found = example(
        "watermark",
        &names.map(|name| name + "\n").collect::<String>(),
    );
    let path = chain.dir().join(found.trim_end());
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    assert_eq!(chain.watermark().unwrap(), Some(Offset(1200)));
}

#[test]
fn the_snapshot_on_the_page_is_what_is_written_and_read() {
    let segment = segment();
    let head = SnapshotHead {
        end: ChainEnd {
            next: segment.trailer.next,
            last: Some(segment.link()),
            totals: segment.trailer.totals,
            last_message: segment.trailer.last,
        },
        names: vec![Offset(1100), Offset(1200)],
        window_start: Offset(1060),
    };
    let batches = [
        (0x55, 1_700_000_000_000, 1199, vec![(0, 98)]),
        (0x33, 1_700_000_000_123, 1202, vec![(3, 3), (7, 9)]),
    ];
    let mut writer = SnapshotWriter::new(&head, batches.len());
    for (id, received_ms, greatest, runs) in &batches {
        let batch = SnapshotBatch {
            batch: BatchId([*id; 16]),
            received_ms: *received_ms,
            greatest: Offset(*greatest),
        };
        writer.batch(&batch, runs);
    }
    let fields = [
        (8, "SLWINDOW"),
        (2, "version 1"),
        (2, "it covers all below 1206"),
        (2, "the last segment is 1200"),
        (32, "and has this hash"),
        (2, "stored: 1194"),
        (1, "duplicate: 11"),
        (1, "poison"),
        (1, "undecidable"),
        (1, "skipped: 1"),
        (1, "lost"),
        (1, "there is a last message"),
        (2, "at 1204"),
        (16, "with this hash"),
        (1, "2 segments are there"),
        (2, "1100"),
        (1, "and 1200, 100 behind it"),
        (2, "the window begins at 1060"),
        (1, "2 batches"),
        (16, "the oldest one's id"),
        (6, "received at 1700000000000"),
        (2, "its greatest stored offset: 1199"),
        (1, "1 run of sequences"),
        (1, "from 0 on"),
        (1, "98 more"),
        (16, "the next one's id"),
        (2, "received 123 ms later"),
        (1, "its greatest stored offset: 3 more"),
        (1, "2 runs"),
        (1, "the first at 3"),
        (1, "alone"),
        (1, "the second 3 behind its end: 7"),
        (1, "2 more"),
        (4, "CRC-32C"),
    ];
    let written = writer.finish().bytes;
    let found = bytes_of(&example("snapshot", &described(&written, &fields)));
    let mut reader = SnapshotReader::open(&found).unwrap();
    assert_eq!(reader.head, head);
    let mut again = SnapshotWriter::new(&reader.head, reader.left());
    while let Some((batch, runs)) = reader.batch().unwrap() {
        again.batch(&batch, runs);
    }
    assert_eq!(again.finish().bytes, found);
}

#[test]
fn the_header_on_the_page_is_what_is_written_and_read() {
    let envelope = Envelope {
        batch: BatchId([0x33; 16]),
        sequence: 7,
        received_ms: 1_700_000_000_123,
        since: Offset(1100),
    };
    let fields = [
        (1, "version 1"),
        (16, "batch id"),
        (4, "sequence: 7"),
        (8, "time of first receipt: 1700000000123 ms since 1970"),
        (8, "since: 1100"),
    ];
    let found = bytes_of(&example("header", &described(&envelope.encode(), &fields)));
    assert_eq!(Envelope::decode(&found), Ok(envelope));
    assert_eq!(envelope.encode(), *found);
}
