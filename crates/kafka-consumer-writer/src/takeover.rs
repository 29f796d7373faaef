//! Whether a partition may be gone on with: the chain, the log and the last commit compared.
//! Pure: facts in, a verdict out.

use pipeline_core::{
    Offset,
    config::StartAt,
    store::{ChainEnd, Start, StoreId, chain::FORMAT},
};

/// What the log says.
#[derive(Clone, Debug)]
pub struct LogFacts {
    pub cluster_id: String,
    /// Empty where the broker gives none.
    pub topic_id: String,
    pub log_start: Offset,
    pub log_end: Offset,
}

/// What the group last committed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitFacts {
    pub offset: Offset,
    pub metadata: String,
}

/// What to do with the partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// No chain yet: put this START.
    Begin(Start),
    GoOn,
    Halt(Difference),
}

/// Why chain, log and commit do not belong together.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Difference {
    #[error(
        "last committed by store {theirs} at {offset}, this is store {ours}; --adopt says to go on here"
    )]
    OtherStore {
        theirs: String,
        ours: String,
        offset: Offset,
    },
    #[error(
        "this store committed {offset} but its chain is not there: its directory is lost; restore it, or --adopt begins a new chain"
    )]
    DirectoryLost { offset: Offset },
    #[error("the chain was begun from cluster {chain}, this is cluster {log}")]
    OtherCluster { chain: String, log: String },
    #[error(
        "the chain was begun from topic id {chain}, this topic has {log}: it was made anew; give \
         it another name (kafka.topic), or a storage.logsDir of its own"
    )]
    OtherTopic { chain: String, log: String },
    #[error(
        "the topic has {partitions} partitions, and this chain is of another: it was made anew; \
         give it another name (kafka.topic), or a storage.logsDir of its own"
    )]
    PartitionGone { partitions: usize },
    #[error("the log ends at {log_end}, before the chain's end {next}: it was truncated")]
    LogTruncated { log_end: Offset, next: Offset },
    #[error("message {offset} in the log is not the one that the chain has")]
    OtherMessage { offset: Offset },
}

/// Why a partition stands still, as its metric says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HaltReason {
    /// A file of the chain contradicts itself or the others.
    Damaged,
    /// A file of the chain is gone.
    Missing,
    OtherStore,
    DirectoryLost,
    /// The topic was made anew, or is another cluster's.
    OtherTopic,
    LogTruncated,
    OtherMessage,
    /// The log has a batch that cannot be read.
    UnreadableLog,
}

impl HaltReason {
    pub const ALL: [Self; 8] = [
        Self::Damaged,
        Self::Missing,
        Self::OtherStore,
        Self::DirectoryLost,
        Self::OtherTopic,
        Self::LogTruncated,
        Self::OtherMessage,
        Self::UnreadableLog,
    ];

    /// The log is not, or not any more, the one that the chain was made of: their offsets say
    /// nothing of each other.
    #[must_use]
    pub fn is_of_other_log(self) -> bool {
        matches!(
            self,
            Self::OtherTopic | Self::LogTruncated | Self::OtherMessage
        )
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Missing => "missing",
            Self::OtherStore => "other_store",
            Self::DirectoryLost => "directory_lost",
            Self::OtherTopic => "other_topic",
            Self::LogTruncated => "log_truncated",
            Self::OtherMessage => "other_message",
            Self::UnreadableLog => "unreadable_log",
        }
    }
}

impl Difference {
    #[must_use]
    pub fn reason(&self) -> HaltReason {
        match self {
            Self::OtherStore { .. } => HaltReason::OtherStore,
            Self::DirectoryLost { .. } => HaltReason::DirectoryLost,
            Self::OtherCluster { .. } | Self::OtherTopic { .. } | Self::PartitionGone { .. } => {
                HaltReason::OtherTopic
            }
            Self::LogTruncated { .. } => HaltReason::LogTruncated,
            Self::OtherMessage { .. } => HaltReason::OtherMessage,
        }
    }
}

