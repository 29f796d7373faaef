//! One module for each kind of request; each takes a decoded request and gives an answer. Nothing
//! here knows of sockets, frames or faults.

mod configs;
mod fetch;
mod groups;
mod list_offsets;
mod metadata;
mod offsets;
pub(crate) mod partitions;
mod produce;
pub(crate) mod refuse;
pub(crate) mod topic_ids;
mod topics;

use std::{net::IpAddr, sync::Arc, sync::atomic::Ordering};

use kafka_protocol::{
    messages::{
        ApiKey, ApiVersionsResponse, InitProducerIdResponse, RequestKind, ResponseKind, TopicName,
        api_versions_response::ApiVersion,
    },
    protocol::StrBytes,
};
use tokio::sync::Notify;

use crate::{error_code as code, shared::Shared};

/// Where a request came from.
pub(crate) struct Context<'a> {
    pub shared: &'a Shared,
    /// The node that it was sent to.
    pub node: i32,
    pub client_id: &'a str,
    pub host: IpAddr,
    pub version: i16,
    /// The connection's own: woken when a partition that it waits for changes.
    pub waiter: &'a Arc<Notify>,
}

pub(crate) enum Reply {
    Answer(Box<ResponseKind>),
    /// A produce without acknowledgement.
    Nothing,
    /// The only way to tell a client that wants no acknowledgement that something is wrong.
    Close,
}

/// Versions served, and told to clients. Of a Kafka 4.1, except that produce goes by topic name
/// (its versions up to 12) and offset calls too (up to 9), and that fetch ends where it goes by
/// topic id.
const SUPPORTED: [(ApiKey, i16, i16); 24] = [
    // 3 is the least that is served; 0 is told, as Kafka 4 does, since librdkafka before 2.11
    // takes its absence for a broker that knows no compression (KAFKA-18659)
    (ApiKey::Produce, 0, 12),
    (ApiKey::Fetch, 4, topic_ids::FETCH_SINCE),
    (ApiKey::ListOffsets, 1, 10),
    (ApiKey::Metadata, 0, 13),
    (ApiKey::OffsetCommit, 2, 9),
    (ApiKey::OffsetFetch, 1, 9),
    (ApiKey::FindCoordinator, 0, 6),
    (ApiKey::JoinGroup, 0, 9),
    (ApiKey::Heartbeat, 0, 4),
    (ApiKey::LeaveGroup, 0, 5),
    (ApiKey::SyncGroup, 0, 5),
    (ApiKey::DescribeGroups, 0, 6),
    (ApiKey::ListGroups, 0, 5),
    (ApiKey::ApiVersions, 0, 4),
    (ApiKey::CreateTopics, 2, 7),
    (ApiKey::DeleteTopics, 1, 6),
    (ApiKey::DeleteRecords, 0, 2),
    (ApiKey::InitProducerId, 0, 5),
    (ApiKey::OffsetForLeaderEpoch, 2, 4),
    (ApiKey::DescribeConfigs, 1, 4),
    (ApiKey::IncrementalAlterConfigs, 0, 1),
    (ApiKey::CreatePartitions, 0, 3),
    (ApiKey::DeleteGroups, 0, 2),
    (ApiKey::DescribeCluster, 0, 2),
];

pub(crate) fn supports(api: ApiKey, version: i16) -> bool {
    let least = if api == ApiKey::Produce { 3 } else { 0 };
    SUPPORTED
        .iter()
        .any(|(key, min, max)| *key == api && (*min.max(&least)..=*max).contains(&version))
}

/// What a client that asks with an unknown version of ApiVersions gets, encoded as version 0.
pub(crate) fn versions_refused() -> ResponseKind {
    ResponseKind::ApiVersions(versions().with_error_code(code::UNSUPPORTED_VERSION))
}

pub(crate) async fn handle(context: &Context<'_>, request: RequestKind) -> Reply {
    let answer = match request {
        RequestKind::Produce(r) => return produce::handle(context, r),
        RequestKind::Fetch(r) => ResponseKind::Fetch(fetch::handle(context, r).await),
        RequestKind::ListOffsets(r) => ResponseKind::ListOffsets(list_offsets::handle(context, r)),
        RequestKind::OffsetForLeaderEpoch(r) => {
            ResponseKind::OffsetForLeaderEpoch(list_offsets::epoch_ends(context, r))
        }
        RequestKind::Metadata(r) => ResponseKind::Metadata(metadata::handle(context, r)),
        RequestKind::DescribeCluster(_) => {
            ResponseKind::DescribeCluster(metadata::cluster(context))
        }
        RequestKind::ApiVersions(_) => ResponseKind::ApiVersions(versions()),
        RequestKind::CreateTopics(r) => ResponseKind::CreateTopics(topics::create(context, r)),
        RequestKind::CreatePartitions(r) => {
            ResponseKind::CreatePartitions(topics::grow(context, r))
        }
        RequestKind::DeleteTopics(r) => ResponseKind::DeleteTopics(topics::delete(context, r)),
        RequestKind::DeleteRecords(r) => {
            ResponseKind::DeleteRecords(topics::delete_records(context, r))
        }
        RequestKind::DescribeConfigs(r) => {
            ResponseKind::DescribeConfigs(configs::describe(context, r))
        }
        RequestKind::IncrementalAlterConfigs(r) => {
            ResponseKind::IncrementalAlterConfigs(configs::alter(context, r))
        }
        RequestKind::InitProducerId(_) => {
            let id = context
                .shared
                .next_producer_id
                .fetch_add(1, Ordering::Relaxed);
            let answer = InitProducerIdResponse::default().with_producer_id(id.into());
            ResponseKind::InitProducerId(answer)
        }
        RequestKind::FindCoordinator(r) => {
            ResponseKind::FindCoordinator(groups::find_coordinator(context, r))
        }
        RequestKind::JoinGroup(r) => ResponseKind::JoinGroup(groups::join(context, r).await),
        RequestKind::SyncGroup(r) => ResponseKind::SyncGroup(groups::sync(context, r).await),
        RequestKind::Heartbeat(r) => ResponseKind::Heartbeat(groups::heartbeat(context, r)),
        RequestKind::LeaveGroup(r) => ResponseKind::LeaveGroup(groups::leave(context, r)),
        RequestKind::DescribeGroups(r) => {
            ResponseKind::DescribeGroups(groups::describe(context, r))
        }
        RequestKind::ListGroups(r) => ResponseKind::ListGroups(groups::list(context, r)),
        RequestKind::DeleteGroups(r) => ResponseKind::DeleteGroups(groups::delete(context, r)),
        RequestKind::OffsetCommit(r) => ResponseKind::OffsetCommit(offsets::commit(context, r)),
        // version 1 has room for errors only beside partitions
        RequestKind::OffsetFetch(ref r)
            if context.version < 2 && groups::check_group(context, &r.group_id).is_err() =>
        {
            refuse::all(&request, context.version, code::NOT_COORDINATOR)
        }
        RequestKind::OffsetFetch(r) => ResponseKind::OffsetFetch(offsets::fetch(context, r)),
        // not in the table above, so the connection is closed before it comes to this
        _ => return Reply::Close,
    };
    Reply::Answer(Box::new(answer))
}

fn versions() -> ApiVersionsResponse {
    let known = SUPPORTED.iter().map(|(key, min, max)| {
        ApiVersion::default()
            .with_api_key(*key as i16)
            .with_min_version(*min)
            .with_max_version(*max)
    });
    ApiVersionsResponse::default().with_api_keys(known.collect())
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}
