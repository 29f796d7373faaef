//! One partition on one member, from its assignment to its end: what to do next, decided purely.
//!
//! ```text
//!            ┌──────────── backoff ◀──────────┐ (I/O trouble)
//!            ▼                                │
//! assigned ▶ Loading ── chain and log agree ─▶ Claiming ── commit acknowledged ─▶ Running
//!            ▲  └────── they differ ─▶ Halted (looked at again later)               │
//!            └───────────── name taken, watermark above, log truncated ◀────────────┘
//! ```
//!
//! Running: one save in flight while the next batch fills. A save that failed or is late is
//! unknown: the same bytes are tried again, and each further try looks at the chain first. The
//! window and the chain's end travel with the save and come back only with a segment that is in
//! the chain. No I/O, no clock; randomness is seeded by the caller.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use pipeline_core::{
    Offset,
    retry::Backoff,
    store::{ChainEnd, Encoded},
};

use crate::{
    batcher::{Batch, Batcher, Chunk, Drain, DrainState, FlushLimits},
    window::Window,
};

/// Pauses after trouble with disk or broker.
const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(200),
    max: Duration::from_secs(5),
};
/// How long a halted partition rests before it is looked at again.
const HALTED_REST: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub flush: FlushLimits,
    /// A save longer than this is reported as late.
    pub persist_timeout: Duration,
}

/// What is known of the chain; changes only with it.
#[derive(Debug)]
pub struct Memory {
    pub window: Window,
    pub end: ChainEnd,
}

/// One segment on its way into the chain. Goes to a blocking thread and comes back.
#[derive(Debug)]
pub struct SaveJob {
    pub serial: u64,
    pub batch: Arc<Batch>,
    pub memory: Box<Memory>,
    /// Made by the first try; every further try publishes the same bytes.
    pub encoded: Option<Arc<Encoded>>,
    /// 0 is the first try.
    pub attempt: u32,
}

/// What became of a save.
#[derive(Debug)]
pub enum SaveOutcome {
    /// Its segment is in the chain, durably; the memory is up to date with it.
    Landed(Box<Memory>),
    /// A step failed: it may be in the chain or not.
    Unknown(Box<SaveJob>),
    /// Another segment stands in its place, or the chain went past it.
    Taken,
}

/// What became of reading the chain and comparing it with the log.
#[derive(Debug)]
pub enum LoadOutcome {
    Ready(Box<Memory>),
    /// The disk or the broker did not answer.
    Retry,
    /// Chain and log differ, or the chain is damaged.
    Halt,
}

/// What the caller does now.
#[derive(Debug)]
pub enum Action {
    /// Read the chain, compare it with the log, answer with [`PartitionCore::loaded`].
    Load,
    /// Run the save on a blocking thread, answer with [`PartitionCore::saved`].
    Save(Box<SaveJob>),
    /// This save is later than the persist timeout: say so. It is not given up.
    Late(Arc<Batch>),
}

#[derive(Debug)]
pub struct PartitionCore {
    settings: Settings,
    state: State,
    random: fastrand::Rng,
    /// Serial of the next save.
    serial: u64,
    /// Failed attempts in a row, of whatever is being tried.
    failures: u32,
    drain: Option<Drain>,
    commit: Commit,
}

#[derive(Debug)]
enum State {
    Loading {
        asked: bool,
    },
    Resting {
        until: Instant,
        halted: bool,
    },
    Claiming {
        memory: Box<Memory>,
        ticket: Option<u64>,
    },
    Running(Running),
}

#[derive(Debug)]
struct Running {
    batcher: Batcher,
    saving: Saving,
}

#[derive(Debug)]
enum Saving {
    Idle(Box<Memory>),
    InFlight {
        serial: u64,
        batch: Arc<Batch>,
        /// Once it has begun, until it has been reported.
        late_at: Option<Instant>,
    },
    Resting {
        job: Box<SaveJob>,
        until: Instant,
    },
    /// Only while a value moves from one of the others to the next.
    Moving,
}

/// Commits go out one at a time, always with the newest offset.
#[derive(Default, Debug)]
struct Commit {
    wanted: Option<Offset>,
    in_flight: Option<u64>,
    next_ticket: u64,
    not_before: Option<Instant>,
    failures: u32,
}

/// A commit to send; the ticket goes back with its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommitDue {
    pub offset: Offset,
    pub ticket: u64,
}

