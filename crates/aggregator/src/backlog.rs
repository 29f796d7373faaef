//! What a run has to read: each chain from its cursor to what was stored when the run began, in
//! portions of bounded memory. Reads the store, writes nothing; one chain's damage stops that
//! chain alone.

mod portion;
mod segment;

use std::{collections::BTreeMap, time::SystemTime};

use pipeline_core::{
    Offset, PartitionId,
    store::{Chain, ChainFault, Cursor, Start, Store, StoreError},
};
pub use portion::Portion;
use segment::fold_segment;

use crate::{
    archive::{ChainId, tally::Arrival},
    fold::Delta,
    manifest::{ChainState, LastSegment, Manifest, TakenOver, hex},
    run::Settings,
};

/// A chain that is not counted on until someone looks at it.
#[derive(Clone, Debug)]
pub struct Halted {
    pub topic: String,
    pub partition: PartitionId,
    pub fault: String,
}

/// What one portion came to.
pub enum Folded {
    /// Counts, and at least one cursor that has moved. There may be more.
    Full(Box<Delta>),
    /// The same, and all that was stored at the beginning is read, where it could be.
    Last(Box<Delta>),
    /// That, and nothing came since the last portion.
    End,
    /// The caller's word.
    Stopped,
}

/// Why a chain's totals cannot be counted on.
#[derive(Debug, thiserror::Error)]
#[error("{read} records read from topic {topic} partition {partition}, its trailers say {stored}")]
pub struct ReadMismatch {
    topic: String,
    partition: PartitionId,
    read: u64,
    stored: u64,
}

pub struct Backlog {
    sources: Vec<Source>,
    /// What the last portion is made of, and what is held.
    arrivals: Vec<Arrival>,
    /// How many of them are of what is held.
    arrivals_held: usize,
}

struct Source {
    chain: Chain,
    /// `None` before START is there.
    at: Option<Position>,
    /// Where the last portion that is held or committed ended.
    held: Option<Position>,
    /// Where the last one that is committed ended.
    committed: Option<Position>,
    /// The greatest name when the run began: nothing behind it is this run's business.
    bound: Option<Offset>,
    /// Chains of its name that are gone, and counted.
    gone: Vec<TakenOver>,
    /// A segment that cannot be folded, and why: found out after a part of it was.
    bad: Option<(Offset, String)>,
    state: Reading,
    /// When the oldest segment was stored that has been read and is not counted.
    waiting_since: Option<SystemTime>,
}

#[derive(Clone, PartialEq)]
struct Position {
    start: Start,
    cursor: Cursor,
    read: u64,
}

#[derive(PartialEq)]
enum Reading {
    /// Not looked at in this run.
    New,
    More,
    Done,
    Halted(String),
}

/// Why the reading of a chain paused.
enum Pause {
    Full,
    Bound,
    Fault(String),
    /// The delta holds a part of this segment.
    Spoiled(Offset, String),
    Stopped,
    Mismatch(ReadMismatch),
}

impl Backlog {
    /// What there is to read now. With `check`, chains that have nothing new are looked at too.
    ///
    /// # Errors
    /// Where the store cannot be listed, or a cursor is not one.
    pub fn look(store: &Store, manifest: &Manifest, check: bool) -> Result<Self, BacklogError> {
        let mut chains = BTreeMap::new();
        for state in &manifest.chains {
            let partition = PartitionId(state.partition);
            let position = Position {
                start: state.start.clone(),
                cursor: state.cursor().map_err(BacklogError::Cursor)?,
                read: state.read,
            };
            let chain = store.chain(&state.topic, partition);
            chains.insert((state.topic.clone(), partition), (chain, Some(position)));
        }
        for chain in store.chains()? {
            chains
                .entry((chain.topic().to_owned(), chain.partition()))
                .or_insert((chain, None));
        }
        let mut sources = Vec::new();
        for (chain, at) in chains.into_values() {
            let (bound, state) = match chain.greatest_name() {
                Ok(Some(bound)) if !check && is_last(at.as_ref(), bound) => {
                    (Some(bound), Reading::Done)
                }
                Ok(bound) => (bound, Reading::New),
                // One chain's trouble with the disk, say: the others are counted.
                Err(error) => (None, Reading::Halted(error.to_string())),
            };
            let id = ChainId::new(chain.topic(), chain.partition());
            let gone = manifest.taken_over.iter().filter(|gone| gone.chain == id);
            sources.push(Source {
                bound,
                gone: gone.cloned().collect(),
                chain,
                held: at.clone(),
                committed: at.clone(),
                at,
                bad: None,
                state,
                waiting_since: None,
            });
        }
        Ok(Self {
            sources,
            arrivals: Vec::new(),
            arrivals_held: 0,
        })
    }

