//! Takes batches from the queue, what belongs together at once, and lets the sender write them.
//!
//! One task collects; a worker is a write on its way, `producerWorkers` of them for each broker.
//! A load goes as soon as it is full or its brokers have too little on their way to be busy with;
//! else it waits for more, for `batchTimeout` at most. So a quiet gateway adds no delay, and a busy
//! one sends large record batches. What goes to a broker all of whose workers wait for it stays in the
//! queue, aside: it holds up nothing else. Where a broker stands still and half of the queue waits,
//! what is above goes the way of what has no broker, and the queue stays open for the others'.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use pipeline_core::PartitionId;
use tokio::time::sleep_until;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    flight::{Aloft, Flight, Leader},
    link::ViewReceiver,
    load::{Load, LoadLimits, Share},
    send::{Sender, Settled},
    settle::{Settler, now_ms},
    spare::{self, Spares},
    view::TopicView,
};
use crate::{
    batch::Batch,
    dlq::Reason,
    queue::{Choice, Queue, Taken},
    telemetry,
};

/// How often what waits aside is looked at for another reason than a write that has landed: its
/// circuit may have opened.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

pub struct Workers {
    pub queue: Arc<Queue>,
    pub view: ViewReceiver,
    pub sender: Sender,
    pub settler: Settler,
    /// How long the first batch of a load waits for others, at most.
    pub linger: Duration,
    /// Bytes that all writes on their way may have encoded, unless one batch alone has more than
    /// its share: they are memory beside the batches.
    pub encoded_bytes_max: usize,
    pub flight: Arc<Flight>,
}

/// Where a batch goes, and what lets it.
struct Way {
    partition: PartitionId,
    leader: Leader,
    aloft: Option<Aloft>,
    /// Its circuit is open, or it stands still and the queue is needed; and nobody there is free to
    /// find out more.
    away: bool,
}

impl Workers {
    /// Ends when the queue is closed and empty, and all that was taken is settled.
    pub async fn run(self) {
        let writes = TaskTracker::new();
        while let Some((view, load)) = self.collect().await {
            // Kafka may have answered for the first time meanwhile.
            let view = match view {
                Some(view) => Some(view),
                None => self.view.borrow().clone(),
            };
            match view {
                Some(view) if view.unfit.is_none() => {
                    for share in load.into_shares() {
                        writes.spawn(self.write(Arc::clone(&view), share));
                    }
                }
                view => {
                    let reason = match view {
                        Some(_) => Reason::TopicUnfit,
                        None => Reason::TopicUnknown,
                    };
                    for batch in load.into_shares().flat_map(|share| share.batches) {
                        self.settler.settle(batch, Settled::Left(reason));
                    }
                }
            }
        }
        writes.close();
        writes.wait().await;
    }

    fn write(&self, view: Arc<TopicView>, share: Share) -> impl Future<Output = ()> + use<> {
        let (sender, settler) = (self.sender.clone(), self.settler.clone());
        let spares = Spares::of(&view, &share.batches);
        let settles = (settler.clone(), Arc::clone(&spares));
        let write = async move {
            let (settler, spares) = settles;
            let mut settle = |place, batch, settled| {
                settler.settle(batch, settled);
                spares.settled(place);
            };
            sender.send(&view, share.batches, &mut settle).await;
            drop(share.aloft);
        };
        spare::run(write, spares, settler)
    }

    /// The next load with the view that it was made for, or `None` when nothing will come any
    /// more.
    async fn collect(&self) -> Option<(Option<Arc<TopicView>>, Load)> {
        let mut begun: Option<(Option<Arc<TopicView>>, Load, Instant)> = None;
        loop {
            let landed = self.flight.landed();
            let (view, mut load, until) = begun.take().unwrap_or_else(|| {
                // Not before: the wait may have been long.
                let view = self.view.borrow().clone();
                let load = self.load_for(view.as_deref());
                (view, load, Instant::now() + self.linger)
            });
            let taken = self.fill(view.as_deref(), &mut load);
            if load.is_empty() {
                match taken {
                    Taken::Closed => return None,
                    Taken::Batch(_) | Taken::Unwanted | Taken::Nothing => {}
                }
                let aside = self.queue.has_aside();
                tokio::select! {
                    () = self.queue.changed() => {}
                    () = landed => {}
                    () = tokio::time::sleep(LOOK_AGAIN), if aside => {}
                }
                continue;
            }
            let waits = matches!(taken, Taken::Nothing) && !load.is_full() && !load.is_eager();
            if !waits || Instant::now() >= until {
                return Some((view, load));
            }
            tokio::select! {
                () = self.queue.changed() => {}
                () = landed => {}
                () = sleep_until(until.into()) => {}
            }
            begun = Some((view, load, until));
        }
    }

