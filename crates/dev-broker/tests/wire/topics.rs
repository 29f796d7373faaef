//! Topics and their settings, as admin tools make, read and change them.

use dev_broker::{Broker, Options, error_code};
use kafka_protocol::{
    messages::{
        ApiKey, CreateTopicsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest,
        MetadataRequest, RequestKind, ResponseKind,
        create_topics_request::{CreatableTopic, CreatableTopicConfig},
        describe_configs_request::DescribeConfigsResource,
        incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig},
    },
    protocol::StrBytes,
};

use crate::client::{Wire, name};

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn wanted(
    topic: &str,
    partitions: i32,
    replicas: i16,
    settings: &[(&str, &str)],
) -> CreatableTopic {
    let configs = settings.iter().map(|(key, value)| {
        CreatableTopicConfig::default()
            .with_name(text(key))
            .with_value(Some(text(value)))
    });
    CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(partitions)
        .with_replication_factor(replicas)
        .with_configs(configs.collect())
}

async fn create(wire: &mut Wire, topic: CreatableTopic, check_only: bool) -> i16 {
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_validate_only(check_only);
    let request = RequestKind::CreateTopics(request);
    match wire.call(ApiKey::CreateTopics, 7, &request).await.unwrap() {
        ResponseKind::CreateTopics(answer) => answer.topics[0].error_code,
        other => panic!("not an answer to a creation: {other:?}"),
    }
}

/// Value and source of each setting.
async fn described(wire: &mut Wire, topic: &str, keys: &[&str]) -> Vec<(String, i8)> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text(topic))
        .with_configuration_keys(Some(keys.iter().map(|key| text(key)).collect()));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let request = RequestKind::DescribeConfigs(request);
    let answer = wire
        .call(ApiKey::DescribeConfigs, 4, &request)
        .await
        .unwrap();
    let ResponseKind::DescribeConfigs(answer) = answer else {
        panic!("not an answer to settings: {answer:?}");
    };
    let configs = &answer.results[0].configs;
    let found = keys.iter().map(|key| {
        let config = configs.iter().find(|config| config.name.as_str() == *key);
        let config = config.unwrap_or_else(|| panic!("{key} is not told"));
        (
            config.value.as_ref().unwrap().to_string(),
            config.config_source,
        )
    });
    assert_eq!(
        configs.len(),
        keys.len(),
        "what was asked for, and that alone"
    );
    found.collect()
}

#[tokio::test]
async fn a_topic_has_the_settings_it_was_made_with_and_the_brokers_others() {
    let options = Options {
        message_max_bytes: 5000,
        ..Options::default().nodes(3)
    };
    let broker = Broker::start(options).await.unwrap();
    let mut wire = Wire::connect(broker.addr()).await;
    let settings = [("retention.ms", "1000"), ("min.insync.replicas", "2")];
    let made = create(&mut wire, wanted("logs", 6, 3, &settings), false).await;
    assert_eq!(made, error_code::NONE);
    let keys = [
        "retention.ms",
        "max.message.bytes",
        "cleanup.policy",
        "min.insync.replicas",
    ];
    let told = described(&mut wire, "logs", &keys).await;
    let (own, default) = (1, 5);
    let expected = [
        ("1000", own),
        ("5000", default),
        ("delete", default),
        ("2", own),
    ];
    assert_eq!(
        told,
        expected.map(|(value, source)| (value.to_owned(), source))
    );

    let config = AlterableConfig::default()
        .with_name(text("max.message.bytes"))
        .with_value(Some(text("7000")));
    let resource = AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("logs"))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let request = RequestKind::IncrementalAlterConfigs(request);
    wire.call(ApiKey::IncrementalAlterConfigs, 1, &request)
        .await
        .unwrap();
    let told = described(&mut wire, "logs", &["max.message.bytes"]).await;
    assert_eq!(told, [("7000".to_owned(), own)]);
    broker
        .set_setting("logs", "cleanup.policy", "compact,delete")
        .unwrap();
    let told = described(&mut wire, "logs", &["cleanup.policy"]).await;
    assert_eq!(told, [("compact,delete".to_owned(), own)]);
    broker.stop().await;
}

#[tokio::test]
async fn topics_that_cannot_be_are_refused_and_checking_makes_none() {
    let broker = Broker::start(Options::default().nodes(2).topic("there", 1))
        .await
        .unwrap();
    let mut wire = Wire::connect(broker.addr()).await;
    let bad_value = [("retention.ms", "soon")];
    let unknown = [("retention.hours", "1")];
    let cases = [
        (wanted("there", 1, 1, &[]), error_code::TOPIC_ALREADY_EXISTS),
        (
            wanted("a/b", 1, 1, &[]),
            error_code::INVALID_TOPIC_EXCEPTION,
        ),
        (wanted("", 1, 1, &[]), error_code::INVALID_TOPIC_EXCEPTION),
        (wanted("none", 0, 1, &[]), error_code::INVALID_PARTITIONS),
        (
            wanted("wide", 1, 3, &[]),
            error_code::INVALID_REPLICATION_FACTOR,
        ),
        (wanted("bad", 1, 1, &bad_value), error_code::INVALID_CONFIG),
        (
            wanted("unknown", 1, 1, &unknown),
            error_code::INVALID_CONFIG,
        ),
    ];
    for (topic, error) in cases {
        let what = format!("{topic:?}");
        assert_eq!(create(&mut wire, topic, false).await, error, "{what}");
    }
    assert_eq!(
        create(&mut wire, wanted("maybe", 1, 1, &[]), true).await,
        error_code::NONE
    );
    assert_eq!(broker.topic_id("maybe"), None);
    broker.stop().await;
}

#[tokio::test]
async fn asking_for_a_topic_never_makes_it_and_all_means_all() {
    let broker = Broker::start(Options::default().nodes(2).topic("a", 3))
        .await
        .unwrap();
    let mut wire = Wire::connect(broker.addr()).await;
    let request = |topics| {
        let topics = MetadataRequest::default().with_topics(topics);
        RequestKind::Metadata(topics.with_allow_auto_topic_creation(true))
    };
    let absent = kafka_protocol::messages::metadata_request::MetadataRequestTopic::default();
    let absent = absent.with_name(Some(name("absent")));
    for (topics, expected) in [
        (
            Some(vec![absent]),
            vec![("absent", error_code::UNKNOWN_TOPIC_OR_PARTITION)],
        ),
        (Some(vec![]), vec![]),
        (None, vec![("a", error_code::NONE)]),
    ] {
        let answer = wire
            .call(ApiKey::Metadata, 12, &request(topics))
            .await
            .unwrap();
        let ResponseKind::Metadata(answer) = answer else {
            panic!("not metadata: {answer:?}");
        };
        assert_eq!(answer.cluster_id.as_deref(), Some(broker.cluster_id()));
        assert_eq!(answer.brokers.len(), 2);
        let told = answer.topics.iter().map(|topic| {
            let name = topic.name.as_ref().map_or("", |name| name.as_str());
            (name, topic.error_code)
        });
        assert_eq!(told.collect::<Vec<_>>(), expected);
        for topic in answer.topics.iter().filter(|topic| topic.error_code == 0) {
            assert_eq!(topic.topic_id.into_bytes(), broker.topic_id("a").unwrap());
            let leaders = topic.partitions.iter().map(|p| p.leader_id.0);
            assert_eq!(leaders.collect::<Vec<_>>(), [1, 2, 1], "leaders are spread");
        }
    }
    broker.stop().await;
}
