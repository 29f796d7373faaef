//! Where a batch ends: its client is told, or it goes to the dead letter queue first.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio_util::task::TaskTracker;

use super::{
    link::ViewReceiver,
    send::{Sender, Settled},
};
use crate::{
    batch::{Answer, Batch, Kept},
    dlq::{Dlq, Entry, Head, Reason, Refusal, entries},
    queue::Queue,
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
    /// For what the closed queue does not take back.
    pub sender: Sender,
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
        if reason == Reason::TooLarge && batch.len() - batch.progress.acknowledged > 1 {
            match self.set_aside_first(&mut batch).await {
                Ok(()) => match self.queue.put_back(batch) {
                    Ok(()) => return,
                    Err(back) => batch = back,
                },
                Err(refusal) => return self.refused(batch, reason, refusal).await,
            }
        }
        match self.dlq.store(self.entries(&batch, reason)).await {
            Ok(()) => {
                let reason = reason.as_str();
                tracing::debug!(batch = %batch.id, reason, "kept in the dead letter queue");
                kept(&mut batch, Kept::Dlq);
            }
            Err(refusal) => self.refused(batch, reason, refusal).await,
        }
    }

    /// What is too large is the first that is left. It gets an entry of its own: its neighbours
    /// would have to stay with it.
    async fn set_aside_first(&self, batch: &mut Batch) -> Result<(), Refusal> {
        let head = self.head(batch, Reason::TooLarge);
        let alone = Arc::new(batch.alone(batch.progress.acknowledged));
        self.dlq.store(entries(&head, &alone, 0)).await?;
        batch.progress.acknowledged += 1;
        if let Some(waiting) = &mut batch.answer {
            waiting.partly_dlq = true;
        }
        Ok(())
    }

    async fn refused(self, mut batch: Batch, reason: Reason, refusal: Refusal) {
        if let Some(waiting) = &batch.answer {
            tracing::warn!(
                batch = %batch.id,
                reason = reason.as_str(),
                "a batch can be kept nowhere: {refusal}"
            );
            let progress = &batch.progress;
            let may_be_kept =
                refusal.may_be_kept || progress.may_have_been_sent || waiting.partly_dlq;
            batch.answer(Answer::Refused {
                may_be_kept,
                why: refusal.why,
            });
            return;
        }
        // Its client was told 202 when it was queued: it stays until something takes it, and the
        // queue fills up meanwhile.
        self.pause().await;
        if refusal.may_be_kept && !self.taken_back().await {
            return lost(&batch, &refusal);
        }
        batch.deadline = Instant::now() + self.attempts_max;
        if let Err(batch) = self.queue.put_back(batch) {
            self.insist(batch, reason).await;
        }
    }

    /// The queue is closed: offers the batch to Kafka and to the dead letter queue while the
    /// drain lasts.
    async fn insist(&self, mut batch: Batch, reason: Reason) {
        let refusal = loop {
            let last = self.sender.drain.has_expired();
            if !last {
                batch.deadline = Instant::now() + self.attempts_max;
                match self.send_again(batch).await {
                    Some(back) => batch = back,
                    None => return,
                }
            }
            match self.dlq.store(self.entries(&batch, reason)).await {
                Ok(()) => return,
                Err(refusal) if last => break refusal,
                Err(refusal) => {
                    self.pause().await;
                    if refusal.may_be_kept && !self.taken_back().await {
                        break refusal;
                    }
                }
            }
        };
        lost(&batch, &refusal);
    }

    /// What the disk may have kept says that it was never sent, and would be sent with a *since*
    /// of its own: the batch must not be sent before that is gone. Whether it is; if not, the
    /// process has to end.
    async fn taken_back(&self) -> bool {
        while !self.dlq.take_back().await {
            if self.sender.drain.has_expired() {
                return false;
            }
            self.pause().await;
        }
        true
    }

    /// Gives back what Kafka does not take.
    async fn send_again(&self, batch: Batch) -> Option<Batch> {
        let view = self.view.borrow().clone();
        let Some(view) = view.filter(|view| view.unfit.is_none()) else {
            return Some(batch);
        };
        let mut left = None;
        let mut settle = |_, batch, settled| {
            left = (settled != Settled::Acknowledged).then_some(batch);
        };
        self.sender.send(&view, vec![batch], &mut settle).await;
        left
    }

    async fn pause(&self) {
        tokio::select! {
            () = tokio::time::sleep(PAUSE_WITHOUT_PLACE) => {}
            () = self.sender.drain.expired() => {}
        }
    }

    fn entries(&self, batch: &Batch, reason: Reason) -> Vec<Entry> {
        let head = self.head(batch, reason);
        entries(&head, &batch.records, batch.progress.acknowledged)
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

fn lost(batch: &Batch, refusal: &Refusal) {
    tracing::error!(
        batch = %batch.id,
        records = batch.len() - batch.progress.acknowledged,
        may_be_kept = refusal.may_be_kept,
        "lost records that were answered with `\"kept\":\"queue\"`: neither kafka nor the dead \
         letter queue took them before the process had to end: {refusal}"
    );
}

fn kept(batch: &mut Batch, kept: Kept) {
    let partly_dlq = batch
        .answer
        .as_ref()
        .is_some_and(|waiting| waiting.partly_dlq);
    batch.answer(Answer::Kept(if partly_dlq { Kept::Dlq } else { kept }));
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
