//! Which lines of a flood are written, and what is said of the others. Pure: times come in.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    hash::Hash,
    mem,
    time::{Duration, Instant},
};

/// The time in which a log has at most [`LINES_MAX`] lines.
pub const SPAN: Duration = Duration::from_secs(1);
/// Lines in any span, summaries included.
pub const LINES_MAX: usize = 10;
/// Summaries of one span.
pub const SUMMARIES_MAX: usize = 3;
const LINES_OF_EVENTS_MAX: usize = LINES_MAX - SUMMARIES_MAX;
/// Of one place in the code.
const LINES_OF_PLACE_MAX: usize = 3;
/// Places that are remembered while they have something to say; far more than there are.
const PLACES_MAX: usize = 1_024;
const PARTITIONS_MAX: usize = 64;

/// What was written lately, and what was not. `P` is a place in the code.
#[derive(Debug)]
pub struct Budget<P> {
    /// When the last lines were written.
    written: VecDeque<Instant>,
    places: HashMap<P, Place>,
}

#[derive(Debug, Default)]
struct Place {
    written: VecDeque<Instant>,
    withheld: Withheld,
}

/// What one place had to say and did not.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Withheld {
    pub lines: u64,
    /// The last of them: its message and fields.
    pub last: String,
    /// What they named as `partition`, as far as there was room.
    pub partitions: BTreeSet<String>,
}

/// An event, as far as it matters.
#[derive(Clone, Copy, Debug)]
pub struct Event<P> {
    pub place: P,
    /// It may be the last word of the process.
    pub is_error: bool,
}

impl<P> Default for Budget<P> {
    fn default() -> Self {
        Self {
            written: VecDeque::new(),
            places: HashMap::new(),
        }
    }
}

impl<P: Copy + Eq + Hash> Budget<P> {
    /// Whether the event is written. An error whose place has been silent for a span always is:
    /// so the word that a process ends with is never withheld.
    pub fn takes(&mut self, event: Event<P>, now: Instant) -> bool {
        forget_before(&mut self.written, now);
        if self.places.len() >= PLACES_MAX && !self.places.contains_key(&event.place) {
            self.places.retain(|_, place| !place.is_idle(now));
        }
        let full = self.written.len() >= LINES_OF_EVENTS_MAX;
        let place = self.places.entry(event.place).or_default();
        forget_before(&mut place.written, now);
        let silent = place.written.is_empty() && place.withheld.lines == 0;
        let room = !full && place.written.len() < LINES_OF_PLACE_MAX;
        if room || (event.is_error && silent) {
            place.written.push_back(now);
            self.written.push_back(now);
            return true;
        }
        place.withheld.lines += 1;
        false
    }

    /// What an event said that was not taken.
    pub fn withhold(&mut self, place: P, said: String, partition: Option<String>) {
        let Some(place) = self.places.get_mut(&place) else {
            return;
        };
        place.withheld.last = said;
        if let Some(partition) = partition
            && place.withheld.partitions.len() < PARTITIONS_MAX
        {
            place.withheld.partitions.insert(partition);
        }
    }

    /// Whether anything is to be summed up.
    pub fn is_due(&self) -> bool {
        self.places.values().any(|place| place.withheld.lines > 0)
    }

    /// What was withheld since the last call, most first, of so many places; the rest waits for the
    /// next call.
    pub fn summaries(&mut self) -> Vec<(P, Withheld)> {
        let mut due: Vec<_> = self
            .places
            .iter()
            .filter(|(_, it)| it.withheld.lines > 0)
            .collect();
        due.sort_by_key(|(_, it)| std::cmp::Reverse(it.withheld.lines));
        let due: Vec<P> = due
            .into_iter()
            .take(SUMMARIES_MAX)
            .map(|(place, _)| *place)
            .collect();
        let taken = due.into_iter().filter_map(|place| {
            let of_it = self.places.get_mut(&place)?;
            Some((place, mem::take(&mut of_it.withheld)))
        });
        taken.collect()
    }
}

impl Place {
    fn is_idle(&mut self, now: Instant) -> bool {
        forget_before(&mut self.written, now);
        self.written.is_empty() && self.withheld.lines == 0
    }
}

fn forget_before(times: &mut VecDeque<Instant>, now: Instant) {
    while times
        .front()
        .is_some_and(|at| now.duration_since(*at) >= SPAN)
    {
        times.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WARN: fn(u32) -> Event<u32> = |place| Event {
        place,
        is_error: false,
    };
    const ERROR: fn(u32) -> Event<u32> = |place| Event {
        place,
        is_error: true,
    };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_flood_of_many_places_stays_under_ten_lines_in_any_second() {
        let (mut budget, start) = (Budget::default(), Instant::now());
        let mut lines: Vec<Instant> = Vec::new();
        let (mut said, mut counted) = (0, 0);
        for step in 0..20_000_u32 {
            let now = start + ms(u64::from(step) / 2);
            if budget.takes(WARN(step % 40), now) {
                lines.push(now);
                said += 1;
            }
            if step % 2_000 == 1_999 {
                for (_, withheld) in budget.summaries() {
                    lines.push(now);
                    counted += withheld.lines;
                }
            }
        }
        for (index, line) in lines.iter().enumerate() {
            let within = lines[index..].iter().take_while(|it| **it - *line < SPAN);
            assert!(within.count() <= LINES_MAX);
        }
        assert!(said >= 7 * 9, "{said}");
        loop {
            let rest = budget.summaries();
            if rest.is_empty() {
                break;
            }
            counted += rest.iter().map(|(_, it)| it.lines).sum::<u64>();
        }
        assert_eq!(said + counted, 20_000, "every line is written or counted");
    }

    #[test]
    fn one_place_leaves_room_for_others() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        let taken = (0..100).filter(|_| budget.takes(WARN(1), now)).count();
        assert_eq!(taken, LINES_OF_PLACE_MAX);
        assert!(budget.takes(WARN(2), now));
        assert!(budget.takes(WARN(1), now + SPAN), "a second later");
    }

    #[test]
    fn the_last_word_is_never_withheld() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        for place in 0..100 {
            budget.takes(WARN(place), now);
        }
        assert!(!budget.takes(WARN(500), now));
        assert!(budget.takes(ERROR(501), now));
        assert!(!budget.takes(ERROR(501), now), "but not again and again");
    }

    #[test]
    fn a_summary_has_the_last_line_and_the_partitions() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        for partition in 0..70 {
            if !budget.takes(WARN(1), now) {
                budget.withhold(
                    1,
                    format!("failed {partition}"),
                    Some(partition.to_string()),
                );
            }
        }
        let summaries = budget.summaries();
        let [(1, withheld)] = &summaries[..] else {
            panic!("{summaries:?}");
        };
        assert_eq!((withheld.lines, &*withheld.last), (67, "failed 69"));
        assert_eq!(withheld.partitions.len(), PARTITIONS_MAX);
        assert!(budget.summaries().is_empty());
    }
}
