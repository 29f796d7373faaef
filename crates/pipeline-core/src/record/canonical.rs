//! JSON in, the canonical line out.
//!
//! One pass finds the known fields, then each is checked, then the record is copied in as few
//! pieces as it needs: one when nothing is to be changed.

use std::borrow::Cow;

use super::{
    Known, NESTING_MAX, RecordError, RecordErrorCode, Refusal, Rules, check,
    json::{self, Cursor, Fault, FaultKind, Kind},
    scan::{self, Scan, Value},
    shown,
    timestamp::Timestamp,
};

/// Checks one JSON object and appends it to `out` as one line (without the newline).
/// On an error `out` is as it was. `input` is exactly one JSON value, blanks around it allowed.
///
/// # Errors
/// The first fault found: of the encoding, else of the grammar, else of a field.
pub fn append_json(input: &[u8], rules: &Rules, out: &mut Vec<u8>) -> Result<(), RecordError> {
    judge_json(input, rules, out).or_else(|_: RecordErrorCode| judge_json(input, rules, out))
}

/// The same for who may not want the message of each fault.
///
/// # Errors
/// As [`append_json`].
pub fn judge_json<R: Refusal>(input: &[u8], rules: &Rules, out: &mut Vec<u8>) -> Result<(), R> {
    let place = json::trimmed(input);
    let record = &input[place.clone()];
    match scan::object(record, 0) {
        Ok(scan) if scan.end == record.len() => append_scanned(record, &scan, rules, out),
        Ok(scan) => {
            let after = Cursor::new(record, scan.end).expected("nothing behind the record");
            Err(unreadable(input, place.start, after))
        }
        Err(fault) => Err(unreadable(input, place.start, fault)),
    }
}

/// The same for the object that begins at `at` of a longer text, such as an array's element;
/// gives the place just behind it. `None` where it is no valid record: the caller finds its end
/// with [`json::Cursor::value`] and lets [`judge_json`] say why.
#[must_use]
pub fn append_element(input: &[u8], at: usize, rules: &Rules, out: &mut Vec<u8>) -> Option<usize> {
    let rest = input.get(at..)?;
    let scan = scan::object(rest, 0).ok()?;
    append_scanned::<RecordErrorCode>(&rest[..scan.end], &scan, rules, out).ok()?;
    Some(at + scan.end)
}

/// Another text in the place of a value.
struct Edit<'a> {
    start: usize,
    end: usize,
    text: Replacement<'a>,
}

