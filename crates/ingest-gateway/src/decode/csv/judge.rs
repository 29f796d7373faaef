//! What becomes of a row that was split, and of a line that begins none.

use pipeline_core::record::{
    Known, RecordError, RecordErrorCode, Refusal, Rules, SHOWN_BYTES_MAX, TextRecord, shown,
    shown_head,
};

use super::{
    columns::{Column, Columns},
    rows::Row,
};
use crate::decode::sink::Judge;

/// A row that was split.
pub struct AsRow<'r> {
    pub row: &'r Row<'r>,
    pub columns: &'r Columns,
}

impl Judge for AsRow<'_> {
    #[inline]
    fn append<R: Refusal>(&self, _: &[u8], rules: &Rules, out: &mut Vec<u8>) -> Result<(), R> {
        append_row(self.row, self.columns, rules, out)
    }
}

/// A line that begins no row.
pub struct BrokenLine<'r> {
    pub line_break: usize,
    pub reason: &'r str,
}

impl BrokenLine<'_> {
    /// What is wrong with it.
    pub fn why(&self, line: &[u8]) -> String {
        let mut found = line[..line.len().min(SHOWN_BYTES_MAX)].to_vec();
        found.extend_from_slice(&b"\n"[..self.line_break]);
        let found = shown_head(&found, line.len() + self.line_break);
        format!("{}: found `{found}`", self.reason)
    }
}

impl Judge for BrokenLine<'_> {
    fn append<R: Refusal>(&self, raw: &[u8], _: &Rules, _: &mut Vec<u8>) -> Result<(), R> {
        Err(R::new(RecordErrorCode::Malformed, || self.why(raw)))
    }
}

fn append_row<R: Refusal>(
    row: &Row<'_>,
    columns: &Columns,
    rules: &Rules,
    out: &mut Vec<u8>,
) -> Result<(), R> {
    if row.count != columns.0.len() {
        return Err(R::new(RecordErrorCode::Malformed, || {
            format!(
                "the row has {} cells, allowed are {}",
                row.count,
                columns.0.len()
            )
        }));
    }
    let mut record = TextRecord::<R>::new(rules, out);
    for (at, column) in columns.0.iter().enumerate() {
        let bytes = row.bytes(at);
        let text = simdutf8::basic::from_utf8(&bytes).map_err(|_| {
            R::new(RecordErrorCode::InvalidUtf8, || {
                let name = shown(column.name().as_bytes());
                format!("column `{name}`: {}", RecordError::invalid_utf8(&bytes))
            })
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
