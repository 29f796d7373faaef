//! Some entries of a file on their way: read, decided about, marked, sent, and what became of each.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::task::spawn_blocking;

use super::{
    Replayer,
    left::{Cause, Count, Left},
    parted::parted,
    size::split,
};
use crate::{
    batch::{Batch, memory_of},
    budget::Share,
    decode::RecordBatch,
    dlq::{
        DoneMark, Head, Reason, Refusal, SentMark, entries,
        load::{Pending, load_entry},
    },
    producer::{
        send::Settled,
        settle::now_ms,
        view::{TopicView, line_bytes_max},
    },
    telemetry,
};

/// One chunk on its way: places are those in `pending`.
#[derive(Default)]
struct Chunk {
    pending: Vec<Pending>,
    batches: Vec<Batch>,
    marks: Vec<SentMark>,
    heads: Vec<Head>,
    /// Records that are larger than the topic takes now, by the place of their entry.
    too_large: HashMap<usize, RecordBatch>,
}

impl Replayer {
    pub(super) async fn replay_chunk(
        &self,
        number: u64,
        view: &TopicView,
        chunk: &[Pending],
        left: &mut Left,
    ) {
        let mut chunk = self.prepare(number, view, chunk, left).await;
        if !chunk.marks.is_empty()
            && let Err(error) = self.dlq.mark_sent(number, chunk.marks).await
        {
            tracing::warn!(
                file = number,
                "failed to mark entries of the dead letter queue, they are not sent yet: {error}"
            );
            left.add(Cause::Unmarked, chunk.pending.iter().map(Count::of).sum());
            return;
        }
        let pending = &chunk.pending;
        let (mut sent, mut to_part) = (Vec::new(), Vec::new());
        let mut settle = |place: usize, batch: Batch, settled| match settled {
            Settled::Acknowledged => sent.push((place, batch)),
            Settled::Left(Reason::TooLarge) if batch.len() > 1 => to_part.push((place, batch)),
            Settled::Left(Reason::Poison | Reason::TooLarge) => {
                left.add(Cause::Refused, Count::of(&pending[place]));
            }
            Settled::Left(_) => left.add_away(&pending[place]),
        };
        self.sender.send(view, chunk.batches, &mut settle).await;
        let mut done = Vec::new();
        for (place, batch) in sent {
            let pending = &chunk.pending[place];
            if let Some(records) = chunk.too_large.remove(&place)
                && let Err(why) = self.keep_apart(&chunk.heads[place], records, &batch).await
            {
                tracing::warn!(file = number, "failed to keep records apart: {why}");
                left.add(Cause::Refused, Count::of(pending));
                continue;
            }
            done.push(self.count_done(pending, batch.len()));
        }
        for (place, batch) in to_part {
            let pending = &chunk.pending[place];
            let mut parts = parted(&chunk.heads[place], &batch, now_ms());
            if let Some(records) = chunk.too_large.remove(&place) {
                let head = parts[0].head.clone();
                parts.extend(entries(&head, &Arc::new(records), 0));
            }
            match self.dlq.store(parts).await {
                Ok(()) => done.push(self.count_done(pending, batch.progress.acknowledged)),
                Err(why) => {
                    tracing::warn!(file = number, "failed to keep records apart: {why}");
                    left.add(Cause::Refused, Count::of(pending));
                }
            }
        }
        if done.is_empty() {
            return;
        }
        tracing::info!(
            file = number,
            entries = done.len(),
            "replayed entries of the dead letter queue"
        );
        if let Err(error) = self.dlq.mark_done(number, done).await {
            tracing::warn!(
                file = number,
                "failed to mark entries of the dead letter queue as done, they will be sent \
                 once more: {error}"
            );
            left.note(Cause::Unmarked);
        }
    }

    /// So many of its records are in Kafka, and it has no others any more.
    fn count_done(&self, pending: &Pending, records: usize) -> DoneMark {
        let records = records as u64;
        self.tally.entries.fetch_add(1, Ordering::Relaxed);
        self.tally.records.fetch_add(records, Ordering::Relaxed);
        telemetry::dlq_replayed(records);
        DoneMark {
            position: pending.position,
            records: pending.records,
        }
    }

