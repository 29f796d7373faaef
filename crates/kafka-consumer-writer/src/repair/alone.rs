//! The group to ourselves: so no other writer extends a chain while its files are moved.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use kafka_link::{Beat, Cluster, ErrorKind, GroupConfig, KafkaError, Member, Pulse};
use pipeline_core::config::Config;
use tokio::task::JoinHandle;

use super::{KAFKA_PATIENCE, Refused};

/// Longest pause between heartbeats.
const BEAT_MAX: Duration = Duration::from_secs(1);

/// Keeps the membership while files are moved, however long that takes, and says when it is over:
/// another member has come, or the group has thrown this one out.
pub(super) struct Alone {
    member: Member,
    is_so: Arc<AtomicBool>,
    beating: JoinHandle<()>,
}

impl Alone {
    /// Joins the group as its only member. That all partitions are ours is not enough: of one
    /// partition a writer that runs beside us has none, and takes it when we leave.
    pub(super) async fn join(cluster: &Cluster, config: &Config) -> Result<Self, Refused> {
        let session_timeout = config.consumer.session_timeout;
        let group = GroupConfig {
            group_id: config.kafka.group_id.clone(),
            instance_id: None,
            topic: config.kafka.topic.clone(),
            session_timeout,
            rebalance_timeout: config.consumer.persist_timeout + session_timeout,
        };
        let mut member = Member::new(cluster.clone(), group);
        let assignment = match tokio::time::timeout(KAFKA_PATIENCE, member.join()).await {
            Ok(joined) => joined.map_err(|error: KafkaError| Refused::Kafka(error.to_string()))?,
            Err(_) => return Err(Refused::Kafka(format!("for {KAFKA_PATIENCE:?}"))),
        };
        if !assignment.alone {
            member.leave().await;
            return Err(Refused::InUse {
                group: config.kafka.group_id.clone(),
            });
        }
        let is_so = Arc::new(AtomicBool::new(true));
        let beating = tokio::spawn(beat(member.pulse(), session_timeout, is_so.clone()));
        Ok(Self {
            member,
            is_so,
            beating,
        })
    }

    /// To be asked before each step.
    pub(super) fn go_on(&self) -> impl FnMut() -> bool + Send + use<> {
        let is_so = self.is_so.clone();
        move || is_so.load(Ordering::Acquire)
    }

    pub(super) async fn leave(mut self) {
        self.beating.abort();
        self.member.leave().await;
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.beating.abort();
    }
}

async fn beat(pulse: Pulse, session_timeout: Duration, is_so: Arc<AtomicBool>) {
    let mut clock = tokio::time::interval((session_timeout / 4).min(BEAT_MAX));
    let mut heard = Instant::now();
    loop {
        clock.tick().await;
        match pulse.heartbeat().await {
            Ok(Beat::Stable) => heard = Instant::now(),
            // A broker that is away for a moment throws nobody out.
            Err(error)
                if !matches!(
                    error.kind,
                    ErrorKind::Lost | ErrorKind::Fenced | ErrorKind::Rejoin
                ) && heard.elapsed() < session_timeout / 2 => {}
            Ok(Beat::Rebalance) | Err(_) => break,
        }
    }
    is_so.store(false, Ordering::Release);
}
