//! DescribeConfigs and IncrementalAlterConfigs, for topics and for the broker itself.

use std::collections::BTreeMap;

use kafka_protocol::messages::{
    DescribeConfigsRequest, DescribeConfigsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
    describe_configs_request::DescribeConfigsResource,
    describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult},
    incremental_alter_configs_request::AlterConfigsResource,
    incremental_alter_configs_response::AlterConfigsResourceResponse,
};

use super::{Context, text};
use crate::{
    cluster::Refusal,
    error_code as code,
    settings::{KNOWN, Kind, Settings},
};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const SOURCE_TOPIC: i8 = 1;
const SOURCE_STATIC_BROKER: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;
const OP_SET: i8 = 0;
const OP_DELETE: i8 = 1;

/// Name, kind, value, where it comes from.
type Line = (String, Kind, String, i8);

pub(crate) fn source(own: bool) -> i8 {
    if own { SOURCE_TOPIC } else { SOURCE_DEFAULT }
}

pub(crate) fn describe(
    context: &Context<'_>,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let results = request.resources.into_iter().map(|resource| {
        let found = lines(context, &resource);
        let answer = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match found {
            Ok(lines) => {
                let wanted = lines.into_iter().filter(|(name, ..)| {
                    let keys = resource.configuration_keys.as_ref();
                    keys.is_none_or(|keys| keys.iter().any(|key| key.as_str() == name))
                });
                answer.with_configs(wanted.map(|line| told(context, line)).collect())
            }
            Err((error, why)) => answer
                .with_error_code(error)
                .with_error_message(Some(text(&why))),
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

pub(crate) fn alter(
    context: &Context<'_>,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let check_only = request.validate_only;
    let responses = request.resources.into_iter().map(|resource| {
        let altered = alter_one(context, &resource, check_only);
        let answer = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name);
        match altered {
            Ok(()) => answer,
            Err((error, why)) => answer
                .with_error_code(error)
                .with_error_message(Some(text(&why))),
        }
    });
    let responses = responses.collect();
    context.shared.cluster.save();
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

fn lines(context: &Context<'_>, resource: &DescribeConfigsResource) -> Result<Vec<Line>, Refusal> {
    match resource.resource_type {
        TOPIC => {
            let topic = context.shared.cluster.topic(&resource.resource_name);
            let topic = topic.ok_or_else(|| unknown_topic(&resource.resource_name))?;
            let settings = topic.settings();
            let each = KNOWN.iter().filter_map(|(name, kind, _)| {
                let (value, own) = settings.get(name)?;
                Some(((*name).to_owned(), *kind, value, source(own)))
            });
            Ok(each.collect())
        }
        BROKER => Ok(of_the_broker(context)),
        other => {
            let why = format!("resource type {other} is not kept here");
            Err((code::INVALID_REQUEST, why))
        }
    }
}

fn of_the_broker(context: &Context<'_>) -> Vec<Line> {
    let options = &context.shared.options;
    let lines: [(&str, Kind, String); 8] = [
        (
            "auto.create.topics.enable",
            Kind::Boolean,
            "false".to_owned(),
        ),
        (
            "default.replication.factor",
            Kind::Int,
            options.nodes.min(3).to_string(),
        ),
        (
            "group.initial.rebalance.delay.ms",
            Kind::Int,
            options.initial_rebalance_delay.as_millis().to_string(),
        ),
        (
            "group.max.session.timeout.ms",
            Kind::Int,
            options.session_timeout_max.as_millis().to_string(),
        ),
        (
            "group.min.session.timeout.ms",
            Kind::Int,
            options.session_timeout_min.as_millis().to_string(),
        ),
        (
            "message.max.bytes",
            Kind::Int,
            options.message_max_bytes.to_string(),
        ),
        ("num.partitions", Kind::Int, "1".to_owned()),
        (
            "socket.request.max.bytes",
            Kind::Int,
            options.request_max_bytes.to_string(),
        ),
    ];
    let line = |(name, kind, value): (&str, Kind, String)| {
        (name.to_owned(), kind, value, SOURCE_STATIC_BROKER)
    };
    lines.into_iter().map(line).collect()
}

fn told(context: &Context<'_>, (name, kind, value, source): Line) -> DescribeConfigsResourceResult {
    let result = DescribeConfigsResourceResult::default()
        .with_name(text(&name))
        .with_value(Some(text(&value)))
        .with_config_source(source);
    if context.version >= 3 {
        result.with_config_type(kind as i8)
    } else {
        result
    }
}

fn alter_one(
    context: &Context<'_>,
    resource: &AlterConfigsResource,
    check_only: bool,
) -> Result<(), Refusal> {
    if resource.resource_type != TOPIC {
        let why = "only topics can be altered here".to_owned();
        return Err((code::INVALID_REQUEST, why));
    }
    let topic = context.shared.cluster.topic(&resource.resource_name);
    let topic = topic.ok_or_else(|| unknown_topic(&resource.resource_name))?;
    let mut overrides: BTreeMap<String, String> = topic.settings().overrides().clone();
    for config in &resource.configs {
        match (config.config_operation, &config.value) {
            (OP_SET, Some(value)) => {
                overrides.insert(config.name.to_string(), value.to_string());
            }
            (OP_DELETE, _) => {
                overrides.remove(config.name.as_str());
            }
            (operation, _) => {
                let why = format!("operation {operation} on {} is not known", config.name);
                return Err((code::INVALID_REQUEST, why));
            }
        }
    }
    let settings = Settings::new(overrides, context.shared.cluster.message_max_bytes)
        .map_err(|why| (code::INVALID_CONFIG, why))?;
    if !check_only {
        topic.set_settings(settings);
    }
    Ok(())
}

fn unknown_topic(name: &str) -> Refusal {
    let why = format!("unknown topic '{name}'");
    (code::UNKNOWN_TOPIC_OR_PARTITION, why)
}
