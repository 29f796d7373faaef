//! What must be true of every body, whatever its bytes: judged by other readers (`serde_json`,
//! reference decompressors), never by the code that is tested. The fuzz targets call these on
//! nightly, `tests/fuzz.rs` on stable, with the same inputs.
//!
//! The first byte of an input chooses options, the second how it is cut into pieces; both are
//! printable in the seeds.
#![allow(dead_code, reason = "each fuzz target uses its own part")]

use ingest_gateway::decode::{Limits, Media};
use pipeline_core::record::Rules;

mod batch;
mod body;
mod inflate;
mod record;

pub use inflate::inflate;
pub use record::record;

/// Panics where something is wrong.
pub type Oracle = fn(&[u8]);

/// Each target by its name.
pub const TARGETS: [(&str, Oracle); 7] = [
    ("json", json),
    ("ndjson", ndjson),
    ("csv", csv),
    ("text", text),
    ("inflate", inflate),
    ("pieces", pieces),
    ("record", record),
];

pub fn json(data: &[u8]) {
    body::decodes_right(Media::Json, data);
}

pub fn ndjson(data: &[u8]) {
    body::decodes_right(Media::Ndjson, data);
}

pub fn csv(data: &[u8]) {
    body::decodes_right(Media::Csv, data);
}

pub fn text(data: &[u8]) {
    body::decodes_right(Media::Text, data);
}

pub fn pieces(data: &[u8]) {
    body::pieces_say_what_the_whole_says(data);
}

/// What one bit each of the first byte chooses.
struct Options {
    rules: Rules,
    limits: Limits,
    /// For where the body is cut.
    cuts: fastrand::Rng,
}

impl Options {
    /// Takes them from the front of `data`.
    fn of(data: &[u8]) -> Option<(Self, &[u8])> {
        let (&[options, cuts], body) = data.split_first_chunk()?;
        let bit = |bit: u8| options >> bit & 1 == 1;
        let rules = Rules {
            record_bytes_max: if bit(0) { 120 } else { 256 * 1024 },
            default_site: bit(1).then(|| "d.example".to_owned()),
            bound_site: None,
        };
        let limits = Limits {
            rejected_bytes_max: if bit(2) { 9 } else { 0 },
            records_max: if bit(3) { 3 } else { 1_000_000 },
            errors_max: 4,
            ..Limits::default()
        };
        let cuts = fastrand::Rng::with_seed(u64::from(cuts));
        Some((
            Self {
                rules,
                limits,
                cuts,
            },
            body,
        ))
    }
}
