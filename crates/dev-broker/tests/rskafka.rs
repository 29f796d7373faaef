//! The broker with a client that shares no code with it: rskafka.

use std::collections::BTreeMap;

use dev_broker::{Broker, Options};
use rskafka::{
    chrono::DateTime,
    client::{
        Client, ClientBuilder,
        partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling},
    },
    record::Record,
};

async fn client(broker: &Broker) -> Client {
    ClientBuilder::new(broker.bootstrap_servers())
        .build()
        .await
        .expect("the broker is up")
}

async fn partition(client: &Client, topic: &str, index: i32) -> PartitionClient {
    client
        .partition_client(topic, index, UnknownTopicHandling::Error)
        .await
        .expect("the partition is there")
}

fn record(value: &str) -> Record {
    Record {
        key: None,
        value: Some(value.as_bytes().to_vec()),
        headers: BTreeMap::from([("sluice".to_owned(), vec![1, 2, 3])]),
        timestamp: DateTime::from_timestamp_millis(now_ms()).expect("a date"),
    }
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH);
    since.expect("after 1970").as_millis() as i64
}

fn records(range: std::ops::Range<usize>) -> Vec<Record> {
    range.map(|n| record(&format!("record {n}"))).collect()
}

async fn read_all(partition: &PartitionClient, from: i64) -> Vec<(i64, String)> {
    let mut found = Vec::new();
    let mut next = from;
    loop {
        let (batch, end) = partition
            .fetch_records(next, 1..1_000_000, 0)
            .await
            .expect("fetch");
        for record in batch {
            let value = record.record.value.expect("a value");
            found.push((record.offset, String::from_utf8(value).expect("text")));
            next = record.offset + 1;
        }
        if next >= end {
            return found;
        }
    }
}

#[tokio::test]
async fn what_is_produced_is_fetched_in_order() {
    let broker = Broker::start(Options::default().topic("logs", 2))
        .await
        .unwrap();
    let client = client(&broker).await;
    let partition = partition(&client, "logs", 1).await;
    for round in 0..5 {
        let batch = records(round * 100..round * 100 + 100);
        let produced = partition.produce(batch, Compression::NoCompression).await;
        assert_eq!(produced.expect("produce")[0], round as i64 * 100);
    }
    let found = read_all(&partition, 0).await;
    assert_eq!(found.len(), 500);
    for (n, (offset, value)) in found.iter().enumerate() {
        assert_eq!((*offset, value), (n as i64, &format!("record {n}")));
    }
    assert_eq!(broker.log_end("logs", 1), Some(500));
    assert_eq!(broker.log_end("logs", 0), Some(0));
    broker.stop().await;
}

#[tokio::test]
async fn topics_are_made_looked_up_and_removed() {
    let broker = Broker::start(Options::default().nodes(3)).await.unwrap();
    let client = client(&broker).await;
    let controller = client.controller_client().expect("a controller");
    controller
        .create_topic("logs", 3, 2, 5_000)
        .await
        .expect("made");
    let topics = client.list_topics().await.expect("listed");
    assert_eq!(topics.len(), 1);
    assert_eq!(topics[0].partitions.len(), 3);
    let partition = partition(&client, "logs", 2).await;
    partition
        .produce(records(0..10), Compression::NoCompression)
        .await
        .expect("produce");
    partition.delete_records(4, 5_000).await.expect("deleted");
    let offsets = [OffsetAt::Earliest, OffsetAt::Latest];
    for (at, expected) in offsets.into_iter().zip([4, 10]) {
        assert_eq!(partition.get_offset(at).await.expect("found"), expected);
    }
    let below = partition.fetch_records(3, 1..1000, 0).await;
    let below = below.expect_err("below the log start").to_string();
    assert!(below.contains("OffsetOutOfRange"), "{below}");
    controller
        .delete_topic("logs", 5_000)
        .await
        .expect("removed");
    assert!(client.list_topics().await.expect("listed").is_empty());
    broker.stop().await;
}

#[tokio::test]
async fn a_fresh_client_finds_the_leader_that_has_moved() {
    let broker = Broker::start(Options::default().nodes(2).topic("logs", 1))
        .await
        .unwrap();
    let before = partition(&client(&broker).await, "logs", 0).await;
    let one = records(0..1);
    before
        .produce(one.clone(), Compression::NoCompression)
        .await
        .expect("produce");
    broker.move_leader("logs", 0, 2).unwrap();
    let after = partition(&client(&broker).await, "logs", 0).await;
    let offsets = after
        .produce(one, Compression::NoCompression)
        .await
        .expect("produce");
    assert_eq!(offsets, [1]);
    broker.stop().await;
}
