//! Why a record is none: its code alone, or all that a person needs.
//!
//! Whoever judges records names the fault once, with a message that is not made yet; the one who
//! asked chooses by the type that comes back whether it ever is. A code costs nothing, so that
//! where bodies are all faults the messages cost no more than are shown; and it is one byte, so
//! that valid records are judged faster too.

use super::{Known, RecordError, RecordErrorCode, Rules};

/// What is known of a fault.
pub trait Refusal: Sized {
    /// A fault of `field`, if it is one's.
    fn refuse(
        code: RecordErrorCode,
        field: Option<Known>,
        message: impl FnOnce() -> String,
    ) -> Self;

    /// A fault of the whole record.
    #[must_use]
    fn new(code: RecordErrorCode, message: impl FnOnce() -> String) -> Self {
        Self::refuse(code, None, message)
    }

    /// A fault of a field; its message names it, what was `found` and what is `allowed`.
    #[must_use]
    fn of_field(
        code: RecordErrorCode,
        field: Known,
        found: impl FnOnce() -> String,
        allowed: &str,
    ) -> Self {
        Self::refuse(code, Some(field), || {
            format!("{}: found {}, allowed is {allowed}", field.name(), found())
        })
    }

    /// A record that is longer than [`Rules::record_bytes_max`].
    #[must_use]
    fn too_large(found: usize, rules: &Rules) -> Self {
        Self::new(RecordErrorCode::TooLarge, || {
            format!(
                "the record has {found} bytes, allowed are {}",
                rules.record_bytes_max
            )
        })
    }

    /// Bytes that are no UTF-8.
    #[must_use]
    fn invalid_utf8(bytes: &[u8]) -> Self {
        Self::new(RecordErrorCode::InvalidUtf8, || {
            let valid = std::str::from_utf8(bytes).map_err(|error| error.valid_up_to());
            let at = valid.map_or_else(|at| at, str::len);
            let found = bytes.get(at).copied().unwrap_or_default();
            format!("at byte {at}: found byte 0x{found:02x}, which is not UTF-8")
        })
    }
}

impl Refusal for RecordErrorCode {
    #[inline]
    fn refuse(code: Self, _: Option<Known>, _: impl FnOnce() -> String) -> Self {
        code
    }
}

impl Refusal for RecordError {
    #[cold]
    fn refuse(
        code: RecordErrorCode,
        field: Option<Known>,
        message: impl FnOnce() -> String,
    ) -> Self {
        Self {
            field: field.map(|field| field.name().into()),
            code,
            message: message(),
        }
    }
}
