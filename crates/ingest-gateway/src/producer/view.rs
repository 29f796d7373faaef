//! What the gateway knows of its topic now: partitions with the ends known and their circuits,
//! and what fits into a message. Asks nobody; the link keeper and the acknowledgements tell it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicI32, AtomicI64, Ordering},
    },
    time::Instant,
};

use kafka_link::{Acks, BatchEncoder};
use pipeline_core::{BatchId, Offset, PartitionId, envelope::ENVELOPE_LEN};

use super::circuit::Circuit;

/// Kafka's own default, until the topic has been asked.
pub const MESSAGE_BYTES_MAX_DEFAULT: usize = 1_048_588;

/// Partitions only grow; what is known of one goes over into the next view of the same topic.
#[derive(Clone, Debug)]
pub struct TopicView {
    pub cluster_id: Arc<str>,
    pub topic_id: Arc<str>,
    /// `max.message.bytes` of the topic.
    pub message_bytes_max: usize,
    /// Why nothing may be sent to this topic, where its settings would break the promise.
    pub unfit: Option<Arc<str>>,
    /// Brokers that lead a partition.
    pub brokers: usize,
    /// What Kafka answers says that a setting is not as it was.
    in_doubt: Arc<AtomicBool>,
    partitions: Vec<Arc<Partition>>,
}

#[derive(Debug)]
struct Partition {
    /// -1: not known.
    end: AtomicI64,
    /// -1: none, or not known.
    leader: AtomicI32,
    circuit: Mutex<Circuit>,
}

impl TopicView {
    /// A topic of which nothing but its shape is known.
    #[must_use]
    pub fn new(cluster_id: &str, topic_id: &str, partitions: usize) -> Self {
        Self {
            cluster_id: cluster_id.into(),
            topic_id: topic_id.into(),
            message_bytes_max: MESSAGE_BYTES_MAX_DEFAULT,
            unfit: None,
            brokers: 1,
            in_doubt: Arc::default(),
            partitions: (0..partitions).map(|_| Arc::default()).collect(),
        }
    }

    /// The same topic with another number of partitions.
    #[must_use]
    pub fn resized(&self, partitions: usize) -> Self {
        let mut view = self.clone();
        view.partitions.resize_with(partitions, Arc::default);
        view
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.partitions.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    pub fn partition_ids(&self) -> impl Iterator<Item = PartitionId> + use<> {
        let count = i32::try_from(self.partitions.len()).expect("Kafka counts partitions in i32");
        (0..count).map(PartitionId)
    }

    /// Where a batch that was never sent goes.
    #[must_use]
    pub fn partition_of(&self, batch: BatchId) -> PartitionId {
        let count = u32::try_from(self.partitions.len()).expect("Kafka counts partitions in i32");
        batch.partition(count)
    }

    /// The greatest end of the partition that is known: it is told by lookups and, where
    /// they are of all replicas, acknowledgements, each true when it was given, and rises but where the log was cut.
    #[must_use]
    pub fn end(&self, partition: PartitionId) -> Option<Offset> {
        let end = self.partition(partition)?.end.load(Ordering::Acquire);
        (end >= 0).then_some(Offset(end))
    }

    /// The partition was seen to end at `end` or later.
    pub fn saw_end(&self, partition: PartitionId, end: Offset) {
        if let Some(partition) = self.partition(partition) {
            partition.end.fetch_max(end.0, Ordering::AcqRel);
        }
    }

    /// What was acknowledged puts the partition's end at `end`. That of the leader alone proves
    /// nothing: where its followers had not got so far and one of them leads, what is sent next
    /// lies below it. What a lookup tells is on all of them.
    pub fn acknowledged(&self, partition: PartitionId, end: Offset, acks: Acks) {
        match acks {
            Acks::All => self.saw_end(partition, end),
            Acks::Leader => {}
        }
    }

    /// A lookup that was begun when `known` was known has found `end`. A log that ends before what
    /// was in it then has been cut (an unclean election):
    /// what is sent from now on may lie there again. Whether it was.
    pub fn looked_up(&self, partition: PartitionId, known: Option<Offset>, end: Offset) -> bool {
        let cut = known.is_some_and(|known| end < known);
        match self.partition(partition) {
            Some(partition) if cut => partition.end.store(end.0, Ordering::Release),
            _ => self.saw_end(partition, end),
        }
        cut
    }

    /// The broker that leads the partition, as far as is known. Good enough to keep one broker's
    /// silence from others; where to send to is the client's business.
    #[must_use]
    pub fn leader(&self, partition: PartitionId) -> Option<i32> {
        let leader = self.partition(partition)?.leader.load(Ordering::Relaxed);
        (leader >= 0).then_some(leader)
    }

    pub fn led_by(&self, partition: PartitionId, leader: Option<i32>) {
        if let Some(partition) = self.partition(partition) {
            let leader = leader.unwrap_or(-1);
            partition.leader.store(leader, Ordering::Relaxed);
        }
    }

    /// Kafka has answered what its settings, as they are known, leave no reason for.
    pub fn doubt_settings(&self) {
        self.in_doubt.store(true, Ordering::Relaxed);
    }

    /// Whether the settings were doubted since they were last asked for.
    #[must_use]
    pub fn take_doubt(&self) -> bool {
        self.in_doubt.swap(false, Ordering::Relaxed)
    }

    /// Whether a send may go now; see [`Circuit::admit`].
    #[must_use]
    pub fn admit(&self, partition: PartitionId, now: Instant) -> bool {
        self.circuit(partition)
            .is_some_and(|mut circuit| circuit.admit(now))
    }

    /// As [`Self::admit`], without taking the place of a trial.
    #[must_use]
    pub fn would_admit(&self, partition: PartitionId, now: Instant) -> bool {
        self.circuit(partition)
            .is_some_and(|circuit| circuit.clone().admit(now))
    }

    pub fn succeeded(&self, partition: PartitionId) {
        if let Some(mut circuit) = self.circuit(partition) {
            circuit.success();
        }
    }

    /// An attempt that began at `began` failed; see [`Circuit::failure`].
    pub fn failed(&self, partition: PartitionId, began: Instant) {
        if let Some(mut circuit) = self.circuit(partition) {
            circuit.failure(began, Instant::now());
        }
    }

    /// A lookup that began at `began` failed.
    pub fn lookup_failed(&self, partition: PartitionId, began: Instant) {
        if let Some(mut circuit) = self.circuit(partition) {
            circuit.lookup_failed(began, Instant::now());
        }
    }

    /// An attempt that began at `began` had all the time that there is for one, and no answer.
    pub fn timed_out(&self, partition: PartitionId, began: Instant) {
        if let Some(mut circuit) = self.circuit(partition) {
            circuit.timeout(began, Instant::now());
        }
    }

    pub fn probe_answered(&self, partition: PartitionId, now: Instant) {
        if let Some(mut circuit) = self.circuit(partition) {
            circuit.probe_answered(now);
        }
    }

    /// Partitions whose circuit is not closed.
    #[must_use]
    pub fn away(&self) -> usize {
        self.partition_ids()
            .filter_map(|id| self.circuit(id))
            .filter(|circuit| !circuit.is_closed())
            .count()
    }

    fn partition(&self, id: PartitionId) -> Option<&Partition> {
        let index = usize::try_from(id.0).ok()?;
        self.partitions.get(index).map(Arc::as_ref)
    }

    fn circuit(&self, id: PartitionId) -> Option<MutexGuard<'_, Circuit>> {
        let partition = self.partition(id)?;
        Some(partition.circuit.lock().expect("no panic under this lock"))
    }
}

