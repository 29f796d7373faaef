//! Sends batches until each is acknowledged or has to be kept elsewhere.
//!
//! ```text
//! batches ─▶ one group per partition ─┬▶ a piece of each (one record batch) ─▶ one produce
//!                ▲                    │                                           │
//!                └── pause, smaller pieces, one batch alone ◀── outcome::judge ◀──┤ failed
//!                                                                                 ▼
//!                                             settled: acknowledged, or left with its reason
//! ```
//!
//! Identity, partition and *since* of a batch are fixed when its first record is encoded, and
//! every further attempt carries them. A batch larger than one record batch goes in several
//! pieces; it is acknowledged when all of them are. Never touches the dead letter queue or the
//! clients: what is settled is handed back at once, as other partitions may still be trying.

mod group;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use kafka_link::{Acks, Cluster, Codec, EncodedBatch, ErrorKind, KafkaError};
use pipeline_core::{Offset, PartitionId, retry::Backoff};

use tokio::{sync::mpsc, task::JoinSet};

use self::group::{Group, Plan, leave_all};
pub use self::group::{Size, size_of};
use super::{
    drain::Drain,
    outcome::{Next, judge},
    view::TopicView,
};
use crate::{batch::Batch, budget::Budget, dlq::Reason, telemetry};

/// How a batch's way to Kafka ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Settled {
    Acknowledged,
    /// Not all of it is known to be in Kafka.
    Left(Reason),
}

/// Takes what is settled, with the place it had among the batches handed in.
pub type Settle<'a> = dyn FnMut(usize, Batch, Settled) + Send + 'a;

#[derive(Clone)]
pub struct Sender {
    pub cluster: Cluster,
    pub topic: Arc<str>,
    pub acks: Acks,
    pub codec: Codec,
    /// Records in one record batch.
    pub batch_records_max: usize,
    /// Bytes of one record batch, before compression; the topic may allow less.
    pub batch_bytes_max: usize,
    pub write_timeout: Duration,
    /// With less time than this left, an attempt is not worth beginning. Its timeout is that of
    /// all that goes along, and one that passes costs them their connection.
    pub attempt_min: Duration,
    pub retries_max: u32,
    pub backoff: Backoff,
    pub drain: Drain,
    /// What is encoded takes its part of it by force: it is of batches that are accepted.
    pub memory: Arc<Budget>,
}

/// One record batch for each partition that is due.
type Pieces = Vec<(PartitionId, EncodedBatch)>;

impl Sender {
    /// Ends when every batch is settled, at the latest when the last deadline has come. What goes
    /// to different brokers goes side by side: one that hangs delays only its own.
    pub async fn send(&self, view: &TopicView, batches: Vec<Batch>, settle: &mut Settle<'_>) {
        let mut by_leader: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for group in self.group(view, batches) {
            let leader = view.leader(group.partition);
            by_leader.entry(leader).or_default().push(group);
        }
        if by_leader.len() <= 1 {
            for groups in by_leader.into_values() {
                self.send_groups(view, groups, settle).await;
            }
            return;
        }
        let (settled, mut seen) = mpsc::unbounded_channel();
        let mut sends = JoinSet::new();
        for groups in by_leader.into_values() {
            let (sender, view, settled) = (self.clone(), view.clone(), settled.clone());
            sends.spawn(async move {
                let mut settle = |place, batch, how| {
                    // It is there until this send has ended.
                    let _ = settled.send((place, batch, how));
                };
                sender.send_groups(&view, groups, &mut settle).await;
            });
        }
        drop(settled);
        while let Some((place, batch, how)) = seen.recv().await {
            settle(place, batch, how);
        }
    }

    async fn send_groups(&self, view: &TopicView, mut groups: Vec<Group>, settle: &mut Settle<'_>) {
        while !groups.is_empty() {
            // Before it is asked anything: the shortest time left bounds all that is awaited.
            self.leave_late(&mut groups, settle);
            self.learn_ends(view, &mut groups, settle).await;
            self.leave_late(&mut groups, settle);
            let (pieces, plans) = self.next_pieces(view, &mut groups, settle);
            groups.retain(|group| !group.members.is_empty());
            if pieces.is_empty() {
                self.pause(&groups).await;
                continue;
            }
            let began = Instant::now();
            let results = self.produce(&groups, pieces).await;
            for (partition, plan) in plans {
                let group = groups
                    .iter_mut()
                    .find(|group| group.partition == partition)
                    .expect("a group with a piece has members");
                match results.get(&partition) {
                    Some(Ok(base)) => {
                        group.acknowledged(view, &self.topic, *base, self.acks, &plan, settle);
                    }
                    Some(Err(error)) => self.failed(view, group, began, error, &plan, settle),
                    None => {
                        let error = KafkaError {
                            kind: ErrorKind::UnknownOutcome,
                            code: None,
                            message: "the answer does not name the partition".to_owned(),
                        };
                        self.failed(view, group, began, &error, &plan, settle);
                    }
                }
            }
            groups.retain(|group| !group.members.is_empty());
        }
    }

