//! The channel between the handlers and the workers: bounded in batches and in bytes.
//!
//! A full queue hands its input back. Bytes count from the push until the batch is dropped, which
//! is after its answer: what workers and the dead letter queue still hold is part of the bound.
//! That bound is a part of the memory budget, so that a queue that does not empty leaves room for
//! bodies to be read and refused.

mod lanes;
mod pressure;

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};

use tokio::sync::Notify;

pub use self::lanes::Choice;
use self::{
    lanes::{Found, Lanes, Size},
    pressure::{DrainRate, HighWater},
};
use crate::{
    batch::{Batch, memory_of},
    budget::Budget,
    telemetry,
};

/// Of the queue, one part in so many may wait for brokers that stand still: the rest is for what goes
/// to others.
const ASIDE_PART: usize = 2;

#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    pub batches_max: usize,
    pub bytes_max: u64,
    /// Fill ratio that is worth a warning.
    pub high_water: f64,
}

#[derive(Debug)]
pub struct Queue {
    limits: QueueLimits,
    state: Mutex<State>,
    bytes: Arc<Budget>,
    pushed: Notify,
}

#[derive(Debug)]
struct State {
    batches: Lanes,
    closed: bool,
    pushed: u64,
    high_water: HighWater,
    drain: DrainRate,
}

/// Why a batch is not on the queue; it comes back.
#[derive(Debug)]
pub enum PushError {
    Full(Batch),
    Closed(Batch),
}

/// What [`Queue::take`] found.
#[derive(Debug)]
pub enum Taken {
    Batch(Batch),
    /// The next batch was not wanted.
    Unwanted,
    /// There is none, or each has to wait.
    Nothing,
    /// Empty, and nothing will come any more.
    Closed,
}

impl Queue {
    #[must_use]
    pub fn new(limits: QueueLimits) -> Self {
        telemetry::queue_capacity(limits.batches_max);
        Self {
            limits,
            state: Mutex::new(State {
                batches: Lanes::new(Size {
                    batches: limits.batches_max / ASIDE_PART,
                    bytes: limits.bytes_max / ASIDE_PART as u64,
                }),
                closed: false,
                pushed: 0,
                high_water: HighWater::new(limits.high_water),
                drain: DrainRate::new(Instant::now()),
            }),
            bytes: Budget::without_reserve(limits.bytes_max),
            pushed: Notify::new(),
        }
    }

    /// Puts a batch on the queue; from here on it belongs to the pipeline.
    ///
    /// A batch is taken whatever its size when nothing else is held, so that none is refused for
    /// ever.
    ///
    /// # Errors
    /// Gives the batch back where it does not fit or the queue is closed.
    #[expect(clippy::result_large_err, reason = "the batch itself comes back")]
    pub fn push(&self, mut batch: Batch) -> Result<(), PushError> {
        let bytes = memory_of(&batch.records);
        let mut state = self.lock();
        if state.closed {
            return Err(PushError::Closed(batch));
        }
        if state.batches.len() >= self.limits.batches_max {
            return Err(PushError::Full(batch));
        }
        let mut held = self.bytes.share();
        if self.bytes.used() == 0 {
            held.force_set(bytes);
        } else if !held.try_set(bytes) {
            return Err(PushError::Full(batch));
        }
        batch.held = held;
        state.batches.push_back(batch);
        state.pushed += 1;
        self.note_fill(&mut state);
        drop(state);
        self.pushed.notify_one();
        Ok(())
    }

    /// Takes a batch back that was on the queue before and still holds its share; it is the next.
    ///
    /// # Errors
    /// Gives the batch back where the queue is closed.
    #[expect(clippy::result_large_err, reason = "the batch itself comes back")]
    pub fn put_back(&self, batch: Batch) -> Result<(), Batch> {
        let mut state = self.lock();
        if state.closed {
            return Err(batch);
        }
        state.batches.push_front(batch);
        self.note_fill(&mut state);
        drop(state);
        self.pushed.notify_one();
        Ok(())
    }