    fn load_for(&self, view: Option<&TopicView>) -> Load {
        let bytes_max = view.map_or(usize::MAX, |view| view.message_bytes_max);
        let writes = self.flight.writes_max() * view.map_or(1, |view| view.brokers.max(1));
        Load::new(LoadLimits {
            records_max: self.sender.batch_records_max,
            bytes_max: self.sender.batch_bytes_max.min(bytes_max),
            share_bytes_max: self.encoded_bytes_max / writes,
        })
    }

    /// Takes what is there and fits.
    fn fill(&self, view: Option<&TopicView>, load: &mut Load) -> Taken {
        // What is not sent needs no worker.
        let view = view.filter(|view| view.unfit.is_none());
        loop {
            let mut way = None;
            let taken = self.queue.take(|batch, crowds| {
                let (choice, found) = self.choose(view, load, batch, crowds);
                way = Some(found);
                choice
            });
            match (taken, way) {
                (Taken::Batch(batch), Some(way)) if way.away => {
                    self.settler.settle(batch, Settled::Left(Reason::KafkaAway));
                }
                (Taken::Batch(batch), Some(way)) => {
                    load.add(way.leader, way.partition, batch, way.aloft);
                }
                (taken, _) => return taken,
            }
        }
    }

    fn choose(
        &self,
        view: Option<&TopicView>,
        load: &Load,
        batch: &Batch,
        crowds: bool,
    ) -> (Choice, Way) {
        let mut way = Way {
            // Without a view all go the same way: to the dead letter queue.
            partition: PartitionId(0),
            leader: None,
            aloft: None,
            away: false,
        };
        if let Some(view) = view {
            let known = batch.progress.partition;
            way.partition = known.unwrap_or_else(|| view.partition_of(batch.id));
            way.leader = view.leader(way.partition);
        }
        if !load.wants(way.leader, way.partition, batch) {
            return (Choice::Stop, way);
        }
        if let Some(view) = view
            && !load.has_share(way.leader)
        {
            way.aloft = self.flight.start(way.leader);
            if way.aloft.is_none() {
                let now = Instant::now();
                // With one broker nobody else's traffic could flow: a queue that fills up says so.
                way.away = !view.would_admit(way.partition, now)
                    || (crowds && view.brokers > 1 && self.flight.stands_still(way.leader, now));
                if !way.away {
                    return (Choice::Aside(way.leader.unwrap_or(-1)), way);
                }
            }
        }
        (Choice::Take, way)
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
        queue.refresh(now_ms());
        telemetry::memory(&settler.sender.memory);
        for batch in queue.take_overdue(Instant::now()) {
            settler.settle(batch, Settled::Left(Reason::Deadline));
        }
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
        let workers = workers(dir.path(), &queue, view);
        let idle_long = async {
            // They look into the queue meanwhile, and wait.
            yield_now().await;
            told.send_replace(seen_by(7));
            queue.push(batch_of(1, &["a"])).unwrap();
        };
        let (load, ()) = tokio::join!(workers.collect(), idle_long);
        let (view, load) = load.unwrap();
        assert_eq!(view.unwrap().len(), 7);
        assert_eq!(load.into_shares().next().unwrap().batches.len(), 1);
    }

    #[tokio::test]
    async fn what_a_write_that_panics_had_and_nobody_waits_for_is_kept() {
        let (_told, view) = watch::channel(Some(Arc::new(TopicView::new("c", "t", 1))));
        let queue = Arc::new(Queue::new(QueueLimits {
            batches_max: 10,
            bytes_max: 1 << 20,
            high_water: 0.9,
        }));
        let dir = tempfile::tempdir().unwrap();
        let settler = workers(dir.path(), &queue, view.clone()).settler;
        let view = view.borrow().clone().unwrap();
        view.saw_end(PartitionId(0), pipeline_core::Offset(7));
        let mut batches = vec![
            batch_of(1, &["settled"]),
            batch_of(2, &["a", "b"]),
            batch_of(3, &["its client waits"]),
        ];
        let (to, waits) = tokio::sync::oneshot::channel();
        batches[2].answer = Some(crate::batch::Waiting {
            to,
            partly_dlq: false,
        });
        let spares = Spares::of(&view, &batches);
        let write = {
            let (settler, spares) = (settler.clone(), Arc::clone(&spares));
            async move {
                settler.settle(batches.remove(0), Settled::Acknowledged);
                spares.settled(0);
                // What is left goes with it.
                let left = batches;
                assert!(left.is_empty(), "as a test wants it");
            }
        };
        spare::run(write, spares, settler.clone()).await;
        assert!(waits.await.is_err(), "who waits hears of it");
        settler.tasks.close();
        settler.tasks.wait().await;
        let kept = settler.dlq.totals();
        assert_eq!((kept.entries, kept.records), (1, 2));
    }

    fn workers(dir: &std::path::Path, queue: &Arc<Queue>, view: ViewReceiver) -> Workers {
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
                security: Default::default(),
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
        Workers {
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
            encoded_bytes_max: usize::MAX,
            flight: Flight::new(2),
        }
    }
}
