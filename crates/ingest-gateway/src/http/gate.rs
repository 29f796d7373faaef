//! How much is read of an HTTP/2 connection before anybody wants a body of it. A client may send
//! HTTP/2's own first window, 65,535 bytes and their frames, before it hears of a smaller one, and
//! all streams come through one connection; so of one whose bodies are refused nothing is read
//! beyond a bound, and where that is reached, the connection ends.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};

/// With the preface, which is read before, less than 64 KiB.
const UNWANTED_BYTES_MAX: usize = 63 * 1024;

#[derive(Debug)]
pub struct Gate(Mutex<State>);

#[derive(Debug)]
enum State {
    Closed(Closed),
    Open,
    Ended,
}

#[derive(Debug)]
struct Closed {
    /// How much may be read yet.
    left: usize,
    /// Whose bodies may still be wanted.
    requests: usize,
    /// Who waits to read more.
    reader: Option<Waker>,
}

/// A request whose body nobody has asked for yet.
#[derive(Debug)]
pub struct Unwanted(Arc<Gate>);

impl Gate {
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State::Closed(Closed {
            left: UNWANTED_BYTES_MAX,
            requests: 0,
            reader: None,
        }))))
    }

    #[must_use]
    pub fn request(self: &Arc<Self>) -> Unwanted {
        if let State::Closed(closed) = &mut *self.state() {
            closed.requests += 1;
        }
        Unwanted(Arc::clone(self))
    }

    /// How many bytes may be read now; 0 where the connection ends.
    pub fn poll_room(&self, context: &Context<'_>) -> Poll<usize> {
        match &mut *self.state() {
            State::Open => Poll::Ready(usize::MAX),
            State::Ended => Poll::Ready(0),
            State::Closed(closed) if closed.left == 0 => {
                closed.reader = Some(context.waker().clone());
                Poll::Pending
            }
            State::Closed(closed) => Poll::Ready(closed.left),
        }
    }

    /// So many were read.
    pub fn passed(&self, bytes: usize) {
        if let State::Closed(closed) = &mut *self.state() {
            closed.left = closed.left.saturating_sub(bytes);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic under this lock")
    }
}

impl State {
    fn turn(&mut self, state: Self) {
        if let Self::Closed(closed) = std::mem::replace(self, state)
            && let Some(reader) = closed.reader
        {
            reader.wake();
        }
    }
}

impl Unwanted {
    /// Its body has come to its end without being asked for: what was read of it is forgotten, and
    /// others' bodies behind it can be read on.
    pub fn is_over(self) {
        if let State::Closed(closed) = &mut *self.0.state() {
            closed.left = UNWANTED_BYTES_MAX;
            if let Some(reader) = closed.reader.take() {
                reader.wake();
            }
        }
    }

    /// The body is asked for: its sender is known, and all that is read has other bounds.
    pub fn is_wanted(self) {
        self.0.state().turn(State::Open);
    }
}

/// The request is over. What was read of it is forgotten, but where that was all that may be: then
/// the connection ends, unless another request may still want it.
impl Drop for Unwanted {
    fn drop(&mut self) {
        let mut state = self.0.state();
        let State::Closed(closed) = &mut *state else {
            return;
        };
        closed.requests -= 1;
        match (closed.left, closed.requests) {
            (0, 0) => state.turn(State::Ended),
            (0, _) => {}
            _ => closed.left = UNWANTED_BYTES_MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(gate: &Gate) -> Poll<usize> {
        gate.poll_room(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn of_a_body_that_nobody_wants_a_bound_is_read_and_then_the_connection_ends() {
        let gate = Gate::new();
        let request = gate.request();
        gate.passed(UNWANTED_BYTES_MAX - 10);
        assert_eq!(room(&gate), Poll::Ready(10));
        gate.passed(10);
        assert_eq!(room(&gate), Poll::Pending);
        drop(request);
        assert_eq!(room(&gate), Poll::Ready(0));
    }

    #[test]
    fn requests_that_end_within_the_bound_go_on_for_ever() {
        let gate = Gate::new();
        for _ in 0..10 {
            let request = gate.request();
            gate.passed(UNWANTED_BYTES_MAX - 1);
            drop(request);
        }
        assert_eq!(room(&gate), Poll::Ready(UNWANTED_BYTES_MAX));
    }

    #[test]
    fn a_body_that_is_wanted_opens_the_connection() {
        let gate = Gate::new();
        let (wanted, other) = (gate.request(), gate.request());
        gate.passed(UNWANTED_BYTES_MAX);
        assert_eq!(room(&gate), Poll::Pending);
        wanted.is_wanted();
        assert_eq!(room(&gate), Poll::Ready(usize::MAX));
        drop(other);
        gate.passed(UNWANTED_BYTES_MAX);
        assert_eq!(room(&gate), Poll::Ready(usize::MAX));
    }

    #[test]
    fn refused_bodies_that_come_to_their_end_let_those_behind_them_be_read() {
        let gate = Gate::new();
        let (first, behind) = (gate.request(), gate.request());
        gate.passed(UNWANTED_BYTES_MAX);
        assert_eq!(room(&gate), Poll::Pending);
        first.is_over();
        assert_eq!(room(&gate), Poll::Ready(UNWANTED_BYTES_MAX));
        gate.passed(UNWANTED_BYTES_MAX);
        drop(behind);
        assert_eq!(room(&gate), Poll::Ready(0), "it never ended");
    }

    #[test]
    fn a_connection_does_not_end_while_another_body_may_be_wanted() {
        let gate = Gate::new();
        let (refused, wanted) = (gate.request(), gate.request());
        gate.passed(UNWANTED_BYTES_MAX);
        drop(refused);
        assert_eq!(room(&gate), Poll::Pending);
        wanted.is_wanted();
        assert_eq!(room(&gate), Poll::Ready(usize::MAX));
    }
}
