//! One partition on one member, from its assignment to its end: what to do next, decided purely.
//!
//! ```text
//!            ┌──────────── backoff ◀──────────┐ (I/O trouble)
//!            ▼                                │
//! assigned ▶ Loading ── chain and log agree ─▶ Claiming ── commit acknowledged ─▶ Running
//!            ▲  └────── they differ ─▶ Halted (looked at again later)               │
//!            └───────────── name taken, watermark above, log truncated ◀────────────┘
//! ```
//!
//! Running: one save in flight while the next batch fills. A save that failed or is late is
//! unknown: the same bytes are tried again, and each further try looks at the chain first. The
//! window and the chain's end travel with the save and come back only with a segment that is in
//! the chain. No I/O, no clock; randomness is seeded by the caller.

mod commit;
mod exchange;
mod running;

use std::time::{Duration, Instant};

use pipeline_core::{Offset, retry::Backoff};

pub use commit::CommitDue;
use commit::Commits;
pub use exchange::{Action, LoadOutcome, Memory, SaveJob, SaveOutcome};
use running::{Came, Running};

use crate::batcher::{Batcher, Chunk, Drain, DrainState, FlushLimits, Trigger};

/// Pauses after trouble with disk or broker.
const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(200),
    max: Duration::from_secs(5),
};
/// How long a halted partition rests before it is looked at again.
const HALTED_REST: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub flush: FlushLimits,
    /// A save longer than this is reported as late.
    pub persist_timeout: Duration,
}

#[derive(Debug)]
pub struct PartitionCore {
    settings: Settings,
    state: State,
    random: fastrand::Rng,
    /// Serial of the next save.
    serial: u64,
    /// Failed attempts in a row, of whatever is being tried.
    failures: u32,
    drain: Option<Drain>,
    commits: Commits,
}

#[derive(Debug)]
enum State {
    Loading {
        asked: Option<Instant>,
    },
    Resting {
        until: Instant,
        halted: bool,
    },
    Claiming {
        memory: Box<Memory>,
        ticket: Option<u64>,
    },
    Running(Running),
}