impl Default for Partition {
    fn default() -> Self {
        Self {
            end: AtomicI64::new(-1),
            leader: AtomicI32::new(-1),
            circuit: Mutex::default(),
        }
    }
}

/// The longest line of a record that fits alone into a message of `message_bytes_max`.
#[must_use]
pub fn line_bytes_max(message_bytes_max: usize) -> usize {
    // No line is longer than the message, so none needs more for its lengths.
    let whole =
        BatchEncoder::new(0).len() + BatchEncoder::message_len_max(message_bytes_max, ENVELOPE_LEN);
    message_bytes_max.saturating_sub(whole - message_bytes_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_known_only_rises_and_goes_over_when_the_topic_grows() {
        let view = TopicView::new("c", "t", 1);
        let id = PartitionId(0);
        assert_eq!(view.end(id), None);
        view.saw_end(id, Offset(0));
        assert_eq!(view.end(id), Some(Offset(0)));
        view.saw_end(id, Offset(9));
        view.saw_end(id, Offset(4));
        let grown = view.resized(3);
        assert_eq!(grown.end(id), Some(Offset(9)));
        assert_eq!(grown.end(PartitionId(2)), None);
        view.saw_end(id, Offset(12));
        assert_eq!(grown.end(id), Some(Offset(12)));
        assert_eq!(view.end(PartitionId(7)), None);
    }

    #[test]
    fn the_end_falls_only_when_the_log_was_cut() {
        let view = TopicView::new("c", "t", 1);
        let id = PartitionId(0);
        assert!(!view.looked_up(id, None, Offset(5)));
        // Acknowledged while the lookup was on its way.
        view.saw_end(id, Offset(9));
        assert!(!view.looked_up(id, Some(Offset(5)), Offset(7)));
        assert_eq!(view.end(id), Some(Offset(9)));
        assert!(view.looked_up(id, Some(Offset(9)), Offset(7)));
        assert_eq!(view.end(id), Some(Offset(7)));
    }

    #[test]
    fn acknowledgements_of_the_leader_alone_are_not_taken_for_ends() {
        let view = TopicView::new("c", "t", 1);
        let id = PartitionId(0);
        view.saw_end(id, Offset(5));
        view.acknowledged(id, Offset(9), Acks::Leader);
        // Another leads now, and has only what all had: a copy sent next lies at 7.
        assert!(!view.looked_up(id, view.end(id), Offset(7)));
        assert_eq!(view.end(id), Some(Offset(7)));
        view.acknowledged(id, Offset(9), Acks::All);
        assert_eq!(view.end(id), Some(Offset(9)));
    }

    #[test]
    fn the_longest_line_fits_and_the_next_longer_may_not() {
        for message_bytes_max in [1_000, 20_000, 1_048_588] {
            let line = vec![b'x'; line_bytes_max(message_bytes_max)];
            let mut encoder = BatchEncoder::new(0);
            encoder.push(&line, Some(("sluice", &[0; ENVELOPE_LEN])));
            assert!(encoder.len() <= message_bytes_max);
            assert!(encoder.len() + 16 > message_bytes_max, "wasteful");
        }
    }
}
