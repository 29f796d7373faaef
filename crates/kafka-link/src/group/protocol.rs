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
/// Of our own, so that no other client has it; deals like Kafka's `range`.
pub(super) const ASSIGNOR: &str = "sluice-range";

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

/// One member's part. `dealt` says how many partitions our topic had for all of them: a leader
/// that comes back later sees by it whether the topic has grown. (And Kafka 4 takes no group with
/// user data over into the new protocol.)
pub(super) fn encode_assignment(share: &Share, dealt: i32) -> Result<Bytes, KafkaError> {
    let topics = share.iter().map(|(topic, partitions)| {
        TopicPartition::default()
            .with_topic(TopicName(StrBytes::from_string(topic.clone())))
            .with_partitions(partitions.clone())
    });
    let assignment = ConsumerProtocolAssignment::default()
        .with_assigned_partitions(topics.collect())
        .with_user_data(Some(Bytes::copy_from_slice(&dealt.to_be_bytes())));
    encode(&assignment)
}

/// What a member reads in its assignment.
#[derive(Default, PartialEq, Eq, Debug)]
pub(super) struct Given {
    /// Of one topic, in order.
    pub partitions: Vec<i32>,
    /// How many of that topic were dealt out to all, where the leader was one of us.
    pub dealt: Option<usize>,
}

/// The partitions of `topic` in an assignment; nothing at all means none.
pub(super) fn decode_assignment(bytes: Bytes, topic: &str) -> Result<Given, KafkaError> {
    if bytes.is_empty() {
        return Ok(Given::default());
    }
    let mut given = read_assignment(bytes, topic).map_err(|what| malformed(&what))?;
    given.partitions.sort_unstable();
    given.partitions.dedup();
    Ok(given)
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

fn read_assignment(mut bytes: Bytes, topic: &str) -> Result<Given, String> {
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
    Ok(Given {
        partitions: ours,
        dealt: read_dealt(&mut bytes),
    })
}

/// Another leader's user data means nothing to us.
fn read_dealt(bytes: &mut Bytes) -> Option<usize> {
    let len = bytes.try_get_i32().ok()?;
    let dealt = bytes.try_get_i32().ok()?;
    (len == 4).then(|| usize::try_from(dealt).ok()).flatten()
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
        let bytes = encode_assignment(&share, 5).unwrap();
        let given = |partitions: &[i32], dealt| Given {
            partitions: partitions.to_vec(),
            dealt,
        };
        let decoded = |topic| decode_assignment(bytes.clone(), topic).unwrap();
        assert_eq!(decoded("logs"), given(&[0, 2], Some(5)));
        assert_eq!(decoded("other"), given(&[], Some(5)));
        let nothing = decode_assignment(Bytes::new(), "logs").unwrap();
        assert_eq!(nothing, given(&[], None));
    }

    #[test]
    fn what_another_leader_says_beside_the_partitions_is_not_read() {
        // Version 0, one topic `t` with partition 3, and user data: none, null, foreign.
        let parts = [0, 0, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 3];
        for user_data in [&b""[..], b"\xff\xff\xff\xff", b"\0\0\0\x05hello"] {
            let bytes = [&parts[..], user_data].concat();
            let given = decode_assignment(bytes.into(), "t").unwrap();
            assert_eq!((given.partitions, given.dealt), (vec![3], None));
        }
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
