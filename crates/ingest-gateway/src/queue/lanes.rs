//! The batches of the queue: in order of age, but that what goes to a busy broker waits aside, so
//! that it holds up nothing else. Whether so much waits aside that little room is left for others is
//! told to who chooses. Pure.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use crate::batch::{Batch, memory_of};

/// What to do with a batch that is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choice {
    Take,
    /// It has to wait, with others of this lane; look at the next.
    Aside(i32),
    /// Look no further.
    Stop,
}

#[derive(Debug)]
pub enum Found {
    Batch(Batch),
    Stopped,
    /// There is none, or each has to wait.
    Nothing,
}

/// How much there is of something that waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Size {
    pub batches: usize,
    pub bytes: u64,
}

#[derive(Debug)]
pub struct Lanes {
    main: VecDeque<Batch>,
    /// Older than `main`.
    aside: BTreeMap<i32, VecDeque<Batch>>,
    aside_size: Size,
    /// With more aside than this, it crowds out others.
    aside_max: Size,
}

impl Lanes {
    #[must_use]
    pub fn new(aside_max: Size) -> Self {
        Self {
            main: VecDeque::new(),
            aside: BTreeMap::new(),
            aside_size: Size::default(),
            aside_max,
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.main.len() + self.aside_size.batches
    }

    /// Whether anything waits for a broker that was busy.
    #[must_use]
    pub fn has_aside(&self) -> bool {
        self.aside_size.batches > 0
    }

    /// When the oldest of all was received: each lane has its oldest in front.
    #[must_use]
    pub fn oldest_ms(&self) -> Option<i64> {
        let lanes = self.aside.values().chain([&self.main]);
        let fronts = lanes.filter_map(VecDeque::front);
        fronts.map(|batch| batch.received_ms).min()
    }

    pub fn push_back(&mut self, batch: Batch) {
        self.main.push_back(batch);
    }

    pub fn push_front(&mut self, batch: Batch) {
        self.main.push_front(batch);
    }

    /// Looks at what waits in each lane, then at the others in order, as `choose` says. It is told
    /// whether more than there is room for would wait aside together with the batch.
    pub fn take(&mut self, mut choose: impl FnMut(&Batch, bool) -> Choice) -> Found {
        // Whose partition has another leader now.
        let mut moved = Vec::new();
        let mut found = None;
        for (lane, waiting) in &mut self.aside {
            while let Some(oldest) = waiting.front()
                && found.is_none()
            {
                match choose(oldest, self.aside_size.exceeds(self.aside_max)) {
                    Choice::Stop => found = Some(Found::Stopped),
                    Choice::Take => {
                        self.aside_size = self.aside_size.without(oldest);
                        found = waiting.pop_front().map(Found::Batch);
                    }
                    Choice::Aside(to) if to == *lane => break,
                    Choice::Aside(to) => moved.extend(waiting.pop_front().map(|b| (to, b))),
                }
            }
        }
        for (lane, batch) in moved {
            self.aside.entry(lane).or_default().push_back(batch);
        }
        while let Some(oldest) = self.main.front()
            && found.is_none()
        {
            let with_it = self.aside_size.with(oldest);
            match choose(oldest, with_it.exceeds(self.aside_max)) {
                Choice::Stop => found = Some(Found::Stopped),
                Choice::Take => found = self.main.pop_front().map(Found::Batch),
                Choice::Aside(lane) => {
                    let waiting = self.aside.entry(lane).or_default();
                    waiting.extend(self.main.pop_front());
                    self.aside_size = with_it;
                }
            }
        }
        found.unwrap_or(Found::Nothing)
    }

    /// Takes every batch whose deadline has come.
    pub fn take_overdue(&mut self, now: Instant) -> Vec<Batch> {
        let mut overdue = Vec::new();
        for waiting in self.aside.values_mut() {
            let late = split_overdue(waiting, now);
            self.aside_size = late.iter().fold(self.aside_size, Size::without);
            overdue.extend(late);
        }
        self.aside.retain(|_, waiting| !waiting.is_empty());
        overdue.extend(split_overdue(&mut self.main, now));
        overdue
    }
}

impl Size {
    fn with(self, batch: &Batch) -> Self {
        Self {
            batches: self.batches + 1,
            bytes: self.bytes + memory_of(&batch.records),
        }
    }

    fn without(self, batch: &Batch) -> Self {
        Self {
            batches: self.batches - 1,
            bytes: self.bytes - memory_of(&batch.records),
        }
    }

