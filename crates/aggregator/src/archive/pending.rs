//! What is counted and not yet archived, what is planned, and since when which part of a chain is
//! archived. Pure: sizes and times in, plans out; part of the manifest.

use std::collections::{BTreeMap, BTreeSet};

use pipeline_core::Offset;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{ChainId, Place, Policy, tally::Arrival};
use crate::manifest::hex;

/// Parts of one chain that one place has, at most, unless they are large.
const PARTS_MAX: usize = 32;
/// Offsets of a stretch. No part reaches over its end while there are fewer than [`PARTS_MAX`], so
/// that a plan can take all that some stretches hold: what one plan reads no other has to.
const STRETCH: i64 = 1 << 21;
/// Chains whose stretches are taken together, hour by hour: about what a plan takes.
const CHAINS: usize = 4;
/// Lines of a part, about: a small part of a file's.
const PART_BYTES: u64 = 32 << 20;
/// Into so many steps the time is divided for which live segments stay.
const MARKS: i64 = 16;

/// The archive's part of a manifest.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Archive {
    /// Records in published files, those included that have been removed as too old.
    pub archived: u64,
    pub pending: BTreeMap<Place, Pending>,
    /// Files that are to be there before anything else is planned for their records.
    pub plan: Vec<PlannedFile>,
    /// Up to where the records of each chain have been archived since when.
    pub marks: BTreeMap<ChainId, Vec<Mark>>,
}

/// The records of one place that no file holds or will hold yet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pending {
    /// When the first of them was stored, and the last.
    pub oldest_ms: i64,
    pub newest_ms: i64,
    /// In order of chain and offset.
    pub parts: Vec<Part>,
}

/// All records of a place between two offsets of a chain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Part {
    pub chain: ChainId,
    /// Where a segment begins.
    pub first: Offset,
    /// Where one ends.
    pub next: Offset,
    pub records: u64,
    /// Of their lines.
    pub bytes: u64,
}

/// A file that is there, or will be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlannedFile {
    pub place: Place,
    pub name: String,
    pub records: u64,
    pub parts: Vec<Part>,
}

/// All records below `offset` were archived at the latest then.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mark {
    pub offset: Offset,
    pub ms: i64,
}

