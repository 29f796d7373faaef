//! Record → what it adds to its hour and site. Pure: lines in, counts out.
//!
//! The hot path of the aggregator: a record whose keys are known costs hash lookups and no
//! allocation. Strings are kept once for all hours and sites; what is counted is a number under
//! small keys made of their numbers.

mod host;
mod shapes;
mod strings;
mod tally;

use std::{collections::BTreeMap, hash::BuildHasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use pipeline_core::{
    Offset,
    record::{Fields, Reader, RecordError},
    store::StoredRecord,
};

use self::{
    shapes::Shape,
    strings::Strings,
    tally::{Counted, Tally},
};
use crate::{
    archive::Place,
    classes::{self, ClientId},
    client::Bot,
    counts::{Content, Site},
    hour::{Day, Hour},
};

/// What a number of segments add. Totals over sites are not kept: they are sums of these.
pub struct Delta {
    /// Records folded, those aside included.
    pub records: u64,
    pub aside: u64,
    /// Count paths without their query (`aggregation.stripQuery`).
    strip_query: bool,
    reader: Reader,
    strings: Strings,
    /// The kind of client of each string that is an agent, by its number; [`NOT_KNOWN`] of the
    /// others.
    clients: Vec<ClientId>,
    tallies: Vec<Tally>,
    /// Places in `tallies`, by hour and site.
    index: HashTable<usize>,
    hasher: RandomState,
    /// Of the record before: neighbours are mostly of the same hour and site.
    at: Option<usize>,
    last: Last,
}

/// The strings of the record before: neighbours are often of one client.
#[derive(Default)]
struct Last {
    agent: u32,
    method: u32,
    /// As it was sent, and the number of its host.
    referer: String,
    host: Option<u32>,
}

const NOT_KNOWN: ClientId = ClientId(u16::MAX);

/// A stored line that is no record.
#[derive(Debug, thiserror::Error)]
#[error("the line of offset {offset} is not a record: {error}")]
pub struct FoldError {
    pub offset: Offset,
    pub error: RecordError,
}

impl Delta {
    #[must_use]
    pub fn new(strip_query: bool) -> Self {
        Self {
            records: 0,
            aside: 0,
            strip_query,
            reader: Reader::default(),
            strings: Strings::default(),
            clients: Vec::new(),
            tallies: Vec::new(),
            index: HashTable::new(),
            hasher: RandomState::default(),
            at: None,
            last: Last::default(),
        }
    }

    /// Adds a record; gives the place that it has in the archive.
    ///
    /// # Errors
    /// Where its line is no record: then nothing is added.
    #[inline]
    pub fn add(&mut self, stored: &StoredRecord<'_>) -> Result<Place, FoldError> {
        let fields = match self.reader.read(stored.line) {
            Ok(fields) => fields,
            Err(error) => {
                let offset = stored.offset;
                return Err(FoldError { offset, error });
            }
        };
        let place = Place::of(fields.timestamp_ms, stored.received_ms);
        self.records += 1;
        if place.aside {
            self.aside += 1;
            return Ok(place);
        }
        let site = fields.site.as_deref();
        let index = match self.at {
            Some(index) if self.tallies[index].is_of(place.hour, site) => index,
            _ => self.tally(place.hour, site),
        };
        self.at = Some(index);
        self.count(index, &fields);
        Ok(place)
    }

    /// Bytes of memory, about.
    #[must_use]
    pub fn memory(&self) -> usize {
        let tallies: usize = self.tallies.iter().map(Tally::memory).sum();
        tallies + self.strings.memory() + self.clients.len() * size_of::<ClientId>()
    }

    /// The days it has records of, and bytes of memory of each, about: strings have no day, so
    /// they are shared out as the counts are.
    #[must_use]
    pub fn days(&self) -> BTreeMap<Day, usize> {
        let mut days = BTreeMap::new();
        for tally in &self.tallies {
            *days.entry(tally.hour.day()).or_default() += tally.memory();
        }
        let (all, tallies) = (self.memory(), days.values().sum::<usize>().max(1));
        for bytes in days.values_mut() {
            *bytes = (*bytes as u128 * all as u128 / tallies as u128) as usize;
        }
        days
    }

    /// The counts by hour, in order, of no more than `keys_max` keys in each dimension of each.
    #[must_use]
    pub fn hours(&self, keys_max: usize) -> BTreeMap<Hour, Content<'_>> {
        let mut tallies: Vec<_> = self
            .tallies
            .iter()
            .map(|tally| (tally, tally.dimensions(keys_max)))
            .collect();
        tallies.sort_unstable_by_key(|(tally, _)| (tally.hour, tally.site()));
        let dimensions = tallies.iter().flat_map(|(_, dimensions)| dimensions);
        let ranks = self.strings.ranks(dimensions.flat_map(Counted::strings));
        let mut hours = BTreeMap::new();
        for (tally, dimensions) in tallies {
            let content: &mut Content<'_> = hours.entry(tally.hour).or_default();
            let counts = tally.counts(dimensions, &self.strings, &ranks);
            let site = tally.site().map_or(Site::None, Site::Named);
            content.sites.push((site, counts));
            for bot in tally.clients().into_iter().filter_map(ClientId::bot) {
                content.bots.push(bot);
            }
        }
        for content in hours.values_mut() {
            content.classifications = vec![classes::version()];
            content.bots.sort_unstable();
            content.bots.dedup_by_key(|bot: &mut Bot<'_>| bot.name);
        }
        hours
    }

    fn count(&mut self, tally: usize, fields: &Fields<'_>) {
        let (strings, last) = (&mut self.strings, &mut self.last);
        let path = match &*fields.path {
            path if self.strip_query => path.split('?').next().unwrap_or_default(),
            path => path,
        };
        let path = strings.number(path);
        let agent = strings.number_near(&fields.user_agent, &mut last.agent);
        let method = fields.method.as_deref();
        let method = method.map(|method| strings.number_near(method, &mut last.method));
        let host = fields.referer.as_deref().and_then(|referer| {
            if referer != last.referer {
                last.host = host::of_url(referer).map(|host| strings.number(&host));
                last.referer.clear();
                last.referer.push_str(referer);
            }
            last.host
        });
        if self.clients.len() < strings.len() {
            self.clients.resize(strings.len(), NOT_KNOWN);
        }
        let client = &mut self.clients[agent as usize];
        if *client == NOT_KNOWN {
            *client = ClientId::of(strings.text(agent));
        }
        let client = *client;
        let shape = Shape::new(agent, method, host, fields.status);
        let tally = &mut self.tallies[tally];
        tally.count(path, shape, client, fields.bytes);
        if let Some(duration) = fields.duration_ms {
            tally.duration(duration);
        }
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
        self.tallies.push(Tally::new(hour, site));
        let tallies = &self.tallies;
        self.index.insert_unique(hash, index, |index| {
            let tally = &tallies[*index];
            self.hasher.hash_one((tally.hour, tally.site()))
        });
        index
    }
}
