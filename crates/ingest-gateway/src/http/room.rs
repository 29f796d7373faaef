//! What a connection and what a request holds of the memory budget, and what a request is told
//! where there is no room.
//!
//! A connection takes its part by force, as it is there; so all of them are bounded
//! ([`connections_bytes_max`]), and where they have much, bodies have less.

use std::sync::Arc;

use super::problem::{Code, Problem};
use crate::budget::{Budget, Share};

/// An open connection that has said nothing: its task, its place, what the runtime has of it.
/// Measured, as what follows, by the growth of RSS over 400 connections: 5.9 KiB.
const OPEN_BYTES: u64 = 6 * 1024;
/// One that is served, also between two requests: hyper keeps 8 KiB for heads of answers and has
/// read into a buffer of up to 32 KiB, which it keeps; its state and the handler's are 10 to 18.
/// Measured: 26 KiB after a first GET, up to 57 after bodies.
const SERVED_BYTES: u64 = 52 * 1024;
/// TLS has its keys, and a record of 16 KiB at most that is not whole yet.
const TLS_BYTES: u64 = 12 * 1024;
/// Of all bodies on one HTTP/2 connection: what its client may send before anybody reads it. Two
/// requests' worth; one is bounded by its own window in any case.
pub const HTTP2_WINDOW_BYTES: u32 = 128 * 1024;
/// All connections together have one part in so many of the budget at most.
const CONNECTIONS_PART: u64 = 2;

/// What a request holds besides its body: its headers as they are looked up, its answer, on HTTP/2
/// its stream and its task.
const REQUEST_BYTES: u64 = 4 * 1024;
/// While a piece of a body is decoded, the next one waits.
const PIECE_BYTES: u64 = 32 * 1024;

/// What all connections may have of a budget of so many bytes.
#[must_use]
pub fn connections_bytes_max(budget_bytes: u64) -> u64 {
    budget_bytes / CONNECTIONS_PART
}

/// As many HTTP/1 connections as have room in a budget of so many bytes, all of them served.
#[must_use]
pub fn connections_max(budget_bytes: u64, tls: bool) -> usize {
    let most = connections_bytes_max(budget_bytes) / served_bytes(tls);
    usize::try_from(most).unwrap_or(usize::MAX)
}

/// What one connection holds once it is served, besides an HTTP/2 window.
#[must_use]
pub fn served_bytes(tls: bool) -> u64 {
    SERVED_BYTES + tls_bytes(tls)
}

/// What one connection holds, whatever it is asked.
#[derive(Debug)]
pub struct ConnectionRoom {
    share: Share,
    tls: bool,
}

impl ConnectionRoom {
    /// Of one that has been accepted.
    #[must_use]
    pub fn open(budget: &Arc<Budget>, tls: bool) -> Self {
        let share = budget.forced(OPEN_BYTES + tls_bytes(tls));
        Self { share, tls }
    }

    /// Its first bytes have come.
    pub fn serve(&mut self, is_http2: bool) {
        let window = if is_http2 { HTTP2_WINDOW_BYTES } else { 0 };
        self.share
            .force_set(served_bytes(self.tls) + u64::from(window));
    }
}

fn tls_bytes(tls: bool) -> u64 {
    if tls { TLS_BYTES } else { 0 }
}

#[derive(Debug)]
pub struct Room {
    budget: Arc<Budget>,
    share: Share,
    head: u64,
}

impl Room {
    /// Room for a request with a head of `head` bytes, whose body has not been read. Of an
    /// announced length it is only asked whether there is room for it now: it is a claim, and
    /// memory is taken as the bytes come.
    ///
    /// # Errors
    /// Where there is none: then nothing of the body need be read.
    pub fn enter(budget: &Arc<Budget>, head: u64, announced: Option<u64>) -> Result<Self, Problem> {
        let mut room = Self {
            budget: Arc::clone(budget),
            share: budget.share(),
            head,
        };
        room.hold(0)?;
        let announced = announced.unwrap_or(0);
        if !room.share.has_room(room.with_body(announced)) {
            return Err(room.refused(announced));
        }
        Ok(room)
    }

    /// Makes room for `bytes` of the body and what comes of it; to be called before they are there.
    ///
    /// # Errors
    /// Where there is none: nothing of the body may be kept.
    pub fn hold(&mut self, bytes: u64) -> Result<(), Problem> {
        if self.share.try_set(self.with_body(bytes)) {
            Ok(())
        } else {
            Err(self.refused(bytes))
        }
    }

    /// The batch's own share, `bytes` of what is held; `errors` stays with the request until its
    /// answer, the rest is given back.
    #[must_use]
    pub fn hand_over(&mut self, bytes: u64, errors: u64) -> Share {
        self.share.force_set(self.with_body(bytes) + errors);
        self.share.split(bytes)
    }

    fn with_body(&self, bytes: u64) -> u64 {
        bytes.saturating_add(self.beside(bytes))
    }

    fn beside(&self, bytes: u64) -> u64 {
        REQUEST_BYTES + self.head + bytes.min(PIECE_BYTES)
    }

