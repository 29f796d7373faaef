//! A body to records: what came in over HTTP becomes an arena of canonical lines, and an error
//! with its place for each record that is none.
//!
//! ```text
//! Content-Type ─▶ media::Media        Content-Encoding ─▶ media::Encoding
//! bytes as they come ─▶ inflate::Inflater ─▶ the decoded body ─▶ decode() ─▶ DecodedBatch
//! ```
//!
//! Whether a record is valid is decided by `pipeline_core::record` alone; this module finds where
//! each begins and ends and splits text into fields. It does no I/O, knows no HTTP, and allocates
//! nothing for a valid record. A record that cannot be read never harms its neighbours, except in
//! a JSON text that does not parse to its end: nothing of that one is known.

use std::ops::Range;

use pipeline_core::record::{RecordError, RecordErrorCode};

use body::{RATIO_MAX, WINDOW_BYTES_MAX};

pub mod inflate;
pub mod media;

mod body;
mod decoder;

mod access_log;
mod carry;
mod csv;
mod json;
mod lines;
mod sink;

pub use body::{BodyDecoder, BodyHead, Decoded, Progress};
pub use decoder::{Decoder, decode};
pub use inflate::{InflateError, Inflater, Moved};
pub use media::{Encoding, EncodingError, Media, MediaError};

/// Canonical lines, one behind the other, each without a newline.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct RecordBatch {
    pub lines: Vec<u8>,
    /// For each record the end of its line in `lines`; it begins where the one before ends.
    pub ends: Vec<u32>,
    /// For each record its place in the body: 0-based element, data row or non-blank line.
    pub sequences: Vec<u32>,
}

/// All that a body held.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct DecodedBatch {
    pub records: RecordBatch,
    /// Records that are none.
    pub rejected: u64,
    /// Why, for the first [`Limits::errors_max`] of them.
    pub errors: Vec<IndexedError>,
    /// In the order of [`RecordErrorCode::ALL`].
    pub rejected_by_code: [u64; RecordErrorCode::ALL.len()],
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IndexedError {
    /// The record's place in the body, counted like [`RecordBatch::sequences`].
    pub index: u32,
    pub error: RecordError,
    /// The record as it came, without the end of its line, cut to [`Limits::rejected_bytes_max`].
    pub raw: Vec<u8>,
}

/// What one body may hold, beside what [`Rules`] say of each record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Records of one body, invalid ones included.
    pub records_max: u32,
    /// Bytes of all canonical lines. At most `u32::MAX`: positions in a batch are 32 bits.
    pub lines_bytes_max: u32,
    /// How many errors are kept with their message; the others are only counted.
    pub errors_max: usize,
    /// How many bytes of the record are kept beside such an error; 0 keeps none.
    pub rejected_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            records_max: 1_000_000,
            lines_bytes_max: u32::MAX,
            errors_max: 100,
            rejected_bytes_max: 0,
        }
    }
}

/// A body of which nothing is accepted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BodyError {
    /// It is not what its media type says: 400.
    #[error("{message}")]
    Unreadable { message: String },
    /// It is not what its encoding says: 400.
    #[error(transparent)]
    Inflate(#[from] InflateError),
    /// 413.
    #[error(
        "the body has more than {allowed} bytes when decoded, allowed by server.maxDecodedBytes are {allowed}"
    )]
    DecodedTooLong { allowed: u64 },
    /// 413: it would cost much more than it holds.
    #[error(
        "the body decodes to more than {RATIO_MAX} times its bytes with a window of {found} bytes, allowed then are {WINDOW_BYTES_MAX}"
    )]
    WindowTooLarge { found: usize },
    /// 413.
    #[error(
        "the body has more than {allowed} records, allowed by ingestion.maxBatchRecords are {allowed}"
    )]
    TooManyRecords { allowed: u32 },
    /// 413: short cells under long names, or a long `?site=`, make much of little.
    #[error(
        "the body's records have more than {allowed} bytes as lines of JSON, allowed are {allowed} (twice server.maxDecodedBytes, and less than 4 GiB)"
    )]
    TooLarge { allowed: u32 },
}

impl RecordBatch {
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The line of record `at`.
    #[must_use]
    pub fn line(&self, at: usize) -> &[u8] {
        &self.lines[self.range(at)]
    }

    /// Where the line of record `at` lies in [`Self::lines`].
    #[must_use]
    pub fn range(&self, at: usize) -> Range<usize> {
        let start = if at == 0 {
            0
        } else {
            self.ends[at - 1] as usize
        };
        start..self.ends[at] as usize
    }

    /// Each line with its sequence.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u32, &[u8])> {
        (0..self.len()).map(|at| (self.sequences[at], self.line(at)))
    }
}

impl DecodedBatch {
    /// How many errors are only counted.
    #[must_use]
    pub fn errors_omitted(&self) -> u64 {
        self.rejected - self.errors.len() as u64
    }
}

impl BodyError {
    /// Whether it is too large (413), not unreadable (400).
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        match self {
            Self::Unreadable { .. } | Self::Inflate(_) => false,
            Self::DecodedTooLong { .. }
            | Self::WindowTooLarge { .. }
            | Self::TooManyRecords { .. }
            | Self::TooLarge { .. } => true,
        }
    }

    fn unreadable(message: String) -> Self {
        Self::Unreadable { message }
    }
}

#[cfg(test)]
mod tests;
