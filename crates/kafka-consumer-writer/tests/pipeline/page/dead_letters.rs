//! The files of the consumer DLQ.

use std::{
    fs,
    path::{Path, PathBuf},
};

use kafka_consumer_writer::dead_letters::{
    Aside, DeadLetters, Entry, EntryHeader, EntryKind, FILE_KIND, Place,
    marks::{KIND as MARKS_KIND, Mark, Marks, MarksWriter},
    read_payload,
};
use pipeline_core::{
    Offset, PartitionId,
    dlq::{FrameWriter, read_frames},
};

use super::{TOPIC_ID, bytes_of, described, example};

fn place() -> Place {
    Place {
        topic: "logs".to_owned(),
        topic_id: TOPIC_ID.to_owned(),
        partition: PartitionId(3),
    }
}

/// The only file of a directory that begins so.
fn file(dir: &Path, prefix: &str) -> PathBuf {
    let items = fs::read_dir(dir).unwrap().map(|item| item.unwrap());
    let mut found = items.filter(|item| item.file_name().to_str().unwrap().starts_with(prefix));
    let path = found.next().unwrap().path();
    assert!(found.next().is_none());
    path
}

/// The payloads of a file, one behind the other.
fn payloads(path: &Path, kind: [u8; 4]) -> Vec<u8> {
    let mut all = Vec::new();
    let read = read_frames(path, kind, &mut |_, payload| all.extend_from_slice(payload));
    assert_eq!(read.unwrap().damaged, []);
    all
}

#[test]
fn the_dead_letters_on_the_page_are_what_is_written_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let entry = Entry {
        kind: EntryKind::Poison,
        offset: Offset(1203),
        timestamp_ms: 1_700_000_000_150,
        header: EntryHeader::Absent,
        value: Some(b"{}"),
        detail: "missing: path".into(),
    };
    let write = |name: &str, entries: &[Entry<'_>]| {
        let dir = dir.path().join(name);
        let queue = DeadLetters::open(&dir, 1 << 20, [0x22; 16]).unwrap();
        queue.keep(&place(), entries).unwrap();
        file(&dir, "records-2222222222222222-000000.dlq")
    };
    let written = write("written", std::slice::from_ref(&entry));
    let bytes = fs::read(&written).unwrap();
    let fields = [
        (8, "a skippable frame of 20 bytes"),
        (8, "sluicefr"),
        (4, "cdlq"),
        (4, "version 2"),
        (4, "CRC-32C of these 16 bytes"),
        (8, "a skippable frame of 16 bytes"),
        (4, "the marker of a frame"),
        (4, "length of its payload"),
        (4, "CRC-32C of seed and length"),
        (4, "CRC-32C of seed and payload"),
        (bytes.len() - 52, "the payload in zstd"),
    ];
    let found = bytes_of(&example("dlq-file", &described(&bytes, &fields)));
    let copy = dir.path().join("copy.dlq");
    fs::write(&copy, &found).unwrap();
    let payload = payloads(&copy, FILE_KIND);
    let fields = [
        (1, "version 1"),
        (2, "length of the topic"),
        (4, "logs"),
        (1, "length of its id"),
        (32, "its id, in ASCII"),
        (4, "partition 3"),
        (1, "poison"),
        (8, "offset 1203"),
        (8, "timestamp 1700000000150"),
        (1, "no header sluice"),
        (1, "there is a value"),
        (4, "of 2 bytes"),
        (2, "{}"),
        (4, "length of the reason"),
        (13, "missing: path"),
    ];
    let payload = bytes_of(&example("dlq-payload", &described(&payload, &fields)));
    let mut seen = 0;
    read_payload(&payload, &mut |read_place, read| {
        assert_eq!((read_place, read), (&place(), &entry));
        seen += 1;
    })
    .unwrap();
    assert_eq!(seen, 1);
    // What was read is written again as it was.
    let again = dir.path().join("again.dlq");
    FrameWriter::create(&again, FILE_KIND)
        .unwrap()
        .append(&payload)
        .unwrap();
    assert_eq!(fs::read(again).unwrap(), found);
}

#[test]
fn the_marks_on_the_page_are_what_is_written_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, marks: &[Mark]| {
        let dir = dir.path().join(name);
        fs::create_dir(&dir).unwrap();
        let mut writer = MarksWriter::new(&dir);
        for mark in marks {
            writer.append(&place(), &[(Offset(1203), *mark)]).unwrap();
        }
        payloads(&file(&dir, "marks-"), MARKS_KIND)
    };
    let sent = Mark::Sent {
        since: Offset(1210),
    };
    let done = Mark::Done {
        landed: Offset(1211),
    };
    let of_frame = |what: [&'static str; 3]| {
        [
            (1, "version 1"),
            (2, "length of the topic"),
            (4, "logs"),
            (1, "length of its id"),
            (32, "its id, in ASCII"),
            (4, "partition 3"),
            (1, what[0]),
            (8, what[1]),
            (8, what[2]),
        ]
    };
    let fields = [
        of_frame(["may have been sent", "offset 1203", "since 1210"]),
        of_frame(["Kafka has it", "offset 1203", "as offset 1211"]),
    ]
    .concat();
    let written = write("written", &[sent, done]);
    let found = bytes_of(&example("marks", &described(&written, &fields)));
    let read = dir.path().join("read");
    fs::create_dir(&read).unwrap();
    let mut frames = FrameWriter::create(&read.join("marks-0.dlq"), MARKS_KIND).unwrap();
    for frame in found.chunks(found.len() / 2) {
        frames.append(frame).unwrap();
    }
    let progress = Marks::read(&read).unwrap().of(&place(), Offset(1203));
    let since = progress.since.unwrap();
    let landed = progress.landed.unwrap();
    let again = [Mark::Sent { since }, Mark::Done { landed }];
    assert_eq!(write("again", &again), found);
}
