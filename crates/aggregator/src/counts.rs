//! Counts of one hour, by site: sorted lists that merge in one pass. Pure; keys are borrowed from
//! whoever has read or folded them.

/// Sorted by key, no key twice.
pub type Keys<'a> = Vec<(&'a str, u64)>;

/// What was counted for one site (or for the records without one).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counts<'a> {
    pub requests: u64,
    /// How many records say how many bytes they sent, and the sum of those: hostile values of 64
    /// bits do not overflow it.
    pub with_bytes: u64,
    pub bytes: u128,
    pub statuses: Vec<(u16, u64)>,
    pub methods: Keys<'a>,
    pub paths: Keys<'a>,
    pub user_agents: Keys<'a>,
}

/// One hour's counts. Sorted by site, the records without one first.
pub type Sites<'a> = Vec<(Option<&'a str>, Counts<'a>)>;

impl<'a> Counts<'a> {
    /// The sum of any number of counts.
    #[must_use]
    pub fn sum<'b>(parts: impl Iterator<Item = &'b Self> + Clone) -> Self
    where
        'a: 'b,
    {
        let keys = |of: fn(&Self) -> &Keys<'a>| {
            let all = parts.clone().flat_map(|part| of(part).iter().copied());
            coalesce(all.collect())
        };
        Self {
            requests: parts.clone().map(|part| part.requests).sum(),
            with_bytes: parts.clone().map(|part| part.with_bytes).sum(),
            bytes: parts.clone().map(|part| part.bytes).sum(),
            statuses: coalesce(
                parts
                    .clone()
                    .flat_map(|part| part.statuses.iter().copied())
                    .collect(),
            ),
            methods: keys(|part| &part.methods),
            paths: keys(|part| &part.paths),
            user_agents: keys(|part| &part.user_agents),
        }
    }
}

/// Counts of several hours as those of one.
#[must_use]
pub fn sum_sites<'a>(parts: Vec<Sites<'a>>) -> Sites<'a> {
    let mut all: Vec<_> = parts.into_iter().flatten().collect();
    all.sort_by_key(|(site, _)| *site);
    all.chunk_by(|(one, _), (other, _)| one == other)
        .map(|same| {
            let counts = match same {
                [(_, one)] => one.clone(),
                many => Counts::sum(many.iter().map(|(_, counts)| counts)),
            };
            (same[0].0, counts)
        })
        .collect()
}

/// Requests over all sites.
#[must_use]
pub fn requests(sites: &Sites<'_>) -> u64 {
    sites.iter().map(|(_, counts)| counts.requests).sum()
}

/// Sorts and adds up what has the same key. The input is made of sorted runs, which the standard
/// library's stable sort merges without comparing each with each.
fn coalesce<K: Ord + Copy>(mut all: Vec<(K, u64)>) -> Vec<(K, u64)> {
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
    use super::*;

    #[test]
    fn sums_are_sorted_and_hold_everything_once() {
        let one = Counts {
            requests: 3,
            with_bytes: 1,
            bytes: u128::from(u64::MAX),
            statuses: vec![(200, 2), (404, 1)],
            methods: vec![("GET", 3)],
            paths: vec![("/a", 1), ("/c", 2)],
            user_agents: vec![("x", 3)],
        };
        let other = Counts {
            requests: 2,
            with_bytes: 2,
            bytes: u128::from(u64::MAX),
            statuses: vec![(200, 1), (301, 1)],
            methods: vec![],
            paths: vec![("/b", 1), ("/c", 1)],
            user_agents: vec![("-", 1), ("x", 1)],
        };
        let sum = Counts::sum([&one, &other].into_iter());
        assert_eq!(sum.requests, 5);
        assert_eq!(sum.bytes, 2 * u128::from(u64::MAX));
        assert_eq!(sum.statuses, [(200, 3), (301, 1), (404, 1)]);
        assert_eq!(sum.paths, [("/a", 1), ("/b", 1), ("/c", 3)]);
        assert_eq!(sum.user_agents, [("-", 1), ("x", 4)]);

        let sites = sum_sites(vec![
            vec![(None, one.clone()), (Some("b"), other.clone())],
            vec![(Some("a"), one.clone()), (Some("b"), one.clone())],
        ]);
        let names: Vec<_> = sites.iter().map(|(site, _)| *site).collect();
        assert_eq!(names, [None, Some("a"), Some("b")]);
        assert_eq!(requests(&sites), 11);
        assert_eq!(sites[2].1, Counts::sum([&one, &other].into_iter()));
    }
}
