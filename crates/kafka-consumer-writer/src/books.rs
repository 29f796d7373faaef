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

use crate::{partition::Memory, takeover::HaltReason};

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

/// One session of a member of this process. A member that is thrown out may hear of it only when
/// another one of the same process has its partitions: what it still says of them counts no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holder(u64);

pub struct Books {
    state: Mutex<State>,
    totals: [Gauge; 6],
    assigned: Gauge,
    halted: Gauge,
    halts: [Gauge; HaltReason::ALL.len()],
    unread: Gauge,
    reach: Gauge,
}

#[derive(Default)]
struct State {
    chapters: BTreeMap<PartitionId, Chapter>,
    sums: Totals,
    holders: u64,
}

struct Chapter {
    totals: Totals,
    /// Both unknown until the chain and the log have been looked at.
    next: Option<Offset>,
    log_end: Option<Offset>,
    oldest_received_ms: Option<i64>,
    holder: Option<Holder>,
    halt: Option<HaltReason>,
    /// The chain is there and has not answered yet: its log is all not yet read, until it does.
    unread: bool,
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
            halts: HaltReason::ALL.map(
                |reason| gauge!(catalog::CONSUMER_PARTITION_HALTS, label::REASON => reason.as_str()),
            ),
            unread: gauge!(catalog::STORE_CHAINS_UNREAD),
            reach: gauge!(catalog::CONSUMER_DEDUP_REACH),
        }
    }
}

impl Books {
    /// A chain is there, as the start of the process has found. Until it is [`Self::found`] or
    /// taken, nothing of it is known.
    pub fn listed(&self, partition: PartitionId) {
        let mut state = self.lock();
        state.chapter(partition).unread = true;
        self.show_unread(&state);
    }

    /// The chain of a partition that is held does not answer in time.
    pub fn not_read(&self, partition: PartitionId) {
        let mut state = self.lock();
        if let Some(chapter) = state.chapters.get_mut(&partition)
            && chapter.next.is_none()
        {
            chapter.unread = true;
            chapter.show_lag(partition);
            self.show_unread(&state);
        }
    }

    /// A listed chain as it was then; `None`: it has not been begun. Where somebody has read it
    /// since, or it is another process's, that is not news.
    pub fn found(&self, partition: PartitionId, newest: Option<(Offset, Totals)>) {
        let mut state = self.lock();
        let Some(chapter) = state.chapters.get_mut(&partition) else {
            return;
        };
        chapter.unread = false;
        if let Some((next, totals)) = newest.filter(|_| chapter.next.is_none()) {
            state.set_totals(partition, totals);
            self.show_totals(&state);
            let chapter = state.chapter(partition);
            chapter.next = Some(next);
            chapter.show_lag(partition);
        }
        self.show_unread(&state);
    }

    /// The group has given these partitions to a member of this process.
    pub fn take(&self, partitions: impl IntoIterator<Item = PartitionId>) -> Holder {
        let mut state = self.lock();
        state.holders += 1;
        let holder = Holder(state.holders);
        for partition in partitions {
            let chapter = state.chapter(partition);
            chapter.holder = Some(holder);
            chapter.halt = None;
            chapter.let_go = None;
        }
        self.show_held(&state);
        holder
    }

    /// The group has said what this process has: the other chains that were found here are another
    /// process's, and are let go like those that were given up.
    pub fn assigned(&self, now: Instant) {
        let mut state = self.lock();
        for chapter in state.chapters.values_mut() {
            if chapter.holder.is_none() && chapter.let_go.is_none() {
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
            .filter(|(_, chapter)| chapter.holder.is_none())
            .map(|(partition, _)| *partition)
            .collect()
    }

    /// The member has given it up, or has lost it; `false`: another one of this process has it.
    pub fn let_go(&self, partition: PartitionId, holder: Holder, now: Instant) -> bool {
        let mut state = self.lock();
        let Some(chapter) = state.held_by(partition, holder) else {
            return false;
        };
        chapter.holder = None;
        chapter.halt = None;
        chapter.let_go = Some(now);
        chapter.oldest_received_ms = None;
        self.show_held(&state);
        true
    }

    /// The partition stands still, or does not any more.
    pub fn halt(&self, partition: PartitionId, holder: Holder, halt: Option<HaltReason>) {
        let mut state = self.lock();
        let Some(chapter) = state.held_by(partition, holder) else {
            return;
        };
        chapter.halt = halt;
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
            .is_some_and(|chapter| chapter.halt.is_some())
    }

    /// The chain as it now is. The totals go up before the lag goes down, so that a record is at
    /// no moment in neither.
    pub fn chain(&self, partition: PartitionId, holder: Holder, memory: &Memory) {
        let mut state = self.lock();
        if state.held_by(partition, holder).is_none() {
            return;
        }
        state.set_totals(partition, memory.end.totals);
        self.show_totals(&state);
        let chapter = state.chapter(partition);
        chapter.next = Some(memory.end.next);
        chapter.oldest_received_ms = memory.window.oldest_received_ms();
        chapter.show_lag(partition);
        if std::mem::take(&mut chapter.unread) {
            self.show_unread(&state);
        }
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
            self.show_unread(&state);
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
        let held = state.chapters.values().filter(|it| it.holder.is_some());
        let halts = |reason| held.clone().filter(|it| it.halt == Some(reason)).count();
        let by_reason = HaltReason::ALL.map(halts);
        for (gauge, count) in self.halts.iter().zip(by_reason) {
            gauge.set(count as f64);
        }
        self.halted.set(by_reason.iter().sum::<usize>() as f64);
        self.assigned.set(held.count() as f64);
    }

    #[allow(clippy::cast_precision_loss)]
    fn show_unread(&self, state: &State) {
        let unread = state.chapters.values().filter(|chapter| chapter.unread);
        self.unread.set(unread.count() as f64);
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
            holder: None,
            halt: None,
            unread: false,
            let_go: None,
            lag: None,
        })
    }

