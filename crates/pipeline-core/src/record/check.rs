//! What the values of known fields may be, and the errors that say so. The same for JSON and for
//! text that was split into fields.

use super::{
    Known, RecordError, RecordErrorCode, Refusal, json,
    json::Kind,
    scan::Value,
    shown,
    timestamp::{self, Timestamp},
};

/// Longest host name in characters (RFC 1123, section 2.1).
const SITE_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;
const SITE_ALLOWED: &str = "a host name of letters, digits, `-`, `_` and `.` without a port, of at most 253 characters (63 between dots)";
const STATUS_ALLOWED: &str = "an integer from 100 to 599";
const BYTES_ALLOWED: &str = "an integer from 0 to 9223372036854775807";
const DURATION_ALLOWED: &str = "a number of 0 or more";

/// Whether `site` is a host name that records may have.
///
/// # Errors
/// Names what was found and what is allowed.
pub fn check_site(site: &str) -> Result<(), RecordError> {
    judge_site(site)
}

pub(super) fn judge_site<R: Refusal>(site: &str) -> Result<(), R> {
    let label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.len() <= LABEL_BYTES_MAX
            && bytes.first().is_some_and(|byte| *byte != b'-')
            && bytes.last().is_some_and(|byte| *byte != b'-')
            && bytes.iter().fold(true, |all, byte| {
                all & matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_')
            })
    };
    if site.len() <= SITE_BYTES_MAX && site.split('.').all(label) {
        return Ok(());
    }
    Err(quoted(
        RecordErrorCode::Invalid,
        Known::Site,
        site,
        SITE_ALLOWED,
    ))
}

pub(super) fn time<R: Refusal>(text: &[u8]) -> Result<Timestamp<'_>, R> {
    timestamp::parse(text).map_err(|reason| {
        let found = || format!("\"{}\"", shown(text));
        let allowed = timestamp::ALLOWED;
        R::refuse(RecordErrorCode::Invalid, Some(Known::Timestamp), || {
            let name = Known::Timestamp.name();
            format!("{name}: found {}, allowed is {allowed}: {reason}", found())
        })
    })
}

pub(super) fn path<R: Refusal>(text: &str) -> Result<(), R> {
    if is_blank(text) {
        return Err(quoted(
            RecordErrorCode::Invalid,
            Known::Path,
            text,
            "a string that is not blank",
        ));
    }
    Ok(())
}

/// Whether there is nothing to see in `text`.
#[inline]
pub(super) fn is_blank(text: &str) -> bool {
    // Nearly always the first byte decides.
    !matches!(text.as_bytes().first(), Some(b'!'..=b'~')) && text.trim().is_empty()
}

/// The value of a number in JSON's spelling.
pub(super) fn status(number: &[u8]) -> Option<u16> {
    let [a @ b'1'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9'] = *number else {
        return None;
    };
    Some(
        [a, b, c]
            .iter()
            .fold(0, |value, digit| value * 10 + u16::from(digit - b'0')),
    )
}

pub(super) fn bytes(number: &[u8]) -> Option<u64> {
    if number.is_empty() || number.len() > 19 {
        return None;
    }
    let mut value = 0_u64;
    for digit in number {
        if !digit.is_ascii_digit() {
            return None;
        }
        // 19 digits fit a u64.
        value = value * 10 + u64::from(digit - b'0');
    }
    (value <= i64::MAX as u64).then_some(value)
}

pub(super) fn duration_ms(number: &[u8]) -> Option<f64> {
    let value: f64 = std::str::from_utf8(number).ok()?.parse().ok()?;
    (value.is_finite() && value >= 0.0).then_some(value)
}

/// Whether `number`, a number by JSON's grammar, may be the value of `field`.
pub(super) fn number<R: Refusal>(field: Known, number: &[u8]) -> Result<(), R> {
    let (good, allowed) = match field {
        Known::Status => (status(number).is_some(), STATUS_ALLOWED),
        Known::Bytes => (bytes(number).is_some(), BYTES_ALLOWED),
        _ => (duration_ms(number).is_some(), DURATION_ALLOWED),
    };
    if good {
        return Ok(());
    }
    Err(R::of_field(
        RecordErrorCode::Invalid,
        field,
        || shown(number),
        allowed,
    ))
}

/// Whether text from outside of JSON is a number as JSON spells it, and one that `field` may have.
pub(super) fn number_text<R: Refusal>(field: Known, text: &str) -> Result<(), R> {
    let mut cursor = json::Cursor::new(text.as_bytes(), 0);
    let kind = cursor.value(json::STRUCTURE);
    if kind == Ok(Kind::Number) && cursor.at == text.len() {
        return number(field, text.as_bytes());
    }
    Err(quoted(
        RecordErrorCode::WrongType,
        field,
        text,
        allowed(field),
    ))
}

/// An optional or required field with a value of the wrong type.
#[cold]
pub(super) fn wrong_type<R: Refusal>(field: Known, input: &[u8], value: Value) -> R {
    let found = || {
        let raw = shown(&input[value.start..value.end]);
        match value.kind {
            Kind::String { .. } => format!("the string {raw}"),
            Kind::Number => format!("the number {raw}"),
            Kind::Array => format!("the array {raw}"),
            Kind::Object => format!("the object {raw}"),
            Kind::True | Kind::False | Kind::Null => raw,
        }
    };
    R::of_field(RecordErrorCode::WrongType, field, found, allowed(field))
}

/// A required field that is not there. `names` gives those that are, and whether there are more.
#[cold]
pub(super) fn missing<'n, R: Refusal>(
    field: Known,
    names: impl FnOnce() -> (Vec<&'n [u8]>, bool),
) -> R {
    R::refuse(RecordErrorCode::Missing, Some(field), || {
        let (names, more) = names();
        let mut list = names
            .iter()
            .map(|name| format!("`{}`", shown(name)))
            .collect::<Vec<_>>()
            .join(", ");
        if more {
            list.push_str(", …");
        }
        if list.is_empty() {
            list.push_str("no fields");
        }
        format!(
            "{} is missing: found {list}; required are `timestamp`, `path` and `userAgent`",
            field.name()
        )
    })
}

/// A field that stands twice.
#[cold]
pub(super) fn twice<R: Refusal>(field: Known) -> R {
    let found = || "it twice".to_owned();
    R::of_field(RecordErrorCode::Duplicate, field, found, "once")
}

fn allowed(field: Known) -> &'static str {
    match field {
        Known::Status => STATUS_ALLOWED,
        Known::Bytes => BYTES_ALLOWED,
        Known::DurationMs => DURATION_ALLOWED,
        Known::Site => SITE_ALLOWED,
        Known::Timestamp => timestamp::ALLOWED,
        _ => "a string",
    }
}

#[cold]
fn quoted<R: Refusal>(code: RecordErrorCode, field: Known, found: &str, allowed: &str) -> R {
    let found = || format!("\"{}\"", shown(found.as_bytes()));
    R::of_field(code, field, found, allowed)
}
