//! The partition's log in Kafka: messages with identities, copies of them, gaps and strangers.

use bytes::Bytes;
use kafka_link::{HeaderSlot, Message, MessageBlock};
use pipeline_core::{BatchId, Offset, envelope::Envelope};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// A good record with an envelope.
    Record {
        batch: u8,
        sequence: u32,
        since: i64,
    },
    /// A good record without one.
    Foreign,
    Poison,
    /// Not there: a control record, or compacted.
    Gap,
}

#[derive(Debug, Default)]
pub struct Log {
    /// Index is offset.
    pub all: Vec<What>,
    /// Below it retention has removed everything.
    pub start: i64,
    /// Identities sent so far, with the since of their batch's first send.
    sent: Vec<(u8, u32, i64)>,
    batches: u8,
}

impl Log {
    pub fn end(&self) -> i64 {
        self.all.len() as i64
    }

    /// One more produce: a new batch, a copy of an old one, or something strange.
    pub fn grow(&mut self, random: &mut fastrand::Rng) {
        match random.u32(0..12) {
            0 => self.all.push(What::Gap),
            1 => self.all.push(What::Foreign),
            2 => self.all.push(What::Poison),
            3..=6 if !self.sent.is_empty() => {
                for _ in 0..random.usize(1..4) {
                    let (batch, sequence, since) = self.sent[random.usize(0..self.sent.len())];
                    self.all.push(What::Record {
                        batch,
                        sequence,
                        since,
                    });
                }
            }
            _ => {
                if self.batches == u8::MAX {
                    return;
                }
                self.batches += 1;
                let since = (self.end() - random.i64(0..4)).max(0);
                let mut sequence = 0;
                for _ in 0..random.usize(1..6) {
                    self.sent.push((self.batches, sequence, since));
                    self.all.push(What::Record {
                        batch: self.batches,
                        sequence,
                        since,
                    });
                    sequence += random.u32(1..3);
                }
            }
        }
    }

    /// What a fetch of up to `count` offsets from `from` gives.
    pub fn block(&self, from: i64, count: i64) -> MessageBlock {
        let next = (from + count).min(self.end());
        let mut bytes = Vec::new();
        let mut messages = Vec::new();
        for offset in from..next {
            let what = self.all[usize::try_from(offset).expect("offsets are not negative")];
            let header = match what {
                What::Gap => continue,
                What::Record {
                    batch,
                    sequence,
                    since,
                } => {
                    let envelope = Envelope {
                        batch: BatchId([batch; 16]),
                        sequence,
                        received_ms: 1_000 + i64::from(batch),
                        since: Offset(since),
                    };
                    let start = bytes.len() as u32;
                    bytes.extend_from_slice(&envelope.encode());
                    HeaderSlot::At { start, len: 37 }
                }
                What::Foreign | What::Poison => HeaderSlot::Absent,
            };
            let start = bytes.len() as u32;
            bytes.extend_from_slice(value(what, offset).as_bytes());
            messages.push(Message {
                offset: Offset(offset),
                timestamp_ms: 5_000 + offset,
                value: Some((start, bytes.len() as u32 - start)),
                header,
            });
        }
        MessageBlock {
            bytes: Bytes::from(bytes),
            messages,
            first: Offset(from),
            next: Offset(next),
        }
    }
}

/// Each identity has its own path, so that the stored lines can be told apart.
pub fn path(what: What, offset: i64) -> String {
    match what {
        What::Record {
            batch, sequence, ..
        } => format!("/b{batch}/{sequence}"),
        _ => format!("/o{offset}"),
    }
}

fn value(what: What, offset: i64) -> String {
    if what == What::Poison {
        return "{".to_owned();
    }
    let path = path(what, offset);
    format!(r#"{{"timestamp":"2026-01-02T03:04:05Z","path":"{path}","userAgent":"t"}}"#)
}
