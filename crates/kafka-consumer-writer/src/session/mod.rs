//! One assignment of one member, from the join to the next: a loop that hears events and does
//! what the partitions' cores say. Decides nothing about a partition by itself, and does nothing
//! that blocks: see [`steps`](crate::steps).

mod hear;
mod read;
mod slot;
mod stall;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use kafka_link::{Assignment, Cluster, KafkaError, Member};
use metrics::{Histogram, counter, gauge, histogram};
use pipeline_core::{
    PartitionId,
    telemetry::catalog::{self, label},
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use slot::Slot;
use stall::Progress;
pub use stall::Turns;

use crate::{
    batcher::{DrainState, Trigger},
    books::Holder,
    partition::Action,
    shared::{Held, Shared},
    steps::{self, Event, Events},
};

/// Events waiting for the loop; who has more waits.
const EVENTS_MAX: usize = 1024;
/// Once all is saved, how long an end waits for the commit: the chain knows better anyway.
const COMMIT_PATIENCE: Duration = Duration::from_secs(5);

/// Why a session ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The group rebalances: what was held is saved and committed as far as time allowed.
    Rejoin,
    /// The group has thrown this member out: what was in memory is gone, nothing was committed.
    Lost,
    /// Another process has taken this member's instance id.
    Fenced,
    /// Nothing gets done although messages wait: others shall have the partitions.
    Stalled,
    /// All is saved and committed, or (`false`) time ran out.
    Shutdown { flushed: bool },
}

pub struct Session {
    shared: Arc<Shared>,
    cluster: Cluster,
    member: Arc<Member>,
    slots: BTreeMap<PartitionId, Slot>,
    holder: Holder,
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
    look_at: Instant,
    progress: Progress,
    turns: Turns,
    /// Since when an end waits for nothing but commits.
    saved_since: Option<Instant>,
    histograms: Histograms,
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
        assignment: &Assignment,
    ) -> Self {
        let (events, inbox) = mpsc::channel(EVENTS_MAX);
        let slots: BTreeMap<_, _> = assignment
            .partitions
            .iter()
            .map(|id| (*id, Slot::new(Held::new(&shared, *id))))
            .collect();
        shared.add_running(slots.len());
        let holder = shared.books.take(slots.keys().copied());
        let now = Instant::now();
        shared.books.assigned(now);
        Self {
            progress: Progress::new(shared.stall_timeout, now),
            turns: Turns::new(shared.stall_timeout, now),
            holder,
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
            look_at: now,
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
        let turns = self.turns.clone();
        let beat = steps::beat(self.member.clone(), every, turns, self.events.clone());
        self.tasks.spawn(beat);
        let end = loop {
            let now = Instant::now();
            self.turns.turn(now);
            // Nothing is begun any more by one that is out.
            if let Some(end @ (End::Lost | End::Fenced)) = self.ending {
                break end;
            }
            self.pump(now);
            // One that ends has a nearer deadline.
            if self.ending.is_none() && self.stalls_at().is_some_and(|at| at <= now) {
                break End::Stalled;
            }
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
            if self.shared.books.let_go(*partition, self.holder, now) {
                self.shared.snapshots.lock().let_go(*partition);
                self.shared.scrub.lock().let_go(*partition);
            }
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
        if now >= self.look_at {
            self.judge_doubtful(now);
            self.tell_ages();
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

    /// The group rebalances: save what is here, within a bound.
    fn give_up(&mut self, now: Instant) {
        if self.ending.is_none() {
            tracing::info!(
                topic = self.shared.topic,
                partitions = self.slots.len(),
                "rebalance"
            );
            self.ending = Some(End::Rejoin);
            self.drain(now + self.shared.revoke_timeout(), Trigger::Revoke);
        }
    }

    fn stop(&mut self, now: Instant) {
        if !matches!(self.ending, Some(End::Lost | End::Fenced)) {
            self.ending = Some(End::Shutdown { flushed: false });
            // The rest is for the last commit and for leaving the group.
            let deadline = now + self.shared.shutdown_timeout.mul_f64(0.8);
            self.drain(deadline, Trigger::Shutdown);
        }
    }

    fn drain(&mut self, deadline: Instant, why: Trigger) {
        for slot in self.slots.values_mut() {
            slot.core.drain(deadline, why);
        }
    }

    /// Whether the session is over.
    fn ended(&mut self, now: Instant) -> Option<End> {
        let ending = self.ending?;
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

    fn stalls_at(&self) -> Option<Instant> {
        let slots = self.slots.values();
        self.progress
            .stalls_at(slots.filter_map(|slot| slot.core.waiting_since()))
    }

    fn wake_at(&self, now: Instant) -> Instant {
        let cores = self.slots.values().filter_map(|slot| slot.core.wake_at());
        let fetches = self.slots.values().filter_map(|slot| slot.fetch_not_before);
        // What was due has been done, or waits for an event.
        cores
            .chain(fetches)
            .chain(self.room_at)
            .chain(self.stalls_at())
            .chain(self.saved_since.map(|since| since + COMMIT_PATIENCE))
            .filter(|at| *at > now)
            .fold(self.look_at, Instant::min)
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

/// One more failed call to Kafka.
pub fn count_error(error: &KafkaError) {
    counter!(catalog::CONSUMER_ERRORS, label::KIND => error.kind.as_str()).increment(1);
}

/// Whether Kafka answers.
pub fn kafka_up(up: bool) {
    gauge!(catalog::KAFKA_UP).set(if up { 1.0 } else { 0.0 });
}
