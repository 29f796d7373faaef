//! The chain's directory and the consumer DLQ, simulated: steps fail, and some that succeed are
//! reported as failed.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

use kafka_consumer_writer::{
    dead_letters::{Aside, Entry, Place},
    partition::Memory,
    save::ChainPort,
    window::Window,
};
use pipeline_core::{
    Offset,
    store::{
        ChainEnd, ChainFault, Cursor, Encoded, EncodedSnapshot, Fate, Published, StoreError,
        Totals, Visited, removal::plan,
    },
};

#[derive(Clone)]
pub struct Disk(Arc<Mutex<State>>);

pub struct State {
    random: fastrand::Rng,
    pub faults: bool,
    pub start: Offset,
    /// Every segment that was ever in the chain, removed ones too.
    pub history: BTreeMap<Offset, Arc<Encoded>>,
    pub watermark: Offset,
    /// Names that are there.
    pub names: BTreeMap<Offset, Arc<Encoded>>,
    /// By where they end: their bytes and how many of their two files are there.
    snapshots: BTreeMap<Offset, (Vec<u8>, u8)>,
    /// Made, and not yet put.
    unput: Vec<EncodedSnapshot>,
    /// Planned, watermark put, and not yet done.
    unremoved: Vec<Vec<Offset>>,
    pub removed: u64,
    pub aside: BTreeSet<i64>,
}

impl Disk {
    pub fn new(seed: u64, start: Offset) -> Self {
        Self(Arc::new(Mutex::new(State {
            random: fastrand::Rng::with_seed(seed),
            faults: true,
            start,
            history: BTreeMap::new(),
            watermark: start,
            names: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            unput: Vec::new(),
            unremoved: Vec::new(),
            removed: 0,
            aside: BTreeSet::new(),
        })))
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic under this lock")
    }

    /// The chain's end, as its history has it.
    pub fn next(&self) -> Offset {
        let state = self.lock();
        let last = state.history.last_key_value();
        last.map_or(state.start, |(_, segment)| segment.trailer.next)
    }

    /// What a take-over reads: the newest snapshot and the segments behind it. It must be what all
    /// segments that ever were say.
    pub fn load(&self, batches_max: usize) -> Memory {
        let state = self.lock();
        let mut memory = Memory {
            window: Window::new(batches_max),
            end: ChainEnd {
                next: state.start,
                last: None,
                totals: Totals::default(),
                last_message: None,
            },
            aside: BTreeSet::new(),
        };
        if let Some((_, (bytes, _))) = state.snapshots.last_key_value() {
            let (head, window) = Window::restore(bytes, batches_max).expect("whole");
            let known = head.names.iter().filter(|name| **name >= state.watermark);
            let there = state.names.range(state.watermark..head.end.next);
            assert!(known.eq(there.map(|(name, _)| name)), "a name is missing");
            memory = Memory {
                window,
                end: head.end,
                aside: BTreeSet::new(),
            };
        }
        while let Some(segment) = state.names.get(&memory.end.next) {
            memory.window.apply(&segment.trailer.stored);
            memory.end = end_of(segment);
        }
        let mut expected = Window::new(batches_max);
        for segment in state.history.values() {
            expected.apply(&segment.trailer.stored);
        }
        assert_eq!(memory.window, expected);
        let last = state.history.last_key_value();
        assert_eq!(memory.end.last, last.map(|(_, segment)| segment.link()));
        memory
    }

    /// Some steps of the keeping of snapshots and of removals, by whoever wakes just now: each may
    /// be late, and each may be its last.
    pub fn retain(&self, batches_max: usize, random: &mut fastrand::Rng) {
        for _ in 0..random.usize(1..12) {
            self.retain_step(batches_max, random);
        }
    }