    /// Whether a push would be refused now, whatever its size.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.fill_ratio() >= 1.0
    }

    /// The larger of batches over capacity and bytes over budget.
    #[must_use]
    pub fn fill_ratio(&self) -> f64 {
        self.ratio(self.lock().batches.len())
    }

    /// Batches pushed since the start.
    #[must_use]
    pub fn pushed(&self) -> u64 {
        self.lock().pushed
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().batches.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Seconds after which a client that was refused may come again, from the present drain.
    #[must_use]
    pub fn retry_after_s(&self) -> u32 {
        self.lock()
            .drain
            .seconds_for(self.bytes.used(), Instant::now())
    }

    /// Takes the oldest batch that `choose` takes; only the one collector does. It is told whether
    /// too much of the queue would wait aside with the batch.
    pub fn take(&self, choose: impl FnMut(&Batch, bool) -> Choice) -> Taken {
        let mut state = self.lock();
        match state.batches.take(choose) {
            Found::Batch(batch) => {
                state.drain.took(memory_of(&batch.records), Instant::now());
                self.note_fill(&mut state);
                Taken::Batch(batch)
            }
            Found::Stopped => Taken::Unwanted,
            Found::Nothing if state.closed && state.batches.len() == 0 => Taken::Closed,
            Found::Nothing => Taken::Nothing,
        }
    }

    /// Whether anything waits for a broker that was busy.
    #[must_use]
    pub fn has_aside(&self) -> bool {
        self.lock().batches.has_aside()
    }

    /// Ends when something may have changed since the last look; only for the collector.
    pub async fn changed(&self) {
        self.pushed.notified().await;
    }

    /// Takes every batch whose deadline has come: no worker got to them in time.
    #[must_use]
    pub fn take_overdue(&self, now: Instant) -> Vec<Batch> {
        let mut state = self.lock();
        let overdue = state.batches.take_overdue(now);
        self.note_fill(&mut state);
        overdue
    }

    /// Tells the metrics how full it is, as what workers hold is given back without a word, and how
    /// old its oldest batch is.
    pub fn refresh(&self, now_ms: i64) {
        let mut state = self.lock();
        self.note_fill(&mut state);
        let oldest = state.batches.oldest_ms();
        telemetry::queue_oldest_age(oldest.map_or(0, |oldest| (now_ms - oldest).max(0)));
    }

    /// From now on nothing is taken in; what is there can still be taken out.
    pub fn close(&self) {
        self.lock().closed = true;
        self.pushed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a ratio of sizes far below 2^52"
    )]
    fn ratio(&self, batches: usize) -> f64 {
        let by_count = batches as f64 / self.limits.batches_max as f64;
        let by_bytes = self.bytes.used() as f64 / self.limits.bytes_max as f64;
        by_count.max(by_bytes)
    }

    fn note_fill(&self, state: &mut State) {
        let (depth, bytes) = (state.batches.len(), self.bytes.used());
        let ratio = self.ratio(depth);
        telemetry::queue_fill(depth, bytes, ratio);
        match state.high_water.crossed(ratio) {
            Some(true) => tracing::warn!(
                fill_ratio = ratio,
                depth,
                bytes,
                "work queue is above its high-water mark"
            ),
            Some(false) => tracing::info!(fill_ratio = ratio, "work queue is back to normal"),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::batch::test::batch_of;

    fn queue(batches_max: usize, bytes_max: u64) -> Queue {
        Queue::new(QueueLimits {
            batches_max,
            bytes_max,
            high_water: 0.9,
        })
    }

    fn take(queue: &Queue) -> Option<Batch> {
        match queue.take(|_, _| Choice::Take) {
            Taken::Batch(batch) => Some(batch),
            _ => None,
        }
    }

    #[test]
    fn a_full_queue_hands_its_input_back() {
        let queue = queue(2, 1 << 20);
        queue.push(batch_of(1, &["a"])).unwrap();
        queue.push(batch_of(2, &["b"])).unwrap();
        assert!(queue.is_full());
        let Err(PushError::Full(back)) = queue.push(batch_of(3, &["c"])) else {
            panic!("there was no room");
        };
        assert_eq!(back.id.0[0], 3);
        assert_eq!(take(&queue).unwrap().id.0[0], 1);
        queue.push(back).unwrap();
    }

    #[test]
    fn bytes_are_held_until_the_batch_is_dropped() {
        let one = memory_of(&batch_of(1, &["a"]).records);
        let queue = queue(100, one * 2);
        queue.push(batch_of(1, &["a"])).unwrap();
        queue.push(batch_of(2, &["b"])).unwrap();
        let taken = take(&queue).unwrap();
        assert!(matches!(
            queue.push(batch_of(3, &["c"])),
            Err(PushError::Full(_))
        ));
        drop(taken);
        queue.push(batch_of(3, &["c"])).unwrap();
    }

    #[test]
    fn a_batch_larger_than_the_budget_is_taken_when_nothing_else_is_held() {
        let queue = queue(100, 1);
        queue.push(batch_of(1, &["a"])).unwrap();
        assert!(matches!(
            queue.push(batch_of(2, &["b"])),
            Err(PushError::Full(_))
        ));
        drop(take(&queue));
        queue.push(batch_of(2, &["b"])).unwrap();
    }

    #[test]
    fn a_closed_queue_takes_nothing_and_is_emptied() {
        let queue = queue(2, 1 << 20);
        queue.push(batch_of(1, &["a"])).unwrap();
        queue.close();
        assert!(matches!(
            queue.push(batch_of(2, &["b"])),
            Err(PushError::Closed(_))
        ));
        assert!(take(&queue).is_some());
        assert!(matches!(queue.take(|_, _| Choice::Take), Taken::Closed));
    }

    #[test]
    fn overdue_batches_leave_and_the_others_keep_their_order() {
        let queue = queue(10, 1 << 20);
        let now = Instant::now();
        for (id, overdue) in [(1, false), (2, true), (3, false), (4, true)] {
            let mut batch = batch_of(id, &["a"]);
            batch.deadline = if overdue {
                now
            } else {
                now + Duration::from_secs(1)
            };
            queue.push(batch).unwrap();
        }
        let ids = |batches: Vec<Batch>| batches.iter().map(|b| b.id.0[0]).collect::<Vec<_>>();
        assert_eq!(ids(queue.take_overdue(now)), [2, 4]);
        assert_eq!(ids(std::iter::from_fn(|| take(&queue)).collect()), [1, 3]);
    }
}
