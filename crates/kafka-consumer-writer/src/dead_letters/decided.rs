//! Which messages have marks, and which of them nobody waits for any more: all that a writer and
//! whoever tidies need of the marks. Held as runs, as a decision is about many messages, and most of
//! those that have a mark are decided; who sends or shows single ones needs [`Marks`].
//!
//! [`Marks`]: super::marks::Marks

use std::{io, path::Path};

use pipeline_core::Offset;

use super::{
    Place,
    marks::{Mark, each_mark, each_mark_of},
    runs::KeySet,
};

#[derive(Debug, Default)]
pub(super) struct Decided {
    marked: KeySet,
    /// Of these: may have been sent, and no more is known.
    open: KeySet,
    /// What cannot be read, for people: of a message without a mark nothing is known then.
    pub damage: Vec<String>,
}

impl Decided {
    /// Of all marks files of a directory; what cannot be read is passed over, and said.
    ///
    /// # Errors
    /// Where the directory cannot be listed.
    pub fn read(dir: &Path) -> io::Result<Self> {
        let mut decided = Self::default();
        let damage = each_mark(dir, &mut |place, offset, mark| {
            decided.add(place, offset, mark);
        })?;
        decided.damage = damage;
        Ok(decided)
    }

    /// Of one file.
    pub fn read_file(path: &Path) -> Self {
        let mut decided = Self::default();
        let damage = each_mark_of(path, &mut |place, offset, mark| {
            decided.add(place, offset, mark);
        });
        decided.damage.extend(damage);
        decided
    }

    /// Marks come in any order.
    fn add(&mut self, place: &Place, offset: Offset, mark: Mark) {
        match mark {
            // One that is known is open already, or decided.
            Mark::Sent { .. } => {
                if self.marked.insert(place, offset) {
                    self.open.insert(place, offset);
                }
            }
            Mark::Done { .. } | Mark::Discarded { .. } => {
                if !self.marked.insert(place, offset) {
                    self.open.remove(place, offset);
                }
            }
            // Says of a record under whose id it goes, and of this message nothing.
            Mark::Leads { .. } => {}
        }
    }

    /// Whether there is any mark of it.
    pub fn is_marked(&self, place: &Place, offset: Offset) -> bool {
        self.marked.contains(place, offset)
    }

    /// Nobody waits for it any more.
    pub fn is_done(&self, place: &Place, offset: Offset) -> bool {
        self.is_marked(place, offset) && !self.open.contains(place, offset)
    }

    /// Every message that has a mark.
    pub fn keys(&self) -> impl Iterator<Item = (&Place, Offset)> {
        self.marked.keys()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use pipeline_core::PartitionId;

    use super::{super::marks::Marks, *};

    #[test]
    fn whatever_the_order_of_the_marks_the_same_is_decided_as_by_single_ones() {
        let place = |partition| Place {
            topic: "logs".to_owned(),
            topic_id: "id".to_owned(),
            partition: PartitionId(partition),
        };
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..200 {
            let (mut decided, mut marks) = (Decided::default(), Marks::default());
            for _ in 0..60 {
                let mark = match rng.u8(..4) {
                    0 => Mark::Done { landed: Offset(1) },
                    1 => Mark::Discarded { at_ms: 1 },
                    2 => Mark::Leads {
                        record: (pipeline_core::BatchId([1; 16]), 2),
                    },
                    _ => Mark::Sent { since: Offset(1) },
                };
                let (place, offset) = (place(rng.i32(..2)), Offset(rng.i64(0..30)));
                decided.add(&place, offset, mark);
                marks.add(&place, offset, mark);
            }
            for place in [0, 1].map(place) {
                for offset in (0..31).map(Offset) {
                    let done = marks.of(&place, offset).is_done();
                    assert_eq!(decided.is_done(&place, offset), done);
                }
                let of_place = |(at, offset): (&Place, Offset)| (*at == place).then_some(offset);
                let runs: BTreeSet<Offset> = decided.keys().filter_map(of_place).collect();
                let single: BTreeSet<Offset> = marks.keys().filter_map(of_place).collect();
                assert_eq!(runs, single);
            }
        }
    }
}
