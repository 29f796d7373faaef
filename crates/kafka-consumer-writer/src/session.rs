//! One assignment of one member, from the join to the next: a loop that hears events and does
//! what the partitions' cores say. Decides nothing about a partition by itself, and does nothing
//! that blocks: see [`steps`](crate::steps).

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use kafka_link::{
    Assignment, Beat, Cluster, ErrorKind, FetchFrom, FetchOptions, Fetched, KafkaError, Member,
};
use metrics::{Histogram, counter, gauge, histogram};
use pipeline_core::{
    Offset, PartitionId,
    retry::Backoff,
    store::Totals,
    telemetry::catalog::{self, label},
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    batcher::{Batch, Chunk, Content, DrainState},
    partition::{Action, LoadOutcome, PartitionCore, SaveOutcome},
    save::{SaveReport, SaveTrouble},
    shared::{Held, Shared},
    steps::{self, Event, Events},
};

/// Events waiting for the loop; who has more waits.
const EVENTS_MAX: usize = 1024;
/// Pauses of one partition's fetch after trouble.
const FETCH_BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(100),
    max: Duration::from_secs(5),
};
/// A long poll with nothing to read, and one on a stream that flows: a little patience there
/// makes few large answers of many small ones.
const IDLE_WAIT: Duration = Duration::from_millis(500);
const FLOW_WAIT: Duration = Duration::from_millis(20);
const FLOW_BYTES: u32 = 64 << 10;
/// How soon a full budget is looked at again.
const ROOM_WAIT: Duration = Duration::from_millis(20);
/// A partition's part of one fetch.
const PARTITION_FETCH_BYTES: u64 = 1 << 20;
/// How often the ends of logs are asked for, also of those that are not read.
const LOG_ENDS_EVERY: Duration = Duration::from_secs(5);
/// Once all is saved, how long an end waits for the commit: the chain knows better anyway.
const COMMIT_PATIENCE: Duration = Duration::from_secs(5);

/// The protocol's code for a static member whose id another process has taken.
const FENCED_INSTANCE_ID: i16 = 82;

/// Why a session ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The group rebalances: what was held is saved and committed as far as time allowed.
    Rejoin,
    /// The group has thrown this member out: what was in memory is gone, nothing was committed.
    Lost,
    /// Another process has taken this member's instance id.
    Fenced,
    /// All is saved and committed, or (`false`) time ran out.
    Shutdown { flushed: bool },
}

pub struct Session {
    shared: Arc<Shared>,
    cluster: Cluster,
    member: Arc<Member>,
    slots: BTreeMap<PartitionId, Slot>,
    tasks: JoinSet<()>,
    events: Events,
    inbox: mpsc::Receiver<Event>,
    fetching: bool,
    /// The last fetch brought little: wait for more.
    flowing: bool,
    committing: bool,
    /// The group does not take commits of this generation any more.
    commits_refused: bool,
    ending: Option<End>,
    /// When to look for room in the budget again.
    room_at: Option<Instant>,
    log_ends_at: Instant,
    /// Since when an end waits for nothing but commits.
    saved_since: Option<Instant>,
    histograms: Histograms,
}

/// One partition of the assignment.
struct Slot {
    core: PartitionCore,
    held: Held,
    fetch_not_before: Option<Instant>,
    fetch_failures: u32,
    asking_bounds: bool,
    /// First offset of the batch that a copy was made of.
    copied: Option<Offset>,
    /// The last reason for not being ready, so that it is said once.
    reason: Option<String>,
}

struct Histograms {
    flush_records: Histogram,
    flush_bytes: Histogram,
    flush_duration: Histogram,
}

