//! What the load client knows: each request, every answer to it, and so what the store may hold.

use std::{collections::BTreeMap, fmt, time::Duration};

use crate::body::Mix;

/// The whole load's book.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub mix: Mix,
    /// By request number.
    pub entries: Vec<Entry>,
    /// How often each answer came, as `202 kafka`, `503 draining`, `no answer`.
    pub answers: BTreeMap<String, u64>,
    /// Answers that the contract does not allow; the first few.
    pub faults: Vec<String>,
    /// `batchId` of what was accepted, by request number.
    pub batches: BTreeMap<u32, String>,
    /// From which request on something was going on, and what.
    pub marks: Vec<(u32, String)>,
    /// The longest that a request waited for its answer.
    pub slowest: Duration,
    /// Sending began to last answer.
    pub took: Duration,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub count: u32,
    pub broken: Option<u32>,
    pub fate: Fate,
}

/// What its answers say about its records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Every answer said that nothing was kept: no record of it may be there.
    Refused,
    /// No 202, but at least one try without an answer or with `unknown_outcome`: each record is
    /// there once or not at all.
    Unknown,
    /// A 202: each good record is there exactly once.
    Accepted,
}

impl Entry {
    pub fn good(&self) -> u32 {
        self.count - u32::from(self.broken.is_some())
    }
}

impl Ledger {
    /// Records that must be in the store.
    pub fn accepted(&self) -> u64 {
        self.records(Fate::Accepted)
    }

    /// Good records of all requests with this fate.
    pub fn records(&self, fate: Fate) -> u64 {
        let of_fate = self.entries.iter().filter(|entry| entry.fate == fate);
        of_fate.map(|entry| u64::from(entry.good())).sum()
    }

    /// What was going on when the request was first sent.
    pub fn at(&self, request: u32) -> &str {
        let before = self.marks.partition_point(|(from, _)| *from <= request);
        let mark = before.checked_sub(1).and_then(|last| self.marks.get(last));
        mark.map_or("before any mark", |(_, what)| what)
    }

    /// How often an answer came; a prefix counts all that begin so.
    pub fn answered(&self, answer: &str) -> u64 {
        let like = self
            .answers
            .iter()
            .filter(|(name, _)| name.starts_with(answer));
        like.map(|(_, count)| count).sum()
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.took.as_secs_f64();
        write!(
            f,
            "{} requests in {seconds:.1} s ({:.0} accepted records/s), slowest answer {:.2} s: \
             {} records accepted, {} of unknown outcome, {} refused; answers",
            self.entries.len(),
            self.accepted() as f64 / seconds.max(0.001),
            self.slowest.as_secs_f64(),
            self.accepted(),
            self.records(Fate::Unknown),
            self.records(Fate::Refused),
        )?;
        for (index, (answer, count)) in self.answers.iter().enumerate() {
            write!(f, "{} {answer}: {count}", if index > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}
