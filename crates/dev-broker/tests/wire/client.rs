//! The thinnest client: one connection, one request at a time, any version of any API.

use std::{io, net::SocketAddr};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        ApiKey, FetchRequest, FetchResponse, ProduceRequest, RequestHeader, RequestKind,
        ResponseHeader, ResponseKind, TopicName,
        fetch_request::{FetchPartition, FetchTopic},
        fetch_response::PartitionData,
        produce_request::{PartitionProduceData, TopicProduceData},
        produce_response::PartitionProduceResponse,
    },
    protocol::{Decodable, Encodable, StrBytes},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub struct Wire {
    stream: TcpStream,
    correlation: i32,
}

impl Wire {
    pub async fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.expect("the broker listens");
        Self {
            stream,
            correlation: 0,
        }
    }

    pub async fn call(
        &mut self,
        api: ApiKey,
        version: i16,
        request: &RequestKind,
    ) -> io::Result<ResponseKind> {
        self.send(api, version, request).await?;
        self.receive(api, version).await
    }

    pub async fn send(
        &mut self,
        api: ApiKey,
        version: i16,
        request: &RequestKind,
    ) -> io::Result<()> {
        self.correlation += 1;
        let mut out = BytesMut::new();
        RequestHeader::default()
            .with_request_api_key(api as i16)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_static_str("wire")))
            .encode(&mut out, api.request_header_version(version))
            .expect("a header");
        request
            .encode(&mut out, version)
            .unwrap_or_else(|error| panic!("{api:?} v{version} does not encode: {error}"));
        self.send_frame(&out).await
    }

    pub async fn send_frame(&mut self, frame: &[u8]) -> io::Result<()> {
        let mut out = BytesMut::new();
        out.put_i32(frame.len() as i32);
        out.extend_from_slice(frame);
        self.stream.write_all(&out).await
    }

    /// Everything of the answer must be understood, and nothing left over.
    pub async fn receive(&mut self, api: ApiKey, version: i16) -> io::Result<ResponseKind> {
        let mut frame = self.receive_frame().await?;
        let header = ResponseHeader::decode(&mut frame, api.response_header_version(version));
        assert_eq!(header.expect("a header").correlation_id, self.correlation);
        let response = ResponseKind::decode(api, &mut frame, version)
            .unwrap_or_else(|error| panic!("{api:?} v{version} does not decode: {error}"));
        assert!(
            !frame.has_remaining(),
            "{api:?} v{version} has bytes left over"
        );
        Ok(response)
    }

    pub async fn receive_frame(&mut self) -> io::Result<Bytes> {
        let size = self.receive_length().await?;
        self.receive_bytes(size as usize).await
    }

    /// The first half of [`Wire::receive_frame`].
    pub async fn receive_length(&mut self) -> io::Result<i32> {
        self.stream.read_i32().await
    }

    pub async fn receive_bytes(&mut self, len: usize) -> io::Result<Bytes> {
        let mut frame = vec![0; len];
        self.stream.read_exact(&mut frame).await?;
        Ok(Bytes::from(frame))
    }

    /// Produces one batch; the answer for its partition.
    pub async fn produce(
        &mut self,
        version: i16,
        acks: i16,
        (topic, partition): (&str, i32),
        batch: Bytes,
    ) -> io::Result<PartitionProduceResponse> {
        let request = produce(acks, &[(topic, partition, batch)]);
        match self.call(ApiKey::Produce, version, &request).await? {
            ResponseKind::Produce(mut r) => Ok(r.responses.remove(0).partition_responses.remove(0)),
            other => panic!("not an answer to a produce: {other:?}"),
        }
    }

    /// Fetches one partition, uncommitted records too, without waiting.
    pub async fn fetch(&mut self, topic: &str, partition: i32, offset: i64) -> PartitionData {
        let request = fetch(&[(topic, partition, offset)]);
        let answer = self
            .call(ApiKey::Fetch, 12, &RequestKind::Fetch(request))
            .await;
        match answer.expect("an answer") {
            ResponseKind::Fetch(r) => partition_of(r, 0),
            other => panic!("not an answer to a fetch: {other:?}"),
        }
    }
}

pub fn produce(acks: i16, batches: &[(&str, i32, Bytes)]) -> RequestKind {
    let topics = batches.iter().map(|(topic, partition, batch)| {
        let data = PartitionProduceData::default()
            .with_index(*partition)
            .with_records(Some(batch.clone()));
        TopicProduceData::default()
            .with_name(name(topic))
            .with_partition_data(vec![data])
    });
    RequestKind::Produce(
        ProduceRequest::default()
            .with_acks(acks)
            .with_timeout_ms(5000)
            .with_topic_data(topics.collect()),
    )
}

pub fn fetch(partitions: &[(&str, i32, i64)]) -> FetchRequest {
    let topics = partitions.iter().map(|(topic, partition, offset)| {
        let partition = FetchPartition::default()
            .with_partition(*partition)
            .with_fetch_offset(*offset)
            .with_partition_max_bytes(1_000_000);
        FetchTopic::default()
            .with_topic(name(topic))
            .with_partitions(vec![partition])
    });
    FetchRequest::default()
        .with_max_wait_ms(0)
        .with_min_bytes(1)
        .with_max_bytes(10_000_000)
        .with_topics(topics.collect())
}

pub fn partition_of(response: FetchResponse, nth: usize) -> PartitionData {
    response.responses[nth].partitions[0].clone()
}

pub fn name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}
