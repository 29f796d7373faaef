//! Where a batch ends: its client is told, or it goes to the dead letter queue first.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio_util::task::TaskTracker;

use super::{link::ViewReceiver, send::Settled};
use crate::{
    batch::{Answer, Batch, Kept},
    dlq::{Dlq, Entry, Head, Reason},
    queue::Queue,
    telemetry,
};

/// Before a batch whose client has its answer already is tried again.
const PAUSE_WITHOUT_PLACE: Duration = Duration::from_secs(1);

/// Cheap to clone.
#[derive(Clone)]
pub struct Settler {
    pub dlq: Dlq,
    pub queue: Arc<Queue>,
    pub view: ViewReceiver,
    pub topic: Arc<str>,
    /// What the drain waits for.
    pub tasks: TaskTracker,
    /// How long a batch that came back to the queue may be tried.
    pub attempts_max: Duration,
}

impl Settler {
    /// Never blocks: what has to be made durable is so in a task of its own.
    pub fn settle(&self, mut batch: Batch, settled: Settled) {
        match settled {
            Settled::Acknowledged => kept(&mut batch, Kept::Kafka),
            Settled::Left(reason) => {
                let settler = self.clone();
                self.tasks
                    .spawn(async move { settler.store(batch, reason).await });
            }
        }
    }

    async fn store(self, mut batch: Batch, reason: Reason) {
        let entry = Entry {
            head: self.head(&batch, reason),
            records: Arc::clone(&batch.records),
            first: batch.progress.acknowledged,
        };
        let refusal = match self.dlq.store(entry).await {
            Ok(()) => return kept(&mut batch, Kept::Dlq),
            Err(refusal) => refusal,
        };
        if batch.answer.is_some() {
            tracing::warn!(
                batch = %batch.id,
                reason = reason.as_str(),
                "a batch can be kept nowhere: {refusal}"
            );
            let may_be_kept = refusal.may_be_kept || batch.progress.may_have_been_sent;
            batch.answer(Answer::Refused {
                may_be_kept,
                why: refusal.why,
            });
            return;
        }
        // Its client was told 202 when it was queued: it stays until something takes it, and the
        // queue fills up meanwhile.
        tokio::time::sleep(PAUSE_WITHOUT_PLACE).await;
        batch.deadline = Instant::now() + self.attempts_max;
        if let Err(batch) = self.queue.put_back(batch) {
            tracing::error!(
                batch = %batch.id,
                records = batch.len() - batch.progress.acknowledged,
                "lost records that were answered with `\"kept\":\"queue\"`: neither kafka nor the \
                 dead letter queue took them before the process had to end: {refusal}"
            );
        }
    }

    fn head(&self, batch: &Batch, reason: Reason) -> Head {
        let view = self.view.borrow().clone();
        let known_end = || view.as_ref()?.end(batch.progress.partition?);
        Head {
            reason,
            may_have_been_sent: batch.progress.may_have_been_sent,
            partition: batch.progress.partition,
            since: batch.progress.since.or_else(known_end),
            batch: batch.id,
            received_ms: batch.received_ms,
            stored_ms: now_ms(),
            cluster_id: view
                .as_ref()
                .map_or_else(|| "".into(), |view| Arc::clone(&view.cluster_id)),
            topic: Arc::clone(&self.topic),
        }
    }
}

fn kept(batch: &mut Batch, kept: Kept) {
    if let Some(waiting) = &batch.answer {
        // The books count what a 202 says: not what nobody waits for any more.
        if !waiting.is_closed() {
            telemetry::records_accepted(batch.len(), kept);
        }
        batch.answer(Answer::Kept(kept));
    }
}

/// Milliseconds since 1970.
#[must_use]
pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}
