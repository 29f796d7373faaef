//! `verify --kafka`: what Kafka has, beside what the chains say, judged as a take-over would. Also
//! tells what no look at the files can: that a chain's end is gone, as the group has committed it.

use std::{collections::BTreeMap, fmt, path::Path, time::Duration};

use kafka_link::{Cluster, GroupConfig, KafkaError, Member};
use pipeline_core::{
    Offset, PartitionId,
    config::{Kafka, StartAt},
    lifecycle::exit,
    store::{
        ChainEnd, Store, StoreId,
        verify::{ChainReport, Report, Which},
    },
};

use crate::{
    service::new_cluster,
    takeover::{self, CommitFacts, LogFacts, Verdict, commit_metadata},
};

/// What is asked of Kafka ends within this, whatever each call takes.
const WITHIN: Duration = Duration::from_secs(30);

/// Kafka's side of one partition.
#[derive(Clone, Debug, Default)]
pub struct Side {
    /// Where the log begins and ends.
    pub log: Option<(Offset, Offset)>,
    pub commit: Option<CommitFacts>,
    /// What keeps a writer from going on, or what the chain should have and has not.
    pub difference: Option<String>,
    /// Why nothing is known of the log.
    pub error: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Comparison {
    pub topic: String,
    pub group: String,
    pub chains: BTreeMap<PartitionId, Side>,
    /// Partitions that this store has committed and has no chain of.
    pub without_chain: BTreeMap<PartitionId, Side>,
}

impl Comparison {
    pub fn agrees(&self) -> bool {
        self.sides()
            .all(|side| side.difference.is_none() && side.error.is_none())
    }

    pub fn word(&self) -> &'static str {
        match self.exit_code() {
            exit::OK => "agrees",
            exit::TRY_LATER => "not known of every partition",
            _ => "DIFFERS",
        }
    }

    pub fn exit_code(&self) -> u8 {
        if self.sides().any(|side| side.difference.is_some()) {
            exit::FAILED
        } else if self.agrees() {
            exit::OK
        } else {
            exit::TRY_LATER
        }
    }

    fn sides(&self) -> impl Iterator<Item = &Side> {
        self.chains.values().chain(self.without_chain.values())
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((start, end)) = self.log {
            write!(f, "log {start} to {end}, ")?;
        }
        match &self.commit {
            Some(commit) => write!(f, "committed {} ({})", commit.offset, commit.metadata)?,
            None => f.write_str("nothing committed")?,
        }
        match (&self.difference, &self.error) {
            (Some(difference), _) => write!(f, ": DIFFERS: {difference}"),
            (None, Some(error)) => write!(f, ": not known: {error}"),
            (None, None) => f.write_str(": agrees"),
        }
    }
}

