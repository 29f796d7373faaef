//! What a campaign against the aggregator came to, and its words.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::looks::Seen;
use crate::{killing::schedule::Point, ledger::Ledger, oracle::Verdict};

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    pub ledger: Ledger,
    pub verdict: Verdict,
    /// How often an aggregator or a rebuild ended at each point.
    pub hits: BTreeMap<Point, u32>,
    /// Rounds whose step did not come in time: killed wherever it was.
    pub elsewhere: u32,
    /// How often an aggregator was stopped, and woken behind another.
    pub frozen: u32,
    /// Rebuilds that came to their end.
    pub rebuilds: u32,
    /// How often the writer was killed or frozen.
    pub blows: u32,
    /// Scrapes at which the books held.
    pub scrapes: u64,
    /// Runs of the aggregator, at least.
    pub runs: u64,
    pub looks: Seen,
    /// What DuckDB compared at the pauses and at the end.
    pub compared: Vec<String>,
    /// Segments removed, and how long those took that were there while strays came on and on.
    pub removed: u64,
    pub gone_within: Option<Duration>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let killed: u32 = self.hits.values().sum();
        writeln!(
            f,
            "killed {killed} times at a step and {} times elsewhere, frozen and woken {} times, {} \
             rebuilds, writer hit {} times; the books held at {} scrapes of {} runs",
            self.elsewhere, self.frozen, self.rebuilds, self.blows, self.scrapes, self.runs
        )?;
        writeln!(f, "{}", self.looks)?;
        write!(f, "{} segments removed", self.removed)?;
        match self.gone_within {
            Some(time) => writeln!(f, "; those of one moment were gone after {time:.1?}")?,
            None => writeln!(f)?,
        }
        for compared in &self.compared {
            writeln!(f, "  {compared}")?;
        }
        for (point, count) in &self.hits {
            writeln!(f, "  {count:>5} {point}")?;
        }
        write!(f, "{}\n{}", self.ledger, self.verdict)
    }
}
