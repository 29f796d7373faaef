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

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use pipeline_core::{
    Offset,
    retry::Backoff,
    store::{ChainEnd, Encoded},
};

use crate::{
    batcher::{Batch, Batcher, Chunk, Drain, DrainState, FlushLimits},
    window::Window,
};

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

/// What is known of the chain; changes only with it.
#[derive(Debug)]
pub struct Memory {
    pub window: Window,
    pub end: ChainEnd,
}

/// One segment on its way into the chain. Goes to a blocking thread and comes back.
#[derive(Debug)]
pub struct SaveJob {
    pub serial: u64,
    pub batch: Arc<Batch>,
    pub memory: Box<Memory>,
    /// Made by the first try; every further try publishes the same bytes.
    pub encoded: Option<Arc<Encoded>>,
    /// 0 is the first try.
    pub attempt: u32,
}

/// What became of a save.
#[derive(Debug)]
pub enum SaveOutcome {
    /// Its segment is in the chain, durably; the memory is up to date with it.
    Landed(Box<Memory>),
    /// A step failed: it may be in the chain or not.
    Unknown(Box<SaveJob>),
    /// Another segment stands in its place, or the chain went past it.
    Taken,
}

/// What became of reading the chain and comparing it with the log.
#[derive(Debug)]
pub enum LoadOutcome {
    Ready(Box<Memory>),
    /// The disk or the broker did not answer.
    Retry,
    /// Chain and log differ, or the chain is damaged.
    Halt,
}

/// What the caller does now.
#[derive(Debug)]
pub enum Action {
    /// Read the chain, compare it with the log, answer with [`PartitionCore::loaded`].
    Load,
    /// Run the save on a blocking thread, answer with [`PartitionCore::saved`].
    Save(Box<SaveJob>),
    /// This save is later than the persist timeout: say so. It is not given up.
    Late(Arc<Batch>),
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
    commit: Commit,
}

