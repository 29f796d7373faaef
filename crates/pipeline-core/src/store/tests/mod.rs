//! Tests of the store over real directories; here what they share.

mod chain;
#[cfg(feature = "fault-injection")]
mod faults;
#[cfg(feature = "fault-injection")]
mod late;
#[cfg(feature = "fault-injection")]
mod late_removal;
mod look;
#[cfg(feature = "fault-injection")]
mod power;
mod records;
mod repair;
mod segment;
mod severed;
mod snapshot;
#[cfg(feature = "fault-injection")]
mod taken;
mod verify;

use std::path::Path;

use super::*;
use crate::ids::{BatchId, Offset, PartitionId};

/// A draft that covers a random range behind `end` in random ways, and its lines.
fn random_draft(rng: &mut fastrand::Rng, end: &ChainEnd) -> (Draft, Vec<u8>) {
    let first = end.next;
    let mut draft = Draft {
        first,
        next: first,
        previous: end.last,
        writer: [rng.u8(..); 16],
        fates: Vec::new(),
        stored: Vec::new(),
        totals_before: end.totals,
        last: end.last_message,
    };
    let mut lines = Vec::new();
    let mut received_ms = 1_400_000_000_000;
    for _ in 0..rng.u32(1..6) {
        let fate = [
            Fate::Stored,
            Fate::Stored,
            Fate::Stored,
            Fate::Duplicate,
            Fate::Poison,
            Fate::Undecidable,
            Fate::Skipped,
            Fate::Lost,
        ][rng.usize(..8)];
        let mut left = rng.u32(1..40);
        draft.fates.push(FateRun {
            fate,
            count: u64::from(left),
        });
        while fate == Fate::Stored && left > 0 {
            let count = rng.u32(1..=left);
            received_ms += rng.i64(-5_000..5_000);
            let batch = rng.bool().then(|| BatchId([rng.u8(..4); 16]));
            draft.stored.push(StoredRun {
                first: Offset(
                    draft.next.0 + i64::from(draft.fates.last().unwrap().count as u32 - left),
                ),
                count,
                received_ms,
                batch,
                first_sequence: batch.map_or(0, |_| rng.u32(..100)),
            });
            for _ in 0..count {
                lines.extend_from_slice(format!("{{\"n\":{}}}\n", rng.u64(..)).as_bytes());
            }
            left -= count;
        }
        draft.next.0 += draft.fates.last().unwrap().count as i64;
    }
    if rng.bool() {
        draft.last = Some(LastMessage {
            offset: Offset(draft.next.0 - 1),
            hash: [rng.u8(..); 16],
        });
    }
    (draft, lines)
}

fn start_at(first: i64) -> Start {
    Start {
        format: super::chain::FORMAT,
        cluster_id: "cluster".to_owned(),
        topic_id: "0123456789abcdef0123456789abcdef".to_owned(),
        first_offset: Offset(first),
    }
}

fn end_of(chain: &Chain) -> ChainEnd {
    chain.walk(None, &mut |_| true).unwrap().unwrap()
}

fn extend(rng: &mut fastrand::Rng, chain: &Chain) -> Encoded {
    let (draft, lines) = random_draft(rng, &end_of(chain));
    let segment = draft.encode(&lines, super::segment::LEVEL);
    assert_eq!(chain.publish(&segment).unwrap(), Published::Linked);
    segment
}

/// A store with one chain of `segments`, which begins at offset 7.
fn random_chain(root: &Path, rng: &mut fastrand::Rng, segments: usize) -> Chain {
    let chain = Store::open(root).unwrap().chain("logs", PartitionId(3));
    chain.put_start(&start_at(7)).unwrap();
    for _ in 0..segments {
        extend(rng, &chain);
    }
    chain
}
