//! The writer as a whole: topic, members, and their end.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kafka_link::{
    Cluster, ClusterConfig, ErrorKind, KafkaError, NewTopic, TopicSettings,
    check::{Purpose, Report},
    fitness,
};
use metrics::gauge;
use pipeline_core::{
    config::Kafka,
    dlq::rate::WriteRate,
    telemetry::{
        catalog::{self, WEAK_SETTINGS, label},
        volumes::watch,
    },
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    found,
    log_ends::LogEnds,
    member::{self, MemberEnd},
    scrub,
    session::{count_error, kafka_up},
    shared::{Shared, now_ms},
    snapshots,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// One fetch, with room for one batch that is larger than what was asked for.
const RESPONSE_BYTES_MAX: usize = 128 << 20;
/// Between looks for a topic or a Kafka that is not there.
const WAIT: Duration = Duration::from_secs(1);
/// Between looks at what others have done with the consumer DLQ's files.
const RECOUNT_EVERY: Duration = Duration::from_secs(3);
/// At least so many times as long as the last look took.
const RECOUNT_REST: u32 = 10;
/// Between words about it.
const WORDS_EVERY: u32 = 30;

/// Why the service ended before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error("topic {topic} cannot be used: {why}")]
    Unfit { topic: String, why: String },
    #[error(
        "fenced: another process has joined group {group} with kafka.groupInstanceID {instance}; \
         this one stops, what it had not saved stays in Kafka for the other"
    )]
    Fenced { instance: String, group: String },
    #[error(
        "not all that was read could be saved before the shutdown's deadline; it stays in Kafka"
    )]
    NotFlushed,
}

