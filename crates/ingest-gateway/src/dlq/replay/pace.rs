//! How fast a replay goes: beside live traffic, or at a rate.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::queue::Queue;

/// Live traffic gets this many times as long as a replayed chunk took.
const LIVE_SHARE: u32 = 2;

/// How fast it goes.
pub enum Pace {
    /// Beside live traffic, which has the right of way.
    BesideLive(Arc<Queue>),
    /// At most so many records a second; 0: as fast as they go.
    Rate(u64),
}

/// What a chunk began with.
pub(super) struct Begun {
    at: Instant,
    pushed: u64,
}

impl Pace {
    pub(super) fn begin(&self) -> Begun {
        Begun {
            at: Instant::now(),
            pushed: match self {
                Self::BesideLive(queue) => queue.pushed(),
                Self::Rate(_) => 0,
            },
        }
    }

    /// Between a chunk of so many records and the next.
    #[expect(clippy::cast_precision_loss, reason = "a pause")]
    pub(super) fn pause(&self, begun: Begun, records: u64) -> Duration {
        let took = begun.at.elapsed();
        match self {
            Self::BesideLive(queue) if queue.pushed() != begun.pushed => took * LIVE_SHARE,
            Self::Rate(rate) if *rate > 0 => {
                let due = Duration::from_secs_f64(records as f64 / *rate as f64);
                due.saturating_sub(took)
            }
            _ => Duration::ZERO,
        }
    }

    /// Most records of a chunk, where it has more than one entry.
    pub(super) fn records_max(&self) -> usize {
        match self {
            Self::Rate(rate) if *rate > 0 => usize::try_from(*rate).unwrap_or(usize::MAX),
            _ => usize::MAX,
        }
    }
}
