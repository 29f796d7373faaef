//! ListOffsets (earliest, latest, by time) and OffsetForLeaderEpoch.

use kafka_protocol::{
    messages::{
        ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest,
        OffsetForLeaderEpochResponse,
        list_offsets_request::ListOffsetsPartition,
        list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
        offset_for_leader_epoch_request::OffsetForLeaderPartition,
        offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult},
    },
    records::RecordBatchDecoder,
};

use super::Context;
use crate::{error_code as code, partition::Partition};

const READ_COMMITTED: i8 = 1;
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
/// The record with the greatest timestamp.
const NEWEST: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

/// Offset and timestamp; both -1 where there is none.
type Found = (i64, i64);

pub(crate) fn handle(context: &Context<'_>, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let committed_only = request.isolation_level == READ_COMMITTED;
    let topics = request.topics.into_iter().map(|topic| {
        let found = context.shared.cluster.topic(&topic.name);
        let partitions = topic.partitions.iter().map(|wanted| {
            let partition = found
                .as_ref()
                .and_then(|t| t.partition(wanted.partition_index));
            one(context, partition.as_deref(), wanted, committed_only)
        });
        ListOffsetsTopicResponse::default()
            .with_partitions(partitions.collect())
            .with_name(topic.name)
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

/// Where each epoch ended: how a client notices that the log was cut.
pub(crate) fn epoch_ends(
    context: &Context<'_>,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let found = context.shared.cluster.topic(&topic.topic);
        let partitions = topic.partitions.iter().map(|wanted| {
            let partition = found.as_ref().and_then(|t| t.partition(wanted.partition));
            epoch_end(context, partition.as_deref(), wanted)
        });
        OffsetForLeaderTopicResult::default()
            .with_partitions(partitions.collect())
            .with_topic(topic.topic)
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

fn one(
    context: &Context<'_>,
    partition: Option<&Partition>,
    wanted: &ListOffsetsPartition,
    committed_only: bool,
) -> ListOffsetsPartitionResponse {
    let answer = ListOffsetsPartitionResponse::default()
        .with_partition_index(wanted.partition_index)
        .with_offset(-1)
        .with_timestamp(-1);
    let Some(partition) = partition else {
        return answer.with_error_code(code::UNKNOWN_TOPIC_OR_PARTITION);
    };
    let inner = partition.lock();
    if let Err(error) = inner.check_leader(context.node, wanted.current_leader_epoch) {
        return answer.with_error_code(error);
    }
    let log = &inner.log;
    let found = match wanted.timestamp {
        LATEST if committed_only => Ok((log.stable_end(), -1)),
        LATEST => Ok((log.end(), -1)),
        EARLIEST | EARLIEST_LOCAL => Ok((log.start(), -1)),
        NEWEST => log
            .batch_of_newest()
            .transpose()
            .map(|bytes| bytes.map_or((-1, -1), |bytes| newest_record(&bytes))),
        LATEST_TIERED => Ok((-1, -1)),
        time if time >= 0 => log
            .batch_at_time(time)
            .transpose()
            .map(|bytes| bytes.map_or((-1, -1), |bytes| record_at(&bytes, time, log.start()))),
        _ => return answer.with_error_code(code::INVALID_REQUEST),
    };
    let Ok((offset, timestamp)) = found else {
        return answer.with_error_code(code::KAFKA_STORAGE_ERROR);
    };
    let epoch = if context.version >= 4 {
        inner.epoch
    } else {
        -1
    };
    answer
        .with_offset(offset)
        .with_timestamp(timestamp)
        .with_leader_epoch(epoch)
}

/// The first record of the batch at or after `time`. This rare call alone looks into a batch.
fn record_at(batch: &bytes::Bytes, time: i64, log_start: i64) -> Found {
    let records = records_of(batch);
    let mut fitting = records
        .into_iter()
        .filter(|(offset, _)| *offset >= log_start);
    fitting.find(|(_, at)| *at >= time).unwrap_or((-1, -1))
}

fn newest_record(batch: &bytes::Bytes) -> Found {
    let mut newest = (-1, -1);
    for (offset, at) in records_of(batch) {
        if at > newest.1 {
            newest = (offset, at);
        }
    }
    newest
}

fn records_of(batch: &bytes::Bytes) -> Vec<Found> {
    match RecordBatchDecoder::decode(&mut batch.clone()) {
        Ok(set) => set
            .records
            .iter()
            .map(|r| (r.offset, r.timestamp))
            .collect(),
        Err(error) => {
            tracing::warn!(%error, "failed to look for a time in a stored batch");
            Vec::new()
        }
    }
}

fn epoch_end(
    context: &Context<'_>,
    partition: Option<&Partition>,
    wanted: &OffsetForLeaderPartition,
) -> EpochEndOffset {
    let answer = EpochEndOffset::default().with_partition(wanted.partition);
    let Some(partition) = partition else {
        return answer.with_error_code(code::UNKNOWN_TOPIC_OR_PARTITION);
    };
    let inner = partition.lock();
    if let Err(error) = inner.check_leader(context.node, wanted.current_leader_epoch) {
        return answer.with_error_code(error);
    }
    match inner.log.epoch_end(wanted.leader_epoch, inner.epoch) {
        Some((epoch, end)) => answer.with_leader_epoch(epoch).with_end_offset(end),
        None => answer,
    }
}
