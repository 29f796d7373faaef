//! The bound in bytes on what is buffered, over all partitions of the process.
//!
//! What is buffered holds a [`Reserved`]; dropping it gives the bytes back, wherever it was: in a
//! buffer, in a save that hangs, or in memory that was thrown away. What is read may take half of
//! the bound: the other half is for the segments made of it, which must not wait for room.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Shared by all partitions of the process.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bytes_max: u64,
    used: AtomicU64,
}

/// Bytes taken from a [`Budget`], given back on drop.
#[derive(Debug)]
pub struct Reserved {
    budget: Budget,
    bytes: u64,
}

impl Budget {
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        Self(Arc::new(Inner {
            bytes_max,
            used: AtomicU64::new(0),
        }))
    }

    #[must_use]
    pub fn bytes_max(&self) -> u64 {
        self.0.bytes_max
    }

    #[must_use]
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Most bytes of what is read.
    #[must_use]
    pub fn read_max(&self) -> u64 {
        self.0.bytes_max / 2
    }

    /// Takes bytes that are in memory already, whether they fit or not.
    #[must_use]
    pub fn take(&self, bytes: u64) -> Reserved {
        self.0.used.fetch_add(bytes, Ordering::Relaxed);
        Reserved {
            budget: self.clone(),
            bytes,
        }
    }

    /// Takes for what is about to be fetched what there is room for, at least `bytes_min` and at
    /// most `bytes_max`; `None` where there is less. An empty budget always gives, so that
    /// something moves however small it is.
    #[must_use]
    pub fn try_take(&self, bytes_min: u64, bytes_max: u64) -> Option<Reserved> {
        let mut bytes = 0;
        self.0
            .used
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                let room = self.read_max().saturating_sub(used);
                bytes = bytes_max.min(room.max(if used == 0 { bytes_min } else { 0 }));
                (bytes >= bytes_min).then(|| used.saturating_add(bytes))
            })
            .ok()
            .map(|_| Reserved {
                budget: self.clone(),
                bytes,
            })
    }
}

impl Reserved {
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_can_be_taken_again_and_no_more_than_half_is_read() {
        let budget = Budget::new(200);
        let first = budget.try_take(60, 60).expect("fits");
        assert!(budget.try_take(41, 90).is_none());
        let second = budget.try_take(20, 90).expect("what is left");
        assert_eq!((second.bytes(), budget.used()), (40, 100));
        assert!(budget.try_take(1, 1).is_none(), "the rest is for segments");
        let made = budget.take(100);
        assert_eq!(budget.used(), budget.bytes_max());
        drop((first, second, made));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn an_empty_budget_gives_more_than_it_has() {
        let budget = Budget::new(10);
        let all = budget.try_take(1_000, 2_000).expect("it is empty");
        assert_eq!(all.bytes(), 1_000);
        assert!(budget.try_take(1, 1).is_none(), "over the bound");
        drop(all);
        assert!(budget.try_take(5, 5).is_some());
    }
}
