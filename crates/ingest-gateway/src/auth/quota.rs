//! How many records a key may send: a bucket that fills by time and is emptied by records.
//!
//! A request is let in while the bucket is above zero, and charged what it holds when it is known:
//! the bucket may go below zero, and what is owed then has to flow in before the next request. So
//! a large body passes at any rate, and the average is kept. [`Bucket`] is pure; [`Quota`] shares
//! one between the requests of a key.

use std::{
    sync::{Mutex, MutexGuard},
    time::Instant,
};

const NANOS: i128 = 1_000_000_000;

/// One key's quota.
#[derive(Debug)]
pub struct Quota(Mutex<Bucket>);

/// A level that rises by `rate` a second, up to one second's worth.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bucket {
    /// In billionths of a record, so that a nanosecond's share is a whole number.
    level: i128,
    /// Records a second, at least 1.
    rate: u64,
    /// When `level` was that.
    at: Instant,
}

impl Quota {
    #[must_use]
    pub fn new(rate: u64, now: Instant) -> Self {
        Self(Mutex::new(Bucket::full(rate, now)))
    }

    /// Whether a request may come in.
    ///
    /// # Errors
    /// Seconds until it may.
    pub fn admit(&self, now: Instant) -> Result<(), u32> {
        self.bucket().admit(now)
    }

    /// Takes `records` where a request may come in.
    ///
    /// # Errors
    /// Seconds until it may.
    pub fn charge(&self, records: u64, now: Instant) -> Result<(), u32> {
        self.bucket().charge(records, now)
    }

    /// What was charged and came to nothing.
    pub fn refund(&self, records: u64, now: Instant) {
        self.bucket().refund(records, now);
    }

    pub fn set_rate(&self, rate: u64, now: Instant) {
        self.bucket().set_rate(rate, now);
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.0.lock().expect("no panic under this lock")
    }
}

impl Bucket {
    /// One second's worth.
    #[must_use]
    pub fn full(rate: u64, now: Instant) -> Self {
        let rate = rate.max(1);
        Self {
            level: i128::from(rate) * NANOS,
            rate,
            at: now,
        }
    }

    /// # Errors
    /// Seconds until it is above zero again, at least 1.
    pub fn admit(&mut self, now: Instant) -> Result<(), u32> {
        self.flow(now);
        if self.level > 0 {
            return Ok(());
        }
        // Above zero, not at it.
        let nanos = -self.level / i128::from(self.rate) + 1;
        let seconds = (nanos + NANOS - 1) / NANOS;
        Err(u32::try_from(seconds).unwrap_or(u32::MAX))
    }

    /// # Errors
    /// As [`Self::admit`]; nothing is taken then.
    pub fn charge(&mut self, records: u64, now: Instant) -> Result<(), u32> {
        self.admit(now)?;
        self.level -= i128::from(records) * NANOS;
        Ok(())
    }

    pub fn refund(&mut self, records: u64, now: Instant) {
        self.flow(now);
        self.level += i128::from(records) * NANOS;
        self.spill();
    }

    /// What is owed stays owed.
    pub fn set_rate(&mut self, rate: u64, now: Instant) {
        self.flow(now);
        self.rate = rate.max(1);
        self.spill();
    }

    fn flow(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_nanos();
        self.at = self.at.max(now);
        let inflow = i128::try_from(passed)
            .unwrap_or(i128::MAX)
            .saturating_mul(self.rate.into());
        self.level = self.level.saturating_add(inflow);
        self.spill();
    }

    fn spill(&mut self) {
        self.level = self.level.min(i128::from(self.rate) * NANOS);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn one_second_is_there_at_once_and_a_large_body_is_owed() {
        let start = Instant::now();
        let mut bucket = Bucket::full(100, start);
        assert_eq!(bucket.charge(99, start), Ok(()));
        // One record is left, so this one is let in, and owes 999.
        assert_eq!(bucket.charge(1000, start), Ok(()));
        assert_eq!(bucket.charge(1, start), Err(10));
        let paid = start + Duration::from_millis(9_990);
        assert_eq!(bucket.admit(paid), Err(1), "at zero is not above it");
        assert_eq!(bucket.admit(paid + Duration::from_nanos(1)), Ok(()));
    }

    #[test]
    fn time_that_nobody_uses_fills_no_more_than_a_second() {
        let start = Instant::now();
        let mut bucket = Bucket::full(5, start);
        let later = start + seconds(1_000_000);
        assert_eq!(bucket.charge(10, later), Ok(()));
        assert_eq!(bucket.admit(later), Err(2), "-5 at 5 a second, and above");
        assert_eq!(bucket.admit(later + seconds(2)), Ok(()));
    }

    #[test]
    fn a_refund_gives_back_what_was_taken_and_no_more() {
        let start = Instant::now();
        let mut bucket = Bucket::full(10, start);
        let full = bucket.clone();
        assert_eq!(bucket.charge(400, start), Ok(()));
        bucket.refund(400, start);
        assert_eq!(bucket, full);
        bucket.refund(400, start);
        assert_eq!(bucket, full);
    }

    #[test]
    fn another_rate_forgives_nothing() {
        let start = Instant::now();
        let mut bucket = Bucket::full(10, start);
        assert_eq!(bucket.charge(110, start), Ok(()));
        bucket.set_rate(1, start);
        assert_eq!(bucket.admit(start), Err(101));
        bucket.set_rate(1000, start);
        assert_eq!(bucket.admit(start), Err(1));
        // A smaller bucket holds less.
        let mut bucket = Bucket::full(1000, start);
        bucket.set_rate(1, start);
        assert_eq!(bucket, Bucket::full(1, start));
    }

    #[test]
    fn extremes_neither_overflow_nor_go_back_in_time() {
        let start = Instant::now() + seconds(10);
        let mut bucket = Bucket::full(u64::MAX, start);
        assert_eq!(bucket.charge(u64::MAX, start), Ok(()));
        assert!(bucket.admit(start + seconds(1 << 40)).is_ok());
        let mut bucket = Bucket::full(0, start);
        assert_eq!(bucket.charge(u64::MAX, start), Ok(()));
        assert_eq!(bucket.admit(start), Err(u32::MAX));
        let before = bucket.clone();
        assert_eq!(bucket.admit(start - seconds(5)), Err(u32::MAX));
        assert_eq!(bucket, before);
    }

    /// Whatever comes: the average is kept, who waits as told is let in, and no second earlier.
    #[test]
    fn the_average_is_kept_and_retry_after_is_true() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..300 {
            let rate = random.u64(1..2000);
            let start = Instant::now();
            let mut bucket = Bucket::full(rate, start);
            let (mut now, mut taken, mut largest) = (start, 0_u64, 0);
            for _ in 0..200 {
                now += Duration::from_nanos(random.u64(0..2_000_000_000));
                let records = random.u64(1..5000);
                match bucket.charge(records, now) {
                    Ok(()) if random.u8(..) < 20 => bucket.refund(records, now),
                    Ok(()) => {
                        taken += records;
                        largest = largest.max(records);
                    }
                    Err(wait) => {
                        let told = now + seconds(wait.into());
                        assert!(bucket.clone().admit(told).is_ok());
                        if wait > 1 {
                            assert!(bucket.clone().admit(told - seconds(1)).is_err());
                        }
                    }
                }
                // In exact numbers: the first second, all time since, and the last body's debt.
                let allowed = u128::from(rate) * (seconds(1) + (now - start)).as_nanos()
                    + u128::from(largest) * NANOS as u128;
                assert!(u128::from(taken) * NANOS as u128 <= allowed);
            }
        }
    }
}
