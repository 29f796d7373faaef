//! Bodies as clients send them, and what becomes of each record.

use std::path::{Path, PathBuf};

use pipeline_core::record::Rules;

use super::*;

mod bodies;
mod csv_rows;
mod inflating;
mod log_lines;
mod pieces;
mod whole_bodies;

const GOOD: &str = r#"{"timestamp":"2015-05-17T10:05:03Z","path":"/a","userAgent":"x"}"#;

/// A valid record with another path.
fn good(path: &str) -> String {
    GOOD.replace("/a", path)
}

fn rules() -> Rules {
    Rules {
        record_bytes_max: 256 * 1024,
        default_site: None,
        bound_site: None,
    }
}

fn decoded(media: Media, body: impl AsRef<[u8]>) -> DecodedBatch {
    decode(media, body.as_ref(), &rules(), Limits::default()).expect("readable")
}

fn unreadable(media: Media, body: impl AsRef<[u8]>) -> String {
    decode(media, body.as_ref(), &rules(), Limits::default())
        .expect_err("unreadable")
        .to_string()
}

/// Lines with their sequence.
fn lines_of(batch: &DecodedBatch) -> Vec<(u32, &str)> {
    let text = |(at, line)| (at, std::str::from_utf8(line).expect("UTF-8"));
    batch.records.iter().map(text).collect()
}

fn codes_of(batch: &DecodedBatch) -> Vec<(u32, RecordErrorCode)> {
    batch
        .errors
        .iter()
        .map(|error| (error.index, error.error.code))
        .collect()
}

#[test]
fn the_real_log_has_9999_records_and_one_cut_off_line() {
    // Not part of the repository: beside it, or where the variable says.
    let path = std::env::var_os("SLUICE_ACCESS_LOG").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/access.combined.log"),
        PathBuf::from,
    );
    let Ok(body) = std::fs::read(&path) else {
        println!("SKIPPED: there is no {}", path.display());
        return;
    };
    let batch = decoded(Media::Text, body);
    assert_eq!(batch.records.len(), 9999);
    assert_eq!(codes_of(&batch), [(8898, RecordErrorCode::Malformed)]);
    assert!(
        batch.errors[0]
            .error
            .message
            .contains("46.118.127.106 - - [20/May/2015:12:05:17 +0000]"),
        "the message shows the line: {}",
        batch.errors[0].error.message
    );
}
