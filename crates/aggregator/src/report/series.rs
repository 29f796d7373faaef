//! What a page counts whole, whatever names its tables list: requests by hour, bytes and durations by
//! day.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    day::{Key, SiteDay},
    keys::Numbers,
    pack::{Named, pack, packed},
};
use crate::{hour::Day, sketch};

pub struct Series {
    /// A key's number, and its requests packed.
    pub hours: Vec<(u64, String)>,
    /// A key's number, and its bytes packed.
    pub bytes: Vec<(u64, String)>,
    pub durations: Option<Durations>,
}

impl Series {
    pub fn of<'a, I: Iterator<Item = (&'a Day, &'a SiteDay)>>(
        days: impl Fn() -> I,
        first: Day,
        count: i64,
        numbers: &mut Numbers<'_>,
    ) -> Self {
        Self {
            hours: hours(days(), first, numbers),
            bytes: bytes(days(), first, numbers),
            durations: durations(days(), first, count),
        }
    }
}

/// How long requests took, by day: for quantiles of any range of days.
#[derive(Serialize)]
pub struct Durations {
    gamma: f64,
    /// What is added to a bucket's number; 0 is the bucket of zero.
    shift: i32,
    /// Packed: buckets (as the difference to the one before) and how many are in each.
    days: Vec<String>,
}

/// Above the number of the lowest bucket that is not zero's.
const SHIFT: i32 = 1_000;

/// Each key's bytes by day: the key, then days (as the difference to the one before) and bytes.
fn bytes<'a>(
    days: impl Iterator<Item = (&'a Day, &'a SiteDay)>,
    first: Day,
    numbers: &mut Numbers<'_>,
) -> Vec<(u64, String)> {
    let mut series: BTreeMap<Key, Named> = BTreeMap::new();
    for (at, day) in days {
        for (key, bytes) in &day.bytes {
            let line = series.entry(numbers.key(day, *key)).or_default();
            line.name((at.0 - first.0) as u64);
            line.numbers.push(*bytes);
        }
    }
    let line = |(key, line): (Key, Named)| (numbers.number_of(key), pack(&line.numbers));
    series.into_iter().map(line).collect()
}

fn durations<'a>(
    days: impl Iterator<Item = (&'a Day, &'a SiteDay)>,
    first: Day,
    count: i64,
) -> Option<Durations> {
    let mut lists = vec![Named::default(); count as usize];
    for (at, day) in days {
        let into = &mut lists[(at.0 - first.0) as usize];
        for (bucket, count) in &day.durations {
            let shifted = bucket.checked_add(SHIFT).unwrap_or_default().max(0);
            into.name(shifted as u64);
            into.numbers.push(*count);
        }
    }
    let some = lists.iter().any(|list| !list.numbers.is_empty());
    some.then(|| Durations {
        gamma: sketch::GAMMA,
        shift: SHIFT,
        days: packed(&lists),
    })
}

/// Each key's requests by hour: the key, then hours (as the difference to the one before) and
/// counts.
fn hours<'a>(
    days: impl Iterator<Item = (&'a Day, &'a SiteDay)>,
    first: Day,
    numbers: &mut Numbers<'_>,
) -> Vec<(u64, String)> {
    let mut series: BTreeMap<Key, (u64, Vec<u64>)> = BTreeMap::new();
    for (at, day) in days {
        for (hour, key, count) in &day.hours {
            let hour = (at.0 - first.0) as u64 * 24 + u64::from(*hour);
            let (last, line) = series.entry(numbers.key(day, *key)).or_default();
            line.extend([hour - *last, *count]);
            *last = hour;
        }
    }
    let line = |(key, (_, line)): (Key, (u64, Vec<u64>))| (numbers.number_of(key), pack(&line));
    series.into_iter().map(line).collect()
}
