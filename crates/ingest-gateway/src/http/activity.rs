//! What one connection is doing, and when it may be closed for it. Knows no socket; the time is
//! passed in.
//!
//! A request is in work from the end of its head to its answer; the first part of that, its body
//! is still coming. A connection without a request in work is silent, also while a head trickles
//! in. Only a silent one is ever closed from here: what is in work is answered.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    task::Waker,
    time::{Duration, Instant},
};

use pipeline_core::telemetry::catalog;
use tokio::sync::Notify;

/// The first request's head must be whole by then; a TLS handshake is part of it.
const FIRST_REQUEST_MAX: Duration = Duration::from_secs(10);
/// From the first byte of a later head to its end (HTTP/1).
const HEAD_MAX: Duration = Duration::from_secs(10);
/// A connection between two requests is told to end after this.
const IDLE_MAX: Duration = Duration::from_secs(75);
/// And has this long to do so.
const GOODBYE_MAX: Duration = Duration::from_secs(5);
/// A silent one keeps its place for this long, whoever else wants it.
const SILENT_MIN: Duration = Duration::from_secs(1);
/// So does one whose body comes slower than [`SLOW_BYTES_PER_S`].
const SLOW_MIN: Duration = Duration::from_secs(1);
const SLOW_BYTES_PER_S: u64 = 1024;

/// Why a connection was closed that the client would have kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    Idle,
    SlowHead,
    SlowBody,
    MadeRoom,
}

impl Reason {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        let [_, idle, slow_head, slow_body, made_room] = catalog::CONNECTION_END_REASONS;
        match self {
            Self::Idle => idle,
            Self::SlowHead => slow_head,
            Self::SlowBody => slow_body,
            Self::MadeRoom => made_room,
        }
    }
}

/// What a connection is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    /// End after what is in work.
    Goodbye,
    /// End at once: nothing is in work, and nothing will be taken any more.
    Gone,
}

/// Why it may be closed to make room for another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Spare {
    /// Silent since then.
    Silent(Instant),
    /// With so many bytes a second of its body.
    Slow(u64),
}

#[derive(Debug)]
pub struct Activity {
    state: Mutex<State>,
    told: Notify,
}

#[derive(Debug)]
struct State {
    /// The accept, or the end of the last request.
    silent_since: Instant,
    head_since: Option<Instant>,
    requests: u64,
    working: usize,
    /// Of these, whose body is still coming.
    receiving: usize,
    receiving_since: Instant,
    received_bytes: u64,
    /// The bodies that are coming are to be given up.
    hurried: bool,
    hurry: Vec<Waker>,
    told: Option<(Told, Instant)>,
}

/// A request in work.
#[derive(Debug)]
pub struct Working(Arc<Activity>);

/// A body that is still coming.
#[derive(Debug)]
pub struct Receiving(Arc<Activity>);

