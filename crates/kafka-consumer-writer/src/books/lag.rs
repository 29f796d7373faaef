//! How far one partition is behind its log, in records and in seconds, and what is shown of it.

use std::time::Instant;

use metrics::{Gauge, gauge};
use pipeline_core::{
    Offset, PartitionId,
    telemetry::catalog::{self, label},
};

use super::behind::Behind;

pub struct Lag {
    behind: Behind,
    /// Since when the oldest message that was read and is not in the chain has been in the log.
    pub oldest_read_ms: Option<i64>,
    /// Not numbers as long as they are not known.
    records: Gauge,
    seconds: Gauge,
}

impl Lag {
    pub fn new(partition: PartitionId) -> Self {
        let partition = partition.to_string();
        let records = gauge!(catalog::CONSUMER_LAG, label::PARTITION => partition.clone());
        let seconds = gauge!(catalog::CONSUMER_LAG_SECONDS, label::PARTITION => partition);
        records.set(f64::NAN);
        seconds.set(f64::NAN);
        Self {
            behind: Behind::default(),
            oldest_read_ms: None,
            records,
            seconds,
        }
    }

    #[allow(clippy::cast_precision_loss)]
    pub fn show_records(&self, records: Option<i64>) {
        self.records
            .set(records.map_or(f64::NAN, |records| records as f64));
    }

    /// The chain ends at `next`, the log at `log_end`.
    pub fn look(&mut self, next: Offset, log_end: Offset, now: Instant) {
        self.behind.look(next, log_end, now);
    }

    pub fn show_seconds(&self, now: Instant, now_ms: i64) {
        self.seconds.set(self.seconds(now, now_ms));
    }

    /// Only what was read says how long it has been there; the rest counts since it was seen.
    #[allow(clippy::cast_precision_loss)]
    pub fn seconds(&self, now: Instant, now_ms: i64) -> f64 {
        let Some(since) = self.behind.since() else {
            return 0.0;
        };
        let seen = now.saturating_duration_since(since).as_secs_f64();
        let read = self.oldest_read_ms;
        let read = read.map_or(0.0, |oldest| (now_ms - oldest) as f64 / 1_000.0);
        seen.max(read)
    }

    /// The partition is another process's.
    pub fn end(self) {
        self.records.set(0.0);
        self.seconds.set(0.0);
    }
}
