//! "Did you mean": the known key that an unknown one was probably meant to be.

use super::keys::{self, KEYS};

/// For an unknown key at `path` whose last part is `name`: a key of the same section that is
/// spelt alike, else a key of that name elsewhere.
pub(super) fn nearest(path: &str, name: &str) -> Option<&'static str> {
    let section = path
        .strip_suffix(name)
        .map_or("", |section| section.trim_end_matches('.'));
    let wanted = folded(name);
    let close = |candidate: &str| {
        let candidate = folded(candidate);
        let bound = (candidate.len() / 3).clamp(1, 3);
        Some(distance(&wanted, &candidate)).filter(|found| *found <= bound)
    };
    let beside = keys::children(section)
        .into_iter()
        .filter_map(|candidate| Some((close(candidate)?, candidate)))
        .min_by_key(|(found, _)| *found);
    let elsewhere = || {
        KEYS.iter().map(|key| key.path).find(|path| {
            path.rsplit('.')
                .next()
                .is_some_and(|last| folded(last) == wanted)
        })
    };
    beside.map(|(_, candidate)| candidate).or_else(elsewhere)
}

/// `group_id`, `Group-Id` and `groupID` are the same word.
fn folded(name: &str) -> String {
    name.chars()
        .take(64)
        .filter(|c| c.is_ascii_alphanumeric())
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

/// Insertions, deletions, replacements and swaps of neighbours from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let (from, to) = (from.as_bytes(), to.as_bytes());
    // Three rows of the table: two letters back, one letter back, this letter.
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for i in 0..from.len() {
        let mut row = vec![i + 1];
        for j in 0..to.len() {
            let mut least = (above[j] + usize::from(from[i] != to[j]))
                .min(above[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && from[i] == to[j - 1] && from[i - 1] == to[j] {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_that_was_meant_is_named() {
        for (path, expected) in [
            ("kafka.groupId", Some("groupID")),
            ("kafka.group_id", Some("groupID")),
            ("kafka.broker", Some("brokers")),
            ("ingestion.queueBuferSize", Some("queueBufferSize")),
            ("serverr", Some("server")),
            ("flushSize", Some("consumer.flushSize")),
            ("consumer.logsDir", Some("storage.logsDir")),
            ("kafka.colour", None),
        ] {
            let name = path.rsplit('.').next().unwrap();
            assert_eq!(nearest(path, name), expected, "{path}");
        }
    }

    #[test]
    fn distances_count_single_changes() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
        assert_eq!(distance("kafak", "kafka"), 1);
    }
}
