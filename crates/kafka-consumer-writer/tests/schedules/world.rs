//! Writers, a group and a clock around one log and one disk; every step is chosen by a seed.

mod count;
mod work;

use std::time::{Duration, Instant};

use kafka_consumer_writer::{
    batcher::{Chunk, DrainState, FlushLimits, Trigger},
    budget::Budget,
    dead_letters::Place,
    partition::{Action, CommitDue, LoadOutcome, PartitionCore, SaveJob, SaveOutcome, Settings},
    takeover::{CommitFacts, commit_metadata},
};
use pipeline_core::{Offset, PartitionId, record::Rules, store::Totals};

use self::work::{begin, fetch, judge_load, store_id};
use crate::{chain::Disk, gate::Stepped, log::Log, met::Met};

const SETTINGS: Settings = Settings {
    flush: FlushLimits {
        flush_size: 6,
        flush_interval: Duration::from_millis(500),
        batch_records_max: 16,
        batch_bytes_max: 1 << 20,
    },
    persist_timeout: Duration::from_secs(5),
};

pub struct World {
    seed: u64,
    random: fastrand::Rng,
    now: Instant,
    log: Log,
    /// One for each directory that members of the group have been given, mostly one.
    stores: Vec<Disk>,
    window: usize,
    generation: u32,
    committed: Option<CommitFacts>,
    writers: Vec<Writer>,
    budget: Budget,
    place: Place,
    rules: Rules,
    faults: bool,
}

/// One member's life with the partition; dead ones keep their threads.
struct Writer {
    id: u8,
    store: usize,
    generation: u32,
    core: Option<PartitionCore>,
    /// Asked for, not yet run.
    load: bool,
    loaded: Option<LoadOutcome>,
    saves: Vec<SaveJob>,
    /// Begun; each sleeps at some step.
    running: Vec<(u64, Stepped<SaveOutcome>)>,
    saved: Vec<(u64, SaveOutcome)>,
    fetched: Option<(Offset, Vec<Chunk>)>,
    answers: Vec<(CommitDue, bool)>,
}

impl World {
    pub fn new(seed: u64, window: usize) -> Self {
        Self::of_stores(seed, window, 1)
    }

    pub fn of_stores(seed: u64, window: usize, stores: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut log = Log::default();
        for _ in 0..random.usize(0..5) {
            log.grow(&mut random);
        }
        log.start = random.i64(0..=log.end());
        let stores = (0..stores).map(|_| Disk::new(random.u64(..), Offset(log.start)));
        Self {
            seed,
            now: Instant::now(),
            stores: stores.collect(),
            log,
            window,
            generation: 0,
            committed: None,
            writers: Vec::new(),
            budget: Budget::new(u64::MAX),
            place: Place {
                topic: "logs".to_owned(),
                topic_id: String::new(),
                partition: PartitionId(0),
            },
            rules: Rules {
                record_bytes_max: 1_000,
                default_site: None,
                bound_site: None,
            },
            random,
            faults: true,
        }
    }

    /// Random steps, then a calm in which all must come to its end, then the count.
    pub fn run(&mut self) -> Totals {
        for _ in 0..self.random.usize(50..800) {
            self.step();
        }
        self.faults = false;
        for disk in &self.stores {
            disk.lock().faults = false;
        }
        let owner = self.owner();
        self.assign(owner);
        let end = self.log.end();
        for round in 0.. {
            assert!(round < 5_000, "seed {}: stuck before {end}", self.seed);
            let committed = self.committed.as_ref().map(|commit| commit.offset.0);
            if self.stores[owner].next().0 == end && committed == Some(end) {
                break;
            }
            let newest = self.writers.len() - 1;
            self.act(newest);
            if self.random.u32(0..40) == 0 {
                self.stores[owner].retain(self.window, &mut self.random);
            }
            if self.random.u32(0..4) == 0 {
                // The dead go on waking.
                let writer = self.random.usize(0..self.writers.len());
                self.act(writer);
            }
            self.now += Duration::from_millis(50);
        }
        for (other, disk) in self.stores.iter().enumerate() {
            let linked = disk.lock().history.len();
            assert!(
                other == owner || linked == 0,
                "seed {}: two stores",
                self.seed
            );
        }
        self.check(owner)
    }

    /// The store that has the partition by the last commit; before any, all may.
    fn owner(&self) -> usize {
        let committed = self.committed.as_ref();
        let of = |store: &usize| {
            committed.is_some_and(|it| it.metadata == commit_metadata(&store_id(*store)))
        };
        (0..self.stores.len()).find(of).unwrap_or(0)
    }

    /// What happened on the way.
    pub fn met(&self) -> Met {
        let mut met = Met::default();
        for disk in &self.stores {
            met.add(&disk.lock().met);
        }
        met
    }

