//! What released versions wrote is read: the producer DLQ and the rejected records under
//! tests/fixtures. That an entry or a file of tomorrow is refused by name, `dlq` and
//! pipeline-core's own tests say.

use std::{fs, path::Path, sync::Arc};

use ingest_gateway::{
    decode::{Media, RecordBatch},
    dlq::{
        entry::{DATA_KIND, Entry, Head, Reason},
        mark::{DoneMark, MARKS_KIND, Mark, Sealed, SentMark},
        names::{data_path, marks_paths},
    },
    rejects::{
        entry::{Part, Refused},
        files::Files,
    },
};
use pipeline_core::{BatchId, Offset, PartitionId, dlq::FrameWriter};
use serde_json::Value;

use crate::place::Place;

fn line(name: &str) -> String {
    format!("{{\"timestamp\":\"2026-01-31T12:00:00Z\",\"path\":\"/{name}\",\"userAgent\":\"-\"}}")
}

fn entry(id: u8, names: [&str; 2], head: Head) -> Entry {
    let mut records = RecordBatch::default();
    for (at, name) in names.iter().enumerate() {
        records.lines.extend(line(name).as_bytes());
        records.ends.push(records.lines.len() as u32);
        // One between them was rejected.
        records.sequences.push(at as u32 * 2);
    }
    let batch = BatchId([id; 16]);
    let end = records.len();
    Entry {
        head: Head { batch, ..head },
        records: Arc::new(records),
        first: 0,
        end,
    }
}

fn head(reason: Reason) -> Head {
    Head {
        reason,
        may_have_been_sent: false,
        partition: None,
        since: None,
        batch: BatchId([0; 16]),
        received_ms: 1_769_860_800_000,
        stored_ms: 1_769_860_800_500,
        // Any: what has not been sent goes to the topic of that name, wherever it is.
        cluster_id: "".into(),
        topic: "logs".into(),
    }
}

/// A file that is done with but for two entries, and one that was written to at last.
fn make_dlq(dir: &Path) {
    let mut bytes = Vec::new();
    let mut positions = Vec::new();
    let mut first = FrameWriter::create(&data_path(dir, 1), DATA_KIND).unwrap();
    let sent = Head {
        may_have_been_sent: true,
        partition: Some(PartitionId(1)),
        since: Some(Offset(0)),
        ..head(Reason::Deadline)
    };
    for entry in [
        entry(1, ["done-a", "done-b"], head(Reason::KafkaAway)),
        entry(2, ["sent-a", "sent-b"], sent),
        entry(3, ["marked-a", "marked-b"], head(Reason::RetriesExhausted)),
    ] {
        entry.encode_into(&mut bytes);
        positions.push(first.append(&bytes).unwrap());
    }
    first.sync().unwrap();
    let marks = [
        Mark::Sent(vec![
            SentMark {
                position: positions[0],
                partition: PartitionId(0),
                since: Offset(0),
            },
            SentMark {
                position: positions[2],
                partition: PartitionId(0),
                since: Offset(0),
            },
        ]),
        Mark::Done(vec![DoneMark {
            position: positions[0],
            records: 2,
        }]),
        Mark::Sealed(Sealed {
            entries: 3,
            records: 6,
            bytes: fs::metadata(data_path(dir, 1)).unwrap().len(),
            oldest_ms: Some(1_769_860_800_000),
        }),
    ];
    for path in marks_paths(dir, 1, 4) {
        let mut copy = FrameWriter::create(&path, MARKS_KIND).unwrap();
        for mark in &marks {
            copy.append(&mark.encode()).unwrap();
        }
        copy.sync().unwrap();
    }
    let mut second = FrameWriter::create(&data_path(dir, 2), DATA_KIND).unwrap();
    entry(4, ["new-a", "new-b"], head(Reason::TopicUnknown)).encode_into(&mut bytes);
    second.append(&bytes).unwrap();
    second.sync().unwrap();
}

