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
}

/// Why a batch was due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trigger {
    Size,
    Bytes,
    Interval,
    Forced,
}

impl Trigger {
    /// As a metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Bytes => "bytes",
            Self::Interval => "interval",
            Self::Forced => "forced",
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
    forced: bool,
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
            forced: false,
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

    /// From now on all that is here is due.
    pub fn force(&mut self) {
        self.forced = true;
    }

    #[must_use]
    pub fn due(&self, now: Instant) -> Option<Trigger> {
        let oldest = self.chunks.front()?.arrived;
        if self.records >= self.limits.flush_size {
            Some(Trigger::Size)
        } else if self.bytes >= self.limits.batch_bytes_max {
            Some(Trigger::Bytes)
        } else if self.forced {
            Some(Trigger::Forced)
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
mod tests {
    use bytes::Bytes;
    use kafka_link::{HeaderSlot, Message};

    use super::*;

    const LIMITS: FlushLimits = FlushLimits {
        flush_size: 512,
        flush_interval: Duration::from_millis(500),
        batch_records_max: 4_096,
        batch_bytes_max: 1_000_000,
    };

    fn chunk(first: i64, records: u32, arrived: Instant) -> Chunk {
        let messages = (0..i64::from(records))
            .map(|n| Message {
                offset: Offset(first + n),
                timestamp_ms: 0,
                value: None,
                header: HeaderSlot::Absent,
            })
            .collect();
        let bytes = u64::from(records) * 100;
        let next = Offset(first + i64::from(records));
        Chunk {
            content: Content::Messages(MessageBlock {
                bytes: Bytes::new(),
                messages,
                first: Offset(first),
                next,
            }),
            next,
            arrived,
            bytes,
            reserved: Budget::new(u64::MAX).take(bytes),
        }
    }

    #[test]
    fn flush_at_size() {
        let now = Instant::now();
        let mut batcher = Batcher::new(LIMITS, Offset(10));
        batcher.push(chunk(10, 511, now));
        assert!(batcher.take(now).is_none(), "one record is missing");
        batcher.push(chunk(521, 1, now));
        let batch = batcher.take(now).expect("512 records are there");
        assert_eq!((batch.first, batch.next), (Offset(10), Offset(522)));
        assert_eq!((batch.records, batch.trigger), (512, Trigger::Size));
        assert!(batcher.is_empty() && batcher.records() == 0 && batcher.bytes() == 0);
        assert!(batcher.take(now + LIMITS.flush_interval).is_none());
    }

    #[test]
    fn flush_at_interval() {
        let start = Instant::now();
        let mut batcher = Batcher::new(LIMITS, Offset(0));
        assert_eq!(batcher.due_at(), None);
        batcher.push(chunk(0, 1, start));
        // What comes later waits no longer than what came first.
        batcher.push(chunk(1, 1, start + Duration::from_millis(400)));
        let due_at = start + LIMITS.flush_interval;
        assert_eq!(batcher.due_at(), Some(due_at));
        assert!(batcher.take(due_at - Duration::from_nanos(1)).is_none());
        let batch = batcher.take(due_at).expect("the interval is over");
        assert_eq!((batch.records, batch.trigger), (2, Trigger::Interval));
    }

    #[test]
    fn a_batch_grows_while_a_save_is_slow_up_to_its_bound() {
        let now = Instant::now();
        let mut batcher = Batcher::new(LIMITS, Offset(0));
        for n in 0..10 {
            batcher.push(chunk(n * 1_000, 1_000, now));
        }
        let sizes: Vec<_> = std::iter::from_fn(|| batcher.take(now))
            .map(|batch| (batch.first.0, batch.records))
            .collect();
        assert_eq!(sizes, [(0, 4_000), (4_000, 4_000), (8_000, 2_000)]);
        // One chunk over the bound goes alone.
        batcher.push(chunk(10_000, 5_000, now));
        assert_eq!(batcher.take(now).expect("due").records, 5_000);
    }

    #[test]
    fn a_gap_alone_is_a_batch_after_the_interval() {
        let now = Instant::now();
        let mut batcher = Batcher::new(LIMITS, Offset(5));
        batcher.push(Chunk {
            content: Content::Lost,
            next: Offset(1_000_000),
            ..chunk(5, 1, now)
        });
        assert!(batcher.take(now).is_none());
        let batch = batcher.take(now + LIMITS.flush_interval).expect("due");
        assert_eq!((batch.records, batch.next), (0, Offset(1_000_000)));
    }

    /// Saves of random lengths, some of which never end: the drain ends with all saved, or exactly
    /// at its deadline.
    #[test]
    fn forced_flush_ends_within_its_deadline() {
        let mut seen = (0, 0);
        for seed in 0..500 {
            let mut random = fastrand::Rng::with_seed(seed);
            let start = Instant::now();
            let mut batcher = Batcher::new(LIMITS, Offset(0));
            let chunks = random.i64(0..300);
            for n in 0..chunks {
                batcher.push(chunk(n * 100, 100, start));
            }
            let drain = Drain {
                deadline: start + Duration::from_millis(1_000),
            };
            batcher.force();
            let (mut now, mut saved) = (start, Offset(0));
            let mut in_flight: Option<(Instant, Offset)> = None;
            let end = loop {
                if in_flight.is_none()
                    && let Some(batch) = batcher.take(now)
                {
                    let takes = Duration::from_millis(match random.u32(0..10) {
                        0 => u64::MAX / 4,
                        _ => random.u64(1..300),
                    });
                    let ends = now
                        .checked_add(takes)
                        .unwrap_or(now + Duration::from_secs(9));
                    in_flight = Some((ends, batch.next));
                }
                let left = in_flight.is_some() || !batcher.is_empty();
                match drain.state(now, left) {
                    DrainState::Going => {}
                    ended => break ended,
                }
                let (ends, next) = in_flight.expect("a drain that goes on saves at once");
                now = ends.min(drain.deadline);
                if ends <= now {
                    saved = next;
                    in_flight = None;
                }
            };
            assert!(now <= drain.deadline, "seed {seed}");
            if end == DrainState::Flushed {
                assert_eq!(saved, Offset(chunks * 100), "seed {seed}");
                seen.0 += 1;
            } else {
                assert!(
                    now == drain.deadline && saved.0 < chunks * 100,
                    "seed {seed}"
                );
                seen.1 += 1;
            }
        }
        assert!(seen.0 > 50 && seen.1 > 50, "both ends are met: {seen:?}");
    }
}
