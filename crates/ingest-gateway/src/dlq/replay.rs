//! Sends what is in the dead letter queue once Kafka takes it: oldest first, gently.
//!
//! An entry that was never sent gets its partition and a fresh *since* now, and a durable mark
//! that says so before the first attempt; one that may have been sent keeps both. Entries for
//! another cluster or topic are left alone. What the broker refuses for good waits long between
//! attempts and holds nothing else up.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use pipeline_core::{Offset, PartitionId};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::{
    Dlq, DoneMark, Found, Head, Reason, SentMark,
    load::{Loaded, Pending, load, load_entry},
};
use crate::{
    batch::{Batch, Progress, memory_of},
    budget::Share,
    producer::{
        link::ViewReceiver,
        send::{Sender, Settled},
        view::TopicView,
    },
    queue::Queue,
    telemetry,
};

/// Between two looks while there is something to replay.
const INTERVAL: Duration = Duration::from_millis(500);
/// Before what the broker has refused is tried again.
const REFUSED_PAUSE: Duration = Duration::from_secs(300);
/// Before a disk that did not take a mark is asked again.
const UNMARKED_PAUSE: Duration = Duration::from_secs(5);
/// Live traffic gets this many times as long as a replayed chunk took.
const LIVE_SHARE: u32 = 2;

pub struct Replayer {
    dlq: Dlq,
    sender: Sender,
    view: ViewReceiver,
    queue: Arc<Queue>,
    /// Files of which nothing can be sent now.
    stuck: HashMap<u64, Stuck>,
    /// Foreign entries are said once a file.
    said_foreign: HashSet<u64>,
}

/// Why a file is left alone, and until when.
enum Stuck {
    Until(Instant),
    /// Until one of these partitions takes something.
    Away(BTreeSet<PartitionId>),
}

/// What of a file was not sent.
#[derive(Default)]
struct Left {
    /// For partitions that do not take anything now.
    away: BTreeSet<PartitionId>,
    /// Refused for good, or not to be read.
    refused: bool,
    /// The disk did not take the marks without which nothing may be sent.
    unmarked: bool,
}

impl Replayer {
    #[must_use]
    pub fn new(dlq: Dlq, sender: Sender, view: ViewReceiver, queue: Arc<Queue>) -> Self {
        Self {
            dlq,
            // What fails stays where it is, and is tried again later.
            sender: Sender {
                retries_max: 0,
                ..sender
            },
            view,
            queue,
            stuck: HashMap::new(),
            said_foreign: HashSet::new(),
        }
    }

