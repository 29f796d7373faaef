//! The count at the end of a schedule: what the log held is in the chain once, in its place, and what
//! is not has an excuse that this oracle finds by itself.

use std::collections::{BTreeMap, BTreeSet};

use pipeline_core::store::{Fate, Totals};

use super::World;
use crate::log::{What, path};

impl World {
    pub(super) fn check(&self, owner: usize) -> Totals {
        let seed = self.seed;
        let disk = self.stores[owner].lock();
        let mut at = disk.start;
        let mut totals = Totals::default();
        let mut stored: BTreeMap<String, i64> = BTreeMap::new();
        let mut excused: BTreeSet<String> = BTreeSet::new();
        let mut previous = None;
        for segment in disk.history.values() {
            let trailer = &segment.trailer;
            assert_eq!(trailer.previous, previous, "seed {seed}: at {at}");
            previous = Some(segment.link());
            assert_eq!(trailer.first, at, "seed {seed}: a gap in the chain");
            let plain = zstd::decode_all(segment.bytes.as_slice()).expect("whole");
            for record in trailer.records(&plain) {
                let what = self.what(record.offset.0);
                let own = path(what, record.offset.0);
                let line = std::str::from_utf8(record.line).expect("UTF-8");
                assert!(
                    line.contains(&format!("\"{own}\"")),
                    "seed {seed}: {own} at {}, found {line}",
                    record.offset
                );
                let twice = stored.insert(own.clone(), record.offset.0);
                assert_eq!(twice, None, "seed {seed}: {own} is stored twice");
            }
            for run in &trailer.fates {
                for _ in 0..run.count {
                    self.check_fate(run.fate, at.0, &stored, &mut excused);
                    at = at.next();
                    totals.add(run.fate, 1);
                }
            }
            assert_eq!(totals, trailer.totals, "seed {seed}");
        }
        assert_eq!(at.0, self.log.end(), "seed {seed}");
        // Each identity from the chain's start on is stored, unless all its copies are excused.
        for offset in disk.start.0..self.log.end() {
            let what = self.what(offset);
            if matches!(what, What::Record { .. } | What::Foreign) {
                let own = path(what, offset);
                assert!(
                    stored.contains_key(&own) || excused.contains(&own),
                    "seed {seed}: {own} at {offset} vanished"
                );
            }
        }
        totals
    }

    fn check_fate(
        &self,
        fate: Fate,
        offset: i64,
        stored: &BTreeMap<String, i64>,
        excused: &mut BTreeSet<String>,
    ) {
        let seed = self.seed;
        let what = self.what(offset);
        let own = path(what, offset);
        match fate {
            Fate::Stored => assert_eq!(stored.get(&own), Some(&offset), "seed {seed}"),
            Fate::Duplicate => assert!(
                stored.get(&own).is_some_and(|first| *first < offset),
                "seed {seed}: {offset} is a duplicate of nothing"
            ),
            Fate::Poison => assert_eq!(what, What::Poison, "seed {seed} at {offset}"),
            Fate::Skipped => assert_eq!(what, What::Gap, "seed {seed} at {offset}"),
            Fate::Lost => {
                assert!(offset < self.log.start, "seed {seed}: {offset} is not lost");
                excused.insert(own);
            }
            Fate::Undecidable => {
                assert!(
                    self.window < 100,
                    "seed {seed}: the window holds everything"
                );
                assert!(matches!(what, What::Record { .. }), "seed {seed}");
                excused.insert(own);
            }
        }
    }

    fn what(&self, offset: i64) -> What {
        self.log.all[usize::try_from(offset).expect("offsets are not negative")]
    }
}
