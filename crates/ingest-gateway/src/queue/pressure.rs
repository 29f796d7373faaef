//! How full the queue is and how fast it empties. Pure: time is passed in.

use std::time::{Duration, Instant};

/// Says once that the mark was crossed, and once that it is over: the way back is a little lower.
#[derive(Debug)]
pub struct HighWater {
    mark: f64,
    above: bool,
}

impl HighWater {
    const BACK: f64 = 0.8;

    #[must_use]
    pub fn new(mark: f64) -> Self {
        Self { mark, above: false }
    }

    pub fn crossed(&mut self, ratio: f64) -> Option<bool> {
        let above = if self.above {
            ratio > self.mark * Self::BACK
        } else {
            ratio >= self.mark
        };
        (above != self.above).then(|| {
            self.above = above;
            above
        })
    }
}

/// Bytes a second that leave the queue, over the last whole second or more.
#[derive(Debug)]
pub struct DrainRate {
    began: Instant,
    taken: u64,
    per_second: f64,
}

impl DrainRate {
    const WINDOW: Duration = Duration::from_secs(1);
    const SECONDS_MAX: f64 = 30.0;

    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            began: now,
            taken: 0,
            per_second: 0.0,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    fn roll(&mut self, now: Instant) {
        let elapsed = now.duration_since(self.began);
        if elapsed >= Self::WINDOW {
            self.per_second = self.taken as f64 / elapsed.as_secs_f64();
            self.taken = 0;
            self.began = now;
        }
    }

    pub fn took(&mut self, bytes: u64, now: Instant) {
        self.roll(now);
        self.taken += bytes;
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 1..=30"
    )]
    pub fn seconds_for(&mut self, held: u64, now: Instant) -> u32 {
        self.roll(now);
        // Half of what is held: then there is room again.
        let seconds = held as f64 / 2.0 / self.per_second.max(1.0);
        seconds.ceil().clamp(1.0, Self::SECONDS_MAX) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_water_mark_is_reported_once_per_crossing() {
        let mut mark = HighWater::new(0.9);
        let said: Vec<_> = [0.5, 0.9, 0.95, 0.8, 0.91, 0.7, 0.5, 0.95]
            .into_iter()
            .filter_map(|ratio| mark.crossed(ratio))
            .collect();
        assert_eq!(said, [true, false, true]);
    }

    #[test]
    fn retry_after_follows_the_drain_and_is_bounded() {
        let start = Instant::now();
        let mut drain = DrainRate::new(start);
        assert_eq!(drain.seconds_for(1_000, start), 30, "nothing leaves");
        drain.took(1_000, start);
        let later = start + Duration::from_secs(1);
        assert_eq!(drain.seconds_for(10_000, later), 5);
        assert_eq!(drain.seconds_for(10, later), 1);
    }
}
