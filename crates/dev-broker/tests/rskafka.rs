//! The broker with a client that shares no code with it: rskafka.

use std::collections::BTreeMap;

use dev_broker::{Broker, Options};
use rskafka::{
    chrono::DateTime,
    client::{
        Client, ClientBuilder,
        partition::{Compression, PartitionClient, UnknownTopicHandling},
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
