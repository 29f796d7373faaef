//! How far a duplicate window can reach back at some place of a log, from what was stored before it.
//! Pure.

use std::collections::HashMap;

/// The batches of one partition; here each request is one.
#[derive(Default)]
pub struct Reach {
    /// In the order of their first stored records: the greatest offset stored of each.
    greatest: Vec<i64>,
    place: HashMap<u32, usize>,
}

impl Reach {
    pub fn stored(&mut self, offset: i64, request: u32) {
        let place = *self.place.entry(request).or_insert(self.greatest.len());
        match self.greatest.get_mut(place) {
            Some(greatest) => *greatest = offset,
            None => self.greatest.push(offset),
        }
    }

    /// Batches from the first on of which something is stored at `since` or behind it. The window's
    /// start is above `since` only once such a batch has left it, and then as many as the window
    /// holds came after that one.
    pub fn behind(&self, since: i64) -> u64 {
        let first = self.greatest.iter().position(|greatest| *greatest >= since);
        first.map_or(0, |first| (self.greatest.len() - first) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_counts_from_its_first_record_on_and_to_its_last() {
        let mut reach = Reach::default();
        assert_eq!(reach.behind(0), 0);
        for (offset, request) in [(0, 7), (1, 8), (2, 8), (3, 9), (4, 7)] {
            reach.stored(offset, request);
        }
        // Batch 7 goes on to offset 4.
        assert_eq!([0, 4, 5].map(|since| reach.behind(since)), [3, 3, 0]);
        reach.stored(5, 10);
        assert_eq!(reach.behind(5), 1);
    }
}