impl Session {
    #[must_use]
    pub fn new(
        shared: Arc<Shared>,
        cluster: Cluster,
        member: Arc<Member>,
        topic_id: &str,
        assignment: &Assignment,
    ) -> Self {
        let (events, inbox) = mpsc::channel(EVENTS_MAX);
        let slots: BTreeMap<_, _> = assignment
            .partitions
            .iter()
            .map(|partition| {
                let slot = Slot {
                    core: PartitionCore::new(shared.settings, fastrand::u64(..)),
                    held: Held::new(&shared, topic_id, *partition),
                    fetch_not_before: None,
                    fetch_failures: 0,
                    asking_bounds: false,
                    copied: None,
                    reason: None,
                };
                (*partition, slot)
            })
            .collect();
        shared.add_running(slots.len());
        for partition in slots.keys() {
            shared.books.take(*partition);
        }
        Self {
            shared,
            cluster,
            member,
            slots,
            tasks: JoinSet::new(),
            events,
            inbox,
            fetching: false,
            flowing: false,
            committing: false,
            commits_refused: false,
            ending: None,
            room_at: None,
            log_ends_at: Instant::now(),
            saved_since: None,
            histograms: Histograms {
                flush_records: histogram!(catalog::BATCH_FLUSH_RECORDS),
                flush_bytes: histogram!(catalog::BATCH_FLUSH_BYTES),
                flush_duration: histogram!(catalog::BATCH_FLUSH_DURATION),
            },
        }
    }

    /// Runs until the group rebalances, the member is lost, or a shutdown is flushed. All its
    /// tasks have ended then; only blocking threads may still be at work on a save, which is safe.
    pub async fn run(mut self, shutdown: &CancellationToken) -> End {
        let every = (self.shared.session_timeout / 4).min(Duration::from_secs(1));
        let beat = steps::beat(self.member.clone(), every, self.events.clone());
        self.tasks.spawn(beat);
        let end = loop {
            let now = Instant::now();
            self.pump(now);
            if let Some(end) = self.ended(now) {
                break end;
            }
            let wake = tokio::time::Instant::from_std(self.wake_at(now));
            let stopping = matches!(self.ending, Some(End::Shutdown { .. }));
            tokio::select! {
                event = self.inbox.recv() => {
                    // The session holds a sender itself.
                    let Some(event) = event else { continue };
                    self.hear(event, Instant::now());
                    while let Ok(event) = self.inbox.try_recv() {
                        self.hear(event, Instant::now());
                    }
                }
                () = tokio::time::sleep_until(wake) => {}
                () = shutdown.cancelled(), if !stopping => {
                    self.stop(Instant::now());
                }
            }
        };
        let now = Instant::now();
        self.shared.remove_running(self.slots.len());
        for partition in self.slots.keys() {
            self.shared.books.let_go(*partition, now);
        }
        self.tasks.shutdown().await;
        end
    }

    /// Everything that can be begun now.
    fn pump(&mut self, now: Instant) {
        self.reap();
        let mut loads = Vec::new();
        for slot in self.slots.values_mut() {
            while let Some(action) = slot.core.poll(now) {
                match action {
                    Action::Load => loads.push(slot.held.clone()),
                    Action::Save(job) => {
                        let reason = job.batch.trigger.as_str();
                        if job.attempt == 0 {
                            counter!(catalog::BATCH_FLUSHES, label::REASON => reason).increment(1);
                        }
                        let save = steps::save(slot.held.clone(), job, self.events.clone());
                        self.tasks.spawn(save);
                    }
                    Action::Late(batch) => {
                        let detail = format!(
                            "the save did not end within {:?}",
                            self.shared.settings.persist_timeout
                        );
                        slot.not_saved(&batch, detail, &mut self.tasks);
                    }
                }
            }
        }
        if !loads.is_empty() {
            let member = self.member.clone();
            let load = steps::load(self.cluster.clone(), member, loads, self.events.clone());
            self.tasks.spawn(load);
        }
        self.pump_commit(now);
        self.pump_fetch(now);
        if now >= self.log_ends_at {
            self.ask_log_ends(now);
        }
    }

    fn pump_commit(&mut self, now: Instant) {
        if self.committing || self.commits_refused {
            return;
        }
        let due: Vec<_> = self
            .slots
            .iter_mut()
            .filter_map(|(partition, slot)| Some((*partition, slot.core.commit_due(now)?)))
            .collect();
        if due.is_empty() {
            return;
        }
        self.committing = true;
        let (member, shared) = (self.member.clone(), self.shared.clone());
        let commit = steps::commit(member, shared, due, self.events.clone());
        self.tasks.spawn(commit);
    }

