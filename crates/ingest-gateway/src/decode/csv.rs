//! CSV (<https://www.rfc-editor.org/rfc/rfc4180>), with a header or without.
//!
//! Cells are taken where they stand; only one with doubled quotes is copied. Unlike lenient
//! readers this one holds a quoted cell to its end: what follows its closing quote is a comma or
//! the end of the row. That is how a quote that is never closed is told from a cell with line
//! breaks, and it breaks its own line alone: reading goes on at the next one. A row of more than
//! one line that does not end within the longest record counts as such, too. What was seen to end
//! no row is not read again for each line of it ([`Astray`]), so that work is bounded by length.

mod columns;
mod judge;
mod rows;

use super::{
    BodyError,
    carry::{self, Carried, Carry},
    lines::is_blank,
    sink::Sink,
};
use columns::{COLUMNS_MAX, Columns, columns_of};
use judge::{AsRow, BrokenLine};
use rows::{Ahead, Cell, End, NOT_ENDED, Row};

#[derive(Default)]
pub(super) struct Csv {
    columns: Option<Columns>,
    /// Of the row that was read last.
    cells: Vec<Cell>,
    /// The unfinished row, one byte longer than the longest at most.
    carry: Vec<u8>,
    ahead: Ahead,
    astray: Option<Astray>,
    /// A line that is too long, up to its end.
    long: Option<Long>,
}

/// A row of more than one line was none. So is each that begins on one of its lines and whose
/// quoted cell is still open at that line's end: it would go on as that one did.
#[derive(Clone, Copy)]
struct Astray {
    /// How many of the bytes that are not read yet it took to know.
    left: usize,
    reason: &'static str,
}

#[derive(Default)]
struct Long {
    carry: Carry,
    /// Whether something stands on it.
    filled: bool,
}

impl Csv {
    pub fn push(&mut self, mut piece: &[u8], sink: &mut Sink) -> Result<(), BodyError> {
        while !piece.is_empty() {
            if let Some(long) = &mut self.long {
                let end = memchr::memchr(b'\n', piece);
                long.push(&piece[..end.unwrap_or(piece.len())], sink);
                let Some(end) = end else { return Ok(()) };
                self.end_long(sink)?;
                piece = &piece[end + 1..];
            } else if self.carry.is_empty() {
                let used = self.rows(piece, false, sink)?;
                carry::extend(&mut self.carry, &piece[used..], sink.raw_max() + 1);
                self.begin_row();
                return Ok(());
            } else {
                let room = &piece[..piece.len().min(sink.raw_max() + 1 - self.carry.len())];
                let ready = self.ahead.look(room);
                let taken = ready.unwrap_or(room.len());
                carry::extend(&mut self.carry, &room[..taken], sink.raw_max() + 1);
                piece = &piece[taken..];
                if ready.is_some() || self.carry.len() > sink.raw_max() {
                    let mut carry = std::mem::take(&mut self.carry);
                    let used = self.rows(&carry, false, sink)?;
                    carry.drain(..used);
                    self.carry = carry;
                    self.begin_row();
                }
            }
        }
        Ok(())
    }

    pub fn finish(&mut self, sink: &mut Sink) -> Result<(), BodyError> {
        let carry = std::mem::take(&mut self.carry);
        self.rows(&carry, true, sink)?;
        self.end_long(sink)
    }

    pub fn memory(&self) -> usize {
        self.carry.capacity()
            + self.cells.capacity() * size_of::<Cell>()
            + self.columns.as_ref().map_or(0, Columns::memory)
            + self.long.as_ref().map_or(0, |long| long.carry.memory())
    }

    /// An unfinished row begins what is carried.
    fn begin_row(&mut self) {
        self.ahead = Ahead::default();
        let ready = self.ahead.look(&self.carry);
        debug_assert_eq!(ready, None, "it would have been read");
    }

    fn end_long(&mut self, sink: &mut Sink) -> Result<(), BodyError> {
        match self.long.take() {
            Some(long) if long.filled => match long.carry.carried(sink.raw_max()) {
                Carried::Whole(line) => sink.too_long(line, line.len()),
                Carried::Head(head, len) => sink.too_long(head, len),
            },
            _ => Ok(()),
        }
    }

    /// Reads the rows that `bytes` begins with; gives where the unfinished one begins. With `last`
    /// the body ends with `bytes`, and so does the last row.
    fn rows(&mut self, bytes: &[u8], last: bool, sink: &mut Sink) -> Result<usize, BodyError> {
        // One byte more shows that a row of the greatest length has ended.
        let window_max = sink.raw_max() + 1;
        let mut start = 0;
        loop {
            start += self.read_on(blank_lines(&bytes[start..], last));
            let rest = &bytes[start..];
            if rest.is_empty() {
                return Ok(start);
            }
            let mut window = &rest[..rest.len().min(window_max)];
            let full = window.len() == window_max;
            let astray = self.astray_line(window);
            if let Some((line_end, _)) = astray {
                window = &window[..=line_end];
            }
            let cells_max = self.columns.as_ref().map_or(COLUMNS_MAX, Columns::len);
            let reason = match rows::read(
                window,
                last && window.len() == rest.len(),
                cells_max,
                &mut self.cells,
            ) {
                End::At { next, count } if !full || window[next - 1] == b'\n' => {
                    self.row(&window[..next], count, sink)?;
                    start += self.read_on(next);
                    continue;
                }
                End::Broken { at, reason } => {
                    if astray.is_none() {
                        self.astray = Some(Astray { left: at, reason });
                    }
                    reason
                }
                End::Open if let Some((_, reason)) = astray => reason,
                _ if full => {
                    let (left, reason) = (window.len(), NOT_ENDED);
                    self.astray = Some(Astray { left, reason });
                    reason
                }
                _ => return Ok(start),
            };
            match memchr::memchr(b'\n', window) {
                Some(end) => {
                    self.broken(&window[..end], 1, reason, sink)?;
                    start += self.read_on(end + 1);
                }
                None if full => {
                    let used = self.long_line(rest, sink)?;
                    start += self.read_on(used);
                }
                None if last => {
                    self.broken(window, 0, reason, sink)?;
                    start += self.read_on(window.len());
                }
                None => return Ok(start),
            }
        }
    }

