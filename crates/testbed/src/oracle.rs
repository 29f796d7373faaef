//! The judge: what the ledger says must and may be there, against what the store and the
//! summaries say is there.

use std::{fmt, path::Path};

use anyhow::Result;

use crate::{
    aside::Aside,
    clock::{HOUR_MS, Millis},
    ledger::{Fate, Ledger},
    store::{Store, place},
    summaries,
};

const SHOWN: usize = 20;

/// What was found; fine when there is no difference.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub accepted: u64,
    pub stored: u64,
    pub counted: u64,
    /// How many records of unknown outcome are there.
    pub unknown_there: u64,
    /// Accepted records that are not stored but put aside as undecidable.
    pub undecidable: u64,
    pub differences: u64,
    /// The first of them, in words.
    pub shown: Vec<String>,
}

/// Compares. The store must have been read to its end and the aggregator have counted all of it.
/// `may_be_aside`: the duplicate window is so short that records may be undecidable.
///
/// # Errors
/// When the summaries cannot be read.
pub fn judge(
    ledger: &Ledger,
    store: &Store,
    aside: &Aside,
    may_be_aside: bool,
    analytics: &Path,
) -> Result<Verdict> {
    let mut verdict = Verdict {
        accepted: ledger.accepted(),
        stored: store.lines(),
        ..Verdict::default()
    };
    for fault in &ledger.faults {
        verdict.note(|| format!("an answer against the contract: {fault}"));
    }
    let (strange, notes) = store.strange();
    verdict.differences += strange;
    verdict
        .shown
        .extend(notes.iter().map(|note| format!("stored: {note}")));

    for (request, index) in store.beyond(ledger) {
        verdict.note(|| format!("stored: /t/{request}/{index} was never sent"));
    }

    for entry in aside.strange() {
        verdict.note(|| format!("in the consumer DLQ: {entry}"));
    }
    if aside.records() > 0 && !may_be_aside {
        let records = aside.records();
        verdict.note(|| format!("{records} records are undecidable, with a window that holds all"));
    }

    let counted = Counted::read(ledger, analytics, &mut verdict)?;
    for (request, entry) in (0..).zip(&ledger.entries) {
        for index in 0..entry.count {
            let copies = store.copies(request, index);
            let counts = counted.copies(request, index);
            let fate = if entry.broken == Some(index) {
                Fate::Refused
            } else {
                entry.fate
            };
            let put_aside = aside.copies(request, index);
            verdict.unknown_there += u64::from(fate == Fate::Unknown && copies > 0);
            let kept_aside = fate == Fate::Accepted && copies == 0 && put_aside > 0;
            verdict.undecidable += u64::from(kept_aside);
            let right = match fate {
                Fate::Accepted => copies == 1 || kept_aside,
                Fate::Unknown => copies <= 1,
                Fate::Refused => copies == 0 && put_aside == 0,
            };
            if !right {
                verdict.note(|| {
                    let batch = ledger
                        .batches
                        .get(&request)
                        .map_or("unknown", String::as_str);
                    let places = store.find(request, index).unwrap_or_default();
                    format!(
                        "/t/{request}/{index} {fate:?}: stored {copies} times, put aside \
                         {put_aside} times; batch {batch}, sequence {index}, first sent in {}; \
                         {entry:?}; found at {places:?}",
                        ledger.at(request)
                    )
                });
            }
            if counts != copies {
                verdict.note(|| {
                    format!(
                        "/t/{request}/{index} {fate:?}: stored {copies}, counted {counts} times"
                    )
                });
            }
        }
    }
    Ok(verdict)
}

impl Verdict {
    pub fn holds(&self) -> bool {
        self.differences == 0
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        self.differences += 1;
        if self.shown.len() < SHOWN {
            self.shown.push(text());
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "accepted {}, stored {} ({} of them of unknown outcome), counted {}",
            self.accepted, self.stored, self.unknown_there, self.counted
        )?;
        if self.undecidable > 0 {
            write!(f, ", {} of the accepted undecidable", self.undecidable)?;
        }
        write!(f, ": ")?;
        if self.holds() {
            return write!(f, "the oracle holds");
        }
        write!(f, "{} DIFFERENCES", self.differences)?;
        for line in &self.shown {
            write!(f, "\n  {line}")?;
        }
        if self.differences > self.shown.len() as u64 {
            write!(
                f,
                "\n  … and {} more",
                self.differences - self.shown.len() as u64
            )?;
        }
        Ok(())
    }
}

/// How often each record is counted, by request and index.
struct Counted {
    copies: Vec<Vec<u8>>,
}

