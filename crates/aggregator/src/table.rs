//! Counts by key (a path, an agent, …), by who asked and how it was answered: sorted rows that
//! merge in one pass, and never more keys than allowed. Pure.
//!
//! Above its bound a table keeps the heaviest keys, by Misra and Gries as Space-Saving counts it
//! (Agarwal et al., "Mergeable Summaries", 2012): what is dropped is counted in `other`, and a key
//! that comes after something was dropped may have been among that, so it is ranked by what it has
//! and what it may have missed. No key has missed more than `error_max`, and that is at most the
//! requests of all keys divided by the keys that are kept.

use crate::client::{Client, StatusClass};

/// Rows for each key that is allowed, so that many kinds of clients on each key have a bound too;
/// and how many more.
const ROWS_PER_KEY: usize = 16;
const ROWS_MORE: usize = 20_000;

/// What is counted apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place<'a> {
    pub key: &'a str,
    pub client: Client<'a>,
    pub class: StatusClass,
}

/// Requests by key. All that is not in a row is in `other`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Table<'a> {
    /// Sorted, no place twice.
    pub rows: Vec<(Place<'a>, u64)>,
    /// Requests whose keys are not kept.
    pub other: u64,
    /// What a key that is not there may have had at most. 0: nothing was ever dropped.
    pub error_max: u64,
    /// Of keys that came after something was dropped: what each may have more than its rows say,
    /// at most. Sorted by key.
    pub missed: Vec<(&'a str, u64)>,
}

impl<'a> Table<'a> {
    /// Whether nothing was ever dropped: then each count is the true one.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.error_max == 0
    }

    #[must_use]
    pub fn requests(&self) -> u64 {
        self.rows.iter().map(|(_, count)| count).sum::<u64>() + self.other
    }

    /// The rows of each key, in order.
    pub fn keys(&self) -> impl Iterator<Item = &[(Place<'a>, u64)]> {
        self.rows
            .chunk_by(|(one, _), (other, _)| one.key == other.key)
    }

    /// What `key`, which has rows, may have more than they say, at most.
    #[must_use]
    pub fn missed(&self, key: &str) -> u64 {
        let at = self.missed.binary_search_by_key(&key, |(key, _)| key);
        at.map_or(0, |at| self.missed[at].1)
    }

    /// The sum of tables that count different requests.
    #[must_use]
    pub fn sum<'b>(parts: impl Iterator<Item = &'b Self> + Clone) -> Self
    where
        'a: 'b,
    {
        let rows = parts.clone().flat_map(|part| part.rows.iter().copied());
        let rows = coalesce(rows.collect());
        let error_max: u64 = parts.clone().map(|part| part.error_max).sum();
        let mut missed = Vec::new();
        if error_max > 0 {
            // A key may have been dropped from each part, but not where it is known better.
            let known = parts.clone().flat_map(|part| {
                let keys = distinct(&part.rows).into_iter();
                keys.map(|key| (key, part.error_max - part.missed(key)))
            });
            let known = coalesce(known.collect());
            let all = known
                .into_iter()
                .map(|(key, known)| (key, error_max - known));
            missed = all.filter(|(_, missed)| *missed > 0).collect();
        }
        Self {
            rows,
            other: parts.map(|part| part.other).sum(),
            error_max,
            missed,
        }
    }

    /// Keeps the heaviest keys where there are more than `keys_max`.
    pub fn bound(&mut self, keys_max: usize) {
        let rows_max = keys_max.saturating_mul(ROWS_PER_KEY) + ROWS_MORE;
        if self.rows.len() <= keys_max {
            return;
        }
        struct Key {
            at: usize,
            rows: usize,
            upper: u64,
        }
        let mut at = 0;
        let mut keys: Vec<Key> = Vec::new();
        for rows in self.keys() {
            let count: u64 = rows.iter().map(|(_, count)| count).sum();
            keys.push(Key {
                at,
                rows: rows.len(),
                upper: count + self.missed(rows[0].0.key),
            });
            at += rows.len();
        }
        if keys.len() <= keys_max && self.rows.len() <= rows_max {
            return;
        }
        // Among equals those that sort first, so that the same input gives the same table.
        keys.sort_unstable_by_key(|key| (std::cmp::Reverse(key.upper), key.at));
        let mut rows = 0;
        let kept = keys
            .iter()
            .take(keys_max)
            .take_while(|key| {
                rows += key.rows;
                rows <= rows_max
            })
            .count();
        let dropped = keys.split_off(kept);
        for key in &dropped {
            self.error_max = self.error_max.max(key.upper);
        }
        keys.sort_unstable_by_key(|key| key.at);
        let all = std::mem::take(&mut self.rows);
        let total: u64 = all.iter().map(|(_, count)| count).sum();
        for key in &keys {
            self.rows.extend_from_slice(&all[key.at..key.at + key.rows]);
        }
        self.other += total - self.rows.iter().map(|(_, count)| count).sum::<u64>();
        let kept = distinct(&self.rows);
        self.missed
            .retain(|(key, _)| kept.binary_search(key).is_ok());
    }
}

