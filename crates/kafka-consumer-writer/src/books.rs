//! What the metrics say of the chains: totals, lag, reach, for every partition of the store.
//!
//! The totals are the chains' own, not this process's: they hold through any restart. A partition
//! that another member takes over stays in the sums for a while, so that it is never in nobody's
//! books; [`Books::tick`] lets it go. One lock, taken once per save.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use metrics::{Gauge, gauge};
use pipeline_core::{
    Offset, PartitionId,
    store::{Fate, Totals},
    telemetry::catalog::{self, label},
};

use crate::partition::Memory;

/// How long a partition given up stays in the sums: longer than a take-over takes.
const KEPT_AFTER_LETTING_GO: Duration = Duration::from_secs(60);
const FATES: [Fate; 6] = [
    Fate::Stored,
    Fate::Duplicate,
    Fate::Poison,
    Fate::Undecidable,
    Fate::Skipped,
    Fate::Lost,
];

pub struct Books {
    state: Mutex<State>,
    totals: [Gauge; 6],
    assigned: Gauge,
    halted: Gauge,
    reach: Gauge,
}

#[derive(Default)]
struct State {
    chapters: BTreeMap<PartitionId, Chapter>,
    sums: Totals,
}

struct Chapter {
    totals: Totals,
    next: Offset,
    log_end: Offset,
    oldest_received_ms: Option<i64>,
    held: bool,
    halted: bool,
    let_go: Option<Instant>,
    lag: Gauge,
}

impl Default for Books {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            totals: FATES
                .map(|fate| gauge!(catalog::STORE_CHAIN_RECORDS, label::FATE => fate_name(fate))),
            assigned: gauge!(catalog::CONSUMER_PARTITIONS_ASSIGNED),
            halted: gauge!(catalog::CONSUMER_PARTITIONS_HALTED),
            reach: gauge!(catalog::CONSUMER_DEDUP_REACH),
        }
    }
}

impl Books {
    /// A chain as it was found at the start of the process.
    pub fn found(&self, partition: PartitionId, totals: Totals) {
        let mut state = self.lock();
        state.chapter(partition);
        state.set_totals(partition, totals);
        self.show_totals(&state);
    }

    /// The group has given this partition to a member of this process.
    pub fn take(&self, partition: PartitionId) {
        let mut state = self.lock();
        let chapter = state.chapter(partition);
        chapter.held = true;
        chapter.halted = false;
        chapter.let_go = None;
        self.show_held(&state);
    }

    /// The member has given it up, or has lost it.
    pub fn let_go(&self, partition: PartitionId, now: Instant) {
        let mut state = self.lock();
        let chapter = state.chapter(partition);
        chapter.held = false;
        chapter.halted = false;
        chapter.let_go = Some(now);
        chapter.oldest_received_ms = None;
        chapter.lag.set(0.0);
        self.show_held(&state);
    }

    pub fn halt(&self, partition: PartitionId, halted: bool) {
        let mut state = self.lock();
        state.chapter(partition).halted = halted;
        self.show_held(&state);
    }

    /// Whether this partition stands still until someone looks at it.
    #[must_use]
    pub fn is_halted(&self, partition: PartitionId) -> bool {
        let state = self.lock();
        state
            .chapters
            .get(&partition)
            .is_some_and(|chapter| chapter.halted)
    }

    /// The chain as it now is. The totals go up before the lag goes down, so that a record is at
    /// no moment in neither.
    pub fn chain(&self, partition: PartitionId, memory: &Memory) {
        let mut state = self.lock();
        state.set_totals(partition, memory.end.totals);
        self.show_totals(&state);
        let chapter = state.chapter(partition);
        chapter.next = memory.end.next;
        chapter.oldest_received_ms = memory.window.oldest_received_ms();
        chapter.show_lag();
    }

    pub fn log_end(&self, partition: PartitionId, log_end: Offset) {
        let mut state = self.lock();
        let chapter = state.chapter(partition);
        chapter.log_end = log_end;
        chapter.show_lag();
    }