impl Counted {
    fn read(ledger: &Ledger, analytics: &Path, verdict: &mut Verdict) -> Result<Self> {
        let mut copies: Vec<Vec<u8>> = ledger
            .entries
            .iter()
            .map(|entry| vec![0; entry.count as usize])
            .collect();
        for ((day, hour), summary) in summaries::hours(analytics)? {
            verdict.counted += summary.requests;
            let name = format!("{day} {hour:02}h");
            let sums = [
                (
                    "requestsPerPath",
                    summary.requests_per_path.values().sum::<u64>(),
                ),
                (
                    "requestsPerUserAgent",
                    summary.requests_per_user_agent.values().sum(),
                ),
            ];
            for (what, sum) in sums {
                if sum != summary.requests {
                    verdict.note(|| {
                        format!(
                            "{name}: {what} adds up to {sum}, requests {}",
                            summary.requests
                        )
                    });
                }
            }
            // Records without a site are in none, or in one of their own: never more than all.
            let of_sites: u64 = summary.sites.values().map(|site| site.requests).sum();
            if of_sites > summary.requests {
                verdict.note(|| format!("{name}: sites {of_sites} > {}", summary.requests));
            }
            for (path, count) in &summary.requests_per_path {
                let quoted = format!("\"{path}\"");
                let cell = place(quoted.as_bytes()).and_then(|(request, index)| {
                    let cell = copies.get_mut(request as usize)?.get_mut(index as usize)?;
                    Some((cell, ledger.mix.hour(request, index)))
                });
                match cell {
                    Some((cell, own)) if hour_name(own) == (day.clone(), hour) => {
                        *cell = cell.saturating_add(u8::try_from(*count).unwrap_or(u8::MAX));
                    }
                    Some((_, own)) => {
                        let (day, hour) = hour_name(own);
                        verdict.note(|| format!("{name}: {path} belongs to {day} {hour:02}h"));
                    }
                    None => verdict.note(|| format!("{name}: {path} was never sent")),
                }
            }
        }
        Ok(Self { copies })
    }

    fn copies(&self, request: u32, index: u32) -> u8 {
        self.copies[request as usize][index as usize]
    }
}

