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

/// Compares. The store must have been read to its end and the aggregator have counted all of it;
/// without `analytics` only what is stored is judged. `may_be_aside`: the duplicate window is so
/// short that records may be undecidable.
///
/// # Errors
/// When the summaries cannot be read.
pub fn judge(
    ledger: &Ledger,
    store: &Store,
    aside: &Aside,
    may_be_aside: bool,
    analytics: Option<&Path>,
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

    let counted = analytics.map(|dir| Counted::read(ledger, dir, &mut verdict));
    let counted = counted.transpose()?;
    for (request, entry) in (0..).zip(&ledger.entries) {
        for index in 0..entry.count {
            let copies = store.copies(request, index);
            let counted = counted.as_ref();
            let counts = counted.map_or(copies, |counted| counted.copies(request, index));
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
            let stray = ledger.mix.is_stray(request, index);
            if counts != if stray { 0 } else { copies } {
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
mod tests;
