//! Segment → what it adds to each hour and site. Pure: lines and runs in, counts out.
//!
//! The hot path of the aggregator: a record whose keys are known costs hash lookups and no
//! allocation.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashTable};
use pipeline_core::{
    Offset,
    record::{self, Fields, RecordError},
    store::Trailer,
};

use crate::{
    counts::{Counts, Keys, Sites},
    hour::Hour,
};

/// A record further ahead of its time of receipt than this is counted aside: its clock is wrong,
/// and it would stand in an hour that nobody looks at yet.
pub const AHEAD_MAX_MS: i64 = 24 * 3_600_000;

/// What an entry costs beside its key, about: the key's allocation, its place in the table.
const ENTRY_BYTES: usize = 64;

/// What a number of segments add. Totals over sites are not kept: they are sums of these.
#[derive(Default)]
pub struct Delta {
    /// Records folded, those aside included.
    pub records: u64,
    pub aside: u64,
    tallies: Vec<Tally>,
    /// Places in `tallies`, by hour and site.
    index: HashTable<usize>,
    hasher: RandomState,
    keys_bytes: usize,
}

/// A stored line that is no record.
#[derive(Debug, thiserror::Error)]
#[error("the line of offset {offset} is not a record: {error}")]
pub struct FoldError {
    pub offset: Offset,
    pub error: RecordError,
}

impl Delta {
    /// Adds all records of a segment. After an error the delta holds a part of them and must be
    /// thrown away.
    ///
    /// # Errors
    /// The first line that is no record.
    pub fn fold(&mut self, trailer: &Trailer, ndjson: &[u8]) -> Result<(), FoldError> {
        // Neighbours are mostly of the same hour and site.
        let mut at: Option<usize> = None;
        for stored in trailer.records(ndjson) {
            let fields = record::read(stored.line).map_err(|error| FoldError {
                offset: stored.offset,
                error,
            })?;
            self.records += 1;
            if fields.timestamp_ms > stored.received_ms.saturating_add(AHEAD_MAX_MS) {
                self.aside += 1;
                continue;
            }
            let hour = Hour::of_ms(fields.timestamp_ms);
            let site = fields.site.as_deref();
            let index = match at {
                Some(index) if self.tallies[index].is_of(hour, site) => index,
                _ => self.tally(hour, site),
            };
            at = Some(index);
            self.keys_bytes += self.tallies[index].add(&fields);
        }
        Ok(())
    }

    /// Bytes of memory, about.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.keys_bytes
    }

    /// The counts by hour, in order.
    #[must_use]
    pub fn hours(&self) -> Vec<(Hour, Sites<'_>)> {
        let mut tallies: Vec<&Tally> = self.tallies.iter().collect();
        tallies.sort_unstable_by_key(|tally| (tally.hour, tally.site.as_deref()));
        tallies
            .chunk_by(|one, other| one.hour == other.hour)
            .map(|same| {
                let sites = same
                    .iter()
                    .map(|tally| (tally.site.as_deref(), tally.counts()));
                (same[0].hour, sites.collect())
            })
            .collect()
    }

    fn tally(&mut self, hour: Hour, site: Option<&str>) -> usize {
        let hash = self.hasher.hash_one((hour, site));
        if let Some(index) = self
            .index
            .find(hash, |index| self.tallies[*index].is_of(hour, site))
        {
            return *index;
        }
        let index = self.tallies.len();
        self.tallies.push(Tally {
            hour,
            site: site.map(Box::from),
            ..Tally::default()
        });
        let tallies = &self.tallies;
        self.index.insert_unique(hash, index, |index| {
            let tally = &tallies[*index];
            self.hasher.hash_one((tally.hour, tally.site.as_deref()))
        });
        self.keys_bytes += size_of::<Tally>() + ENTRY_BYTES;
        index
    }
}

type Map = HashMap<Box<str>, u64, RandomState>;

/// One hour of one site while it is folded.
#[derive(Default)]
struct Tally {
    hour: Hour,
    site: Option<Box<str>>,
    requests: u64,
    with_bytes: u64,
    bytes: u128,
    statuses: Vec<(u16, u64)>,
    methods: Map,
    paths: Map,
    user_agents: Map,
}

impl Tally {
    fn is_of(&self, hour: Hour, site: Option<&str>) -> bool {
        self.hour == hour && self.site.as_deref() == site
    }

    /// Counts one record; gives the bytes of memory that its new keys take.
    fn add(&mut self, fields: &Fields<'_>) -> usize {
        self.requests += 1;
        if let Some(bytes) = fields.bytes {
            self.with_bytes += 1;
            self.bytes += u128::from(bytes);
        }
        if let Some(status) = fields.status {
            // A handful of codes: found faster by looking at each than by hashing.
            match self.statuses.iter_mut().find(|(code, _)| *code == status) {
                Some((_, count)) => *count += 1,
                None => self.statuses.push((status, 1)),
            }
        }
        let method = fields.method.as_deref();
        count(&mut self.paths, &fields.path)
            + count(&mut self.user_agents, &fields.user_agent)
            + method.map_or(0, |method| count(&mut self.methods, method))
    }

    fn counts(&self) -> Counts<'_> {
        let mut statuses = self.statuses.clone();
        statuses.sort_unstable();
        Counts {
            requests: self.requests,
            with_bytes: self.with_bytes,
            bytes: self.bytes,
            statuses,
            methods: sorted(&self.methods),
            paths: sorted(&self.paths),
            user_agents: sorted(&self.user_agents),
        }
    }
}

fn count(map: &mut Map, key: &str) -> usize {
    if let Some(count) = map.get_mut(key) {
        *count += 1;
        return 0;
    }
    map.insert(key.into(), 1);
    key.len() + ENTRY_BYTES
}

fn sorted(map: &Map) -> Keys<'_> {
    let mut keys: Keys<'_> = map.iter().map(|(key, count)| (&**key, *count)).collect();
    keys.sort_unstable();
    keys
}