    fn pump_fetch(&mut self, now: Instant) {
        if self.fetching || self.ending.is_some() {
            return;
        }
        let share = self.shared.share();
        let mut asked = Vec::new();
        let mut full = false;
        for (partition, slot) in &self.slots {
            if slot.asking_bounds || slot.fetch_not_before.is_some_and(|at| now < at) {
                continue;
            }
            match slot.core.fetch_from(share) {
                Some(offset) => asked.push(FetchFrom {
                    partition: *partition,
                    offset,
                }),
                None => full |= slot.core.is_running(),
            }
        }
        if asked.is_empty() {
            return;
        }
        let bytes = self.shared.fetch_bytes();
        let Some(reserved) = self.shared.budget.try_take(bytes) else {
            // A save of this member wakes it, one of another member does not.
            self.room_at = Some(now + ROOM_WAIT);
            return;
        };
        let bytes_max = u32::try_from(bytes).unwrap_or(u32::MAX);
        // Where a partition waits for room, the poll is short, so that it is soon asked again.
        let patient = self.flowing || full;
        let options = FetchOptions {
            wait_max: if patient { FLOW_WAIT } else { IDLE_WAIT },
            bytes_min: if self.flowing {
                FLOW_BYTES.min(bytes_max)
            } else {
                1
            },
            bytes_max,
            partition_bytes_max: u32::try_from(share.min(PARTITION_FETCH_BYTES))
                .unwrap_or(u32::MAX)
                .max(1),
        };
        self.fetching = true;
        let (cluster, shared) = (self.cluster.clone(), self.shared.clone());
        let fetch = steps::fetch(
            cluster,
            shared,
            asked,
            options,
            reserved,
            self.events.clone(),
        );
        self.tasks.spawn(fetch);
    }

    fn ask_log_ends(&mut self, now: Instant) {
        self.log_ends_at = now + LOG_ENDS_EVERY;
        if !self.slots.is_empty() {
            let partitions = self.slots.keys().copied().collect();
            let topic = self.shared.topic.clone();
            let (cluster, events) = (self.cluster.clone(), self.events.clone());
            self.tasks
                .spawn(steps::log_ends(cluster, topic, partitions, events));
        }
    }

    fn hear(&mut self, event: Event, now: Instant) {
        match event {
            Event::Loaded {
                partition,
                outcome,
                reason,
            } => self.loaded(partition, outcome, reason, now),
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
            Event::Fetched { asked, results } => self.fetched(&asked, results, now),
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
            Event::LogEnds(ends) => {
                for (partition, end) in ends {
                    match end {
                        Ok(end) => self.shared.books.log_end(partition, end),
                        Err(error) => count_error(&error),
                    }
                }
            }
        }
    }

    fn loaded(
        &mut self,
        partition: PartitionId,
        outcome: LoadOutcome,
        reason: Option<String>,
        now: Instant,
    ) {
        let Some(slot) = self.slots.get_mut(&partition) else {
            return;
        };
        let topic = &self.shared.topic;
        let news = reason != slot.reason;
        match &outcome {
            LoadOutcome::Ready(memory) => {
                let next = memory.end.next;
                self.shared.books.chain(partition, memory);
                self.shared.dead_letters.passed(topic, partition, next);
                tracing::info!(topic, %partition, %next, "chain read");
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
        let halted = matches!(outcome, LoadOutcome::Halt);
        self.shared.books.halt(partition, halted);
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
                let next = memory.end.next;
                self.shared.books.chain(partition, memory);
                self.shared.dead_letters.passed(topic, partition, next);
                if let Some(encoded) = &report.encoded {
                    count_fates(&encoded.trailer.own_totals());
                }
                #[allow(clippy::cast_precision_loss)]
                {
                    self.histograms.flush_records.record(batch.records as f64);
                    self.histograms.flush_bytes.record(batch.bytes as f64);
                }
                self.histograms.flush_duration.record(took.as_secs_f64());
                tracing::debug!(topic, %partition, first = %batch.first, %next, ?took, "saved");
                if slot.copied.take().is_some() {
                    tracing::info!(topic, %partition, first = %batch.first, %next, "saved after trouble");
                    self.tasks
                        .spawn(steps::remove_copies(slot.held.clone(), next));
                }
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
                    self.shared.books.log_end(partition, fetched.high_watermark);
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
                self.ending = Some(if error.code == Some(FENCED_INSTANCE_ID) {
                    End::Fenced
                } else {
                    End::Lost
                });
            }
            ErrorKind::Rejoin => {
                self.commits_refused = true;
                self.give_up(now);
            }
            _ => kafka_up(false),
        }
    }