impl PartitionCore {
    /// A partition just assigned.
    #[must_use]
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            state: State::Loading { asked: false },
            random: fastrand::Rng::with_seed(seed),
            serial: 0,
            failures: 0,
            drain: None,
            commit: Commit::default(),
        }
    }

    /// The next thing to do, if any; ask until there is none.
    pub fn poll(&mut self, now: Instant) -> Option<Action> {
        match &mut self.state {
            State::Loading { asked } => {
                if *asked || self.drain.is_some() {
                    return None;
                }
                *asked = true;
                Some(Action::Load)
            }
            State::Resting { until, .. } => {
                if now < *until || self.drain.is_some() {
                    return None;
                }
                self.state = State::Loading { asked: true };
                Some(Action::Load)
            }
            State::Claiming { .. } => None,
            State::Running(running) => running.poll(now, &mut self.serial),
        }
    }

    /// When to [`poll`](Self::poll) again although nothing has come.
    #[must_use]
    pub fn wake_at(&self) -> Option<Instant> {
        let own = match &self.state {
            State::Loading { .. } => None,
            State::Resting { until, .. } => self.drain.is_none().then_some(*until),
            State::Claiming { .. } => None,
            State::Running(running) => match &running.saving {
                Saving::Idle(_) => running.batcher.due_at(),
                Saving::InFlight { late_at, .. } => *late_at,
                Saving::Resting { until, .. } => Some(*until),
                Saving::Moving => None,
            },
        };
        let commit = match self.commit.in_flight {
            None if self.commit_offset().is_some() => self.commit.not_before,
            _ => None,
        };
        let drain = self.drain.map(|drain| drain.deadline);
        [own, commit, drain].into_iter().flatten().min()
    }

    /// The chain has been read.
    pub fn loaded(&mut self, outcome: LoadOutcome, now: Instant) {
        if !matches!(self.state, State::Loading { asked: true }) {
            return;
        }
        match outcome {
            LoadOutcome::Ready(memory) => {
                self.failures = 0;
                self.commit.wanted = None;
                self.commit.not_before = None;
                self.state = State::Claiming {
                    memory,
                    ticket: None,
                };
            }
            LoadOutcome::Retry => self.rest(now),
            LoadOutcome::Halt => self.halt(now),
        }
    }

    /// Chain and log differ: everything in memory is dropped.
    pub fn halt(&mut self, now: Instant) {
        self.state = State::Resting {
            until: now + HALTED_REST,
            halted: true,
        };
    }

    /// What is in memory is not to be trusted any more: back to the chain.
    pub fn reload(&mut self, now: Instant) {
        self.rest(now);
    }

    #[must_use]
    pub fn is_halted(&self) -> bool {
        matches!(self.state, State::Resting { halted: true, .. })
    }

    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.state, State::Running(_))
    }

    /// Where to fetch next, unless this partition must not read now: not running, draining, or
    /// `share` bytes are buffered already.
    #[must_use]
    pub fn fetch_from(&self, share: u64) -> Option<Offset> {
        let State::Running(running) = &self.state else {
            return None;
        };
        (self.drain.is_none() && running.buffered() < share).then(|| running.batcher.next())
    }

    /// Takes what a fetch from `from` gave, in order. What was fetched from another place than
    /// the one now wanted (memory was thrown away meanwhile) is dropped.
    pub fn fetched(&mut self, from: Offset, chunks: impl IntoIterator<Item = Chunk>) {
        let State::Running(running) = &mut self.state else {
            return;
        };
        if self.drain.is_some() || running.batcher.next() != from {
            return;
        }
        for chunk in chunks {
            running.batcher.push(chunk);
        }
    }

    /// A save has begun (it may have waited for its turn).
    pub fn saving(&mut self, serial: u64, now: Instant) {
        if let State::Running(running) = &mut self.state
            && let Saving::InFlight {
                serial: own,
                late_at,
                ..
            } = &mut running.saving
            && *own == serial
        {
            *late_at = Some(now + self.settings.persist_timeout);
        }
    }

    /// A save came back.
    pub fn saved(&mut self, serial: u64, outcome: SaveOutcome, now: Instant) {
        let State::Running(running) = &mut self.state else {
            return;
        };
        let ours =
            matches!(&running.saving, Saving::InFlight { serial: own, .. } if *own == serial);
        if !ours {
            return;
        }
        match outcome {
            SaveOutcome::Landed(memory) => {
                self.failures = 0;
                self.commit.wanted = Some(memory.end.next);
                running.saving = Saving::Idle(memory);
            }
            SaveOutcome::Unknown(mut job) => {
                job.attempt += 1;
                let pause = BACKOFF.pause(job.attempt, self.random.f64());
                running.saving = Saving::Resting {
                    job,
                    until: now + pause,
                };
            }
            SaveOutcome::Taken => self.rest(now),
        }
    }

    /// The commit to send now, if one is due. Must be sent, and answered with
    /// [`committed`](Self::committed).
    pub fn commit_due(&mut self, now: Instant) -> Option<CommitDue> {
        if self.commit.in_flight.is_some() || self.commit.not_before.is_some_and(|at| now < at) {
            return None;
        }
        let offset = self.commit_offset()?;
        let ticket = self.commit.next_ticket;
        self.commit.next_ticket += 1;
        self.commit.in_flight = Some(ticket);
        if let State::Claiming {
            ticket: claiming, ..
        } = &mut self.state
        {
            *claiming = Some(ticket);
        }
        Some(CommitDue { offset, ticket })
    }

    /// A commit was answered; `ok` where the broker acknowledged it.
    pub fn committed(&mut self, due: CommitDue, ok: bool, now: Instant) {
        if self.commit.in_flight != Some(due.ticket) {
            return;
        }
        self.commit.in_flight = None;
        if !ok {
            self.commit.failures += 1;
            let pause = BACKOFF.pause(self.commit.failures, self.random.f64());
            self.commit.not_before = Some(now + pause);
            if let State::Claiming { ticket, .. } = &mut self.state {
                *ticket = None;
            }
            return;
        }
        self.commit.failures = 0;
        self.commit.not_before = None;
        if self.commit.wanted == Some(due.offset) {
            self.commit.wanted = None;
        }
        // Only a commit sent after the chain was read is a claim.
        let claimed =
            matches!(&self.state, State::Claiming { ticket, .. } if *ticket == Some(due.ticket));
        if claimed {
            let state = std::mem::replace(&mut self.state, State::Loading { asked: false });
            if let State::Claiming { memory, .. } = state {
                let mut batcher = Batcher::new(self.settings.flush, memory.end.next);
                if self.drain.is_some() {
                    batcher.force();
                }
                self.state = State::Running(Running {
                    batcher,
                    saving: Saving::Idle(memory),
                });
            }
        }
    }

    /// The group takes no commit any more; the chain says where to go on anyway.
    pub fn forgo_commit(&mut self) {
        self.commit.wanted = None;
    }

    /// Read no more, save what is here, within the deadline.
    pub fn drain(&mut self, deadline: Instant) {
        let deadline = self
            .drain
            .map_or(deadline, |drain| drain.deadline.min(deadline));
        self.drain = Some(Drain { deadline });
        if let State::Running(running) = &mut self.state {
            running.batcher.force();
        }
    }

    /// Nothing is left in memory that is not in the chain; commits may be.
    #[must_use]
    pub fn all_saved(&self) -> bool {
        match &self.state {
            State::Running(running) => !running.buffered_any(),
            _ => true,
        }
    }

    /// How far the drain has got; a partition that does not run has nothing to flush.
    #[must_use]
    pub fn drain_state(&self, now: Instant) -> DrainState {
        let running = self.is_running();
        let left = running && (!self.all_saved() || self.commit.wanted.is_some());
        match &self.drain {
            Some(drain) => drain.state(now, left),
            None => DrainState::Going,
        }
    }

    /// Bytes held in memory for this partition, those being saved included.
    #[must_use]
    pub fn buffered_bytes(&self) -> u64 {
        match &self.state {
            State::Running(running) => running.buffered(),
            _ => 0,
        }
    }

    fn commit_offset(&self) -> Option<Offset> {
        match &self.state {
            State::Claiming {
                memory,
                ticket: None,
            } => Some(memory.end.next),
            State::Running(_) => self.commit.wanted,
            _ => None,
        }
    }

    fn rest(&mut self, now: Instant) {
        self.failures += 1;
        let pause = BACKOFF.pause(self.failures, self.random.f64());
        self.state = State::Resting {
            until: now + pause,
            halted: false,
        };
    }
}

