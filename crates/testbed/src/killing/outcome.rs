//! What came of a campaign, and how it is told.

use std::{collections::BTreeMap, fmt};

use super::{books::Scrapes, decide::Decided, schedule::Point};
use crate::{
    ledger::Ledger,
    oracle::Verdict,
    order::{self, Order},
};

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    pub ledger: Ledger,
    /// Before anything undecidable was decided.
    pub verdict: Verdict,
    pub tally: Tally,
    /// Removals that did all of their work.
    pub whole_removals: u32,
    /// Segments removed.
    pub removed: u64,
    /// `None` where it could not be checked.
    pub order: Option<Order>,
    /// At which the books were held against each other.
    pub scrapes: Scrapes,
    pub decided: Decided,
}

/// What the rounds have done.
#[derive(Default, Debug)]
pub struct Tally {
    /// How often writer or removal ended at each point.
    pub hits: BTreeMap<Point, u32>,
    /// Rounds whose step did not come in time: killed wherever it was.
    pub elsewhere: u32,
    /// How often a writer was stopped and woken behind removed segments.
    pub frozen: u32,
    /// Of these, at the step that was meant.
    pub frozen_there: u32,
    pub leaders_killed: u32,
    /// How often all was at rest, and what was stored was what was accepted.
    pub judged: u32,
}

impl Outcome {
    /// What was not looked at, though this campaign is there to look at it: it may hold for nothing.
    #[must_use]
    pub fn not_compared(&self) -> Vec<&'static str> {
        let (scrapes, frozen) = (&self.scrapes, self.tally.frozen > 0);
        let order = self.order.as_ref();
        [
            (scrapes.whole == 0, "the books, with every lag known"),
            (
                frozen && scrapes.beside_a_sleeper == 0,
                "the books beside a writer that slept",
            ),
            (
                order::can_check() && order.is_none_or(|order| order.poison == 0),
                "the order in each partition, with poison in it",
            ),
        ]
        .into_iter()
        .filter_map(|(is_missing, what)| is_missing.then_some(what))
        .collect()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            tally,
            scrapes,
            decided,
            ..
        } = self;
        let killed: u32 = tally.hits.values().sum();
        writeln!(
            f,
            "killed {killed} times at a step and {} times elsewhere, frozen and woken {} times ({} of \
             them at a step), {} leaders killed; {} segments removed, {} removals not disturbed",
            tally.elsewhere,
            tally.frozen,
            tally.frozen_there,
            tally.leaders_killed,
            self.removed,
            self.whole_removals,
        )?;
        writeln!(
            f,
            "the books held at {} scrapes with every lag known and at {} without, {} of them beside \
             a writer that slept or was just woken; stored was what was accepted {} times on the way",
            scrapes.whole, scrapes.without_lag, scrapes.beside_a_sleeper, tally.judged
        )?;
        writeln!(
            f,
            "of the undecidable messages {} were replayed and {} thrown away, and then each accepted \
             record was stored once",
            decided.replayed, decided.discarded
        )?;
        for (point, count) in &tally.hits {
            writeln!(f, "  {count:>5} {point}")?;
        }
        match &self.order {
            Some(order) => writeln!(f, "{order}")?,
            None => writeln!(f, "order not checked")?,
        }
        write!(f, "{}\n{}", self.ledger, self.verdict)
    }
}
