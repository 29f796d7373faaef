//! One partition of a session: its core, and what the session remembers beside it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use metrics::counter;
use pipeline_core::{Offset, retry::Backoff, telemetry::catalog};
use tokio::task::{AbortHandle, JoinSet};

use crate::{batcher::Batch, partition::PartitionCore, shared::Held, steps};

/// Pauses of one partition's fetch after trouble.
const FETCH_BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(100),
    max: Duration::from_secs(5),
};
/// After as many failed fetches in a row, a batch that cannot be read halts its partition.
const UNREADABLE_MAX: u32 = 4;

/// One partition of the assignment.
pub(super) struct Slot {
    pub core: PartitionCore,
    pub held: Held,
    pub fetch_not_before: Option<Instant>,
    pub fetch_failures: u32,
    pub asking_bounds: bool,
    /// Stands before a batch that cannot be read.
    pub stuck: bool,
    /// First offset of the batch that a copy was asked for.
    pub copied: Option<Offset>,
    /// Who makes the copy: while that hangs there is no second one.
    copying: Option<AbortHandle>,
    /// Who removes copies; likewise.
    removing: Option<AbortHandle>,
    /// The last reason for not being ready, so that it is said once.
    pub reason: Option<String>,
}

impl Slot {
    pub fn new(held: Held) -> Self {
        Self {
            core: PartitionCore::new(held.shared.settings, fastrand::u64(..)),
            held,
            fetch_not_before: None,
            fetch_failures: 0,
            asking_bounds: false,
            stuck: false,
            copied: None,
            copying: None,
            removing: None,
            reason: None,
        }
    }

    pub fn fetch_failed(&mut self, now: Instant) {
        self.fetch_failures += 1;
        let pause = FETCH_BACKOFF.pause(self.fetch_failures, fastrand::f64().max(0.5));
        self.fetch_not_before = Some(now + pause);
    }

    /// What the log has here cannot be read. Damage on the way heals by itself: only what fails
    /// again and again stands still until someone looks at it. Says whether that is news.
    pub fn unreadable(&mut self, now: Instant) -> bool {
        self.fetch_failed(now);
        let news = !self.stuck && self.fetch_failures >= UNREADABLE_MAX;
        self.stuck |= news;
        news
    }

    /// Says that a save has not ended well, and keeps one copy of its messages for people.
    pub fn not_saved(&mut self, batch: &Arc<Batch>, detail: String, tasks: &mut JoinSet<()>) {
        counter!(catalog::BATCH_FLUSH_FAILURES).increment(1);
        tracing::error!(
            topic = self.held.place.topic,
            partition = %self.held.partition(),
            first = %batch.first,
            next = %batch.next,
            detail,
            "failed to save a batch; it is tried again"
        );
        if self.copied != Some(batch.first) && is_idle(self.copying.as_ref()) {
            self.copied = Some(batch.first);
            // Once the batch is saved nobody needs the copy: it does not keep the batch.
            let copy = steps::copy_unsaved(self.held.clone(), Arc::downgrade(batch), detail);
            self.copying = Some(tasks.spawn(copy));
        }
    }

    /// The chain has come to `next`. Where this is too early, the next save sees to it.
    pub fn remove_passed_copies(&mut self, next: Offset, tasks: &mut JoinSet<()>) {
        let dead_letters = &self.held.shared.dead_letters;
        if dead_letters.has_passed_copies(&self.held.place, next) && is_idle(self.removing.as_ref())
        {
            let remove = steps::remove_copies(self.held.clone(), next);
            self.removing = Some(tasks.spawn(remove));
        }
    }
}

fn is_idle(task: Option<&AbortHandle>) -> bool {
    task.is_none_or(AbortHandle::is_finished)
}
