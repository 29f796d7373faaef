//! The duplicate window of one partition: which records of which batches are stored.
//!
//! It changes only by [`Window::apply`], with the stored runs of one segment that is in the chain:
//! a running writer and one that rebuilds from the trailers take the same steps and so hold the
//! same window. What a segment still being made has stored is kept aside in [`Pending`]. Knows no
//! clock and does no I/O.

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
                let serial = self.base + self.entries.len() as u64;
                self.entries.push_back(Entry {
                    batch,
                    received_ms: run.received_ms,
                    greatest,
                    stored: Sequences::run(run.first_sequence, last_sequence),
                });
                let (entries, base, hasher) = (&self.entries, self.base, &self.hasher);
                self.index
                    .insert_unique(hasher.hash_one(batch), serial, |&serial| {
                        hasher.hash_one(entries[place(serial, base)].batch)
                    });
            }
        }
        while self.entries.len() > self.batches_max {
            self.drop_oldest();
        }
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
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn batch(n: u8) -> BatchId {
        BatchId([n; 16])
    }

    fn run(first: i64, count: u32, id: u8, first_sequence: u32) -> StoredRun {
        StoredRun {
            first: Offset(first),
            count,
            received_ms: first,
            batch: Some(batch(id)),
            first_sequence,
        }
    }

    fn decide(window: &Window, id: u8, sequence: u32, since: i64) -> Decision {
        window.decide(&mut Pending::default(), batch(id), sequence, Offset(since))
    }

    #[test]
    fn a_stored_record_is_a_duplicate_and_its_neighbours_are_not() {
        let mut window = Window::new(4);
        window.apply(&[run(0, 3, 1, 0), run(5, 1, 1, 7)]);
        for sequence in [0, 1, 2, 7] {
            assert_eq!(decide(&window, 1, sequence, 0), Decision::Duplicate);
        }
        for sequence in [3, 6, 8] {
            assert_eq!(decide(&window, 1, sequence, 0), Decision::New);
        }
        assert_eq!(decide(&window, 2, 0, 0), Decision::New);
    }

    #[test]
    fn start_is_one_more_than_the_greatest_offset_dropped() {
        let mut window = Window::new(2);
        // The oldest batch is also the one that stored last.
        window.apply(&[run(0, 1, 1, 0), run(1, 1, 2, 0), run(2, 10, 1, 1)]);
        assert_eq!(window.start(), Offset(0));
        window.apply(&[run(12, 1, 3, 0)]);
        assert_eq!(window.start(), Offset(12));
        assert_eq!(decide(&window, 1, 0, 12), Decision::New);
        assert_eq!(decide(&window, 1, 0, 11), Decision::Undecidable);
        // A later drop of lower offsets does not take it back.
        window.apply(&[run(13, 1, 4, 0)]);
        assert_eq!(window.start(), Offset(12));
        assert_eq!(decide(&window, 3, 0, 0), Decision::Duplicate);
    }

    #[test]
    fn what_is_pending_counts_before_it_is_applied() {
        let window = Window::new(2);
        let mut pending = Pending::default();
        for id in [1, 2, 3] {
            assert_eq!(
                window.decide(&mut pending, batch(id), 9, Offset(0)),
                Decision::New
            );
            pending.store(9);
        }
        for id in [1, 2, 3] {
            assert_eq!(
                window.decide(&mut pending, batch(id), 9, Offset(0)),
                Decision::Duplicate
            );
            assert_eq!(
                window.decide(&mut pending, batch(id), 8, Offset(0)),
                Decision::New
            );
        }
    }

    #[test]
    fn records_without_a_batch_leave_no_trace() {
        let mut window = Window::new(2);
        window.apply(&[StoredRun {
            batch: None,
            ..run(0, 5, 0, 0)
        }]);
        assert_eq!(window, Window::new(2));
    }

    /// The plain statement of the rules: every stored record by batch, dropped whole in order.
    struct Model {
        batches_max: usize,
        stored: BTreeMap<BatchId, BTreeSet<u32>>,
        greatest: BTreeMap<BatchId, i64>,
        order: Vec<BatchId>,
        start: i64,
    }

    impl Model {
        fn apply(&mut self, runs: &[StoredRun]) {
            for run in runs {
                let batch = run.batch.unwrap();
                if !self.stored.contains_key(&batch) {
                    self.order.push(batch);
                }
                let set = self.stored.entry(batch).or_default();
                set.extend(run.first_sequence..run.first_sequence + run.count);
                self.greatest
                    .insert(batch, run.first.0 + i64::from(run.count) - 1);
            }
            while self.order.len() > self.batches_max {
                let batch = self.order.remove(0);
                self.stored.remove(&batch);
                self.start = self.start.max(self.greatest[&batch] + 1);
            }
        }

        fn decide(&self, batch: BatchId, sequence: u32, since: i64) -> Decision {
            if self
                .stored
                .get(&batch)
                .is_some_and(|set| set.contains(&sequence))
            {
                Decision::Duplicate
            } else if since < self.start {
                Decision::Undecidable
            } else {
                Decision::New
            }
        }
    }

    #[test]
    fn running_rebuilt_and_model_windows_agree_over_random_segments() {
        for seed in 0..2_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let batches_max = random.usize(1..6);
            let mut running = Window::new(batches_max);
            let mut model = Model {
                batches_max,
                stored: BTreeMap::new(),
                greatest: BTreeMap::new(),
                order: Vec::new(),
                start: 0,
            };
            let mut trailers: Vec<Vec<StoredRun>> = Vec::new();
            let mut offset = 0;
            for _ in 0..random.usize(1..25) {
                let mut pending = Pending::default();
                let mut runs = Vec::new();
                for _ in 0..random.usize(0..8) {
                    offset += random.i64(0..3);
                    let (id, sequence) = (random.u8(0..9), random.u32(0..12));
                    let since = random.i64(0..=offset);
                    let decision = running.decide(&mut pending, batch(id), sequence, Offset(since));
                    let known = runs.iter().any(|run: &StoredRun| {
                        run.batch == Some(batch(id)) && run.first_sequence == sequence
                    });
                    let expected = if known {
                        Decision::Duplicate
                    } else {
                        model.decide(batch(id), sequence, since)
                    };
                    assert_eq!(decision, expected, "seed {seed} at {offset}");
                    if decision == Decision::New {
                        pending.store(sequence);
                        runs.push(run(offset, 1, id, sequence));
                    }
                    offset += 1;
                }
                running.apply(&runs);
                model.apply(&runs);
                trailers.push(runs);
            }
            let mut rebuilt = Window::new(batches_max);
            for runs in &trailers {
                rebuilt.apply(runs);
            }
            assert_eq!(running, rebuilt, "seed {seed}");
            assert_eq!(running.start(), Offset(model.start), "seed {seed}");
            assert!(running.batches() <= batches_max);
        }
    }
}
