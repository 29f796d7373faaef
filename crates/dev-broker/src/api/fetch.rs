//! Fetch: what is there at once, or what comes within the time that the client waits. No fetch
//! sessions: the session id is always 0, so every request names all its partitions.

use std::{sync::Arc, time::Duration};

use kafka_protocol::messages::{
    FetchRequest, FetchResponse,
    fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData},
};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Context, topic_ids::FETCH_SINCE};
use crate::{
    error_code as code,
    partition::{Partition, Want},
};

const READ_COMMITTED: i8 = 1;
/// The first version whose answer has an error for the whole of it.
const SESSIONS_SINCE: i16 = 7;

/// A partition of the request, looked up once.
struct Wanted {
    partition: Option<Arc<Partition>>,
    /// Where the request goes by id.
    topic_id: Option<Uuid>,
    index: i32,
    offset: i64,
    leader_epoch: i32,
    bytes_max: usize,
}

pub(crate) async fn handle(context: &Context<'_>, request: FetchRequest) -> FetchResponse {
    if request.session_id != 0 && context.version >= SESSIONS_SINCE {
        return FetchResponse::default().with_error_code(code::FETCH_SESSION_ID_NOT_FOUND);
    }
    let topics: Vec<Vec<Wanted>> = request.topics.iter().map(|t| wanted(context, t)).collect();
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let deadline = Instant::now() + wait;
    loop {
        let pass = Pass::over(context, &request, &topics);
        let enough =
            i64::try_from(pass.available).unwrap_or(i64::MAX) >= i64::from(request.min_bytes);
        if enough || pass.failed || Instant::now() >= deadline {
            return pass.answer(&request);
        }
        let waiting = topics.iter().flatten().zip(&pass.seen);
        let unchanged = waiting.fold(true, |all, (wanted, seen)| {
            let partition = wanted.partition.as_deref();
            all & partition.is_none_or(|p| p.wait(context.waiter, *seen))
        });
        if unchanged {
            // a late wake-up of an earlier wait costs one more look, nothing else
            let _ = tokio::time::timeout_at(deadline, context.waiter.notified()).await;
        }
    }
}

fn wanted(
    context: &Context<'_>,
    topic: &kafka_protocol::messages::fetch_request::FetchTopic,
) -> Vec<Wanted> {
    let by_id = context.version >= FETCH_SINCE;
    // the name is that of the id, unless the topic was made anew this very moment
    let found = context.shared.cluster.topic(&topic.topic);
    let found = found.filter(|found| !by_id || found.id == topic.topic_id);
    let each = topic.partitions.iter().map(|p| Wanted {
        topic_id: by_id.then_some(topic.topic_id),
        partition: found.as_ref().and_then(|t| t.partition(p.partition)),
        index: p.partition,
        offset: p.fetch_offset,
        leader_epoch: p.current_leader_epoch,
        bytes_max: usize::try_from(p.partition_max_bytes).unwrap_or(0),
    });
    each.collect()
}

fn exists(context: &Context<'_>, topic_id: Uuid) -> bool {
    context.shared.cluster.topic_by_id(topic_id).is_some()
}

/// One look at all partitions.
struct Pass {
    data: Vec<Vec<PartitionData>>,
    /// Bytes that could be had, for `min_bytes`.
    available: u64,
    failed: bool,
    /// State of each partition as seen, in order.
    seen: Vec<u64>,
}

impl Pass {
    fn over(context: &Context<'_>, request: &FetchRequest, topics: &[Vec<Wanted>]) -> Self {
        let mut pass = Self {
            data: Vec::with_capacity(topics.len()),
            available: 0,
            failed: false,
            seen: Vec::new(),
        };
        let mut room = usize::try_from(request.max_bytes).unwrap_or(0);
        let mut nothing_yet = true;
        for topic in topics {
            let mut answers = Vec::with_capacity(topic.len());
            for wanted in topic {
                let answer = pass.look(context, request, wanted, room, nothing_yet);
                let taken = answer.records.as_ref().map_or(0, |records| records.len());
                room = room.saturating_sub(taken);
                nothing_yet &= taken == 0;
                answers.push(answer);
            }
            pass.data.push(answers);
        }
        pass
    }

    fn look(
        &mut self,
        context: &Context<'_>,
        request: &FetchRequest,
        wanted: &Wanted,
        room: usize,
        whole_first: bool,
    ) -> PartitionData {
        let answer = PartitionData::default().with_partition_index(wanted.index);
        let Some(partition) = &wanted.partition else {
            self.failed = true;
            self.seen.push(0);
            let absent = if wanted.topic_id.is_some_and(|id| !exists(context, id)) {
                code::UNKNOWN_TOPIC_ID
            } else {
                code::UNKNOWN_TOPIC_OR_PARTITION
            };
            return answer
                .with_high_watermark(-1)
                .with_aborted_transactions(None)
                .with_error_code(absent);
        };
        let committed_only = request.isolation_level == READ_COMMITTED;
        let want = Want {
            offset: wanted.offset,
            bytes_max: wanted.bytes_max.min(room),
            whole_first,
            committed_only,
        };
        let mut found = partition.fetch(context.node, wanted.leader_epoch, &want);
        if found.error != code::NONE && wanted.topic_id.is_some_and(|id| !exists(context, id)) {
            // gone while the request waited: the partition that it holds is not that of the id
            found.error = code::INCONSISTENT_TOPIC_ID;
        }
        self.seen.push(found.changes);
        self.failed |= found.error != code::NONE;
        self.available += found.available;
        let aborted = committed_only.then(|| {
            let each = found.aborted.iter().map(|txn| {
                AbortedTransaction::default()
                    .with_producer_id(txn.producer_id.into())
                    .with_first_offset(txn.first_offset)
            });
            each.collect()
        });
        answer
            .with_error_code(found.error)
            .with_high_watermark(found.high_watermark)
            .with_last_stable_offset(found.stable_end)
            .with_log_start_offset(found.log_start)
            .with_aborted_transactions(aborted)
            .with_records(Some(found.bytes))
    }

    fn answer(self, request: &FetchRequest) -> FetchResponse {
        let topics = request.topics.iter().zip(self.data).map(|(topic, data)| {
            FetchableTopicResponse::default()
                .with_topic(topic.topic.clone())
                .with_partitions(data)
        });
        FetchResponse::default().with_responses(topics.collect())
    }
}
