//! Whether a chain that is damaged may be repaired: what Kafka says of it, and why not.

use kafka_link::{Cluster, KafkaError, TopicInfo};
use pipeline_core::{Offset, lifecycle::exit, store::repair::Repair};

use super::{Finding, KAFKA_PATIENCE};
use crate::{
    steps::log_bounds,
    takeover::{Difference, same_topic},
};

/// Why a chain that could be repaired is not.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("{0}")]
    Hopeless(String),
    #[error("nothing can be said of the rest of the chain before that can be read")]
    Unreadable,
    #[error(transparent)]
    Difference(#[from] Difference),
    #[error(
        "Kafka has nothing before {log_start} any more: {lost} records from {next} on would be lost; restore the file from a backup"
    )]
    Expired {
        next: Offset,
        log_start: Offset,
        lost: i64,
    },
    #[error("the log ends at {log_end}, before {next}: it was truncated")]
    Truncated { next: Offset, log_end: Offset },
    #[error(
        "other members are in group {group}: stop all writers first (one with a \
         kafka.groupInstanceID counts until its consumer.sessionTimeout is over)"
    )]
    InUse { group: String },
    #[error("the chain has changed meanwhile, or others came into the group: run it again")]
    Changed,
    #[error("{0}")]
    Disk(String),
    #[error("Kafka does not answer: {0}")]
    Kafka(String),
}

impl Refused {
    /// Of the command, where it was `before` without this: what Kafka alone is in the way of can
    /// be tried later.
    pub(super) fn exit_code(&self, before: u8) -> u8 {
        match self {
            Self::Kafka(_) if before != exit::FAILED => exit::TRY_LATER,
            _ => exit::FAILED,
        }
    }
}

/// Asks Kafka about what could be repaired, for one patience in all.
pub(super) async fn judge_all(cluster: &Cluster, topic: &str, damaged: &mut [Finding]) {
    let deadline = tokio::time::Instant::now() + KAFKA_PATIENCE;
    for finding in damaged {
        let Ok(repair) = &finding.outcome else {
            continue;
        };
        let partition = finding.chain.partition();
        let asked = async {
            let info = cluster.topic(topic).await?;
            let bounds = log_bounds(cluster, topic, partition).await?;
            Ok::<_, KafkaError>((info, bounds))
        };
        let refused = match tokio::time::timeout_at(deadline, asked).await {
            Ok(Ok((info, bounds))) => judge(repair, &info, bounds).err(),
            Ok(Err(error)) => Some(Refused::Kafka(error.to_string())),
            Err(_) => Some(Refused::Kafka(format!("for {KAFKA_PATIENCE:?}"))),
        };
        if let Some(refused) = refused {
            finding.outcome = Err(refused);
        }
    }
}

/// Whether Kafka has all from the repaired chain's end on.
fn judge(repair: &Repair, info: &TopicInfo, bounds: (Offset, Offset)) -> Result<(), Refused> {
    same_topic(&repair.start, &info.cluster_id, &info.topic_id)?;
    let (next, (log_start, log_end)) = (repair.next, bounds);
    if next < log_start {
        let lost = log_start.0 - next.0;
        return Err(Refused::Expired {
            next,
            log_start,
            lost,
        });
    }
    if log_end < next {
        return Err(Refused::Truncated { next, log_end });
    }
    Ok(())
}
