//! What is in the topic, as any consumer would read it.

use std::time::Duration;

use kafka_link::{Cluster, ClusterConfig, FetchFrom, FetchOptions};
use pipeline_core::{Offset, PartitionId, envelope::Envelope};

pub const TOPIC: &str = "logs";
/// No step takes this long unless something is broken.
const LONG: Duration = Duration::from_secs(30);

/// One message of the topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    pub partition: PartitionId,
    pub offset: Offset,
    pub value: String,
    pub envelope: Envelope,
}

/// Every message of the topic, in order of partition and offset.
pub async fn stored(brokers: &[String]) -> Vec<Stored> {
    let cluster = Cluster::new(ClusterConfig {
        brokers: brokers.to_vec(),
        client_id: "test".to_owned(),
        connect_timeout: LONG,
        request_timeout: LONG,
        response_bytes_max: 64 << 20,
        security: Default::default(),
    });
    let info = cluster.topic(TOPIC).await.unwrap();
    let ids: Vec<_> = info.partitions.iter().map(|p| p.id).collect();
    let mut stored = Vec::new();
    for (partition, end) in cluster.log_ends(TOPIC, &ids).await {
        let end = end.unwrap();
        let mut at = Offset(0);
        while at < end {
            let from = FetchFrom {
                topic_id: info.id,
                partition,
                offset: at,
            };
            for (_, fetched) in cluster.fetch(TOPIC, &[from], OPTIONS).await {
                let fetched = fetched.unwrap();
                for block in &fetched.blocks {
                    for message in &block.messages {
                        let header = block.header(message).unwrap();
                        let value = block.value(message).unwrap().to_vec();
                        stored.push(Stored {
                            partition,
                            offset: message.offset,
                            value: String::from_utf8(value).unwrap(),
                            envelope: Envelope::decode(header).unwrap(),
                        });
                    }
                }
                at = fetched.next;
            }
        }
    }
    stored
}

const OPTIONS: FetchOptions = FetchOptions {
    wait_max: Duration::from_millis(100),
    bytes_min: 1,
    bytes_max: 32 << 20,
    partition_bytes_max: 32 << 20,
};
