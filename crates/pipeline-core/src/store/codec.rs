//! The trailer as bytes: variable-length integers and delta-coded runs. Owns the layout, never
//! reads or writes a file, and never decides whether a trailer makes sense (`segment` does).
//!
//! ```text
//! magic      "SLTR"
//! version    u16, little-endian
//! first      varint            next - first        varint
//! previous   0, or 1, first - previous.first (varint), hash (32 bytes)
//! writer     16 bytes
//! data       length (varint), SHA-256 (32 bytes), length of the plain NDJSON (varint)
//! totals     stored, duplicate, poison, undecidable, skipped, lost (varints, running)
//! last       0, or 1, offset (varint), hash (16 bytes)
//! fates      number (varint), each: count << 3 | fate (varint)
//! stored     number (varint), each:
//!              first - end of the run before (varint; from `first` for the first run)
//!              count (varint)
//!              received_ms - that of the run before (zigzag varint; from 0 for the first run)
//!              batch (varint): 0 none; 1 new, 16 bytes follow; n + 2 the n-th new one again
//!              first sequence (varint), if there is a batch
//! ```
//! Varints are those of `varint`.

use std::collections::HashMap;

use super::{
    segment::SegmentError,
    trailer::{Fate, FateRun, LastMessage, Link, SegmentHash, StoredRun, Totals, Trailer},
    varint::{Reader, damaged, distance, put, put_offset, unzigzag, zigzag},
};
use crate::ids::{BatchId, Offset};

const MAGIC: [u8; 4] = *b"SLTR";
/// The version written; no other is read yet.
pub const VERSION: u16 = 1;

