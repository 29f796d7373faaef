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
    Fenced(String),
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
    let is_static = config.instance_id.is_some();
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
                if is_static && error.kind == ErrorKind::Lost {
                    return MemberEnd::Fenced(error.to_string());
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
        let session = Session::new(shared.clone(), cluster.clone(), member.clone(), &assignment);
        match Box::pin(session.run(&shutdown)).await {
            End::Rejoin | End::Lost => {}
            End::Fenced => return MemberEnd::Fenced(format!("member {index} is fenced")),
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

/// The member is shared with a session's tasks only while the session runs.
fn sole(member: &mut Arc<Member>) -> &mut Member {
    Arc::get_mut(member).expect("a session ends with all its tasks")
}