/// The metadata of a commit by this store.
#[must_use]
pub fn commit_metadata(store: &StoreId) -> String {
    format!("{METADATA_PREFIX}{}", store.0)
}

const METADATA_PREFIX: &str = "sluice-store:";

/// Whether the chain was begun from this topic, as far as either side says.
///
/// # Errors
/// The difference.
pub fn same_topic(start: &Start, cluster_id: &str, topic_id: &str) -> Result<(), Difference> {
    let differ = |chain: &str, log: &str| !chain.is_empty() && !log.is_empty() && chain != log;
    if differ(&start.cluster_id, cluster_id) {
        return Err(Difference::OtherCluster {
            chain: start.cluster_id.clone(),
            log: cluster_id.to_owned(),
        });
    }
    if differ(&start.topic_id, topic_id) {
        return Err(Difference::OtherTopic {
            chain: start.topic_id.clone(),
            log: topic_id.to_owned(),
        });
    }
    Ok(())
}

/// Judges by everything but the last message, which has to be fetched for it.
#[must_use]
pub fn judge(
    chain: Option<(&Start, &ChainEnd)>,
    log: &LogFacts,
    commit: Option<&CommitFacts>,
    store: &StoreId,
    start_at: StartAt,
    adopt: bool,
) -> Verdict {
    // A commit without metadata, or with another program's, is nobody's.
    let committed_by = commit.and_then(|commit| {
        let id = commit.metadata.strip_prefix(METADATA_PREFIX)?;
        Some((id, commit.offset))
    });
    if let Some((theirs, offset)) = committed_by
        && theirs != store.0
        && !adopt
    {
        return Verdict::Halt(Difference::OtherStore {
            theirs: theirs.to_owned(),
            ours: store.0.clone(),
            offset,
        });
    }
    let Some((start, end)) = chain else {
        let first_offset = match committed_by {
            Some((id, offset)) if id == store.0 && offset.0 > 0 => {
                if !adopt {
                    return Verdict::Halt(Difference::DirectoryLost { offset });
                }
                log.log_start
            }
            // What the other store has is there; what the log has lost since is counted as lost.
            Some((id, offset)) if id != store.0 => offset.min(log.log_end),
            _ => match start_at {
                StartAt::Earliest => log.log_start,
                StartAt::Latest => log.log_end,
            },
        };
        return Verdict::Begin(Start {
            format: FORMAT,
            cluster_id: log.cluster_id.clone(),
            topic_id: log.topic_id.clone(),
            first_offset,
        });
    };
    if let Err(difference) = same_topic(start, &log.cluster_id, &log.topic_id) {
        return Verdict::Halt(difference);
    }
    if log.log_end < end.next {
        return Verdict::Halt(Difference::LogTruncated {
            log_end: log.log_end,
            next: end.next,
        });
    }
    Verdict::GoOn
}

#[cfg(test)]
mod tests {
    use pipeline_core::store::Totals;

    use super::*;

    fn store() -> StoreId {
        StoreId("aa".repeat(16))
    }

    fn log(log_start: i64, log_end: i64) -> LogFacts {
        LogFacts {
            cluster_id: "c1".to_owned(),
            topic_id: "t1".to_owned(),
            log_start: Offset(log_start),
            log_end: Offset(log_end),
        }
    }

    fn start(first: i64) -> Start {
        Start {
            format: FORMAT,
            cluster_id: "c1".to_owned(),
            topic_id: "t1".to_owned(),
            first_offset: Offset(first),
        }
    }

    fn end(next: i64) -> ChainEnd {
        ChainEnd {
            next: Offset(next),
            last: None,
            totals: Totals::default(),
            last_message: None,
        }
    }

    fn by(id: &str, offset: i64) -> CommitFacts {
        CommitFacts {
            offset: Offset(offset),
            metadata: commit_metadata(&StoreId(id.to_owned())),
        }
    }

