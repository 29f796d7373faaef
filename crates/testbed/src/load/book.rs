//! What the sending threads share: the requests handed out, and every answer.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{
    body::{Mix, Shape},
    ledger::{Entry, Fate, Ledger},
};

#[derive(Debug, Default)]
pub struct Book {
    pub entries: Vec<Entry>,
    /// Records handed out so far, for the rate, and the time in which none were.
    given: u64,
    pub idle: Duration,
    pub paused: Option<Instant>,
    /// Requests handed out whose fate is not known yet.
    pub under_way: u32,
    pub again: Vec<u32>,
    pub answers: BTreeMap<String, u64>,
    pub faults: Vec<String>,
    pub batches: BTreeMap<u32, String>,
    pub marks: Vec<(u32, String)>,
    pub slowest: Duration,
}

impl Book {
    /// Hands out a new request; gives how many records were before it.
    pub fn give(&mut self, shape: &Shape) -> u64 {
        self.entries.push(Entry {
            count: shape.count,
            broken: shape.broken,
            fate: Fate::Refused,
        });
        self.under_way += 1;
        let before = self.given;
        self.given += u64::from(shape.count);
        before
    }

    /// Nothing is made up for.
    pub fn resume(&mut self) {
        if let Some(since) = self.paused.take() {
            self.idle += since.elapsed();
        }
    }

    /// As it is now.
    pub fn ledger(&self, mix: &Mix, took: Duration) -> Ledger {
        Ledger {
            mix: mix.clone(),
            entries: self.entries.clone(),
            answers: self.answers.clone(),
            faults: self.faults.clone(),
            batches: self.batches.clone(),
            marks: self.marks.clone(),
            slowest: self.slowest,
            took,
        }
    }
}