    fn refused(&self, bytes: u64) -> Problem {
        let max = self.budget.share_max().saturating_sub(self.beside(bytes));
        if bytes > max {
            return Problem::new(
                Code::TooLarge,
                format!(
                    "the body takes at least {bytes} bytes of memory, allowed by \
                     server.memoryBudget are {max}"
                ),
            );
        }
        Problem::new(
            Code::Memory,
            "server.memoryBudget has no room for the body now",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(refused: Result<(), Problem>) -> Code {
        refused.unwrap_err().code
    }

    #[test]
    fn a_connection_holds_little_until_its_first_bytes_and_all_it_may_then() {
        const KIB: u64 = 1 << 10;
        for (tls, open, http1, http2) in [(false, 6, 52, 180), (true, 18, 64, 192)] {
            let budget = Budget::new(8 << 20);
            let mut room = ConnectionRoom::open(&budget, tls);
            assert_eq!(budget.used(), open * KIB);
            room.serve(false);
            assert_eq!(budget.used(), http1 * KIB);
            room.serve(true);
            assert_eq!(budget.used(), http2 * KIB);
            drop(room);
            assert_eq!(budget.used(), 0);
        }
    }

    #[test]
    fn connections_have_half_of_the_budget_at_most() {
        for (mib, tls, most) in [
            (16, false, 157),
            (64, false, 630),
            (64, true, 512),
            // All of the default `server.maxConnections`.
            (512, true, 4096),
        ] {
            let bytes = mib << 20;
            assert_eq!(connections_max(bytes, tls), most, "{mib} MiB, TLS: {tls}");
            assert!(most as u64 * served_bytes(tls) <= connections_bytes_max(bytes));
        }
        let budget = Budget::new(16 << 20);
        let mut rooms: Vec<_> = (0..connections_max(16 << 20, false))
            .map(|_| ConnectionRoom::open(&budget, false))
            .collect();
        rooms.iter_mut().for_each(|room| room.serve(false));
        // Bodies have the rest.
        let mut body = Room::enter(&budget, 0, None).unwrap();
        body.hold(4 << 20).unwrap();
    }

    #[test]
    fn an_announced_length_is_asked_for_and_not_held() {
        let budget = Budget::new(8 << 20);
        let room = Room::enter(&budget, 0, Some(6 << 20)).unwrap();
        assert_eq!(budget.used(), REQUEST_BYTES);
        assert!(Room::enter(&budget, 0, Some(6 << 20)).is_ok());
        drop(room);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_head_is_held_as_long_as_its_request() {
        let budget = Budget::new(8 << 20);
        let mut room = Room::enter(&budget, 16_000, None).unwrap();
        assert_eq!(budget.used(), REQUEST_BYTES + 16_000);
        room.hold(1 << 20).unwrap();
        let share = room.hand_over(1000, 0);
        assert_eq!(budget.used(), 1000 + room.beside(1000));
        assert!(room.beside(1000) > 16_000);
        drop((room, share));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn what_does_not_fit_now_may_come_again_and_what_never_fits_may_not() {
        let budget = Budget::new(8 << 20);
        let mut first = Room::enter(&budget, 0, None).unwrap();
        first.hold(4 << 20).unwrap();
        let late = Room::enter(&budget, 0, Some(4 << 20)).unwrap_err();
        assert_eq!(late.code, Code::Memory);
        assert!(late.retry_after.is_some());
        let mut second = Room::enter(&budget, 0, None).unwrap();
        assert_eq!(code(second.hold(4 << 20)), Code::Memory);
        drop(first);
        second.hold(4 << 20).unwrap();
        assert_eq!(code(second.hold(8 << 20)), Code::TooLarge);
        let huge = Room::enter(&budget, 0, Some(8 << 20)).unwrap_err();
        assert_eq!(huge.code, Code::TooLarge);
        assert!(huge.detail.contains("server.memoryBudget"), "{huge:?}");
    }

    #[test]
    fn where_large_bodies_have_all_they_can_small_ones_go_on() {
        let budget = Budget::new(8 << 20);
        let mut slow = Room::enter(&budget, 0, None).unwrap();
        slow.hold(budget.share_max() - slow.beside(u64::MAX))
            .unwrap();
        let large = Room::enter(&budget, 0, Some(100_000)).unwrap_err();
        assert_eq!(large.code, Code::Memory);
        let mut small = Room::enter(&budget, 0, Some(10_000)).unwrap();
        small.hold(24_000).unwrap();
        assert_eq!(code(small.hold(60_000)), Code::Memory);
    }

    #[test]
    fn a_batch_takes_its_share_along() {
        let budget = Budget::new(8 << 20);
        let mut room = Room::enter(&budget, 0, None).unwrap();
        room.hold(1 << 20).unwrap();
        let share = room.hand_over(1000, 200);
        assert_eq!(share.bytes(), 1000);
        assert_eq!(budget.used(), 1000 + 200 + room.beside(1000));
        drop(room);
        assert_eq!(budget.used(), 1000);
    }
}