impl Activity {
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            state: Mutex::new(State {
                silent_since: now,
                head_since: None,
                requests: 0,
                working: 0,
                receiving: 0,
                receiving_since: now,
                received_bytes: 0,
                hurried: false,
                hurry: Vec::new(),
                told: None,
            }),
            told: Notify::new(),
        }
    }

    /// A request's head is whole; `None` when the connection has been given up by then.
    #[must_use]
    pub fn begin(self: &Arc<Self>, body_comes: bool, now: Instant) -> Option<Begun> {
        let mut state = self.state();
        if matches!(state.told, Some((Told::Gone, _))) {
            return None;
        }
        state.requests += 1;
        state.working += 1;
        state.head_since = None;
        if body_comes {
            if state.receiving == 0 {
                state.receiving_since = now;
                state.received_bytes = 0;
            }
            state.receiving += 1;
        }
        Some(Begun {
            number: state.requests,
            working: Working(Arc::clone(self)),
            receiving: body_comes.then(|| Receiving(Arc::clone(self))),
        })
    }

    /// Bytes came. Between two requests they begin a head (HTTP/1).
    pub fn heard(&self, now: Instant) {
        let mut state = self.state();
        if state.working == 0 && state.head_since.is_none() {
            state.head_since = Some(now);
        }
    }

    /// What is to be told to this connection now, and why.
    pub fn due(&self, now: Instant) -> Option<(Told, Reason)> {
        let mut state = self.state();
        let age = |since: Instant| now.saturating_duration_since(since);
        if state.working > 0 {
            return None;
        }
        let due = match state.told {
            Some((Told::Gone, _)) => return None,
            Some((Told::Goodbye, at)) if age(at) > GOODBYE_MAX => (Told::Gone, Reason::Idle),
            Some(_) => return None,
            None if state.requests == 0 && age(state.silent_since) > FIRST_REQUEST_MAX => {
                (Told::Gone, Reason::SlowHead)
            }
            None if state.head_since.is_some_and(|since| age(since) > HEAD_MAX) => {
                (Told::Gone, Reason::SlowHead)
            }
            None if age(state.silent_since) > IDLE_MAX => (Told::Goodbye, Reason::Idle),
            None => return None,
        };
        self.tell(&mut state, due.0, now);
        Some(due)
    }

    /// Whether and why its place may go to another connection.
    #[must_use]
    pub fn spare(&self, now: Instant) -> Option<Spare> {
        self.state().spare(now)
    }

    /// Gives its place up, where it is still as spare as it was; says why.
    pub fn give_up(&self, seen: Spare, now: Instant) -> Option<Reason> {
        let mut state = self.state();
        match (state.spare(now)?, seen) {
            (Spare::Silent(since), Spare::Silent(seen)) if since == seen => {
                self.tell(&mut state, Told::Gone, now);
                Some(Reason::MadeRoom)
            }
            (Spare::Slow(_), Spare::Slow(_)) => {
                state.hurried = true;
                for waker in state.hurry.drain(..) {
                    waker.wake();
                }
                Some(Reason::SlowBody)
            }
            _ => None,
        }
    }

    /// Whether others want its place: nothing is waited for any more.
    #[must_use]
    pub fn is_hurried(&self) -> bool {
        self.state().hurried
    }

    /// Resolves when there is something to be told.
    pub async fn told(&self) -> Told {
        loop {
            let notified = self.told.notified();
            if let Some((told, _)) = self.state().told {
                return told;
            }
            notified.await;
        }
    }

    /// Resolves when it has been given up.
    pub async fn gone(&self) {
        loop {
            let notified = self.told.notified();
            if matches!(self.state().told, Some((Told::Gone, _))) {
                return;
            }
            notified.await;
        }
    }

    fn tell(&self, state: &mut State, told: Told, now: Instant) {
        state.told = Some((told, now));
        self.told.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }
}

impl State {
    fn spare(&self, now: Instant) -> Option<Spare> {
        if matches!(self.told, Some((Told::Gone, _))) || self.hurried {
            return None;
        }
        if self.working == 0 {
            let silent = now.saturating_duration_since(self.silent_since);
            return (silent >= SILENT_MIN).then_some(Spare::Silent(self.silent_since));
        }
        let took = now.saturating_duration_since(self.receiving_since);
        if self.receiving < self.working || took < SLOW_MIN {
            return None;
        }
        let rate = u128::from(self.received_bytes) * 1000 / took.as_millis().max(1);
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        (rate < SLOW_BYTES_PER_S).then_some(Spare::Slow(rate))
    }
}

/// What comes of [`Activity::begin`].
#[derive(Debug)]
pub struct Begun {
    /// Of the request on its connection, from 1 on.
    pub number: u64,
    pub working: Working,
    pub receiving: Option<Receiving>,
}

impl Receiving {
    pub fn heard(&self, bytes: usize) {
        self.0.state().received_bytes += bytes as u64;
    }

    /// Whether the body is given up; else `waker` is woken when it is.
    #[must_use]
    pub fn is_hurried(&self, waker: &Waker) -> bool {
        let mut state = self.0.state();
        if !state.hurried && !state.hurry.iter().any(|other| other.will_wake(waker)) {
            state.hurry.push(waker.clone());
        }
        state.hurried
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.receiving -= 1;
        if state.receiving == 0 {
            state.hurry.clear();
        }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.working -= 1;
        state.silent_since = Instant::now();
    }
}

#[cfg(test)]
mod tests;
