//! One record: what a valid one is, and its one canonical line.
//!
//! [`append_json`] is the only judge of a record in the whole product: the gateway runs it on what
//! comes in, the writer on what anyone produced to the topic. It appends the record as one line of
//! JSON to a caller's buffer (no newline, no allocation for a record that needs no change), and
//! [`read`] gives the known fields of such a line back.

use std::borrow::Cow;

/// What a record may be.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Longest canonical line in bytes.
    pub record_bytes_max: usize,
    /// The site of records that have none (from `?site=`).
    pub default_site: Option<String>,
}

/// Why a record is not one. `code` is one of a closed list, so that it can label a metric.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct RecordError {
    /// The field at fault, if one is.
    pub field: Option<Cow<'static, str>>,
    pub code: RecordErrorCode,
    /// Names place, found and allowed.
    pub message: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RecordErrorCode {
    /// A required field is not there.
    Missing,
    /// A field has the wrong JSON type.
    WrongType,
    /// A value of the right type that is not allowed (status 99, a blank path, a bad time).
    Invalid,
    /// A known field stands twice.
    Duplicate,
    /// Longer than `maxRecordBytes`, or than the topic takes as one message.
    TooLarge,
    /// The element, line or row cannot be read at all.
    Malformed,
    /// Not UTF-8.
    InvalidUtf8,
    /// Nested deeper than [`NESTING_MAX`].
    TooDeep,
    /// Claims a site other than the one its API key is bound to.
    ForeignSite,
}

impl RecordErrorCode {
    pub const ALL: [Self; 9] = [
        Self::Missing,
        Self::WrongType,
        Self::Invalid,
        Self::Duplicate,
        Self::TooLarge,
        Self::Malformed,
        Self::InvalidUtf8,
        Self::TooDeep,
        Self::ForeignSite,
    ];

    /// As it stands in answers and metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::WrongType => "wrong_type",
            Self::Invalid => "invalid",
            Self::Duplicate => "duplicate",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::TooDeep => "too_deep",
            Self::ForeignSite => "foreign_site",
        }
    }
}

/// Deepest nesting of arrays and objects inside a record (the record itself is level 1).
pub const NESTING_MAX: usize = 64;

/// Checks one JSON object and appends it to `out` as one line (without the newline).
/// On an error `out` is as it was. `input` is exactly one JSON value, blanks around it allowed.
///
/// # Errors
/// The first fault found.
pub fn append_json(input: &[u8], rules: &Rules, out: &mut Vec<u8>) -> Result<(), RecordError> {
    let _ = (input, rules, out);
    todo!()
}

/// The known fields of a stored line; text is unescaped only where it must be.
#[derive(Clone, PartialEq, Debug)]
pub struct Fields<'a> {
    /// Milliseconds since 1970 UTC (fractions below are cut off, never rounded up).
    pub timestamp_ms: i64,
    pub path: Cow<'a, str>,
    pub user_agent: Cow<'a, str>,
    pub site: Option<Cow<'a, str>>,
    pub method: Option<Cow<'a, str>>,
    pub status: Option<u16>,
    pub bytes: Option<u64>,
    pub duration_ms: Option<f64>,
    pub remote_addr: Option<Cow<'a, str>>,
    pub referer: Option<Cow<'a, str>>,
    pub protocol: Option<Cow<'a, str>>,
}

/// Reads a line that [`append_json`] made.
///
/// # Errors
/// Where the line is not one (a damaged or foreign file).
pub fn read(line: &[u8]) -> Result<Fields<'_>, RecordError> {
    let _ = line;
    todo!()
}