    /// Replays until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.something_to_do() => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.round() => {}
            }
        }
    }

    async fn something_to_do(&mut self) {
        while self.dlq.totals().entries == 0 {
            self.dlq.changed().await;
        }
        tokio::time::sleep(INTERVAL).await;
    }

    /// Each file that is there now, oldest first.
    async fn round(&mut self) {
        let Some(view) = self.usable_view() else {
            return;
        };
        let now = Instant::now();
        self.stuck.retain(|_, stuck| match stuck {
            Stuck::Until(until) => *until > now,
            Stuck::Away(partitions) => !partitions.iter().any(|id| view.would_admit(*id, now)),
        });
        let stuck = self.stuck.keys().copied().collect();
        for number in self.dlq.sealed(stuck).await {
            let Some(loaded) = self.load(number, &view).await else {
                let until = Stuck::Until(Instant::now() + REFUSED_PAUSE);
                self.stuck.insert(number, until);
                continue;
            };
            let left = self.replay(number, &view, &loaded).await;
            if left.unmarked {
                let until = Stuck::Until(Instant::now() + UNMARKED_PAUSE);
                self.stuck.insert(number, until);
            } else if !left.away.is_empty() {
                self.stuck.insert(number, Stuck::Away(left.away));
            } else if left.refused || loaded.foreign + loaded.unknown > 0 {
                let until = Stuck::Until(Instant::now() + REFUSED_PAUSE);
                self.stuck.insert(number, until);
            }
            if self.usable_view().is_none() {
                return;
            }
        }
    }

    /// Nothing is read from the disk before some partition may be sent to.
    fn usable_view(&self) -> Option<Arc<TopicView>> {
        let view = self.view.borrow().clone()?;
        let now = Instant::now();
        let open = view.partition_ids().any(|id| view.would_admit(id, now));
        (view.unfit.is_none() && open).then_some(view)
    }

    async fn load(&mut self, number: u64, view: &TopicView) -> Option<Loaded> {
        let dir = self.dlq.dir();
        let cluster = Arc::clone(&view.cluster_id);
        let topic = Arc::clone(&self.sender.topic);
        let ours = move |head: &Head| {
            let same_cluster = head.cluster_id.is_empty() || head.cluster_id == cluster;
            same_cluster && head.topic == topic
        };
        let loaded = match spawn_blocking(move || load(&dir, number, &ours)).await {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(error)) => {
                tracing::error!(
                    file = number,
                    "failed to read the dead letter queue: {error}"
                );
                return None;
            }
            Err(error) => {
                tracing::error!(
                    file = number,
                    "reading the dead letter queue ended: {error}"
                );
                return None;
            }
        };
        for line in &loaded.damage {
            tracing::error!("damage in the dead letter queue: {line}");
        }
        if !loaded.damage.is_empty() {
            telemetry::dlq_damaged(loaded.damaged_bytes());
            let found = Found {
                entries: loaded.left_entries,
                records: loaded.left_records,
                damaged: loaded.damaged.clone(),
            };
            self.dlq.correct(number, found);
        }
        if loaded.foreign > 0 && self.said_foreign.insert(number) {
            tracing::warn!(
                file = number,
                entries = loaded.foreign,
                cluster = %view.cluster_id,
                topic = %self.sender.topic,
                "entries of the dead letter queue are for another cluster or topic, they stay"
            );
        }
        Some(loaded)
    }

    async fn replay(&mut self, number: u64, view: &TopicView, loaded: &Loaded) -> Left {
        let mut left = Left::default();
        let mut rest = loaded.pending.as_slice();
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(self.chunk(rest));
            rest = after;
            let seen = self.queue.pushed();
            let began = Instant::now();
            self.replay_chunk(number, view, chunk, loaded.marks_damaged, &mut left)
                .await;
            if self.queue.pushed() != seen {
                tokio::time::sleep(began.elapsed() * LIVE_SHARE).await;
            }
        }
        left
    }

    /// How many of `pending` go together: about one record batch.
    fn chunk(&self, pending: &[Pending]) -> usize {
        let (mut bytes, mut records) = (0, 0);
        let fits = |entry: &&Pending| {
            bytes += entry.bytes;
            records += entry.records as usize;
            bytes <= self.sender.batch_bytes_max && records <= self.sender.batch_records_max
        };
        pending.iter().take_while(fits).count().max(1)
    }

    async fn replay_chunk(
        &self,
        number: u64,
        view: &TopicView,
        chunk: &[Pending],
        marks_damaged: bool,
        left: &mut Left,
    ) {
        let now = Instant::now();
        let mut wanted = Vec::with_capacity(chunk.len());
        for pending in chunk {
            match pending.partition {
                // Not even read.
                Some(id) if !view.would_admit(id, now) => _ = left.away.insert(id),
                _ => wanted.push(*pending),
            }
        }
        let entries = self.read(number, &wanted, marks_damaged).await;
        left.refused |= entries.len() < wanted.len();
        let (mut places, mut batches, mut marks) = (Vec::new(), Vec::new(), Vec::new());
        for (pending, mut batch) in entries {
            let partition = *batch
                .progress
                .partition
                .get_or_insert_with(|| view.partition_of(batch.id));
            let known_end = view.end(partition);
            let fixed = batch.progress.may_have_been_sent;
            if !view.would_admit(partition, now) || (known_end.is_none() && !fixed) {
                left.away.insert(partition);
                continue;
            }
            if let Some(since) = known_end
                && !fixed
            {
                batch.progress.since = Some(since);
                marks.push(SentMark {
                    position: pending.position,
                    partition,
                    since,
                });
            }
            places.push(pending);
            batches.push(batch);
        }
        if !marks.is_empty()
            && let Err(error) = self.dlq.mark_sent(number, marks).await
        {
            tracing::warn!(
                file = number,
                "failed to mark entries of the dead letter queue, they are not sent yet: {error}"
            );
            left.unmarked = true;
            return;
        }
        let mut done = Vec::new();
        let mut settle = |place: usize, batch: Batch, settled| match settled {
            Settled::Acknowledged => {
                let pending: &Pending = &places[place];
                done.push(DoneMark {
                    position: pending.position,
                    records: pending.records,
                });
            }
            Settled::Left(Reason::Poison | Reason::TooLarge) => left.refused = true,
            Settled::Left(_) => left.away.extend(batch.progress.partition),
        };
        self.sender.send(view, batches, &mut settle).await;
        if !done.is_empty() {
            let records: u64 = done.iter().map(|mark| u64::from(mark.records)).sum();
            if let Err(error) = self.dlq.mark_done(number, done).await {
                tracing::warn!(
                    file = number,
                    "failed to mark entries of the dead letter queue as done, they will be sent \
                     once more: {error}"
                );
                left.unmarked = true;
            }
            telemetry::dlq_replayed(records);
            tracing::info!(
                file = number,
                records,
                "replayed entries of the dead letter queue"
            );
        }
    }

    /// Reads the entries; what cannot be read (any more) is said and left out.
    async fn read(
        &self,
        number: u64,
        chunk: &[Pending],
        marks_damaged: bool,
    ) -> Vec<(Pending, Batch)> {
        let dir = self.dlq.dir();
        let chunk = chunk.to_vec();
        let bytes = chunk.iter().map(|pending| pending.bytes).sum();
        let deadline = Instant::now()
            + time_for(
                bytes,
                self.sender.batch_bytes_max,
                self.sender.write_timeout,
            );
        let memory = Arc::clone(&self.sender.memory);
        let read = spawn_blocking(move || {
            let mut entries = Vec::with_capacity(chunk.len());
            for pending in chunk {
                match load_entry(&dir, number, pending.position) {
                    Ok((head, records)) => {
                        let progress = progress_of(&head, &pending, marks_damaged);
                        let batch = Batch {
                            id: head.batch,
                            received_ms: head.received_ms,
                            memory: memory.forced(memory_of(&records)),
                            records: Arc::new(records),
                            progress,
                            deadline,
                            answer: None,
                            held: Share::default(),
                        };
                        entries.push((pending, batch));
                    }
                    Err(error) => tracing::error!(
                        file = number,
                        position = pending.position,
                        "failed to read an entry of the dead letter queue: {error}"
                    ),
                }
            }
            entries
        });
        read.await.unwrap_or_default()
    }
}

