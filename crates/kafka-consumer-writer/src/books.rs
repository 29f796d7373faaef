//! What the metrics say of the chains: totals, lag, reach, for every partition of the store.
//!
//! The totals are the chains' own, not this process's: they hold through any restart. A partition
//! that another member takes over stays in the sums and keeps its lag for a while, so that it is
//! never in nobody's books; [`Books::tick`] lets it go. One lock, taken once per save.

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
    /// Both unknown until the chain and the log have been looked at.
    next: Option<Offset>,
    log_end: Option<Offset>,
    oldest_received_ms: Option<i64>,
    held: bool,
    halted: bool,
    let_go: Option<Instant>,
    /// Made with the first value: one that is not known is not shown as none.
    lag: Option<Gauge>,
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
    pub fn found(&self, partition: PartitionId, next: Offset, totals: Totals) {
        let mut state = self.lock();
        state.chapter(partition).next = Some(next);
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

    /// The group has said what this process has: the other chains that were found here are another
    /// process's, and are let go like those that were given up.
    pub fn assigned(&self, now: Instant) {
        let mut state = self.lock();
        for chapter in state.chapters.values_mut() {
            if !chapter.held && chapter.let_go.is_none() {
                chapter.let_go = Some(now);
            }
        }
    }

    /// Partitions in the books that no member of this process holds: nobody else asks for the ends
    /// of their logs.
    #[must_use]
    pub fn not_held(&self) -> Vec<PartitionId> {
        let state = self.lock();
        let chapters = state.chapters.iter();
        chapters
            .filter(|(_, chapter)| !chapter.held)
            .map(|(partition, _)| *partition)
            .collect()
    }

    /// The member has given it up, or has lost it.
    pub fn let_go(&self, partition: PartitionId, now: Instant) {
        let mut state = self.lock();
        let chapter = state.chapter(partition);
        chapter.held = false;
        chapter.halted = false;
        chapter.let_go = Some(now);
        chapter.oldest_received_ms = None;
        self.show_held(&state);
    }

    pub fn halt(&self, partition: PartitionId, halted: bool) {
        let mut state = self.lock();
        let chapter = state.chapter(partition);
        chapter.halted = halted;
        chapter.show_lag(partition);
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
        chapter.next = Some(memory.end.next);
        chapter.oldest_received_ms = memory.window.oldest_received_ms();
        chapter.show_lag(partition);
    }

    /// Where the log ends; of a partition that is not in the books (any more), nothing is kept.
    pub fn log_end(&self, partition: PartitionId, log_end: Offset) {
        let mut state = self.lock();
        if let Some(chapter) = state.chapters.get_mut(&partition) {
            chapter.log_end = Some(log_end);
            chapter.show_lag(partition);
        }
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
            if let Some(lag) = state.chapters.remove(&partition).and_then(|gone| gone.lag) {
                lag.set(0.0);
            }
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
            next: None,
            log_end: None,
            oldest_received_ms: None,
            held: false,
            halted: false,
            let_go: None,
            lag: None,
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
    fn show_lag(&mut self, partition: PartitionId) {
        if let Some(lag) = self.lag() {
            self.lag
                .get_or_insert_with(
                    || gauge!(catalog::CONSUMER_LAG, label::PARTITION => partition.to_string()),
                )
                .set(lag as f64);
        }
    }

    fn lag(&self) -> Option<i64> {
        // Of a halted chain that cannot be read, nothing is known to be stored.
        let next = self.next.or(self.halted.then_some(Offset(0)))?;
        Some((self.log_end?.0 - next.0).max(0))
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
        books.found(PartitionId(0), Offset(5), totals(5));
        books.found(PartitionId(1), Offset(7), totals(7));
        books.take(PartitionId(0));
        books.take(PartitionId(1));
        books.assigned(now);
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

    #[test]
    fn chains_found_at_the_start_that_others_hold_leave_the_sums_too() {
        let books = Books::default();
        let now = Instant::now();
        books.found(PartitionId(0), Offset(5), totals(5));
        books.found(PartitionId(1), Offset(7), totals(7));
        // Nothing is assigned yet: after a kill, that takes the dead member's session timeout.
        books.tick(now + KEPT_AFTER_LETTING_GO * 2, 0);
        assert_eq!(books.lock().sums, totals(12));
        books.take(PartitionId(0));
        books.assigned(now);
        assert_eq!(books.not_held(), [PartitionId(1)]);
        // A later assignment that does not bring it either begins no new wait.
        books.assigned(now + KEPT_AFTER_LETTING_GO / 2);
        books.tick(now + KEPT_AFTER_LETTING_GO, 0);
        assert_eq!(books.lock().sums, totals(5));
        assert!(books.not_held().is_empty());
        // An answer that comes late brings nothing back.
        books.log_end(PartitionId(1), Offset(9));
        assert!(books.not_held().is_empty());
    }

    #[test]
    fn the_lag_is_kept_as_long_as_the_totals_and_said_once_it_is_known() {
        let books = Books::default();
        let now = Instant::now();
        let lag = |partition| books.lock().chapter(PartitionId(partition)).lag();
        books.take(PartitionId(0));
        books.log_end(PartitionId(0), Offset(10));
        assert_eq!(lag(0), None, "the chain has not been read yet");
        books.halt(PartitionId(0), true);
        assert_eq!(lag(0), Some(10), "and cannot be");
        books.found(PartitionId(1), Offset(7), totals(7));
        assert_eq!(lag(1), None, "the log has not been asked yet");
        books.log_end(PartitionId(1), Offset(10));
        assert_eq!(lag(1), Some(3), "also before anything is assigned");
        books.take(PartitionId(1));
        books.let_go(PartitionId(1), now);
        books.log_end(PartitionId(1), Offset(12));
        assert_eq!(lag(1), Some(5));
    }
}
