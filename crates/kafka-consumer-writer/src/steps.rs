//! What a session has others do, each as a task that ends in one [`Event`]: calls to Kafka, and
//! work for blocking threads. A step that nobody waits for any more still ends, and its event is
//! dropped with its session.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use kafka_link::{
    Beat, Cluster, Committed, ErrorKind, FetchFrom, FetchOptions, Fetched, KafkaError, Member,
    TopicInfo,
};
use pipeline_core::{
    Offset, PartitionId,
    store::{ChainFault, LastMessage, message_hash},
};
use tokio::sync::mpsc;

use crate::{
    batcher::Batch,
    budget::Reserved,
    load::{self, Loaded},
    partition::{CommitDue, LoadOutcome, SaveJob},
    save::{self, SaveReport},
    shared::{Held, Shared},
    takeover::{CommitFacts, Difference, LogFacts, Verdict, commit_metadata, judge},
};

/// Older temporary files of a chain's directory belong to nobody alive.
const TEMPORARY_AGE: Duration = Duration::from_secs(3_600);

/// What a session hears.
pub enum Event {
    Loaded {
        partition: PartitionId,
        outcome: LoadOutcome,
        /// Why it is not ready, for people.
        reason: Option<String>,
    },
    /// A save has left the queue: from now on it may be late.
    Saving {
        partition: PartitionId,
        serial: u64,
    },
    Saved {
        partition: PartitionId,
        serial: u64,
        report: Box<SaveReport>,
        batch: Arc<Batch>,
        took: Duration,
    },
    Fetched {
        asked: Vec<FetchFrom>,
        results: Vec<(PartitionId, Result<Fetched, KafkaError>)>,
    },
    /// First offset and end of a log that did not have the offset asked for.
    Bounds {
        partition: PartitionId,
        from: Offset,
        bounds: Result<(Offset, Offset), KafkaError>,
    },
    Committed(Vec<(PartitionId, CommitDue, Result<(), KafkaError>)>),
    Beat(Result<Beat, KafkaError>),
    LogEnds(Vec<(PartitionId, Result<Offset, KafkaError>)>),
}

pub type Events = mpsc::Sender<Event>;

/// Heartbeats until the member is out.
pub async fn beat(member: Arc<Member>, every: Duration, events: Events) {
    let mut clock = tokio::time::interval(every);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        let beat = member.heartbeat().await;
        let out = matches!(&beat, Err(error) if matches!(error.kind, ErrorKind::Lost | ErrorKind::Rejoin));
        if events.send(Event::Beat(beat)).await.is_err() || out {
            return;
        }
    }
}

pub async fn fetch(
    cluster: Cluster,
    shared: Arc<Shared>,
    asked: Vec<FetchFrom>,
    options: FetchOptions,
    // Held until what came has been counted for itself.
    reserved: Reserved,
    events: Events,
) {
    let results = cluster.fetch(&shared.topic, &asked, options).await;
    let _ = events.send(Event::Fetched { asked, results }).await;
    drop(reserved);
}

pub async fn bounds(
    cluster: Cluster,
    topic: String,
    partition: PartitionId,
    from: Offset,
    events: Events,
) {
    let bounds = log_bounds(&cluster, &topic, partition).await;
    let event = Event::Bounds {
        partition,
        from,
        bounds,
    };
    let _ = events.send(event).await;
}

pub async fn log_ends(
    cluster: Cluster,
    topic: String,
    partitions: Vec<PartitionId>,
    events: Events,
) {
    let ends = cluster.log_ends(&topic, &partitions).await;
    let _ = events.send(Event::LogEnds(ends)).await;
}

pub async fn commit(
    member: Arc<Member>,
    shared: Arc<Shared>,
    due: Vec<(PartitionId, CommitDue)>,
    events: Events,
) {
    let metadata = commit_metadata(shared.store.id());
    let offsets: Vec<(PartitionId, Committed)> = due
        .iter()
        .map(|(partition, due)| {
            let committed = Committed {
                offset: due.offset,
                metadata: metadata.clone(),
            };
            (*partition, committed)
        })
        .collect();
    let mut results = member.commit(&offsets).await;
    let answered = due
        .into_iter()
        .map(|(partition, due)| {
            let at = results.iter().position(|(found, _)| *found == partition);
            let result = at.map_or_else(
                || Err(missing_answer("commit", partition)),
                |at| results.swap_remove(at).1,
            );
            (partition, due, result)
        })
        .collect();
    let _ = events.send(Event::Committed(answered)).await;
}

/// One save: the segment made on one of few threads, then published.
pub async fn save(held: Held, mut job: Box<SaveJob>, events: Events) {
    let (serial, batch) = (job.serial, job.batch.clone());
    let making = acquire(&held.shared.making).await;
    let started = Instant::now();
    let partition = held.partition();
    let _ = events.send(Event::Saving { partition, serial }).await;
    let context = held.clone();
    let prepared = blocking(move || {
        let prepared = save::prepare(&mut job, &context.save_context());
        drop(making);
        (job, prepared)
    })
    .await;
    let report = match prepared {
        (job, Err(trouble)) => save::failed(job, trouble),
        (job, Ok(())) => {
            let disk = acquire(&held.shared.disk).await;
            let context = held.clone();
            blocking(move || {
                let report = save::publish(job, &context.save_context());
                drop(disk);
                report
            })
            .await
        }
    };
    let event = Event::Saved {
        partition,
        serial,
        report: Box::new(report),
        batch,
        took: started.elapsed(),
    };
    let _ = events.send(event).await;
}