    /// Every second or so.
    pub fn tick(&self, now: Instant, now_ms: i64) {
        let mut state = self.lock();
        let gone: Vec<PartitionId> = state
            .chapters
            .iter()
            .filter(|(_, chapter)| {
                chapter.let_go.is_some_and(|since| {
                    now.saturating_duration_since(since) >= KEPT_AFTER_LETTING_GO
                })
            })
            .map(|(partition, _)| *partition)
            .collect();
        for partition in gone {
            state.set_totals(partition, Totals::default());
            state.chapters.remove(&partition);
            self.show_totals(&state);
        }
        // The window of the partition that reaches least.
        let newest_start = state
            .chapters
            .values()
            .filter_map(|chapter| chapter.oldest_received_ms)
            .max();
        let reach_ms = newest_start.map_or(0, |start| (now_ms - start).max(0));
        #[allow(clippy::cast_precision_loss)]
        self.reach.set(reach_ms as f64 / 1_000.0);
    }

    #[allow(clippy::cast_precision_loss)]
    fn show_totals(&self, state: &State) {
        for (gauge, fate) in self.totals.iter().zip(FATES) {
            gauge.set(count(&state.sums, fate) as f64);
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn show_held(&self, state: &State) {
        let held = state.chapters.values().filter(|chapter| chapter.held);
        self.halted
            .set(held.clone().filter(|chapter| chapter.halted).count() as f64);
        self.assigned.set(held.count() as f64);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }
}

impl State {
    fn chapter(&mut self, partition: PartitionId) -> &mut Chapter {
        self.chapters.entry(partition).or_insert_with(|| Chapter {
            totals: Totals::default(),
            next: Offset(0),
            log_end: Offset(0),
            oldest_received_ms: None,
            held: false,
            halted: false,
            let_go: None,
            lag: gauge!(catalog::CONSUMER_LAG, label::PARTITION => partition.to_string()),
        })
    }

    fn set_totals(&mut self, partition: PartitionId, totals: Totals) {
        let before = std::mem::replace(&mut self.chapter(partition).totals, totals);
        let mut sums = Totals::default();
        for fate in FATES {
            let sum = count(&self.sums, fate) + count(&totals, fate);
            sums.add(fate, sum.saturating_sub(count(&before, fate)));
        }
        self.sums = sums;
    }
}

impl Chapter {
    #[allow(clippy::cast_precision_loss)]
    fn show_lag(&self) {
        self.lag.set((self.log_end.0 - self.next.0).max(0) as f64);
    }
}

impl std::fmt::Debug for Books {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Books").finish_non_exhaustive()
    }
}

fn fate_name(fate: Fate) -> &'static str {
    match fate {
        Fate::Stored => "stored",
        Fate::Duplicate => "duplicate",
        Fate::Poison => "poison",
        Fate::Undecidable => "undecidable",
        Fate::Skipped => "skipped",
        Fate::Lost => "lost",
    }
}

fn count(totals: &Totals, fate: Fate) -> u64 {
    match fate {
        Fate::Stored => totals.stored,
        Fate::Duplicate => totals.duplicate,
        Fate::Poison => totals.poison,
        Fate::Undecidable => totals.undecidable,
        Fate::Skipped => totals.skipped,
        Fate::Lost => totals.lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(stored: u64) -> Totals {
        Totals {
            stored,
            ..Totals::default()
        }
    }

    #[test]
    fn a_partition_given_up_stays_in_the_sums_until_another_has_surely_taken_it() {
        let books = Books::default();
        let now = Instant::now();
        books.found(PartitionId(0), totals(5));
        books.found(PartitionId(1), totals(7));
        books.take(PartitionId(0));
        assert_eq!(books.lock().sums, totals(12));
        books.let_go(PartitionId(0), now);
        books.tick(now + KEPT_AFTER_LETTING_GO / 2, 0);
        assert_eq!(books.lock().sums, totals(12));
        books.tick(now + KEPT_AFTER_LETTING_GO, 0);
        assert_eq!(books.lock().sums, totals(7));
        // Taken again in time, it never leaves.
        books.take(PartitionId(1));
        books.let_go(PartitionId(1), now);
        books.take(PartitionId(1));
        books.tick(now + KEPT_AFTER_LETTING_GO * 2, 0);
        assert_eq!(books.lock().sums, totals(7));
    }
}
