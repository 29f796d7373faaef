//! CreateTopics, CreatePartitions, DeleteTopics, DeleteRecords.

use std::collections::BTreeMap;

use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteRecordsRequest, DeleteRecordsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
    TopicName,
    create_partitions_response::CreatePartitionsTopicResult,
    create_topics_request::CreatableTopic,
    create_topics_response::{CreatableTopicConfigs, CreatableTopicResult},
    delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult},
    delete_topics_response::DeletableTopicResult,
};

use super::{Context, configs, text, topic_name};
use crate::{TopicSpec, error_code as code, partition::Partition};

/// In DeleteRecords: everything there is.
const TO_THE_END: i64 = -1;

pub(crate) fn create(context: &Context<'_>, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let check_only = request.validate_only;
    let topics = request.topics.into_iter().map(|asked| {
        let answer = CreatableTopicResult::default().with_name(asked.name.clone());
        let made = context
            .shared
            .cluster
            .create_topic(&spec(context, asked), check_only);
        match made {
            Ok(topic) => answer
                .with_topic_id(topic.id)
                .with_num_partitions(topic.partitions().len() as i32)
                .with_replication_factor(topic.replication)
                .with_configs(Some(in_force(&topic.settings()))),
            Err((error, why)) => answer
                .with_error_code(error)
                .with_error_message(Some(text(&why)))
                .with_num_partitions(-1)
                .with_replication_factor(-1),
        }
    });
    CreateTopicsResponse::default().with_topics(topics.collect())
}

pub(crate) fn grow(
    context: &Context<'_>,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let cluster = &context.shared.cluster;
    let results = request.topics.into_iter().map(|asked| {
        let grown = match cluster.topic(&asked.name) {
            None => Err((code::UNKNOWN_TOPIC_OR_PARTITION, "unknown topic".to_owned())),
            Some(_) if request.validate_only => Ok(()),
            Some(topic) => cluster.grow_topic(&topic, asked.count),
        };
        let answer = CreatePartitionsTopicResult::default().with_name(asked.name);
        match grown {
            Ok(()) => answer,
            Err((error, why)) => answer
                .with_error_code(error)
                .with_error_message(Some(text(&why))),
        }
    });
    CreatePartitionsResponse::default().with_results(results.collect())
}

pub(crate) fn delete(context: &Context<'_>, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let mut responses = Vec::new();
    for name in request.topic_names {
        responses.push(delete_one(context, name));
    }
    for asked in request.topics {
        let found = context.shared.cluster.topic_by_id(asked.topic_id);
        let name = asked
            .name
            .or_else(|| found.map(|topic| topic_name(&topic.name)));
        responses.push(match name {
            Some(name) => delete_one(context, name),
            None => DeletableTopicResult::default()
                .with_name(None)
                .with_topic_id(asked.topic_id)
                .with_error_code(code::UNKNOWN_TOPIC_ID),
        });
    }
    DeleteTopicsResponse::default().with_responses(responses)
}

pub(crate) fn delete_records(
    context: &Context<'_>,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let found = context.shared.cluster.topic(&topic.name);
        let partitions = topic.partitions.iter().map(|asked| {
            let partition = found
                .as_ref()
                .and_then(|t| t.partition(asked.partition_index));
            let answer =
                DeleteRecordsPartitionResult::default().with_partition_index(asked.partition_index);
            match delete_before(context, partition.as_deref(), asked.offset) {
                Ok(low) => answer.with_low_watermark(low),
                Err(error) => answer.with_low_watermark(-1).with_error_code(error),
            }
        });
        DeleteRecordsTopicResult::default()
            .with_partitions(partitions.collect())
            .with_name(topic.name)
    });
    let topics = topics.collect();
    context.shared.cluster.save();
    DeleteRecordsResponse::default().with_topics(topics)
}

fn spec(context: &Context<'_>, asked: CreatableTopic) -> TopicSpec {
    let settings: BTreeMap<String, String> = asked
        .configs
        .iter()
        .map(|c| {
            (
                c.name.to_string(),
                c.value.as_deref().unwrap_or_default().to_owned(),
            )
        })
        .collect();
    let by_hand = asked.assignments.len();
    let nodes = context.shared.cluster.nodes.len();
    TopicSpec {
        name: asked.name.to_string(),
        // -1: the broker's default, or as many as were placed by hand
        partitions: match asked.num_partitions {
            -1 => by_hand.max(1) as i32,
            n => n,
        },
        replication: match asked.replication_factor {
            -1 => nodes.min(3) as i16,
            n => n,
        },
        settings,
    }
}

fn in_force(settings: &crate::settings::Settings) -> Vec<CreatableTopicConfigs> {
    let each = crate::settings::KNOWN.iter().filter_map(|(name, ..)| {
        let (value, own) = settings.get(name)?;
        let config = CreatableTopicConfigs::default()
            .with_name(text(name))
            .with_value(Some(text(&value)))
            .with_config_source(configs::source(own));
        Some(config)
    });
    each.collect()
}

fn delete_one(context: &Context<'_>, name: TopicName) -> DeletableTopicResult {
    let deleted = context.shared.delete_topic(&name);
    let answer = DeletableTopicResult::default().with_name(Some(name));
    match deleted {
        Some(topic) if context.version >= 6 => answer.with_topic_id(topic.id),
        Some(_) => answer,
        None => answer.with_error_code(code::UNKNOWN_TOPIC_OR_PARTITION),
    }
}

fn delete_before(
    context: &Context<'_>,
    partition: Option<&Partition>,
    offset: i64,
) -> Result<i64, i16> {
    let partition = partition.ok_or(code::UNKNOWN_TOPIC_OR_PARTITION)?;
    let mut inner = partition.lock();
    inner.check_leader(context.node, -1)?;
    let offset = if offset == TO_THE_END {
        inner.log.end()
    } else {
        offset
    };
    if offset < 0 || offset > inner.log.end() {
        return Err(code::OFFSET_OUT_OF_RANGE);
    }
    inner.log.delete_before(offset);
    inner.wake();
    Ok(inner.log.start())
}
