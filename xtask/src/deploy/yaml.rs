//! Looking into parsed YAML.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_yaml::{Deserializer, Value};

/// What is at a path such as `spec.template.spec`.
pub fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.')
        .try_fold(value, |value, part| value.get(part))
}

/// The text there; an empty one where there is none.
pub fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    at(value, path).and_then(Value::as_str).unwrap_or_default()
}

/// The items there; none where there is no list.
pub fn items<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    let list = at(value, path).and_then(Value::as_sequence);
    list.map_or(&[], Vec::as_slice)
}

/// All documents of a stream but the empty ones.
pub fn documents(text: &str) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    for document in Deserializer::from_str(text) {
        let value = Value::deserialize(document)?;
        if !value.is_null() {
            found.push(value);
        }
    }
    Ok(found)
}

pub fn file(path: &Path) -> Result<Value> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_yaml::from_str(&text).with_context(|| format!("{} is no YAML", path.display()))
}

/// Seconds of a duration such as `45s`, `5m`, `1m30s`, or `5min` as systemd has it.
pub fn seconds(duration: &str) -> Option<u64> {
    let mut sum = 0;
    let mut rest = duration;
    while !rest.is_empty() {
        let digits = rest.find(|one: char| !one.is_ascii_digit())?;
        let (number, behind) = rest.split_at(digits);
        let unit = behind.find(|one: char| one.is_ascii_digit());
        let (unit, behind) = behind.split_at(unit.unwrap_or(behind.len()));
        let unit = match unit {
            "s" => 1,
            "m" | "min" => 60,
            "h" => 3600,
            _ => return None,
        };
        sum += unit * number.parse::<u64>().ok()?;
        rest = behind;
    }
    (!duration.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_whole_or_not_at_all() {
        for (duration, expected) in [("45s", Some(45)), ("5min", Some(300)), ("1m30s", Some(90))] {
            assert_eq!(seconds(duration), expected, "{duration}");
        }
        for bad in ["", "45", "s", "4d", "1m30"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }
}