#[test]
fn a_producer_dlq_of_each_version_is_listed_and_what_is_left_of_it_is_sent_once() {
    let place = Place::new();
    place.configure("");
    testbed::fixtures::copy_to(&place.dlq_dir(), "producer-dlq", make_dlq);
    let listed = place.output(&["dlq", "list", "--json"]);
    assert!(listed.status.success(), "{listed:?}");
    let text = String::from_utf8(listed.stdout).unwrap();
    let rows: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (totals, rows) = rows.split_last().unwrap();
    assert_eq!(totals["totals"]["damage"], serde_json::json!([]), "{text}");
    let of = |field: &str| {
        rows.iter()
            .map(|row| row[field].clone())
            .collect::<Vec<_>>()
    };
    let ids = [2, 3, 4].map(|id: u8| Value::from(format!("{id:02x}").repeat(16)));
    assert_eq!(of("batchId"), ids);
    let reasons = ["deadline", "retries_exhausted", "topic_unknown"];
    assert_eq!(of("reason"), reasons.map(Value::from));
    assert_eq!(rows[0]["received"], "2026-01-31T12:00:00.000Z", "{text}");

    let replayed = place.output(&["dlq", "replay"]);
    assert!(replayed.status.success(), "{replayed:?}");
    let mut stored: Vec<_> = place
        .stored()
        .into_iter()
        .map(|it| {
            let envelope = it.envelope;
            assert_eq!(envelope.received_ms, 1_769_860_800_000);
            (
                envelope.batch.0[0],
                envelope.sequence,
                it.partition.0,
                it.value,
            )
        })
        .collect();
    stored.sort();
    let kept = [
        (2, 0, Some(1), "sent-a"),
        (2, 2, Some(1), "sent-b"),
        (3, 0, Some(0), "marked-a"),
        (3, 2, Some(0), "marked-b"),
        (4, 0, None, "new-a"),
        (4, 2, None, "new-b"),
    ];
    assert_eq!(stored.len(), kept.len(), "{stored:?}");
    for (found, (batch, sequence, partition, name)) in stored.iter().zip(kept) {
        assert_eq!(
            (found.0, found.1, &*found.3),
            (batch, sequence, &*line(name))
        );
        // Whoever may have been sent goes where it went.
        assert!(partition.is_none_or(|it| it == found.2), "{found:?}");
    }
}

fn make_rejects(dir: &Path) {
    let part = |index, code, raw: &[u8]| Part {
        index,
        code,
        field: index.map(|_| "timestamp".into()),
        message: "timestamp: found nothing".to_owned(),
        raw: raw.to_vec(),
    };
    let records = Refused {
        received_ms: 1_769_860_800_000,
        batch: Some(BatchId([5; 16])),
        client: "shop".to_owned(),
        site: Some("shop.example".to_owned()),
        media: Media::Ndjson,
        rejected: Some(2),
        parts: vec![
            part(Some(17), "missing", b"{\"path\":\"/\"}"),
            part(Some(19), "not_utf8", b"{\xff}"),
        ],
    };
    let body = Refused {
        batch: None,
        rejected: None,
        media: Media::Json,
        parts: vec![part(None, "unreadable_body", &[b'['; 5000])],
        ..records.clone()
    };
    let mut lines = Vec::new();
    records.append_lines(&mut lines);
    body.append_lines(&mut lines);
    let mut files = Files::open(dir, 1 << 20).unwrap();
    files.append(&lines).unwrap();
}

#[test]
fn rejected_records_of_each_version_are_shown() {
    let place = Place::new();
    place.configure("ingestion:\n  rejectsDir: rejects\n");
    let dir = place.dir().join("data/rejects");
    testbed::fixtures::copy_to(&dir, "rejects", make_rejects);
    let shown = place.output(&["rejects", "show", "--json"]);
    assert!(shown.status.success(), "{shown:?}");
    let text = String::from_utf8(shown.stdout).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3, "{text}");
    for (line, code, raw) in [
        (&lines[0], "missing", "{\"path\":\"/\"}"),
        (&lines[2], "unreadable_body", &*"[".repeat(4096)),
    ] {
        assert_eq!((&line["code"], &line["raw"]), (&code.into(), &raw.into()));
        assert_eq!(line["time"], "2026-01-31T12:00:00.000Z");
        assert_eq!(
            (&line["client"], &line["site"]),
            (&"shop".into(), &"shop.example".into())
        );
    }
    assert_eq!(
        (&lines[0]["index"], &lines[0]["field"]),
        (&17.into(), &"timestamp".into())
    );
    assert_eq!(lines[1]["rawBase64"], "e/99");
    assert_eq!(lines[2]["rawTruncated"], true);
}
