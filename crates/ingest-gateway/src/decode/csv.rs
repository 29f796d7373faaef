//! CSV (<https://www.rfc-editor.org/rfc/rfc4180>), with a header or without.
//!
//! Cells are taken where they stand; only one with doubled quotes is copied. Unlike lenient
//! readers this one holds a quoted cell to its end: what follows its closing quote is a comma or
//! the end of the row. That is how a quote that is never closed is told from a cell with line
//! breaks, and it breaks its own line alone: reading goes on at the next one.

use std::{borrow::Cow, ops::Range};

use pipeline_core::record::{Known, RecordError, RecordErrorCode, Rules, TextRecord, shown};

use super::{BodyError, Sink, is_blank};

pub(super) fn decode(body: &[u8], sink: &mut Sink<'_>) -> Result<(), BodyError> {
    let mut rows = Rows {
        body,
        at: 0,
        cells: Vec::new(),
    };
    let mut columns = None;
    loop {
        rows.skip_blank_lines();
        let start = rows.at;
        if start == body.len() {
            return Ok(());
        }
        let row = rows.next_row();
        let columns = match &columns {
            Some(columns) => columns,
            None => {
                let (found, is_header) = match &row {
                    Ok(()) => columns_of(&rows)?,
                    Err(_) => (Columns::without_header(), false),
                };
                let columns = columns.insert(found);
                if is_header {
                    continue;
                }
                columns
            }
        };
        let raw = &body[start..rows.at];
        let raw = raw.strip_suffix(b"\n").unwrap_or(raw);
        sink.record(raw, |rules, out| match row {
            Ok(()) => append_row(&rows, columns, rules, out),
            Err(reason) => Err(RecordError::new(
                RecordErrorCode::Malformed,
                format!("{reason}: found `{}`", shown(&body[start..rows.at])),
            )),
        })?;
    }
}

/// What each column of a row is.
struct Columns(Vec<Column>);

enum Column {
    Known(Known),
    Extra(String),
}

impl Columns {
    fn without_header() -> Self {
        Self(
            [Known::Timestamp, Known::Path, Known::UserAgent]
                .map(Column::Known)
                .into(),
        )
    }
}

/// The columns, from the first row; whether it is a header.
fn columns_of(rows: &Rows<'_>) -> Result<(Columns, bool), BodyError> {
    let names: Vec<Cow<'_, [u8]>> = (0..rows.cells.len()).map(|at| rows.bytes(at)).collect();
    if !names.iter().any(|name| name.trim_ascii() == b"timestamp") {
        return Ok((Columns::without_header(), false));
    }
    let mut columns = Vec::new();
    for name in &names {
        let Ok(name) = std::str::from_utf8(name) else {
            return Err(BodyError::unreadable(format!(
                "the CSV header is not UTF-8: found column `{}`",
                shown(name)
            )));
        };
        let name = name.trim();
        columns.push(match Known::of(name.as_bytes()) {
            Some(known) => Column::Known(known),
            None => Column::Extra(name.to_owned()),
        });
    }
    let mut found: Vec<&str> = columns.iter().map(Column::name).collect();
    let listed = shown_list(&found);
    for required in [Known::Timestamp, Known::Path, Known::UserAgent] {
        if !found.contains(&required.name()) {
            return Err(BodyError::unreadable(format!(
                "the CSV header has no column `{}`: found {listed}; required are `timestamp`, `path` and `userAgent`",
                required.name()
            )));
        }
    }
    found.sort_unstable();
    if let Some(twice) = found.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(BodyError::unreadable(format!(
            "the CSV header has column `{}` twice: found {listed}; allowed is each name once",
            shown(twice[0].as_bytes())
        )));
    }
    Ok((Columns(columns), true))
}

impl Column {
    fn name(&self) -> &str {
        match self {
            Self::Known(known) => known.name(),
            Self::Extra(name) => name,
        }
    }
}

fn shown_list(names: &[&str]) -> String {
    const SHOWN: usize = 20;
    let mut list: Vec<String> = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("`{}`", shown(name.as_bytes())))
        .collect();
    if names.len() > SHOWN {
        list.push(format!("and {} more", names.len() - SHOWN));
    }
    list.join(", ")
}

