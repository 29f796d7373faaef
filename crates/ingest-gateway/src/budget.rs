//! The memory that bodies, queue, workers and dead letter queue share (`server.memoryBudget`).
//!
//! ```text
//! connection ─▶ body ─▶ batch on the queue ─▶ worker, dead letter queue
//!               try     the body's share        force
//! ```
//!
//! Only counts. A [`Share`] goes with what holds the memory and comes back when that is dropped.
//! What is not accepted yet asks ([`Share::try_set`]) and is refused; what has to be done for
//! what is accepted takes ([`Share::force_set`]) and so keeps new bodies out. A part of the budget
//! is there for the second kind alone, so that it does not begin where the first has taken all.
//! Of the rest a part is for small shares alone: a few large bodies, however slow, leave it to all
//! others.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// One part in so many is only taken by force.
const FORCED_PART: u64 = 8;
/// One part in so many is only taken by force or by shares that are small,
const SMALL_PART: u64 = 16;
/// which is up to this.
const SMALL_BYTES_MAX: u64 = 64 * 1024;

/// Counts bytes in use against a maximum.
#[derive(Debug)]
pub struct Budget {
    bytes_max: u64,
    free_max: u64,
    /// Of `free_max`, for shares of more than `small_max`.
    large_max: u64,
    small_max: u64,
    used: AtomicU64,
}

/// A part of a budget; given back on drop. The default one is of no budget and grows freely.
#[derive(Debug, Default)]
pub struct Share {
    of: Option<Arc<Budget>>,
    bytes: u64,
}

impl Budget {
    /// The process's budget.
    #[must_use]
    pub fn new(bytes_max: u64) -> Arc<Self> {
        Self::divided(bytes_max, SMALL_BYTES_MAX)
    }

    fn divided(bytes_max: u64, small_max: u64) -> Arc<Self> {
        let free_max = bytes_max - bytes_max / FORCED_PART;
        Arc::new(Self {
            bytes_max,
            free_max,
            large_max: free_max - bytes_max / SMALL_PART,
            small_max,
            used: AtomicU64::new(0),
        })
    }

    /// A budget that keeps nothing back for anybody.
    #[must_use]
    pub fn without_reserve(bytes_max: u64) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            free_max: bytes_max,
            large_max: bytes_max,
            small_max: 0,
            used: AtomicU64::new(0),
        })
    }

    #[must_use]
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// What shares can have without force, all together.
    #[must_use]
    pub fn free_max(&self) -> u64 {
        self.free_max
    }

    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }

    /// What one share can have without force: more never fits, however long one waits.
    #[must_use]
    pub fn share_max(&self) -> u64 {
        self.large_max.max(self.small_max.min(self.free_max))
    }

    /// A share of nothing yet.
    #[must_use]
    pub fn share(self: &Arc<Self>) -> Share {
        Share {
            of: Some(Arc::clone(self)),
            bytes: 0,
        }
    }

    /// A share of `bytes`, whatever is free.
    #[must_use]
    pub fn forced(self: &Arc<Self>, bytes: u64) -> Share {
        let mut share = self.share();
        share.force_set(bytes);
        share
    }

    /// How much may be used for a share to be as large as `bytes`.
    fn used_max(&self, bytes: u64) -> u64 {
        if bytes > self.small_max {
            self.large_max
        } else {
            self.free_max
        }
    }

    fn try_take(&self, bytes: u64, used_max: u64) -> bool {
        let taken = self
            .used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                fits(used, bytes, used_max).then(|| used + bytes)
            });
        taken.is_ok()
    }

    fn take(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::AcqRel);
    }

    fn give_back(&self, bytes: u64) {
        let before = self.used.fetch_sub(bytes, Ordering::AcqRel);
        debug_assert!(before >= bytes, "{bytes} of {before} given back");
    }
}

impl Share {
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether [`Self::try_set`] would do now.
    #[must_use]
    pub fn has_room(&self, bytes: u64) -> bool {
        self.of.as_ref().is_none_or(|budget| {
            let more = bytes.saturating_sub(self.bytes);
            more == 0 || fits(budget.used(), more, budget.used_max(bytes))
        })
    }

    /// Makes the share `bytes` large; `false` where that is more than there is room for, and the
    /// share stays as it was. Less always fits.
    #[must_use]
    pub fn try_set(&mut self, bytes: u64) -> bool {
        if let Some(budget) = &self.of
            && bytes > self.bytes
        {
            if !budget.try_take(bytes - self.bytes, budget.used_max(bytes)) {
                return false;
            }
            self.bytes = bytes;
        } else {
            self.force_set(bytes);
        }
        true
    }

    /// Makes the share `bytes` large, whatever is free.
    pub fn force_set(&mut self, bytes: u64) {
        if let Some(budget) = &self.of {
            if bytes > self.bytes {
                budget.take(bytes - self.bytes);
            } else {
                budget.give_back(self.bytes - bytes);
            }
        }
        self.bytes = bytes;
    }