    fn group(&self, view: &TopicView, batches: Vec<Batch>) -> Vec<Group> {
        let mut groups = BTreeMap::new();
        for (place, mut batch) in batches.into_iter().enumerate() {
            let partition = *batch
                .progress
                .partition
                .get_or_insert_with(|| view.partition_of(batch.id));
            groups
                .entry(partition)
                .or_insert_with(|| Group {
                    partition,
                    members: VecDeque::new(),
                    failed: 0,
                    not_before: None,
                    piece_records_max: self.batch_records_max.max(1),
                    alone: false,
                })
                .members
                .push_back((place, batch));
        }
        groups.into_values().collect()
    }

    /// Asks for the ends of partitions of which none is known: without it nothing may be sent.
    async fn learn_ends(&self, view: &TopicView, groups: &mut [Group], settle: &mut Settle<'_>) {
        let unknown: Vec<_> = groups
            .iter()
            .filter(|group| view.end(group.partition).is_none())
            .filter(|group| {
                group
                    .members
                    .iter()
                    .any(|(_, b)| b.progress.since.is_none())
            })
            .map(|group| group.partition)
            .collect();
        if unknown.is_empty() {
            return;
        }
        let asked_at = Instant::now();
        let asked = self.cluster.log_ends(&self.topic, &unknown);
        let timeout = self.time_for(groups.iter());
        let asked = tokio::time::timeout(timeout, asked);
        let asked = tokio::select! {
            asked = asked => asked.ok(),
            // It may have come since: what is left then belongs to the dead letter queue.
            () = self.drain.expired() => None,
        };
        match asked {
            Some(ends) => {
                for (partition, end) in ends {
                    match end {
                        Ok(end) => view.saw_end(partition, end),
                        Err(error) => {
                            tracing::debug!(%partition, "failed to learn the end: {error}");
                        }
                    }
                }
            }
            None => tracing::debug!("failed to learn ends of {unknown:?} in time"),
        }
        for group in groups {
            if unknown.contains(&group.partition) && view.end(group.partition).is_none() {
                view.lookup_failed(group.partition, asked_at);
                let (sent, unsent) = std::mem::take(&mut group.members)
                    .into_iter()
                    .partition(|(_, batch)| batch.progress.since.is_some());
                group.members = sent;
                leave_all(unsent, Reason::SinceUnknown, settle);
            }
        }
    }

    /// Settles what has no time for another attempt.
    fn leave_late(&self, groups: &mut [Group], settle: &mut Settle<'_>) {
        let now = Instant::now();
        for group in groups {
            self.leave_late_at(now, group, settle);
        }
    }

    /// Settles what will have no time for another attempt at `at`.
    fn leave_late_at(&self, at: Instant, group: &mut Group, settle: &mut Settle<'_>) {
        let late = |batch: &Batch| self.drain.cap(batch.deadline) < at + self.attempt_min;
        if group.members.iter().any(|(_, batch)| late(batch)) {
            let (gone, members) = std::mem::take(&mut group.members)
                .into_iter()
                .partition(|(_, batch)| late(batch));
            group.members = members;
            leave_all(gone, Reason::Deadline, settle);
        }
    }

    /// One piece of each group that is due.
    fn next_pieces(
        &self,
        view: &TopicView,
        groups: &mut [Group],
        settle: &mut Settle<'_>,
    ) -> (Pieces, Vec<(PartitionId, Plan)>) {
        let now = Instant::now();
        let bytes_max = self.batch_bytes_max.min(view.message_bytes_max);
        let (mut pieces, mut plans) = (Vec::new(), Vec::new());
        for group in groups {
            if group.members.is_empty() || group.not_before.is_some_and(|at| at > now) {
                continue;
            }
            if !view.admit(group.partition, now) {
                group.leave(Reason::KafkaAway, settle);
                continue;
            }
            let (piece, plan) = group.encode(view, bytes_max, self.codec);
            pieces.push((group.partition, piece));
            plans.push((group.partition, plan));
        }
        (pieces, plans)
    }

