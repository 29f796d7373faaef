//! Commits of one partition: one at a time, always the newest offset, after a pause where one
//! failed. Which offset is to be committed is decided by the core.

use std::time::Instant;

use pipeline_core::Offset;

use super::BACKOFF;

/// A commit to send; the ticket goes back with its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommitDue {
    pub offset: Offset,
    pub ticket: u64,
}

#[derive(Default, Debug)]
pub(super) struct Commits {
    /// What has landed and is not acknowledged.
    pub wanted: Option<Offset>,
    in_flight: Option<u64>,
    next_ticket: u64,
    not_before: Option<Instant>,
    failures: u32,
}

impl Commits {
    pub fn may_send(&self, now: Instant) -> bool {
        self.in_flight.is_none() && self.not_before.is_none_or(|at| at <= now)
    }

    pub fn send(&mut self, offset: Offset) -> CommitDue {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.in_flight = Some(ticket);
        CommitDue { offset, ticket }
    }

    /// Whether the answer was to the commit in flight.
    pub fn answered(&mut self, due: CommitDue, ok: bool, now: Instant, random: f64) -> bool {
        if self.in_flight != Some(due.ticket) {
            return false;
        }
        self.in_flight = None;
        if ok {
            self.failures = 0;
            self.not_before = None;
            if self.wanted == Some(due.offset) {
                self.wanted = None;
            }
        } else {
            self.failures += 1;
            self.not_before = Some(now + BACKOFF.pause(self.failures, random));
        }
        true
    }

    /// When the next may be sent, where it is time that it waits for.
    pub fn wake_at(&self) -> Option<Instant> {
        self.not_before.filter(|_| self.in_flight.is_none())
    }

    /// Nothing of before matters; one in flight is still waited for.
    pub fn start_over(&mut self) {
        self.wanted = None;
        self.not_before = None;
    }
}
