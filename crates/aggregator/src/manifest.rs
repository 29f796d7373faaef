//! Numbered manifests: the one truth of what has been counted. The greatest number counts.
//!
//! ```text
//! <analyticsDir>/_state/m<number, 20 digits>.json
//! <analyticsDir>/_state/counts/…                     see `state`
//! ```
//! A manifest is JSON on one line, with the SHA-256 of the rest as its last field. It is put if
//! absent and never changed. Where there is none, nothing else may be there either: then the
//! first one, which counts nothing, is put before anything else is written, so that states or
//! summaries without a manifest are damage and never a first start.

mod dir;

use std::collections::BTreeMap;

pub use dir::StateDir;
use pipeline_core::{
    Offset, PartitionId,
    store::{Cursor, Link, SegmentHash, Start},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    archive::{ChainId, pending::Archive},
    hour::{Day, Period},
    state::{Entry, StateName},
};

pub const FORMAT: u32 = 2;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    pub format: u32,
    pub number: u64,
    /// The id of the store that is counted; `None` until there is one.
    pub store: Option<String>,
    /// Records in days, those included that have been removed as too old.
    pub counted: u64,
    /// Of these, in removed days.
    pub expired: u64,
    /// Records more than 24 h ahead of their receipt.
    pub aside: u64,
    /// In order of topic and partition.
    pub chains: Vec<ChainState>,
    /// Counted by a rebuild, from the archive alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken_over: Vec<TakenOver>,
    /// The hours of each are named by its state, so that a manifest does not grow with them.
    pub days: BTreeMap<Day, Entry>,
    pub archive: Archive,
}

/// How far one chain has been read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChainState {
    pub topic: String,
    pub partition: i32,
    pub start: Start,
    pub next: Offset,
    pub last: Option<LastSegment>,
    /// Records read from it, from its START on.
    pub read: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LastSegment {
    pub first: Offset,
    /// 64 hex digits.
    pub hash: String,
}

/// What the archive has of a chain that is gone: of a store that was lost, or of one's beginning.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TakenOver {
    pub store: String,
    pub chain: ChainId,
    /// The topic that it was of, where that is known.
    pub topic_id: Option<String>,
    /// No record of it is at this offset or behind.
    pub next: Offset,
    pub records: u64,
    /// Of these, counted aside.
    pub aside: u64,
}

impl TakenOver {
    /// Why a chain of its name that begins so is not to be counted: it may hold the same records.
    #[must_use]
    pub fn clash(&self, start: &Start) -> Option<String> {
        let same = |id: &String| *id == start.topic_id;
        let may_be = start.first_offset < self.next && self.topic_id.as_ref().is_none_or(same);
        may_be.then(|| {
            format!(
                "begins at {}, and what the archive has of it up to {} is counted (of store {}): \
                 `aggregator rebuild` decides",
                start.first_offset, self.next, self.store
            )
        })
    }
}

impl Manifest {
    #[must_use]
    pub fn first() -> Self {
        Self {
            format: FORMAT,
            number: 1,
            store: None,
            counted: 0,
            expired: 0,
            aside: 0,
            chains: Vec::new(),
            taken_over: Vec::new(),
            days: BTreeMap::new(),
            archive: Archive::default(),
        }
    }

    /// The file of a day's state.
    #[must_use]
    pub fn state_name(&self, day: Day) -> Option<StateName> {
        let entry = self.days.get(&day)?;
        Some(entry.name(Period::Day(day)))
    }

    /// Records read from all chains, those included that are gone.
    #[must_use]
    pub fn read(&self) -> u64 {
        let taken_over = self.taken_over.iter().map(|taken| taken.records);
        self.chains.iter().map(|chain| chain.read).sum::<u64>() + taken_over.sum::<u64>()
    }

    /// What is counted of this store: read from its chains, counted in days, counted aside.
    #[must_use]
    pub fn books(&self) -> [u64; 3] {
        let gone: u64 = self.taken_over.iter().map(|taken| taken.records).sum();
        let gone_aside: u64 = self.taken_over.iter().map(|taken| taken.aside).sum();
        let counted = (self.counted + gone_aside).saturating_sub(gone);
        [
            self.read() - gone,
            counted,
            self.aside.saturating_sub(gone_aside),
        ]
    }

    /// That each record read is counted once, in its hour or aside, and is archived once or will be.
    ///
    /// # Errors
    /// The sums that differ.
    pub fn check_books(&self) -> Result<(), String> {
        let read = self.read();
        let in_days: u64 = self.days.values().map(|day| day.requests).sum();
        let (archived, waiting) = (self.archive.archived, self.archive.waiting());
        if self.counted == in_days + self.expired
            && self.counted + self.aside == read
            && archived + waiting == read
        {
            return Ok(());
        }
        Err(format!(
            "{read} records read from the chains, {in_days} in days, {} in removed ones, {} counted, \
             {} aside, {archived} archived, {waiting} to be archived",
            self.expired, self.counted, self.aside
        ))
    }

    fn encode(&self) -> Vec<u8> {
        let mut json = serde_json::to_string(self).expect("plain data");
        let seal = seal(&json);
        json.pop();
        json.push_str(&seal);
        json.into_bytes()
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        // The format first: another one may have other fields, and another seal.
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        if let Ok(known) = serde_json::from_str::<Format>(text)
            && known.format != FORMAT
        {
            return Err(format!("has format {}, known is {FORMAT}", known.format));
        }
        let (body, found) = text
            .len()
            .checked_sub(SEAL_LEN)
            .and_then(|at| text.split_at_checked(at))
            .ok_or("is too short")?;
        let body = format!("{body}}}");
        if seal(&body) != found {
            return Err("does not have the hash that it holds".to_owned());
        }
        serde_json::from_str(&body).map_err(|error| error.to_string())
    }
}

impl ChainState {
    #[must_use]
    pub fn id(&self) -> ChainId {
        ChainId::new(&self.topic, PartitionId(self.partition))
    }

    /// # Errors
    /// Where the hash is none.
    pub fn cursor(&self) -> Result<Cursor, String> {
        let last = match &self.last {
            None => None,
            Some(last) => Some(Link {
                first: last.first,
                hash: SegmentHash(
                    unhex(&last.hash)
                        .ok_or_else(|| format!("{:?} is not the hash of a segment", last.hash))?,
                ),
            }),
        };
        Ok(Cursor {
            next: self.next,
            last,
        })
    }
}

/// Length of what [`seal`] gives.
const SEAL_LEN: usize = 11 + 64 + 3;

/// The end of a manifest's file: the last field, with the hash of the JSON without it.
fn seal(json: &str) -> String {
    format!(",\"sha256\":\"{}\"}}\n", hex(&Sha256::digest(json)))
}

/// Lower-case.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}