    fn exceeds(self, most: Self) -> bool {
        self.batches > most.batches || self.bytes > most.bytes
    }
}

fn split_overdue(batches: &mut VecDeque<Batch>, now: Instant) -> Vec<Batch> {
    if batches.iter().all(|batch| batch.deadline > now) {
        return Vec::new();
    }
    let (late, rest) = std::mem::take(batches)
        .into_iter()
        .partition::<Vec<_>, _>(|batch| batch.deadline <= now);
    *batches = rest.into();
    late
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::test::batch_of;

    /// Batches whose ids say their lanes.
    fn lanes(ids: &[u8]) -> Lanes {
        let mut lanes = Lanes::new(Size {
            batches: 100,
            bytes: 1 << 20,
        });
        for id in ids {
            lanes.push_back(batch_of(*id, &["a"]));
        }
        lanes
    }

    fn lane_of(batch: &Batch) -> i32 {
        i32::from(batch.id.0[0] / 10)
    }

    /// All that is taken while these lanes are busy.
    fn drain(lanes: &mut Lanes, busy: &[i32]) -> Vec<u8> {
        let mut taken = Vec::new();
        while let Found::Batch(batch) = lanes.take(|batch, _| match lane_of(batch) {
            lane if busy.contains(&lane) => Choice::Aside(lane),
            _ => Choice::Take,
        }) {
            taken.push(batch.id.0[0]);
        }
        taken
    }

    #[test]
    fn the_oldest_is_found_aside_too() {
        let mut lanes = lanes(&[]);
        assert_eq!(lanes.oldest_ms(), None);
        for (id, received_ms) in [(11, 7), (21, 8), (31, 9)] {
            let mut batch = batch_of(id, &["a"]);
            batch.received_ms = received_ms;
            lanes.push_back(batch);
        }
        assert_eq!(drain(&mut lanes, &[1, 3]), [21]);
        assert_eq!(lanes.oldest_ms(), Some(7));
        assert_eq!(drain(&mut lanes, &[3]), [11]);
        assert_eq!(lanes.oldest_ms(), Some(9));
    }

    #[test]
    fn what_has_to_wait_holds_up_nothing_and_is_the_first_later() {
        let mut lanes = lanes(&[11, 21, 12, 31, 22, 13]);
        assert_eq!(drain(&mut lanes, &[1, 3]), [21, 22]);
        assert_eq!((lanes.len(), lanes.has_aside()), (4, true));
        lanes.push_back(batch_of(32, &["a"]));
        lanes.push_back(batch_of(23, &["a"]));
        assert_eq!(drain(&mut lanes, &[3]), [11, 12, 13, 23]);
        assert_eq!(drain(&mut lanes, &[]), [31, 32]);
        assert_eq!((lanes.len(), lanes.has_aside()), (0, false));
    }

    #[test]
    fn what_waits_follows_its_leader_to_another_lane() {
        let mut lanes = lanes(&[11, 12]);
        assert_eq!(drain(&mut lanes, &[1]), [0_u8; 0]);
        assert!(matches!(
            lanes.take(|_, _| Choice::Aside(7)),
            Found::Nothing
        ));
        assert_eq!(lanes.len(), 2);
        assert!(matches!(lanes.take(|_, _| Choice::Stop), Found::Stopped));
        assert_eq!(drain(&mut lanes, &[]), [11, 12]);
    }

    #[test]
    fn what_waits_too_long_is_overdue_wherever_it_waits() {
        let mut lanes = lanes(&[11, 21, 12]);
        assert_eq!(drain(&mut lanes, &[1, 2]), [0_u8; 0]);
        lanes.push_back(batch_of(22, &["a"]));
        let now = Instant::now();
        assert!(lanes.take_overdue(now).is_empty());
        let late = lanes.take_overdue(now + std::time::Duration::from_secs(7200));
        assert_eq!(late.len(), 4);
        assert_eq!((lanes.len(), lanes.has_aside()), (0, false));
    }

    /// All that is taken where lane 1 stands still and what crowds is taken.
    fn drain_crowding(lanes: &mut Lanes) -> Vec<u8> {
        let mut taken = Vec::new();
        while let Found::Batch(batch) = lanes.take(|batch, crowds| match lane_of(batch) {
            1 if !crowds => Choice::Aside(1),
            _ => Choice::Take,
        }) {
            taken.push(batch.id.0[0]);
        }
        taken
    }

    #[test]
    fn who_chooses_is_told_when_too_many_would_wait_aside() {
        let mut lanes = lanes(&[11, 21, 12, 13, 22]);
        lanes.aside_max.batches = 2;
        assert_eq!(drain_crowding(&mut lanes), [21, 13, 22]);
        // What waits already, too: the oldest first.
        lanes.aside_max.batches = 1;
        assert_eq!(drain_crowding(&mut lanes), [11]);
        assert_eq!(lanes.len(), 1);
    }

    #[test]
    fn what_crowds_may_be_bytes_and_none_are_forgotten_or_counted_twice() {
        let mut lanes = lanes(&[11, 12, 13]);
        let one = memory_of(&batch_of(11, &["a"]).records);
        lanes.aside_max.bytes = 2 * one;
        assert_eq!(drain_crowding(&mut lanes), [13]);
        assert_eq!(lanes.aside_size.bytes, 2 * one);
        // To another lane, and out of it.
        assert!(matches!(
            lanes.take(|_, _| Choice::Aside(7)),
            Found::Nothing
        ));
        assert_eq!(lanes.aside_size.bytes, 2 * one);
        let later = Instant::now() + std::time::Duration::from_secs(7200);
        assert_eq!(lanes.take_overdue(later).len(), 2);
        assert_eq!(lanes.aside_size, Size::default());
        lanes.push_back(batch_of(14, &["a"]));
        assert_eq!(drain(&mut lanes, &[1]), [0_u8; 0]);
        assert_eq!(drain(&mut lanes, &[]), [14]);
        assert_eq!(lanes.aside_size, Size::default());
    }
}
