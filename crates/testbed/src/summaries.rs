//! Reads the analytics as any user could: the hourly summaries' JSON.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, de::IgnoredAny};

/// One hour, as far as the books go.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    pub requests: u64,
    #[serde(default)]
    pub requests_per_path: BTreeMap<String, u64>,
    #[serde(default)]
    pub requests_per_user_agent: BTreeMap<String, u64>,
    #[serde(default)]
    pub sites: BTreeMap<String, Site>,
}

#[derive(Debug, Deserialize)]
pub struct Site {
    pub requests: u64,
}

/// Only the total, for waiting.
#[derive(Deserialize)]
struct Total {
    requests: u64,
    #[serde(flatten)]
    _rest: BTreeMap<String, IgnoredAny>,
}

/// Every hour there is, by day and hour as in the file's name.
///
/// # Errors
/// When a file cannot be read or is not a summary.
pub fn hours(analytics: &Path) -> Result<BTreeMap<(String, u32), Summary>> {
    let mut found = BTreeMap::new();
    for_each_hour(analytics, |day, hour, text| {
        found.insert((day.to_owned(), hour), serde_json::from_str(text)?);
        Ok(())
    })?;
    Ok(found)
}

/// All requests that the summaries count.
///
/// # Errors
/// When a file cannot be read or is not a summary.
pub fn total(analytics: &Path) -> Result<u64> {
    let mut sum = 0;
    for_each_hour(analytics, |_, _, text| {
        sum += serde_json::from_str::<Total>(text)?.requests;
        Ok(())
    })?;
    Ok(sum)
}

/// Adds up one map of all hours.
pub fn add_up<'a>(maps: impl Iterator<Item = &'a BTreeMap<String, u64>>) -> BTreeMap<&'a str, u64> {
    let mut sums = BTreeMap::new();
    for (key, count) in maps.flatten() {
        *sums.entry(key.as_str()).or_insert(0) += count;
    }
    sums
}

fn for_each_hour(
    analytics: &Path,
    mut visit: impl FnMut(&str, u32, &str) -> Result<()>,
) -> Result<()> {
    if !analytics.exists() {
        return Ok(());
    }
    for day in fs::read_dir(analytics)? {
        let day = day?.path();
        let name = day
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        // Days only; other directories are not ours to judge.
        if name.len() != 10 || !day.is_dir() {
            continue;
        }
        for file in fs::read_dir(&day)? {
            let file = file?.path();
            let base = file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let hour = base
                .strip_prefix("summary_")
                .and_then(|rest| rest.strip_suffix(".json"));
            let Some(hour) = hour.and_then(|hour| hour.parse::<u32>().ok()) else {
                continue;
            };
            let text = fs::read_to_string(&file)?;
            visit(&name, hour, &text).with_context(|| format!("in {}", file.display()))?;
        }
    }
    Ok(())
}
