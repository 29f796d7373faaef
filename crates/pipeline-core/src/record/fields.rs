//! The canonical line back to its known fields.

use std::borrow::Cow;

use super::{
    Known, RecordError, RecordErrorCode, Refusal,
    canonical::text,
    check,
    json::{Fault, Kind},
    quick,
    scan::{self, Scan},
};

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

/// Reads a line that [`append_json`](super::append_json) made.
///
/// # Errors
/// Where the line is not one (a damaged or foreign file).
pub fn read(line: &[u8]) -> Result<Fields<'_>, RecordError> {
    if let Ok(text) = simdutf8::basic::from_utf8(line)
        && let Some(fields) = quick::fields(text)
    {
        return Ok(fields);
    }
    read_generally(line)
}

/// The same for any line.
pub(super) fn read_generally(line: &[u8]) -> Result<Fields<'_>, RecordError> {
    let text = simdutf8::basic::from_utf8(line).map_err(|_| RecordError::invalid_utf8(line))?;
    let scan = scan::object(line, 0).map_err(|fault| broken(line, fault))?;
    if scan.end != line.len() {
        return Err(RecordError::new(RecordErrorCode::Malformed, || {
            format!("at byte {}: something stands behind the record", scan.end)
        }));
    }
    let reader = Reader { text, scan: &scan };
    Ok(Fields {
        timestamp_ms: check::time::<RecordError>(reader.required(Known::Timestamp)?.as_bytes())?
            .to_ms(),
        path: reader.required(Known::Path)?,
        user_agent: reader.required(Known::UserAgent)?,
        // An empty site is none.
        site: reader.text(Known::Site)?.filter(|site| !site.is_empty()),
        method: reader.text(Known::Method)?,
        status: reader.number(Known::Status, check::status)?,
        bytes: reader.number(Known::Bytes, check::bytes)?,
        duration_ms: reader.number(Known::DurationMs, check::duration_ms)?,
        remote_addr: reader.text(Known::RemoteAddr)?,
        referer: reader.text(Known::Referer)?,
        protocol: reader.text(Known::Protocol)?,
    })
}

struct Reader<'a, 's> {
    text: &'a str,
    scan: &'s Scan,
}

impl<'a> Reader<'a, '_> {
    #[inline]
    fn text(&self, field: Known) -> Result<Option<Cow<'a, str>>, RecordError> {
        match self.scan.get(field) {
            None => Ok(None),
            Some(value) if value.kind == Kind::Null => Ok(None),
            Some(value) => match text(self.text, value) {
                Some(text) => Ok(Some(text)),
                None => Err(check::wrong_type(field, self.text.as_bytes(), value)),
            },
        }
    }

    #[inline]
    fn required(&self, field: Known) -> Result<Cow<'a, str>, RecordError> {
        self.text(field)?
            .ok_or_else(|| check::missing(field, || scan::names(self.text.as_bytes(), 0)))
    }

    #[inline]
    fn number<T>(
        &self,
        field: Known,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, RecordError> {
        let Some(value) = self.scan.get(field) else {
            return Ok(None);
        };
        match value.kind {
            Kind::Null => Ok(None),
            Kind::Number => {
                let digits = &self.text.as_bytes()[value.start..value.end];
                match parse(digits) {
                    Some(number) => Ok(Some(number)),
                    None => check::number(field, digits).map(|()| None),
                }
            }
            _ => Err(check::wrong_type(field, self.text.as_bytes(), value)),
        }
    }
}

#[cold]
pub(super) fn broken(line: &[u8], fault: Fault) -> RecordError {
    RecordError::new(RecordErrorCode::Malformed, || fault.describe(line, 0))
}
