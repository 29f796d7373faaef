//! One member of the group, for as long as the process runs: join, a session, join again.

use std::{sync::Arc, time::Duration};

use kafka_link::{Cluster, ErrorKind, GroupConfig, Member};
use metrics::counter;
use pipeline_core::{retry::Backoff, telemetry::catalog};
use tokio_util::sync::CancellationToken;

use crate::{
    session::{End, Session, count_error, kafka_up},
    shared::Shared,
};

/// Pauses between joins that failed.
const JOIN_BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(200),
    max: Duration::from_secs(5),
};
/// Longest wait for the answer to leaving the group.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(3);

/// How a member's life ended.
#[derive(Debug)]
pub enum MemberEnd {
    /// On request; `flushed` where all it had read is saved.
    Stopped { flushed: bool },
    /// Another process has taken its `groupInstanceID`: this one must not fight for it.
    Fenced { instance: String, group: String },
}

/// Runs member number `index` until `shutdown`.
pub async fn run(
    shared: Arc<Shared>,
    cluster: Cluster,
    index: usize,
    shutdown: CancellationToken,
) -> MemberEnd {
    let config = GroupConfig {
        group_id: shared.group_id.clone(),
        // Each member of the process needs its own.
        instance_id: shared.group_instance_id.as_ref().map(|id| {
            if shared.consumers == 1 {
                id.clone()
            } else {
                format!("{id}-{index}")
            }
        }),
        topic: shared.topic.clone(),
        session_timeout: shared.session_timeout,
        rebalance_timeout: shared.rebalance_timeout(),
    };
    let instance = config.instance_id.clone().unwrap_or_default();
    let fenced = || MemberEnd::Fenced {
        instance: instance.clone(),
        group: shared.group_id.clone(),
    };
    let mut member = Arc::new(Member::new(cluster.clone(), config));
    let mut failures = 0;
    loop {
        let joined = tokio::select! {
            () = shutdown.cancelled() => {
                leave(&mut member, &shared).await;
                return MemberEnd::Stopped { flushed: true };
            }
            joined = sole(&mut member).join() => joined,
        };
        let assignment = match joined {
            Ok(joined) => joined,
            Err(error) => {
                count_error(&error);
                if error.kind == ErrorKind::Fenced {
                    return fenced();
                }
                kafka_up(error.kind == ErrorKind::Fatal);
                failures += 1;
                let pause = JOIN_BACKOFF.pause(failures, fastrand::f64().max(0.2));
                // Each doubling, so that a long outage does not fill the log.
                if failures.is_power_of_two() || error.kind == ErrorKind::Fatal {
                    tracing::error!(
                        group = shared.group_id,
                        topic = shared.topic,
                        member = index,
                        attempt = failures,
                        %error,
                        "failed to join the group, trying again"
                    );
                }
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = shutdown.cancelled() => {}
                }
                continue;
            }
        };
        failures = 0;
        kafka_up(true);
        counter!(catalog::CONSUMER_REBALANCES).increment(1);
        tracing::info!(
            group = shared.group_id,
            topic = shared.topic,
            member = index,
            generation = assignment.generation,
            partitions = ?assignment.partitions.iter().map(|id| id.0).collect::<Vec<_>>(),
            "joined the group"
        );
        shared.set_strangers(index, assignment.strangers.is_some());
        if let Some(strangers) = &assignment.strangers {
            tracing::error!(
                group = shared.group_id,
                strangers,
                "the group has members that are no writers of Sluice: what they hold is not \
                 stored; give the writers a kafka.groupID of their own"
            );
        }
        let session = Session::new(shared.clone(), cluster.clone(), member.clone(), &assignment);
        match Box::pin(session.run(&shutdown)).await {
            End::Rejoin | End::Lost => {}
            End::Stalled => {
                counter!(catalog::CONSUMER_STALLS).increment(1);
                tracing::error!(
                    group = shared.group_id,
                    topic = shared.topic,
                    member = index,
                    stall_timeout = ?shared.stall_timeout,
                    "nothing gets saved although messages wait: leaving the group until the store \
                     takes files; what is not saved stays in Kafka"
                );
                give_way(&member).await;
                tokio::select! {
                    () = store_answers(&shared) => {}
                    () = shutdown.cancelled() => {}
                }
            }
            End::Fenced => return fenced(),
            End::Shutdown { flushed } => {
                leave(&mut member, &shared).await;
                return MemberEnd::Stopped { flushed };
            }
        }
    }
}

async fn leave(member: &mut Arc<Member>, shared: &Shared) {
    let timeout = LEAVE_TIMEOUT.min(shared.shutdown_timeout.mul_f64(0.1));
    if tokio::time::timeout(timeout, sole(member).leave())
        .await
        .is_err()
    {
        tracing::warn!("the group did not answer the member's leaving in time");
    }
}

async fn give_way(member: &Member) {
    let pulse = member.pulse();
    if tokio::time::timeout(LEAVE_TIMEOUT, pulse.give_way())
        .await
        .is_err()
    {
        tracing::warn!("the group did not answer the member's leaving in time");
    }
}

/// Until the store takes files again. One look at a time, however long the disk hangs.
async fn store_answers(shared: &Arc<Shared>) {
    let mut failures = 0;
    loop {
        let store = shared.store.clone();
        match tokio::task::spawn_blocking(move || store.answers()).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => {
                failures += 1;
                if u32::is_power_of_two(failures) {
                    tracing::error!(%error, "the store does not take files yet");
                }
            }
            Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
            // The runtime ends.
            Err(_) => return,
        }
        tokio::time::sleep(JOIN_BACKOFF.pause(failures, fastrand::f64().max(0.2))).await;
    }
}

/// The member is shared with a session's tasks only while the session runs.
fn sole(member: &mut Arc<Member>) -> &mut Member {
    Arc::get_mut(member).expect("a session ends with all its tasks")
}
