//! Since when a partition is behind its log, as far as was seen: the log's ends with when each was
//! seen first. So the age of the oldest record that is not in the chain is known although nobody has
//! read it. Pure, and bounded: what is long ago is known less finely, and never as younger than it is.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use pipeline_core::Offset;

const SEEN_MAX: usize = 128;

#[derive(Debug, Default)]
pub struct Behind {
    /// Both ascend, and each end is behind the chain's.
    seen: VecDeque<(Offset, Instant)>,
    /// What is seen sooner than this after the one before counts as seen with it.
    every: Duration,
}

impl Behind {
    /// The log ends at `log_end`, the chain at `next`.
    pub fn look(&mut self, next: Offset, log_end: Offset, now: Instant) {
        while self.seen.front().is_some_and(|(end, _)| *end <= next) {
            self.seen.pop_front();
        }
        // A log that was cut.
        while self.seen.back().is_some_and(|(end, _)| *end > log_end) {
            self.seen.pop_back();
        }
        match self.seen.back_mut() {
            None if log_end > next => {
                self.every = Duration::ZERO;
                self.seen.push_back((log_end, now));
            }
            Some((end, at)) if log_end > *end => {
                if now.saturating_duration_since(*at) < self.every {
                    *end = log_end;
                } else {
                    self.seen.push_back((log_end, now));
                    self.thin();
                }
            }
            _ => {}
        }
    }

    /// Since when records that are not in the chain have been in the log; `None`: there are none.
    #[must_use]
    pub fn since(&self) -> Option<Instant> {
        self.seen.front().map(|(_, at)| *at)
    }

    /// Where there are too many, of two neighbours one is left, with the end of the later and the
    /// time of the earlier.
    fn thin(&mut self) {
        if self.seen.len() < SEEN_MAX {
            return;
        }
        let mut all = std::mem::take(&mut self.seen).into_iter();
        while let Some((end, at)) = all.next() {
            let end = all.next().map_or(end, |(later, _)| later);
            self.seen.push_back((end, at));
        }
        let span = self.seen.iter().next_back().zip(self.seen.front());
        if let Some(((_, last), (_, first))) = span {
            self.every = last.duration_since(*first) / u32::try_from(SEEN_MAX / 2).unwrap_or(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_oldest_record_that_is_not_in_the_chain_is_as_old_as_its_place_in_the_log() {
        let begin = Instant::now();
        let mut behind = Behind::default();
        behind.look(Offset(10), Offset(10), begin);
        assert_eq!(behind.since(), None);
        for second in 1..=5 {
            let end = Offset(10 + i64::from(second) * 100);
            behind.look(Offset(10), end, begin + SECOND * second);
        }
        assert_eq!(behind.since(), Some(begin + SECOND));
        // All but a part of what came in the fourth second is stored.
        behind.look(Offset(350), Offset(510), begin + SECOND * 6);
        assert_eq!(behind.since(), Some(begin + SECOND * 4));
        behind.look(Offset(510), Offset(510), begin + SECOND * 7);
        assert_eq!(behind.since(), None);
    }

    #[test]
    fn a_log_that_is_cut_is_behind_by_what_is_left_of_it() {
        let begin = Instant::now();
        let mut behind = Behind::default();
        behind.look(Offset(0), Offset(100), begin);
        behind.look(Offset(0), Offset(200), begin + SECOND);
        behind.look(Offset(0), Offset(150), begin + SECOND * 2);
        behind.look(Offset(100), Offset(150), begin + SECOND * 3);
        assert_eq!(behind.since(), Some(begin + SECOND * 2));
        behind.look(Offset(100), Offset(100), begin + SECOND * 4);
        assert_eq!(behind.since(), None);
    }

    #[test]
    fn a_long_time_behind_takes_little_room_and_is_never_said_to_be_shorter() {
        let begin = Instant::now();
        let mut behind = Behind::default();
        let came = |record: i64| begin + SECOND * u32::try_from(record).unwrap();
        for record in 1..10_000 {
            behind.look(Offset(0), Offset(record), came(record));
            assert!(behind.seen.len() <= SEEN_MAX);
        }
        assert_eq!(behind.since(), Some(came(1)));
        for next in [10, 500, 5_000, 9_000, 9_990] {
            behind.look(Offset(next), Offset(9_999), came(10_000));
            let since = behind.since().unwrap();
            assert!(
                since <= came(next + 1) && since + SECOND * 256 > came(next),
                "{next}"
            );
        }
    }
}
