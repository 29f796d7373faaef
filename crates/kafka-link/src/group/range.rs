//! As Kafka's `range` assignor: each topic's partitions in as many runs as it has members.
//!
//! Pure, and the same whoever leads, so that a new generation of the same members moves nothing.

use std::{cmp::Ordering, collections::BTreeMap};

/// A member as the leader sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Candidate {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub topics: Vec<String>,
}

/// Partitions of one member, by topic.
pub(super) type Share = BTreeMap<String, Vec<i32>>;

/// Who gets what: every partition of every topic that has members goes to exactly one of them.
/// `counts` has the number of partitions of each topic; the members' order does not matter.
pub(super) fn assign(
    candidates: &[Candidate],
    counts: &BTreeMap<String, i32>,
) -> BTreeMap<String, Share> {
    let mut shares: BTreeMap<String, Share> = candidates
        .iter()
        .map(|candidate| (candidate.member_id.clone(), Share::new()))
        .collect();
    for (topic, count) in counts {
        let mut takers: Vec<&Candidate> = candidates
            .iter()
            .filter(|candidate| candidate.topics.contains(topic))
            .collect();
        takers.sort_by(|a, b| order(a, b));
        let members = i32::try_from(takers.len()).unwrap_or(i32::MAX).max(1);
        let (each, extra) = (count / members, count % members);
        let mut start = 0;
        for (index, taker) in (0..).zip(takers) {
            let end = start + each + i32::from(index < extra);
            if end > start
                && let Some(share) = shares.get_mut(&taker.member_id)
            {
                share.insert(topic.clone(), (start..end).collect());
            }
            start = end;
        }
    }
    shares
}

/// Static members come first, by instance: so they keep their partitions over a restart, when
/// their member id changes.
fn order(a: &Candidate, b: &Candidate) -> Ordering {
    match (&a.instance_id, &b.instance_id) {
        (Some(a), Some(b)) => a.cmp(b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.member_id.cmp(&b.member_id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(id: &str, instance: Option<&str>, topics: &[&str]) -> Candidate {
        Candidate {
            member_id: id.to_owned(),
            instance_id: instance.map(str::to_owned),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        }
    }

    fn counts(counts: &[(&str, i32)]) -> BTreeMap<String, i32> {
        let counts = counts.iter();
        counts.map(|(topic, n)| ((*topic).to_owned(), *n)).collect()
    }

    #[test]
    fn the_first_members_get_the_odd_partitions() {
        let members = ["c", "a", "b"].map(|id| candidate(id, None, &["logs"]));
        let shares = assign(&members, &counts(&[("logs", 8)]));
        assert_eq!(shares["a"]["logs"], [0, 1, 2]);
        assert_eq!(shares["b"]["logs"], [3, 4, 5]);
        assert_eq!(shares["c"]["logs"], [6, 7]);
    }

    #[test]
    fn more_members_than_partitions_leaves_some_idle() {
        let members = ["a", "b", "c"].map(|id| candidate(id, None, &["logs"]));
        let shares = assign(&members, &counts(&[("logs", 2)]));
        assert_eq!(shares["b"]["logs"], [1]);
        assert!(shares["c"].is_empty());
    }

    #[test]
    fn static_members_come_first_by_instance() {
        let members = [
            candidate("a", None, &["logs"]),
            candidate("z", Some("one"), &["logs"]),
            candidate("b", Some("two"), &["logs"]),
        ];
        let shares = assign(&members, &counts(&[("logs", 3)]));
        assert_eq!(shares["z"]["logs"], [0]);
        assert_eq!(shares["b"]["logs"], [1]);
        assert_eq!(shares["a"]["logs"], [2]);
    }

    #[test]
    fn every_partition_has_one_member_that_wants_it() {
        let mut rng = fastrand::Rng::with_seed(9);
        let topics = ["x", "y", "z"];
        for _ in 0..500 {
            let members: Vec<Candidate> = (0..rng.usize(1..9))
                .map(|n| {
                    let wanted: Vec<&str> = topics.iter().copied().filter(|_| rng.bool()).collect();
                    let instance = format!("i{n}");
                    let id = format!("m{}-{n}", rng.u8(..));
                    candidate(&id, rng.bool().then_some(&*instance), &wanted)
                })
                .collect();
            let counts = counts(&topics.map(|topic| (topic, rng.i32(1..20))));
            let shares = assign(&members, &counts);
            assert_eq!(shares.len(), members.len());
            for (topic, count) in &counts {
                let takers: Vec<&Candidate> = members
                    .iter()
                    .filter(|member| member.topics.contains(topic))
                    .collect();
                let mut given: Vec<i32> = members
                    .iter()
                    .filter_map(|member| shares[&member.member_id].get(topic))
                    .flatten()
                    .copied()
                    .collect();
                given.sort_unstable();
                let want: Vec<i32> = if takers.is_empty() {
                    Vec::new()
                } else {
                    (0..*count).collect()
                };
                assert_eq!(given, want);
                let sizes = takers
                    .iter()
                    .map(|taker| shares[&taker.member_id].get(topic).map_or(0, Vec::len));
                let (least, most) = (sizes.clone().min(), sizes.max());
                assert!(most.unwrap_or(0) - least.unwrap_or(0) <= 1);
            }
        }
    }
}