enum Replacement<'a> {
    Time(Timestamp<'a>),
    Text(&'a str),
}

fn append_scanned<R: Refusal>(
    record: &[u8],
    scan: &Scan,
    rules: &Rules,
    out: &mut Vec<u8>,
) -> Result<(), R> {
    let record = simdutf8::basic::from_utf8(record).map_err(|_| R::invalid_utf8(record))?;
    if let Some(field) = scan.duplicate {
        return Err(check::twice(field));
    }
    let mut edits = [const { None }; 3];

    let (value, time) = required::<R>(record, scan, Known::Timestamp)?;
    let time = check::time::<R>(time.as_bytes())?;
    // A time that is spelled with escapes is written plainly.
    if !time.is_canonical() || value.kind != (Kind::String { escaped: false }) {
        edits[0] = Some(Edit::new(value, Replacement::Time(time)));
    }

    let (_, path) = required::<R>(record, scan, Known::Path)?;
    check::path::<R>(&path)?;

    let (value, agent) = required::<R>(record, scan, Known::UserAgent)?;
    if check::is_blank(&agent) {
        edits[1] = Some(Edit::new(value, Replacement::Text("-")));
    }

    for field in [
        Known::Method,
        Known::RemoteAddr,
        Known::Referer,
        Known::Protocol,
    ] {
        optional_text::<R>(record, scan, field)?;
    }
    for field in [Known::Status, Known::Bytes, Known::DurationMs] {
        match scan.get(field) {
            Some(value) if value.kind == Kind::Number => {
                check::number::<R>(field, &record.as_bytes()[value.start..value.end])?;
            }
            Some(value) if value.kind != Kind::Null => {
                return Err(check::wrong_type(field, record.as_bytes(), value));
            }
            _ => {}
        }
    }

    let site = optional_text::<R>(record, scan, Known::Site)?;
    let mut added_site = None;
    // Absent, `null` and "" are the same.
    if let Some(right) = rules.site_for::<R>(&site)? {
        match scan.get(Known::Site) {
            Some(value) => edits[2] = Some(Edit::new(value, Replacement::Text(right))),
            None => added_site = Some(right),
        }
    }

    let start = out.len();
    if added_site.is_none() && !scan.line_break && edits.iter().all(Option::is_none) {
        if record.len() <= rules.record_bytes_max {
            out.extend_from_slice(record.as_bytes());
        }
    } else {
        append_changed(record, scan, edits, added_site, out);
    }
    let found = if out.len() == start {
        record.len()
    } else {
        out.len() - start
    };
    if found > rules.record_bytes_max {
        out.truncate(start);
        return Err(R::too_large(found, rules));
    }
    Ok(())
}

impl<'a> Edit<'a> {
    fn new(value: Value, text: Replacement<'a>) -> Self {
        Self {
            start: value.start,
            end: value.end,
            text,
        }
    }
}

fn append_changed(
    record: &str,
    scan: &Scan,
    mut edits: [Option<Edit<'_>>; 3],
    added_site: Option<&str>,
    out: &mut Vec<u8>,
) {
    let copy = |from: usize, to: usize, out: &mut Vec<u8>| {
        let piece = &record.as_bytes()[from..to];
        if scan.line_break {
            json::append_on_one_line(piece, out);
        } else {
            out.extend_from_slice(piece);
        }
    };
    edits.sort_unstable_by_key(|edit| edit.as_ref().map(|edit| edit.start));
    let mut at = 0;
    for edit in edits.iter().flatten() {
        copy(at, edit.start, out);
        match &edit.text {
            Replacement::Time(time) => {
                out.push(b'"');
                time.append_utc(out);
                out.push(b'"');
            }
            Replacement::Text(text) => json::append_string(text, out),
        }
        at = edit.end;
    }
    // A valid record has fields, so a comma fits before its brace.
    let brace = record.len() - 1;
    copy(at, brace, out);
    if let Some(site) = added_site {
        out.extend_from_slice(b",\"site\":");
        json::append_string(site, out);
    }
    out.push(b'}');
}

fn required<'a, R: Refusal>(
    record: &'a str,
    scan: &Scan,
    field: Known,
) -> Result<(Value, Cow<'a, str>), R> {
    let Some(value) = scan.get(field) else {
        return Err(check::missing(field, || scan::names(record.as_bytes(), 0)));
    };
    match text(record, value) {
        Some(text) => Ok((value, text)),
        None => Err(check::wrong_type(field, record.as_bytes(), value)),
    }
}

/// The text of an optional field; absent and `null` are empty.
fn optional_text<'a, R: Refusal>(
    record: &'a str,
    scan: &Scan,
    field: Known,
) -> Result<Cow<'a, str>, R> {
    match scan.get(field) {
        None => Ok(Cow::Borrowed("")),
        Some(value) if value.kind == Kind::Null => Ok(Cow::Borrowed("")),
        Some(value) => match text(record, value) {
            Some(text) => Ok(text),
            None => Err(check::wrong_type(field, record.as_bytes(), value)),
        },
    }
}

#[inline]
pub(super) fn text(record: &str, value: Value) -> Option<Cow<'_, str>> {
    let Kind::String { escaped } = value.kind else {
        return None;
    };
    let inside = &record[value.start + 1..value.end - 1];
    Some(if escaped {
        Cow::Owned(json::unescape(inside))
    } else {
        Cow::Borrowed(inside)
    })
}

/// Why `input` is not one JSON object; the record begins at `start`, where `fault` counts from.
#[cold]
fn unreadable<R: Refusal>(input: &[u8], start: usize, fault: Fault) -> R {
    if simdutf8::basic::from_utf8(input).is_err() {
        return R::invalid_utf8(input);
    }
    let fault = Fault {
        at: fault.at + start,
        ..fault
    };
    if input.len() == start {
        return R::new(RecordErrorCode::Malformed, || {
            "found nothing, allowed is a JSON object".to_owned()
        });
    }
    if fault.kind == FaultKind::TooDeep {
        return R::new(RecordErrorCode::TooDeep, || {
            format!(
                "at byte {}: nested deeper than the allowed {NESTING_MAX} levels",
                fault.at
            )
        });
    }
    // A whole value that is just no object is not broken JSON.
    let mut cursor = Cursor::new(input, start);
    if fault.at == start
        && let Ok(kind) = cursor.value(json::STRUCTURE)
        && json::trimmed(&input[cursor.at..]).is_empty()
    {
        let what = match kind {
            Kind::String { .. } => "the string ",
            Kind::Number => "the number ",
            Kind::Array => "the array ",
            Kind::Object | Kind::True | Kind::False | Kind::Null => "",
        };
        return R::new(RecordErrorCode::WrongType, || {
            let found = shown(&input[start..cursor.at]);
            format!("found {what}{found}, a record is a JSON object")
        });
    }
    R::new(RecordErrorCode::Malformed, || fault.describe(input, 0))
}
