//! One segment read into a delta, record by record, and its chain's position moved past it. Decides
//! nothing about what comes next.

use pipeline_core::store::{Chain, Cursor, Visited};

use super::{Pause, Position, ReadMismatch};
use crate::{
    archive::{
        self, ChainId,
        tally::{Arrival, Sizes},
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
    let trailer = &visited.trailer;
    let sizes =
        fold(visited, delta, chain).map_err(|fault| Pause::Spoiled(trailer.first, fault))?;
    arrivals.push(Arrival {
        chain: ChainId::new(chain.topic(), chain.partition()),
        first: trailer.first,
        next: trailer.next,
        stored_ms: archive::to_ms(visited.modified),
        sizes: sizes.end(),
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
    tracing::debug!(
        topic = chain.topic(),
        partition = %chain.partition(),
        first = %trailer.first,
        next = %trailer.next,
        "read a segment to count"
    );
    Ok(())
}

/// After an error the delta holds a part of the segment.
fn fold(visited: &Visited, delta: &mut Delta, chain: &Chain) -> Result<Sizes, String> {
    let path = visited.path.display();
    let records = chain.records(visited).map_err(|fault| fault.to_string())?;
    let mut records = records.ok_or_else(|| format!("{path} was removed before it was counted"))?;
    let mut sizes = Sizes::default();
    loop {
        match records.next() {
            Ok(Some(stored)) => match delta.add(&stored) {
                Ok(place) => sizes.add(place, stored.line),
                Err(error) => return Err(format!("damaged {path}: {error}")),
            },
            Ok(None) => return Ok(sizes),
            Err(fault) => return Err(fault.to_string()),
        }
    }
}
