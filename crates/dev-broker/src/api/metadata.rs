//! Metadata and DescribeCluster: nodes, topics, leaders. Topics are never made by asking.

use kafka_protocol::messages::{
    DescribeClusterResponse, MetadataRequest, MetadataResponse, TopicName,
    describe_cluster_response::DescribeClusterBroker,
    metadata_request::MetadataRequestTopic,
    metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
};

use super::{Context, text, topic_name};
use crate::{
    cluster::{Topic, check_name},
    error_code as code,
    partition::Partition,
};

pub(crate) fn handle(context: &Context<'_>, request: MetadataRequest) -> MetadataResponse {
    let cluster = &context.shared.cluster;
    // in version 0 an empty list meant what null means since
    let all = request
        .topics
        .as_ref()
        .is_none_or(|t| context.version == 0 && t.is_empty());
    let topics = if all {
        let every = cluster.topics();
        every.iter().map(|topic| describe(context, topic)).collect()
    } else {
        let named = request.topics.unwrap_or_default();
        named.into_iter().map(|asked| one(context, asked)).collect()
    };
    let up = cluster.nodes.iter().filter(|node| node.is_up());
    let brokers = up.clone().map(|node| {
        MetadataResponseBroker::default()
            .with_node_id(node.id.into())
            .with_host(text(&node.addr.ip().to_string()))
            .with_port(node.addr.port().into())
    });
    MetadataResponse::default()
        .with_brokers(brokers.collect())
        .with_cluster_id(Some(text(&cluster.id)))
        .with_controller_id(up.clone().next().map_or(-1, |node| node.id).into())
        .with_topics(topics)
}

pub(crate) fn cluster(context: &Context<'_>) -> DescribeClusterResponse {
    let cluster = &context.shared.cluster;
    let up = cluster.nodes.iter().filter(|node| node.is_up());
    let brokers = up.clone().map(|node| {
        DescribeClusterBroker::default()
            .with_broker_id(node.id.into())
            .with_host(text(&node.addr.ip().to_string()))
            .with_port(node.addr.port().into())
    });
    DescribeClusterResponse::default()
        .with_brokers(brokers.collect())
        .with_cluster_id(text(&cluster.id))
        .with_controller_id(up.clone().next().map_or(-1, |node| node.id).into())
}

fn one(context: &Context<'_>, asked: MetadataRequestTopic) -> MetadataResponseTopic {
    let cluster = &context.shared.cluster;
    let unknown = MetadataResponseTopic::default().with_name(asked.name.clone());
    let found = match &asked.name {
        Some(name) => {
            if let Err((error, _)) = check_name(name) {
                return unknown.with_error_code(error);
            }
            cluster.topic(name)
        }
        None => cluster.topic_by_id(asked.topic_id),
    };
    match found {
        Some(topic) => describe(context, &topic),
        None if asked.name.is_some() => unknown.with_error_code(code::UNKNOWN_TOPIC_OR_PARTITION),
        None => {
            // only since version 12 may the name be null
            let name = (context.version < 12).then(TopicName::default);
            unknown
                .with_name(name)
                .with_topic_id(asked.topic_id)
                .with_error_code(code::UNKNOWN_TOPIC_ID)
        }
    }
}

fn describe(context: &Context<'_>, topic: &Topic) -> MetadataResponseTopic {
    let partitions = topic.partitions();
    let partitions = partitions.iter().map(|p| leader_of(context, p));
    MetadataResponseTopic::default()
        .with_name(Some(topic_name(&topic.name)))
        .with_topic_id(topic.id)
        .with_partitions(partitions.collect())
}

fn leader_of(context: &Context<'_>, partition: &Partition) -> MetadataResponsePartition {
    let cluster = &context.shared.cluster;
    let inner = partition.lock();
    let in_sync = cluster.in_sync(&inner.replicas);
    let offline = inner.replicas.iter().filter(|id| !in_sync.contains(id));
    let leads = cluster.node(inner.leader).is_some_and(|node| node.is_up());
    let (leader, error) = if leads {
        (inner.leader, code::NONE)
    } else {
        (-1, code::LEADER_NOT_AVAILABLE)
    };
    MetadataResponsePartition::default()
        .with_error_code(error)
        .with_partition_index(partition.index)
        .with_leader_id(leader.into())
        .with_leader_epoch(inner.epoch)
        .with_replica_nodes(inner.replicas.iter().map(|id| (*id).into()).collect())
        .with_offline_replicas(offline.map(|id| (*id).into()).collect())
        .with_isr_nodes(in_sync.iter().map(|id| (*id).into()).collect())
}