    /// Reads the next portion. `go_on` is asked before each segment.
    ///
    /// # Errors
    /// Where a chain's trailers contradict what was read of it.
    pub fn fold(
        &mut self,
        settings: &Settings,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Folded, ReadMismatch> {
        'anew: loop {
            let portion = settings.portion;
            let mut delta = Delta::new(settings.strip_query);
            self.arrivals.truncate(self.arrivals_held);
            let mut plain_bytes = 0;
            for number in 0..self.sources.len() {
                let source = &mut self.sources[number];
                if !matches!(source.state, Reading::New | Reading::More) {
                    continue;
                }
                let mut full = |delta: &Delta, plain: u64| {
                    plain_bytes += plain;
                    plain_bytes >= portion.plain_bytes_max
                        || delta.memory() >= portion.counts_bytes_max
                };
                match source.read(&mut delta, &mut self.arrivals, &mut full, go_on) {
                    Ok(()) | Err(Pause::Bound) => source.state = Reading::Done,
                    Err(Pause::Full) => {
                        source.state = Reading::More;
                        return Ok(Folded::Full(Box::new(delta)));
                    }
                    Err(Pause::Fault(fault)) => source.state = Reading::Halted(fault),
                    Err(Pause::Stopped) => return Ok(Folded::Stopped),
                    Err(Pause::Mismatch(mismatch)) => return Err(mismatch),
                    Err(Pause::Spoiled(first, fault)) => {
                        // Read the portion again, up to that segment. Seldom enough.
                        source.bad = Some((first, fault));
                        for source in &mut self.sources {
                            source.rewind();
                        }
                        continue 'anew;
                    }
                }
            }
            let moved = self.sources.iter().any(|source| source.at != source.held);
            return Ok(if moved {
                Folded::Last(Box::new(delta))
            } else {
                Folded::End
            });
        }
    }

    /// Where each chain has been read to, for a manifest.
    #[must_use]
    pub fn states(&self) -> Vec<ChainState> {
        self.sources.iter().filter_map(Source::to_state).collect()
    }

    /// The segments of the last portion and of those held, and what each brings to the archive.
    #[must_use]
    pub fn arrivals(&self) -> &[Arrival] {
        &self.arrivals
    }

    /// The chains that have been read on since the last commit.
    pub fn moved(&self) -> impl Iterator<Item = &Chain> {
        let sources = self.sources.iter();
        let moved = sources.filter(|source| source.at != source.committed);
        moved.map(|source| &source.chain)
    }

    /// The last portion is held: what comes next comes to it.
    pub fn held(&mut self) {
        for source in &mut self.sources {
            source.held = source.at.clone();
        }
        self.arrivals_held = self.arrivals.len();
    }

    /// The last portion is counted, and what was held.
    pub fn committed(&mut self) {
        self.arrivals.clear();
        self.held();
        for source in &mut self.sources {
            source.committed = source.at.clone();
            source.waiting_since = None;
        }
    }

    #[must_use]
    pub fn halted(&self) -> Vec<Halted> {
        let halted = self
            .sources
            .iter()
            .filter_map(|source| match &source.state {
                Reading::Halted(fault) => Some(Halted {
                    topic: source.chain.topic().to_owned(),
                    partition: source.chain.partition(),
                    fault: fault.clone(),
                }),
                _ => None,
            });
        halted.collect()
    }