    async fn produce(
        &self,
        groups: &[Group],
        pieces: Pieces,
    ) -> BTreeMap<PartitionId, Result<Offset, KafkaError>> {
        let asked: Vec<_> = pieces.iter().map(|(partition, _)| *partition).collect();
        // Also of those that pause: they are not looked at before this ends.
        let timeout = self.time_for(groups.iter());
        let bytes: usize = pieces.iter().map(|(_, piece)| piece.bytes.len()).sum();
        let _encoded = self.memory.forced(bytes as u64);
        let began = Instant::now();
        let produced = self
            .cluster
            .produce(&self.topic, self.acks, timeout, pieces);
        let results = tokio::select! {
            results = produced => results,
            () = self.drain.expired() => asked
                .into_iter()
                .map(|partition| {
                    let error = KafkaError {
                        kind: ErrorKind::UnknownOutcome,
                        code: None,
                        message: "given up at the end of the drain".to_owned(),
                    };
                    (partition, Err(error))
                })
                .collect(),
        };
        telemetry::producer_write(began.elapsed());
        results.into_iter().collect()
    }

    fn failed(
        &self,
        view: &TopicView,
        group: &mut Group,
        began: Instant,
        error: &KafkaError,
        plan: &Plan,
        settle: &mut Settle<'_>,
    ) {
        let now = Instant::now();
        let partition = group.partition;
        let verdict = judge(error.kind);
        telemetry::producer_error(error.kind);
        tracing::debug!(%partition, kind = error.kind.as_str(), "failed to produce: {error}");
        if !verdict.kafka_is_away {
            view.succeeded(partition);
        } else if now.duration_since(began) >= self.write_timeout {
            view.timed_out(partition, began);
        } else {
            view.failed(partition, began);
        }
        if verdict.may_have_been_sent {
            for (_, batch) in group.members.iter_mut().take(plan.len()) {
                batch.progress.may_have_been_sent = true;
            }
        }
        match verdict.next {
            Next::Retry => {
                group.failed += 1;
                if group.failed > self.retries_max {
                    tracing::warn!(
                        %partition,
                        attempts = group.failed,
                        batches = group.members.len(),
                        "kafka does not take batches, they go to the dead letter queue: {error}"
                    );
                    group.leave(Reason::RetriesExhausted, settle);
                    return;
                }
                telemetry::producer_retry();
                let pause = self.backoff.pause(group.failed, fastrand::f64());
                group.not_before = Some(now + pause);
                // Now, and not after the pause: their clients wait.
                self.leave_late_at(now + pause, group, settle);
            }
            Next::Split => {
                view.doubt_settings();
                match plan.iter().sum::<usize>() {
                    0 | 1 => {
                        tracing::warn!(%partition, "a record is too large for the topic now: {error}");
                        group.leave_first(Reason::TooLarge, settle);
                    }
                    records => group.piece_records_max = records.div_ceil(2),
                }
            }
            Next::Isolate if plan.len() > 1 => group.alone = true,
            Next::Isolate => {
                tracing::warn!(%partition, "kafka refuses the data of a batch: {error}");
                group.leave_first(Reason::Poison, settle);
            }
            Next::Dlq => {
                tracing::warn!(
                    %partition,
                    batches = group.members.len(),
                    "kafka refuses batches, they go to the dead letter queue: {error}"
                );
                group.leave(Reason::Refused, settle);
            }
        }
    }

    /// Until the first group is due again: what it has left in it has the time.
    async fn pause(&self, groups: &[Group]) {
        let Some(until) = groups.iter().filter_map(|group| group.not_before).min() else {
            return;
        };
        tokio::select! {
            () = tokio::time::sleep_until(until.into()) => {}
            () = self.drain.expired() => {}
        }
    }

    /// The time that the earliest deadline among `groups` leaves, at most a write's.
    fn time_for<'a>(&self, groups: impl Iterator<Item = &'a Group>) -> Duration {
        let now = Instant::now();
        groups
            .flat_map(|group| &group.members)
            .map(|(_, batch)| self.drain.cap(batch.deadline))
            .min()
            .map_or(self.write_timeout, |at| at.saturating_duration_since(now))
            .min(self.write_timeout)
    }
}
