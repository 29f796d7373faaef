//! One pass over one record: where its known fields stand. Judges the grammar, not the values.

use super::json::{self, Cursor, Fault, Kind, Strictness};

/// The fields with a meaning, in the contract's order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Known {
    Timestamp,
    Path,
    UserAgent,
    Site,
    Method,
    Status,
    Bytes,
    DurationMs,
    RemoteAddr,
    Referer,
    Protocol,
}

impl Known {
    pub const ALL: [Self; 11] = [
        Self::Timestamp,
        Self::Path,
        Self::UserAgent,
        Self::Site,
        Self::Method,
        Self::Status,
        Self::Bytes,
        Self::DurationMs,
        Self::RemoteAddr,
        Self::Referer,
        Self::Protocol,
    ];

    /// The field's name in a record.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Timestamp => "timestamp",
            Self::Path => "path",
            Self::UserAgent => "userAgent",
            Self::Site => "site",
            Self::Method => "method",
            Self::Status => "status",
            Self::Bytes => "bytes",
            Self::DurationMs => "durationMs",
            Self::RemoteAddr => "remoteAddr",
            Self::Referer => "referer",
            Self::Protocol => "protocol",
        }
    }

    #[inline]
    #[must_use]
    pub fn of(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"timestamp" => Self::Timestamp,
            b"path" => Self::Path,
            b"userAgent" => Self::UserAgent,
            b"site" => Self::Site,
            b"method" => Self::Method,
            b"status" => Self::Status,
            b"bytes" => Self::Bytes,
            b"durationMs" => Self::DurationMs,
            b"remoteAddr" => Self::RemoteAddr,
            b"referer" => Self::Referer,
            b"protocol" => Self::Protocol,
            _ => return None,
        })
    }
}

/// A value within the scanned bytes; a string with its quotes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Value {
    pub start: usize,
    pub end: usize,
    pub kind: Kind,
}

/// What stands where in one object.
#[derive(Debug)]
pub(super) struct Scan {
    values: [Value; Known::ALL.len()],
    present: u16,
    /// The first known field that stands twice.
    pub duplicate: Option<Known>,
    /// Just after the closing brace.
    pub end: usize,
    /// Whether insignificant blanks hold a line break.
    pub line_break: bool,
}

impl Scan {
    /// The field's value, `null` included.
    #[inline]
    pub fn get(&self, field: Known) -> Option<Value> {
        (self.present & 1 << field as u16 != 0).then(|| self.values[field as usize])
    }
}

/// How strict records are; their own braces are level 1, so values begin at 2.
pub(super) const INSIDE: Strictness = Strictness {
    depth_max: super::NESTING_MAX - 1,
    whole_surrogates: true,
};

/// Scans the object that begins at `at`, whatever follows it.
pub(super) fn object(bytes: &[u8], at: usize) -> Result<Scan, Fault> {
    let mut cursor = Cursor::new(bytes, at);
    let nothing = Value {
        start: 0,
        end: 0,
        kind: Kind::Null,
    };
    let mut scan = Scan {
        values: [nothing; Known::ALL.len()],
        present: 0,
        duplicate: None,
        end: 0,
        line_break: false,
    };
    cursor.expect(b'{', "`{`")?;
    cursor.blanks();
    if cursor.peek() == Some(b'}') {
        cursor.at += 1;
    } else {
        loop {
            let key_start = cursor.at + 1;
            let escaped = cursor.string("a key in quotes", INSIDE)?;
            let key = &bytes[key_start..cursor.at - 1];
            cursor.blanks();
            cursor.expect(b':', "`:` after a key")?;
            cursor.blanks();
            let start = cursor.at;
            let kind = cursor.value(INSIDE)?;
            let known = if escaped {
                known_escaped(key)
            } else {
                Known::of(key)
            };
            if let Some(field) = known {
                let bit = 1 << field as u16;
                if scan.present & bit != 0 {
                    scan.duplicate.get_or_insert(field);
                }
                scan.present |= bit;
                scan.values[field as usize] = Value {
                    start,
                    end: cursor.at,
                    kind,
                };
            }
            cursor.blanks();
            match cursor.peek() {
                Some(b',') => cursor.at += 1,
                Some(b'}') => {
                    cursor.at += 1;
                    break;
                }
                _ => return Err(cursor.expected("`,` or `}` after a value")),
            }
            cursor.blanks();
        }
    }
    scan.end = cursor.at;
    scan.line_break = cursor.line_break;
    Ok(scan)
}

/// The known field that `key` (between its quotes) spells with escapes.
#[cold]
pub(super) fn known_escaped(key: &[u8]) -> Option<Known> {
    // Six bytes for each character is the longest spelling.
    let longest = 6 * "remoteAddr".len();
    let key = (key.len() <= longest).then(|| std::str::from_utf8(key).ok())??;
    Known::of(json::unescape(key).as_bytes())
}

/// The names of the first fields of a scanned object, for messages, and whether there are more.
pub(super) fn names(bytes: &[u8], at: usize) -> (Vec<&[u8]>, bool) {
    const SHOWN: usize = 8;
    let mut cursor = Cursor::new(bytes, at + 1);
    let mut names = Vec::new();
    while names.len() <= SHOWN {
        cursor.blanks();
        let start = cursor.at + 1;
        if cursor.string("a key", INSIDE).is_err() {
            break;
        }
        names.push(&bytes[start..cursor.at - 1]);
        cursor.blanks();
        cursor.at += 1;
        cursor.blanks();
        if cursor.value(INSIDE).is_err() {
            break;
        }
        cursor.blanks();
        cursor.at += 1;
    }
    let more = names.len() > SHOWN;
    names.truncate(SHOWN);
    (names, more)
}
