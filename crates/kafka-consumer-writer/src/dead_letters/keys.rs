//! Which keys the consumer DLQ has, as far as the chains have not passed them. Touches no disk.

use std::collections::{BTreeSet, HashMap};

use pipeline_core::Offset;

use super::{Entry, Place, runs::Runs};

#[derive(Debug, Default)]
pub(super) struct Keys {
    places: HashMap<Place, Keyed>,
}

#[derive(Debug, Default)]
struct Keyed {
    /// Where the chain has come to.
    next: Option<Offset>,
    /// A file has them; where this process has not synced it, another one may have died before
    /// its fsync.
    found: Runs,
    /// Of these: this process has synced them.
    durable: Runs,
    /// Keys were forgotten that lie from `next` on, and no file was read since.
    forgotten: bool,
}

impl Keys {
    /// A key that a file has; says whether it is new. One that the chain has passed is not kept.
    pub fn found(&mut self, place: &Place, offset: Offset) -> bool {
        let keyed = self.of(place);
        if keyed.next.is_some_and(|next| offset < next) {
            return false;
        }
        keyed.found.insert(offset)
    }

    /// Whether a file is known to have it, or the chain has passed it.
    pub fn is_known(&self, place: &Place, offset: Offset) -> bool {
        let keyed = self.places.get(place);
        keyed.is_some_and(|keyed| {
            keyed.next.is_some_and(|next| offset < next) || keyed.found.contains(offset)
        })
    }

    /// These are durable now; says how many of them no file had before.
    pub fn synced(&mut self, place: &Place, entries: &[&Entry<'_>]) -> u64 {
        let keyed = self.of(place);
        let mut new = 0;
        for entry in entries {
            keyed.durable.insert(entry.offset);
            new += u64::from(keyed.found.insert(entry.offset));
        }
        new
    }

    pub fn all_durable(&self, place: &Place, entries: &[Entry<'_>]) -> bool {
        entries.iter().all(|entry| self.is_durable(place, entry))
    }

    pub fn not_durable<'e, 'a>(
        &self,
        place: &Place,
        entries: &'e [Entry<'a>],
    ) -> Vec<&'e Entry<'a>> {
        entries
            .iter()
            .filter(|entry| !self.is_durable(place, entry))
            .collect()
    }

    /// The chain has come to `next`: what lies below is forgotten.
    pub fn pass(&mut self, place: &Place, next: Offset) {
        let keyed = self.of(place);
        keyed.next = Some(next);
        keyed.found.cut(next);
        keyed.durable.cut(next);
    }

    /// The chain stands at `next`, where it may have been cut: says whether keys from there on were
    /// forgotten, and are until the files have been [read again](Self::read_again).
    pub fn go_back(&mut self, place: &Place, next: Offset) -> bool {
        let keyed = self.of(place);
        if keyed.next.is_some_and(|known| next < known) {
            keyed.next = Some(next);
            keyed.forgotten = true;
        }
        keyed.forgotten
    }

    /// All files have been read since the chain went back.
    pub fn read_again(&mut self, place: &Place) {
        self.of(place).forgotten = false;
    }

    /// What is known of this place from `next` on.
    pub fn from(&self, place: &Place, next: Offset) -> BTreeSet<Offset> {
        let keyed = self.places.get(place);
        let offsets = keyed.map(|keyed| keyed.found.from(next));
        offsets.into_iter().flatten().collect()
    }

    /// Whether the chain is known to have come to `offset`.
    pub fn is_past(&self, place: &Place, offset: Offset) -> bool {
        let next = self.places.get(place).and_then(|keyed| keyed.next);
        next.is_some_and(|next| next >= offset)
    }

    fn is_durable(&self, place: &Place, entry: &Entry<'_>) -> bool {
        let keyed = self.places.get(place);
        keyed.is_some_and(|keyed| keyed.durable.contains(entry.offset))
    }

    fn of(&mut self, place: &Place) -> &mut Keyed {
        if !self.places.contains_key(place) {
            self.places.insert(place.clone(), Keyed::default());
        }
        self.places.get_mut(place).expect("it is there")
    }
}