impl Running {
    fn poll(&mut self, now: Instant, serial: &mut u64) -> Option<Action> {
        let job = match std::mem::replace(&mut self.saving, Saving::Moving) {
            Saving::Idle(memory) => {
                let Some(batch) = self.batcher.take(now) else {
                    self.saving = Saving::Idle(memory);
                    return None;
                };
                assert_eq!(
                    batch.first, memory.end.next,
                    "a batch begins where the chain ends"
                );
                *serial += 1;
                Box::new(SaveJob {
                    serial: *serial,
                    batch: Arc::new(batch),
                    memory,
                    encoded: None,
                    attempt: 0,
                })
            }
            Saving::Resting { mut job, until } if until <= now => {
                *serial += 1;
                job.serial = *serial;
                job
            }
            Saving::InFlight {
                serial,
                batch,
                late_at,
            } => {
                let late = late_at.is_some_and(|at| at <= now);
                let action = late.then(|| Action::Late(batch.clone()));
                self.saving = Saving::InFlight {
                    serial,
                    batch,
                    late_at: late_at.filter(|_| !late),
                };
                return action;
            }
            other => {
                self.saving = other;
                return None;
            }
        };
        self.saving = Saving::InFlight {
            serial: job.serial,
            batch: job.batch.clone(),
            late_at: None,
        };
        Some(Action::Save(job))
    }