    fn begun_at(commit: Option<&CommitFacts>, adopt: bool) -> Verdict {
        judge(
            None,
            &log(5, 50),
            commit,
            &store(),
            StartAt::Earliest,
            adopt,
        )
    }

    #[test]
    fn each_reason_to_halt_is_one_of_its_metrics_label() {
        use pipeline_core::telemetry::catalog::HALT_REASONS;
        assert_eq!(HaltReason::ALL.map(HaltReason::as_str), HALT_REASONS);
    }

    #[test]
    fn a_partition_without_a_chain_begins_where_the_configuration_says() {
        assert_eq!(begun_at(None, false), Verdict::Begin(start(5)));
        let latest = judge(None, &log(5, 50), None, &store(), StartAt::Latest, false);
        assert_eq!(latest, Verdict::Begin(start(50)));
    }

    #[test]
    fn a_commit_without_our_metadata_is_nobodys() {
        for metadata in ["", "another program", "sluice"] {
            let commit = CommitFacts {
                offset: Offset(40),
                metadata: metadata.to_owned(),
            };
            assert_eq!(begun_at(Some(&commit), false), Verdict::Begin(start(5)));
        }
    }

    #[test]
    fn another_stores_commit_halts_until_adopted_and_then_begins_where_it_stood() {
        let commit = by("bb", 40);
        assert!(matches!(
            begun_at(Some(&commit), false),
            Verdict::Halt(Difference::OtherStore { .. })
        ));
        assert_eq!(begun_at(Some(&commit), true), Verdict::Begin(start(40)));
        // Also where this store has a chain of its own.
        let (start, end) = (start(0), end(20));
        let own = |adopt| {
            let chain = Some((&start, &end));
            judge(
                chain,
                &log(5, 50),
                Some(&commit),
                &store(),
                StartAt::Earliest,
                adopt,
            )
        };
        assert!(matches!(
            own(false),
            Verdict::Halt(Difference::OtherStore { .. })
        ));
        assert_eq!(own(true), Verdict::GoOn);
    }

    #[test]
    fn our_commit_without_our_chain_is_a_lost_directory() {
        let id = store().0;
        assert_eq!(
            begun_at(Some(&by(&id, 40)), false),
            Verdict::Halt(Difference::DirectoryLost { offset: Offset(40) })
        );
        assert_eq!(begun_at(Some(&by(&id, 40)), true), Verdict::Begin(start(5)));
        assert_eq!(begun_at(Some(&by(&id, 0)), false), Verdict::Begin(start(5)));
    }

    #[test]
    fn the_chain_decides_and_not_the_committed_offset() {
        let (start, end) = (start(0), end(20));
        for offset in [0, 20, 49] {
            let verdict = judge(
                Some((&start, &end)),
                &log(5, 50),
                Some(&by(&store().0, offset)),
                &store(),
                StartAt::Latest,
                false,
            );
            assert_eq!(verdict, Verdict::GoOn);
        }
    }

    #[test]
    fn a_topic_made_anew_or_a_shorter_log_halts() {
        let (start, end) = (start(0), end(20));
        let judged = |log: &LogFacts| {
            judge(
                Some((&start, &end)),
                log,
                None,
                &store(),
                StartAt::Earliest,
                false,
            )
        };
        assert_eq!(
            judged(&log(0, 19)),
            Verdict::Halt(Difference::LogTruncated {
                log_end: Offset(19),
                next: Offset(20)
            })
        );
        // Retention went past the chain: that is a gap to count, not a difference.
        assert_eq!(judged(&log(30, 30)), Verdict::GoOn);
        let mut other = log(0, 50);
        other.topic_id = "t2".to_owned();
        assert!(matches!(
            judged(&other),
            Verdict::Halt(Difference::OtherTopic { .. })
        ));
        other.topic_id = String::new();
        assert_eq!(judged(&other), Verdict::GoOn);
        other.cluster_id = "c2".to_owned();
        assert!(matches!(
            judged(&other),
            Verdict::Halt(Difference::OtherCluster { .. })
        ));
    }
}
