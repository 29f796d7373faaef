//! Which copies of failed saves there are, and their names. Touches no disk.

use std::path::Path;

use pipeline_core::Offset;

use super::{Place, SUFFIX};
use crate::batcher::Batch;

/// As far as they are known.
#[derive(Debug, Default)]
pub(super) struct Copies(Vec<Copy>);

#[derive(PartialEq, Eq, Debug)]
struct Copy {
    place: Place,
    next: Offset,
}

impl Copies {
    pub fn add(&mut self, place: &Place, next: Offset) {
        let copy = Copy {
            place: place.clone(),
            next,
        };
        if !self.0.contains(&copy) {
            self.0.push(copy);
        }
    }

    /// Whether the chain has passed one.
    pub fn any_passed(&self, place: &Place, next: Offset) -> bool {
        self.0
            .iter()
            .any(|copy| copy.is_of(place) && copy.next <= next)
    }

    /// The one that ends here is gone.
    pub fn forget(&mut self, place: &Place, next: Offset) {
        self.0
            .retain(|copy| !copy.is_of(place) || copy.next != next);
    }

    pub fn forget_passed(&mut self, place: &Place, next: Offset) {
        self.0.retain(|copy| !copy.is_of(place) || copy.next > next);
    }
}

impl Copy {
    /// By name, as the files are: whatever its id was.
    fn is_of(&self, place: &Place) -> bool {
        self.place.partition == place.partition && self.place.topic == place.topic
    }
}

/// The name of the copy of `batch`.
pub(super) fn name(place: &Place, batch: &Batch) -> String {
    let prefix = prefix(place);
    format!("{prefix}{:020}-{:020}{SUFFIX}", batch.first.0, batch.next.0)
}

/// Where the batch ends that this is the copy of, if it is one of this place.
pub(super) fn next_of(path: &Path, place: &Place) -> Option<Offset> {
    let name = path.file_name()?.to_str()?;
    let range = name.strip_prefix(&prefix(place))?.strip_suffix(SUFFIX)?;
    range.split_once('-')?.1.parse().ok().map(Offset)
}

fn prefix(place: &Place) -> String {
    format!("unsaved-{}-p{:05}-", place.topic, place.partition.0)
}
