//! How much to ask of the leaders for what there is room for in memory.

use std::sync::atomic::{AtomicU64, Ordering};

const ONE: u64 = 16;

/// What a byte on the wire comes to in memory, by the answers so far: compressed batches grow.
pub(in crate::cluster) struct Growth(AtomicU64);

impl Default for Growth {
    fn default() -> Self {
        Self(AtomicU64::new(ONE))
    }
}

impl Growth {
    /// Bytes on the wire for so many in memory.
    pub(super) fn on_the_wire(&self, memory: u32) -> u32 {
        let asked = u64::from(memory) * ONE / self.0.load(Ordering::Relaxed);
        u32::try_from(asked).unwrap_or(u32::MAX).max(1)
    }

    /// More is believed at once, less by and by: too much asked for is read twice.
    pub(super) fn heard(&self, wire: usize, memory: usize) {
        if wire == 0 {
            return;
        }
        let found = (memory as u64 * ONE / wire as u64).max(ONE);
        let known = self.0.load(Ordering::Relaxed);
        self.0
            .store(found.max((known * 7 + found) / 8), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_believed_at_once_and_forgotten_slowly() {
        let growth = Growth::default();
        assert_eq!(growth.on_the_wire(8_000), 8_000);
        growth.heard(100, 50);
        assert_eq!(
            growth.on_the_wire(8_000),
            8_000,
            "never more than there is room for"
        );
        growth.heard(100, 800);
        assert_eq!(growth.on_the_wire(8_000), 1_000);
        growth.heard(100, 100);
        let asked = growth.on_the_wire(8_000);
        assert!((1_001..1_500).contains(&asked), "{asked}");
        for _ in 0..100 {
            growth.heard(100, 100);
        }
        assert!(growth.on_the_wire(8_000) > 7_000);
        assert_eq!(growth.on_the_wire(0), 1);
    }
}