    /// Reads the entries, and decides which of them go now, where to, and with which since.
    async fn prepare(
        &self,
        number: u64,
        view: &TopicView,
        chunk: &[Pending],
        left: &mut Left,
    ) -> Chunk {
        let now = Instant::now();
        let mut wanted = Vec::with_capacity(chunk.len());
        for pending in chunk {
            match view.would_admit(pending.partition, now) {
                // Not even read.
                false => left.add_away(pending),
                true => wanted.push(*pending),
            }
        }
        let (entries, unread) = self.read(number, &wanted).await;
        for cause in unread {
            left.add(cause, Count::of_entries(1));
        }
        let line_max = line_bytes_max(view.message_bytes_max);
        let mut chunk = Chunk::default();
        for (pending, head, records) in entries {
            let mut progress = pending.progress;
            let partition = pending.partition;
            progress.partition = Some(partition);
            let known_end = view.end(partition);
            let fixed = progress.may_have_been_sent;
            // Without the end it is not known whether an old since is one of this log.
            let Some(known_end) = known_end.filter(|_| view.would_admit(partition, now)) else {
                left.add_away(&pending);
                continue;
            };
            let (records, too_large) = match split(records, line_max) {
                // Nothing to keep apart: the broker has the last word.
                (fits, Some(too_large)) if fits.ends.is_empty() => (too_large, None),
                parts => parts,
            };
            let bounded = fixed && progress.bound_since(known_end);
            if !fixed {
                progress.since = Some(known_end);
            }
            if let Some(since) = progress.since
                && (bounded || !fixed)
            {
                chunk.marks.push(SentMark {
                    position: pending.position,
                    partition,
                    since,
                });
            }
            chunk.batches.push(Batch {
                id: head.batch,
                received_ms: head.received_ms,
                deadline: now + self.time_for(wanted.iter().map(|pending| pending.bytes).sum()),
                memory: self.sender.memory.forced(memory_of(&records)),
                records: Arc::new(records),
                progress,
                answer: None,
                held: Share::default(),
            });
            if let Some(too_large) = too_large {
                let place = chunk.pending.len();
                chunk.too_large.insert(place, too_large);
            }
            chunk.pending.push(pending);
            chunk.heads.push(head);
        }
        chunk
    }

    /// What is too large gets an entry of its own, with its reason: its neighbours go.
    async fn keep_apart(
        &self,
        head: &Head,
        records: RecordBatch,
        sent: &Batch,
    ) -> Result<(), Refusal> {
        let head = Head {
            reason: Reason::TooLarge,
            // Its identity is in the topic.
            may_have_been_sent: true,
            partition: sent.progress.partition,
            since: sent.progress.since,
            stored_ms: now_ms(),
            ..head.clone()
        };
        let records = Arc::new(records);
        self.dlq.store(entries(&head, &records, 0)).await
    }

    /// Reads the entries; what cannot be read (any more) is said and left out.
    async fn read(
        &self,
        number: u64,
        chunk: &[Pending],
    ) -> (Vec<(Pending, Head, RecordBatch)>, Vec<Cause>) {
        let dir = self.dlq.dir();
        let chunk = chunk.to_vec();
        let read = spawn_blocking(move || {
            let (mut entries, mut unread) = (Vec::with_capacity(chunk.len()), Vec::new());
            for pending in chunk {
                match load_entry(&dir, number, pending.position) {
                    Ok((head, records)) => entries.push((pending, head, records)),
                    Err(error) => {
                        unread.push(Cause::of(&error));
                        tracing::error!(
                            file = number,
                            position = pending.position,
                            "failed to read an entry of the dead letter queue: {error}"
                        );
                    }
                }
            }
            (entries, unread)
        });
        read.await.unwrap_or_default()
    }

    fn time_for(&self, bytes: usize) -> Duration {
        time_for(
            bytes,
            self.sender.batch_bytes_max,
            self.sender.write_timeout,
        )
    }
}

/// How long entries of `bytes` may take: a large one goes in many pieces, one after the other, and
/// what is given up half way begins anew.
fn time_for(bytes: usize, piece_bytes_max: usize, write_timeout: Duration) -> Duration {
    let pieces = u32::try_from(bytes / piece_bytes_max.max(1)).unwrap_or(u32::MAX);
    write_timeout.saturating_mul(pieces.saturating_add(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_entry_has_the_time_of_all_its_pieces() {
        let second = Duration::from_secs(1);
        assert_eq!(time_for(10, 1_000_000, second), 2 * second);
        assert_eq!(time_for(128_000_000, 1_000_000, second), 130 * second);
        assert_eq!(time_for(usize::MAX, 0, Duration::MAX), Duration::MAX);
    }
}
