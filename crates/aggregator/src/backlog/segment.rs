//! One segment read into a delta, and its chain's position moved past it. Decides nothing about
//! what comes next.

use pipeline_core::store::{
    Chain, ChainFault, Cursor, SegmentError, StoreError, Visited, read_segment,
};

use super::{Pause, Position, ReadMismatch};
use crate::{
    archive::{
        self, ChainId,
        tally::{Arrival, tally},
    },
    fold::Delta,
};

pub(super) fn fold_segment(
    visited: &Visited,
    delta: &mut Delta,
    arrivals: &mut Vec<Arrival>,
    at: &mut Position,
    chain: &Chain,
) -> Result<(), Pause> {
    let path = &visited.path;
    let damaged = |detail: String| {
        Pause::Fault(ChainFault::Damaged {
            path: path.clone(),
            detail,
        })
    };
    let (trailer, hash, ndjson) = read_segment(path).map_err(|error| match error {
        SegmentError::Damaged(detail) => damaged(detail),
        SegmentError::Io(source) => Pause::Fault(ChainFault::Io(StoreError {
            step: "read",
            path: path.clone(),
            source,
        })),
    })?;
    if hash != visited.hash {
        return Err(damaged("changed while it was read".to_owned()));
    }
    delta
        .fold(&trailer, &ndjson)
        .map_err(|error| Pause::Spoiled(trailer.first, error.to_string()))?;
    let sizes = tally(&trailer, &ndjson)
        .map_err(|error| Pause::Spoiled(trailer.first, error.to_string()))?;
    arrivals.push(Arrival {
        chain: ChainId::new(chain.topic(), chain.partition()),
        first: trailer.first,
        next: trailer.next,
        stored_ms: archive::to_ms(visited.modified),
        sizes,
    });
    at.read += trailer.own_totals().stored;
    if at.read != trailer.totals.stored {
        return Err(Pause::Mismatch(ReadMismatch {
            topic: chain.topic().to_owned(),
            partition: chain.partition(),
            read: at.read,
            stored: trailer.totals.stored,
        }));
    }
    at.cursor = Cursor {
        next: trailer.next,
        last: Some(visited.link()),
    };
    Ok(())
}
