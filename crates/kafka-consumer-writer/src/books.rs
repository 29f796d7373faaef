//! What the metrics say of the chains: totals, lag, reach, for every partition of the store.
//!
//! The totals are the chains' own, not this process's: they hold through any restart. A partition
//! that another member takes over stays in the sums, with its lag, for a while, so that it is never in
//! nobody's books; [`Books::tick`] lets it go. One lock, taken once per save, and held
//! while the metrics are made, so that a record is in one place there and not in none.

mod behind;
mod lag;
mod looks;
mod shown;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use pipeline_core::{Offset, PartitionId, store::Totals};

use self::{
    lag::Lag,
    shown::{FATES, Shown, count},
};
use crate::{
    partition::{LoadOutcome, Memory},
    takeover::HaltReason,
};

/// How long a partition given up stays in the sums: longer than a take-over takes.
const KEPT_AFTER_LETTING_GO: Duration = Duration::from_secs(60);
/// How long a partition that is new in the topic is waited for: the group's leader sees within a
/// minute that the topic has grown, and deals it then.
const DEALT_WITHIN: Duration = Duration::from_secs(120);

/// One session of a member of this process. A member that is thrown out may hear of it only when
/// another one of the same process has its partitions: what it still says of them counts no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holder(u64);

pub struct Books {
    state: Mutex<State>,
    shown: Shown,
}

struct State {
    chapters: BTreeMap<PartitionId, Chapter>,
    sums: Totals,
    holders: u64,
    /// Partitions that the topic was seen to have.
    in_topic: BTreeSet<PartitionId>,
    /// The group has said at least once what this process has.
    assigned: bool,
    /// When Kafka was last asked for the ends of all logs, and answered for each; before that, the
    /// start of the process.
    ends_known: Instant,
}

struct Chapter {
    totals: Totals,
    /// Both unknown until the chain and the log have been looked at.
    next: Option<Offset>,
    log_end: Option<Offset>,
    oldest_received_ms: Option<i64>,
    holder: Option<Holder>,
    halt: Option<HaltReason>,
    /// Found here or given to this process, and its chain has not answered yet: its log is all not
    /// yet read, until it does.
    unread: bool,
    /// The chain's offsets are those of another log, as its last take-over has found: all of this
    /// one is not yet read.
    other_log: bool,
    let_go: Option<Instant>,
    lag: Lag,
}

impl Default for Books {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                chapters: BTreeMap::new(),
                sums: Totals::default(),
                holders: 0,
                in_topic: BTreeSet::new(),
                assigned: false,
                ends_known: Instant::now(),
            }),
            shown: Shown::default(),
        }
    }
}

impl Books {
    /// The partitions of the topic: what is in the log of one that is new here is not yet read,
    /// whoever of the group is to read it.
    pub fn in_topic(&self, partitions: impl IntoIterator<Item = PartitionId>, now: Instant) {
        let mut state = self.lock();
        for partition in partitions {
            if state.in_topic.insert(partition) && !state.chapters.contains_key(&partition) {
                let let_go = state.assigned.then_some(now + DEALT_WITHIN);
                let chapter = state.chapter(partition);
                chapter.unread = true;
                chapter.let_go = let_go;
            }
        }
        self.shown.unread(&state);
    }

    /// All of the logs' ends were asked for at `asked`, and are known.
    pub fn ends_known(&self, asked: Instant) {
        self.lock().ends_known = asked;
    }

    /// What is `made` of the metrics while nothing in the books changes; `begun` is when the look
    /// at them began.
    pub fn shown<T>(&self, begun: Instant, made: impl FnOnce() -> T) -> T {
        let state = self.lock();
        let age = begun.saturating_duration_since(state.ends_known);
        self.shown.ends_age.set(age.as_secs_f64());
        made()
    }

    /// The group has given these partitions to a member of this process. Those that are not in the
    /// books any more, or never were, count as not read until their chains answer, however long
    /// that takes.
    pub fn take(&self, partitions: impl IntoIterator<Item = PartitionId>) -> Holder {
        let mut state = self.lock();
        state.holders += 1;
        let holder = Holder(state.holders);
        for partition in partitions {
            let chapter = state.chapter(partition);
            chapter.holder = Some(holder);
            chapter.halt = None;
            chapter.let_go = None;
            if chapter.next.is_none() {
                chapter.unread = true;
                chapter.show_lag();
            }
        }
        self.shown.held(&state);
        self.shown.unread(&state);
        holder
    }

    /// The group has said what this process has: the other chains that were found here are another
    /// process's, and are let go like those that were given up.
    pub fn assigned(&self, now: Instant) {
        let mut state = self.lock();
        state.assigned = true;
        for chapter in state.chapters.values_mut() {
            if chapter.holder.is_none() && chapter.let_go.is_none() {
                chapter.let_go = Some(now);
            }
        }
    }

