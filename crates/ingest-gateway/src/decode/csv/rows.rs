//! Where rows and cells end: of bytes that are there, and, without keeping any, of those to come.

use std::{borrow::Cow, ops::Range};

/// The row at the beginning of `bytes`.
pub(super) struct Row<'b> {
    pub bytes: &'b [u8],
    pub cells: &'b [Cell],
    /// How many cells there are; only the first ones are in `cells`.
    pub count: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Cell {
    /// Between the quotes, if it has any.
    place: Range<usize>,
    /// Whether quotes in it are doubled.
    doubled: bool,
}

/// Where a row ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// Behind its LF, or with the body.
    At { next: usize, count: usize },
    /// Whatever comes behind `at`.
    Broken { at: usize, reason: &'static str },
    /// Not in these bytes.
    Open,
}

/// Behind a cell: the place of the comma or line break, or of the end.
enum CellEnd {
    At(Cell, usize),
    Broken(usize, &'static str),
    Open,
}

pub(super) const NOT_ENDED: &str = "a quoted cell does not end";
pub(super) const NOT_BEHIND: &str =
    "something stands between a cell's closing quote and the next comma";

/// Reads the row that `bytes` begins with; the first `cells_max` cells go to `cells`. With `last`
/// the body ends with `bytes`.
pub(super) fn read(bytes: &[u8], last: bool, cells_max: usize, cells: &mut Vec<Cell>) -> End {
    cells.clear();
    let (mut at, mut count) = (0, 0);
    loop {
        let cell = match bytes.get(at) {
            Some(b'"') => quoted(bytes, at + 1, last),
            _ => unquoted(bytes, at, last),
        };
        let (cell, end) = match cell {
            CellEnd::At(cell, end) => (cell, end),
            CellEnd::Broken(at, reason) => return End::Broken { at, reason },
            CellEnd::Open => return End::Open,
        };
        if count < cells_max {
            cells.push(cell);
        }
        count += 1;
        at = (end + 1).min(bytes.len());
        if bytes.get(end) != Some(&b',') {
            return End::At { next: at, count };
        }
    }
}

/// The cell at `from`.
fn unquoted(bytes: &[u8], from: usize, last: bool) -> CellEnd {
    let end = match memchr::memchr2(b',', b'\n', &bytes[from..]) {
        Some(len) => from + len,
        None if last => bytes.len(),
        None => return CellEnd::Open,
    };
    // A CR belongs to the line break, and to the last line's end.
    let at_line_end = bytes.get(end) != Some(&b',');
    let cr = at_line_end && end > from && bytes[end - 1] == b'\r';
    let cell = Cell {
        place: from..end - usize::from(cr),
        doubled: false,
    };
    CellEnd::At(cell, end)
}

/// The same for a cell whose opening quote stands before `from`.
fn quoted(bytes: &[u8], from: usize, last: bool) -> CellEnd {
    let mut doubled = false;
    let mut at = from;
    loop {
        let Some(len) = memchr::memchr(b'"', &bytes[at..]) else {
            return if last {
                CellEnd::Broken(bytes.len(), NOT_ENDED)
            } else {
                CellEnd::Open
            };
        };
        at += len + 1;
        let cell = Cell {
            place: from..at - 1,
            doubled,
        };
        match bytes[at..] {
            [b'"', ..] => {
                doubled = true;
                at += 1;
            }
            [] | [b'\r'] if !last => return CellEnd::Open,
            [] | [b',' | b'\n', ..] => return CellEnd::At(cell, at),
            [b'\r'] | [b'\r', b'\n', ..] => return CellEnd::At(cell, at + 1),
            _ => return CellEnd::Broken(at, NOT_BEHIND),
        }
    }
}

impl<'b> Row<'b> {
    pub fn bytes(&self, at: usize) -> Cow<'b, [u8]> {
        let cell = &self.cells[at];
        let raw = &self.bytes[cell.place.clone()];
        if !cell.doubled {
            return Cow::Borrowed(raw);
        }
        let mut text = Vec::with_capacity(raw.len());
        let mut rest = raw;
        while let Some(quote) = memchr::memchr(b'"', rest) {
            text.extend_from_slice(&rest[..=quote]);
            rest = &rest[(quote + 2).min(rest.len())..];
        }
        text.extend_from_slice(rest);
        Cow::Owned(text)
    }
}

/// Looks for the end of a row that comes in pieces, so that it is read once: says where it is
/// worth while to [`read`] it. That is behind its LF, and, once it is broken, behind the LF of its
/// first line.
#[derive(Default)]
pub(super) struct Ahead {
    at: At,
    /// Whether its first line is whole.
    line_end: bool,
}

#[derive(Clone, Copy, Default)]
enum At {
    #[default]
    CellStart,
    Unquoted,
    Quoted,
    /// Behind a quote that may be the closing one.
    Quote,
    /// And behind a CR.
    QuoteCr,
    Broken,
}

impl Ahead {
    /// How many of `bytes` to take before reading.
    pub fn look(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut place = 0;
        while let Some(&byte) = bytes.get(place) {
            match self.at {
                At::CellStart if byte == b'"' => self.at = At::Quoted,
                At::CellStart | At::Unquoted => {
                    self.at = At::Unquoted;
                    place += memchr::memchr2(b',', b'\n', &bytes[place..])?;
                    if bytes[place] == b'\n' {
                        return Some(place + 1);
                    }
                    self.at = At::CellStart;
                }
                At::Quoted => {
                    let rest = &bytes[place..];
                    let quote = memchr::memchr(b'"', rest);
                    let inside = &rest[..quote.unwrap_or(rest.len())];
                    self.line_end = self.line_end || memchr::memchr(b'\n', inside).is_some();
                    place += quote?;
                    self.at = At::Quote;
                }
                At::Quote => match byte {
                    b'"' => self.at = At::Quoted,
                    b',' => self.at = At::CellStart,
                    b'\r' => self.at = At::QuoteCr,
                    b'\n' => return Some(place + 1),
                    _ => {
                        self.at = At::Broken;
                        continue;
                    }
                },
                At::QuoteCr if byte == b'\n' => return Some(place + 1),
                At::QuoteCr => {
                    self.at = At::Broken;
                    continue;
                }
                At::Broken if self.line_end => return Some(place + 1),
                At::Broken => {
                    let line_end = memchr::memchr(b'\n', &bytes[place..])?;
                    return Some(place + line_end + 1);
                }
            }
            place += 1;
        }
        None
    }
}