/// The trailer's bytes, checksum and frame not included.
pub fn encode(trailer: &Trailer) -> Vec<u8> {
    let mut out = Vec::with_capacity(192 + 8 * trailer.fates.len() + 32 * trailer.stored.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    put_offset(&mut out, trailer.first);
    put(&mut out, distance(trailer.first, trailer.next));
    match &trailer.previous {
        None => out.push(0),
        Some(link) => {
            out.push(1);
            put(&mut out, distance(link.first, trailer.first));
            out.extend_from_slice(&link.hash.0);
        }
    }
    out.extend_from_slice(&trailer.writer);
    put(&mut out, trailer.data_len);
    out.extend_from_slice(&trailer.data_sha256);
    put(&mut out, trailer.plain_len);
    put_totals(&mut out, &trailer.totals);
    put_last(&mut out, trailer.last.as_ref());
    put(&mut out, trailer.fates.len() as u64);
    for run in &trailer.fates {
        put(&mut out, run.count << 3 | run.fate as u64);
    }
    put_stored(&mut out, trailer);
    out
}

fn put_stored(out: &mut Vec<u8>, trailer: &Trailer) {
    put(out, trailer.stored.len() as u64);
    let mut seen: HashMap<BatchId, u64, foldhash::fast::RandomState> = HashMap::default();
    let mut end = trailer.first;
    let mut received_ms = 0_i64;
    for run in &trailer.stored {
        put(out, distance(end, run.first));
        put(out, u64::from(run.count));
        put(out, zigzag(run.received_ms.wrapping_sub(received_ms)));
        end = Offset(run.first.0 + i64::from(run.count));
        received_ms = run.received_ms;
        let Some(batch) = run.batch else {
            put(out, 0);
            continue;
        };
        let number = seen.len() as u64;
        match seen.entry(batch) {
            std::collections::hash_map::Entry::Occupied(known) => put(out, known.get() + 2),
            std::collections::hash_map::Entry::Vacant(new) => {
                new.insert(number);
                put(out, 1);
                out.extend_from_slice(&batch.0);
            }
        }
        put(out, u64::from(run.first_sequence));
    }
}

/// Reads what [`encode`] wrote.
pub fn decode(bytes: &[u8]) -> Result<Trailer, SegmentError> {
    let mut from = Reader::new(bytes);
    let magic: [u8; 4] = from.array("magic")?;
    if magic != MAGIC {
        return Err(damaged(format!(
            "trailer begins with {magic:02x?}, expected {MAGIC:02x?}"
        )));
    }
    let version = u16::from_le_bytes(from.array("version")?);
    if version != VERSION {
        return Err(damaged(format!(
            "trailer has version {version}, known is {VERSION}"
        )));
    }
    let first = from.offset("first")?;
    let next = from.offset_after(first, "next")?;
    let previous = if from.flag("previous")? {
        let back = from.number("previous.first")?;
        Some(Link {
            first: i64::try_from(back)
                .ok()
                .and_then(|back| first.0.checked_sub(back))
                .filter(|first| *first >= 0)
                .map(Offset)
                .ok_or_else(|| damaged(format!("previous.first is {back} below {first}")))?,
            hash: SegmentHash(from.array("previous.hash")?),
        })
    } else {
        None
    };
    let writer = from.array("writer")?;
    let data_len = from.number("data length")?;
    let data_sha256 = from.array("data hash")?;
    let plain_len = from.number("plain length")?;
    let totals = totals(&mut from)?;
    let last = last(&mut from)?;
    let number = from.count("fates", 1)?;
    let mut fates = Vec::with_capacity(number);
    for _ in 0..number {
        let run = from.number("fate run")?;
        fates.push(FateRun {
            fate: fate(run & 7)?,
            count: run >> 3,
        });
    }
    let stored = stored(&mut from, first)?;
    if !from.rest().is_empty() {
        return Err(damaged(format!(
            "trailer has {} bytes behind its end",
            from.rest().len()
        )));
    }
    Ok(Trailer {
        first,
        next,
        previous,
        writer,
        fates,
        stored,
        totals,
        last,
        data_len,
        data_sha256,
        plain_len,
    })
}

pub(super) fn put_totals(out: &mut Vec<u8>, totals: &Totals) {
    for total in [
        totals.stored,
        totals.duplicate,
        totals.poison,
        totals.undecidable,
        totals.skipped,
        totals.lost,
    ] {
        put(out, total);
    }
}

pub(super) fn totals(from: &mut Reader<'_>) -> Result<Totals, SegmentError> {
    Ok(Totals {
        stored: from.number("totals.stored")?,
        duplicate: from.number("totals.duplicate")?,
        poison: from.number("totals.poison")?,
        undecidable: from.number("totals.undecidable")?,
        skipped: from.number("totals.skipped")?,
        lost: from.number("totals.lost")?,
    })
}

pub(super) fn put_last(out: &mut Vec<u8>, last: Option<&LastMessage>) {
    match last {
        None => out.push(0),
        Some(last) => {
            out.push(1);
            put_offset(out, last.offset);
            out.extend_from_slice(&last.hash);
        }
    }
}

pub(super) fn last(from: &mut Reader<'_>) -> Result<Option<LastMessage>, SegmentError> {
    Ok(if from.flag("last")? {
        Some(LastMessage {
            offset: from.offset("last.offset")?,
            hash: from.array("last.hash")?,
        })
    } else {
        None
    })
}

fn stored(from: &mut Reader<'_>, first: Offset) -> Result<Vec<StoredRun>, SegmentError> {
    let number = from.count("stored runs", 4)?;
    let mut runs = Vec::with_capacity(number);
    let mut seen = Vec::new();
    let mut end = first;
    let mut received_ms = 0_i64;
    for _ in 0..number {
        let first = from.offset_after(end, "stored run")?;
        let count = from.u32("stored run's count")?;
        received_ms = received_ms.wrapping_add(unzigzag(from.number("received_ms")?));
        end = Offset(
            first
                .0
                .checked_add(i64::from(count))
                .ok_or_else(|| damaged("stored run ends behind the greatest offset".to_owned()))?,
        );
        let batch = match from.number("batch")? {
            0 => None,
            1 => {
                let batch = BatchId(from.array("batch id")?);
                seen.push(batch);
                Some(batch)
            }
            again => Some(
                usize::try_from(again - 2)
                    .ok()
                    .and_then(|index| seen.get(index).copied())
                    .ok_or_else(|| {
                        damaged(format!("batch {} of {} seen", again - 2, seen.len()))
                    })?,
            ),
        };
        runs.push(StoredRun {
            first,
            count,
            received_ms,
            batch,
            first_sequence: if batch.is_some() {
                from.u32("first sequence")?
            } else {
                0
            },
        });
    }
    Ok(runs)
}

fn fate(code: u64) -> Result<Fate, SegmentError> {
    Ok(match code {
        0 => Fate::Stored,
        1 => Fate::Duplicate,
        2 => Fate::Poison,
        3 => Fate::Undecidable,
        4 => Fate::Skipped,
        5 => Fate::Lost,
        _ => return Err(damaged(format!("unknown fate {code}"))),
    })
}
