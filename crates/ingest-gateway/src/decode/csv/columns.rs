//! What each column of a row is: named by a header, or the three that every record has.

use std::borrow::Cow;

use pipeline_core::record::{Known, shown};

use super::rows::Row;
use crate::decode::BodyError;

/// Most columns that a header names.
pub(super) const COLUMNS_MAX: usize = 4096;

pub(super) struct Columns(pub Vec<Column>);

pub(super) enum Column {
    Known(Known),
    Extra(String),
}

impl Columns {
    pub fn without_header() -> Self {
        Self(
            [Known::Timestamp, Known::Path, Known::UserAgent]
                .map(Column::Known)
                .into(),
        )
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Bytes on the heap.
    pub fn memory(&self) -> usize {
        let text = |column: &Column| match column {
            Column::Known(_) => 0,
            Column::Extra(name) => name.capacity(),
        };
        self.0.iter().map(text).sum::<usize>() + self.0.capacity() * size_of::<Column>()
    }
}

/// The columns, from the first row; whether it is a header.
pub(super) fn columns_of(row: &Row<'_>) -> Result<(Columns, bool), BodyError> {
    let names: Vec<Cow<'_, [u8]>> = (0..row.cells.len()).map(|at| row.bytes(at)).collect();
    if !names.iter().any(|name| name.trim_ascii() == b"timestamp") {
        return Ok((Columns::without_header(), false));
    }
    if row.count > names.len() {
        return Err(BodyError::unreadable(format!(
            "the CSV header has {} columns, allowed are {COLUMNS_MAX}",
            row.count
        )));
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

/// Whether a first row that is broken may have been one: something in it that could be a cell is
/// `timestamp`.
pub(super) fn looks_like_a_header(line: &[u8]) -> bool {
    line.split(|byte| matches!(byte, b',' | b'"'))
        .any(|cell| cell.trim_ascii() == b"timestamp")
}

impl Column {
    pub fn name(&self) -> &str {
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