    /// When the oldest segment was stored that has been read and is not counted.
    #[must_use]
    pub fn waiting_since(&self) -> Option<SystemTime> {
        let waiting = self
            .sources
            .iter()
            .filter_map(|source| source.waiting_since);
        waiting.min()
    }
}

/// Whether the segment that begins at `first` is the last one that was read.
fn is_last(at: Option<&Position>, first: Offset) -> bool {
    at.and_then(|at| at.cursor.last)
        .is_some_and(|last| last.first == first)
}

/// Why a backlog cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum BacklogError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a manifest's cursor is none: {0}")]
    Cursor(String),
}

impl Source {
    fn read(
        &mut self,
        delta: &mut Delta,
        arrivals: &mut Vec<Arrival>,
        full: &mut dyn FnMut(&Delta, u64) -> bool,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<(), Pause> {
        let fault = |fault: ChainFault| Pause::Fault(fault.to_string());
        if self.state == Reading::New && !self.begin().map_err(fault)? {
            return Ok(());
        }
        let Some(at) = &mut self.at else {
            return Ok(());
        };
        let mut pause = None;
        let walked = self.chain.walk(Some(at.cursor), &mut |visited| {
            let first = visited.trailer.first;
            if self.bound.is_none_or(|bound| bound < first) {
                pause = Some(Pause::Bound);
                return false;
            }
            self.waiting_since.get_or_insert(visited.modified);
            if let Some((bad, why)) = &self.bad
                && *bad == first
            {
                pause = Some(Pause::Fault(why.clone()));
                return false;
            }
            if !go_on() {
                pause = Some(Pause::Stopped);
                return false;
            }
            match fold_segment(&visited, delta, arrivals, at, &self.chain) {
                Ok(()) if full(delta, visited.trailer.plain_len) => pause = Some(Pause::Full),
                Ok(()) => return true,
                Err(why) => pause = Some(why),
            }
            false
        });
        match pause {
            Some(pause) => Err(pause),
            None => walked.map(|_| ()).map_err(fault),
        }
    }

    /// Whether there is a chain to walk, and the one that the cursor means.
    fn begin(&mut self) -> Result<bool, ChainFault> {
        let found = self.chain.start()?;
        match (&self.at, found) {
            // Not begun yet, or damaged: the walk knows.
            (None, None) => {
                self.chain.walk(None, &mut |_| false)?;
                return Ok(false);
            }
            // From START, never from a watermark: what is below it was never counted.
            (None, Some(start)) => {
                if let Some(detail) = self.gone.iter().find_map(|gone| gone.clash(&start)) {
                    let path = self.chain.start_path();
                    return Err(ChainFault::Damaged { path, detail });
                }
                let cursor = Cursor {
                    next: start.first_offset,
                    last: None,
                };
                let read = 0;
                self.at = Some(Position {
                    start,
                    cursor,
                    read,
                });
            }
            (Some(at), Some(start)) if at.start != start => {
                return Err(ChainFault::Damaged {
                    path: self.chain.start_path(),
                    detail: format!(
                        "is {start:?}, the chain that was counted had {:?}",
                        at.start
                    ),
                });
            }
            _ => {}
        }
        Ok(true)
    }

    fn rewind(&mut self) {
        self.at = self.held.clone();
        if self.state == Reading::Done || self.state == Reading::More {
            self.state = Reading::New;
        }
    }

    fn to_state(&self) -> Option<ChainState> {
        let at = self.at.as_ref()?;
        Some(ChainState {
            topic: self.chain.topic().to_owned(),
            partition: self.chain.partition().0,
            start: at.start.clone(),
            next: at.cursor.next,
            last: at.cursor.last.map(|last| LastSegment {
                first: last.first,
                hash: hex(&last.hash.0),
            }),
            read: at.read,
        })
    }
}
