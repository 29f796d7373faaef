//! What a session does with what it hears.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kafka_link::{Beat, ErrorKind, FetchFrom, Fetched, KafkaError};
use metrics::counter;
use pipeline_core::{
    BatchId, Offset, PartitionId,
    store::{Encoded, Totals},
    telemetry::catalog,
};
use tracing::field::{DisplayValue, display};

use super::{End, Session, count_error, kafka_up, read::FLOW_BYTES};
use crate::{
    batcher::{Batch, Chunk, Content},
    partition::{LoadOutcome, SaveOutcome},
    save::{SaveReport, SaveTrouble},
    steps::{self, Event},
    takeover::HaltReason,
};

impl Session {
    pub(super) fn hear(&mut self, event: Event, now: Instant) {
        match event {
            Event::Loaded {
                partition,
                outcome,
                reason,
                halt,
                topic_id,
            } => {
                if let (Some(slot), Some(id)) = (self.slots.get_mut(&partition), topic_id) {
                    slot.held.set_topic_id(&id);
                }
                self.loaded(partition, outcome, reason, halt, now);
            }
            Event::Saving { partition, serial } => {
                if let Some(slot) = self.slots.get_mut(&partition) {
                    slot.core.saving(serial, now);
                }
            }
            Event::Saved {
                partition,
                serial,
                report,
                batch,
                took,
            } => self.saved(partition, serial, *report, &batch, took, now),
            Event::Fetched {
                asked,
                results,
                reserved,
            } => {
                self.fetched(&asked, results, now);
                drop(reserved);
            }
            Event::Bounds {
                partition,
                from,
                bounds,
            } => self.bounds(partition, from, bounds, now),
            Event::Committed(results) => {
                self.committing = false;
                for (partition, due, result) in results {
                    let Some(slot) = self.slots.get_mut(&partition) else {
                        continue;
                    };
                    slot.core.committed(due, result.is_ok(), now);
                    match result {
                        Ok(()) => {
                            kafka_up(true);
                            self.shared.adopted(partition);
                        }
                        Err(error) => {
                            tracing::warn!(%partition, offset = %due.offset, %error, "commit failed");
                            self.heard_error(&error, now);
                        }
                    }
                }
            }
            Event::Beat(Ok(Beat::Stable)) => kafka_up(true),
            Event::Beat(Ok(Beat::Rebalance)) => {
                kafka_up(true);
                self.give_up(now);
            }
            Event::Beat(Err(error)) => {
                tracing::warn!(%error, "heartbeat failed");
                self.heard_error(&error, now);
            }
            Event::LeftStuck => self.ending = Some(End::Lost),
        }
    }

    fn loaded(
        &mut self,
        partition: PartitionId,
        outcome: LoadOutcome,
        reason: Option<String>,
        halt: Option<HaltReason>,
        now: Instant,
    ) {
        let Some(slot) = self.slots.get_mut(&partition) else {
            return;
        };
        let topic = &self.shared.topic;
        let news = reason != slot.reason;
        match &outcome {
            LoadOutcome::Ready(memory) => {
                self.progress.made(now);
                let next = memory.end.next;
                self.shared.books.chain(partition, self.holder, memory);
                self.shared.dead_letters.passed(&slot.held.place, next);
                if slot.reason.is_some() {
                    tracing::info!(topic, %partition, %next, "partition goes on");
                } else {
                    tracing::debug!(topic, %partition, %next, "chain read");
                }
                let remove = steps::remove_copies(slot.held.clone(), next);
                self.tasks.spawn(remove);
            }
            LoadOutcome::Retry if news => {
                let reason = reason.as_deref().unwrap_or_default();
                tracing::warn!(topic, %partition, reason, "partition cannot be taken yet, trying again");
            }
            LoadOutcome::Halt if news => {
                let reason = reason.as_deref().unwrap_or_default();
                tracing::error!(topic, %partition, reason, "partition halted");
            }
            LoadOutcome::Retry | LoadOutcome::Halt => {}
        }
        slot.reason = reason;
        let halt = halt.or(slot.stuck.then_some(HaltReason::UnreadableLog));
        let books = &self.shared.books;
        books.loaded(partition, self.holder, &outcome, halt);
        slot.core.loaded(outcome, now);
    }

