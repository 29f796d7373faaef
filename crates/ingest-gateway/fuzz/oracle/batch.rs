//! A batch that fits together, of lines that are records.

use ingest_gateway::decode::{DecodedBatch, Limits};
use pipeline_core::record::{Rules, append_json};
use serde::Deserialize;

/// A record as `serde` reads it: it refuses a known field that stands twice or has another type.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    pub timestamp: String,
    pub path: String,
    pub user_agent: String,
    pub site: Option<String>,
    pub method: Option<String>,
    pub status: Option<u16>,
    pub bytes: Option<u64>,
    pub duration_ms: Option<f64>,
    pub remote_addr: Option<String>,
    pub referer: Option<String>,
    pub protocol: Option<String>,
}

/// Gives the lines as they were read.
pub fn check(batch: &DecodedBatch, rules: &Rules, limits: &Limits) -> Vec<Line> {
    let records = &batch.records;
    assert_eq!(records.ends.len(), records.sequences.len());
    assert!(records.ends.is_sorted_by(|a, b| a < b), "no line is empty");
    let end = records.ends.last().copied().unwrap_or(0);
    assert_eq!(records.lines.len(), end as usize);
    assert!(end <= limits.lines_bytes_max);

    let total = records.len() as u64 + batch.rejected;
    assert!(total <= u64::from(limits.records_max));
    let kept = batch.errors.len() as u64;
    assert_eq!(kept, batch.rejected.min(limits.errors_max as u64));
    assert_eq!(batch.rejected_by_code.iter().sum::<u64>(), batch.rejected);
    assert!(records.sequences.is_sorted_by(|a, b| a < b));
    assert!(batch.errors.is_sorted_by(|a, b| a.index < b.index));
    for index in &records.sequences {
        assert!(u64::from(*index) < total);
        let is_error = batch.errors.binary_search_by_key(index, |e| e.index);
        assert!(is_error.is_err(), "{index} is accepted and rejected");
    }
    for error in &batch.errors {
        assert!(u64::from(error.index) < total);
        assert!(error.raw.len() <= limits.rejected_bytes_max);
        assert!(error.error.message.len() < 8192);
    }
    records
        .iter()
        .map(|(_, line)| check_line(line, rules))
        .collect()
}

/// A canonical line: read by `serde_json`, on one line, within the rules, and not to be improved.
pub fn check_line(bytes: &[u8], rules: &Rules) -> Line {
    let shown = String::from_utf8_lossy(bytes);
    assert!(!bytes.contains(&b'\n'), "{shown}");
    assert!(bytes.len() <= rules.record_bytes_max, "{shown}");
    let line: Line = match serde_json::from_slice(bytes) {
        Ok(line) => line,
        Err(error) => panic!("{error}: {shown}"),
    };
    let time = line.timestamp.as_bytes();
    assert!(time.len() >= 20 && time.ends_with(b"Z"), "{shown}");
    assert!(time[..4].iter().all(u8::is_ascii_digit), "{shown}");
    assert!(!line.path.trim().is_empty(), "{shown}");
    assert!(!line.user_agent.trim().is_empty(), "{shown}");
    assert!(
        line.status.is_none_or(|n| (100..600).contains(&n)),
        "{shown}"
    );
    assert!(
        line.bytes.is_none_or(|n| i64::try_from(n).is_ok()),
        "{shown}"
    );
    assert!(line.duration_ms.is_none_or(|n| n >= 0.0), "{shown}");
    if rules.default_site.is_some() {
        assert!(
            line.site.as_ref().is_some_and(|site| !site.is_empty()),
            "{shown}"
        );
    }
    let mut again = Vec::new();
    assert_eq!(append_json(bytes, rules, &mut again), Ok(()), "{shown}");
    assert_eq!(again, bytes, "{shown}");
    line
}
