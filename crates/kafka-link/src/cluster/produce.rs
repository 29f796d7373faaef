//! Produce: one request per leader, each sent at most once.

use std::{sync::Arc, time::Instant};

use kafka_protocol::{
    messages::{
        ProduceRequest, TopicName,
        produce_request::{PartitionProduceData, TopicProduceData},
        produce_response::PartitionProduceResponse,
    },
    protocol::StrBytes,
};
use pipeline_core::{Offset, PartitionId};

use super::{Acks, Inner, LeaderShare, TopicView, by_leader};
use crate::{
    EncodedBatch, KafkaError,
    error::{Context, ErrorKind},
    net::{Call, CallError, Lane, join_all},
};

/// Brokers refuse requests above 100 MiB (`socket.request.max.bytes`); ours stay well below.
const REQUEST_BYTES_MAX: usize = 32 * 1024 * 1024;

type Outcome = (PartitionId, Result<Offset, KafkaError>);

impl Inner {
    pub(super) async fn produce(
        self: &Arc<Self>,
        topic: &str,
        acks: Acks,
        deadline: Instant,
        batches: Vec<(PartitionId, EncodedBatch)>,
    ) -> Vec<Outcome> {
        let view = match self.view(topic, deadline).await {
            Ok(view) => view,
            Err(error) => {
                return batches
                    .into_iter()
                    .map(|(partition, _)| (partition, Err(error.clone())))
                    .collect();
            }
        };
        let (shares, leaderless) = by_leader(&view, batches);
        if !leaderless.is_empty() {
            self.metadata.outdated(topic, &view);
        }
        let sends = shares
            .into_iter()
            .flat_map(split_share)
            .map(|share| self.produce_to(topic, &view, acks, deadline, share));
        let mut outcomes: Vec<Outcome> = join_all(sends).await.into_iter().flatten().collect();
        outcomes.extend(
            leaderless
                .into_iter()
                .map(|(partition, error)| (partition, Err(error.within("produce")))),
        );
        outcomes
    }

    async fn produce_to(
        &self,
        topic: &str,
        view: &Arc<TopicView>,
        acks: Acks,
        deadline: Instant,
        share: LeaderShare<EncodedBatch>,
    ) -> Vec<Outcome> {
        let address = share.address;
        let partitions: Vec<PartitionId> = share.items.iter().map(|item| item.0).collect();
        let lane = self.pool.lane(&address, Lane::Produce);
        let answer = async {
            lane.wait_turn(deadline).await?;
            let connection = lane.shared(deadline).await?;
            let version = connection.version::<ProduceRequest>()?;
            let request = request(topic, acks, deadline, share.items);
            let mut pending = connection.start(&request, version)?;
            // The batches are in the frame now: one copy is enough while we wait.
            drop(request);
            pending.wait(deadline).await
        };
        let answer = match answer.await {
            Ok(answer) => answer,
            Err(error) => {
                // The broker may be gone, and another the leader.
                self.metadata.outdated(topic, view);
                let error = in_words(error, topic);
                return partitions
                    .into_iter()
                    .map(|partition| (partition, Err(error.clone())))
                    .collect();
            }
        };
        // The batches were taken or refused already; only what comes next has to wait.
        lane.throttle(answer.throttle_time_ms);
        let answered: Vec<PartitionProduceResponse> = answer
            .responses
            .into_iter()
            .filter(|response| response.name.as_str() == topic)
            .flat_map(|response| response.partition_responses)
            .collect();
        let outcome_of = |partition: PartitionId| {
            let call = format!("produce to topic {topic} partition {partition} at {address}");
            match answered.iter().find(|answer| answer.index == partition.0) {
                Some(answer) => outcome(answer, acks, &call),
                None => Err(KafkaError::new(
                    ErrorKind::UnknownOutcome,
                    format!("{call}: the answer leaves it out"),
                )),
            }
        };
        let outcomes: Vec<Outcome> = partitions
            .into_iter()
            .map(|partition| (partition, outcome_of(partition)))
            .collect();
        let stale = outcomes.iter().any(|(_, outcome)| {
            outcome.as_ref().is_err_and(|error| {
                matches!(
                    error.kind,
                    ErrorKind::RefreshAndRetry | ErrorKind::UnknownOutcome
                )
            })
        });
        if stale {
            self.metadata.outdated(topic, view);
        }
        outcomes
    }
}

