//! One call in the protocol, for what no client of ours does.

use std::io::{Read, Write};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, FindCoordinatorRequest,
        GroupId, JoinGroupRequest, JoinGroupResponse, RequestHeader, ResponseHeader, TopicName,
        join_group_request::JoinGroupRequestProtocol,
    },
    protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes},
};

/// Joins a group with one protocol of the type `consumer` and this metadata.
pub async fn join(broker: &str, group: &str, protocol: &str, metadata: &[u8]) -> JoinGroupResponse {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text(protocol))
        .with_metadata(Bytes::copy_from_slice(metadata));
    let request = JoinGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_session_timeout_ms(6_000)
        .with_rebalance_timeout_ms(10_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    // The last version without a round for the member's id.
    call(&coordinator(broker, group).await, 3, &request).await
}

/// A heartbeat of the new protocol (KIP-848), which joins with epoch 0 and leaves with -1.
pub async fn beat(
    broker: &str,
    group: &str,
    member: &str,
    epoch: i32,
    topic: &str,
) -> ConsumerGroupHeartbeatResponse {
    let request = ConsumerGroupHeartbeatRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_member_id(text(member))
        .with_member_epoch(epoch)
        .with_rebalance_timeout_ms(10_000)
        .with_subscribed_topic_names(Some(vec![TopicName(text(topic))]))
        .with_topic_partitions(Some(Vec::new()));
    call(&coordinator(broker, group).await, 0, &request).await
}

async fn coordinator(broker: &str, group: &str) -> String {
    let request = FindCoordinatorRequest::default().with_key(text(group));
    let found = call(broker, 3, &request).await;
    format!("{}:{}", found.host, found.port)
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

async fn call<R: Request>(broker: &str, version: i16, request: &R) -> R::Response {
    let mut out = BytesMut::new();
    out.put_i32(0);
    RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_client_id(Some(StrBytes::from_static_str("raw")))
        .encode(&mut out, R::header_version(version))
        .expect("a header");
    request.encode(&mut out, version).expect("a request");
    let len = i32::try_from(out.len() - 4).expect("short");
    out[..4].copy_from_slice(&len.to_be_bytes());
    let broker = broker.to_owned();
    let exchange = move || {
        let mut stream = testbed::kafka::access::connect(&broker).expect("it listens");
        stream.write_all(&out).expect("sent");
        stream.flush().expect("sent");
        let mut len = [0; 4];
        stream.read_exact(&mut len).expect("an answer");
        let mut answer = vec![0; u32::from_be_bytes(len) as usize];
        stream.read_exact(&mut answer).expect("all of it");
        answer
    };
    let answer = tokio::task::spawn_blocking(exchange).await;
    let answer = answer.expect("an exchange");
    let mut answer = Bytes::from(answer);
    let header = R::Response::header_version(version);
    ResponseHeader::decode(&mut answer, header).expect("a header");
    let response = R::Response::decode(&mut answer, version).expect("a response");
    assert!(!answer.has_remaining(), "more than a response");
    response
}