/// Runs until `shutdown`, then saves, commits and leaves.
///
/// # Errors
/// Where it may not go on, or could not save all in time (which loses nothing).
pub async fn run(
    shared: Arc<Shared>,
    log_ends: Arc<LogEnds>,
    kafka: &Kafka,
    shutdown: CancellationToken,
) -> Result<(), ServiceError> {
    // Ends with this function.
    let mut beside = JoinSet::new();
    beside.spawn(show_gauges(shared.clone()));
    beside.spawn(follow_dead_letters(shared.clone()));
    beside.spawn(snapshots::keep(shared.clone()));
    beside.spawn(scrub::keep(shared.clone()));
    beside.spawn(found::follow_others(shared.clone()));
    let first = log_ends.cluster().clone();
    beside.spawn(log_ends.keep());
    for (volume, dir) in [
        ("store", shared.store.root()),
        ("consumer_dlq", shared.dead_letters.dir()),
    ] {
        beside.spawn(watch(volume, dir.to_owned()));
    }
    tokio::select! {
        ready = topic_ready(&first, kafka) => ready?,
        () = shutdown.cancelled() => return Ok(()),
    }
    let mut members = JoinSet::new();
    let all = shutdown.child_token();
    for index in 0..kafka.consumers {
        // Each with connections of its own: their long polls do not wait for each other.
        let cluster = if index == 0 {
            first.clone()
        } else {
            new_cluster(kafka)
        };
        members.spawn(member::run(shared.clone(), cluster, index, all.clone()));
    }
    let (mut fenced, mut flushed_all) = (None, true);
    while let Some(ended) = members.join_next().await {
        match ended {
            Ok(MemberEnd::Stopped { flushed }) => flushed_all &= flushed,
            Ok(MemberEnd::Fenced { instance, group }) => {
                let error = ServiceError::Fenced { instance, group };
                tracing::error!("{error}");
                fenced.get_or_insert(error);
                all.cancel();
            }
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    match fenced {
        Some(error) => Err(error),
        None if flushed_all => Ok(()),
        None => Err(ServiceError::NotFlushed),
    }
}

/// Sees what others do with the consumer DLQ's files: replays, people, other writers.
async fn follow_dead_letters(shared: Arc<Shared>) {
    loop {
        let begun = Instant::now();
        let of_task = shared.clone();
        let recount = move || {
            let queue = &of_task.dead_letters;
            if let Err(error) = queue.recount().and_then(|()| queue.recount_records()) {
                tracing::warn!(%error, "failed to list the consumer DLQ");
            }
        };
        // One that hangs in the disk is waited for, so that there is never a second one.
        let _ = tokio::task::spawn_blocking(recount).await;
        // A replay of a full queue changes its files for as long as it goes on.
        tokio::time::sleep(RECOUNT_EVERY.max(begun.elapsed() * RECOUNT_REST)).await;
    }
}

/// What no event tells.
async fn show_gauges(shared: Arc<Shared>) {
    let buffer_bytes = gauge!(catalog::CONSUMER_BUFFER_BYTES);
    let dlq_records = gauge!(catalog::CONSUMER_DLQ_RECORDS);
    let dlq_bytes = gauge!(catalog::CONSUMER_DLQ_BYTES);
    let dlq_oldest = gauge!(catalog::CONSUMER_DLQ_OLDEST_AGE);
    let dlq_seconds_left = gauge!(catalog::CONSUMER_DLQ_SECONDS_LEFT);
    let mut dlq_rate = WriteRate::new(Instant::now());
    let mut dlq_bytes_before = shared.dead_letters.bytes();
    let mut clock = tokio::time::interval(Duration::from_secs(1));
    loop {
        clock.tick().await;
        let (now, now_ms, dlq) = (Instant::now(), now_ms(), &shared.dead_letters);
        shared.books.tick(now, now_ms);
        let grown = dlq.bytes().saturating_sub(dlq_bytes_before);
        dlq_bytes_before = dlq.bytes();
        dlq_rate.wrote(grown, now);
        dlq_seconds_left.set(dlq_rate.seconds_left(dlq.room(), now));
        let oldest = dlq.oldest_ms();
        #[allow(clippy::cast_precision_loss)]
        {
            buffer_bytes.set(shared.budget.used() as f64);
            dlq_records.set(dlq.records() as f64);
            dlq_bytes.set(dlq.bytes() as f64);
            dlq_oldest.set(oldest.map_or(0, |oldest| (now_ms - oldest).max(0)) as f64 / 1_000.0);
        }
    }
}

/// Connections of their own, with this service's bounds.
#[must_use]
pub fn new_cluster(kafka: &Kafka) -> Cluster {
    Cluster::new(ClusterConfig {
        brokers: kafka.brokers.clone(),
        client_id: "kafka-consumer-writer".to_owned(),
        connect_timeout: CONNECT_TIMEOUT,
        request_timeout: REQUEST_TIMEOUT,
        response_bytes_max: RESPONSE_BYTES_MAX,
        security: kafka.security.clone(),
    })
}

/// Looks whether Kafka has what this configuration needs.
pub async fn check(kafka: &Kafka) -> Report {
    let purpose = Purpose {
        topic: &kafka.topic,
        creates: kafka.create_topic.as_ref(),
        reads_as: Some(&kafka.group_id),
        principal: kafka.security.principal(),
    };
    new_cluster(kafka).check(&purpose).await
}

/// Waits until Kafka answers and the topic is there (or makes it), then judges its settings.
async fn topic_ready(cluster: &Cluster, kafka: &Kafka) -> Result<(), ServiceError> {
    let mut looks = 0;
    loop {
        match look(cluster, kafka).await {
            Ok(settings) => {
                kafka_up(true);
                return judge(&kafka.topic, &settings);
            }
            Err(error) => {
                count_error(&error);
                // An answer that the topic is not there is an answer.
                kafka_up(error.kind == ErrorKind::Fatal);
                if looks % WORDS_EVERY == 0 {
                    tracing::warn!(topic = kafka.topic, brokers = ?kafka.brokers, %error, "waiting for Kafka and the topic");
                }
                looks += 1;
                tokio::time::sleep(WAIT).await;
            }
        }
    }
}

async fn look(cluster: &Cluster, kafka: &Kafka) -> Result<TopicSettings, KafkaError> {
    cluster.forget(&kafka.topic);
    match (cluster.topic(&kafka.topic).await, &kafka.create_topic) {
        (Ok(_), _) => {}
        (Err(error), Some(create)) if error.kind == ErrorKind::Fatal => {
            let topic = NewTopic::kept(&kafka.topic, create);
            cluster.create_topic(&topic).await?;
            tracing::info!(topic = kafka.topic, ?create, "made the topic");
        }
        (Err(error), _) => return Err(error),
    }
    cluster.settings(&kafka.topic).await
}

fn judge(topic: &str, settings: &TopicSettings) -> Result<(), ServiceError> {
    let fitness = fitness::judge(settings);
    if let Some(why) = fitness.unfit {
        return Err(ServiceError::Unfit {
            topic: topic.to_owned(),
            why,
        });
    }
    for setting in WEAK_SETTINGS {
        let is_weak = fitness.weak.iter().any(|(weak, _)| *weak == setting);
        let value = if is_weak { 1.0 } else { 0.0 };
        gauge!(catalog::KAFKA_TOPIC_WEAK, label::SETTING => setting).set(value);
    }
    for (setting, found) in fitness.weak {
        tracing::warn!(
            topic,
            setting,
            found,
            "this setting weakens the promise that nothing is lost"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(policy: &str) -> TopicSettings {
        TopicSettings {
            cleanup_policy: policy.to_owned(),
            min_insync_replicas: Some(1),
            unclean_leader_election: Some(false),
            retention_ms: None,
            retention_bytes: None,
            max_message_bytes: None,
            replication: 1,
        }
    }

    #[test]
    fn a_compacted_topic_is_refused_and_a_weak_one_is_not() {
        assert!(judge("logs", &settings("delete")).is_ok());
        for policy in ["compact", "compact,delete", "delete, compact"] {
            let refused = judge("logs", &settings(policy)).expect_err("compaction");
            assert!(refused.to_string().contains(policy), "{refused}");
        }
    }
}
