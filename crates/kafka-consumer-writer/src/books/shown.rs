//! The gauges of the books as a whole, and what of their state is shown on each. Those of one
//! partition are `lag`'s.

use metrics::{Gauge, gauge};
use pipeline_core::{
    store::{Fate, Totals},
    telemetry::catalog::{self, label},
};

use super::State;
use crate::takeover::HaltReason;

pub(super) const FATES: [Fate; 6] = [
    Fate::Stored,
    Fate::Duplicate,
    Fate::Poison,
    Fate::Undecidable,
    Fate::Skipped,
    Fate::Lost,
];

pub(super) struct Shown {
    totals: [Gauge; 6],
    assigned: Gauge,
    halted: Gauge,
    halts: [Gauge; HaltReason::ALL.len()],
    unread: Gauge,
    pub reach: Gauge,
    pub ends_age: Gauge,
}

impl Default for Shown {
    fn default() -> Self {
        Self {
            totals: FATES
                .map(|fate| gauge!(catalog::STORE_CHAIN_RECORDS, label::FATE => fate_name(fate))),
            assigned: gauge!(catalog::CONSUMER_PARTITIONS_ASSIGNED),
            halted: gauge!(catalog::CONSUMER_PARTITIONS_HALTED),
            halts: HaltReason::ALL.map(
                |reason| gauge!(catalog::CONSUMER_PARTITION_HALTS, label::REASON => reason.as_str()),
            ),
            unread: gauge!(catalog::STORE_CHAINS_UNREAD),
            reach: gauge!(catalog::CONSUMER_DEDUP_REACH),
            ends_age: gauge!(catalog::CONSUMER_LOG_ENDS_AGE),
        }
    }
}

impl Shown {
    #[allow(clippy::cast_precision_loss)]
    pub fn totals(&self, state: &State) {
        for (gauge, fate) in self.totals.iter().zip(FATES) {
            gauge.set(count(&state.sums, fate) as f64);
        }
    }

    #[allow(clippy::cast_precision_loss)]
    pub fn held(&self, state: &State) {
        let held = state.chapters.values().filter(|it| it.holder.is_some());
        let halts = |reason| held.clone().filter(|it| it.halt == Some(reason)).count();
        let by_reason = HaltReason::ALL.map(halts);
        for (gauge, count) in self.halts.iter().zip(by_reason) {
            gauge.set(count as f64);
        }
        self.halted.set(by_reason.iter().sum::<usize>() as f64);
        self.assigned.set(held.count() as f64);
    }

    #[allow(clippy::cast_precision_loss)]
    pub fn unread(&self, state: &State) {
        let unread = state.chapters.values().filter(|chapter| chapter.unread);
        self.unread.set(unread.count() as f64);
    }
}

fn fate_name(fate: Fate) -> &'static str {
    match fate {
        Fate::Stored => "stored",
        Fate::Duplicate => "duplicate",
        Fate::Poison => "poison",
        Fate::Undecidable => "undecidable",
        Fate::Skipped => "skipped",
        Fate::Lost => "lost",
    }
}

pub(super) fn count(totals: &Totals, fate: Fate) -> u64 {
    match fate {
        Fate::Stored => totals.stored,
        Fate::Duplicate => totals.duplicate,
        Fate::Poison => totals.poison,
        Fate::Undecidable => totals.undecidable,
        Fate::Skipped => totals.skipped,
        Fate::Lost => totals.lost,
    }
}
