//! A partition that reads and saves: the buffer, and the one save in flight.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Action, BACKOFF, Memory, SaveJob, SaveOutcome};
use crate::batcher::{Batch, Batcher};
use pipeline_core::Offset;

#[derive(Debug)]
pub(super) struct Running {
    pub batcher: Batcher,
    saving: Saving,
    /// When the save that has not landed yet was tried first.
    since: Option<Instant>,
}

#[derive(Debug)]
enum Saving {
    Idle(Box<Memory>),
    InFlight {
        serial: u64,
        batch: Arc<Batch>,
        /// Once it has begun, until it has been reported.
        late_at: Option<Instant>,
    },
    Resting {
        job: Box<SaveJob>,
        until: Instant,
    },
    /// Only while a value moves from one of the others to the next.
    Moving,
}

/// What a save that came back has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Came {
    /// It was not the one in flight.
    Stale,
    Landed(Offset),
    Rests,
    /// The chain is not what the memory says.
    Taken,
}

impl Running {
    pub fn new(batcher: Batcher, memory: Box<Memory>) -> Self {
        Self {
            batcher,
            saving: Saving::Idle(memory),
            since: None,
        }
    }

    pub fn poll(&mut self, now: Instant, serial: &mut u64) -> Option<Action> {
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
                self.since = Some(now);
                Box::new(SaveJob {
                    serial: *serial,
                    batch: Arc::new(batch),
                    memory,
                    encoded: None,
                    reserved: None,
                    aside: Vec::new(),
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
            } => {
                let late = late_at.is_some_and(|at| at <= now);
                let action = late.then(|| Action::Late(batch.clone()));
                self.saving = Saving::InFlight {
                    serial,
                    batch,
                    late_at: late_at.filter(|_| !late),
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
            late_at: None,
        };
        Some(Action::Save(job))
    }

    pub fn wake_at(&self) -> Option<Instant> {
        match &self.saving {
            Saving::Idle(_) => self.batcher.due_at(),
            Saving::InFlight { late_at, .. } => *late_at,
            Saving::Resting { until, .. } => Some(*until),
            Saving::Moving => None,
        }
    }

    pub fn begun(&mut self, serial: u64, now: Instant, persist_timeout: Duration) {
        if let Saving::InFlight {
            serial: own,
            late_at,
            ..
        } = &mut self.saving
            && *own == serial
        {
            *late_at = Some(now + persist_timeout);
        }
    }

    pub fn came(&mut self, serial: u64, outcome: SaveOutcome, now: Instant, random: f64) -> Came {
        let ours = matches!(&self.saving, Saving::InFlight { serial: own, .. } if *own == serial);
        if !ours {
            return Came::Stale;
        }
        match outcome {
            SaveOutcome::Landed(memory) => {
                let next = memory.end.next;
                self.saving = Saving::Idle(memory);
                self.since = None;
                Came::Landed(next)
            }
            SaveOutcome::Unknown(mut job) => {
                job.attempt += 1;
                let until = now + BACKOFF.pause(job.attempt, random);
                self.saving = Saving::Resting { job, until };
                Came::Rests
            }
            SaveOutcome::Taken => Came::Taken,
        }
    }

    /// Since when a batch is being saved, all tries included.
    pub fn saving_since(&self) -> Option<Instant> {
        self.since
    }

    /// Bytes in memory, those being saved included.
    pub fn bytes(&self) -> u64 {
        let saving = match &self.saving {
            Saving::InFlight { batch, .. } => batch.bytes,
            Saving::Resting { job, .. } => job.batch.bytes,
            Saving::Idle(_) | Saving::Moving => 0,
        };
        self.batcher.bytes() + saving
    }

    /// The time in the log of the oldest message in memory.
    pub fn oldest_ms(&self) -> Option<i64> {
        let saving = match &self.saving {
            Saving::InFlight { batch, .. } => batch.oldest_ms(),
            Saving::Resting { job, .. } => job.batch.oldest_ms(),
            Saving::Idle(_) | Saving::Moving => None,
        };
        saving.or_else(|| self.batcher.oldest_ms())
    }

    /// All that was read is in the chain.
    pub fn all_saved(&self) -> bool {
        self.batcher.is_empty() && matches!(self.saving, Saving::Idle(_))
    }
}