fn in_words(error: CallError, topic: &str) -> KafkaError {
    error
        .in_context(Context::Produce)
        .within(&format!("{} to topic {topic}", ProduceRequest::NAME))
}

fn outcome(
    answer: &PartitionProduceResponse,
    acks: Acks,
    call: &str,
) -> Result<Offset, KafkaError> {
    if answer.error_code == 0 {
        return Ok(Offset(answer.base_offset));
    }
    let detail = answer
        .record_errors
        .first()
        .and_then(|error| error.batch_index_error_message.as_deref())
        .or(answer.error_message.as_deref());
    let mut error = KafkaError::answered(Context::Produce, answer.error_code, call, detail);
    // A leader deposed while it waits for its followers says that it is not the leader, as one
    // that never was; only the offset it had given tells that the batch is in its log, and may
    // be in its successor's.
    if acks == Acks::All && error.kind == ErrorKind::RefreshAndRetry && answer.base_offset >= 0 {
        error.kind = ErrorKind::UnknownOutcome;
    }
    Err(error)
}

fn request(
    topic: &str,
    acks: Acks,
    deadline: Instant,
    batches: Vec<(PartitionId, EncodedBatch)>,
) -> ProduceRequest {
    let partitions = batches.into_iter().map(|(partition, batch)| {
        PartitionProduceData::default()
            .with_index(partition.0)
            .with_records(Some(batch.bytes))
    });
    let data = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
        .with_partition_data(partitions.collect());
    // The broker gives up a little earlier than we do: its own word is better than silence.
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout_ms = i32::try_from((left * 9 / 10).as_millis()).unwrap_or(i32::MAX);
    ProduceRequest::default()
        .with_acks(match acks {
            Acks::All => -1,
            Acks::Leader => 1,
        })
        .with_timeout_ms(timeout_ms)
        .with_topic_data(vec![data])
}

/// One request for each partition named once, none too large.
fn split_share(share: LeaderShare<EncodedBatch>) -> Vec<LeaderShare<EncodedBatch>> {
    let LeaderShare { address, items } = share;
    let mut shares: Vec<LeaderShare<EncodedBatch>> = Vec::new();
    let mut bytes = 0;
    for (partition, batch) in items {
        bytes += batch.bytes.len();
        let fits = shares.last().is_some_and(|share| {
            // A broker refuses a request that names a partition twice.
            bytes <= REQUEST_BYTES_MAX && share.items.iter().all(|item| item.0 != partition)
        });
        if !fits {
            bytes = batch.bytes.len();
            shares.push(LeaderShare {
                address: Arc::clone(&address),
                items: Vec::new(),
            });
        }
        if let Some(share) = shares.last_mut() {
            share.items.push((partition, batch));
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_share_is_split_by_size_and_names_a_partition_once() {
        let batch = |len: usize| EncodedBatch {
            bytes: Bytes::from(vec![0; len]),
            count: 1,
        };
        let half = REQUEST_BYTES_MAX / 2;
        let sizes = [(0, half), (1, half), (2, 1), (2, 1), (3, 1)];
        let share = LeaderShare {
            address: "a:1".into(),
            items: sizes.map(|(id, len)| (PartitionId(id), batch(len))).into(),
        };
        let split = split_share(share);
        let ids: Vec<Vec<i32>> = split
            .iter()
            .map(|share| share.items.iter().map(|item| item.0.0).collect())
            .collect();
        assert_eq!(ids, [vec![0, 1], vec![2], vec![2, 3]]);
    }

    #[test]
    fn a_deposed_leader_that_had_appended_has_an_unknown_outcome() {
        let not_leader = |base_offset| {
            PartitionProduceResponse::default()
                .with_error_code(6)
                .with_base_offset(base_offset)
        };
        let kind = |offset, acks| outcome(&not_leader(offset), acks, "p").unwrap_err().kind;
        assert_eq!(kind(-1, Acks::All), ErrorKind::RefreshAndRetry);
        assert_eq!(kind(70, Acks::All), ErrorKind::UnknownOutcome);
        assert_eq!(kind(70, Acks::Leader), ErrorKind::RefreshAndRetry);
    }
}
