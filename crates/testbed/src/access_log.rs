//! The records of a log file, for measurements on what is as real as it comes.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Each line of the file as a JSON record: as it is where it is one, with time, path and agent
/// where it is a combined log line; other lines are left out.
///
/// # Errors
/// When the file cannot be read or holds nothing of the kind.
pub fn read(file: &Path) -> Result<Vec<String>> {
    let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let text = String::from_utf8_lossy(&text);
    let records: Vec<String> = text.lines().filter_map(record).collect();
    if records.is_empty() {
        bail!("{} holds no log line that is understood", file.display());
    }
    Ok(records)
}

fn record(line: &str) -> Option<String> {
    if line.starts_with('{') {
        return Some(line.to_owned());
    }
    let (_, rest) = line.split_once('[')?;
    let (time, rest) = rest.split_once("] \"")?;
    let (request, rest) = rest.split_once("\" ")?;
    let path = request.split(' ').nth(1)?;
    let agent = rest.rsplit('"').nth(1)?;
    let record = serde_json::json!({
        "timestamp": rfc3339(time)?,
        "path": path,
        "userAgent": agent,
    });
    Some(record.to_string())
}

/// `17/May/2015:10:05:03 +0000`, in UTC only.
fn rfc3339(time: &str) -> Option<String> {
    let (date, clock) = time.strip_suffix(" +0000")?.split_once(':')?;
    let mut date = date.split('/');
    let (day, name, year) = (date.next()?, date.next()?, date.next()?);
    let month = MONTHS.iter().position(|month| *month == name)? + 1;
    Some(format!("{year}-{month:02}-{day}T{clock}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_become_records_and_records_stay() {
        let line = r#"192.0.2.1 - - [17/May/2015:10:05:03 +0000] "GET /a?b=1 HTTP/1.1" 200 9 "-" "Agent/1 (x)""#;
        assert_eq!(
            record(line).as_deref(),
            Some(
                r#"{"path":"/a?b=1","timestamp":"2015-05-17T10:05:03Z","userAgent":"Agent/1 (x)"}"#
            )
        );
        assert_eq!(record(r#"{"a":1}"#).as_deref(), Some(r#"{"a":1}"#));
        assert_eq!(record("no log line"), None);
    }
}
