//! Whether it is worth asking Kafka at all, for one partition. Pure: time is passed in.
//!
//! ```text
//!       FAILURES_MAX in a row, or a timeout    a probe answered
//! closed ───────────────────────────▶ open ─────────────────────▶ half-open
//!    ▲                                 ▲                              │
//!    │                                 └── its one trial failed ──────┤
//!    └──────────────────────────────────── its one trial succeeded ───┘
//! ```
//!
//! An outage so costs a few attempts and not a full timeout for each batch. The probe is a lookup
//! of the partition's end, made by the link keeper in any case. Attempts that fail side by side
//! are one failure: a leader that moves refuses all that is on its way to it, and is well; and what
//! began before a trial says nothing about it. Where
//! nothing but lookups has failed, one that is answered closes the circuit: a gateway without
//! traffic makes no trial.

use std::time::{Duration, Instant};

/// Failures in a row that open the circuit.
pub const FAILURES_MAX: u32 = 3;
/// Shortest time that it stays open; doubled by each failed trial.
pub const PAUSE_MIN: Duration = Duration::from_millis(500);
/// Longest time that it stays open.
pub const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A trial that nobody reported on in this time is forgotten, and another one may start.
pub const TRIAL_MAX: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Closed {
        failures: u32,
        /// The last of them.
        at: Option<Instant>,
        /// One of them was of a send.
        send: bool,
    },
    Open {
        until: Instant,
        pause: Duration,
        /// A send has failed, and not only lookups.
        send: bool,
    },
    HalfOpen {
        /// What began before says nothing new.
        since: Instant,
        trial: Option<Instant>,
        pause: Duration,
    },
}