    /// Partitions in the books, held by a member of this process or not.
    #[must_use]
    pub fn partitions(&self) -> Vec<PartitionId> {
        self.lock().chapters.keys().copied().collect()
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
        chapter.lag.oldest_read_ms = None;
        self.shown.held(&state);
        true
    }

    /// The partition stands still, or does not any more.
    pub fn halt(&self, partition: PartitionId, holder: Holder, halt: Option<HaltReason>) {
        let mut state = self.lock();
        let Some(chapter) = state.held_by(partition, holder) else {
            return;
        };
        chapter.halt = halt;
        chapter.other_log |= halt.is_some_and(HaltReason::is_of_other_log);
        chapter.show_lag();
        self.shown.held(&state);
    }

    /// What a take-over came to. Where nothing could be judged, as Kafka or the disk is away, what
    /// stood still does so still.
    pub fn loaded(
        &self,
        partition: PartitionId,
        holder: Holder,
        outcome: &LoadOutcome,
        halt: Option<HaltReason>,
    ) {
        match outcome {
            LoadOutcome::Ready(_) | LoadOutcome::Halt => self.halt(partition, holder, halt),
            LoadOutcome::Retry => {}
        }
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
        self.shown.totals(&state);
        let chapter = state.chapter(partition);
        chapter.next = Some(memory.end.next);
        chapter.other_log = false;
        chapter.oldest_received_ms = memory.window.oldest_received_ms();
        chapter.show_lag();
        if std::mem::take(&mut chapter.unread) {
            self.shown.unread(&state);
        }
    }

    /// Where the log ends, looked up; of a partition that is not in the books (any more), nothing is
    /// kept.
    pub fn log_end(&self, partition: PartitionId, log_end: Offset) {
        self.set_log_end(partition, |_| log_end);
    }

    /// The log reaches at least so far, as a fetch has said. Its answer may have been on the way for
    /// long, and a new leader may not know the end yet (KIP-207: a lookup waits until it does, a
    /// fetch does not), so it takes nothing back.
    pub fn log_reaches(&self, partition: PartitionId, end: Offset) {
        self.set_log_end(partition, |known| known.map_or(end, |known| known.max(end)));
    }

    /// Since when the oldest message that the member has read and that is not in the chain has been
    /// in the log, by Kafka's time.
    pub fn oldest_read(&self, partition: PartitionId, holder: Holder, ms: Option<i64>) {
        if let Some(chapter) = self.lock().held_by(partition, holder) {
            chapter.lag.oldest_read_ms = ms;
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
            if let Some(gone) = state.chapters.remove(&partition) {
                gone.lag.end();
            }
            self.shown.totals(&state);
            self.shown.unread(&state);
        }
        for chapter in state.chapters.values_mut() {
            chapter.show_lag_seconds(now, now_ms);
        }
        // The window of the partition that reaches least.
        let newest_start = state
            .chapters
            .values()
            .filter_map(|chapter| chapter.oldest_received_ms)
            .max();
        let reach_ms = newest_start.map_or(0, |start| (now_ms - start).max(0));
        #[allow(clippy::cast_precision_loss)]
        self.shown.reach.set(reach_ms as f64 / 1_000.0);
    }

    fn set_log_end(&self, partition: PartitionId, end: impl FnOnce(Option<Offset>) -> Offset) {
        if let Some(chapter) = self.lock().chapters.get_mut(&partition) {
            chapter.log_end = Some(end(chapter.log_end));
            chapter.show_lag();
        }
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
            other_log: false,
            let_go: None,
            lag: Lag::new(partition),
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
    fn show_lag(&mut self) {
        let records = self.lag();
        self.lag.show_records(records);
    }

    fn show_lag_seconds(&mut self, now: Instant, now_ms: i64) {
        if let Some((next, log_end)) = self.known_next().zip(self.log_end) {
            self.lag.look(next, log_end, now);
            self.lag.show_seconds(now, now_ms);
        }
    }

    fn lag(&self) -> Option<i64> {
        Some((self.log_end?.0 - self.known_next()?.0).max(0))
    }

    fn known_next(&self) -> Option<Offset> {
        Some(match (self.next, self.halt) {
            // Of a chain that cannot be read, nothing is known to be stored.
            (None, halt) => (halt.is_some() || self.unread).then_some(Offset(0))?,
            (Some(_), _) if self.other_log => Offset(0),
            (Some(next), _) => next,
        })
    }
}

impl std::fmt::Debug for Books {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Books").finish_non_exhaustive()
    }
}