impl PartitionCore {
    /// A partition just assigned.
    #[must_use]
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            state: State::Loading { asked: None },
            random: fastrand::Rng::with_seed(seed),
            serial: 0,
            failures: 0,
            drain: None,
            commits: Commits::default(),
        }
    }

    /// The next thing to do, if any; ask until there is none.
    pub fn poll(&mut self, now: Instant) -> Option<Action> {
        match &mut self.state {
            State::Loading { asked } => {
                if asked.is_some() || self.drain.is_some() {
                    return None;
                }
                *asked = Some(now);
                Some(Action::Load)
            }
            State::Resting { until, .. } => {
                if now < *until || self.drain.is_some() {
                    return None;
                }
                self.state = State::Loading { asked: Some(now) };
                Some(Action::Load)
            }
            State::Claiming { .. } => None,
            State::Running(running) => running.poll(now, &mut self.serial),
        }
    }

    /// When to [`poll`](Self::poll) again although nothing has come.
    #[must_use]
    pub fn wake_at(&self) -> Option<Instant> {
        let own = match &self.state {
            State::Loading { .. } | State::Claiming { .. } => None,
            State::Resting { until, .. } => self.drain.is_none().then_some(*until),
            State::Running(running) => running.wake_at(),
        };
        let commit = self.commits.wake_at();
        let commit = commit.filter(|_| self.commit_offset().is_some());
        let drain = self.drain.map(|drain| drain.deadline);
        [own, commit, drain].into_iter().flatten().min()
    }

    /// Since when it waits for its chain to be read, or for a batch to be saved at last.
    #[must_use]
    pub fn waiting_since(&self) -> Option<Instant> {
        match &self.state {
            State::Loading { asked } => *asked,
            State::Running(running) => running.saving_since(),
            State::Resting { .. } | State::Claiming { .. } => None,
        }
    }

    /// The chain has been read.
    pub fn loaded(&mut self, outcome: LoadOutcome, now: Instant) {
        if !matches!(self.state, State::Loading { asked: Some(_) }) {
            return;
        }
        match outcome {
            LoadOutcome::Ready(memory) => {
                self.failures = 0;
                self.commits.start_over();
                self.state = State::Claiming {
                    memory,
                    ticket: None,
                };
            }
            LoadOutcome::Retry => self.rest(now),
            LoadOutcome::Halt => self.halt(now),
        }
    }

    /// Chain and log differ: everything in memory is dropped.
    pub fn halt(&mut self, now: Instant) {
        self.state = State::Resting {
            until: now + HALTED_REST,
            halted: true,
        };
    }

    /// What is in memory is not to be trusted any more: back to the chain.
    pub fn reload(&mut self, now: Instant) {
        self.rest(now);
    }

    #[must_use]
    pub fn is_halted(&self) -> bool {
        matches!(self.state, State::Resting { halted: true, .. })
    }

    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.state, State::Running(_))
    }

    /// Where to fetch next, unless this partition must not read now: not running, draining, or
    /// `share` bytes are buffered already.
    #[must_use]
    pub fn fetch_from(&self, share: u64) -> Option<Offset> {
        let State::Running(running) = &self.state else {
            return None;
        };
        (self.drain.is_none() && running.bytes() < share).then(|| running.batcher.next())
    }

    /// Takes what a fetch from `from` gave, in order. What was fetched from another place than
    /// the one now wanted (memory was thrown away meanwhile) is dropped.
    pub fn fetched(&mut self, from: Offset, chunks: impl IntoIterator<Item = Chunk>) {
        let State::Running(running) = &mut self.state else {
            return;
        };
        if self.drain.is_some() || running.batcher.next() != from {
            return;
        }
        for chunk in chunks {
            running.batcher.push(chunk);
        }
    }

    /// A save has begun (it may have waited for its turn).
    pub fn saving(&mut self, serial: u64, now: Instant) {
        if let State::Running(running) = &mut self.state {
            running.begun(serial, now, self.settings.persist_timeout);
        }
    }

    /// A save came back.
    pub fn saved(&mut self, serial: u64, outcome: SaveOutcome, now: Instant) {
        let State::Running(running) = &mut self.state else {
            return;
        };
        match running.came(serial, outcome, now, self.random.f64()) {
            Came::Stale | Came::Rests => {}
            Came::Landed(next) => {
                self.failures = 0;
                self.commits.wanted = Some(next);
            }
            Came::Taken => self.rest(now),
        }
    }

    /// The commit to send now, if one is due. Must be sent, and answered with
    /// [`committed`](Self::committed).
    pub fn commit_due(&mut self, now: Instant) -> Option<CommitDue> {
        if !self.commits.may_send(now) {
            return None;
        }
        let due = self.commits.send(self.commit_offset()?);
        if let State::Claiming { ticket, .. } = &mut self.state {
            *ticket = Some(due.ticket);
        }
        Some(due)
    }

    /// A commit was answered; `ok` where the broker acknowledged it.
    pub fn committed(&mut self, due: CommitDue, ok: bool, now: Instant) {
        if !self.commits.answered(due, ok, now, self.random.f64()) {
            return;
        }
        // Only a commit sent after the chain was read is a claim.
        let claims =
            matches!(&self.state, State::Claiming { ticket, .. } if *ticket == Some(due.ticket));
        if !claims {
            return;
        }
        match std::mem::replace(&mut self.state, State::Loading { asked: None }) {
            State::Claiming { memory, .. } if ok => {
                let mut batcher = Batcher::new(self.settings.flush, memory.end.next);
                if let Some(drain) = self.drain {
                    batcher.force(drain.why);
                }
                self.state = State::Running(Running::new(batcher, memory));
            }
            State::Claiming { memory, .. } => {
                self.state = State::Claiming {
                    memory,
                    ticket: None,
                };
            }
            other => self.state = other,
        }
    }

    /// The group takes no commit any more; the chain says where to go on anyway.
    pub fn forgo_commit(&mut self) {
        self.commits.wanted = None;
    }

    /// Read no more, save what is here, within the deadline.
    pub fn drain(&mut self, deadline: Instant, why: Trigger) {
        let deadline = self
            .drain
            .map_or(deadline, |drain| drain.deadline.min(deadline));
        self.drain = Some(Drain { deadline, why });
        if let State::Running(running) = &mut self.state {
            running.batcher.force(why);
        }
    }

    /// Nothing is left in memory that is not in the chain; commits may be.
    #[must_use]
    pub fn all_saved(&self) -> bool {
        match &self.state {
            State::Running(running) => running.all_saved(),
            _ => true,
        }
    }

    /// How far the drain has got; a partition that does not run has nothing to flush.
    #[must_use]
    pub fn drain_state(&self, now: Instant) -> DrainState {
        let running = self.is_running();
        let left = running && (!self.all_saved() || self.commits.wanted.is_some());
        match &self.drain {
            // What is saved needs no commit: the chain knows better.
            Some(drain) => match drain.state(now, left) {
                DrainState::OutOfTime if self.all_saved() => DrainState::Flushed,
                state => state,
            },
            None => DrainState::Going,
        }
    }

    /// Bytes held in memory for this partition, those being saved included.
    #[must_use]
    pub fn buffered_bytes(&self) -> u64 {
        match &self.state {
            State::Running(running) => running.bytes(),
            _ => 0,
        }
    }

    /// The time in the log of the oldest message that was read and is not in the chain.
    #[must_use]
    pub fn oldest_ms(&self) -> Option<i64> {
        match &self.state {
            State::Running(running) => running.oldest_ms(),
            _ => None,
        }
    }

    fn commit_offset(&self) -> Option<Offset> {
        match &self.state {
            State::Claiming {
                memory,
                ticket: None,
            } => Some(memory.end.next),
            State::Running(_) => self.commits.wanted,
            _ => None,
        }
    }

    fn rest(&mut self, now: Instant) {
        self.failures += 1;
        let pause = BACKOFF.pause(self.failures, self.random.f64());
        self.state = State::Resting {
            until: now + pause,
            halted: false,
        };
    }
}

#[cfg(test)]
mod tests;
