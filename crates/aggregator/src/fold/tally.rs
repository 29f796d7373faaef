//! One hour of one site while it is folded: numbers under small keys.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::strings::{Ranks, Strings};
use crate::{
    classes::ClientId,
    client::StatusClass,
    counts::{Counts, Traffic},
    hour::Hour,
    sketch::{self, Sketch},
    table::{Place, Table},
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Dimension {
    Path,
    UserAgent,
    Method,
    ReferringHost,
}

pub struct Tally {
    pub hour: Hour,
    site: Option<Box<str>>,
    /// By dimension, string, client and status class: see [`key`].
    counts: HashMap<u64, u64, RandomState>,
    traffic: HashMap<(ClientId, StatusClass), Traffic, RandomState>,
    statuses: Vec<(u16, u64)>,
    durations: HashMap<i32, u64, RandomState>,
}

/// What an entry of a table takes, about, with what stands empty beside it.
const ENTRY_BYTES: usize = 28;

impl Tally {
    #[must_use]
    pub fn new(hour: Hour, site: Option<&str>) -> Self {
        Self {
            hour,
            site: site.map(Box::from),
            counts: HashMap::default(),
            traffic: HashMap::default(),
            statuses: Vec::new(),
            durations: HashMap::default(),
        }
    }

    #[inline]
    #[must_use]
    pub fn site(&self) -> Option<&str> {
        self.site.as_deref()
    }

    #[inline]
    #[must_use]
    pub fn is_of(&self, hour: Hour, site: Option<&str>) -> bool {
        self.hour == hour && self.site() == site
    }

    #[must_use]
    pub fn memory(&self) -> usize {
        let entries = self.counts.len() + 3 * self.traffic.len() + self.durations.len();
        size_of::<Self>() + self.site().map_or(0, str::len) + entries * ENTRY_BYTES
    }

    /// The kinds of clients that are counted here.
    pub fn clients(&self) -> impl Iterator<Item = ClientId> {
        self.traffic.keys().map(|(client, _)| *client)
    }

    #[inline]
    pub fn traffic(&mut self, client: ClientId, class: StatusClass, bytes: Option<u64>) {
        *self.traffic.entry((client, class)).or_default() += Traffic {
            requests: 1,
            with_bytes: u64::from(bytes.is_some()),
            bytes: u128::from(bytes.unwrap_or(0)),
        };
    }

    #[inline]
    pub fn count(&mut self, of: Dimension, string: u32, client: ClientId, class: StatusClass) {
        *self
            .counts
            .entry(key(of, string, client, class))
            .or_default() += 1;
    }

    #[inline]
    pub fn status(&mut self, status: u16) {
        // A handful of codes: found faster by looking at each than by hashing.
        match self.statuses.iter_mut().find(|(code, _)| *code == status) {
            Some((_, count)) => *count += 1,
            None => self.statuses.push((status, 1)),
        }
    }

    #[inline]
    pub fn duration(&mut self, ms: f64) {
        *self.durations.entry(sketch::bucket(ms)).or_default() += 1;
    }

    #[must_use]
    pub fn counts<'a>(&self, strings: &'a Strings, ranks: &Ranks) -> Counts<'a> {
        let mut statuses = self.statuses.clone();
        statuses.sort_unstable();
        let mut buckets: Vec<_> = self
            .durations
            .iter()
            .map(|(at, count)| (*at, *count))
            .collect();
        buckets.sort_unstable();
        let of_day = self.hour.of_day();
        let mut traffic: Vec<_> = self
            .traffic
            .iter()
            .map(|((client, class), traffic)| ((of_day, client.client(), *class), *traffic))
            .collect();
        traffic.sort_unstable_by_key(|(slot, _)| *slot);
        let mut tables = [const { Vec::new() }; 4];
        for (key, count) in &self.counts {
            let (dimension, string, client, class) = parts(*key);
            tables[dimension].push((ranks.of(string), string, client, class, *count));
        }
        let [paths, user_agents, methods, referring_hosts] = tables.map(|mut entries| {
            entries.sort_unstable_by_key(|(rank, _, client, class, _)| {
                (*rank, client.client(), *class)
            });
            let rows = entries
                .into_iter()
                .map(|(_, string, client, class, count)| {
                    let place = Place {
                        key: strings.text(string),
                        client: client.client(),
                        class,
                    };
                    (place, count)
                });
            Table {
                rows: rows.collect(),
                ..Table::default()
            }
        });
        Counts {
            traffic,
            statuses,
            durations: Sketch { buckets },
            methods,
            paths,
            user_agents,
            referring_hosts,
        }
    }
}

/// `dimension` in the highest bits, then class, client and string.
#[inline]
fn key(of: Dimension, string: u32, client: ClientId, class: StatusClass) -> u64 {
    (of as u64) << 56 | u64::from(class.0) << 48 | u64::from(client.0) << 32 | u64::from(string)
}

fn parts(key: u64) -> (usize, u32, ClientId, StatusClass) {
    (
        (key >> 56) as usize,
        key as u32,
        ClientId((key >> 32) as u16),
        StatusClass((key >> 48) as u8),
    )
}
