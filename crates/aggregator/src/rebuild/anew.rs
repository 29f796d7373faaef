//! The counting of a rebuild: files of the archive, then chains, into states that no manifest names
//! yet. Puts no manifest.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pipeline_core::{
    Offset, fsx,
    store::{Chain, ChainFault, StoredRecord, Trailer, Visited},
};

use super::{
    Rebuilt, Sources, fault,
    gone::{self, Gone},
};
use crate::{
    archive::{
        self, Archiving, ChainId, Place, files,
        pending::{Archive, Part, PlannedFile},
        tally::{Arrival, Places, Sizes},
    },
    days,
    fold::{Delta, FoldError},
    held,
    keeper::Keeper,
    manifest::{ChainState, LastSegment, hex},
    run::{GoOn, RunError, Settings, Step, ask},
    state::StateError,
};

/// Parts of chains by place: what files hold.
pub type Held = HashMap<ChainId, HashMap<Place, Vec<(Offset, Offset)>>>;

pub fn hold(held: &mut Held, file: &PlannedFile) {
    for part in &file.parts {
        hold_part(held, file.place, part);
    }
}

fn hold_part(held: &mut Held, place: Place, part: &Part) {
    let places = held.entry(part.chain.clone()).or_default();
    let parts = places.entry(place).or_default();
    parts.push((part.first, part.next));
}

fn overlaps(held: &Held, place: Place, part: &Part) -> bool {
    let parts = held.get(&part.chain).and_then(|held| held.get(&place));
    let overlaps = |held: &(Offset, Offset)| part.first < held.1 && held.0 < part.next;
    parts.is_some_and(|parts| parts.iter().any(overlaps))
}

fn holds(held: &Held, chain: &ChainId, place: Place, offset: Offset) -> bool {
    let parts = held.get(chain).and_then(|places| places.get(&place));
    parts.is_some_and(|parts| {
        let mut parts = parts.iter();
        parts.any(|(first, next)| (*first..*next).contains(&offset))
    })
}

/// Where a segment begins, and where within it what is held begins or ends.
fn edges(held: [&Held; 2], chain: &ChainId, segment: &Trailer) -> Vec<Offset> {
    let parts = held.into_iter().filter_map(|held| held.get(chain));
    let parts = parts.flat_map(HashMap::values).flatten();
    let edges = parts.flat_map(|(first, next)| [*first, *next]);
    let within = edges.filter(|edge| segment.first < *edge && *edge < segment.next);
    let edges: BTreeSet<Offset> = within.chain([segment.first]).collect();
    edges.into_iter().collect()
}

/// What a file has of one chain.
struct Early {
    /// Of a chain that is gone are the records below it: see [`Gone::below`].
    below: Offset,
    next: Offset,
    records: u64,
    gone: u64,
}

/// What is made so far.
pub struct Anew<'a> {
    pub delta: Delta,
    pub plain_bytes: u64,
    /// Counted, and not in states yet.
    pub later: held::Held,
    pub keeper: Keeper,
    pub settings: Settings,
    /// What the archive holds of the chains that are there.
    pub held: Held,
    /// And of stores that are gone, by their id.
    pub elsewhere: HashMap<String, Held>,
    pub gone: Gone,
    /// Records of each chain in it.
    pub archived: BTreeMap<ChainId, u64>,
    pub report: Rebuilt,
    pub progress: &'a mut dyn FnMut(&Rebuilt),
}

