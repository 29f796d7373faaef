//! What goes to one partition: the next record batch of it, and what an answer changes.
//!
//! No I/O; the clock only for the messages' timestamps.

use std::{collections::VecDeque, time::Instant};

use kafka_link::{Acks, BatchEncoder, Codec, EncodedBatch};
use pipeline_core::{
    Offset, PartitionId,
    envelope::{ENVELOPE_LEN, Envelope, HEADER_NAME},
};

use super::{Settle, Settled};
use crate::{
    batch::{Batch, start_of},
    dlq::Reason,
    producer::{settle::now_ms, view::TopicView},
};

/// How many records of each of the first members are in a piece.
pub(super) type Plan = Vec<usize>;

/// What goes to one partition.
pub(super) struct Group {
    pub(super) partition: PartitionId,
    pub(super) members: VecDeque<(usize, Batch)>,
    /// Failed attempts since the last success.
    pub(super) failed: u32,
    pub(super) not_before: Option<Instant>,
    /// Shrinks when the broker says that a piece is too large.
    pub(super) piece_records_max: usize,
    /// One client's batch in a piece, to find which of them the broker refuses.
    pub(super) alone: bool,
}

impl Group {
    /// Encodes the next piece; fixes the since of what is in it.
    pub(super) fn encode(
        &mut self,
        view: &TopicView,
        bytes_max: usize,
        codec: Codec,
    ) -> (EncodedBatch, Plan) {
        let known_end = view.end(self.partition);
        let mut encoder = BatchEncoder::with_capacity(now_ms(), self.bytes_of_piece(bytes_max));
        let mut plan = Plan::new();
        for (_, batch) in &mut self.members {
            if let Some(end) = known_end {
                batch.progress.bound_since(end);
            }
            let Some(since) = batch.progress.since.or(known_end) else {
                // Its end was known a moment ago, and that is never forgotten.
                break;
            };
            let taken = push_records(
                &mut encoder,
                batch,
                since,
                self.piece_records_max,
                bytes_max,
            );
            if taken == 0 {
                break;
            }
            batch.progress.since = Some(since);
            plan.push(taken);
            if self.alone || batch.progress.acknowledged + taken < batch.len() {
                break;
            }
        }
        (encoder.finish(codec), plan)
    }

    /// What the next piece will have, about: room is made for it once.
    fn bytes_of_piece(&self, bytes_max: usize) -> usize {
        let members = self.members.iter().map(|(_, batch)| batch);
        let mut bytes = 0;
        for batch in members {
            bytes += size_of(batch).bytes;
            if bytes >= bytes_max {
                return bytes_max;
            }
        }
        bytes
    }

    pub(super) fn acknowledged(
        &mut self,
        view: &TopicView,
        topic: &str,
        base: Offset,
        acks: Acks,
        plan: &Plan,
        settle: &mut Settle<'_>,
    ) {
        let mut first = base.0;
        let records: usize = plan.iter().sum();
        let records = i64::try_from(records).expect("a piece is small");
        view.acknowledged(self.partition, Offset(base.0 + records), acks);
        view.succeeded(self.partition);
        self.failed = 0;
        self.not_before = None;
        for taken in plan {
            let (place, mut batch) = self.members.pop_front().expect("the plan is of members");
            let next = first + i64::try_from(*taken).expect("a piece is small");
            tracing::debug!(
                batch = %batch.id,
                topic,
                partition = %self.partition,
                first,
                next,
                "kafka has acknowledged records"
            );
            first = next;
            batch.progress.acknowledged += taken;
            // Also for what is left of it: its identity is in the topic.
            batch.progress.may_have_been_sent = true;
            if batch.progress.acknowledged == batch.len() {
                settle(place, batch, Settled::Acknowledged);
            } else {
                // Only the last of a piece can be incomplete.
                self.members.push_front((place, batch));
            }
        }
    }

    pub(super) fn leave(&mut self, reason: Reason, settle: &mut Settle<'_>) {
        leave_all(std::mem::take(&mut self.members), reason, settle);
    }

    pub(super) fn leave_first(&mut self, reason: Reason, settle: &mut Settle<'_>) {
        let first = self.members.pop_front();
        leave_all(first.into_iter().collect(), reason, settle);
    }
}

/// What a batch takes in record batches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Size {
    pub records: usize,
    pub bytes: usize,
}

/// What is left of a batch, as it will be in record batches, at most.
#[must_use]
pub fn size_of(batch: &Batch) -> Size {
    let records = batch.len() - batch.progress.acknowledged;
    // The lengths of a longer value take more than that of an empty one: the message's and its own.
    let overhead = BatchEncoder::message_len_max(0, ENVELOPE_LEN) + 2 * 4;
    Size {
        records,
        bytes: batch.bytes_left() + records * overhead,
    }
}

pub(super) fn leave_all(
    members: VecDeque<(usize, Batch)>,
    reason: Reason,
    settle: &mut Settle<'_>,
) {
    for (place, batch) in members {
        settle(place, batch, Settled::Left(reason));
    }
}

/// Pushes what fits of a batch; gives the number of records. The first record of a piece always
/// fits: the broker has the last word on it.
fn push_records(
    encoder: &mut BatchEncoder,
    batch: &Batch,
    since: Offset,
    records_max: usize,
    bytes_max: usize,
) -> usize {
    let records = &batch.records;
    let first = batch.progress.acknowledged;
    let mut start = start_of(records, first);
    let ends = &records.ends[first..];
    let sequences = &records.sequences[first..];
    let whole = size_of(batch);
    // Most often all of it fits, and is not looked at record by record.
    let fits = encoder.count() as usize + whole.records <= records_max
        && encoder.len() + whole.bytes <= bytes_max;
    for (taken, (end, sequence)) in ends.iter().zip(sequences).enumerate() {
        let line = &records.lines[start..*end as usize];
        if !fits {
            let len = encoder.len() + BatchEncoder::message_len_max(line.len(), ENVELOPE_LEN);
            let count = encoder.count() as usize;
            if count >= records_max || (len > bytes_max && count > 0) {
                return taken;
            }
        }
        let envelope = Envelope {
            batch: batch.id,
            sequence: *sequence,
            received_ms: batch.received_ms,
            since,
        };
        encoder.push(line, Some((HEADER_NAME, &envelope.encode())));
        start = *end as usize;
    }
    ends.len()
}
