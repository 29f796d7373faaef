//! Reading a chain into memory, on a blocking thread.

use pipeline_core::store::{Chain, ChainEnd, ChainFault, Start};

use crate::{partition::Memory, window::Window};

/// What a chain's directory holds.
#[derive(Debug)]
pub struct Loaded {
    pub start: Start,
    pub memory: Memory,
}

/// Walks a chain from its beginning and rebuilds its duplicate window; `None`: there is no chain.
///
/// # Errors
/// The first damaged or missing segment, and a window that cannot be rebuilt because segments are
/// gone.
pub fn load(chain: &Chain, batches_max: usize) -> Result<Option<Loaded>, ChainFault> {
    let Some(start) = chain.start()? else {
        if chain.walk(None, &mut |_| false)?.is_none() {
            return Ok(None);
        }
        // Another writer has begun the chain meanwhile: nothing is wrong, and it is there now.
        return load(chain, batches_max);
    };
    let mut window = Window::new(batches_max);
    let mut at = start.first_offset;
    let mut gap = None;
    let end = chain.walk(None, &mut |visited| {
        if visited.trailer.first != at {
            gap = Some(visited.path);
            return false;
        }
        at = visited.trailer.next;
        window.apply(&visited.trailer.stored);
        true
    })?;
    if let Some(path) = gap {
        return Err(ChainFault::Missing {
            path,
            detail: format!("segments from {at} on are gone, and no snapshot holds the window"),
        });
    }
    let end = end.unwrap_or(ChainEnd {
        next: start.first_offset,
        last: None,
        totals: pipeline_core::store::Totals::default(),
        last_message: None,
    });
    Ok(Some(Loaded {
        start,
        memory: Memory { window, end },
    }))
}

/// The memory of a chain that has just been begun.
#[must_use]
pub fn begun(start: &Start, batches_max: usize) -> Memory {
    Memory {
        window: Window::new(batches_max),
        end: ChainEnd {
            next: start.first_offset,
            last: None,
            totals: pipeline_core::store::Totals::default(),
            last_message: None,
        },
    }
}