    /// A share of its own for `bytes` of this one, or for all of it where it is smaller.
    #[must_use]
    pub fn split(&mut self, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self {
            of: self.of.clone(),
            bytes,
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Some(budget) = &self.of {
            budget.give_back(self.bytes);
        }
    }
}

fn fits(used: u64, more: u64, max: u64) -> bool {
    used.checked_add(more).is_some_and(|sum| sum <= max)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn the_reserve_is_only_taken_by_force() {
        let budget = Budget::new(800);
        let mut body = budget.share();
        assert!(body.try_set(700));
        assert!(!budget.share().has_room(1));
        assert!(!body.try_set(701));
        assert_eq!(body.bytes(), 700, "a refused share stays as it was");
        let encoded = budget.forced(300);
        assert_eq!(budget.used(), 1000);
        // What was taken by force keeps bodies out until it is back, also below their own bound.
        assert!(body.try_set(600));
        assert!(!body.try_set(601));
        drop(encoded);
        assert!(body.try_set(700));
    }

    #[test]
    fn large_shares_leave_a_part_to_small_ones() {
        let budget = Budget::divided(1600, 10);
        let mut large = budget.share();
        assert_eq!(budget.share_max(), 1300);
        assert!(large.has_room(1300) && !large.has_room(1301));
        assert!(large.try_set(1300) && !large.try_set(1301));
        let mut small: Vec<_> = (0..10).map(|_| budget.share()).collect();
        assert!(small.iter_mut().all(|share| share.try_set(10)));
        assert!(!budget.share().has_room(1));
        // None of them grows into that part either.
        drop(small.pop());
        assert!(small[0].has_room(10) && !small[0].has_room(11));
        assert!(!small[0].try_set(11));
        // What is there already may shrink, to whatever is still large.
        assert!(large.try_set(1200));
        assert!(!large.try_set(1211) && large.try_set(1210));
    }

    #[test]
    fn a_split_share_is_given_back_in_its_parts() {
        let budget = Budget::new(800);
        let mut whole = budget.share();
        assert!(whole.try_set(100));
        let part = whole.split(30);
        assert_eq!((whole.bytes(), part.bytes(), budget.used()), (70, 30, 100));
        drop(whole);
        assert_eq!(budget.used(), 30);
        let mut part = part;
        let all = part.split(u64::MAX);
        assert_eq!((part.bytes(), all.bytes(), budget.used()), (0, 30, 30));
        drop((part, all));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn no_size_overflows() {
        let budget = Budget::new(u64::MAX);
        let mut share = budget.forced(u64::MAX - 1);
        assert!(!budget.share().try_set(u64::MAX));
        assert!(share.try_set(0));
        assert_eq!(budget.used(), 0);
    }

    /// One step of a random schedule; `true` where a share was forced.
    fn step(rng: &mut fastrand::Rng, budget: &Arc<Budget>, shares: &mut Vec<Share>) -> bool {
        let bytes = rng.u64(0..=budget.bytes_max() / 3);
        let at = rng.usize(0..=shares.len());
        if at == shares.len() {
            shares.push(budget.share());
        }
        match rng.u8(0..10) {
            0..5 => {
                let (before, used) = (shares[at].bytes(), budget.used());
                let has_room = shares[at].has_room(bytes);
                let set = shares[at].try_set(bytes);
                assert!(set || bytes > before, "less always fits");
                assert_eq!(set, has_room, "what is asked for is what is given");
                assert_eq!(shares[at].bytes(), if set { bytes } else { before });
                let grown_large = set && bytes > before.max(budget.small_max);
                assert!(!grown_large || budget.used() <= budget.large_max);
                let small = bytes <= budget.small_max.min(budget.free_max.saturating_sub(used));
                assert!(
                    set || !small,
                    "what is left of its part is there for who is small"
                );
            }
            5..7 => {
                let part = shares[at].split(bytes);
                shares.push(part);
            }
            7..9 => drop(shares.swap_remove(at)),
            _ => {
                shares[at].force_set(bytes);
                return true;
            }
        }
        false
    }

    #[test]
    fn whatever_the_order_the_count_is_the_sum_of_the_shares_and_bounded_unless_forced() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let bytes_max = rng.u64(8..10_000);
            let budget = Budget::divided(bytes_max, rng.u64(..bytes_max / 3));
            let mut shares = Vec::new();
            for _ in 0..200 {
                let before = budget.used();
                let forced = step(&mut rng, &budget, &mut shares);
                let used = budget.used();
                assert_eq!(used, shares.iter().map(Share::bytes).sum::<u64>());
                let bounded = used <= budget.free_max() || used <= before;
                assert!(forced || bounded, "seed {seed}: {before} to {used}");
            }
            drop(shares);
            assert_eq!(budget.used(), 0, "seed {seed}");
        }
    }

    #[test]
    fn threads_together_never_take_more_than_there_is_and_give_all_back() {
        let budget = Budget::new(1000);
        let work = |seed| {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut shares: Vec<_> = (0..4).map(|_| budget.share()).collect();
            for _ in 0..20_000 {
                let at = rng.usize(..shares.len());
                let _ = shares[at].try_set(rng.u64(0..400));
                assert!(budget.used() <= budget.free_max());
                let part = shares[at].split(rng.u64(0..100));
                drop(std::mem::replace(&mut shares[rng.usize(..4)], part));
            }
        };
        thread::scope(|scope| {
            for seed in 0..4 {
                scope.spawn(move || work(seed));
            }
        });
        assert_eq!(budget.used(), 0);
    }
}
