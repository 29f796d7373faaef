//! `docs/store.md` says what the code does: its examples are decoded, its tests exist.
//! `UPDATE_DOCS=1` writes the examples anew.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use super::{super::chain::write_start, *};
use crate::envelope::Envelope;

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

/// The example on the page; written anew first where that is asked for.
fn example(name: &str, is: &str) -> String {
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
    draft.encode(LINES.as_bytes(), crate::store::segment::LEVEL)
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
    assert_eq!((trailer, hash), (segment.trailer, segment.hash));
    assert_eq!(lines, LINES.as_bytes());
}

#[test]
fn the_start_on_the_page_is_what_is_written_and_read() {
    let start = Start {
        format: 1,
        cluster_id: "MkU3OEVBNTcwNTJENDM2Qg".to_owned(),
        topic_id: "0123456789abcdef0123456789abcdef".to_owned(),
        first_offset: Offset(0),
    };
    let written = String::from_utf8(write_start(&start)).unwrap();
    let found = example("start", &written);
    let dir = tempfile::tempdir().unwrap();
    let chain = Store::open(dir.path())
        .unwrap()
        .chain("logs", PartitionId(0));
    fs::create_dir_all(chain.dir()).unwrap();
    fs::write(chain.start_path(), found).unwrap();
    assert_eq!(chain.start().unwrap(), Some(start));
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
}

#[test]
fn every_test_that_the_page_names_exists() {
    let text = fs::read_to_string(page()).unwrap();
    let rows = text.lines().filter_map(|line| {
        let last = line.strip_suffix(" |")?.rsplit_once("| `")?.1;
        last.strip_suffix('`')
    });
    let named: Vec<&str> = rows.filter(|name| name.contains('_')).collect();
    assert!(named.len() > 15, "{named:?}");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut sources = String::new();
    for dir in ["crates", "tests/tests"] {
        read_all(&root.join(dir), &mut sources);
    }
    for name in named {
        assert!(sources.contains(&format!("fn {name}(")), "no test {name}");
    }
}

fn read_all(dir: &Path, into: &mut String) {
    for item in fs::read_dir(dir).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            read_all(&path, into);
        } else if path.extension().is_some_and(|end| end == "rs") {
            into.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}
