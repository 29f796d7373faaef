//! What members and leader tell each other through the broker: the `consumer` protocol.
//!
//! A version (i16) stands in front. Later versions only append fields, so what is read here is
//! read the same from any. Reading is by hand: these bytes are another member's, and a length in
//! them is only a claim.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicName,
        consumer_protocol_assignment::TopicPartition,
    },
    protocol::{Encodable, StrBytes},
};

use super::range::Share;
use crate::{KafkaError, error::ErrorKind};

pub(super) const PROTOCOL_TYPE: &str = "consumer";
pub(super) const ASSIGNOR: &str = "range";

/// The version written: subscriptions with (no) owned partitions, as eager members send.
const VERSION: i16 = 1;

pub(super) fn encode_subscription(topic: &str) -> Result<Bytes, KafkaError> {
    let subscription = ConsumerProtocolSubscription::default()
        .with_topics(vec![StrBytes::from_string(topic.to_owned())]);
    encode(&subscription)
}

/// The topics that a member subscribes to.
pub(super) fn decode_subscription(bytes: Bytes) -> Result<Vec<String>, KafkaError> {
    read_subscription(bytes).map_err(|what| malformed(&what))
}

pub(super) fn encode_assignment(share: &Share) -> Result<Bytes, KafkaError> {
    let topics = share.iter().map(|(topic, partitions)| {
        TopicPartition::default()
            .with_topic(TopicName(StrBytes::from_string(topic.clone())))
            .with_partitions(partitions.clone())
    });
    encode(&ConsumerProtocolAssignment::default().with_assigned_partitions(topics.collect()))
}

/// The partitions of `topic` in an assignment, in order; nothing at all means none.
pub(super) fn decode_assignment(bytes: Bytes, topic: &str) -> Result<Vec<i32>, KafkaError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let mut partitions = read_assignment(bytes, topic).map_err(|what| malformed(&what))?;
    partitions.sort_unstable();
    partitions.dedup();
    Ok(partitions)
}

fn encode<M: Encodable>(message: &M) -> Result<Bytes, KafkaError> {
    let mut bytes = BytesMut::new();
    bytes.put_i16(VERSION);
    message.encode(&mut bytes, VERSION).map_err(|error| {
        let what = format!("cannot encode for the group: {error:#}");
        KafkaError::new(ErrorKind::Fatal, what)
    })?;
    Ok(bytes.freeze())
}

fn malformed(what: &str) -> KafkaError {
    let what = format!("a member of the group does not speak the consumer protocol: {what}");
    KafkaError::new(ErrorKind::Fatal, what)
}

fn read_subscription(mut bytes: Bytes) -> Result<Vec<String>, String> {
    read_version(&mut bytes)?;
    let count = read_count(&mut bytes)?;
    (0..count).map(|_| read_string(&mut bytes)).collect()
}

fn read_assignment(mut bytes: Bytes, topic: &str) -> Result<Vec<i32>, String> {
    read_version(&mut bytes)?;
    let mut ours = Vec::new();
    for _ in 0..read_count(&mut bytes)? {
        let name = read_string(&mut bytes)?;
        for _ in 0..read_count(&mut bytes)? {
            let partition = bytes.try_get_i32().map_err(|error| error.to_string())?;
            if name == topic {
                ours.push(partition);
            }
        }
    }
    Ok(ours)
}

fn read_version(bytes: &mut Bytes) -> Result<(), String> {
    match bytes.try_get_i16() {
        Ok(0..) => Ok(()),
        Ok(version) => Err(format!("version {version}")),
        Err(error) => Err(error.to_string()),
    }
}

fn read_count(bytes: &mut Bytes) -> Result<i32, String> {
    bytes.try_get_i32().map_err(|error| error.to_string())
}

fn read_string(bytes: &mut Bytes) -> Result<String, String> {
    let len = bytes.try_get_i16().map_err(|error| error.to_string())?;
    let len = usize::try_from(len).map_err(|_| "a topic without a name".to_owned())?;
    if bytes.len() < len {
        return Err(format!("a name of {len} bytes in {}", bytes.len()));
    }
    String::from_utf8(bytes.split_to(len).to_vec()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_and_assignments_come_back() {
        let bytes = encode_subscription("logs").unwrap();
        assert_eq!(decode_subscription(bytes).unwrap(), ["logs"]);
        let share: Share = [("logs".to_owned(), vec![2, 0]), ("x".to_owned(), vec![7])].into();
        let bytes = encode_assignment(&share).unwrap();
        assert_eq!(decode_assignment(bytes.clone(), "logs").unwrap(), [0, 2]);
        assert!(decode_assignment(bytes, "other").unwrap().is_empty());
        assert!(decode_assignment(Bytes::new(), "logs").unwrap().is_empty());
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        // Version 9, one topic `t`, no user data, nothing owned, generation, no rack; and more.
        let mut bytes = vec![0, 9, 0, 0, 0, 1, 0, 1, b't'];
        bytes.extend_from_slice(&(-1_i32).to_be_bytes());
        bytes.extend_from_slice(&0_i32.to_be_bytes());
        bytes.extend_from_slice(&5_i32.to_be_bytes());
        bytes.extend_from_slice(&(-1_i16).to_be_bytes());
        bytes.extend_from_slice(b"what a later release appends");
        assert_eq!(decode_subscription(bytes.into()).unwrap(), ["t"]);
    }

    #[test]
    fn what_is_not_the_protocol_is_fatal() {
        for bytes in [&b""[..], b"x", b"\xff\xff", b"\0\0\0\0\0\x05"] {
            let error = decode_subscription(Bytes::from_static(bytes)).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Fatal, "{bytes:?}");
        }
    }
}