    fn step(&mut self) {
        match self.random.u32(0..100) {
            0..=11 => self.log.grow(&mut self.random),
            12..=13 => self.assign_any(),
            14 | 22..=25 => {
                let disk = self.random.choice(&self.stores).expect("there is one");
                disk.retain(self.window, &mut self.random);
            }
            15 if self.random.u32(0..6) == 0 => {
                self.log.start = self.random.i64(self.log.start..=self.log.end());
            }
            16..=21 => self.now += Duration::from_millis(self.random.u64(0..2_000)),
            26 => {
                // A process dies; what its threads had begun may still happen.
                if let Some(writer) = self.random.choice(&mut self.writers) {
                    writer.core = None;
                }
            }
            27 => {
                if let Some(writer) = self.random.choice(&mut self.writers) {
                    let deadline = self.now + Duration::from_secs(2);
                    if let Some(core) = &mut writer.core {
                        core.drain(deadline, Trigger::Revoke);
                    }
                }
            }
            28 => {
                // The log looked truncated, or a look at the chain failed.
                if let Some(writer) = self.random.choice(&mut self.writers)
                    && let Some(core) = &mut writer.core
                {
                    if self.random.bool() {
                        core.reload(self.now);
                    } else {
                        core.halt(self.now);
                        self.now += Duration::from_secs(31);
                    }
                }
            }
            _ if self.writers.is_empty() => self.assign_any(),
            _ => {
                // Mostly the newest; the others are thought dead and wake now and then.
                let count = self.writers.len();
                let writer = if self.random.u32(0..3) == 0 {
                    self.random.usize(0..count)
                } else {
                    count - 1
                };
                for _ in 0..self.random.u32(1..12) {
                    self.act(writer);
                }
            }
        }
    }

    /// The group gives the partition to a new member (or, in the same process, again).
    fn assign_any(&mut self) {
        let store = self.random.usize(0..self.stores.len());
        self.assign(store);
    }

    fn assign(&mut self, store: usize) {
        self.generation += 1;
        let seed = self.random.u64(..);
        self.writers.push(Writer {
            id: u8::try_from(self.writers.len() % 250).expect("small"),
            store,
            generation: self.generation,
            core: Some(PartitionCore::new(SETTINGS, seed)),
            load: false,
            loaded: None,
            saves: Vec::new(),
            running: Vec::new(),
            saved: Vec::new(),
            fetched: None,
            answers: Vec::new(),
        });
    }

    /// One step of one writer.
    fn act(&mut self, at: usize) {
        let current = self.writers[at].generation == self.generation;
        let writer = &mut self.writers[at];
        match self.random.u32(0..8) {
            0 => {
                if let Some(core) = &mut writer.core {
                    while let Some(action) = core.poll(self.now) {
                        match action {
                            Action::Load => writer.load = true,
                            Action::Save(job) => writer.saves.push(*job),
                            Action::Late(_) => {}
                        }
                    }
                    if core.drain_state(self.now) != DrainState::Going {
                        writer.core = None;
                    }
                }
            }
            1 => {
                if std::mem::take(&mut writer.load) {
                    writer.loaded = Some(if self.faults && self.random.u32(0..6) == 0 {
                        LoadOutcome::Retry
                    } else {
                        let memory = self.stores[writer.store].load(self.window);
                        judge_load(writer.store, memory, &self.log, self.committed.as_ref())
                    });
                }
            }
            2 => {
                if let (Some(core), Some(outcome)) = (&mut writer.core, writer.loaded.take()) {
                    core.loaded(outcome, self.now);
                }
            }
            3 => {
                let some = |random: &mut fastrand::Rng, len| random.usize(0..len);
                if !writer.saves.is_empty() {
                    let at = some(&mut self.random, writer.saves.len());
                    let job = writer.saves.swap_remove(at);
                    let (serial, disk) = (job.serial, &self.stores[writer.store]);
                    let save = begin(job, writer.id, disk, &self.place, &self.rules);
                    match save {
                        Ok(save) => writer.running.push((serial, save)),
                        Err(outcome) => writer.saved.push((serial, outcome)),
                    }
                }
                // Mostly to its end; some fall asleep on the way.
                for _ in 0..self.random.usize(1..9) {
                    if writer.running.is_empty() {
                        break;
                    }
                    let at = some(&mut self.random, writer.running.len());
                    let (serial, save) = writer.running.swap_remove(at);
                    match save.step() {
                        Ok(save) => writer.running.push((serial, save)),
                        Err(outcome) => writer.saved.push((serial, outcome)),
                    }
                }
            }
            4 => {
                // Some come back so late that the partition has gone on without them.
                if self.random.u32(0..3) == 0
                    && let Some((serial, outcome)) = writer.saved.pop()
                    && let Some(core) = &mut writer.core
                {
                    core.saved(serial, outcome, self.now);
                }
            }
            5 => {
                let Some(core) = &mut writer.core else { return };
                if writer.fetched.is_some() {
                    // Some fetches take so long that the memory they were for is gone.
                    if self.random.u32(0..3) == 0
                        && let Some((from, chunks)) = writer.fetched.take()
                    {
                        core.fetched(from, chunks);
                    }
                } else if let Some(from) = core.fetch_from(u64::MAX) {
                    let chunks = fetch(&self.log, from, &mut self.random, self.now, &self.budget);
                    writer.fetched = Some((from, chunks));
                }
            }
            6 => {
                let Some(core) = &mut writer.core else { return };
                if let Some(due) = core.commit_due(self.now) {
                    assert!(
                        due.offset <= self.stores[writer.store].next(),
                        "seed {}: {} is committed and not in the chain",
                        self.seed,
                        due.offset
                    );
                    let heard = current && !(self.faults && self.random.u32(0..8) == 0);
                    if heard {
                        self.committed = Some(CommitFacts {
                            offset: due.offset,
                            metadata: commit_metadata(&store_id(writer.store)),
                        });
                    }
                    let answered = heard && !(self.faults && self.random.u32(0..8) == 0);
                    writer.answers.push((due, answered));
                }
            }
            _ => {
                if let (Some(core), Some((due, ok))) = (&mut writer.core, writer.answers.pop()) {
                    core.committed(due, ok, self.now);
                }
            }
        }
    }
}