impl Archive {
    /// Records that are counted and in no published file.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        let pending = self.pending.values().flat_map(|pending| &pending.parts);
        let planned = self.plan.iter().map(|file| file.records);
        pending.map(|part| part.records).sum::<u64>() + planned.sum::<u64>()
    }

    /// When the first record was stored that is in no plan.
    #[must_use]
    pub fn oldest_ms(&self) -> Option<i64> {
        self.pending.values().map(|pending| pending.oldest_ms).min()
    }

    /// Takes in what a segment that is counted brings. `now_ms` bounds when it can have been stored.
    pub fn add(&mut self, arrival: &Arrival, now_ms: i64) {
        let stored_ms = arrival.stored_ms.min(now_ms);
        for (&place, size) in &arrival.sizes {
            let pending = self.pending.entry(place).or_insert_with(|| Pending {
                oldest_ms: stored_ms,
                newest_ms: stored_ms,
                parts: Vec::new(),
            });
            pending.oldest_ms = pending.oldest_ms.min(stored_ms);
            pending.newest_ms = pending.newest_ms.max(stored_ms);
            pending.add(Part {
                chain: arrival.chain.clone(),
                first: arrival.first,
                next: arrival.next,
                records: size.records,
                bytes: size.bytes,
            });
        }
    }

    /// Whether there is anything to plan.
    #[must_use]
    pub fn any_due(&self, now_ms: i64, policy: &Policy) -> bool {
        let mut pending = self.pending.iter();
        pending.any(|(place, pending)| pending.is_due(*place, now_ms, policy))
    }

    /// Plans files for what is due, to a bound, without the records of `blocked` chains; `false`:
    /// nothing is. `number` is the manifest's that will hold the plan.
    pub fn plan(
        &mut self,
        number: u64,
        now_ms: i64,
        policy: &Policy,
        blocked: &BTreeSet<ChainId>,
    ) -> bool {
        // What is read for those that have waited may hold more that is to be read soon.
        let waited = |pending: &Pending, share: i64| {
            now_ms.saturating_sub(pending.oldest_ms) >= ms(policy.max_wait) / share
        };
        let any_waited = self.pending.values().any(|pending| waited(pending, 1));
        let mut due: Vec<(i64, Place)> = self
            .pending
            .iter()
            .filter(|(place, pending)| {
                pending.is_due(**place, now_ms, policy) || any_waited && waited(pending, 2)
            })
            .map(|(place, pending)| (pending.oldest_ms, *place))
            .collect();
        due.sort_unstable();
        let mut taken = self.take_parts(&due, policy.plan_bytes, blocked);
        let before = self.plan.len();
        for (_, place) in due {
            if let Some(parts) = taken.remove(&place) {
                self.plan
                    .extend(files(number, place, parts, policy.file_bytes));
            }
        }
        self.plan.len() > before
    }

    /// Takes parts of these places: stretch by stretch of a few chains, so that however the hours lie
    /// mixed in the segments, what is read for one plan is read for few others.
    fn take_parts(
        &mut self,
        due: &[(i64, Place)],
        plan_bytes: u64,
        blocked: &BTreeSet<ChainId>,
    ) -> BTreeMap<Place, Vec<Part>> {
        let mut begins: BTreeMap<&ChainId, i64> = BTreeMap::new();
        let mut parts = Vec::new();
        for &(oldest_ms, place) in due {
            for part in &self.pending[&place].parts {
                if !blocked.contains(&part.chain) {
                    let begin = begins.entry(&part.chain).or_insert(i64::MAX);
                    *begin = stretch(part.first).min(*begin);
                    parts.push((oldest_ms, place, part));
                }
            }
        }
        // Stretches that chains begin with are about as old as each other.
        let chains: BTreeMap<&ChainId, usize> = begins.keys().copied().zip(0..).collect();
        parts.sort_by_cached_key(|&(oldest_ms, place, part)| {
            let stretch = stretch(part.first) - begins[&part.chain];
            let chain = chains[&part.chain];
            let group = chain / CHAINS;
            (stretch, group, oldest_ms, place, chain, part.first)
        });
        let mut room = plan_bytes;
        let mut taken: BTreeMap<Place, Vec<Part>> = BTreeMap::new();
        for (_, place, part) in parts {
            // The last one may go over it, so that one that is larger than all has its turn.
            if room == 0 {
                break;
            }
            room = room.saturating_sub(part.bytes);
            taken.entry(place).or_default().push(part.clone());
        }
        for (place, taken) in &mut taken {
            taken.sort_by(|one, other| (&one.chain, one.first).cmp(&(&other.chain, other.first)));
            let pending = self.pending.get_mut(place).expect("parts are of it");
            let mut next = taken.iter().peekable();
            pending
                .parts
                .retain(|part| next.next_if_eq(&part).is_none());
            if pending.parts.is_empty() {
                self.pending.remove(place);
            }
        }
        taken
    }

    /// The files of these names are there, durably.
    pub fn done(&mut self, names: &BTreeSet<String>) {
        let archived = &mut self.archived;
        self.plan.retain(|file| {
            let done = names.contains(&file.name);
            if done {
                *archived += file.records;
            }
            !done
        });
    }

    /// Where the first record of `chain` stands that is in no published file, if one is counted.
    #[must_use]
    pub fn floor(&self, chain: &ChainId) -> Option<Offset> {
        let pending = self.pending.values().flat_map(|pending| &pending.parts);
        let planned = self.plan.iter().flat_map(|file| &file.parts);
        let parts = pending.chain(planned).filter(|part| part.chain == *chain);
        parts.map(|part| part.first).min()
    }

    /// Notes that all of `chain` below `floor` is archived now, to be asked after `stay_ms`.
    pub fn mark(&mut self, chain: ChainId, floor: Offset, now_ms: i64, stay_ms: i64) {
        let marks = self.marks.entry(chain).or_default();
        // A clock that was set back begins anew from what it says.
        for mark in marks.iter_mut() {
            mark.ms = mark.ms.min(now_ms);
        }
        // Of those that are old enough the last says all.
        let old = marks.partition_point(|mark| mark.ms.saturating_add(stay_ms) <= now_ms);
        marks.drain(..old.saturating_sub(1));
        if marks.last().is_some_and(|last| last.offset >= floor) {
            return;
        }
        let mark = Mark {
            offset: floor,
            ms: now_ms,
        };
        let step = stay_ms / MARKS;
        match marks.as_mut_slice() {
            // No more than one a step: the one that stands for this step goes up.
            [.., before, last] if last.ms < before.ms.saturating_add(step) => *last = mark,
            _ => marks.push(mark),
        }
    }

    /// Up to where all records of `chain` have been archived for `stay_ms`.
    #[must_use]
    pub fn archived_for(&self, chain: &ChainId, now_ms: i64, stay_ms: i64) -> Option<Offset> {
        let marks = self.marks.get(chain)?;
        let old = marks
            .iter()
            .filter(|mark| mark.ms.saturating_add(stay_ms) <= now_ms);
        old.map(|mark| mark.offset).max()
    }
}

