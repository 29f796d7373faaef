//! Long polls: one request per leader side by side, on connections of their own.
//!
//! A fetch that nobody waits for any more is not lost: it is parked, and the next call that asks
//! the same leader for the same offsets takes it over. So one leader's data need not wait for
//! another's silence, and a caller may drop a fetch at any moment.

mod answer;
mod parked;
mod room;

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use kafka_protocol::{
    messages::{
        BrokerId, FetchRequest, FetchResponse, TopicName,
        fetch_request::{FetchPartition, FetchTopic},
        fetch_response::PartitionData,
    },
    protocol::StrBytes,
};
use pipeline_core::{Offset, PartitionId};
use uuid::Uuid;

use super::{FetchFrom, FetchOptions, Fetched, Inner, LeaderShare, TopicId, TopicView, by_leader};
use crate::{
    KafkaError,
    error::{Context, ErrorKind},
    net::{Call, CallError, Lane},
};
use answer::read_answer;
use parked::{Flight, Question, Watched};

pub(super) use parked::Parked;
pub(super) use room::Growth;

/// How much longer than its deadline a parked fetch is kept: whoever asks the same again by then
/// hears that it has failed.
const PARKED_GRACE: Duration = Duration::from_secs(5);
const READ_COMMITTED: i8 = 1;
/// The last version that goes by the topic's name.
const BY_NAME_MAX: i16 = 12;

type Outcome = (PartitionId, Result<Fetched, KafkaError>);

/// What one leader answered.
struct Landed {
    question: Question,
    first: Option<PartitionId>,
    answer: Result<FetchResponse, KafkaError>,
}

impl Inner {
    pub(super) async fn fetch(
        self: &Arc<Self>,
        topic: &str,
        from: &[FetchFrom],
        options: FetchOptions,
    ) -> Vec<Outcome> {
        if from.is_empty() {
            return Vec::new();
        }
        let deadline = Instant::now() + options.wait_max + self.config.request_timeout;
        let view = match self.view(topic, deadline).await {
            Ok(view) => view,
            Err(error) => {
                return from
                    .iter()
                    .map(|from| (from.partition, Err(error.clone())))
                    .collect();
            }
        };
        let mut outcomes: Vec<Outcome> = Vec::new();
        let mut asked = Vec::with_capacity(from.len());
        for from in from {
            match other_topic(topic, &view, from) {
                None => asked.push((from.partition, from.offset)),
                Some(error) => outcomes.push((from.partition, Err(error))),
            }
        }
        let (shares, leaderless) = by_leader(&view, asked);
        let name: Arc<str> = topic.into();
        let asked = FetchOptions {
            // What all of them answer is in memory at once.
            bytes_max: self
                .growth
                .on_the_wire(options.bytes_max / u32::try_from(shares.len().max(1)).unwrap_or(1)),
            partition_bytes_max: self.growth.on_the_wire(options.partition_bytes_max),
            ..options
        };
        let flights = shares.into_iter().map(|share| {
            let LeaderShare { address, mut items } = share;
            items.sort_unstable_by_key(|item| item.0);
            let question = Question {
                topic: Arc::clone(&name),
                topic_id: view.info.id,
                leader: address,
                from: items,
            };
            self.fly(question, asked, deadline)
        });
        let leaderless = leaderless.into_iter();
        outcomes
            .extend(leaderless.map(|(partition, error)| (partition, Err(error.within("fetch")))));
        let landed = first_landed(flights, outcomes.is_empty()).await;
        let mut left = options.bytes_max as usize;
        for landed in landed {
            read_answer(landed, &self.growth, &mut left, &mut outcomes);
        }
        let stale = |outcome: &Outcome| {
            outcome.1.as_ref().is_err_and(|error| {
                // Without a code nobody answered: the leader may be another by now.
                error.kind == ErrorKind::RefreshAndRetry
                    || error.kind == ErrorKind::OtherTopic
                    || (error.kind == ErrorKind::Retry && error.code.is_none())
            })
        };
        if outcomes.iter().any(stale) {
            self.metadata.forget(topic);
        }
        outcomes
    }

    /// Takes over a parked flight, or starts one, and waits for it.
    async fn fly(&self, question: Question, options: FetchOptions, deadline: Instant) -> Landed {
        let flight = match self.parked.take(&question) {
            Some(flight) => Ok(flight),
            None => self.take_off(&question, options, deadline).await,
        };
        let flight = match flight {
            Ok(flight) => flight,
            Err(error) => return Landed::failed(question, error),
        };
        let mut watched = Watched {
            parked: &self.parked,
            question,
            flight: Some(flight),
        };
        let answer = match &mut watched.flight {
            Some(flight) => flight.pending.wait(flight.deadline).await,
            None => Err(CallError::unsent("no fetch is on the way")),
        };
        let flight = watched.flight.take();
        let question = watched.question.clone();
        match (answer, flight) {
            (Ok(answer), Some(flight)) => {
                flight.lease.home().throttle(answer.throttle_time_ms);
                let first = flight.first;
                flight.lease.finish();
                Landed {
                    question,
                    first,
                    answer: Ok(answer),
                }
            }
            (Ok(_), None) => Landed::failed(question, CallError::unsent("no fetch is on the way")),
            (Err(error), _) => Landed::failed(question, error),
        }
    }