    fn held_by(&mut self, partition: PartitionId, holder: Holder) -> Option<&mut Chapter> {
        let chapter = self.chapters.get_mut(&partition)?;
        (chapter.holder == Some(holder)).then_some(chapter)
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
        // Of a chain that cannot be read, nothing is known to be stored.
        let unknown = self.halt.is_some() || self.unread;
        let next = self.next.or(unknown.then_some(Offset(0)))?;
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

    fn find(books: &Books, partition: i32, stored: u64) {
        books.listed(PartitionId(partition));
        let next = Offset(stored.try_into().unwrap());
        books.found(PartitionId(partition), Some((next, totals(stored))));
    }

    #[test]
    fn all_of_the_log_of_a_chain_that_does_not_answer_is_not_yet_read_until_it_does() {
        let books = Books::default();
        let (now, hung, slow) = (Instant::now(), PartitionId(0), PartitionId(1));
        let lag = |partition| books.lock().chapter(partition).lag();
        for partition in [hung, slow] {
            books.listed(partition);
            books.log_end(partition, Offset(10));
            assert_eq!(lag(partition), Some(10));
        }
        books.found(slow, Some((Offset(7), totals(7))));
        assert_eq!((lag(slow), books.lock().sums), (Some(3), totals(7)));
        // Its take-over was faster than its look at the start.
        books.take([slow]);
        books.lock().chapter(slow).next = Some(Offset(9));
        books.found(slow, Some((Offset(7), totals(7))));
        assert_eq!(lag(slow), Some(1));
        // Another process has it when it answers at last.
        books.assigned(now);
        books.tick(now + KEPT_AFTER_LETTING_GO, 0);
        books.found(hung, Some((Offset(8), totals(8))));
        assert_eq!(books.lock().sums, totals(7));
        assert!(books.not_held().is_empty());
    }

    #[test]
    fn a_partition_given_up_stays_in_the_sums_until_another_has_surely_taken_it() {
        let books = Books::default();
        let now = Instant::now();
        find(&books, 0, 5);
        find(&books, 1, 7);
        let first = books.take([PartitionId(0), PartitionId(1)]);
        books.assigned(now);
        assert_eq!(books.lock().sums, totals(12));
        assert!(books.let_go(PartitionId(0), first, now));
        books.tick(now + KEPT_AFTER_LETTING_GO / 2, 0);
        assert_eq!(books.lock().sums, totals(12));
        books.tick(now + KEPT_AFTER_LETTING_GO, 0);
        assert_eq!(books.lock().sums, totals(7));
        // Taken again in time, it never leaves.
        let second = books.take([PartitionId(1)]);
        assert!(books.let_go(PartitionId(1), second, now));
        books.take([PartitionId(1)]);
        books.tick(now + KEPT_AFTER_LETTING_GO * 2, 0);
        assert_eq!(books.lock().sums, totals(7));
    }

    #[test]
    fn a_member_that_hears_late_that_it_is_out_takes_nothing_from_the_next_one() {
        let books = Books::default();
        let (now, partition) = (Instant::now(), PartitionId(0));
        find(&books, 0, 5);
        let out = books.take([partition]);
        let next = books.take([partition]);
        let memory = |end| Memory {
            window: crate::window::Window::new(1),
            end: pipeline_core::store::ChainEnd {
                next: Offset(end),
                last: None,
                totals: totals(end.unsigned_abs()),
                last_message: None,
            },
            aside: std::collections::BTreeSet::new(),
        };
        books.chain(partition, next, &memory(9));
        // What it had saved itself, a while ago.
        books.chain(partition, out, &memory(7));
        books.halt(partition, out, Some(HaltReason::Damaged));
        assert!(!books.let_go(partition, out, now));
        books.tick(now + KEPT_AFTER_LETTING_GO, 0);
        assert_eq!(books.lock().sums, totals(9));
        assert!(books.not_held().is_empty() && !books.is_halted(partition));
        assert!(books.let_go(partition, next, now));
        assert_eq!(books.not_held(), [partition]);
    }

    #[test]
    fn chains_found_at_the_start_that_others_hold_leave_the_sums_too() {
        let books = Books::default();
        let now = Instant::now();
        find(&books, 0, 5);
        find(&books, 1, 7);
        // Nothing is assigned yet: after a kill, that takes the dead member's session timeout.
        books.tick(now + KEPT_AFTER_LETTING_GO * 2, 0);
        assert_eq!(books.lock().sums, totals(12));
        books.take([PartitionId(0)]);
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
        let holder = books.take([PartitionId(0)]);
        books.log_end(PartitionId(0), Offset(10));
        assert_eq!(lag(0), None, "the chain has not been read yet");
        books.halt(PartitionId(0), holder, Some(HaltReason::Damaged));
        assert_eq!(lag(0), Some(10), "and cannot be");
        find(&books, 1, 7);
        assert_eq!(lag(1), None, "the log has not been asked yet");
        books.log_end(PartitionId(1), Offset(10));
        assert_eq!(lag(1), Some(3), "also before anything is assigned");
        let holder = books.take([PartitionId(1)]);
        books.let_go(PartitionId(1), holder, now);
        books.log_end(PartitionId(1), Offset(12));
        assert_eq!(lag(1), Some(5));
    }
}
