use std::{collections::BTreeSet, time::Instant};

use bytes::Bytes;
use pipeline_core::store::{ChainEnd, Totals};

use super::*;
use crate::{
    batcher::{Chunk, Trigger},
    budget::Budget,
    window::Window,
};

const GOOD: &str =
    r#"{"timestamp":"2026-01-02T03:04:05Z","path":"/a","userAgent":"t","status":200}"#;

fn memory() -> Memory {
    Memory {
        window: Window::new(10),
        end: ChainEnd {
            next: Offset(10),
            last: None,
            totals: Totals::default(),
            last_message: Some(LastMessage {
                offset: Offset(9),
                hash: [9; 16],
            }),
        },
        aside: BTreeSet::new(),
    }
}

/// Messages at these offsets, each with an envelope of this batch and sequence, or none.
fn block(next: i64, messages: &[(i64, Option<(u8, u32)>)]) -> MessageBlock {
    let mut bytes = Vec::new();
    let messages = messages
        .iter()
        .map(|(offset, identity)| {
            let header = identity.map_or(HeaderSlot::Absent, |(batch, sequence)| {
                let envelope = Envelope {
                    batch: BatchId([batch; 16]),
                    sequence,
                    received_ms: 77,
                    since: Offset(0),
                };
                let start = bytes.len() as u32;
                bytes.extend_from_slice(&envelope.encode());
                HeaderSlot::At { start, len: 37 }
            });
            let start = bytes.len() as u32;
            bytes.extend_from_slice(GOOD.as_bytes());
            Message {
                offset: Offset(*offset),
                timestamp_ms: 55,
                value: Some((start, GOOD.len() as u32)),
                header,
            }
        })
        .collect();
    MessageBlock {
        bytes: Bytes::from(bytes),
        messages,
        first: Offset(0),
        next: Offset(next),
    }
}

fn batch(next: i64, contents: Vec<(Content, i64)>) -> Batch {
    let budget = Budget::new(u64::MAX);
    let chunks = contents
        .into_iter()
        .map(|(content, next)| Chunk::gap(content, Offset(next), Instant::now(), &budget))
        .collect();
    Batch {
        first: Offset(10),
        next: Offset(next),
        chunks,
        records: 0,
        bytes: 0,
        trigger: Trigger::Size,
    }
}

fn rules() -> Rules {
    Rules {
        record_bytes_max: 1_000,
        default_site: None,
        bound_site: None,
    }
}

fn fates(draft: &Draft) -> Vec<(Fate, u64)> {
    draft
        .fates
        .iter()
        .map(|run| (run.fate, run.count))
        .collect()
}

#[test]
fn every_offset_gets_one_fate_and_what_belongs_together_is_one_run() {
    let messages = [
        // From before the place where the chain ends.
        (8, Some((1, 0))),
        (9, Some((1, 1))),
        (10, Some((1, 2))),
        (11, Some((1, 3))),
        (12, Some((1, 3))),
        (15, Some((1, 4))),
        (16, None),
        (17, None),
    ];
    let batch = batch(
        100,
        vec![
            (Content::Messages(block(20, &messages)), 20),
            (Content::Lost, 90),
            (Content::Skipped, 95),
            (Content::Messages(block(100, &[(97, Some((2, 0)))])), 100),
        ],
    );
    let made = assemble(&batch, &memory(), &rules(), [3; 16], Vec::new());
    assert_eq!(
        fates(&made.draft),
        [
            (Fate::Stored, 2),
            (Fate::Duplicate, 1),
            (Fate::Skipped, 2),
            (Fate::Stored, 3),
            (Fate::Skipped, 2),
            (Fate::Lost, 70),
            (Fate::Skipped, 7),
            (Fate::Stored, 1),
            (Fate::Skipped, 2),
        ]
    );
    let runs: Vec<_> = made
        .draft
        .stored
        .iter()
        .map(|run| (run.first.0, run.count, run.received_ms, run.first_sequence))
        .collect();
    assert_eq!(
        runs,
        [
            (10, 2, 77, 2),
            (15, 1, 77, 4),
            (16, 2, 55, 0),
            (97, 1, 77, 0)
        ]
    );
    assert!(made.aside.is_empty());
    assert_eq!(made.ndjson, format!("{GOOD}\n").repeat(6).into_bytes());
    assert_eq!(made.draft.last.expect("seen").offset, Offset(97));
    // It holds together as a segment.
    let encoded = made.draft.encode(&made.ndjson, 1);
    assert_eq!(encoded.trailer.totals.sum(), 90);
}

#[test]
fn a_batch_without_messages_keeps_the_last_message_of_the_chain() {
    let batch = batch(12, vec![(Content::Skipped, 12)]);
    let made = assemble(&batch, &memory(), &rules(), [3; 16], Vec::new());
    assert_eq!(made.draft.last, memory().end.last_message);
    assert_eq!(fates(&made.draft), [(Fate::Skipped, 2)]);
}

#[test]
fn what_was_put_aside_before_is_not_stored_when_it_is_read_again() {
    let messages = [
        (10, Some((1, 0))),
        (11, Some((1, 1))),
        (12, None),
        // A copy of the first.
        (13, Some((1, 0))),
        // And one of what was put aside: of that the window knows nothing.
        (14, Some((1, 1))),
    ];
    let batch = batch(15, vec![(Content::Messages(block(15, &messages)), 15)]);
    let memory = Memory {
        aside: [11, 12, 13].map(Offset).into(),
        ..memory()
    };
    let made = assemble(&batch, &memory, &rules(), [3; 16], Vec::new());
    assert_eq!(
        fates(&made.draft),
        [
            (Fate::Stored, 1),
            (Fate::Undecidable, 2),
            (Fate::Duplicate, 1),
            (Fate::Stored, 1),
        ]
    );
    let aside: Vec<_> = made.aside.iter().map(|it| (it.offset.0, it.kind)).collect();
    let undecidable = EntryKind::Undecidable;
    assert_eq!(aside, [(11, undecidable), (12, undecidable)]);
    assert_eq!(made.ndjson, format!("{GOOD}\n").repeat(2).into_bytes());
}