    /// The group rebalances: save what is here, within a bound.
    fn give_up(&mut self, now: Instant) {
        if self.ending.is_none() {
            tracing::info!(
                topic = self.shared.topic,
                partitions = self.slots.len(),
                "rebalance"
            );
            self.ending = Some(End::Rejoin);
            self.drain(now + self.shared.revoke_timeout());
        }
    }

    fn stop(&mut self, now: Instant) {
        if !matches!(self.ending, Some(End::Lost | End::Fenced)) {
            self.ending = Some(End::Shutdown { flushed: false });
            // The rest is for the last commit and for leaving the group.
            self.drain(now + self.shared.shutdown_timeout.mul_f64(0.8));
        }
    }

    fn drain(&mut self, deadline: Instant) {
        for slot in self.slots.values_mut() {
            slot.core.drain(deadline);
        }
    }

    /// Whether the session is over.
    fn ended(&mut self, now: Instant) -> Option<End> {
        let ending = self.ending?;
        if matches!(ending, End::Lost | End::Fenced) {
            return Some(ending);
        }
        if self.slots.values().all(|slot| slot.core.all_saved()) {
            let since = *self.saved_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= COMMIT_PATIENCE {
                tracing::warn!("all is saved, but the group takes no commit; going without");
                self.commits_refused = true;
            }
        }
        let mut flushed = true;
        for (partition, slot) in &mut self.slots {
            if self.commits_refused {
                slot.core.forgo_commit();
            }
            match slot.core.drain_state(now) {
                DrainState::Going => return None,
                DrainState::Flushed => {}
                DrainState::OutOfTime => {
                    flushed = false;
                    tracing::warn!(
                        topic = self.shared.topic,
                        %partition,
                        bytes = slot.core.buffered_bytes(),
                        "not saved in time; it stays in Kafka, uncommitted"
                    );
                }
            }
        }
        Some(match ending {
            End::Shutdown { .. } => End::Shutdown { flushed },
            other => other,
        })
    }

    fn wake_at(&self, now: Instant) -> Instant {
        let cores = self.slots.values().filter_map(|slot| slot.core.wake_at());
        let fetches = self.slots.values().filter_map(|slot| slot.fetch_not_before);
        // What was due has been done, or waits for an event.
        cores
            .chain(fetches)
            .chain(self.room_at)
            .chain(self.saved_since.map(|since| since + COMMIT_PATIENCE))
            .filter(|at| *at > now)
            .fold(self.log_ends_at, Instant::min)
    }

    /// A panic in a task is a bug: it ends the process instead of a silent standstill.
    fn reap(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }
}

impl Slot {
    fn fetch_failed(&mut self, now: Instant) {
        self.fetch_failures += 1;
        let pause = FETCH_BACKOFF.pause(self.fetch_failures, fastrand::f64().max(0.5));
        self.fetch_not_before = Some(now + pause);
    }

    /// Says that a save has not ended well, and keeps one copy of its messages for people.
    fn not_saved(&mut self, batch: &Arc<Batch>, detail: String, tasks: &mut JoinSet<()>) {
        counter!(catalog::BATCH_FLUSH_FAILURES).increment(1);
        tracing::error!(
            topic = self.held.place.topic,
            partition = %self.held.partition(),
            first = %batch.first,
            next = %batch.next,
            detail,
            "failed to save a batch; it is tried again"
        );
        if self.copied != Some(batch.first) {
            self.copied = Some(batch.first);
            let copy = steps::copy_unsaved(self.held.clone(), batch.clone(), detail);
            tasks.spawn(copy);
        }
    }
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

/// One more failed call to Kafka.
pub fn count_error(error: &KafkaError) {
    counter!(catalog::CONSUMER_ERRORS, label::KIND => error.kind.as_str()).increment(1);
}

/// Whether Kafka answers.
pub fn kafka_up(up: bool) {
    gauge!(catalog::KAFKA_UP).set(if up { 1.0 } else { 0.0 });
}
