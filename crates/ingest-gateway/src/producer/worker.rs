//! Takes batches from the queue, what belongs together at once, and hands them to the sender.
//!
//! One worker collects at a time. A load goes as soon as it is full or nothing is on its way to
//! Kafka; while something is, it waits for more, for `batchTimeout` at most. So a quiet gateway
//! adds no delay, and a busy one sends large record batches.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use pipeline_core::PartitionId;
use tokio::{sync::Notify, time::sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    link::ViewReceiver,
    send::{Sender, Settled, Size, size_of},
    settle::Settler,
    view::TopicView,
};
use crate::{
    batch::Batch,
    dlq::Reason,
    queue::{Queue, Taken},
    telemetry,
};

#[derive(Clone)]
pub struct Worker {
    pub queue: Arc<Queue>,
    pub view: ViewReceiver,
    pub sender: Sender,
    pub settler: Settler,
    /// How long the first batch of a load waits for others, at most.
    pub linger: Duration,
    /// Bytes that a load may have over all partitions, unless one batch alone has more: what is
    /// encoded of it is memory beside the batches.
    pub load_bytes_max: usize,
    /// Shared by all workers.
    pub flight: Arc<Flight>,
}

/// How many loads are on their way to Kafka.
#[derive(Debug, Default)]
pub struct Flight {
    loads: AtomicUsize,
    landed: Notify,
}

struct Aloft<'a>(&'a Flight);

/// What goes out together. Pure.
#[derive(Debug)]
struct Load {
    batches: Vec<Batch>,
    by_partition: HashMap<PartitionId, Size>,
    bytes: usize,
    /// Of one partition.
    records_max: usize,
    bytes_max: usize,
    /// Of all partitions.
    load_bytes_max: usize,
    full: bool,
}

impl Worker {
    /// Ends when the queue is closed and empty, and all it took is handed on.
    pub async fn run(self) {
        loop {
            let Some((view, load)) = self.collect().await else {
                return;
            };
            // Kafka may have answered for the first time meanwhile.
            let view = match view {
                Some(view) => Some(view),
                None => self.view.borrow().clone(),
            };
            let _aloft = self.flight.start();
            let mut settle = |_, batch, settled| self.settler.settle(batch, settled);
            match view {
                Some(view) if view.unfit.is_none() => {
                    self.sender.send(&view, load.batches, &mut settle).await;
                }
                view => {
                    let reason = match view {
                        Some(_) => Reason::TopicUnfit,
                        None => Reason::TopicUnknown,
                    };
                    for batch in load.batches {
                        settle(0, batch, Settled::Left(reason));
                    }
                }
            }
        }
    }

    /// The next load with the view that it was made for, or `None` when nothing will come any
    /// more.
    async fn collect(&self) -> Option<(Option<Arc<TopicView>>, Load)> {
        let _turn = self.queue.turn().await;
        let first = loop {
            match self.queue.take_if(|_| true) {
                Taken::Batch(batch) => break batch,
                Taken::Closed => return None,
                Taken::Empty | Taken::Unwanted => self.queue.changed().await,
            }
        };
        let until = Instant::now() + self.linger;
        // Not before: the wait may have been long.
        let current = self.view.borrow().clone();
        let view = current.as_deref();
        let bytes_max = view.map_or(usize::MAX, |view| view.message_bytes_max);
        let mut load = Load::new(
            self.sender.batch_records_max,
            self.sender.batch_bytes_max.min(bytes_max),
            self.load_bytes_max,
        );
        let partition_of = |batch: &Batch| {
            let known = batch.progress.partition;
            // Without a view all go the same way: to the dead letter queue.
            known.unwrap_or_else(|| view.map_or(PartitionId(0), |v| v.partition_of(batch.id)))
        };
        load.add(partition_of(&first), first);
        loop {
            match self
                .queue
                .take_if(|batch| load.wants(partition_of(batch), batch))
            {
                Taken::Batch(batch) => load.add(partition_of(&batch), batch),
                Taken::Empty if !load.full => tokio::select! {
                    () = self.queue.changed() => {}
                    () = self.flight.none() => break,
                    () = sleep_until(until.into()) => break,
                },
                Taken::Unwanted | Taken::Closed | Taken::Empty => break,
            }
        }
        Some((current, load))
    }
}

impl Flight {
    fn start(&self) -> Aloft<'_> {
        self.loads.fetch_add(1, Ordering::AcqRel);
        Aloft(self)
    }

    /// Ends when nothing is on its way.
    async fn none(&self) {
        loop {
            let landed = self.landed.notified();
            if self.loads.load(Ordering::Acquire) == 0 {
                return;
            }
            landed.await;
        }
    }
}

impl Drop for Aloft<'_> {
    fn drop(&mut self) {
        if self.0.loads.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.landed.notify_waiters();
        }
    }
}

/// Hands on what waited in the queue until its deadline, until `stop`.
pub async fn sweep(
    queue: Arc<Queue>,
    settler: Settler,
    interval: Duration,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
        queue.refresh();
        telemetry::memory(&settler.sender.memory);
        for batch in queue.take_overdue(Instant::now()) {
            settler.settle(batch, Settled::Left(Reason::Deadline));
        }
    }
}

impl Load {
    fn new(records_max: usize, bytes_max: usize, load_bytes_max: usize) -> Self {
        Self {
            batches: Vec::new(),
            by_partition: HashMap::new(),
            bytes: 0,
            records_max,
            bytes_max,
            load_bytes_max,
            full: false,
        }
    }

