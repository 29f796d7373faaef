//! One client's batch on its way through the gateway, and what its client is told.

use std::{sync::Arc, time::Instant};

use pipeline_core::{BatchId, Offset, PartitionId};
use tokio::sync::oneshot;

use crate::{budget::Share, decode::RecordBatch};

/// The valid records of one body. From the channel on it belongs to the pipeline.
#[derive(Debug)]
pub struct Batch {
    pub id: BatchId,
    /// When it was first received, ms since 1970.
    pub received_ms: i64,
    pub records: Arc<RecordBatch>,
    pub progress: Progress,
    /// The last moment for an attempt on Kafka: what is left after it of `requestTimeout` belongs
    /// to the dead letter queue's fsync.
    pub deadline: Instant,
    /// Who waits; `None` with `kafka.async: true`, where the client has its answer already.
    pub answer: Option<Waiting>,
    /// Its share of the memory budget, since its body was read.
    pub memory: Share,
    /// Its share of the queue's bytes, since it is on the queue.
    pub held: Share,
}

/// The client of a batch.
#[derive(Debug)]
pub struct Waiting {
    pub to: oneshot::Sender<Answer>,
    /// Some of its records are in the dead letter queue already.
    pub partly_dlq: bool,
}

/// How far a batch has come on its way to Kafka; kept through the dead letter queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Given when it is first sent, and kept.
    pub partition: Option<PartitionId>,
    /// The partition's end known before its first send.
    pub since: Option<Offset>,
    /// A copy may be in the topic: partition and since must not change any more.
    pub may_have_been_sent: bool,
    /// The first so many records are in Kafka, or in a dead letter of their own.
    pub acknowledged: usize,
}

impl Progress {
    /// A *since* above the log's `end` is of a log that was cut, or of a topic that was deleted
    /// and made anew: copies in this log may lie anywhere, and only its beginning is a bound. A
    /// later end may be above it again, so the bound has to be kept. Where no copy can be, the end
    /// itself is one. Whether it was changed.
    pub fn bound_since(&mut self, end: Offset) -> bool {
        let above = self.since.is_some_and(|since| since > end);
        if above {
            self.since = Some(match self.may_have_been_sent {
                true => Offset(0),
                false => end,
            });
        }
        above
    }
}

impl Batch {
    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.ends.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.ends.is_empty()
    }

    /// The record at `at`, alone, with its sequence.
    #[must_use]
    pub fn alone(&self, at: usize) -> RecordBatch {
        let lines = start_of(&self.records, at)..self.records.ends[at] as usize;
        let len = u32::try_from(lines.len()).expect("ends are u32");
        RecordBatch {
            lines: self.records.lines[lines].to_vec(),
            ends: vec![len],
            sequences: vec![self.records.sequences[at]],
        }
    }

    /// Bytes of the records that are not in Kafka yet.
    #[must_use]
    pub fn bytes_left(&self) -> usize {
        self.records.lines.len() - start_of(&self.records, self.progress.acknowledged)
    }

    /// Tells who waits, if anyone does.
    pub fn answer(&mut self, answer: Answer) {
        if let Some(waiting) = self.answer.take() {
            // Its client has gone; the batch went on without it.
            let _ = waiting.to.send(answer);
        }
    }
}

/// Where the accepted records of a batch are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kept {
    Kafka,
    /// In the dead letter queue, all of it or what Kafka did not take.
    Dlq,
    /// On the channel only (`kafka.async: true`).
    Queue,
}

impl Kept {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Dlq => "dlq",
            Self::Queue => "queue",
        }
    }
}

/// What became of a batch that was on the channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    Kept(Kept),
    /// Neither Kafka nor the dead letter queue has it for sure.
    Refused {
        /// Some of it may be in Kafka, or on the disk.
        may_be_kept: bool,
        why: String,
    },
}

/// Where the line of record `at` begins; the end of all lines where there is no such record.
#[must_use]
pub fn start_of(records: &RecordBatch, at: usize) -> usize {
    match at {
        0 => 0,
        _ => records.ends[at - 1] as usize,
    }
}

/// Bytes of memory that a batch holds, for the budget.
#[must_use]
pub fn memory_of(records: &RecordBatch) -> u64 {
    const FIXED: usize = 512;
    let words = records.ends.capacity() + records.sequences.capacity();
    (FIXED + records.lines.capacity() + words * size_of::<u32>()) as u64
}

#[cfg(test)]
pub mod test {
    use std::time::Duration;

    use super::*;

    /// A batch of `lines` with a far deadline; the id starts with `id`.
    pub fn batch_of(id: u8, lines: &[&str]) -> Batch {
        let mut records = RecordBatch::default();
        for (index, line) in lines.iter().enumerate() {
            records.lines.extend_from_slice(line.as_bytes());
            records
                .ends
                .push(u32::try_from(records.lines.len()).unwrap());
            records.sequences.push(u32::try_from(index).unwrap());
        }
        let mut bytes = [0; 16];
        bytes[0] = id;
        Batch {
            id: BatchId(bytes),
            received_ms: 1_700_000_000_000,
            records: Arc::new(records),
            progress: Progress::default(),
            deadline: Instant::now() + Duration::from_secs(3600),
            answer: None,
            memory: Share::default(),
            held: Share::default(),
        }
    }
}