/// Day and hour as the summaries' files have them.
fn hour_name(hour: i64) -> (String, u32) {
    let parts = Millis(hour * HOUR_MS).parts();
    (
        format!("{:04}-{:02}-{:02}", parts.year, parts.month, parts.day),
        parts.hour,
    )
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write, path::PathBuf};

    use super::*;
    use crate::{body::Mix, ledger::Entry};

    /// Two accepted requests, one of unknown outcome and one refused, and a store and summaries
    /// of exactly these records.
    struct World {
        _dir: tempfile::TempDir,
        root: PathBuf,
        ledger: Ledger,
    }

    impl World {
        fn new(stored: &[(u32, u32)], counted: &[(u32, u32)]) -> Self {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let root = dir.path().to_owned();
            let mix = Mix {
                records: (3, 3),
                broken_every: 0,
                ..Mix::default()
            };
            let entry = |fate, broken| Entry {
                count: 3,
                broken,
                fate,
            };
            let entries = vec![
                entry(Fate::Accepted, None),
                entry(Fate::Accepted, Some(1)),
                entry(Fate::Unknown, None),
                entry(Fate::Refused, None),
            ];
            let ledger = Ledger {
                mix,
                entries,
                ..Ledger::default()
            };
            let world = Self {
                _dir: dir,
                root,
                ledger,
            };
            world.write_store(stored);
            world.write_summaries(counted);
            world
        }

        fn write_store(&self, records: &[(u32, u32)]) {
            let partition = self.root.join("logs/_live/t/p00000");
            fs::create_dir_all(&partition).expect("a directory");
            let file = fs::File::create(partition.join("00000000000000000000.ndjson.zst"));
            let mut out = zstd::Encoder::new(file.expect("a file"), 1).expect("an encoder");
            for (request, index) in records {
                let e = self
                    .ledger
                    .mix
                    .record(&self.ledger.mix.shape(*request), *index);
                let mut json = serde_json::json!({
                    "timestamp": e.time.to_string(), "path": e.path, "userAgent": e.agent,
                });
                if let (Some(site), Some(status), Some(bytes)) = (e.site, e.status, e.bytes) {
                    json["site"] = site.into();
                    json["status"] = status.into();
                    json["bytes"] = bytes.into();
                }
                writeln!(out, "{json}").expect("written");
            }
            out.finish().expect("written");
        }

        fn write_summaries(&self, records: &[(u32, u32)]) {
            let mut hours = std::collections::BTreeMap::<_, serde_json::Value>::new();
            for (request, index) in records {
                let hour = hours.entry(self.ledger.mix.hour(*request, *index)).or_insert_with(
                    || serde_json::json!({"requests": 0, "requestsPerPath": {}, "requestsPerUserAgent": {"a": 0}}),
                );
                let path = format!("/t/{request}/{index}");
                bump(&mut hour["requests"]);
                bump(&mut hour["requestsPerUserAgent"]["a"]);
                bump(&mut hour["requestsPerPath"][path]);
            }
            for (hour, summary) in hours {
                let (day, hour) = hour_name(hour);
                let dir = self.root.join("analytics").join(day);
                fs::create_dir_all(&dir).expect("a directory");
                fs::write(
                    dir.join(format!("summary_{hour:02}.json")),
                    summary.to_string(),
                )
                .expect("written");
            }
        }

        fn put_aside(&self, records: &[(u32, u32)]) {
            let dir = self.root.join("dlq/consumer");
            fs::create_dir_all(&dir).expect("a directory");
            let value = |(request, index)| format!(r#"{{"path":"/t/{request}/{index}"}}"#);
            let values: Vec<_> = records.iter().copied().map(value).collect();
            let file = crate::aside::tests::file_of(&values);
            fs::write(dir.join("records-1-000000.dlq"), file).expect("written");
        }

        fn verdict(&self) -> Verdict {
            self.verdict_with(false)
        }

        fn verdict_with(&self, may_be_aside: bool) -> Verdict {
            let mut store = Store::new(&self.root.join("logs"), "t", &self.ledger.mix);
            store.refresh().expect("zstdcat reads it");
            let aside = Aside::read(&self.root).expect("readable");
            let analytics = self.root.join("analytics");
            judge(&self.ledger, &store, &aside, may_be_aside, &analytics).expect("readable")
        }
    }

    fn bump(count: &mut serde_json::Value) {
        *count = (count.as_u64().unwrap_or(0) + 1).into();
    }

    const RIGHT: [(u32, u32); 5] = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 2)];

    fn have_zstdcat() -> bool {
        let found = std::process::Command::new("zstdcat")
            .arg("--version")
            .output()
            .is_ok();
        if !found {
            crate::skip::skipped("the oracle's own tests", "zstdcat is not installed");
        }
        found
    }

    #[test]
    fn what_was_promised_and_no_more_holds() {
        if !have_zstdcat() {
            return;
        }
        let verdict = World::new(&RIGHT, &RIGHT).verdict();
        assert!(verdict.holds(), "{verdict}");
        let with_unknown: Vec<_> = RIGHT.into_iter().chain([(2, 1)]).collect();
        let verdict = World::new(&with_unknown, &with_unknown).verdict();
        assert!(verdict.holds(), "{verdict}");
        assert_eq!(verdict.unknown_there, 1);
    }

    #[test]
    fn undecidable_records_are_kept_only_where_the_window_is_short() {
        if !have_zstdcat() {
            return;
        }
        let world = World::new(&RIGHT[1..], &RIGHT[1..]);
        world.put_aside(&[(0, 0), (0, 1)]);
        let verdict = world.verdict_with(true);
        assert!(verdict.holds(), "{verdict}");
        assert_eq!(verdict.undecidable, 1, "the other is stored: {verdict}");
        assert!(!world.verdict_with(false).holds());
        // Set aside, but not those that are missing; and one that was refused.
        for wrong in [(0, 1), (3, 0)] {
            let world = World::new(&RIGHT[1..], &RIGHT[1..]);
            world.put_aside(&[wrong]);
            assert!(!world.verdict_with(true).holds(), "{wrong:?}");
        }
        let world = World::new(&RIGHT, &RIGHT);
        world.put_aside(&[(3, 0)]);
        assert!(!world.verdict_with(true).holds(), "refused, and yet kept");
    }

    #[test]
    fn what_is_missing_is_named() {
        if !have_zstdcat() {
            return;
        }
        let world = World::new(&RIGHT[1..], &RIGHT[1..]);
        let missing = |world: &World| {
            let mut store = Store::new(&world.root.join("logs"), "t", &world.ledger.mix);
            store.refresh().expect("zstdcat reads it");
            let aside = Aside::read(&world.root).expect("readable");
            store.missing(&world.ledger, &aside).collect::<Vec<_>>()
        };
        assert_eq!(missing(&world), [(0, 0)]);
        world.put_aside(&[(0, 0)]);
        assert_eq!(missing(&world), []);
    }

    #[test]
    fn every_kind_of_lie_is_seen() {
        if !have_zstdcat() {
            return;
        }
        let lacking = &RIGHT[1..];
        let plus = |more: (u32, u32)| RIGHT.into_iter().chain([more]).collect::<Vec<_>>();
        let cases = [
            (
                "a promised record is missing",
                lacking.to_vec(),
                lacking.to_vec(),
            ),
            (
                "a promised record is there twice",
                plus((0, 0)),
                plus((0, 0)),
            ),
            ("a broken record is there", plus((1, 1)), plus((1, 1))),
            ("a refused record is there", plus((3, 0)), plus((3, 0))),
            ("a record that nobody sent", plus((9, 0)), RIGHT.to_vec()),
            ("stored, not counted", RIGHT.to_vec(), lacking.to_vec()),
            ("counted twice", RIGHT.to_vec(), plus((0, 2))),
            ("counted, not stored", RIGHT.to_vec(), plus((2, 0))),
            ("counted, but nobody sent it", RIGHT.to_vec(), plus((9, 0))),
        ];
        for (what, stored, counted) in cases {
            let verdict = World::new(&stored, &counted).verdict();
            assert!(!verdict.holds(), "{what}: {verdict}");
        }
    }
}