    async fn take_off(
        &self,
        question: &Question,
        options: FetchOptions,
        deadline: Instant,
    ) -> Result<Flight, CallError> {
        let lane = self.pool.lane(&question.leader, Lane::Fetch);
        // What nobody asks for any more holds permits.
        self.parked.purge();
        lane.wait_turn(deadline).await?;
        let lease = lane.exclusive(deadline).await?;
        let version = lease.connection().version::<FetchRequest>()?;
        let version = match question.topic_id {
            Some(_) => version,
            None => version.min(BY_NAME_MAX),
        };
        let mut from = question.from.clone();
        let turn = self.parked.turn(from.len());
        from.rotate_left(turn);
        let first = from.first().map(|from| from.0);
        let pending = lease
            .connection()
            .start(&request(question, &from, options), version)?;
        Ok(Flight {
            pending,
            lease,
            first,
            deadline,
            expires: deadline + PARKED_GRACE,
        })
    }
}

impl Landed {
    fn failed(question: Question, error: CallError) -> Self {
        Self {
            question,
            first: None,
            answer: Err(error.in_context(Context::Fetch).within(FetchRequest::NAME)),
        }
    }
}

/// Polls all until one has ended, with news or without: a leader that has none is asked again,
/// whatever the others do. Gives what has ended then and drops the rest, which parks it. Without `wait`, what has not ended at once is dropped.
async fn first_landed<F: Future<Output = Landed>>(
    flights: impl IntoIterator<Item = F>,
    wait: bool,
) -> Vec<Landed> {
    let mut flying: Vec<Pin<Box<F>>> = flights.into_iter().map(Box::pin).collect();
    let mut landed = Vec::new();
    poll_fn(|context| {
        flying.retain_mut(|flight| match flight.as_mut().poll(context) {
            Poll::Ready(ended) => {
                landed.push(ended);
                false
            }
            Poll::Pending => true,
        });
        let done = !wait || flying.is_empty() || !landed.is_empty();
        if done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    landed
}

fn partitions_of(answer: &FetchResponse) -> impl Iterator<Item = &PartitionData> {
    answer.responses.iter().flat_map(|topic| &topic.partitions)
}

/// Why the topic in `view` is not the one that `from` means.
fn other_topic(topic: &str, view: &TopicView, from: &FetchFrom) -> Option<KafkaError> {
    let partition = from.partition;
    let what = match (from.topic_id, view.info.id) {
        (Some(TopicId(wanted)), Some(TopicId(found))) if wanted != found => format!(
            "the topic has id {}, offset {} is of id {}: it was made anew",
            found.simple(),
            from.offset,
            wanted.simple(),
        ),
        _ if !view.has(partition) => format!(
            "the topic has no such partition, it has {}",
            view.info.partitions.len()
        ),
        _ => return None,
    };
    let at = format!("fetch from topic {topic} partition {partition}: {what}");
    Some(KafkaError::new(ErrorKind::OtherTopic, at))
}

/// The topic stands in it by name and by id; the version says which of them is sent.
fn request(
    question: &Question,
    from: &[(PartitionId, Offset)],
    options: FetchOptions,
) -> FetchRequest {
    let int = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
    let partitions = from.iter().map(|(partition, offset)| {
        FetchPartition::default()
            .with_partition(partition.0)
            .with_current_leader_epoch(-1)
            .with_last_fetched_epoch(-1)
            .with_log_start_offset(-1)
            .with_fetch_offset(offset.0)
            .with_partition_max_bytes(int(options.partition_bytes_max))
    });
    let topic = FetchTopic::default()
        .with_topic(TopicName(StrBytes::from_string(question.topic.to_string())))
        .with_topic_id(question.topic_id.map_or_else(Uuid::nil, |id| id.0))
        .with_partitions(partitions.collect());
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(i32::try_from(options.wait_max.as_millis()).unwrap_or(i32::MAX))
        .with_min_bytes(int(options.bytes_min))
        .with_max_bytes(int(options.bytes_max))
        .with_isolation_level(READ_COMMITTED)
        // No fetch session: each request says all (KIP-227).
        .with_session_id(0)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}