impl Pending {
    fn is_due(&self, place: Place, now_ms: i64, policy: &Policy) -> bool {
        let passed = |since: i64, ms: i64| now_ms.saturating_sub(since) >= ms;
        let quiet = passed(self.newest_ms, ms(policy.after));
        (quiet && place.hour.end_ms() <= now_ms) || passed(self.oldest_ms, ms(policy.max_wait))
    }

    /// `part` is behind all others of its chain.
    fn add(&mut self, part: Part) {
        let end = self
            .parts
            .partition_point(|other| other.chain <= part.chain);
        let chain = part.chain.clone();
        match self.parts[..end].last_mut() {
            Some(last)
                if last.chain == chain
                    && last.next == part.first
                    && stretch(last.first) == stretch(part.first)
                    && last.bytes + part.bytes <= PART_BYTES =>
            {
                last.join(part);
            }
            _ => self.parts.insert(end, part),
        }
        let begin = self.parts.partition_point(|other| other.chain < chain);
        let end = self.parts.partition_point(|other| other.chain <= chain);
        if end - begin > PARTS_MAX {
            // What lies between two parts holds no record of this place that is not in one of them.
            let pairs = self.parts[begin..end].windows(2).enumerate();
            let least = pairs.min_by_key(|(_, pair)| {
                let apart = stretch(pair[0].first) != stretch(pair[1].first);
                (apart, pair[0].bytes + pair[1].bytes)
            });
            if let Some((at, pair)) = least
                && pair[0].bytes + pair[1].bytes <= PART_BYTES
            {
                let part = self.parts.remove(begin + at + 1);
                self.parts[begin + at].join(part);
            }
        }
    }
}

impl Part {
    fn join(&mut self, behind: Self) {
        self.next = behind.next;
        self.records += behind.records;
        self.bytes += behind.bytes;
    }
}

/// The number of the stretch that a part belongs to.
fn stretch(first: Offset) -> i64 {
    first.0.div_euclid(STRETCH)
}

/// Files of about the same size for these parts.
fn files(number: u64, place: Place, parts: Vec<Part>, file_bytes: u64) -> Vec<PlannedFile> {
    let mut files = Vec::new();
    let mut rest = parts.into_iter().peekable();
    while rest.peek().is_some() {
        let mut bytes = 0;
        let mut parts = Vec::new();
        while let Some(part) =
            rest.next_if(|part| parts.is_empty() || bytes + part.bytes <= file_bytes)
        {
            bytes += part.bytes;
            parts.push(part);
        }
        files.push(PlannedFile {
            place,
            name: name(number, place, &parts),
            records: parts.iter().map(|part| part.records).sum(),
            parts,
        });
    }
    files
}

/// Of the offsets, so that whoever carries out the plan puts the same rows under the same name.
fn name(number: u64, place: Place, parts: &[Part]) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("{place}\n"));
    for part in parts {
        hash.update(format!("{} {} {}\n", part.chain, part.first, part.next));
    }
    format!("{number:020}-{}.parquet", hex(&hash.finalize()[..8]))
}

/// A duration as the clock counts.
#[must_use]
pub fn ms(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
