//! The buffer of one partition: chunks of messages and the time in, batches to save out.
//!
//! A batch is due once `flush_size` records are there, or when its oldest chunk has waited for
//! `flush_interval`, or when the partition drains. It then takes all that has come, up to the
//! bound of one segment: while a save is slow the next batch grows, so that a slow disk costs
//! latency and not throughput. Pure: no I/O, no clock.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use kafka_link::MessageBlock;
use pipeline_core::Offset;

use crate::budget::{Budget, Reserved};

/// When to flush, and how much at most.
#[derive(Clone, Copy, Debug)]
pub struct FlushLimits {
    /// Records that make a batch due.
    pub flush_size: usize,
    /// Longest wait of a record for its batch.
    pub flush_interval: Duration,
    /// A batch takes no further chunk beyond these; one chunk alone may be larger.
    pub batch_records_max: usize,
    pub batch_bytes_max: u64,
}

/// What a stretch of the log came to.
#[derive(Debug)]
pub enum Content {
    Messages(MessageBlock),
    /// Control records or what compaction removed.
    Skipped,
    /// Retention was faster.
    Lost,
}

/// A stretch of the log, up to `next`.
#[derive(Debug)]
pub struct Chunk {
    pub content: Content,
    /// Exclusive.
    pub next: Offset,
    pub arrived: Instant,
    pub bytes: u64,
    /// Held for as long as the chunk is in memory.
    pub reserved: Reserved,
}

impl Chunk {
    /// A block as the fetch gave it.
    #[must_use]
    pub fn messages(block: MessageBlock, arrived: Instant, budget: &Budget) -> Self {
        let bytes = block.memory() as u64;
        Self {
            next: block.next,
            content: Content::Messages(block),
            arrived,
            bytes,
            reserved: budget.take(bytes),
        }
    }

    /// A stretch up to `next` without messages.
    #[must_use]
    pub fn gap(content: Content, next: Offset, arrived: Instant, budget: &Budget) -> Self {
        Self {
            content,
            next,
            arrived,
            bytes: 0,
            reserved: budget.take(0),
        }
    }

    #[must_use]
    pub fn records(&self) -> usize {
        match &self.content {
            Content::Messages(block) => block.messages.len(),
            Content::Skipped | Content::Lost => 0,
        }
    }

    /// The time in the log of its first message.
    fn oldest_ms(&self) -> Option<i64> {
        match &self.content {
            Content::Messages(block) => Some(block.messages.first()?.timestamp_ms),
            Content::Skipped | Content::Lost => None,
        }
    }
}

/// Why a batch was due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trigger {
    Size,
    Bytes,
    Interval,
    /// The group rebalances.
    Revoke,
    Shutdown,
}

impl Trigger {
    /// As a metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Bytes => "bytes",
            Self::Interval => "interval",
            Self::Revoke => "revoke",
            Self::Shutdown => "shutdown",
        }
    }
}

/// What goes into one segment: all of `[first, next)`.
#[derive(Debug)]
pub struct Batch {
    pub first: Offset,
    /// Exclusive.
    pub next: Offset,
    pub chunks: Vec<Chunk>,
    pub records: usize,
    pub bytes: u64,
    pub trigger: Trigger,
}

impl Batch {
    /// The time in the log of its first message.
    #[must_use]
    pub fn oldest_ms(&self) -> Option<i64> {
        self.chunks.iter().find_map(Chunk::oldest_ms)
    }
}

#[derive(Debug)]
pub struct Batcher {
    limits: FlushLimits,
    chunks: VecDeque<Chunk>,
    records: usize,
    bytes: u64,
    /// Where the first chunk begins.
    first: Offset,
    /// Where the last chunk ends.
    next: Offset,
    forced: Option<Trigger>,
}

impl Batcher {
    #[must_use]
    pub fn new(limits: FlushLimits, first: Offset) -> Self {
        Self {
            limits,
            chunks: VecDeque::new(),
            records: 0,
            bytes: 0,
            first,
            next: first,
            forced: None,
        }
    }

    /// Takes the chunk that follows what is here.
    pub fn push(&mut self, chunk: Chunk) {
        assert!(
            chunk.next > self.next,
            "a chunk goes on: {} after {}",
            chunk.next,
            self.next
        );
        self.next = chunk.next;
        self.records += chunk.records();
        self.bytes += chunk.bytes;
        self.chunks.push_back(chunk);
    }

    /// Where the next chunk begins.
    #[must_use]
    pub fn next(&self) -> Offset {
        self.next
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    #[must_use]
    pub fn records(&self) -> usize {
        self.records
    }

    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The time in the log of the first message that is here.
    #[must_use]
    pub fn oldest_ms(&self) -> Option<i64> {
        self.chunks.iter().find_map(Chunk::oldest_ms)
    }

    /// From now on all that is here is due.
    pub fn force(&mut self, why: Trigger) {
        self.forced = Some(why);
    }

    #[must_use]
    pub fn due(&self, now: Instant) -> Option<Trigger> {
        let oldest = self.chunks.front()?.arrived;
        if self.records >= self.limits.flush_size {
            Some(Trigger::Size)
        } else if self.bytes >= self.limits.batch_bytes_max {
            Some(Trigger::Bytes)
        } else if let Some(why) = self.forced {
            Some(why)
        } else if now.saturating_duration_since(oldest) >= self.limits.flush_interval {
            Some(Trigger::Interval)
        } else {
            None
        }
    }

    /// When what is here becomes due by time alone.
    #[must_use]
    pub fn due_at(&self) -> Option<Instant> {
        Some(self.chunks.front()?.arrived + self.limits.flush_interval)
    }

    /// The next batch, if one is due.
    pub fn take(&mut self, now: Instant) -> Option<Batch> {
        let trigger = self.due(now)?;
        let first = self.first;
        let mut chunks = Vec::with_capacity(self.chunks.len());
        let (mut records, mut bytes) = (0, 0);
        while let Some(chunk) = self.chunks.front() {
            let fits = records + chunk.records() <= self.limits.batch_records_max
                && bytes + chunk.bytes <= self.limits.batch_bytes_max;
            if !fits && !chunks.is_empty() {
                break;
            }
            records += chunk.records();
            bytes += chunk.bytes;
            self.first = chunk.next;
            chunks.extend(self.chunks.pop_front());
        }
        self.records -= records;
        self.bytes -= bytes;
        Some(Batch {
            first,
            next: self.first,
            chunks,
            records,
            bytes,
            trigger,
        })
    }
}

/// How far a drain has got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DrainState {
    Going,
    /// All is saved.
    Flushed,
    /// The deadline came first; what is left stays in Kafka, uncommitted.
    OutOfTime,
}

/// A forced flush: it ends when nothing is left or at its deadline, whichever comes first.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    pub deadline: Instant,
    pub why: Trigger,
}

impl Drain {
    #[must_use]
    pub fn state(&self, now: Instant, left: bool) -> DrainState {
        if !left {
            DrainState::Flushed
        } else if now >= self.deadline {
            DrainState::OutOfTime
        } else {
            DrainState::Going
        }
    }
}

#[cfg(test)]
mod tests;
