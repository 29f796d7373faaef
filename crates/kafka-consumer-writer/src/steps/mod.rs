//! What a session has others do, each as a task that ends in one [`Event`]: calls to Kafka, and
//! work for blocking threads. A step that nobody waits for any more still ends, and its event is
//! dropped with its session.

mod take;

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use kafka_link::{
    Beat, Cluster, Committed, ErrorKind, FetchFrom, FetchOptions, Fetched, KafkaError, Member,
};
use metrics::counter;
use pipeline_core::{Offset, PartitionId, fsx, telemetry::catalog};
use tokio::sync::mpsc;

pub use take::load;

use crate::{
    batcher::Batch,
    budget::Reserved,
    partition::{CommitDue, LoadOutcome, SaveJob},
    save::{self, SaveReport},
    session::Turns,
    shared::{Held, Shared},
    takeover::{HaltReason, commit_metadata},
};

/// What a session hears.
pub enum Event {
    Loaded {
        partition: PartitionId,
        outcome: LoadOutcome,
        /// Why it is not ready, for people.
        reason: Option<String>,
        /// Where it halts.
        halt: Option<HaltReason>,
        /// Of the topic that was judged, if one was.
        topic_id: Option<String>,
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
        /// Held until what came has been counted for itself.
        reserved: Reserved,
    },
    /// First offset and end of a log that did not have the offset asked for.
    Bounds {
        partition: PartitionId,
        from: Offset,
        bounds: Result<(Offset, Offset), KafkaError>,
    },
    Committed(Vec<(PartitionId, CommitDue, Result<(), KafkaError>)>),
    Beat(Result<Beat, KafkaError>),
    /// The session's loop had not turned for too long: the member has left the group.
    LeftStuck,
}

pub type Events = mpsc::Sender<Event>;

/// Heartbeats until the member is out, or the session they speak for stands still.
pub async fn beat(member: Arc<Member>, every: Duration, turns: Turns, events: Events) {
    let mut clock = tokio::time::interval(every);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        if turns.stuck(Instant::now()) {
            tracing::error!("this member's session stands still: leaving the group");
            counter!(catalog::CONSUMER_STALLS).increment(1);
            member.pulse().give_way().await;
            let _ = events.send(Event::LeftStuck).await;
            return;
        }
        let beat = member.heartbeat().await;
        let out = matches!(&beat, Err(error) if matches!(error.kind, ErrorKind::Lost | ErrorKind::Fenced | ErrorKind::Rejoin));
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
    reserved: Reserved,
    events: Events,
) {
    let results = cluster.fetch(&shared.topic, &asked, options).await;
    let event = Event::Fetched {
        asked,
        results,
        reserved,
    };
    let _ = events.send(event).await;
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
    fsx::before("commit");
    let mut results = member.commit(&offsets).await;
    fsx::after("commit");
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

/// One save: the segment made on one of few threads, what it sets aside made durable, then
/// published. Each step waits for its own turn only, so that a disk that hangs holds up no more
/// than needs it.
pub async fn save(held: Held, mut job: Box<SaveJob>, events: Events) {
    let (serial, batch) = (job.serial, job.batch.clone());
    let making = acquire(&held.shared.making).await;
    let started = Instant::now();
    let partition = held.partition();
    let _ = events.send(Event::Saving { partition, serial }).await;
    let context = held.clone();
    let mut job = blocking(move || {
        fsx::before("prepare");
        save::prepare(&mut job, &context.save_context());
        fsx::after("prepare");
        if job.reserved.is_none()
            && let Some(encoded) = &job.encoded
        {
            let bytes = encoded.bytes.len() as u64;
            job.reserved = Some(context.shared.budget.take(bytes));
        }
        drop(making);
        job
    })
    .await;
    let mut kept = Ok(());
    if !job.aside.is_empty() {
        let aside = acquire(&held.shared.aside).await;
        let context = held.clone();
        (job, kept) = blocking(move || {
            let kept = save::keep_aside(&mut job, &context.save_context());
            drop(aside);
            (job, kept)
        })
        .await;
    }
    let report = match kept {
        Err(trouble) => save::failed(job, trouble),
        Ok(()) => {
            let publish = move |held: &Held| {
                fsx::before("publish");
                let report = save::publish(job, &held.save_context());
                fsx::after("publish");
                report
            };
            on_disk(&held, publish).await
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

/// A copy of a batch whose save fails, for people; best effort, as long as it is not saved.
pub async fn copy_unsaved(held: Held, batch: Weak<Batch>, detail: String) {
    let permit = acquire(&held.shared.copies).await;
    let Some(batch) = batch.upgrade() else { return };
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
        drop(permit);
    })
    .await;
}

/// Removes copies that the chain has passed.
pub async fn remove_copies(held: Held, next: Offset) {
    let permit = acquire(&held.shared.copies).await;
    blocking(move || {
        let dead_letters = &held.shared.dead_letters;
        let removed = dead_letters.remove_passed_copies(&held.place, next);
        if let Err(error) = removed {
            tracing::warn!(%error, "failed to remove copies of failed saves");
        }
        drop(permit);
    })
    .await;
}

/// Works on a partition's directory, once what this process has begun there has ended.
pub(crate) async fn on_disk<T: Send + 'static>(
    held: &Held,
    work: impl FnOnce(&Held) -> T + Send + 'static,
) -> T {
    let lane = held.lane.clone().lock_owned().await;
    let disk = acquire(&held.shared.disk).await;
    let held = held.clone();
    blocking(move || {
        let result = work(&held);
        drop((disk, lane));
        result
    })
    .await
}

/// Where the log of a partition begins and ends.
pub(crate) async fn log_bounds(
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

async fn acquire(semaphore: &Arc<tokio::sync::Semaphore>) -> tokio::sync::OwnedSemaphorePermit {
    semaphore
        .clone()
        .acquire_owned()
        .await
        .expect("nobody closes the semaphore")
}

/// A panic over there is a panic here: it is a bug, and must not look like a slow disk.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
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