#[derive(Debug)]
enum State {
    Loading {
        asked: bool,
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

#[derive(Debug)]
struct Running {
    batcher: Batcher,
    saving: Saving,
}

#[derive(Debug)]
enum Saving {
    Idle(Box<Memory>),
    InFlight {
        serial: u64,
        batch: Arc<Batch>,
        late_at: Instant,
        reported: bool,
    },
    Resting {
        job: Box<SaveJob>,
        until: Instant,
    },
    /// Only while a value moves from one of the others to the next.
    Moving,
}

/// Commits go out one at a time, always with the newest offset.
#[derive(Default, Debug)]
struct Commit {
    wanted: Option<Offset>,
    in_flight: Option<u64>,
    next_ticket: u64,
    not_before: Option<Instant>,
    failures: u32,
}

/// A commit to send; the ticket goes back with its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommitDue {
    pub offset: Offset,
    pub ticket: u64,
}

impl PartitionCore {
    /// A partition just assigned.
    #[must_use]
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            state: State::Loading { asked: false },
            random: fastrand::Rng::with_seed(seed),
            serial: 0,
            failures: 0,
            drain: None,
            commit: Commit::default(),
        }
    }

    /// The next thing to do, if any; ask until there is none.
    pub fn poll(&mut self, now: Instant) -> Option<Action> {
        match &mut self.state {
            State::Loading { asked } => {
                if *asked || self.drain.is_some() {
                    return None;
                }
                *asked = true;
                Some(Action::Load)
            }
            State::Resting { until, .. } => {
                if now < *until || self.drain.is_some() {
                    return None;
                }
                self.state = State::Loading { asked: true };
                Some(Action::Load)
            }
            State::Claiming { .. } => None,
            State::Running(running) => running.poll(now, &self.settings, &mut self.serial),
        }
    }

    /// When to [`poll`](Self::poll) again although nothing has come.
    #[must_use]
    pub fn wake_at(&self) -> Option<Instant> {
        let own = match &self.state {
            State::Loading { .. } => None,
            State::Resting { until, .. } => self.drain.is_none().then_some(*until),
            State::Claiming { .. } => None,
            State::Running(running) => match &running.saving {
                Saving::Idle(_) => running.batcher.due_at(),
                Saving::InFlight {
                    late_at, reported, ..
                } => (!reported).then_some(*late_at),
                Saving::Resting { until, .. } => Some(*until),
                Saving::Moving => None,
            },
        };
        let commit = match self.commit.in_flight {
            None if self.commit_offset().is_some() => self.commit.not_before,
            _ => None,
        };
        let drain = self.drain.map(|drain| drain.deadline);
        [own, commit, drain].into_iter().flatten().min()
    }

    /// The chain has been read.
    pub fn loaded(&mut self, outcome: LoadOutcome, now: Instant) {
        if !matches!(self.state, State::Loading { asked: true }) {
            return;
        }
        match outcome {
            LoadOutcome::Ready(memory) => {
                self.failures = 0;
                self.commit.wanted = None;
                self.commit.not_before = None;
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
        (self.drain.is_none() && running.buffered() < share).then(|| running.batcher.next())
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

    /// A save came back.
    pub fn saved(&mut self, serial: u64, outcome: SaveOutcome, now: Instant) {
        let State::Running(running) = &mut self.state else {
            return;
        };
        let ours =
            matches!(&running.saving, Saving::InFlight { serial: own, .. } if *own == serial);
        if !ours {
            return;
        }
        match outcome {
            SaveOutcome::Landed(memory) => {
                self.failures = 0;
                self.commit.wanted = Some(memory.end.next);
                running.saving = Saving::Idle(memory);
            }
            SaveOutcome::Unknown(mut job) => {
                job.attempt += 1;
                let pause = BACKOFF.pause(job.attempt, self.random.f64());
                running.saving = Saving::Resting {
                    job,
                    until: now + pause,
                };
            }
            SaveOutcome::Taken => self.rest(now),
        }
    }

    /// The commit to send now, if one is due. Must be sent, and answered with
    /// [`committed`](Self::committed).
    pub fn commit_due(&mut self, now: Instant) -> Option<CommitDue> {
        if self.commit.in_flight.is_some() || self.commit.not_before.is_some_and(|at| now < at) {
            return None;
        }
        let offset = self.commit_offset()?;
        let ticket = self.commit.next_ticket;
        self.commit.next_ticket += 1;
        self.commit.in_flight = Some(ticket);
        if let State::Claiming {
            ticket: claiming, ..
        } = &mut self.state
        {
            *claiming = Some(ticket);
        }
        Some(CommitDue { offset, ticket })
    }

    /// A commit was answered; `ok` where the broker acknowledged it.
    pub fn committed(&mut self, due: CommitDue, ok: bool, now: Instant) {
        if self.commit.in_flight != Some(due.ticket) {
            return;
        }
        self.commit.in_flight = None;
        if !ok {
            self.commit.failures += 1;
            let pause = BACKOFF.pause(self.commit.failures, self.random.f64());
            self.commit.not_before = Some(now + pause);
            if let State::Claiming { ticket, .. } = &mut self.state {
                *ticket = None;
            }
            return;
        }
        self.commit.failures = 0;
        self.commit.not_before = None;
        if self.commit.wanted == Some(due.offset) {
            self.commit.wanted = None;
        }
        // Only a commit sent after the chain was read is a claim.
        let claimed =
            matches!(&self.state, State::Claiming { ticket, .. } if *ticket == Some(due.ticket));
        if claimed {
            let state = std::mem::replace(&mut self.state, State::Loading { asked: false });
            if let State::Claiming { memory, .. } = state {
                let mut batcher = Batcher::new(self.settings.flush, memory.end.next);
                if self.drain.is_some() {
                    batcher.force();
                }
                self.state = State::Running(Running {
                    batcher,
                    saving: Saving::Idle(memory),
                });
            }
        }
    }

    /// The group takes no commit any more; the chain says where to go on anyway.
    pub fn forgo_commit(&mut self) {
        self.commit.wanted = None;
    }

    /// Read no more, save what is here, within the deadline.
    pub fn drain(&mut self, deadline: Instant) {
        let deadline = self
            .drain
            .map_or(deadline, |drain| drain.deadline.min(deadline));
        self.drain = Some(Drain { deadline });
        if let State::Running(running) = &mut self.state {
            running.batcher.force();
        }
    }

    /// How far the drain has got; a partition that does not run has nothing to flush.
    #[must_use]
    pub fn drain_state(&self, now: Instant) -> DrainState {
        let left = match &self.state {
            State::Running(running) => running.buffered_any() || self.commit.wanted.is_some(),
            _ => false,
        };
        match &self.drain {
            Some(drain) => drain.state(now, left),
            None => DrainState::Going,
        }
    }

    /// Bytes held in memory for this partition, those being saved included.
    #[must_use]
    pub fn buffered_bytes(&self) -> u64 {
        match &self.state {
            State::Running(running) => running.buffered(),
            _ => 0,
        }
    }

    fn commit_offset(&self) -> Option<Offset> {
        match &self.state {
            State::Claiming {
                memory,
                ticket: None,
            } => Some(memory.end.next),
            State::Running(_) => self.commit.wanted,
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

impl Running {
    fn poll(&mut self, now: Instant, settings: &Settings, serial: &mut u64) -> Option<Action> {
        let job = match std::mem::replace(&mut self.saving, Saving::Moving) {
            Saving::Idle(memory) => {
                let Some(batch) = self.batcher.take(now) else {
                    self.saving = Saving::Idle(memory);
                    return None;
                };
                assert_eq!(
                    batch.first, memory.end.next,
                    "a batch begins where the chain ends"
                );
                *serial += 1;
                Box::new(SaveJob {
                    serial: *serial,
                    batch: Arc::new(batch),
                    memory,
                    encoded: None,
                    attempt: 0,
                })
            }
            Saving::Resting { mut job, until } if until <= now => {
                *serial += 1;
                job.serial = *serial;
                job
            }
            Saving::InFlight {
                serial,
                batch,
                late_at,
                reported,
            } => {
                let late = !reported && late_at <= now;
                let action = late.then(|| Action::Late(batch.clone()));
                self.saving = Saving::InFlight {
                    serial,
                    batch,
                    late_at,
                    reported: reported || late,
                };
                return action;
            }
            other => {
                self.saving = other;
                return None;
            }
        };
        self.saving = Saving::InFlight {
            serial: job.serial,
            batch: job.batch.clone(),
            late_at: now + settings.persist_timeout,
            reported: false,
        };
        Some(Action::Save(job))
    }

    fn buffered(&self) -> u64 {
        let saving = match &self.saving {
            Saving::InFlight { batch, .. } => batch.bytes,
            Saving::Resting { job, .. } => job.batch.bytes,
            Saving::Idle(_) | Saving::Moving => 0,
        };
        self.batcher.bytes() + saving
    }

    fn buffered_any(&self) -> bool {
        !self.batcher.is_empty() || !matches!(self.saving, Saving::Idle(_))
    }
}
