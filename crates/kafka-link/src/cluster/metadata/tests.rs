use kafka_protocol::messages::{
    BrokerId,
    metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
};
use pipeline_core::PartitionId;

use super::*;

/// Leaders and their epochs, by partition.
fn answer(id: u128, partitions: &[(i32, i32)]) -> MetadataResponse {
    let broker = |id: i32| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(id))
            .with_host(StrBytes::from_static_str("::1"))
            .with_port(9000 + id)
    };
    let partitions = partitions.iter().zip(0..).map(|((leader, epoch), index)| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(BrokerId(*leader))
            .with_leader_epoch(*epoch)
            .with_replica_nodes(vec![BrokerId(1), BrokerId(2)])
    });
    // The order of an answer means nothing.
    let mut partitions: Vec<_> = partitions.collect();
    partitions.reverse();
    let mut topic = MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_static_str("logs"))))
        .with_partitions(partitions);
    topic.topic_id = format!("{id:032x}").parse().unwrap();
    MetadataResponse::default()
        .with_brokers(vec![broker(1), broker(2)])
        .with_cluster_id(Some(StrBytes::from_static_str("c")))
        .with_topics(vec![topic])
}

fn missing() -> MetadataResponse {
    let mut answer = answer(0, &[]);
    answer.topics[0].error_code = UNKNOWN_TOPIC;
    answer
}

fn learn(metadata: &Metadata, answer: MetadataResponse) -> Result<Arc<TopicView>, KafkaError> {
    metadata.learn("logs", answer, Instant::now())
}

fn leader(view: &TopicView, partition: i32) -> &str {
    view.leader_of(PartitionId(partition)).unwrap()
}

#[test]
fn partitions_are_in_order_with_their_leaders_addresses() {
    let metadata = Metadata::new(&[]);
    let view = learn(&metadata, answer(0xabc, &[(2, 0), (1, 0), (-1, 0)])).unwrap();
    assert_eq!(leader(&view, 0), "[::1]:9002");
    assert_eq!(leader(&view, 1), "[::1]:9001");
    assert!(
        view.leader_of(PartitionId(2))
            .unwrap_err()
            .contains("no leader")
    );
    assert!(
        view.leader_of(PartitionId(3))
            .unwrap_err()
            .contains("has 3")
    );
    assert_eq!(view.info.partitions[0].leader, Some(2));
    assert_eq!(view.info.partitions[2].leader, None);
    assert_eq!(view.info.topic_id, format!("{:032x}", 0xabc));
    assert_eq!(view.replication(), 2);
    assert!(!view.all_have_leaders());
}

#[test]
fn an_older_leader_does_not_replace_a_newer_one_of_the_same_topic() {
    let metadata = Metadata::new(&[]);
    learn(&metadata, answer(7, &[(2, 5)])).unwrap();
    let view = learn(&metadata, answer(7, &[(1, 4)])).unwrap();
    assert_eq!(leader(&view, 0), "[::1]:9002");
    let view = learn(&metadata, answer(7, &[(1, 6)])).unwrap();
    assert_eq!(leader(&view, 0), "[::1]:9001");
    let made_anew = learn(&metadata, answer(8, &[(2, 0)])).unwrap();
    assert_eq!(leader(&made_anew, 0), "[::1]:9002");
}

#[test]
fn a_topic_never_seen_does_not_exist_but_one_just_seen_may_come_back() {
    let metadata = Metadata::new(&[]);
    let error = learn(&metadata, missing()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fatal);
    learn(&metadata, answer(7, &[(1, 0)])).unwrap();
    let error = learn(&metadata, missing()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::RefreshAndRetry);
    assert!(metadata.usable("logs").is_none());
    learn(&metadata, answer(7, &[(1, 0)])).unwrap();
    assert!(metadata.usable("logs").is_some());
}

#[test]
fn what_was_forgotten_is_not_used_though_old() {
    let metadata = Metadata::new(&[]);
    learn(&metadata, answer(7, &[(1, 0)])).unwrap();
    assert!(metadata.usable("logs").is_some());
    metadata.forget("logs");
    assert!(metadata.usable("logs").is_none());
    assert!(metadata.usable_though_old("logs").is_none());
    // How many partitions there were is still known.
    assert_eq!(metadata.partition_count("logs"), Some(1));
}

#[test]
fn an_answer_with_a_gap_is_not_believed() {
    let metadata = Metadata::new(&[]);
    let mut gap = answer(7, &[(1, 0), (1, 0), (1, 0)]);
    gap.topics[0].partitions.remove(1);
    assert_eq!(learn(&metadata, gap).unwrap_err().kind, ErrorKind::Retry);
}

#[test]
fn an_answer_to_an_older_question_does_not_hide_that_it_is_stale() {
    let metadata = Metadata::new(&[]);
    learn(&metadata, answer(7, &[(1, 0)])).unwrap();
    let asked = Instant::now();
    metadata.forget("logs");
    metadata.learn("logs", answer(7, &[(1, 0)]), asked).unwrap();
    assert!(metadata.usable("logs").is_none());
    learn(&metadata, answer(7, &[(1, 0)])).unwrap();
    assert!(metadata.usable("logs").is_some());
}
