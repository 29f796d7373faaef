//! One record: what a valid one is, and its one canonical line.
//!
//! This is the only judge of a record in the whole product. [`append_json`] is what the gateway
//! runs on JSON that comes in, and the writer on what anyone produced to the topic; it appends the
//! record as one line of JSON to a caller's buffer (no newline, no allocation; a record that needs
//! no change is copied as it stands). [`TextRecord`] makes the same line, by the same rules, from
//! text that others have split into fields (CSV, access logs). [`read`] gives the known fields of
//! such a line back.
//!
//! [`json`] knows the grammar, [`Known`] the names, [`timestamp`] the calendar, `check` what a
//! value may be. Nothing here knows where bytes come from or has a clock.

use std::borrow::Cow;

pub mod json;
mod marks;
mod scan;
pub mod timestamp;

mod check;

mod alike;
mod canonical;
mod fields;
mod quick;
mod refusal;
mod rest;
mod site;
mod text;

pub use alike::Reader;
pub use canonical::{append_element, append_json, judge_json};
pub use check::check_site;
pub use fields::{Fields, read};
pub use refusal::Refusal;
pub use rest::{Rest, append_rest, format_us};
pub use scan::Known;
pub use text::TextRecord;

#[cfg(test)]
mod tests;

/// What a record may be.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Longest canonical line in bytes.
    pub record_bytes_max: usize,
    /// The site of records that have none (from `?site=`); one that [`check_site`] has passed.
    pub default_site: Option<String>,
    /// The only site that records may have (of an API key); one that [`check_site`] has passed.
    /// Records without a site get it.
    pub bound_site: Option<String>,
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

/// Longest part of a found value that a message shows, in characters.
const SHOWN_MAX: usize = 60;

/// What was found, for a message: shortened, on one line, whatever bytes it has.
#[must_use]
pub fn shown(found: &[u8]) -> String {
    shown_head(found, found.len())
}

/// As many bytes of what was found as [`shown`] looks at.
pub const SHOWN_BYTES_MAX: usize = 4 * (SHOWN_MAX + 1);

/// The same for what has `len` bytes and of which `head` is there: all, or [`SHOWN_BYTES_MAX`].
#[must_use]
pub fn shown_head(head: &[u8], len: usize) -> String {
    // No character has more than 4 bytes; one that is cut in two is behind what is shown.
    let head = &head[..head.len().min(SHOWN_BYTES_MAX)];
    let text = String::from_utf8_lossy(head);
    let mut out = String::new();
    for (place, char) in text.chars().enumerate() {
        if place == SHOWN_MAX {
            out.push_str(&format!("… ({len} bytes)"));
            break;
        }
        if char.is_control() {
            out.extend(char.escape_default());
        } else {
            out.push(char);
        }
    }
    out
}
