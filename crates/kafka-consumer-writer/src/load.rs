//! Reading a chain into memory, on a blocking thread: the newest snapshot of its window that can
//! be read and the trailers behind it, or all trailers where no segment is gone. What is gone on
//! from is read whole: the last segment and those behind the snapshot, to a bound (`scrub` reads
//! the others in its time).

use std::{collections::BTreeSet, path::PathBuf};

use metrics::counter;
use pipeline_core::{
    Offset,
    store::{Chain, ChainEnd, ChainFault, Start, StoreError, Totals},
    telemetry::catalog,
};

use crate::{partition::Memory, window::Window};

/// What is missing may have been removed since the directory was listed: it is looked at anew.
const LOOKS_MAX: u32 = 3;
/// What is read whole, newest first: some 30 ms of hashing for a take-over, 150 on an old processor.
const WHOLE_BYTES_MAX: u64 = 32 << 20;
const WHOLE_SEGMENTS_MAX: u64 = 1_024;

/// What a chain's directory holds.
#[derive(Debug)]
pub struct Loaded {
    pub start: Start,
    pub memory: Memory,
    /// First offsets of all segments that are there.
    pub names: Vec<Offset>,
    /// Segments whose trailers had to be read.
    pub behind: u64,
}

/// Reads the chain's end and its duplicate window; `None`: there is no chain.
///
/// # Errors
/// The first damaged or missing segment, and a window that cannot be rebuilt because segments are
/// gone and no snapshot can be read.
pub fn load(chain: &Chain, batches_max: usize) -> Result<Option<Loaded>, ChainFault> {
    load_doubting(chain, batches_max, None)
}

/// As [`load`]; the segment that begins at `doubted`, if it is of the chain, is read whole, too.
///
/// # Errors
/// As [`load`].
pub fn load_doubting(
    chain: &Chain,
    batches_max: usize,
    doubted: Option<Offset>,
) -> Result<Option<Loaded>, ChainFault> {
    let mut looks = 1;
    loop {
        let loaded = match chain.start()? {
            Some(start) => look(chain, start, batches_max)
                .and_then(|loaded| check(chain, &loaded, doubted).map(|()| Some(loaded))),
            // Another writer may begin the chain meanwhile: then it is there at the next look.
            None => match chain.walk(None, &mut |_| false)? {
                None => Ok(None),
                Some(_) => Err(ChainFault::Missing {
                    path: chain.start_path(),
                    detail: "the chain was begun while it was read".to_owned(),
                }),
            },
        };
        match loaded {
            Err(ChainFault::Missing { .. }) if looks < LOOKS_MAX => looks += 1,
            done => return done,
        }
    }
}

/// The memory of a chain that has just been begun.
#[must_use]
pub fn begun(start: &Start, batches_max: usize) -> Memory {
    Memory {
        window: Window::new(batches_max),
        end: at_start(start),
        aside: BTreeSet::new(),
    }
}

fn look(chain: &Chain, start: Start, batches_max: usize) -> Result<Loaded, ChainFault> {
    let mut unreadable = Vec::new();
    let mut trouble = None;
    for file in chain.snapshots()? {
        let restored = match file.read() {
            Ok(Some(bytes)) => Window::restore(&bytes, batches_max).map_err(|it| it.to_string()),
            // A newer one stands, which the next look finds.
            Ok(None) => continue,
            Err(error) => {
                let detail = error.to_string();
                trouble = Some(error);
                Err(detail)
            }
        };
        match restored {
            Ok((head, mut window)) => {
                let mut behind = 0;
                let resumed = chain.resume(&head, &mut |visited| {
                    behind += 1;
                    window.apply(&visited.trailer.stored);
                })?;
                let end = resumed.end;
                return Ok(Loaded {
                    start,
                    memory: Memory {
                        window,
                        end,
                        aside: BTreeSet::new(),
                    },
                    names: resumed.names,
                    behind,
                });
            }
            Err(detail) => {
                let path = file.path.display();
                tracing::error!(%path, detail, "snapshot of the duplicate window cannot be read");
                counter!(catalog::STORE_SNAPSHOTS_UNREADABLE).increment(1);
                unreadable.push(file.path);
            }
        }
    }
    rebuild(chain, start, batches_max, &unreadable, trouble)
}

fn check(chain: &Chain, loaded: &Loaded, doubted: Option<Offset>) -> Result<(), ChainFault> {
    if let Some(name) = doubted
        && loaded.names.binary_search(&name).is_ok()
    {
        chain.check(name)?;
    }
    let newest = loaded.behind.clamp(1, WHOLE_SEGMENTS_MAX) as usize;
    let mut bytes = 0;
    for name in loaded.names.iter().rev().take(newest) {
        bytes += chain.check(*name)?.unwrap_or_default();
        if bytes >= WHOLE_BYTES_MAX {
            break;
        }
    }
    Ok(())
}

/// From all trailers, which must all be there.
fn rebuild(
    chain: &Chain,
    start: Start,
    batches_max: usize,
    unreadable: &[PathBuf],
    trouble: Option<StoreError>,
) -> Result<Loaded, ChainFault> {
    let mut window = Window::new(batches_max);
    let mut names = Vec::new();
    let mut at = start.first_offset;
    let mut gap = None;
    let end = chain.walk(None, &mut |visited| {
        if visited.trailer.first != at {
            gap = Some(visited.path);
            return false;
        }
        at = visited.trailer.next;
        names.push(visited.trailer.first);
        window.apply(&visited.trailer.stored);
        true
    })?;
    if gap.is_some() {
        // A disk that does not answer may answer later.
        if let Some(trouble) = trouble {
            return Err(trouble.into());
        }
        return Err(ChainFault::Missing {
            path: chain.segment_path(at),
            detail: format!(
                "segments from {at} on are gone, and no snapshot of the duplicate window can be \
                 read (found {unreadable:?})"
            ),
        });
    }
    Ok(Loaded {
        memory: Memory {
            window,
            end: end.unwrap_or_else(|| at_start(&start)),
            aside: BTreeSet::new(),
        },
        start,
        behind: names.len() as u64,
        names,
    })
}

fn at_start(start: &Start) -> ChainEnd {
    ChainEnd {
        next: start.first_offset,
        last: None,
        totals: Totals::default(),
        last_message: None,
    }
}
