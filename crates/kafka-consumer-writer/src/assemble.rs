//! From a batch of messages to the draft of one segment: what becomes of every offset.
//!
//! Each value is checked by the gateway's own record rules and copied once, straight into the
//! segment's NDJSON. Does no I/O and changes nothing: the window is only looked at.

use kafka_link::{BATCH_MEMORY_MAX, HeaderSlot, Message, MessageBlock};
use pipeline_core::{
    BatchId, Offset,
    envelope::{Envelope, HEADER_NAME},
    record::{self, Rules},
    store::{Draft, Fate, FateRun, LastMessage, StoredRun, message_hash},
};

use crate::{
    batcher::{Batch, Content},
    dead_letters::{Entry, EntryKind},
    partition::Memory,
    window::{Decision, Pending},
};

/// A segment before it is compressed, and what must be durable elsewhere before it is linked.
#[derive(Debug)]
pub struct Assembled<'a> {
    pub draft: Draft,
    pub ndjson: Vec<u8>,
    /// Poison and undecidable messages, in order of offset.
    pub aside: Vec<Entry<'a>>,
}

/// Gives every offset of `batch` its fate. `ndjson` is an empty buffer to fill.
#[must_use]
pub fn assemble<'a>(
    batch: &'a Batch,
    memory: &Memory,
    rules: &Rules,
    writer: [u8; 16],
    ndjson: Vec<u8>,
) -> Assembled<'a> {
    let mut assembly = Assembly {
        memory,
        rules,
        pending: Pending::default(),
        cursor: batch.first,
        ndjson,
        fates: Vec::new(),
        stored: Vec::new(),
        aside: Vec::new(),
    };
    assembly
        .ndjson
        .reserve(usize::try_from(batch.bytes).unwrap_or(0));
    let mut last = None;
    for chunk in &batch.chunks {
        match &chunk.content {
            Content::Messages(block) => {
                for message in &block.messages {
                    assembly.take(block, message);
                }
                if let Some(message) = block.messages.last() {
                    last = Some((block, message));
                }
            }
            Content::Lost => assembly.fill(chunk.next, Fate::Lost),
            Content::Skipped => {}
        }
        assembly.fill(chunk.next, Fate::Skipped);
    }
    assert_eq!(
        assembly.cursor, batch.next,
        "the chunks cover their batch exactly"
    );
    let last = last.map_or(memory.end.last_message, |(block, message)| {
        Some(LastMessage {
            offset: message.offset,
            hash: message_hash(
                message.timestamp_ms,
                block.value(message),
                block.header(message),
            ),
        })
    });
    Assembled {
        draft: Draft {
            first: batch.first,
            next: batch.next,
            previous: memory.end.last,
            writer,
            fates: assembly.fates,
            stored: assembly.stored,
            totals_before: memory.end.totals,
            last,
        },
        ndjson: assembly.ndjson,
        aside: assembly.aside,
    }
}

struct Assembly<'a, 'm> {
    memory: &'m Memory,
    rules: &'m Rules,
    pending: Pending,
    /// The next offset without a fate.
    cursor: Offset,
    ndjson: Vec<u8>,
    fates: Vec<FateRun>,
    stored: Vec<StoredRun>,
    aside: Vec<Entry<'a>>,
}