const CLOSED: State = State::Closed {
    failures: 0,
    at: None,
    send: false,
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Circuit(State);

impl Default for Circuit {
    fn default() -> Self {
        Self(CLOSED)
    }
}

impl Circuit {
    /// Whether a send may go now. Half-open, only one may: the caller that gets `true` reports
    /// with [`Self::success`] or [`Self::failure`].
    pub fn admit(&mut self, now: Instant) -> bool {
        match &mut self.0 {
            State::Closed { .. } => true,
            State::Open { .. } => false,
            State::HalfOpen { trial, .. } => {
                let free = trial.is_none_or(|began| now.duration_since(began) >= TRIAL_MAX);
                if free {
                    *trial = Some(now);
                }
                free
            }
        }
    }

    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.0, State::Closed { .. })
    }

    /// A send was acknowledged, or refused for a reason that says nothing about Kafka.
    pub fn success(&mut self) {
        self.0 = CLOSED;
    }

    /// A send that began at `began` failed in a way that says that Kafka is away.
    pub fn failure(&mut self, began: Instant, now: Instant) {
        self.failed(began, now, true);
    }

    /// A lookup that began at `began` failed.
    pub fn lookup_failed(&mut self, began: Instant, now: Instant) {
        self.failed(began, now, false);
    }

    fn failed(&mut self, began: Instant, now: Instant, of_send: bool) {
        let mut send = of_send;
        if let State::Closed {
            failures,
            at,
            send: before,
        } = self.0
        {
            send |= before;
            if at.is_some_and(|at| began < at) {
                // It was on its way when the last failed, and says the same once more.
                self.0 = State::Closed { failures, at, send };
                return;
            }
            if failures + 1 < FAILURES_MAX {
                self.0 = State::Closed {
                    failures: failures + 1,
                    at: Some(now),
                    send,
                };
                return;
            }
        }
        self.open(began, now, send);
    }

    /// A send that began at `began` had all the time that there is for one, and no answer.
    pub fn timeout(&mut self, began: Instant, now: Instant) {
        self.open(began, now, true);
    }

    fn open(&mut self, began: Instant, now: Instant, send: bool) {
        self.0 = match self.0 {
            State::Closed { .. } => State::Open {
                until: now + PAUSE_MIN,
                pause: PAUSE_MIN,
                send,
            },
            // Sends that were on their way when it opened.
            State::Open {
                until,
                pause,
                send: before,
            } => State::Open {
                until,
                pause,
                send: before || send,
            },
            // Only its trial decides, and before there is one, what began since.
            State::HalfOpen { since, trial, .. }
                if began < trial.unwrap_or(since) || (trial.is_some() && !send) =>
            {
                self.0
            }
            State::HalfOpen { trial, pause, .. } => {
                let pause = match trial {
                    Some(_) => (pause * 2).min(PAUSE_MAX),
                    None => pause,
                };
                State::Open {
                    until: now + pause,
                    pause,
                    // It was the reason that it was half-open.
                    send: true,
                }
            }
        };
    }

    /// A probe was answered: an open circuit whose pause is over lets one trial through, or all
    /// where no send has failed.
    pub fn probe_answered(&mut self, now: Instant) {
        if let State::Open { until, pause, send } = self.0
            && now >= until
        {
            self.0 = match send {
                true => State::HalfOpen {
                    since: now,
                    trial: None,
                    pause,
                },
                false => CLOSED,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(now: Instant) -> Circuit {
        let mut circuit = Circuit::default();
        for _ in 0..FAILURES_MAX {
            circuit.failure(now, now);
        }
        circuit
    }

    #[test]
    fn opens_only_after_failures_in_a_row() {
        let now = Instant::now();
        let mut circuit = Circuit::default();
        for _ in 0..5 {
            circuit.failure(now, now);
            circuit.failure(now, now);
            assert!(circuit.admit(now));
            circuit.success();
        }
        assert!(!opened(now).admit(now));
    }

    #[test]
    fn what_fails_side_by_side_is_one_failure() {
        let began = Instant::now();
        let mut circuit = Circuit::default();
        for ms in 1..50 {
            circuit.failure(began, began + Duration::from_millis(ms));
        }
        let now = began + PAUSE_MAX;
        assert!(circuit.admit(now));
        circuit.failure(now, now);
        assert!(circuit.admit(now));
        circuit.failure(now, now);
        assert!(!circuit.admit(now));
    }

    #[test]
    fn one_timeout_opens() {
        let now = Instant::now();
        let mut circuit = Circuit::default();
        circuit.timeout(now, now);
        assert!(!circuit.admit(now));
        circuit.probe_answered(now + PAUSE_MIN);
        assert!(circuit.admit(now + PAUSE_MIN));
    }

    #[test]
    fn lookups_that_fail_open_and_one_that_is_answered_closes_unless_a_send_has_failed_too() {
        let now = Instant::now();
        let looked_up = || {
            let mut circuit = Circuit::default();
            for _ in 0..FAILURES_MAX {
                circuit.lookup_failed(now, now);
            }
            assert!(!circuit.admit(now));
            circuit
        };
        let later = now + PAUSE_MIN;
        let mut quiet = looked_up();
        quiet.probe_answered(later);
        assert!(quiet.is_closed());
        let mut sending = looked_up();
        sending.failure(now, now);
        sending.probe_answered(later);
        assert!(!sending.is_closed());
        assert!(sending.admit(later), "a trial");
    }

    #[test]
    fn half_open_lets_one_through_and_its_outcome_decides() {
        let now = Instant::now();
        let mut circuit = opened(now);
        circuit.probe_answered(now);
        assert!(!circuit.admit(now), "the pause is not over");
        let later = now + PAUSE_MIN;
        assert!(!circuit.admit(later), "no probe was answered since");
        circuit.probe_answered(later);
        assert!(circuit.admit(later));
        assert!(!circuit.admit(later), "one trial at a time");
        circuit.failure(later, later);
        circuit.probe_answered(later + PAUSE_MIN);
        assert!(!circuit.admit(later + PAUSE_MIN), "the pause has doubled");
        circuit.probe_answered(later + PAUSE_MIN * 2);
        assert!(circuit.admit(later + PAUSE_MIN * 2));
        circuit.success();
        assert!(circuit.is_closed());
    }

    #[test]
    fn what_was_on_its_way_when_it_opened_does_not_end_the_trial() {
        let began = Instant::now();
        let mut circuit = opened(began);
        let later = began + PAUSE_MIN;
        circuit.probe_answered(later);
        circuit.failure(began, later);
        circuit.timeout(began, later);
        circuit.lookup_failed(began, later);
        assert!(circuit.admit(later), "before the trial");
        let trial = later + PAUSE_MIN;
        circuit.failure(began, trial);
        circuit.timeout(began, trial);
        circuit.lookup_failed(trial, trial);
        circuit.failure(later, trial);
        let again = trial + PAUSE_MIN * 2;
        circuit.probe_answered(again - PAUSE_MIN / 2);
        assert!(!circuit.admit(again - PAUSE_MIN / 2), "doubled once");
        circuit.probe_answered(again);
        assert!(circuit.admit(again), "and only once");
    }

    #[test]
    fn a_lookup_that_fails_while_half_open_opens_for_the_same_pause() {
        let now = Instant::now();
        let mut circuit = opened(now);
        let later = now + PAUSE_MIN;
        circuit.probe_answered(later);
        circuit.lookup_failed(later, later);
        assert!(!circuit.admit(later));
        circuit.probe_answered(later + PAUSE_MIN);
        assert!(circuit.admit(later + PAUSE_MIN));
    }

    #[test]
    fn a_trial_that_nobody_reports_on_does_not_block_for_ever() {
        let now = Instant::now();
        let mut circuit = opened(now);
        circuit.probe_answered(now + PAUSE_MAX);
        assert!(circuit.admit(now + PAUSE_MAX));
        assert!(!circuit.admit(now + PAUSE_MAX + TRIAL_MAX / 2));
        assert!(circuit.admit(now + PAUSE_MAX + TRIAL_MAX));
    }

    #[test]
    fn pauses_are_bounded() {
        let mut now = Instant::now();
        let mut circuit = opened(now);
        for _ in 0..40 {
            now += PAUSE_MAX;
            circuit.probe_answered(now);
            assert!(circuit.admit(now));
            circuit.failure(now, now);
        }
    }
}