    /// Of the row that begins `window` where its first line ends, if a quoted cell that is open
    /// there makes it none; and why.
    #[inline]
    fn astray_line(&self, window: &[u8]) -> Option<(usize, &'static str)> {
        let Astray { left, reason } = self.astray?;
        let line_end = memchr::memchr(b'\n', window)?;
        (line_end < left).then_some((line_end, reason))
    }

    /// So many bytes are done with.
    #[inline]
    fn read_on(&mut self, bytes: usize) -> usize {
        if let Some(astray) = &mut self.astray {
            astray.left = astray.left.saturating_sub(bytes);
            if astray.left == 0 {
                self.astray = None;
            }
        }
        bytes
    }

    /// A row with its line break, split into [`Self::cells`].
    #[inline]
    fn row(&mut self, bytes: &[u8], count: usize, sink: &mut Sink) -> Result<(), BodyError> {
        let row = Row {
            bytes,
            cells: &self.cells,
            count,
        };
        let columns = match &self.columns {
            Some(columns) => columns,
            None => {
                let (found, is_header) = columns_of(&row)?;
                let columns = self.columns.insert(found);
                if is_header {
                    return Ok(());
                }
                columns
            }
        };
        let raw = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        sink.record(raw, &AsRow { row: &row, columns })
    }

    /// The first line of a row that is none, and the length of its line break.
    #[cold]
    fn broken(
        &mut self,
        line: &[u8],
        line_break: usize,
        reason: &str,
        sink: &mut Sink,
    ) -> Result<(), BodyError> {
        let broken = BrokenLine { line_break, reason };
        if self.columns.is_none() && columns::looks_like_a_header(line) {
            // Without it nobody knows what the cells of the other rows are.
            let why = broken.why(line);
            return Err(BodyError::unreadable(format!("the CSV header: {why}")));
        }
        self.columns.get_or_insert_with(Columns::without_header);
        sink.record(line, &broken)
    }

    /// A line that is too long, as far as it is in `bytes`; gives its length with its line break.
    #[cold]
    fn long_line(&mut self, bytes: &[u8], sink: &mut Sink) -> Result<usize, BodyError> {
        self.columns.get_or_insert_with(Columns::without_header);
        let end = memchr::memchr(b'\n', bytes);
        let line = &bytes[..end.unwrap_or(bytes.len())];
        self.long.get_or_insert_default().push(line, sink);
        if end.is_some() {
            self.end_long(sink)?;
        }
        Ok(line.len() + usize::from(end.is_some()))
    }
}

impl Long {
    fn push(&mut self, bytes: &[u8], sink: &Sink) {
        self.filled = self.filled || !is_blank(bytes);
        self.carry.push(bytes, sink.raw_max(), sink.head_max());
    }
}

/// How many bytes of blank lines there are; one that does not end is left where more may come.
fn blank_lines(bytes: &[u8], last: bool) -> usize {
    let mut at = 0;
    while at < bytes.len() {
        let line_end = memchr::memchr(b'\n', &bytes[at..]).map(|len| at + len);
        let end = line_end.unwrap_or(bytes.len());
        if !is_blank(&bytes[at..end]) {
            break;
        }
        match line_end {
            Some(end) => at = end + 1,
            None if last => return bytes.len(),
            None => break,
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use pipeline_core::record::Rules;

    use super::*;
    use crate::decode::{Limits, Media, decode};

    /// For each row whether it is one, each read from its beginning to its end.
    fn rows_one_by_one(mut body: &[u8]) -> Vec<bool> {
        let mut rows = Vec::new();
        loop {
            body = &body[blank_lines(body, true)..];
            if body.is_empty() {
                return rows;
            }
            let read = rows::read(body, true, COLUMNS_MAX, &mut Vec::new());
            let next = match read {
                End::At { next, .. } => next,
                _ => memchr::memchr(b'\n', body).map_or(body.len(), |end| end + 1),
            };
            rows.push(matches!(read, End::At { .. }));
            body = &body[next..];
        }
    }

    #[test]
    fn what_is_not_read_again_would_have_been_no_row_either() {
        let mut random = fastrand::Rng::with_seed(11);
        let rules = Rules {
            record_bytes_max: 1 << 20,
            default_site: None,
            bound_site: None,
        };
        let limits = Limits {
            errors_max: usize::MAX,
            ..Limits::default()
        };
        let mut broken = 0;
        for _ in 0..20_000 {
            let body: Vec<u8> = (0..random.usize(0..60))
                .map(|_| b"\"\"\"\n\n\r,,xy"[random.usize(..10)])
                .collect();
            let batch = decode(Media::Csv, &body, &rules, limits).expect("readable");
            let rows = rows_one_by_one(&body);
            // None has a time, so each is an error: of its cells, or because it is no row.
            let found: Vec<_> = batch
                .errors
                .iter()
                .map(|error| {
                    let message = &error.error.message;
                    !message.starts_with(NOT_ENDED) && !message.starts_with(rows::NOT_BEHIND)
                })
                .collect();
            assert_eq!(found, rows, "{}", String::from_utf8_lossy(&body));
            broken += rows.iter().filter(|row| !**row).count();
        }
        assert!(broken > 10_000, "{broken}");
    }
}