    fn retain_step(&self, batches_max: usize, random: &mut fastrand::Rng) {
        let some = |random: &mut fastrand::Rng, len: usize| (len > 0).then(|| random.usize(0..len));
        match random.u32(0..4) {
            0 => {
                let memory = self.load(batches_max);
                let mut state = self.lock();
                if memory.end.last.is_some() {
                    let names = state.names.range(state.watermark..);
                    let names = names.map(|(name, _)| *name).collect();
                    state.unput.push(memory.window.save(&memory.end, names));
                }
            }
            1 => {
                let mut state = self.lock();
                let Some(at) = some(random, state.unput.len()) else {
                    return;
                };
                let snapshot = state.unput.swap_remove(at);
                let files = 1 + u8::from(random.bool());
                let kept = (snapshot.bytes, files);
                let old = state.snapshots.entry(snapshot.next).or_insert(kept);
                old.1 = old.1.max(files);
                let whole = state.snapshots.iter().rev().find(|(_, kept)| kept.1 == 2);
                if let Some((&greatest, _)) = whole {
                    state.snapshots.retain(|next, _| *next >= greatest);
                }
            }
            2 => {
                let mut state = self.lock();
                let files = state.snapshots.iter().rev();
                let covered = files
                    .flat_map(|(next, (_, files))| std::iter::repeat_n(*next, *files as usize))
                    .nth(1);
                let names: Vec<Offset> = state.names.keys().copied().collect();
                let before = Offset(random.i64(0..200));
                let plan = plan(&names, Some(state.watermark), covered, before);
                state.watermark = plan.watermark.unwrap_or(state.watermark);
                if !plan.remove.is_empty() {
                    state.unremoved.push(plan.remove);
                }
            }
            _ => {
                let mut state = self.lock();
                let Some(at) = some(random, state.unremoved.len()) else {
                    return;
                };
                for _ in 0..random.usize(1..4) {
                    if let Some(oldest) = state.unremoved[at].first().copied() {
                        state.unremoved[at].remove(0);
                        state.removed += u64::from(state.names.remove(&oldest).is_some());
                    }
                }
            }
        }
    }
}

impl State {
    fn fails(&mut self, one_in: u32) -> bool {
        self.faults && self.random.u32(0..one_in) == 0
    }
}

fn end_of(segment: &Encoded) -> ChainEnd {
    ChainEnd {
        next: segment.trailer.next,
        last: Some(segment.link()),
        totals: segment.trailer.totals,
        last_message: segment.trailer.last,
    }
}

fn broken(step: &'static str) -> StoreError {
    StoreError {
        step,
        path: PathBuf::from("simulated"),
        source: io::Error::from(io::ErrorKind::TimedOut),
    }
}

impl ChainPort for Disk {
    fn publish(&self, segment: &Encoded) -> Result<Published, StoreError> {
        let mut state = self.lock();
        if state.fails(6) {
            return Err(broken("write"));
        }
        let first = segment.trailer.first;
        if state.names.contains_key(&first) {
            return Ok(Published::NameTaken);
        }
        if state.watermark > first {
            // Linked for a moment, seen by nobody who may count it.
            return Ok(Published::BelowWatermark);
        }
        let mut at = segment.trailer.first.0;
        for run in &segment.trailer.fates {
            let end = at + i64::try_from(run.count).expect("fits");
            if matches!(run.fate, Fate::Poison | Fate::Undecidable) {
                for offset in at..end {
                    assert!(
                        state.aside.contains(&offset),
                        "{offset} is linked before it is durable in the DLQ"
                    );
                }
            }
            at = end;
        }
        let segment = Arc::new(segment.clone());
        state.names.insert(first, segment.clone());
        assert!(
            state.history.insert(first, segment).is_none(),
            "a name was linked twice: {first}"
        );
        if state.fails(6) {
            return Err(broken("fsync directory"));
        }
        Ok(Published::Linked)
    }

    fn walk(
        &self,
        from: Option<Cursor>,
        visit: &mut dyn FnMut(Visited) -> bool,
    ) -> Result<Option<ChainEnd>, ChainFault> {
        let mut state = self.lock();
        if state.fails(6) {
            return Err(broken("list").into());
        }
        let missing = |at: Offset| ChainFault::Missing {
            path: PathBuf::from(at.to_string()),
            detail: "simulated".to_owned(),
        };
        let from = from.expect("saves look from a cursor");
        if let Some(last) = from.last {
            match state.names.get(&last.first) {
                Some(segment) if segment.hash == last.hash => {}
                Some(_) => return Err(missing(last.first)),
                None if state.watermark > last.first => {}
                None => return Err(missing(last.first)),
            }
        }
        let mut at = from.next;
        loop {
            let Some(segment) = state.names.get(&at).cloned() else {
                if state.names.range(at..).next().is_some() {
                    return Err(missing(at));
                }
                return Ok(None);
            };
            at = segment.trailer.next;
            let visited = Visited {
                path: PathBuf::new(),
                hash: segment.hash,
                file_len: 0,
                modified: std::time::SystemTime::UNIX_EPOCH,
                trailer: segment.trailer.clone(),
            };
            if !visit(visited) {
                return Ok(None);
            }
        }
    }

    fn sync(&self) -> Result<(), StoreError> {
        if self.lock().fails(6) {
            return Err(broken("fsync directory"));
        }
        Ok(())
    }
}

impl Aside for Disk {
    fn keep(&self, _: &Place, entries: &[Entry<'_>]) -> io::Result<()> {
        let mut state = self.lock();
        if state.fails(6) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        state
            .aside
            .extend(entries.iter().map(|entry| entry.offset.0));
        if state.fails(6) {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        Ok(())
    }
}
