//! `dlq replay --corrected`: a file of messages as `dlq show` prints them, with the values that are to
//! go in their stead.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use pipeline_core::{Offset, PartitionId};
use serde::Deserialize;

use crate::dead_letters::Place;

/// Longest line of a file of corrections: the largest message, escaped.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// Topic, partition and offset.
pub type Key = (String, i32, i64);
pub(super) type Corrections = HashMap<Key, Vec<u8>>;

pub(super) fn key_of(place: &Place, offset: Offset) -> Key {
    (place.topic.clone(), place.partition.0, offset.0)
}

/// A line of `dlq show`; what else is in it is not looked at.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Corrected {
    topic: String,
    partition: PartitionId,
    offset: Offset,
    value: Option<String>,
    value_base64: Option<String>,
}

pub(super) fn corrections(path: &Path) -> io::Result<Corrections> {
    let named = |detail: String| {
        let text = format!("{}: {detail}", path.display());
        io::Error::new(io::ErrorKind::InvalidData, text)
    };
    let file = File::open(path).map_err(|error| named(error.to_string()))?;
    let mut file = BufReader::new(file);
    let mut corrections = Corrections::new();
    for number in 1.. {
        let mut line = Vec::new();
        let read = io::Read::take(&mut file, LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let fault = |error: &dyn std::fmt::Display| named(format!("line {number}: {error}"));
        let one: Corrected = serde_json::from_slice(&line).map_err(|error| fault(&error))?;
        let value = match (one.value, one.value_base64) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(base64)) => STANDARD.decode(base64).map_err(|error| fault(&error))?,
            _ => return Err(fault(&"has no value, or two")),
        };
        corrections.insert((one.topic, one.partition.0, one.offset.0), value);
    }
    Ok(corrections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corrections_are_what_show_prints_and_faults_name_their_line() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("mended.ndjson");
        let good = r#"{"topic":"logs","partition":1,"offset":7,"kind":"poison","value":"{}"}"#;
        std::fs::write(&path, format!("{good}\n\n")).expect("written");
        let read = corrections(&path).expect("good");
        assert_eq!(read[&("logs".to_owned(), 1, 7)], b"{}");
        let bad = r#"{"topic":"logs","partition":1,"offset":7}"#;
        std::fs::write(&path, format!("{good}\n{bad}\n")).expect("written");
        let fault = corrections(&path).expect_err("no value").to_string();
        assert!(
            fault.contains("line 2") && fault.contains("mended"),
            "{fault}"
        );
    }
}
