//! Pauses between attempts: exponential, full jitter, bounded. Pure: randomness is passed in, and
//! how often and until when to try is the caller's to bound.

use std::time::Duration;

/// Pauses between attempts.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    pub base: Duration,
    pub max: Duration,
}

impl Backoff {
    /// The pause before attempt `attempt` (1 = the first retry): uniform in
    /// `0..=min(max, base * 2^(attempt-1))`. `random` is uniform in `0.0..1.0`.
    #[must_use]
    pub fn pause(&self, attempt: u32, random: f64) -> Duration {
        let ceiling = self
            .base
            .saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)))
            .min(self.max);
        ceiling.mul_f64(random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_never_overflow() {
        let backoff = Backoff {
            base: Duration::from_millis(200),
            max: Duration::from_secs(5),
        };
        assert_eq!(backoff.pause(1, 1.0), Duration::from_millis(200));
        assert_eq!(backoff.pause(3, 1.0), Duration::from_millis(800));
        assert_eq!(backoff.pause(3, 0.5), Duration::from_millis(400));
        assert_eq!(backoff.pause(u32::MAX, 1.0), Duration::from_secs(5));
        assert_eq!(backoff.pause(1, 0.0), Duration::ZERO);
    }
}