fn distinct<'a>(rows: &[(Place<'a>, u64)]) -> Vec<&'a str> {
    let keys = rows.chunk_by(|(one, _), (other, _)| one.key == other.key);
    keys.map(|rows| rows[0].0.key).collect()
}

/// Sorts and adds up what has the same key. The input is made of sorted runs, which the standard
/// library's stable sort merges without comparing each with each.
pub fn coalesce<K: Ord + Copy, N: Copy + std::ops::AddAssign>(mut all: Vec<(K, N)>) -> Vec<(K, N)> {
    all.sort_by_key(|(key, _)| *key);
    all.dedup_by(|(key, count), (kept, sum)| {
        let same = key == kept;
        if same {
            *sum += *count;
        }
        same
    });
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn table(counts: &BTreeMap<String, u64>) -> Table<'_> {
        let place = |key| Place {
            key,
            client: Client::Human,
            class: StatusClass::of(Some(200)),
        };
        Table {
            rows: counts
                .iter()
                .map(|(key, count)| (place(key.as_str()), *count))
                .collect(),
            ..Table::default()
        }
    }

    /// Whatever comes in whatever order: totals are exact, and each key is within what the table
    /// states, which is within the bound of the theory.
    #[test]
    fn heavy_hitters_are_within_their_stated_error() {
        let mut rng = fastrand::Rng::with_seed(3);
        for round in 0..60 {
            let keys_max = rng.usize(1..40);
            let spread = rng.u32(20..400);
            let mut truth: BTreeMap<String, u64> = BTreeMap::new();
            let parts: Vec<BTreeMap<String, u64>> = (0..rng.usize(2..25))
                .map(|part| {
                    let mut counts = BTreeMap::new();
                    for _ in 0..rng.usize(..300) {
                        // Some heavy, some only of this part.
                        let key = match rng.u8(..3) {
                            0 => format!("heavy{}", rng.u32(0..5)),
                            1 => format!("{}", rng.u32(0..spread)),
                            _ => format!("part{part}-{}", rng.u32(0..spread)),
                        };
                        let count = rng.u64(1..10);
                        *counts.entry(key.clone()).or_default() += count;
                        *truth.entry(key).or_default() += count;
                    }
                    counts
                })
                .collect();
            // As runs do: one after the other; and as days do: sums of what was bounded before.
            let mut state = Table::default();
            for (number, part) in parts.iter().enumerate() {
                let mut part = table(part);
                if number % 3 == 0 {
                    part.bound(keys_max);
                }
                state = Table::sum([&state, &part].into_iter());
                state.bound(keys_max);
            }
            let total: u64 = truth.values().sum();
            assert_eq!(state.requests(), total, "round {round}");
            assert!(state.keys().count() <= keys_max);
            assert!(
                state.error_max <= total / (keys_max as u64 + 1),
                "round {round}: {} of {total} with {keys_max}",
                state.error_max
            );
            if truth.len() <= keys_max {
                assert!(state.is_exact());
            }
            for (key, right) in &truth {
                let rows = state.rows.iter().find(|(place, _)| place.key == key);
                let found = rows.map_or(0, |(_, count)| *count);
                let missed = match rows {
                    None => state.error_max,
                    Some(_) => state.missed(key),
                };
                assert!(missed <= state.error_max);
                assert!(
                    found <= *right && *right <= found + missed,
                    "round {round}: {key} has {right}, not {found} to {}",
                    found + missed
                );
            }
        }
    }

    #[test]
    fn below_the_bound_nothing_is_touched() {
        let counts: BTreeMap<_, _> = (0..50_u64).map(|n| (format!("{n}"), n + 1)).collect();
        let mut bounded = table(&counts);
        bounded.bound(50);
        assert_eq!(bounded, table(&counts));
        bounded.bound(49);
        assert_eq!(
            (bounded.rows.len(), bounded.other, bounded.error_max),
            (49, 1, 1)
        );
    }

    #[test]
    fn many_kinds_of_clients_have_a_bound_too() {
        let names: Vec<String> = (0..10_000).map(|n| format!("bot{n:04}")).collect();
        let mut rows = Vec::new();
        for key in ["/a", "/b", "/c"] {
            for name in &names {
                let place = Place {
                    key,
                    client: Client::Bot(name),
                    class: StatusClass::of(None),
                };
                rows.push((place, 1));
            }
        }
        let mut table = Table {
            rows,
            ..Table::default()
        };
        table.bound(10);
        assert_eq!(
            (table.rows.len(), table.other, table.error_max),
            (20_000, 10_000, 10_000)
        );
        assert_eq!(table.requests(), 30_000);
    }
}