/// How long entries of `bytes` may take: a large one goes in many pieces, one after the other, and
/// what is given up half way begins anew.
fn time_for(bytes: usize, piece_bytes_max: usize, write_timeout: Duration) -> Duration {
    let pieces = u32::try_from(bytes / piece_bytes_max.max(1)).unwrap_or(u32::MAX);
    write_timeout.saturating_mul(pieces.saturating_add(2))
}

/// What an entry and its marks say of where it has been.
fn progress_of(head: &Head, pending: &Pending, marks_damaged: bool) -> Progress {
    let mut progress = Progress {
        partition: head.partition,
        since: head.since,
        may_have_been_sent: head.may_have_been_sent,
        acknowledged: 0,
    };
    if let Some((partition, since)) = pending.sent
        && !head.may_have_been_sent
    {
        progress.partition = Some(partition);
        progress.since = Some(since);
        progress.may_have_been_sent = true;
    }
    if marks_damaged && !progress.may_have_been_sent {
        // It may have been sent, but not before it was stored: the end known then is a bound, and
        // without one the writer must not guess either.
        progress.may_have_been_sent = true;
        progress.since = progress.since.or(Some(Offset(0)));
    }
    progress
}

#[cfg(test)]
mod tests {
    use pipeline_core::BatchId;

    use super::*;

    fn head(may_have_been_sent: bool, since: Option<i64>) -> Head {
        Head {
            reason: Reason::KafkaAway,
            may_have_been_sent,
            partition: Some(PartitionId(1)),
            since: since.map(Offset),
            batch: BatchId([1; 16]),
            received_ms: 1,
            stored_ms: 2,
            cluster_id: "c".into(),
            topic: "t".into(),
        }
    }

    fn pending(sent: Option<i64>) -> Pending {
        Pending {
            position: 20,
            records: 1,
            bytes: 10,
            partition: Some(PartitionId(1)),
            sent: sent.map(|since| (PartitionId(1), Offset(since))),
        }
    }

    #[test]
    fn a_large_entry_has_the_time_of_all_its_pieces() {
        let second = Duration::from_secs(1);
        assert_eq!(time_for(10, 1_000_000, second), 2 * second);
        assert_eq!(time_for(128_000_000, 1_000_000, second), 130 * second);
        assert_eq!(time_for(usize::MAX, 0, Duration::MAX), Duration::MAX);
    }

    #[test]
    fn since_is_fixed_by_the_first_send_wherever_that_was() {
        let since = |head: Head, pending: Pending, damaged| {
            let progress = progress_of(&head, &pending, damaged);
            progress.may_have_been_sent.then_some(progress.since)
        };
        // Sent before it was stored, whatever later marks say.
        assert_eq!(
            since(head(true, Some(5)), pending(Some(9)), false),
            Some(Some(Offset(5)))
        );
        // Sent by a replay.
        assert_eq!(
            since(head(false, Some(5)), pending(Some(9)), false),
            Some(Some(Offset(9)))
        );
        // Never sent: it will be learnt.
        assert_eq!(since(head(false, Some(5)), pending(None), false), None);
        // Perhaps sent by a replay whose mark is damaged.
        assert_eq!(
            since(head(false, Some(5)), pending(None), true),
            Some(Some(Offset(5)))
        );
        assert_eq!(
            since(head(false, None), pending(None), true),
            Some(Some(Offset(0)))
        );
    }
}
