//! How fast the queue fills, and when it is full at that rate. Pure: time is passed in.

use std::time::{Duration, Instant};

/// What was written longer ago counts for little.
const MEMORY: Duration = Duration::from_secs(60);
/// A rate that is said after less than this would be a guess.
const SHORTEST: Duration = Duration::from_secs(1);
/// Below it nothing is written any more.
const BYTES_PER_SECOND_MIN: f64 = 1.0;
/// The longest time that is said, also where nothing is written: a year.
pub const SECONDS_LEFT_MAX: f64 = 365.0 * 86_400.0;

/// Bytes written in a second: an average over about a minute, right from the first second on.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct WriteRate {
    /// Bytes, each worth less the longer ago it was written.
    weight: f64,
    at: Instant,
    /// When the writing began.
    began: Option<Instant>,
}

impl WriteRate {
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            weight: 0.0,
            at: now,
            began: None,
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "an average needs no exact bytes"
    )]
    pub fn wrote(&mut self, bytes: u64, now: Instant) {
        if self.per_second(now) < BYTES_PER_SECOND_MIN {
            *self = Self::new(now);
        }
        if bytes == 0 {
            return;
        }
        self.weight = self.weight_at(now) + bytes as f64;
        self.at = now;
        self.began.get_or_insert(now);
    }

    #[must_use]
    pub fn per_second(&self, now: Instant) -> f64 {
        let Some(began) = self.began else {
            return 0.0;
        };
        let lasted = now.saturating_duration_since(began).max(SHORTEST);
        // What a steady stream of one byte a second that began then would weigh by now.
        let memory = MEMORY.as_secs_f64();
        let one = memory * (1.0 - (-lasted.as_secs_f64() / memory).exp());
        self.weight_at(now) / one
    }

    /// Seconds until `room` bytes are written, at most [`SECONDS_LEFT_MAX`].
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a gauge")]
    pub fn seconds_left(&self, room: u64, now: Instant) -> f64 {
        let rate = self.per_second(now);
        if room == 0 {
            return 0.0;
        }
        if rate < BYTES_PER_SECOND_MIN {
            return SECONDS_LEFT_MAX;
        }
        (room as f64 / rate).min(SECONDS_LEFT_MAX)
    }

    fn weight_at(&self, now: Instant) -> f64 {
        let ago = now.saturating_duration_since(self.at).as_secs_f64();
        self.weight * (-ago / MEMORY.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn close(found: f64, expected: f64) {
        let off = (found - expected).abs() / expected;
        assert!(off < 0.05, "{found} is not about {expected}");
    }

    #[test]
    fn a_steady_stream_has_its_rate_from_the_first_seconds_on() {
        let mut now = Instant::now();
        let mut rate = WriteRate::new(now);
        assert_eq!(rate.seconds_left(10_000, now), SECONDS_LEFT_MAX);
        for second in 0..600 {
            for _ in 0..20 {
                rate.wrote(50, now);
                now += SECOND / 20;
            }
            if second > 0 {
                close(rate.per_second(now), 1000.0);
                close(rate.seconds_left(60_000, now), 60.0);
            }
        }
    }

    #[test]
    fn one_large_write_is_not_taken_for_an_endless_rate() {
        let now = Instant::now();
        let mut rate = WriteRate::new(now);
        rate.wrote(1_000_000, now);
        close(rate.per_second(now), 1_000_000.0);
        close(rate.per_second(now + 30 * SECOND), 25_000.0);
    }

    #[test]
    fn a_new_rate_is_known_within_a_few_minutes_and_nothing_is_nothing() {
        let mut now = Instant::now();
        let mut rate = WriteRate::new(now);
        for _ in 0..300 {
            rate.wrote(1_000, now);
            now += SECOND;
        }
        for _ in 0..300 {
            rate.wrote(10_000, now);
            now += SECOND;
        }
        close(rate.per_second(now), 10_000.0);
        now += 3600 * SECOND;
        assert_eq!(rate.seconds_left(1, now), SECONDS_LEFT_MAX);
        // And a new stream begins anew.
        rate.wrote(5_000, now);
        close(rate.per_second(now + 10 * SECOND), 460.0);
        assert_eq!(rate.seconds_left(0, now), 0.0);
    }
}