/// A copy of a batch whose save fails, for people; best effort.
pub async fn copy_unsaved(held: Held, batch: Arc<Batch>, detail: String) {
    blocking(move || {
        let copied = held
            .shared
            .dead_letters
            .copy_unsaved(&held.place, &batch, &detail);
        match copied {
            Ok(Some(path)) => {
                tracing::warn!(path = %path.display(), "kept a copy of a failed save");
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "failed to keep a copy of a failed save");
            }
        }
    })
    .await;
}

/// Removes copies that the chain has passed.
pub async fn remove_copies(held: Held, next: Offset) {
    blocking(move || {
        let removed = held.shared.dead_letters.remove_passed_copies(
            &held.place.topic,
            held.partition(),
            next,
        );
        if let Err(error) = removed {
            tracing::warn!(%error, "failed to remove copies of failed saves");
        }
    })
    .await;
}

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
            let (outcome, reason) = match load_one(&cluster, &topic, &held, commit).await {
                Ok(memory) => (LoadOutcome::Ready(Box::new(memory)), None),
                Err(NotReady::Retry(reason)) => (LoadOutcome::Retry, Some(reason)),
                Err(NotReady::Halt(reason)) => (LoadOutcome::Halt, Some(reason)),
            };
            let event = Event::Loaded {
                partition,
                outcome,
                reason,
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
    Halt(String),
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
            ChainFault::Damaged { .. } | ChainFault::Missing { .. } => {
                Self::Halt(fault.to_string())
            }
        }
    }
}

impl From<Difference> for NotReady {
    fn from(difference: Difference) -> Self {
        Self::Halt(difference.to_string())
    }
}

async fn load_one(
    cluster: &Cluster,
    topic: &TopicInfo,
    held: &Held,
    commit: Option<CommitFacts>,
) -> Result<crate::partition::Memory, NotReady> {
    let (shared, partition) = (&held.shared, held.partition());
    let batches_max = shared.dedup_max_batches;
    let loaded = on_disk(held, move |held| load::load(&held.chain, batches_max)).await?;
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
            Ok(load::begun(&start, batches_max))
        }
        Verdict::GoOn => {
            // `GoOn` is said of a chain only.
            let Some(Loaded { memory, .. }) = loaded else {
                return Err(NotReady::Retry("the chain went away".to_owned()));
            };
            remove_stale_temporaries(held).await;
            if let Some(last) = memory.end.last_message
                && last.offset >= log_start
                && !same_message(cluster, &shared.topic, partition, &last).await?
            {
                return Err(Difference::OtherMessage {
                    offset: last.offset,
                }
                .into());
            }
            Ok(memory)
        }
    }
}

/// What writers that died have left. One that is merely slow finds its file gone and looks at the
/// chain.
async fn remove_stale_temporaries(held: &Held) {
    let before = SystemTime::now() - TEMPORARY_AGE;
    let removed = on_disk(held, move |held| {
        Ok(held.chain.remove_stale_temporaries(before)?)
    });
    if let Err(error) = removed.await {
        tracing::warn!(%error, "failed to remove what dead writers have left");
    }
}

/// Whether the log has this message at its offset. Where the log has nothing there (retention,
/// compaction) there is nothing to compare.
async fn same_message(
    cluster: &Cluster,
    topic: &str,
    partition: PartitionId,
    last: &LastMessage,
) -> Result<bool, KafkaError> {
    let from = FetchFrom {
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
        for block in &fetched.blocks {
            for message in &block.messages {
                if message.offset == last.offset {
                    let hash = message_hash(
                        message.timestamp_ms,
                        block.value(message),
                        block.header(message),
                    );
                    return Ok(hash == last.hash);
                }
            }
        }
    }
    Ok(true)
}

async fn log_bounds(
    cluster: &Cluster,
    topic: &str,
    partition: PartitionId,
) -> Result<(Offset, Offset), KafkaError> {
    let only = [partition];
    let (starts, ends) = tokio::join!(
        cluster.log_starts(topic, &only),
        cluster.log_ends(topic, &only)
    );
    let one = |mut results: Vec<(PartitionId, Result<Offset, KafkaError>)>| {
        results
            .pop()
            .map_or_else(|| Err(missing_answer("offsets", partition)), |one| one.1)
    };
    Ok((one(starts)?, one(ends)?))
}

async fn on_disk<T: Send + 'static>(
    held: &Held,
    work: impl FnOnce(&Held) -> Result<T, ChainFault> + Send + 'static,
) -> Result<T, ChainFault> {
    let disk = acquire(&held.shared.disk).await;
    let held = held.clone();
    blocking(move || {
        let result = work(&held);
        drop(disk);
        result
    })
    .await
}

async fn acquire(semaphore: &Arc<tokio::sync::Semaphore>) -> tokio::sync::OwnedSemaphorePermit {
    semaphore
        .clone()
        .acquire_owned()
        .await
        .expect("nobody closes the semaphore")
}

/// A panic over there is a panic here: it is a bug, and must not look like a slow disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime ends: nobody waits for this any more.
        Err(_) => std::future::pending().await,
    }
}

fn missing_answer(call: &str, partition: PartitionId) -> KafkaError {
    KafkaError {
        kind: ErrorKind::Retry,
        code: None,
        message: format!("the answer to {call} does not hold partition {partition}"),
    }
}