impl Anew<'_> {
    /// Counts the rows of a file.
    pub fn file(&mut self, found: &files::Found, go_on: GoOn<'_>) -> Result<(), RunError> {
        let damaged = |detail: String| StateError::Damaged {
            path: found.path.clone(),
            detail,
        };
        let archived = found.open()?;
        let about = &archived.about;
        let file = &about.file;
        let mut early: BTreeMap<ChainId, Early> = BTreeMap::new();
        for part in &file.parts {
            let below = self.gone.below(about, part, &found.path)?;
            let held = if below == gone::ALL {
                self.elsewhere.entry(about.store.clone()).or_default()
            } else {
                &mut self.held
            };
            if overlaps(held, file.place, part) {
                let detail = "holds records that another file holds, too".to_owned();
                return Err(damaged(detail).into());
            }
            hold_part(held, file.place, part);
            let early = early.entry(part.chain.clone()).or_insert(Early {
                below,
                next: part.next,
                records: 0,
                gone: 0,
            });
            early.next = early.next.max(part.next);
            early.records += part.records;
        }
        let any_gone = |part: &Part| part.first < early[&part.chain].below;
        let any_gone = file.parts.iter().any(any_gone);
        let mut line = Vec::new();
        for columns in archived.groups(&found.path) {
            let columns = columns?;
            for row in columns.rows() {
                line.clear();
                row.append_json(&mut line);
                if any_gone {
                    let here = |chain: &ChainId| {
                        chain.partition.0 == row.partition() && *chain.topic == *row.topic()
                    };
                    let of = early.iter_mut().find(|(chain, _)| here(chain));
                    if let Some((_, early)) = of.filter(|(_, early)| row.offset() < early.below.0) {
                        early.gone += 1;
                    }
                }
                let stored = StoredRecord {
                    offset: Offset(row.offset()),
                    received_ms: row.received_ms(),
                    batch: None,
                    sequence: 0,
                    line: &line,
                };
                let added = self.add(&stored);
                added.map_err(|error| damaged(error.to_string()))?;
            }
            self.flush_if_large(go_on)?;
            self.report.archived += columns.count() as u64;
        }
        for (chain, early) in early {
            let next = early.next.min(early.below);
            let (records, gone) = (early.records, early.gone);
            self.gone.take(about, &chain, records, gone, next);
            self.report.taken_over += gone;
            if early.below != gone::ALL {
                *self.archived.entry(chain).or_default() += records - gone;
            }
        }
        self.report.files += 1;
        (self.progress)(&self.report);
        Ok(())
    }

    /// Counts what no file holds.
    pub fn chain(
        &mut self,
        chain: &Chain,
        planned: &Held,
        archive: &mut Archive,
        archiving: &Archiving,
        go_on: GoOn<'_>,
    ) -> Result<(), RunError> {
        let id = ChainId::new(chain.topic(), chain.partition());
        let mut failed = None;
        let mut live = 0;
        let walked = chain.walk(None, &mut |visited| {
            let counted = ask(go_on, Step::FoldSegment)
                .and_then(|()| self.segment(chain, &visited, planned, archive, archiving))
                .and_then(|records| self.flush_if_large(go_on).map(|()| records));
            match counted {
                Ok(records) => live += records,
                Err(error) => failed = Some(error),
            }
            failed.is_none()
        });
        if let Some(failed) = failed {
            return Err(failed);
        }
        let (Some(end), Some(start)) = (walked.map_err(fault)?, chain.start().map_err(fault)?)
        else {
            return Ok(());
        };
        let stored = end.totals.stored;
        let known = live + self.archived.remove(&id).unwrap_or_default();
        if known > stored {
            return Err(RunError::Books(format!(
                "{known} records of {id} in archive and live segments, {stored} were stored"
            )));
        }
        self.report.missing += stored - known;
        self.keeper.manifest.chains.push(ChainState {
            topic: chain.topic().to_owned(),
            partition: chain.partition().0,
            start,
            next: end.next,
            last: end.last.map(|last| LastSegment {
                first: last.first,
                hash: hex(&last.hash.0),
            }),
            read: stored,
        });
        Ok(())
    }

    /// Counts what no file holds; gives how many records that are.
    fn segment(
        &mut self,
        chain: &Chain,
        visited: &Visited,
        planned: &Held,
        archive: &mut Archive,
        archiving: &Archiving,
    ) -> Result<u64, RunError> {
        let (path, trailer) = (&visited.path, &visited.trailer);
        let id = ChainId::new(chain.topic(), chain.partition());
        let damaged = |detail: String| {
            fault(ChainFault::Damaged {
                path: path.clone(),
                detail,
            })
        };
        let records = chain.records(visited).map_err(fault)?;
        let mut records =
            records.ok_or_else(|| damaged("was removed before it was counted".to_owned()))?;
        let mut counted = 0;
        let (ended, mut again) = (self.gone.ended(&id), 0);
        // A part holds all records of its place: so none reaches over the edge of one that a file
        // holds. Segments that were set aside and read once more may.
        let edges = edges([&self.held, planned], &id, trailer);
        let mut pend: Vec<Sizes> = edges.iter().map(|_| Sizes::default()).collect();
        let mut places = Places::default();
        while let Some(stored) = records.next().map_err(fault)? {
            let place = places.of(stored.line, stored.received_ms);
            let place = place.map_err(|error| damaged(error.to_string()))?;
            if holds(&self.held, &id, place, stored.offset) {
                continue;
            }
            let added = self.add(&stored);
            added.map_err(|error| damaged(error.to_string()))?;
            counted += 1;
            again += u64::from(ended.is_some_and(|ended| stored.offset < ended));
            if !holds(planned, &id, place, stored.offset) {
                let behind = edges.partition_point(|edge| *edge <= stored.offset);
                pend[behind - 1].add(place, stored.line);
            }
        }
        let nexts = edges.iter().skip(1).chain([&trailer.next]);
        for ((first, next), pend) in edges.iter().zip(nexts).zip(pend) {
            let arrival = Arrival {
                chain: id.clone(),
                first: *first,
                next: *next,
                stored_ms: archive::to_ms(visited.modified),
                sizes: pend.end(),
            };
            archive.add(&arrival, archiving.clock.now_ms());
        }
        self.gone.again(&id, again);
        self.report.segments += 1;
        (self.progress)(&self.report);
        Ok(counted)
    }

    fn add(&mut self, stored: &StoredRecord<'_>) -> Result<(), FoldError> {
        self.plain_bytes += stored.line.len() as u64;
        self.delta.add(stored).map(|_| ())
    }

    fn flush_if_large(&mut self, go_on: GoOn<'_>) -> Result<(), RunError> {
        let portion = self.settings.portion;
        if self.plain_bytes >= portion.plain_bytes_max
            || self.delta.memory() >= portion.counts_bytes_max
        {
            // What comes next is mostly of other hours, where it comes from the archive.
            if self.later.goes_on(&self.delta, &self.keeper.manifest, 0) {
                ask(go_on, Step::HoldPortion)?;
                let delta = self.take_delta();
                return Ok(self.later.put(&delta, self.settings.limits.keys)?);
            }
            self.flush(go_on)?;
        }
        Ok(())
    }

    fn take_delta(&mut self) -> Delta {
        self.plain_bytes = 0;
        std::mem::replace(&mut self.delta, Delta::new(self.settings.strip_query))
    }

    /// Writes what is counted so far into states that no manifest names yet.
    pub fn flush(&mut self, go_on: GoOn<'_>) -> Result<(), RunError> {
        let delta = self.take_delta();
        let nothing = self.later.anew();
        let held = std::mem::replace(&mut self.later, nothing);
        let number = self.keeper.manifest.number;
        let limits = self.settings.limits;
        let written = days::add(&self.keeper, number, &held, &delta, limits, go_on)?;
        let records = held.records + delta.records;
        let aside = held.aside + delta.aside;
        let manifest = &mut self.keeper.manifest;
        manifest.days.extend(written.days);
        manifest.counted += records - aside;
        manifest.aside += aside;
        self.report.records += records;
        self.report.aside += aside;
        let counts = self.keeper.dir.counts();
        for name in written.replaced {
            let path = counts.join(name.file_name());
            fsx::remove_file(&path).map_err(StateError::io("remove", &path))?;
        }
        Ok(())
    }

    /// What is missing is said, and what was archived is taken in.
    pub fn end(
        self,
        mut archive: Archive,
        from: &Sources<'_>,
        go_on: GoOn<'_>,
    ) -> Result<(Keeper, Rebuilt), RunError> {
        ask(go_on, Step::PutManifest)?;
        let (mut keeper, mut report) = (self.keeper, self.report);
        if let Some((chain, records)) = self.archived.first_key_value() {
            return Err(RunError::Books(format!(
                "the archive holds {records} records of {chain}, which the store does not have"
            )));
        }
        let (nowhere, taken_over) = self.gone.end();
        report.nowhere = nowhere;
        let missing = report.missing;
        let may_be = from.without_missing || from.archiving.policy.archive_retention.is_some();
        if missing + nowhere > 0 && !may_be {
            return Err(RunError::Books(format!(
                "{} records that were stored are in neither archive nor live segments; \
                 --without-missing goes on without them",
                missing + nowhere
            )));
        }
        archive.archived = report.archived + missing;
        let manifest = &mut keeper.manifest;
        manifest.archive = archive;
        manifest.taken_over = taken_over;
        manifest.counted += missing;
        manifest.expired += missing;
        archive::run::mark(from.archiving, manifest);
        Ok((keeper, report))
    }
}