    /// Whether the batch fits into the record batch of its partition. One that is larger than a
    /// whole record batch is wanted where it is the first.
    fn wants(&self, partition: PartitionId, batch: &Batch) -> bool {
        if self.full {
            return false;
        }
        let more = size_of(batch);
        if self.bytes > 0 && self.bytes + more.bytes > self.load_bytes_max {
            return false;
        }
        let Some(size) = self.by_partition.get(&partition) else {
            return true;
        };
        size.records + more.records <= self.records_max && size.bytes + more.bytes <= self.bytes_max
    }

    fn add(&mut self, partition: PartitionId, batch: Batch) {
        let more = size_of(&batch);
        let size = self.by_partition.entry(partition).or_default();
        size.records += more.records;
        size.bytes += more.bytes;
        self.bytes += more.bytes;
        self.full |= size.records >= self.records_max || size.bytes >= self.bytes_max;
        self.full |= self.bytes >= self.load_bytes_max;
        self.batches.push(batch);
    }
}

#[cfg(test)]
mod tests {
    use kafka_link::{Acks, Cluster, ClusterConfig, Codec};
    use pipeline_core::retry::Backoff;
    use tokio::{sync::watch, task::yield_now};
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::{
        batch::test::batch_of,
        budget::Budget,
        dlq::{Dlq, FileLimits},
        producer::drain::drain,
        queue::QueueLimits,
    };

    const P: [PartitionId; 2] = [PartitionId(0), PartitionId(1)];

    #[test]
    fn a_load_is_full_when_one_partition_is() {
        let mut load = Load::new(3, usize::MAX, usize::MAX);
        let two = || batch_of(1, &["a", "b"]);
        assert!(load.wants(P[0], &two()));
        load.add(P[0], two());
        assert!(!load.wants(P[0], &two()), "four records are too many");
        assert!(load.wants(P[1], &two()));
        load.add(P[1], two());
        load.add(P[1], batch_of(2, &["c"]));
        assert!(load.full);
        assert!(!load.wants(P[0], &batch_of(2, &["c"])));
    }

    #[test]
    fn a_batch_larger_than_a_record_batch_goes_alone() {
        let mut load = Load::new(10, 50, usize::MAX);
        let large = batch_of(1, &["0123456789", "0123456789"]);
        assert!(load.wants(P[0], &large));
        load.add(P[0], large);
        assert!(load.full);
    }

    #[test]
    fn a_load_is_bounded_over_all_partitions_and_one_batch_always_goes() {
        let large = || batch_of(1, &["0123456789"; 10]);
        let bytes = size_of(&large()).bytes;
        let mut load = Load::new(100, usize::MAX, bytes / 2);
        assert!(load.wants(P[0], &large()));
        load.add(P[0], large());
        assert!(load.full);
        let mut load = Load::new(100, usize::MAX, 2 * bytes - 1);
        load.add(P[0], large());
        assert!(!load.wants(P[1], &large()), "two are too many");
        assert!(load.wants(P[1], &batch_of(2, &["c"])));
    }

    #[tokio::test]
    async fn a_load_is_made_for_the_view_of_its_own_time() {
        let seen_by = |partitions| Some(Arc::new(TopicView::new("c", "t", partitions)));
        let (told, view) = watch::channel(seen_by(1));
        let queue = Arc::new(Queue::new(QueueLimits {
            batches_max: 10,
            bytes_max: 1 << 20,
            high_water: 0.9,
        }));
        let dir = tempfile::tempdir().unwrap();
        let worker = worker(dir.path(), &queue, view);
        let idle_long = async {
            // The worker looks into the queue meanwhile, and waits.
            yield_now().await;
            told.send_replace(seen_by(7));
            queue.push(batch_of(1, &["a"])).unwrap();
        };
        let (load, ()) = tokio::join!(worker.collect(), idle_long);
        let (view, load) = load.unwrap();
        assert_eq!(view.unwrap().len(), 7);
        assert_eq!(load.batches.len(), 1);
    }

    fn worker(dir: &std::path::Path, queue: &Arc<Queue>, view: ViewReceiver) -> Worker {
        let second = Duration::from_secs(1);
        let limits = FileLimits {
            bytes_max: 1 << 20,
            file_bytes_max: 1 << 20,
        };
        let sender = Sender {
            cluster: Cluster::new(ClusterConfig {
                brokers: Vec::new(),
                client_id: "test".to_owned(),
                connect_timeout: second,
                request_timeout: second,
                response_bytes_max: 1 << 20,
            }),
            topic: "t".into(),
            acks: Acks::All,
            codec: Codec::None,
            batch_records_max: 10,
            batch_bytes_max: 1 << 20,
            write_timeout: second,
            attempt_min: second / 10,
            retries_max: 0,
            backoff: Backoff {
                base: second,
                max: second,
            },
            drain: drain().1,
            memory: Budget::new(1 << 20),
        };
        Worker {
            queue: Arc::clone(queue),
            view: view.clone(),
            settler: Settler {
                dlq: Dlq::start(dir, limits).unwrap(),
                queue: Arc::clone(queue),
                view,
                topic: "t".into(),
                sender: sender.clone(),
                tasks: TaskTracker::new(),
                attempts_max: second,
            },
            sender,
            linger: Duration::ZERO,
            load_bytes_max: usize::MAX,
            flight: Arc::default(),
        }
    }
}
