//! Taking partitions: their chains read, compared with log and last commit, begun where there is
//! none.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use kafka_link::{
    Cluster, ErrorKind, FetchFrom, FetchOptions, Fetched, KafkaError, Member, TopicId, TopicInfo,
};
use metrics::histogram;
use pipeline_core::{
    PartitionId,
    store::{ChainFault, LastMessage, Settled, message_hash},
    telemetry::catalog,
};

use super::{Event, Events, log_bounds, on_disk};
use crate::{
    dead_letters::Place,
    load::{self, Loaded},
    partition::{LoadOutcome, Memory},
    shared::Held,
    takeover::{CommitFacts, Difference, HaltReason, LogFacts, Verdict, judge, same_topic},
};

/// Older temporary files of a chain's directory belong to nobody alive.
const TEMPORARY_AGE: Duration = Duration::from_secs(3_600);

/// Reads the chains of these partitions and compares each with its log and its last commit.
pub async fn load(cluster: Cluster, member: Arc<Member>, held: Vec<Held>, events: Events) {
    let Some(shared) = held.first().map(|held| held.shared.clone()) else {
        return;
    };
    let partitions: Vec<PartitionId> = held.iter().map(Held::partition).collect();
    // The topic may have been made anew since it was asked for.
    cluster.forget(&shared.topic);
    let facts = async {
        let topic = cluster.topic(&shared.topic).await?;
        let commits = member.committed(&partitions).await?;
        Ok::<_, KafkaError>((topic, commits))
    };
    let (topic, mut commits) = match facts.await {
        Ok(facts) => facts,
        Err(error) => {
            for partition in partitions {
                let reason = Some(error.to_string());
                let event = Event::Loaded {
                    partition,
                    outcome: LoadOutcome::Retry,
                    reason,
                    halt: None,
                    topic_id: None,
                };
                let _ = events.send(event).await;
            }
            return;
        }
    };
    let mut loads = tokio::task::JoinSet::new();
    for held in held {
        let commit = commits.remove(&held.partition()).map(|commit| CommitFacts {
            offset: commit.offset,
            metadata: commit.metadata,
        });
        let (cluster, topic, events) = (cluster.clone(), topic.clone(), events.clone());
        loads.spawn(async move {
            let partition = held.partition();
            let (outcome, reason, halt) = match load_one(&cluster, &topic, &held, commit).await {
                Ok(memory) => (LoadOutcome::Ready(Box::new(memory)), None, None),
                Err(NotReady::Retry(reason)) => (LoadOutcome::Retry, Some(reason), None),
                Err(NotReady::Halt(halt, reason)) => (LoadOutcome::Halt, Some(reason), Some(halt)),
            };
            let event = Event::Loaded {
                partition,
                outcome,
                reason,
                halt,
                topic_id: Some(topic.topic_id.clone()),
            };
            let _ = events.send(event).await;
        });
    }
    while let Some(ended) = loads.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

enum NotReady {
    Retry(String),
    Halt(HaltReason, String),
}

impl From<KafkaError> for NotReady {
    fn from(error: KafkaError) -> Self {
        Self::Retry(error.to_string())
    }
}

impl From<ChainFault> for NotReady {
    fn from(fault: ChainFault) -> Self {
        match fault {
            ChainFault::Io(_) => Self::Retry(fault.to_string()),
            ChainFault::Damaged { .. } => Self::Halt(HaltReason::Damaged, what_to_do(&fault)),
            ChainFault::Missing { .. } => Self::Halt(HaltReason::Missing, what_to_do(&fault)),
        }
    }
}

impl From<Difference> for NotReady {
    fn from(difference: Difference) -> Self {
        Self::Halt(difference.reason(), difference.to_string())
    }
}

fn what_to_do(fault: &ChainFault) -> String {
    format!(
        "{fault}; nothing is stored behind it until the file is restored, or, with all writers \
         stopped, `kafka-consumer-writer repair` has set the chain's end from there on aside: soon, \
         as it must be read from Kafka once more"
    )
}

async fn load_one(
    cluster: &Cluster,
    topic: &TopicInfo,
    held: &Held,
    commit: Option<CommitFacts>,
) -> Result<Memory, NotReady> {
    let (shared, partition) = (&held.shared, held.partition());
    let batches_max = shared.dedup_max_batches;
    let started = Instant::now();
    let doubted = shared.scrub.lock().doubted(partition);
    let reading = on_disk(held, move |held| {
        tidy(held);
        let loaded = load::load_doubting(&held.chain, batches_max, doubted)?;
        if loaded.is_some() {
            // Its last name may be that of a process killed before its sync: no claim before.
            held.chain.sync()?;
        }
        Ok::<_, ChainFault>(loaded)
    });
    let loaded = said_when_late(held, reading).await?;
    histogram!(catalog::CONSUMER_TAKEOVER_DURATION).record(started.elapsed().as_secs_f64());
    let behind = loaded.as_ref().map_or(0, |loaded| loaded.behind);
    let now = Instant::now();
    shared.snapshots.lock().taken(partition, behind, now);
    {
        let mut scrub = shared.scrub.lock();
        scrub.taken(partition, now);
        if let Some(name) = doubted {
            scrub.cleared(partition, name);
        }
    }
    let newest = loaded.as_ref().map(|loaded| {
        let end = &loaded.memory.end;
        (end.next, end.totals)
    });
    let judged = go_on_with(cluster, topic, held, commit, loaded).await;
    if let (Err(NotReady::Halt(reason, _)), Some(newest)) = (&judged, newest) {
        let books = &shared.books;
        books.found_halted(partition, newest, reason.is_of_other_log());
    }
    judged
}

/// Whether log and commit are those of the chain, and it may be gone on with.
async fn go_on_with(
    cluster: &Cluster,
    topic: &TopicInfo,
    held: &Held,
    commit: Option<CommitFacts>,
    loaded: Option<Loaded>,
) -> Result<Memory, NotReady> {
    let (shared, partition) = (&held.shared, held.partition());
    if let Some(loaded) = &loaded {
        // Before its log is asked for: a topic made anew may have no such partition.
        same_topic(&loaded.start, &topic.cluster_id, &topic.topic_id)?;
        let same_id = !topic.topic_id.is_empty() && loaded.start.topic_id == topic.topic_id;
        // Of the same topic it may be one that this broker does not know of yet.
        if !same_id && !topic.partitions.iter().any(|known| known.id == partition) {
            let partitions = topic.partitions.len();
            return Err(Difference::PartitionGone { partitions }.into());
        }
    }
    // After the chain: a writer thought dead may still have made it longer.
    let (log_start, log_end) = log_bounds(cluster, &shared.topic, partition).await?;
    shared.books.log_end(partition, log_end);
    let facts = LogFacts {
        cluster_id: topic.cluster_id.clone(),
        topic_id: topic.topic_id.clone(),
        log_start,
        log_end,
    };
    let verdict = judge(
        loaded
            .as_ref()
            .map(|loaded| (&loaded.start, &loaded.memory.end)),
        &facts,
        commit.as_ref(),
        shared.store.id(),
        shared.start_at,
        shared.may_adopt(partition),
    );
    match verdict {
        Verdict::Halt(difference) => Err(difference.into()),
        Verdict::Begin(start) => {
            let wanted = start.clone();
            let stands = on_disk(held, move |held| held.chain.put_start(&wanted)).await?;
            if stands != start {
                return Err(NotReady::Retry("another writer began the chain".to_owned()));
            }
            tracing::info!(
                topic = shared.topic,
                %partition,
                first = %start.first_offset,
                "began a chain"
            );
            with_put_aside(held, topic, load::begun(&start, shared.dedup_max_batches)).await
        }
        Verdict::GoOn => {
            // `GoOn` is said of a chain only.
            let Some(Loaded { memory, .. }) = loaded else {
                return Err(NotReady::Retry("the chain went away".to_owned()));
            };
            if let Some(last) = memory.end.last_message
                && last.offset >= log_start
                && !same_message(cluster, &shared.topic, topic.id, partition, &last).await?
            {
                return Err(Difference::OtherMessage {
                    offset: last.offset,
                }
                .into());
            }
            with_put_aside(held, topic, memory).await
        }
    }
}

/// With what the consumer DLQ has already of what is to be read.
async fn with_put_aside(
    held: &Held,
    topic: &TopicInfo,
    mut memory: Memory,
) -> Result<Memory, NotReady> {
    let place = Place {
        topic_id: topic.topic_id.clone(),
        ..Place::clone(&held.place)
    };
    let next = memory.end.next;
    let asked = on_disk(held, move |held| {
        held.shared.dead_letters.put_aside_from(&place, next)
    });
    memory.aside = asked
        .await
        .map_err(|error| NotReady::Retry(format!("consumer DLQ: {error}")))?;
    if let (Some(first), Some(last)) = (memory.aside.first(), memory.aside.last()) {
        tracing::info!(
            topic = held.place.topic,
            partition = %held.partition(),
            %first,
            %last,
            messages = memory.aside.len(),
            "reads messages again that were put aside before: none of them is stored"
        );
    }
    Ok(memory)
}

/// A disk that hangs gives no error: this says so, and waits on.
async fn said_when_late<T>(held: &Held, reading: impl Future<Output = T>) -> T {
    tokio::pin!(reading);
    let patience = held.shared.settings.persist_timeout;
    if let Ok(read) = tokio::time::timeout(patience, &mut reading).await {
        return read;
    }
    tracing::error!(
        topic = held.place.topic,
        partition = %held.partition(),
        "the chain could not be read within {patience:?}: the disk hangs or is slow; waiting"
    );
    reading.await
}

/// What those who died have left. One that is merely slow finds its file gone and looks at the chain.
/// That it fails is for people: the chain may be whole all the same.
fn tidy(held: &Held) {
    let now = SystemTime::now();
    // A step that takes longer is late in any case.
    let taken = held
        .chain
        .settle_taken(now - held.shared.settings.persist_timeout);
    let stale = held.chain.remove_stale_temporaries(now - TEMPORARY_AGE);
    let (topic, partition) = (&held.place.topic, held.partition());
    match taken {
        Ok(settled) if settled == Settled::default() => {}
        Ok(Settled {
            put_back,
            removed,
            left,
        }) => tracing::warn!(
            topic, %partition, put_back, removed, left,
            "somebody died while taking files back: those of the chain are under their names again"
        ),
        Err(error) => tracing::warn!(topic, %partition, %error, "failed to put taken files back"),
    }
    if let Err(error) = stale {
        tracing::warn!(topic, %partition, %error, "failed to remove what dead writers have left");
    }
}

/// Whether the log has this message at its offset. Where the log has nothing there (retention,
/// compaction) there is nothing to compare; an answer that does not reach so far says nothing (a
/// broker that holds a client back by quota answers without records) and is asked for again.
async fn same_message(
    cluster: &Cluster,
    topic: &str,
    topic_id: Option<TopicId>,
    partition: PartitionId,
    last: &LastMessage,
) -> Result<bool, KafkaError> {
    let from = FetchFrom {
        topic_id,
        partition,
        offset: last.offset,
    };
    let options = FetchOptions {
        wait_max: Duration::from_millis(100),
        bytes_min: 1,
        bytes_max: 1,
        partition_bytes_max: 1,
    };
    for (_, result) in cluster.fetch(topic, &[from], options).await {
        let fetched = match result {
            Err(error) if error.kind == ErrorKind::OffsetOutOfRange => return Ok(true),
            fetched => fetched?,
        };
        if let Some(same) = compare(&fetched, last) {
            return Ok(same);
        }
    }
    Err(KafkaError {
        kind: ErrorKind::Retry,
        code: None,
        message: format!(
            "the log gives nothing at {}, where the chain's last message is, to compare it with",
            last.offset
        ),
    })
}

/// `None`: it does not reach so far.
fn compare(fetched: &Fetched, last: &LastMessage) -> Option<bool> {
    let messages = fetched.blocks.iter().flat_map(|block| {
        let messages = block.messages.iter();
        messages.map(move |message| (block, message))
    });
    let mut there = messages.filter(|(_, message)| message.offset == last.offset);
    if let Some((block, message)) = there.next() {
        let (value, header) = (block.value(message), block.header(message));
        return Some(message_hash(message.timestamp_ms, value, header) == last.hash);
    }
    (fetched.next > last.offset).then_some(true)
}

#[cfg(test)]
mod tests {
    use kafka_link::{HeaderSlot, Message, MessageBlock};
    use pipeline_core::Offset;

    use super::*;

    fn fetched(next: i64, offsets: &[i64]) -> Fetched {
        let message = |offset: &i64| Message {
            offset: Offset(*offset),
            timestamp_ms: 5,
            value: Some((0, 1)),
            header: HeaderSlot::Absent,
        };
        let block = MessageBlock {
            bytes: (&b"x"[..]).into(),
            messages: offsets.iter().map(message).collect(),
            first: Offset(0),
            next: Offset(next),
        };
        Fetched {
            partition: PartitionId(0),
            blocks: vec![block],
            log_start: Offset(0),
            high_watermark: Offset(100),
            next: Offset(next),
        }
    }

    #[test]
    fn the_last_message_is_compared_and_an_answer_without_it_is_no_proof() {
        let last = |value: &[u8]| LastMessage {
            offset: Offset(7),
            hash: message_hash(5, Some(value), None),
        };
        let there = fetched(9, &[6, 7, 8]);
        assert_eq!(compare(&there, &last(b"x")), Some(true));
        assert_eq!(compare(&there, &last(b"y")), Some(false));
        // Compaction has taken it.
        assert_eq!(compare(&fetched(9, &[6, 8]), &last(b"y")), Some(true));
        let mut nothing = fetched(7, &[]);
        assert_eq!(compare(&nothing, &last(b"y")), None);
        nothing.blocks.clear();
        assert_eq!(compare(&nothing, &last(b"y")), None);
    }
}
