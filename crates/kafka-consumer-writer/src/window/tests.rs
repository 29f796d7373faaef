use std::collections::{BTreeMap, BTreeSet};

use pipeline_core::store::{ChainEnd, Link, SegmentHash, Totals};

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

/// A chain's end at `next`, behind a segment that begins at `first`.
fn end(first: i64, next: i64) -> ChainEnd {
    ChainEnd {
        next: Offset(next),
        last: Some(Link {
            first: Offset(first),
            hash: SegmentHash([7; 32]),
        }),
        totals: Totals::default(),
        last_message: None,
    }
}

#[test]
fn a_saved_window_is_the_same_window() {
    for seed in 0..500 {
        let mut random = fastrand::Rng::with_seed(seed);
        let batches_max = random.usize(1..8);
        let mut window = Window::new(batches_max);
        let mut offset = 0;
        let mut more = |window: &mut [&mut Window]| {
            let runs: Vec<_> = (0..random.usize(1..30))
                .map(|_| {
                    let count = random.u32(1..50);
                    // Some far apart, some so dense that they become bitmaps.
                    let sequence = [random.u32(0..200), random.u32(..1 << 31)][random.usize(0..2)];
                    let run = run(offset, count, random.u8(0..12), sequence);
                    offset += i64::from(count) + random.i64(0..3);
                    run
                })
                .collect();
            for window in window {
                window.apply(&runs);
            }
        };
        more(&mut [&mut window]);
        let saved = window.save(&end(3, 4_000), vec![Offset(1), Offset(3)]);
        let (head, mut restored) = Window::restore(&saved.bytes, batches_max).unwrap();
        assert_eq!(head.end, end(3, 4_000));
        assert_eq!(head.names, [Offset(1), Offset(3)]);
        assert_eq!(window, restored, "seed {seed}");
        more(&mut [&mut window, &mut restored]);
        assert_eq!(window, restored, "seed {seed}, gone on");
    }
}

#[test]
fn a_window_restored_into_fewer_batches_has_dropped_the_oldest() {
    let mut window = Window::new(4);
    window.apply(&[run(0, 2, 1, 0), run(2, 2, 2, 0), run(4, 2, 3, 0)]);
    let saved = window.save(&end(0, 6), vec![Offset(0)]);
    let (_, restored) = Window::restore(&saved.bytes, 2).unwrap();
    assert_eq!((restored.batches(), restored.start()), (2, Offset(2)));
    assert_eq!(decide(&restored, 1, 0, 1), Decision::Undecidable);
    assert_eq!(decide(&restored, 2, 1, 0), Decision::Duplicate);
    let (_, larger) = Window::restore(&saved.bytes, 9).unwrap();
    assert_eq!((larger.batches(), larger.start()), (3, Offset(0)));
}
