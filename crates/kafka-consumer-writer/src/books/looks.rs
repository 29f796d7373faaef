//! What a look at a chain has found that no member of this process reads: at the start, and while
//! others go on with it.

use pipeline_core::{Offset, PartitionId, store::Totals};

use super::{Books, State};

impl Books {
    /// A chain is there, as the start of the process has found. Until it is [`Self::found`] or
    /// taken, nothing of it is known.
    pub fn listed(&self, partition: PartitionId) {
        let mut state = self.lock();
        state.chapter(partition).unread = true;
        self.shown.unread(&state);
    }

    /// A listed chain as it was then; `None`: it has not been begun, so nothing of its log is read.
    /// Where somebody has read it since, or it is another process's, that is not news.
    pub fn found(&self, partition: PartitionId, newest: Option<(Offset, Totals)>) {
        let mut state = self.lock();
        let Some(chapter) = state.chapters.get(&partition) else {
            return;
        };
        if let Some((next, totals)) = newest.filter(|_| chapter.next.is_none()) {
            self.reaches(&mut state, partition, next, totals);
        }
        self.shown.unread(&state);
    }

    /// The chain as a take-over found it that halts: its totals hold all the same. Of `other_log`
    /// nothing is read.
    pub fn found_halted(&self, partition: PartitionId, newest: (Offset, Totals), other_log: bool) {
        if let Some(chapter) = self.lock().chapters.get_mut(&partition) {
            chapter.other_log |= other_log;
        }
        self.found(partition, Some(newest));
    }

    /// Partitions that nobody here holds and whose logs go on behind what is known of their chains:
    /// others have them, or will have.
    #[must_use]
    pub fn others_behind(&self) -> Vec<PartitionId> {
        let state = self.lock();
        let behind = state.chapters.iter().filter(|(_, chapter)| {
            chapter.holder.is_none()
                && !chapter.other_log
                && chapter.lag().is_some_and(|lag| lag > 0)
        });
        behind.map(|(partition, _)| *partition).collect()
    }

    /// One of [`Self::others_behind`] as it is now.
    pub fn gone_on(&self, partition: PartitionId, (next, totals): (Offset, Totals)) {
        let mut state = self.lock();
        let is_news = state.chapters.get(&partition).is_some_and(|chapter| {
            chapter.holder.is_none() && chapter.next.is_none_or(|known| known < next)
        });
        if is_news {
            self.reaches(&mut state, partition, next, totals);
            self.shown.unread(&state);
        }
    }

    /// The totals go up before the lag goes down.
    fn reaches(&self, state: &mut State, partition: PartitionId, next: Offset, totals: Totals) {
        state.set_totals(partition, totals);
        self.shown.totals(state);
        let chapter = state.chapter(partition);
        chapter.unread = false;
        chapter.next = Some(next);
        chapter.show_lag();
    }
}