    fn saved(
        &mut self,
        partition: PartitionId,
        serial: u64,
        report: SaveReport,
        batch: &Arc<Batch>,
        took: Duration,
        now: Instant,
    ) {
        let Some(slot) = self.slots.get_mut(&partition) else {
            return;
        };
        let topic = &self.shared.topic;
        match (&report.outcome, &report.trouble) {
            (SaveOutcome::Landed(memory), _) => {
                self.progress.made(now);
                let next = memory.end.next;
                self.shared.books.chain(partition, self.holder, memory);
                self.shared.snapshots.lock().landed(partition, now);
                self.shared.dead_letters.passed(&slot.held.place, next);
                if let Some(encoded) = &report.encoded {
                    count_fates(&encoded.trailer.own_totals());
                }
                #[allow(clippy::cast_precision_loss)]
                {
                    self.histograms.flush_records.record(batch.records as f64);
                    self.histograms.flush_bytes.record(batch.bytes as f64);
                }
                self.histograms.flush_duration.record(took.as_secs_f64());
                let [first_batch, last_batch] = batches(report.encoded.as_deref());
                tracing::debug!(
                    topic, %partition, first = %batch.first, %next, first_batch, last_batch, ?took,
                    "saved"
                );
                if slot.copied.take().is_some() {
                    tracing::info!(topic, %partition, first = %batch.first, %next, "saved after trouble");
                }
                slot.remove_passed_copies(next, &mut self.tasks);
            }
            (SaveOutcome::Unknown(_), trouble) => {
                let detail = trouble
                    .as_ref()
                    .map_or_else(String::new, SaveTrouble::to_string);
                slot.not_saved(batch, detail, &mut self.tasks);
            }
            (SaveOutcome::Taken, trouble) => {
                let trouble = trouble
                    .as_ref()
                    .map_or_else(String::new, SaveTrouble::to_string);
                tracing::warn!(topic, %partition, trouble, "another writer extends this chain; reading it anew");
            }
        }
        slot.core.saved(serial, report.outcome, now);
    }

    fn fetched(
        &mut self,
        asked: &[FetchFrom],
        results: Vec<(PartitionId, Result<Fetched, KafkaError>)>,
        now: Instant,
    ) {
        self.fetching = false;
        let mut bytes = 0;
        for (partition, result) in results {
            let Some(from) = asked.iter().find(|asked| asked.partition == partition) else {
                continue;
            };
            let Some(slot) = self.slots.get_mut(&partition) else {
                continue;
            };
            match result {
                Ok(fetched) => {
                    kafka_up(true);
                    slot.fetch_failures = 0;
                    slot.fetch_not_before = None;
                    if std::mem::take(&mut slot.stuck) {
                        self.shared.books.halt(partition, self.holder, None);
                    }
                    let reached = fetched.high_watermark;
                    self.shared.books.log_reaches(partition, reached);
                    let budget = &self.shared.budget;
                    let mut reached = from.offset;
                    let mut chunks = Vec::with_capacity(fetched.blocks.len() + 1);
                    for block in fetched.blocks {
                        // A batch that lies below where we are: nothing new.
                        if block.next > reached {
                            reached = block.next;
                            let chunk = Chunk::messages(block, now, budget);
                            bytes += chunk.bytes;
                            chunks.push(chunk);
                        }
                    }
                    if fetched.next > reached {
                        chunks.push(Chunk::gap(Content::Skipped, fetched.next, now, budget));
                    }
                    slot.core.fetched(from.offset, chunks);
                }
                Err(error) if error.kind == ErrorKind::OffsetOutOfRange => {
                    count_error(&error);
                    slot.asking_bounds = true;
                    let topic = self.shared.topic.clone();
                    let (cluster, events) = (self.cluster.clone(), self.events.clone());
                    self.tasks.spawn(steps::bounds(
                        cluster,
                        topic,
                        partition,
                        from.offset,
                        events,
                    ));
                }
                // Offsets mean nothing any more: the chain's own topic decides.
                Err(error) if error.kind == ErrorKind::OtherTopic => {
                    count_error(&error);
                    slot.fetch_failed(now);
                    if slot.core.is_running() {
                        tracing::error!(topic = self.shared.topic, %partition, %error, "reading no more; comparing the topic with the chain");
                        slot.core.reload(now);
                    }
                }
                // What was read before it is saved; it is asked for again, should someone mend it.
                Err(error) if error.kind == ErrorKind::Poison => {
                    count_error(&error);
                    if slot.unreadable(now) {
                        tracing::error!(
                            topic = self.shared.topic,
                            %partition,
                            from = %from.offset,
                            %error,
                            "partition halted: the log has a batch that cannot be read"
                        );
                        let books = &self.shared.books;
                        books.halt(partition, self.holder, Some(HaltReason::UnreadableLog));
                    }
                }
                Err(error) => {
                    count_error(&error);
                    slot.fetch_failed(now);
                    if slot.fetch_failures.is_power_of_two() {
                        kafka_up(false);
                        tracing::warn!(topic = self.shared.topic, %partition, %error, "fetch failed");
                    }
                }
            }
        }
        self.flowing = bytes > 0 && bytes < u64::from(FLOW_BYTES);
    }

