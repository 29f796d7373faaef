//! Produce: one checked batch for each partition into its log.

use kafka_protocol::{
    messages::{
        ProduceRequest, ProduceResponse, ResponseKind,
        produce_request::PartitionProduceData,
        produce_response::{
            LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
        },
    },
    protocol::StrBytes,
};

use super::{Context, Reply, text};
use crate::{
    batch::{self, CODEC_ZSTD},
    cluster::Topic,
    error_code as code,
    settings::Settings,
};

const ACKS_ALL: i16 = -1;
const NO_TIMESTAMP: i64 = -1;

pub(crate) fn handle(context: &Context<'_>, request: ProduceRequest) -> Reply {
    let acks = request.acks;
    let mut failed = false;
    let mut moved = Vec::new();
    let mut topics = Vec::with_capacity(request.topic_data.len());
    for data in request.topic_data {
        let topic = context.shared.cluster.topic(&data.name);
        let mut partitions = Vec::with_capacity(data.partition_data.len());
        for partition in data.partition_data {
            let mut answer = PartitionProduceResponse::default()
                .with_index(partition.index)
                .with_log_append_time_ms(NO_TIMESTAMP);
            match append(context, topic.as_deref(), acks, &partition) {
                Ok((base, start)) => {
                    answer.base_offset = base;
                    answer.log_start_offset = start;
                }
                Err((error, why)) => {
                    failed = true;
                    answer.base_offset = -1;
                    answer.error_code = error;
                    if context.version >= 8 && !why.is_empty() {
                        answer.error_message = Some(StrBytes::from_static_str(why));
                    }
                    if context.version >= 10 && error == code::NOT_LEADER_OR_FOLLOWER {
                        name_leader(topic.as_deref(), &mut answer, &mut moved);
                    }
                }
            }
            partitions.push(answer);
        }
        let answer = TopicProduceResponse::default()
            .with_name(data.name)
            .with_partition_responses(partitions);
        topics.push(answer);
    }
    if acks == 0 {
        return if failed { Reply::Close } else { Reply::Nothing };
    }
    let mut answer = ProduceResponse::default().with_responses(topics);
    for id in moved {
        let Some(node) = context.shared.cluster.node(id) else {
            continue;
        };
        let endpoint = NodeEndpoint::default()
            .with_node_id(id.into())
            .with_host(text(&node.addr.ip().to_string()))
            .with_port(node.addr.port().into());
        answer.node_endpoints.push(endpoint);
    }
    Reply::Answer(Box::new(ResponseKind::Produce(answer)))
}

/// Base offset and log start, or the error code with its reason.
fn append(
    context: &Context<'_>,
    topic: Option<&Topic>,
    acks: i16,
    data: &PartitionProduceData,
) -> Result<(i64, i64), (i16, &'static str)> {
    if !matches!(acks, ACKS_ALL..=1) {
        return Err((code::INVALID_REQUIRED_ACKS, ""));
    }
    let unknown = (code::UNKNOWN_TOPIC_OR_PARTITION, "");
    let topic = topic.ok_or(unknown)?;
    let partition = topic.partition(data.index).ok_or(unknown)?;
    let settings = topic.settings();
    let bytes = data.records.as_deref().unwrap_or_default();
    let head = batch::check_produced(bytes)?;
    if head.len > settings.max_message_bytes {
        return Err((
            code::MESSAGE_TOO_LARGE,
            "the record batch is larger than max.message.bytes",
        ));
    }
    if head.codec() == CODEC_ZSTD && context.version < 7 {
        return Err((
            code::UNSUPPORTED_COMPRESSION_TYPE,
            "zstd needs produce version 7",
        ));
    }
    if head.is_transactional() {
        return Err((
            code::INVALID_TXN_STATE,
            "the development broker knows no transactions",
        ));
    }
    check_time(head.max_timestamp, &settings)?;
    if acks == ACKS_ALL && settings.min_insync_replicas > 1 {
        let replicas = partition.lock().replicas.clone();
        if context.shared.cluster.in_sync(&replicas).len() < settings.min_insync_replicas {
            return Err((code::NOT_ENOUGH_REPLICAS, ""));
        }
    }
    partition
        .append(context.node, bytes, &head, &settings)
        .map_err(|error| (error, ""))
}

fn check_time(newest: i64, settings: &Settings) -> Result<(), (i16, &'static str)> {
    if newest == NO_TIMESTAMP {
        return Ok(());
    }
    let now = batch::now_ms();
    if newest.saturating_sub(now) > settings.timestamp_after_max_ms
        || now.saturating_sub(newest) > settings.timestamp_before_max_ms
    {
        return Err((
            code::INVALID_TIMESTAMP,
            "the timestamp is too far from the broker's clock",
        ));
    }
    Ok(())
}

/// From version 10 on the answer says who leads, so that the client need not ask (KIP-951).
fn name_leader(topic: Option<&Topic>, answer: &mut PartitionProduceResponse, moved: &mut Vec<i32>) {
    let Some(partition) = topic.and_then(|topic| topic.partition(answer.index)) else {
        return;
    };
    let inner = partition.lock();
    answer.current_leader = LeaderIdAndEpoch::default()
        .with_leader_id(inner.leader.into())
        .with_leader_epoch(inner.epoch);
    if !moved.contains(&inner.leader) {
        moved.push(inner.leader);
    }
}
