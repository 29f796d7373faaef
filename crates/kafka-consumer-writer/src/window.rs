//! The duplicate window of one partition: which records of which batches are stored.
//!
//! It changes only by [`Window::apply`], with the stored runs of one segment that is in the chain:
//! a running writer and one that rebuilds from the trailers take the same steps and so hold the
//! same window. What a segment still being made has stored is kept aside in [`Pending`]. Knows no
//! clock and does no I/O.

mod saved;

use std::{collections::VecDeque, hash::BuildHasher};

use hashbrown::HashTable;
use pipeline_core::{BatchId, Offset, store::StoredRun};

use crate::sequences::Sequences;

/// What to do with one record that has an identity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    New,
    Duplicate,
    /// Not in the window, but a copy may have left it.
    Undecidable,
}

/// What is stored, by batch, bounded in batches.
#[derive(Clone)]
pub struct Window {
    batches_max: usize,
    /// In order of their first stored record.
    entries: VecDeque<Entry>,
    /// Serial number of `entries[0]`.
    base: u64,
    /// Serial numbers, found by batch id.
    index: HashTable<u64>,
    hasher: foldhash::fast::RandomState,
    start: Offset,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Entry {
    batch: BatchId,
    /// Time of receipt of its first stored record.
    received_ms: i64,
    /// Of all its stored records.
    greatest: Offset,
    stored: Sequences,
}

impl Window {
    #[must_use]
    pub fn new(batches_max: usize) -> Self {
        assert!(batches_max > 0, "the configuration allows no empty window");
        Self {
            batches_max,
            entries: VecDeque::new(),
            base: 0,
            index: HashTable::new(),
            hasher: foldhash::fast::RandomState::default(),
            start: Offset(0),
        }
    }

    /// One more than the greatest offset ever dropped with an entry; 0 while none was.
    #[must_use]
    pub fn start(&self) -> Offset {
        self.start
    }

    #[must_use]
    pub fn batches(&self) -> usize {
        self.entries.len()
    }

    /// Time of receipt of the oldest batch in the window.
    #[must_use]
    pub fn oldest_received_ms(&self) -> Option<i64> {
        self.entries.front().map(|entry| entry.received_ms)
    }

    /// Takes in the stored runs of one segment of the chain, then lets the oldest batches go.
    pub fn apply(&mut self, stored: &[StoredRun]) {
        for run in stored {
            let Some(batch) = run.batch else { continue };
            if run.count == 0 {
                continue;
            }
            let last_sequence = run.first_sequence.saturating_add(run.count - 1);
            let greatest = Offset(run.first.0 + i64::from(run.count) - 1);
            if let Some(at) = self.find(batch) {
                let entry = &mut self.entries[at];
                entry.stored.insert_run(run.first_sequence, last_sequence);
                entry.greatest = entry.greatest.max(greatest);
            } else {
                self.push(Entry {
                    batch,
                    received_ms: run.received_ms,
                    greatest,
                    stored: Sequences::run(run.first_sequence, last_sequence),
                });
            }
        }
        self.drop_surplus();
    }

    /// Decides one record against the window and what `pending` has stored since. A record that is
    /// `New` and does get stored must be told to `pending`.
    #[must_use]
    pub fn decide(
        &self,
        pending: &mut Pending,
        batch: BatchId,
        sequence: u32,
        since: Offset,
    ) -> Decision {
        if pending.turned_to != Some(batch) {
            pending.turn_to(batch, self.find(batch));
        }
        let in_window = pending
            .in_window
            .is_some_and(|at| self.entries[at].stored.contains(sequence));
        if in_window || pending.contains(sequence) {
            Decision::Duplicate
        } else if since < self.start {
            Decision::Undecidable
        } else {
            Decision::New
        }
    }

    fn find(&self, batch: BatchId) -> Option<usize> {
        self.index
            .find(self.hasher.hash_one(batch), |&serial| {
                self.entries[place(serial, self.base)].batch == batch
            })
            .map(|&serial| place(serial, self.base))
    }

    /// Behind all others; its batch is in none of them.
    fn push(&mut self, entry: Entry) {
        let serial = self.base + self.entries.len() as u64;
        let hash = self.hasher.hash_one(entry.batch);
        self.entries.push_back(entry);
        let (entries, base, hasher) = (&self.entries, self.base, &self.hasher);
        self.index.insert_unique(hash, serial, |&serial| {
            hasher.hash_one(entries[place(serial, base)].batch)
        });
    }

    fn drop_surplus(&mut self) {
        while self.entries.len() > self.batches_max {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some(entry) = self.entries.pop_front() else {
            return;
        };
        let serial = self.base;
        if let Ok(found) = self
            .index
            .find_entry(self.hasher.hash_one(entry.batch), |&other| other == serial)
        {
            found.remove();
        }
        self.base += 1;
        self.start = self.start.max(entry.greatest.next());
    }
}

/// Two windows are equal when they decide everything alike, now and later.
impl PartialEq for Window {
    fn eq(&self, other: &Self) -> bool {
        self.batches_max == other.batches_max
            && self.start == other.start
            && self.entries == other.entries
    }
}

impl std::fmt::Debug for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Window")
            .field("start", &self.start)
            .field("batches", &self.entries.len())
            .field("batches_max", &self.batches_max)
            .finish_non_exhaustive()
    }
}

/// What the segment being made has stored, on top of one unchanged [`Window`]. Remembers the batch
/// it looked at last, as the records of a batch mostly follow each other.
#[derive(Default, Debug)]
pub struct Pending {
    batches: Vec<(BatchId, Sequences)>,
    index: hashbrown::HashMap<BatchId, u32, foldhash::fast::RandomState>,
    turned_to: Option<BatchId>,
    in_window: Option<usize>,
    in_pending: Option<usize>,
}

impl Pending {
    /// The record that was just decided upon gets stored.
    pub fn store(&mut self, sequence: u32) {
        let batch = self.turned_to.expect("a decision comes before its store");
        if let Some(at) = self.in_pending {
            self.batches[at].1.insert_run(sequence, sequence);
        } else {
            let at = self.batches.len();
            self.batches
                .push((batch, Sequences::run(sequence, sequence)));
            self.index
                .insert(batch, u32::try_from(at).expect("a segment is bounded"));
            self.in_pending = Some(at);
        }
    }

    fn turn_to(&mut self, batch: BatchId, in_window: Option<usize>) {
        self.turned_to = Some(batch);
        self.in_window = in_window;
        self.in_pending = self.index.get(&batch).map(|&at| at as usize);
    }

    fn contains(&self, sequence: u32) -> bool {
        self.in_pending
            .is_some_and(|at| self.batches[at].1.contains(sequence))
    }
}

fn place(serial: u64, base: u64) -> usize {
    usize::try_from(serial - base).expect("the window is in memory")
}

#[cfg(test)]
mod tests;