/// Asks Kafka, after the chains have been read.
///
/// # Errors
/// Where Kafka does not answer, or another topic is asked for than the group of this configuration
/// reads.
pub fn compare(
    kafka: &Kafka,
    root: &Path,
    which: &Which,
    report: &Report,
) -> Result<Comparison, String> {
    if let Some(topic) = which.topic.as_ref().filter(|it| **it != kafka.topic) {
        return Err(format!(
            "nothing was compared: --topic is {topic}, and kafka.topic is {}",
            kafka.topic
        ));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let compared = runtime.block_on(async {
        tokio::time::timeout(WITHIN, ask(&new_cluster(kafka), kafka, root, which, report))
            .await
            .map_err(|_| format!("no answer within {} s", WITHIN.as_secs()))?
            .map_err(|error| error.to_string())
    });
    runtime.shutdown_background();
    compared
}

async fn ask(
    cluster: &Cluster,
    kafka: &Kafka,
    root: &Path,
    which: &Which,
    report: &Report,
) -> Result<Comparison, KafkaError> {
    let mut comparison = Comparison {
        topic: kafka.topic.clone(),
        group: kafka.group_id.clone(),
        chains: BTreeMap::new(),
        without_chain: BTreeMap::new(),
    };
    let topic = cluster.topic(&kafka.topic).await?;
    let of_topic = report.chains.iter().filter(|it| it.topic == kafka.topic);
    let chains: BTreeMap<PartitionId, &ChainReport> =
        of_topic.map(|chain| (chain.partition, chain)).collect();
    let of_log = topic.partitions.iter().map(|partition| partition.id);
    let mut partitions: Vec<PartitionId> = of_log
        .filter(|id| which.partition.is_none_or(|wanted| wanted == *id))
        .chain(chains.keys().copied())
        .collect();
    partitions.sort_unstable();
    partitions.dedup();
    // Only asks: it never joins, so the group does not notice.
    let group = GroupConfig {
        group_id: kafka.group_id.clone(),
        instance_id: None,
        topic: kafka.topic.clone(),
        session_timeout: WITHIN,
        rebalance_timeout: WITHIN,
    };
    let member = Member::new(cluster.clone(), group);
    let mut commits = member.committed(&partitions).await?;
    let starts = cluster.log_starts(&kafka.topic, &partitions).await;
    let ends = cluster.log_ends(&kafka.topic, &partitions).await;
    let mut starts: BTreeMap<_, _> = starts.into_iter().collect();
    let mut ends: BTreeMap<_, _> = ends.into_iter().collect();
    let store = Store::open_existing(root).ok().flatten();
    for partition in partitions {
        let commit = commits.remove(&partition).map(|commit| CommitFacts {
            offset: commit.offset,
            metadata: commit.metadata,
        });
        let log = match (starts.remove(&partition), ends.remove(&partition)) {
            (Some(Ok(start)), Some(Ok(end))) => Ok((start, end)),
            (Some(Err(error)), _) | (_, Some(Err(error))) => Err(error.to_string()),
            _ => Err("the answer leaves it out".to_owned()),
        };
        let facts = |(log_start, log_end)| LogFacts {
            cluster_id: topic.cluster_id.clone(),
            topic_id: topic.topic_id.clone(),
            log_start,
            log_end,
        };
        let chain = chains.get(&partition).copied();
        // Committed after the chain was read: it may have grown meanwhile.
        let grown = chain.and_then(|_| {
            let chain = store.as_ref()?.chain(&kafka.topic, partition);
            chain.newest().ok()?.map(|(next, _)| next)
        });
        let side = Side {
            difference: log
                .as_ref()
                .ok()
                .and_then(|log| differ(chain, grown, &facts(*log), commit.as_ref(), &report.store)),
            log: log.as_ref().ok().copied(),
            error: log.err(),
            commit,
        };
        if chain.is_some() {
            comparison.chains.insert(partition, side);
        } else if side.difference.is_some() {
            comparison.without_chain.insert(partition, side);
        }
    }
    Ok(comparison)
}

fn differ(
    chain: Option<&ChainReport>,
    grown: Option<Offset>,
    log: &LogFacts,
    commit: Option<&CommitFacts>,
    store: &StoreId,
) -> Option<String> {
    let begun = chain.and_then(|chain| Some((chain, chain.start.as_ref()?)));
    let end = begun.map(|(chain, start)| {
        let end = ChainEnd {
            next: chain.next,
            last: None,
            totals: chain.totals,
            last_message: None,
        };
        (start, end)
    });
    let of_chain = end.as_ref().map(|(start, end)| (*start, end));
    if let Verdict::Halt(difference) =
        takeover::judge(of_chain, log, commit, store, StartAt::Earliest, false)
    {
        return Some(difference.to_string());
    }
    let (_, end) = of_chain?;
    let next = end.next.max(grown.unwrap_or(end.next));
    let ours = |commit: &&CommitFacts| commit.metadata == commit_metadata(store);
    let committed = commit.filter(ours)?.offset;
    (committed > next).then(|| {
        format!(
            "this store committed {committed} and the chain ends at {next}: its end is missing, \
             or somebody has set the group's offset forward"
        )
    })
}

#[cfg(test)]
mod tests {
    use pipeline_core::store::{Start, Totals, chain::FORMAT};

    use super::*;

    #[test]
    fn only_what_the_chain_should_have_and_has_not_differs() {
        let store = StoreId("ab".repeat(16));
        let chain = ChainReport {
            topic: "logs".to_owned(),
            partition: PartitionId(0),
            start: Some(Start {
                format: FORMAT,
                cluster_id: "c".to_owned(),
                topic_id: "t".to_owned(),
                first_offset: Offset(5),
            }),
            first: Offset(5),
            next: Offset(20),
            segments: 1,
            bytes: 1,
            totals: Totals::default(),
            damage: Vec::new(),
        };
        let log = LogFacts {
            cluster_id: "c".to_owned(),
            topic_id: "t".to_owned(),
            log_start: Offset(0),
            log_end: Offset(100),
        };
        let by = |store: &StoreId, offset| {
            Some(CommitFacts {
                offset: Offset(offset),
                metadata: commit_metadata(store),
            })
        };
        let judge = |commit: Option<CommitFacts>, grown: i64| {
            differ(
                Some(&chain),
                Some(Offset(grown)),
                &log,
                commit.as_ref(),
                &store,
            )
        };
        // Behind: the writer died between link and commit. Ahead of what was read: it has grown.
        for (commit, grown) in [
            (None, 20),
            (by(&store, 7), 20),
            (by(&store, 20), 20),
            (by(&store, 40), 40),
        ] {
            assert_eq!(judge(commit, grown), None);
        }
        let ahead = judge(by(&store, 21), 20).expect("its end is missing");
        assert!(
            ahead.contains("committed 21") && ahead.contains("ends at 20"),
            "{ahead}"
        );
        let other = StoreId("cd".repeat(16));
        assert!(
            judge(by(&other, 7), 20)
                .expect("of another store")
                .contains(&other.0)
        );
        let short = LogFacts {
            log_end: Offset(19),
            ..log.clone()
        };
        let truncated = differ(Some(&chain), None, &short, None, &store);
        assert!(truncated.expect("truncated").contains("ends at 19"));
        let lost = differ(None, None, &log, by(&store, 3).as_ref(), &store);
        assert!(lost.expect("lost").contains("directory is lost"));
        assert_eq!(differ(None, None, &log, None, &store), None);
    }
}
