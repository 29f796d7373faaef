//! Where logs begin and end, and how a topic is set up.

use std::{str::FromStr, sync::Arc, time::Instant};

use kafka_protocol::{
    messages::{
        BrokerId, DescribeConfigsRequest, ListOffsetsRequest, TopicName,
        describe_configs_request::DescribeConfigsResource,
        describe_configs_response::DescribeConfigsResourceResult,
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
    },
    protocol::StrBytes,
};
use pipeline_core::{Offset, PartitionId};

use super::{Inner, LeaderShare, TopicSettings, by_leader};
use crate::{
    KafkaError,
    error::{Context, ErrorKind},
    net::{Lane, join_all},
};

/// A config resource that is a topic.
const TOPIC_RESOURCE: i8 = 2;
/// We are a client, not a replica.
const NO_REPLICA: BrokerId = BrokerId(-1);

type Edge = (PartitionId, Result<Offset, KafkaError>);

#[derive(Clone, Copy, Debug)]
pub(super) enum LogEdge {
    Start,
    /// The high watermark: transactions that are still open lie below it.
    End,
}

impl LogEdge {
    /// The protocol says it as a timestamp.
    fn timestamp(self) -> i64 {
        match self {
            Self::Start => -2,
            Self::End => -1,
        }
    }
}

impl Inner {
    pub(super) async fn log_edges(
        self: &Arc<Self>,
        topic: &str,
        partitions: &[PartitionId],
        edge: LogEdge,
        deadline: Instant,
    ) -> Vec<Edge> {
        let view = match self.view(topic, deadline).await {
            Ok(view) => view,
            Err(error) => {
                return partitions
                    .iter()
                    .map(|partition| (*partition, Err(error.clone())))
                    .collect();
            }
        };
        let asked = partitions.iter().map(|partition| (*partition, ()));
        let (shares, leaderless) = by_leader(&view, asked);
        let questions = shares
            .into_iter()
            .map(|share| self.log_edges_at(topic, share, edge, deadline));
        let mut edges: Vec<Edge> = join_all(questions).await.into_iter().flatten().collect();
        edges.extend(
            leaderless
                .into_iter()
                .map(|(partition, error)| (partition, Err(error.within("list offsets")))),
        );
        let stale = |edge: &Edge| {
            edge.1.as_ref().is_err_and(|error| {
                // Without a code nobody answered: the leader may be another by now.
                error.kind == ErrorKind::RefreshAndRetry || error.code.is_none()
            })
        };
        if edges.iter().any(stale) {
            self.metadata.outdated(topic, &view);
        }
        edges
    }

    async fn log_edges_at(
        &self,
        topic: &str,
        share: LeaderShare<()>,
        edge: LogEdge,
        deadline: Instant,
    ) -> Vec<Edge> {
        let LeaderShare { address, items } = share;
        let answer = self
            .call(&address, Lane::Control, Context::Lookup, deadline, |_| {
                let partitions = items.iter().map(|(partition, ())| {
                    ListOffsetsPartition::default()
                        .with_partition_index(partition.0)
                        .with_current_leader_epoch(-1)
                        .with_timestamp(edge.timestamp())
                });
                let topic = ListOffsetsTopic::default()
                    .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
                    .with_partitions(partitions.collect());
                ListOffsetsRequest::default()
                    .with_replica_id(NO_REPLICA)
                    .with_topics(vec![topic])
            })
            .await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                return items
                    .into_iter()
                    .map(|(partition, ())| (partition, Err(error.clone())))
                    .collect();
            }
        };
        let answered = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let edge_of = |partition: PartitionId| {
            let call = format!("list offsets of topic {topic} partition {partition} at {address}");
            let mut answered = answered.clone();
            match answered.find(|answer| answer.partition_index == partition.0) {
                None => Err(KafkaError::new(
                    ErrorKind::Retry,
                    format!("{call}: the answer leaves it out"),
                )),
                Some(answer) if answer.error_code != 0 => Err(KafkaError::answered(
                    Context::Lookup,
                    answer.error_code,
                    &call,
                    None,
                )),
                Some(answer) if answer.offset < 0 => Err(KafkaError::new(
                    ErrorKind::Retry,
                    format!("{call}: it does not know the offset yet"),
                )),
                Some(answer) => Ok(Offset(answer.offset)),
            }
        };
        items
            .iter()
            .map(|(partition, ())| (*partition, edge_of(*partition)))
            .collect()
    }

    pub(super) async fn settings(
        self: &Arc<Self>,
        topic: &str,
        deadline: Instant,
    ) -> Result<TopicSettings, KafkaError> {
        let view = self.view(topic, deadline).await?;
        let name = StrBytes::from_string(topic.to_owned());
        let answer = self
            .ask_any(Context::Lookup, deadline, move |_| {
                let resource = DescribeConfigsResource::default()
                    .with_resource_type(TOPIC_RESOURCE)
                    .with_resource_name(name.clone())
                    .with_configuration_keys(None);
                DescribeConfigsRequest::default().with_resources(vec![resource])
            })
            .await?;
        let call = format!("describe configs of topic {topic}");
        let found = answer
            .results
            .into_iter()
            .find(|found| found.resource_name.as_str() == topic)
            .ok_or_else(|| {
                KafkaError::new(
                    ErrorKind::Fatal,
                    format!("{call}: the answer leaves it out"),
                )
            })?;
        if found.error_code != 0 {
            let detail = found.error_message.as_deref();
            return Err(KafkaError::answered(
                Context::Lookup,
                found.error_code,
                &call,
                detail,
            ));
        }
        let configs = &found.configs;
        let cleanup_policy = text(configs, "cleanup.policy").ok_or_else(|| {
            KafkaError::new(
                ErrorKind::Fatal,
                format!("{call}: the answer has no cleanup.policy"),
            )
        })?;
        Ok(TopicSettings {
            cleanup_policy: cleanup_policy.to_owned(),
            min_insync_replicas: value(configs, "min.insync.replicas"),
            unclean_leader_election: value(configs, "unclean.leader.election.enable"),
            retention_ms: value(configs, "retention.ms"),
            retention_bytes: value(configs, "retention.bytes"),
            max_message_bytes: value(configs, "max.message.bytes"),
            replication: view.replication(),
        })
    }
}

fn text<'a>(configs: &'a [DescribeConfigsResourceResult], name: &str) -> Option<&'a str> {
    configs
        .iter()
        .find(|config| config.name.as_str() == name)?
        .value
        .as_deref()
}

fn value<T: FromStr>(configs: &[DescribeConfigsResourceResult], name: &str) -> Option<T> {
    text(configs, name)?.parse().ok()
}
