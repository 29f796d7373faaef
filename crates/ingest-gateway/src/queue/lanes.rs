//! The batches of the queue: in order of age, but that what goes to a busy broker waits aside, so
//! that it holds up nothing else. Pure.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use crate::batch::Batch;

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

#[derive(Debug, Default)]
pub struct Lanes {
    main: VecDeque<Batch>,
    /// Older than `main`.
    aside: BTreeMap<i32, VecDeque<Batch>>,
    len: usize,
}

impl Lanes {
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether anything waits for a broker that was busy.
    #[must_use]
    pub fn has_aside(&self) -> bool {
        self.len > self.main.len()
    }

    pub fn push_back(&mut self, batch: Batch) {
        self.main.push_back(batch);
        self.len += 1;
    }

    pub fn push_front(&mut self, batch: Batch) {
        self.main.push_front(batch);
        self.len += 1;
    }

    /// Looks at what waits in each lane, then at the others in order, as `choose` says.
    pub fn take(&mut self, mut choose: impl FnMut(&Batch) -> Choice) -> Found {
        // Whose partition has another leader now.
        let mut moved = Vec::new();
        let mut found = None;
        for (lane, waiting) in &mut self.aside {
            while let Some(oldest) = waiting.front()
                && found.is_none()
            {
                match choose(oldest) {
                    Choice::Stop => found = Some(Found::Stopped),
                    Choice::Take => found = waiting.pop_front().map(Found::Batch),
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
            match choose(oldest) {
                Choice::Stop => found = Some(Found::Stopped),
                Choice::Take => found = self.main.pop_front().map(Found::Batch),
                Choice::Aside(lane) => {
                    let waiting = self.aside.entry(lane).or_default();
                    waiting.extend(self.main.pop_front());
                }
            }
        }
        self.len -= usize::from(matches!(found, Some(Found::Batch(_))));
        found.unwrap_or(Found::Nothing)
    }

    /// Takes every batch whose deadline has come.
    pub fn take_overdue(&mut self, now: Instant) -> Vec<Batch> {
        let mut overdue = Vec::new();
        for batches in self.aside.values_mut().chain([&mut self.main]) {
            if batches.iter().any(|batch| batch.deadline <= now) {
                let (late, rest) = std::mem::take(batches)
                    .into_iter()
                    .partition::<Vec<_>, _>(|batch| batch.deadline <= now);
                *batches = rest.into();
                overdue.extend(late);
            }
        }
        self.aside.retain(|_, waiting| !waiting.is_empty());
        self.len -= overdue.len();
        overdue
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::test::batch_of;

    /// Batches whose ids say their lanes.
    fn lanes(ids: &[u8]) -> Lanes {
        let mut lanes = Lanes::default();
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
        while let Found::Batch(batch) = lanes.take(|batch| match lane_of(batch) {
            lane if busy.contains(&lane) => Choice::Aside(lane),
            _ => Choice::Take,
        }) {
            taken.push(batch.id.0[0]);
        }
        taken
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
        assert!(matches!(lanes.take(|_| Choice::Aside(7)), Found::Nothing));
        assert_eq!(lanes.len(), 2);
        assert!(matches!(lanes.take(|_| Choice::Stop), Found::Stopped));
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
}
