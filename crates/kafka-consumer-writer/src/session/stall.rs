//! Whether a member still gets anywhere. Heartbeats alone must not keep the partitions of one that
//! does not: Kafka's own consumer has `max.poll.interval.ms` for that. No I/O, no clock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// A loop turns every second, where the machine lets it.
const STUCK_MIN: Duration = Duration::from_secs(10);

/// What the partitions of one session get done.
#[derive(Debug)]
pub(super) struct Progress {
    limit: Duration,
    /// When a save landed last, or a chain was read; at first, the session's beginning.
    made: Instant,
}

impl Progress {
    pub fn new(limit: Duration, now: Instant) -> Self {
        Self { limit, made: now }
    }

    pub fn made(&mut self, now: Instant) {
        self.made = now;
    }

    /// When it is stalled, unless something gets done before. `waiting`: since when each partition
    /// that waits for its disk does. One partition that gets on is enough: the others wait for
    /// something of their own, and a rebalance would only disturb it.
    pub fn stalls_at(&self, waiting: impl Iterator<Item = Instant>) -> Option<Instant> {
        let oldest = waiting.min()?;
        Some(oldest.max(self.made) + self.limit)
    }
}

/// The turns of a session's loop, as its heartbeats see them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Turns {
    began: Instant,
    limit: Duration,
    last_ms: Arc<AtomicU64>,
}

impl Turns {
    #[must_use]
    pub fn new(limit: Duration, now: Instant) -> Self {
        Self {
            began: now,
            limit: limit.max(STUCK_MIN),
            last_ms: Arc::default(),
        }
    }

    pub fn turn(&self, now: Instant) {
        self.last_ms.store(self.ms(now), Ordering::Relaxed);
    }

    /// Whether the loop has not turned for the limit.
    #[must_use]
    pub fn stuck(&self, now: Instant) -> bool {
        let last = self.last_ms.load(Ordering::Relaxed);
        u128::from(self.ms(now).saturating_sub(last)) >= self.limit.as_millis()
    }

    fn ms(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.began).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn nothing_that_waits_is_no_stall_however_long_nothing_was_done() {
        let progress = Progress::new(LIMIT, Instant::now());
        assert_eq!(progress.stalls_at([].into_iter()), None);
    }

    #[test]
    fn the_limit_counts_from_the_oldest_wait_and_anew_from_whatever_gets_done() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut progress = Progress::new(LIMIT, start);
        let waiting = || [at(7), at(3)].into_iter();
        assert_eq!(progress.stalls_at(waiting()), Some(at(13)));
        // Of a third partition.
        progress.made(at(12));
        assert_eq!(progress.stalls_at(waiting()), Some(at(22)));
    }

    #[test]
    fn a_loop_that_does_not_turn_is_stuck_and_one_that_does_is_not() {
        let start = Instant::now();
        let turns = Turns::new(LIMIT, start);
        let seen = turns.clone();
        assert!(!seen.stuck(start + LIMIT / 2));
        assert!(seen.stuck(start + LIMIT));
        turns.turn(start + LIMIT);
        assert!(!seen.stuck(start + LIMIT + LIMIT / 2));
        assert!(seen.stuck(start + 2 * LIMIT));
    }
}