impl<'a> Assembly<'a, '_> {
    fn take(&mut self, block: &'a MessageBlock, message: &'a Message) {
        if message.offset < self.cursor {
            // From before the place the fetch asked for; its fate is in the chain already.
            return;
        }
        self.fill(message.offset, Fate::Skipped);
        let line_start = self.ndjson.len();
        let fate = match self.judge(block, message) {
            Ok(fate) => fate,
            Err((kind, detail)) => {
                self.ndjson.truncate(line_start);
                self.aside
                    .push(Entry::of(kind, block, message, detail.into()));
                match kind {
                    EntryKind::Undecidable => Fate::Undecidable,
                    _ => Fate::Poison,
                }
            }
        };
        self.give(fate, 1);
        if matches!(
            message.header,
            HeaderSlot::Oversized | HeaderSlot::Unreadable
        ) {
            self.fill(block.next, fate);
        }
    }

    /// The fate of one message, its line appended where it is stored. On an error the line may be
    /// there and has to go.
    fn judge(
        &mut self,
        block: &MessageBlock,
        message: &Message,
    ) -> Result<Fate, (EntryKind, String)> {
        let poison = |detail: String| (EntryKind::Poison, detail);
        let envelope = match message.header {
            HeaderSlot::Absent => None,
            HeaderSlot::Null => return Err(poison(format!("header `{HEADER_NAME}` is null"))),
            HeaderSlot::Repeated => {
                return Err(poison(format!(
                    "header `{HEADER_NAME}` stands more than once"
                )));
            }
            HeaderSlot::Oversized => {
                return Err(poison(format!(
                    "its batch, all offsets up to {}, decompresses to more than {} MiB: none of \
                     it is read, it stays in Kafka",
                    block.next,
                    BATCH_MEMORY_MAX >> 20
                )));
            }
            HeaderSlot::Unreadable => {
                return Err(poison(format!(
                    "its batch, all offsets up to {}, cannot be read though its checksum is \
                     right; the value is the batch as it stands in Kafka",
                    block.next
                )));
            }
            HeaderSlot::At { .. } => {
                let bytes = block.header(message).unwrap_or_default();
                Some(Envelope::decode(bytes).map_err(|error| poison(error.to_string()))?)
            }
        };
        // A duplicate needs no check: its first copy passed it.
        let decision = envelope.as_ref().map(|envelope| {
            self.memory.window.decide(
                &mut self.pending,
                envelope.batch,
                envelope.sequence,
                envelope.since,
            )
        });
        if decision == Some(Decision::Duplicate) {
            return Ok(Fate::Duplicate);
        }
        let value = block
            .value(message)
            .ok_or_else(|| poison("the value is null".to_owned()))?;
        record::append_json(value, self.rules, &mut self.ndjson)
            .map_err(|error| poison(format!("{}: {error}", error.code.as_str())))?;
        match envelope {
            Some(envelope) if decision == Some(Decision::Undecidable) => Err((
                EntryKind::Undecidable,
                format!(
                    "since {} is below the duplicate window's start {}",
                    envelope.since,
                    self.memory.window.start()
                ),
            )),
            _ if self.memory.aside.contains(&message.offset) => Err((
                EntryKind::Undecidable,
                "it was put aside when it was read before".to_owned(),
            )),
            Some(envelope) => {
                self.ndjson.push(b'\n');
                self.pending.store(envelope.sequence);
                self.store(
                    message.offset,
                    envelope.received_ms,
                    Some(envelope.batch),
                    envelope.sequence,
                );
                Ok(Fate::Stored)
            }
            None => {
                self.ndjson.push(b'\n');
                self.store(message.offset, message.timestamp_ms, None, 0);
                Ok(Fate::Stored)
            }
        }
    }

    fn store(&mut self, offset: Offset, received_ms: i64, batch: Option<BatchId>, sequence: u32) {
        if let Some(run) = self.stored.last_mut() {
            let follows = run.first.0 + i64::from(run.count) == offset.0
                && run.received_ms == received_ms
                && run.batch == batch
                && run.count < u32::MAX
                && (batch.is_none()
                    || u64::from(run.first_sequence) + u64::from(run.count) == u64::from(sequence));
            if follows {
                run.count += 1;
                return;
            }
        }
        self.stored.push(StoredRun {
            first: offset,
            count: 1,
            received_ms,
            batch,
            first_sequence: sequence,
        });
    }

    /// All offsets up to `next` that have no fate yet get this one.
    fn fill(&mut self, next: Offset, fate: Fate) {
        if let Ok(count) = u64::try_from(next.0 - self.cursor.0)
            && count > 0
        {
            self.give(fate, count);
        }
    }

    fn give(&mut self, fate: Fate, count: u64) {
        match self.fates.last_mut() {
            Some(run) if run.fate == fate => run.count += count,
            _ => self.fates.push(FateRun { fate, count }),
        }
        self.cursor = Offset(self.cursor.0 + i64::try_from(count).expect("offsets fit an i64"));
    }
}

#[cfg(test)]
mod tests;