fn append_row(
    rows: &Rows<'_>,
    columns: &Columns,
    rules: &Rules,
    out: &mut Vec<u8>,
) -> Result<(), RecordError> {
    if rows.cells.len() != columns.0.len() {
        return Err(RecordError::new(
            RecordErrorCode::Malformed,
            format!(
                "the row has {} cells, allowed are {}",
                rows.cells.len(),
                columns.0.len()
            ),
        ));
    }
    let mut record = TextRecord::new(rules, out);
    for (at, column) in columns.0.iter().enumerate() {
        let bytes = rows.bytes(at);
        let text = simdutf8::basic::from_utf8(&bytes).map_err(|_| {
            let mut error = RecordError::invalid_utf8(
                &bytes,
                std::str::from_utf8(&bytes).map_or_else(|error| error.valid_up_to(), str::len),
            );
            error.message.insert_str(
                0,
                &format!("column `{}`: ", shown(column.name().as_bytes())),
            );
            error
        })?;
        match column {
            // Blanks around what is no text mean nothing.
            Column::Known(
                field @ (Known::Timestamp
                | Known::Site
                | Known::Status
                | Known::Bytes
                | Known::DurationMs),
            ) => record.known(*field, text.trim())?,
            Column::Known(field) => record.known(*field, text)?,
            Column::Extra(_) if text.is_empty() => {}
            Column::Extra(name) => record.extra(name, text)?,
        }
    }
    record.finish()
}

/// Splits the body into rows and cells.
struct Rows<'b> {
    body: &'b [u8],
    at: usize,
    /// Of the row that was read last.
    cells: Vec<Cell>,
}

struct Cell {
    /// Between the quotes, if it has any.
    place: Range<usize>,
    /// Whether quotes in it are doubled.
    doubled: bool,
}

impl<'b> Rows<'b> {
    fn skip_blank_lines(&mut self) {
        while self.at < self.body.len() {
            let end = self.line_end(self.at);
            if !is_blank(&self.body[self.at..end]) {
                return;
            }
            self.at = (end + 1).min(self.body.len());
        }
    }

    fn line_end(&self, from: usize) -> usize {
        memchr::memchr(b'\n', &self.body[from..]).map_or(self.body.len(), |len| from + len)
    }

    /// Reads the row at `at` and goes behind it; behind its first line where it is broken.
    fn next_row(&mut self) -> Result<(), &'static str> {
        let start = self.at;
        self.cells.clear();
        loop {
            let (cell, end) = match self.body.get(self.at) {
                Some(b'"') => match self.quoted(self.at + 1) {
                    Ok(quoted) => quoted,
                    Err(reason) => {
                        self.at = (self.line_end(start) + 1).min(self.body.len());
                        return Err(reason);
                    }
                },
                _ => self.unquoted(self.at),
            };
            self.cells.push(cell);
            self.at = (end + 1).min(self.body.len());
            if self.body.get(end) != Some(&b',') {
                return Ok(());
            }
        }
    }

    /// The cell at `from` and the place of the comma or LF behind it.
    fn unquoted(&self, from: usize) -> (Cell, usize) {
        let rest = &self.body[from..];
        let end = memchr::memchr2(b',', b'\n', rest).map_or(self.body.len(), |len| from + len);
        // A CR belongs to the line break, and to the last line's end.
        let at_line_end = self.body.get(end) != Some(&b',');
        let cr = at_line_end && end > from && self.body[end - 1] == b'\r';
        let cell = Cell {
            place: from..end - usize::from(cr),
            doubled: false,
        };
        (cell, end)
    }

    /// The same for a cell whose opening quote stands before `from`.
    fn quoted(&self, from: usize) -> Result<(Cell, usize), &'static str> {
        let mut doubled = false;
        let mut at = from;
        loop {
            let Some(len) = memchr::memchr(b'"', &self.body[at..]) else {
                return Err("a quoted cell does not end");
            };
            at += len + 1;
            let cell = Cell {
                place: from..at - 1,
                doubled,
            };
            match self.body[at..] {
                [b'"', ..] => {
                    doubled = true;
                    at += 1;
                }
                [] | [b',' | b'\n', ..] => return Ok((cell, at)),
                [b'\r', b'\n', ..] => return Ok((cell, at + 1)),
                [b'\r'] => return Ok((cell, at + 1)),
                _ => {
                    return Err(
                        "something stands between a cell's closing quote and the next comma",
                    );
                }
            }
        }
    }

    fn bytes(&self, at: usize) -> Cow<'b, [u8]> {
        let cell = &self.cells[at];
        let raw = &self.body[cell.place.clone()];
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