    /// The log did not have the offset that was asked for.
    fn bounds(
        &mut self,
        partition: PartitionId,
        from: Offset,
        bounds: Result<(Offset, Offset), KafkaError>,
        now: Instant,
    ) {
        let Some(slot) = self.slots.get_mut(&partition) else {
            return;
        };
        slot.asking_bounds = false;
        let topic = &self.shared.topic;
        match bounds {
            Err(error) => {
                count_error(&error);
                slot.fetch_failed(now);
            }
            Ok((log_start, _)) if log_start > from => {
                tracing::error!(
                    topic,
                    %partition,
                    %from,
                    %log_start,
                    lost = log_start.0 - from.0,
                    "retention was faster than this writer: messages are lost"
                );
                let gap = Chunk::gap(Content::Lost, log_start, now, &self.shared.budget);
                slot.core.fetched(from, [gap]);
            }
            Ok((_, log_end)) if log_end < from => {
                tracing::error!(topic, %partition, %from, %log_end, "the log is shorter than what was read of it; comparing it with the chain");
                slot.fetch_failed(now);
                slot.core.reload(now);
            }
            // It has the offset after all: a leader that was behind for a moment.
            Ok(_) => slot.fetch_failed(now),
        }
    }

    fn heard_error(&mut self, error: &KafkaError, now: Instant) {
        count_error(error);
        match error.kind {
            ErrorKind::Lost => {
                tracing::error!(%error, "this member is out of the group: dropping what is not committed");
                if self.ending != Some(End::Fenced) {
                    self.ending = Some(End::Lost);
                }
            }
            ErrorKind::Fenced => {
                tracing::error!(%error, "this member is fenced: dropping what is not committed");
                self.ending = Some(End::Fenced);
            }
            ErrorKind::Rejoin => {
                self.commits_refused = true;
                self.give_up(now);
            }
            _ => kafka_up(false),
        }
    }
}

/// The first and the last batch that the segment holds records of, as its log line says them.
fn batches(segment: Option<&Encoded>) -> [Option<DisplayValue<BatchId>>; 2] {
    let mut stored = segment
        .into_iter()
        .flat_map(|it| it.trailer.stored.iter().filter_map(|run| run.batch));
    let first = stored.next();
    [first, stored.next_back().or(first)].map(|batch| batch.map(display))
}

fn count_fates(own: &Totals) {
    let counted = [
        (catalog::LOGS_INGESTED, own.stored),
        (catalog::CONSUMER_DUPLICATES, own.duplicate),
        (catalog::CONSUMER_POISON, own.poison),
        (catalog::CONSUMER_UNDECIDABLE, own.undecidable),
        (catalog::CONSUMER_LOST, own.lost),
    ];
    for (name, count) in counted {
        if count > 0 {
            counter!(name).increment(count);
        }
    }
}
