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

use crate::{gate::Gate, met::Met};

#[derive(Clone)]
pub struct Disk {
    state: Arc<Mutex<State>>,
    /// Of a save that is let go on step by step.
    gate: Option<Arc<Gate>>,
}

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
    pub met: Met,
    pub aside: BTreeSet<i64>,
}

impl Disk {
    pub fn new(seed: u64, start: Offset) -> Self {
        let state = State {
            random: fastrand::Rng::with_seed(seed),
            faults: true,
            start,
            history: BTreeMap::new(),
            watermark: start,
            names: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            unput: Vec::new(),
            unremoved: Vec::new(),
            met: Met::default(),
            aside: BTreeSet::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            gate: None,
        }
    }

    /// The same disk, where each step waits to be let go on.
    pub fn behind(&self, gate: Gate) -> Self {
        Self {
            gate: Some(Arc::new(gate)),
            ..self.clone()
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }

    /// As [`Self::lock`], once the schedule comes back to whoever asks.
    fn step(&self) -> MutexGuard<'_, State> {
        if let Some(gate) = &self.gate {
            gate.wait();
        }
        self.lock()
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
                        let gone = state.names.remove(&oldest).is_some();
                        state.met.removed += u64::from(gone);
                    }
                }
            }
        }
    }
}

impl State {
    /// Without replacing; `false`: the name is taken.
    fn link(&mut self, segment: &Arc<Encoded>) -> bool {
        let first = segment.trailer.first;
        if self.names.contains_key(&first) {
            return false;
        }
        self.names.insert(first, segment.clone());
        // Below the watermark it belongs to no chain.
        if self.watermark <= first {
            self.join(segment);
        }
        true
    }

    fn join(&mut self, segment: &Arc<Encoded>) {
        let first = segment.trailer.first;
        let mut at = first.0;
        for run in &segment.trailer.fates {
            let end = at + i64::try_from(run.count).expect("fits");
            if matches!(run.fate, Fate::Poison | Fate::Undecidable) {
                for offset in at..end {
                    assert!(
                        self.aside.contains(&offset),
                        "{offset} is linked before it is durable in the DLQ"
                    );
                }
            }
            at = end;
        }
        let before = self.history.insert(first, segment.clone());
        assert!(before.is_none(), "a name was linked twice: {first}");
    }

    /// What the segment goes on from stands there, or has been removed; below the watermark another
    /// may stand in its place for a moment.
    fn goes_on(&self, segment: &Encoded) -> bool {
        let trailer = &segment.trailer;
        trailer.previous.is_none_or(|link| {
            let there = self.names.get(&link.first);
            there.is_some_and(|there| there.hash == link.hash) || self.watermark >= trailer.first
        })
    }

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
        cause: io::Error::from(io::ErrorKind::TimedOut),
    }
}

impl ChainPort for Disk {
    /// The steps of `Chain::publish`, between any two of which others act.
    fn publish(&self, segment: &Encoded) -> Result<Published, StoreError> {
        if self.step().fails(6) {
            return Err(broken("write"));
        }
        let first = segment.trailer.first;
        let own = Arc::new(segment.clone());
        let linked = self.step().link(&own);
        let mut state = self.step();
        if state.fails(6) {
            state.met.landed_unheard += u64::from(linked);
            return Err(broken("fsync directory"));
        }
        drop(state);
        if !linked {
            self.lock().met.name_taken += 1;
            return Ok(Published::NameTaken);
        }
        let mut state = self.step();
        if state.fails(12) {
            state.met.landed_unheard += 1;
            return Err(broken("look"));
        }
        state.met.overtaken += u64::from(state.names.range(first.next()..).next().is_some());
        if state.watermark <= first {
            // Nobody repairs here.
            assert!(state.goes_on(segment), "what {first} goes on from is gone");
            return Ok(Published::Linked);
        }
        drop(state);
        let mut state = self.step();
        if state
            .names
            .get(&first)
            .is_some_and(|there| Arc::ptr_eq(there, &own))
        {
            state.names.remove(&first);
        }
        state.met.taken_back += 1;
        Ok(Published::BelowWatermark)
    }

    fn walk(
        &self,
        from: Option<Cursor>,
        visit: &mut dyn FnMut(Visited) -> bool,
    ) -> Result<Option<ChainEnd>, ChainFault> {
        let mut state = self.step();
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
        if self.step().fails(6) {
            return Err(broken("fsync directory"));
        }
        Ok(())
    }
}

impl Aside for Disk {
    fn keep(&self, _: &Place, entries: &[Entry<'_>]) -> io::Result<()> {
        let mut state = self.step();
        if state.fails(6) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let offsets = entries.iter().map(|entry| entry.offset.0);
        state.aside.extend(offsets);
        drop(state);
        let mut state = self.step();
        if state.fails(6) {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        Ok(())
    }
}