    fn buffered(&self) -> u64 {
        let saving = match &self.saving {
            Saving::InFlight { batch, .. } => batch.bytes,
            Saving::Resting { job, .. } => job.batch.bytes,
            Saving::Idle(_) | Saving::Moving => 0,
        };
        self.batcher.bytes() + saving
    }

    fn buffered_any(&self) -> bool {
        !self.batcher.is_empty() || !matches!(self.saving, Saving::Idle(_))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use pipeline_core::store::{Draft, Fate, FateRun, Totals};

    use super::*;
    use crate::{batcher::Content, budget::Budget};

    const SETTINGS: Settings = Settings {
        flush: FlushLimits {
            flush_size: 10,
            flush_interval: Duration::from_millis(500),
            batch_records_max: 100,
            batch_bytes_max: 1_000,
        },
        persist_timeout: Duration::from_secs(5),
    };

    fn memory(next: i64) -> Box<Memory> {
        Box::new(Memory {
            window: Window::new(10),
            end: ChainEnd {
                next: Offset(next),
                last: None,
                totals: Totals::default(),
                last_message: None,
            },
        })
    }

    fn gap(next: i64, now: Instant, bytes: u64) -> Chunk {
        let budget = Budget::new(u64::MAX);
        Chunk {
            bytes,
            ..Chunk::gap(Content::Skipped, Offset(next), now, &budget)
        }
    }

    fn running(next: i64, now: Instant) -> PartitionCore {
        let mut core = PartitionCore::new(SETTINGS, 1);
        assert!(matches!(core.poll(now), Some(Action::Load)));
        core.loaded(LoadOutcome::Ready(memory(next)), now);
        let claim = core.commit_due(now).expect("the claim");
        core.committed(claim, true, now);
        assert!(core.is_running());
        core
    }

    fn save(core: &mut PartitionCore, now: Instant) -> Option<Box<SaveJob>> {
        match core.poll(now) {
            Some(Action::Save(job)) => Some(job),
            None => None,
            other => panic!("{other:?}"),
        }
    }

    fn landed(job: &SaveJob) -> SaveOutcome {
        SaveOutcome::Landed(memory(job.batch.next.0))
    }

    #[test]
    fn nothing_is_read_or_saved_before_the_claim_is_acknowledged() {
        let now = Instant::now();
        let mut core = PartitionCore::new(SETTINGS, 1);
        assert!(core.commit_due(now).is_none(), "nothing is known yet");
        assert!(matches!(core.poll(now), Some(Action::Load)));
        assert!(core.poll(now).is_none(), "asked once");
        core.loaded(LoadOutcome::Ready(memory(7)), now);
        assert_eq!(core.fetch_from(u64::MAX), None);
        let claim = core.commit_due(now).expect("the claim");
        assert_eq!(claim.offset, Offset(7));
        // A claim that fails is made again, after a pause.
        core.committed(claim, false, now);
        assert!(!core.is_running() && core.wake_at().is_some());
        let later = now + Duration::from_secs(10);
        let claim = core.commit_due(later).expect("the claim again");
        core.committed(claim, true, later);
        assert_eq!(core.fetch_from(u64::MAX), Some(Offset(7)));
        assert!(core.commit_due(later).is_none());
    }

    #[test]
    fn a_commit_sent_before_the_chain_was_read_anew_is_no_claim() {
        let now = Instant::now();
        let mut core = running(0, now);
        core.fetched(Offset(0), [gap(5, now, 1)]);
        let later = now + Duration::from_secs(1);
        let job = save(&mut core, later).expect("due");
        core.saved(job.serial, landed(&job), later);
        let old = core.commit_due(later).expect("what has landed");
        core.reload(later);
        let later = later + Duration::from_secs(10);
        assert!(matches!(core.poll(later), Some(Action::Load)));
        core.loaded(LoadOutcome::Ready(memory(5)), later);
        core.committed(old, true, later);
        assert!(!core.is_running());
        let claim = core.commit_due(later).expect("a claim of its own");
        core.committed(claim, true, later);
        assert!(core.is_running());
    }

    #[test]
    fn a_save_that_comes_back_after_the_chain_was_read_anew_changes_nothing() {
        let now = Instant::now();
        let mut core = running(0, now);
        core.fetched(Offset(0), [gap(5, now, 1)]);
        let later = now + Duration::from_secs(1);
        let old = save(&mut core, later).expect("due");
        core.reload(later);
        let later = later + Duration::from_secs(10);
        assert!(matches!(core.poll(later), Some(Action::Load)));
        core.loaded(LoadOutcome::Ready(memory(9)), later);
        let claim = core.commit_due(later).expect("the claim");
        core.committed(claim, true, later);
        core.fetched(Offset(9), [gap(12, later, 1)]);
        let later = later + Duration::from_secs(1);
        let new = save(&mut core, later).expect("due");
        core.saved(old.serial, landed(&old), later);
        assert!(core.commit_due(later).is_none(), "nothing has landed");
        core.saved(new.serial, landed(&new), later);
        assert_eq!(core.commit_due(later).expect("landed").offset, Offset(12));
    }

    #[test]
    fn the_next_batch_fills_while_one_save_is_in_flight_up_to_its_share() {
        let now = Instant::now();
        let mut core = running(0, now);
        core.fetched(Offset(0), [gap(5, now, 40)]);
        let later = now + Duration::from_secs(1);
        let job = save(&mut core, later).expect("due");
        assert_eq!(core.fetch_from(100), Some(Offset(5)));
        core.fetched(Offset(5), [gap(6, later, 60)]);
        assert_eq!(core.fetch_from(100), None, "paused");
        let later = later + Duration::from_secs(1);
        assert!(save(&mut core, later).is_none(), "one save at a time");
        core.saved(job.serial, landed(&job), later);
        let job = save(&mut core, later).expect("the one that filled");
        assert_eq!((job.batch.first, job.batch.next), (Offset(5), Offset(6)));
        assert_eq!(core.fetch_from(100), Some(Offset(6)), "goes on");
    }

    #[test]
    fn a_late_save_is_reported_once_and_still_counts() {
        let now = Instant::now();
        let mut core = running(0, now);
        core.fetched(Offset(0), [gap(5, now, 1)]);
        let later = now + Duration::from_secs(1);
        let job = save(&mut core, later).expect("due");
        assert_eq!(core.wake_at(), None, "it waits for its turn");
        core.saving(job.serial, later);
        let late = later + SETTINGS.persist_timeout;
        assert_eq!(core.wake_at(), Some(late));
        assert!(matches!(core.poll(late), Some(Action::Late(_))));
        assert!(core.poll(late).is_none() && core.wake_at().is_none());
        core.saved(job.serial, landed(&job), late + Duration::from_secs(60));
        let due = core.commit_due(late).expect("landed");
        assert_eq!(due.offset, Offset(5));
    }

    #[test]
    fn a_failed_save_is_tried_again_with_the_same_bytes_until_it_lands() {
        let now = Instant::now();
        let mut core = running(0, now);
        core.fetched(Offset(0), [gap(5, now, 1)]);
        let mut later = now + Duration::from_secs(1);
        let mut job = save(&mut core, later).expect("due");
        let draft = Draft {
            first: Offset(0),
            next: Offset(5),
            previous: None,
            writer: [0; 16],
            fates: vec![FateRun {
                fate: Fate::Skipped,
                count: 5,
            }],
            stored: Vec::new(),
            totals_before: Totals::default(),
            last: None,
        };
        job.encoded = Some(Arc::new(draft.encode(b"", 1)));
        let hash = job.encoded.as_ref().expect("just made").hash;
        for attempt in 1..20 {
            let serial = job.serial;
            core.saved(serial, SaveOutcome::Unknown(job), later);
            assert!(core.commit_due(later).is_none());
            later = core.wake_at().expect("a pause");
            job = save(&mut core, later).expect("again");
            assert_eq!(job.attempt, attempt);
            assert_eq!(job.encoded.as_ref().expect("kept").hash, hash);
        }
        core.saved(job.serial, landed(&job), later);
        assert_eq!(core.commit_due(later).expect("landed").offset, Offset(5));
    }

    #[test]
    fn a_name_taken_drops_everything_and_reads_the_chain_anew() {
        let now = Instant::now();
        let mut core = running(0, now);
        core.fetched(Offset(0), [gap(5, now, 1)]);
        let later = now + Duration::from_secs(1);
        let job = save(&mut core, later).expect("due");
        core.fetched(Offset(5), [gap(9, later, 1)]);
        core.saved(job.serial, SaveOutcome::Taken, later);
        assert_eq!(core.buffered_bytes(), 0);
        assert_eq!(core.fetch_from(u64::MAX), None);
        assert!(core.commit_due(later).is_none());
        let later = core.wake_at().expect("a pause");
        assert!(matches!(core.poll(later), Some(Action::Load)));
    }

    #[test]
    fn a_halted_partition_is_looked_at_again_and_goes_on_once_it_is_well() {
        let now = Instant::now();
        let mut core = PartitionCore::new(SETTINGS, 1);
        assert!(matches!(core.poll(now), Some(Action::Load)));
        core.loaded(LoadOutcome::Halt, now);
        assert!(core.is_halted() && core.poll(now).is_none());
        let later = core.wake_at().expect("a rest");
        assert!(matches!(core.poll(later), Some(Action::Load)));
        core.loaded(LoadOutcome::Ready(memory(3)), later);
        assert!(!core.is_halted() && core.commit_due(later).is_some());
    }

    /// Saves of which some fail and some never come back: a drain ends with everything committed,
    /// or at its deadline, and reads nothing more.
    #[test]
    fn a_drain_ends_with_everything_committed_or_at_its_deadline() {
        let mut seen = [0; 2];
        for seed in 0..400 {
            let mut random = fastrand::Rng::with_seed(seed);
            let start = Instant::now();
            let mut core = running(0, start);
            let chunks = random.i64(0..200);
            core.fetched(Offset(0), (1..=chunks).map(|n| gap(n, start, 100)));
            let deadline = start + Duration::from_secs(2);
            core.drain(deadline);
            assert_eq!(core.fetch_from(u64::MAX), None);
            let mut now = start;
            let mut coming: VecDeque<(Instant, Box<SaveJob>)> = VecDeque::new();
            let mut committed = Offset(0);
            let end = loop {
                while let Some(action) = core.poll(now) {
                    match action {
                        Action::Save(job) => {
                            core.saving(job.serial, now);
                            let takes = match random.u32(0..40) {
                                0 => Duration::from_secs(3_600),
                                _ => Duration::from_millis(random.u64(1..200)),
                            };
                            coming.push_back((now + takes, job));
                        }
                        Action::Late(_) => {}
                        Action::Load => panic!("seed {seed}: a drain reads no chain"),
                    }
                }
                if let Some(due) = core.commit_due(now) {
                    let ok = random.u32(0..4) > 0;
                    if ok {
                        committed = due.offset;
                    }
                    core.committed(due, ok, now);
                }
                match core.drain_state(now) {
                    DrainState::Going => {}
                    ended => break ended,
                }
                let back = coming.front().map(|(at, _)| *at);
                let wake = core.wake_at().filter(|at| *at > now);
                now = [back, wake].into_iter().flatten().min().expect("something");
                if back == Some(now)
                    && let Some((_, job)) = coming.pop_front()
                {
                    let serial = job.serial;
                    let outcome = if random.u32(0..8) == 0 {
                        SaveOutcome::Unknown(job)
                    } else {
                        landed(&job)
                    };
                    core.saved(serial, outcome, now);
                }
            };
            assert!(now <= deadline, "seed {seed}");
            if end == DrainState::Flushed {
                assert_eq!(committed, Offset(chunks), "seed {seed}");
                seen[0] += 1;
            } else {
                assert_eq!(now, deadline, "seed {seed}");
                seen[1] += 1;
            }
        }
        assert!(seen[0] > 50 && seen[1] > 50, "both ends are met: {seen:?}");
    }
}
