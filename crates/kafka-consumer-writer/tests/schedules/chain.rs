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
    store::{ChainEnd, ChainFault, Cursor, Encoded, Fate, Published, StoreError, Totals, Visited},
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

    /// What a take-over reads: snapshots stand for the segments that are gone.
    pub fn load(&self, batches_max: usize) -> Memory {
        let state = self.lock();
        let mut window = Window::new(batches_max);
        let mut end = ChainEnd {
            next: state.start,
            last: None,
            totals: Totals::default(),
            last_message: None,
        };
        for segment in state.history.values() {
            window.apply(&segment.trailer.stored);
            end = end_of(segment);
        }
        Memory { window, end }
    }

    /// Removes the oldest segment, as retention does: watermark first, never the end.
    pub fn remove_oldest(&self) {
        let mut state = self.lock();
        let mut names = state.names.keys().copied();
        if let (Some(oldest), Some(second)) = (names.next(), names.next()) {
            state.watermark = second;
            state.names.remove(&oldest);
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
