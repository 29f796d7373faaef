//! Sets of offsets as runs: what was put aside one behind the other costs one run, however many they
//! are. Touches no disk.

use std::collections::{BTreeMap, HashMap};

use pipeline_core::Offset;

use super::Place;

/// Runs by their first offset, with the offset behind their last; none touches the next.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Runs(BTreeMap<i64, i64>);

impl Runs {
    /// Says whether it is new.
    pub fn insert(&mut self, offset: Offset) -> bool {
        let at = offset.0;
        if self.contains(offset) {
            return false;
        }
        let behind = self.0.get(&(at + 1)).copied();
        let end = behind.unwrap_or(at + 1);
        match self.0.range_mut(..=at).next_back() {
            Some((_, end_before)) if *end_before == at => *end_before = end,
            _ => {
                self.0.insert(at, end);
            }
        }
        if behind.is_some() {
            self.0.remove(&(at + 1));
        }
        true
    }

    /// As if it had never been put in.
    pub fn remove(&mut self, offset: Offset) {
        let at = offset.0;
        let Some((first, end)) = self.0.range(..=at).next_back() else {
            return;
        };
        let (first, end) = (*first, *end);
        if end <= at {
            return;
        }
        if first < at {
            self.0.insert(first, at);
        } else {
            self.0.remove(&first);
        }
        if at + 1 < end {
            self.0.insert(at + 1, end);
        }
    }

    pub fn contains(&self, offset: Offset) -> bool {
        let run = self.0.range(..=offset.0).next_back();
        run.is_some_and(|(_, end)| offset.0 < *end)
    }

    /// Forgets what lies below.
    pub fn cut(&mut self, next: Offset) {
        let last = self.0.range(..next.0).next_back();
        let reaches = last.map(|(_, end)| *end).filter(|end| *end > next.0);
        self.0 = self.0.split_off(&next.0);
        if let Some(end) = reaches {
            self.0.insert(next.0, end);
        }
    }

    /// From `next` on, in order.
    pub fn from(&self, next: Offset) -> impl Iterator<Item = Offset> {
        let first = self.0.range(..=next.0).next_back();
        let first = first.map_or(next.0, |(from, _)| *from);
        let runs = self.0.range(first..);
        runs.flat_map(move |(from, end)| (*from.max(&next.0)..*end).map(Offset))
    }
}

/// Offsets by partition; places are few, and messages many.
#[derive(Clone, Debug, Default)]
pub(super) struct KeySet(HashMap<Place, Runs>);

impl KeySet {
    /// Says whether it is new.
    pub fn insert(&mut self, place: &Place, offset: Offset) -> bool {
        match self.0.get_mut(place) {
            Some(runs) => runs.insert(offset),
            None => {
                let runs = self.0.entry(place.clone()).or_default();
                runs.insert(offset)
            }
        }
    }

    pub fn remove(&mut self, place: &Place, offset: Offset) {
        if let Some(runs) = self.0.get_mut(place) {
            runs.remove(offset);
        }
    }

    /// All of them, in order within a place.
    pub fn keys(&self) -> impl Iterator<Item = (&Place, Offset)> {
        let places = self.0.iter();
        places.flat_map(|(place, runs)| runs.from(Offset(i64::MIN)).map(move |at| (place, at)))
    }

    /// Takes what the other has.
    pub fn absorb(&mut self, other: Self) {
        for (place, runs) in other.0 {
            match self.0.get_mut(&place) {
                Some(own) => runs.from(Offset(i64::MIN)).for_each(|offset| {
                    own.insert(offset);
                }),
                None => {
                    self.0.insert(place, runs);
                }
            }
        }
    }

    pub fn contains(&self, place: &Place, offset: Offset) -> bool {
        let runs = self.0.get(place);
        runs.is_some_and(|runs| runs.contains(offset))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn runs_hold_what_a_set_would_and_as_few_as_there_can_be() {
        let mut rng = fastrand::Rng::with_seed(5);
        for _ in 0..200 {
            let mut runs = Runs::default();
            let mut set = BTreeSet::new();
            for _ in 0..60 {
                let at = Offset(rng.i64(0..40));
                if rng.u8(..4) == 0 {
                    runs.remove(at);
                    set.remove(&at);
                } else {
                    assert_eq!(runs.insert(at), set.insert(at));
                }
            }
            let cut = Offset(rng.i64(0..40));
            let from: Vec<Offset> = runs.from(cut).collect();
            assert_eq!(from, set.range(cut..).copied().collect::<Vec<_>>());
            runs.cut(cut);
            set = set.split_off(&cut);
            assert!((0..41).all(|at| runs.contains(Offset(at)) == set.contains(&Offset(at))));
            assert_eq!(runs.from(Offset(0)).collect::<Vec<_>>(), from);
            let ends: BTreeSet<i64> = runs.0.values().copied().collect();
            assert!(runs.0.keys().all(|first| !ends.contains(first)), "{runs:?}");
        }
    }

    #[test]
    fn a_million_one_behind_the_other_are_one_run() {
        let mut runs = Runs::default();
        assert!((0..1_000_000).all(|at| runs.insert(Offset(at))));
        assert_eq!(runs.0.len(), 1);
    }
}
