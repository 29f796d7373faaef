//! One hour of one site while it is folded: numbers under small keys.

use std::cmp::Reverse;

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
    /// By client and status class: the middle of a [`key`].
    traffic: HashMap<u32, Traffic, RandomState>,
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
        self.traffic.keys().map(|who| who_of(*who).0)
    }

    #[inline]
    pub fn traffic(&mut self, client: ClientId, class: StatusClass, bytes: Option<u64>) {
        *self.traffic.entry(who(client, class)).or_default() += Traffic {
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

    /// What is counted in each dimension, of the heaviest strings where there are more than
    /// `keys_max`: what memory the rest would take is never asked for.
    #[must_use]
    pub fn dimensions(&self, keys_max: usize) -> [Counted; 4] {
        let mut dimensions = [const { Counted::new() }; 4];
        for (key, count) in &self.counts {
            let (dimension, string, client, class) = parts(*key);
            dimensions[dimension].cells.push(Cell {
                string,
                client,
                class,
                count: *count,
            });
        }
        for dimension in &mut dimensions {
            dimension.bound(keys_max);
        }
        dimensions
    }

    #[must_use]
    pub fn counts<'a>(
        &self,
        dimensions: [Counted; 4],
        strings: &'a Strings,
        ranks: &Ranks,
    ) -> Counts<'a> {
        let mut statuses = self.statuses.clone();
        statuses.sort_unstable();
        let buckets = self.durations.iter();
        let mut buckets: Vec<_> = buckets.map(|(at, count)| (*at, *count)).collect();
        buckets.sort_unstable();
        let of_day = self.hour.of_day();
        let mut traffic: Vec<_> = self
            .traffic
            .iter()
            .map(|(who, traffic)| {
                let (client, class) = who_of(*who);
                ((of_day, client.client(), class), *traffic)
            })
            .collect();
        traffic.sort_unstable_by_key(|(slot, _)| *slot);
        let [paths, user_agents, methods, referring_hosts] =
            dimensions.map(|dimension| dimension.table(strings, ranks));
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

/// One dimension of a tally, by the numbers of strings.
pub struct Counted {
    cells: Vec<Cell>,
    other: u64,
    error_max: u64,
}

struct Cell {
    string: u32,
    client: ClientId,
    class: StatusClass,
    count: u64,
}

impl Counted {
    const fn new() -> Self {
        Self {
            cells: Vec::new(),
            other: 0,
            error_max: 0,
        }
    }

    /// The strings that are left.
    pub fn strings(&self) -> impl Iterator<Item = u32> {
        self.cells.iter().map(|cell| cell.string)
    }

    /// As `Table::bound`, of what was never bounded before.
    fn bound(&mut self, keys_max: usize) {
        if self.cells.len() <= keys_max {
            return;
        }
        self.cells.sort_unstable_by_key(|cell| cell.string);
        let same = self.cells.chunk_by(|one, other| one.string == other.string);
        let mut totals: Vec<(Reverse<u64>, u32)> = same
            .map(|cells| {
                let total = cells.iter().map(|cell| cell.count).sum();
                (Reverse(total), cells[0].string)
            })
            .collect();
        if totals.len() <= keys_max {
            return;
        }
        // Among equals those that came first, so that the same input gives the same table.
        let (_, &mut (Reverse(largest), _), _) = totals.select_nth_unstable(keys_max);
        let mut dropped: Vec<u32> = totals[keys_max..]
            .iter()
            .map(|(_, string)| *string)
            .collect();
        dropped.sort_unstable();
        let other = totals[keys_max..].iter().map(|(Reverse(total), _)| total);
        self.other = other.sum();
        self.error_max = largest;
        let mut dropped = dropped.into_iter().peekable();
        self.cells.retain(|cell| {
            while dropped.next_if(|string| *string < cell.string).is_some() {}
            dropped.peek() != Some(&cell.string)
        });
        self.cells.shrink_to_fit();
    }

    fn table<'a>(mut self, strings: &'a Strings, ranks: &Ranks) -> Table<'a> {
        self.cells
            .sort_unstable_by_key(|cell| (ranks.of(cell.string), cell.client.client(), cell.class));
        let rows = self.cells.into_iter().map(|cell| {
            let place = Place {
                key: strings.text(cell.string),
                client: cell.client.client(),
                class: cell.class,
            };
            (place, cell.count)
        });
        Table {
            rows: rows.collect(),
            other: self.other,
            error_max: self.error_max,
            ..Table::default()
        }
    }
}

/// `dimension` in the highest bits, then class, client and string.
#[inline]
fn key(of: Dimension, string: u32, client: ClientId, class: StatusClass) -> u64 {
    (of as u64) << 56 | u64::from(who(client, class)) << 32 | u64::from(string)
}

fn parts(key: u64) -> (usize, u32, ClientId, StatusClass) {
    let (client, class) = who_of((key >> 32) as u32);
    ((key >> 56) as usize, key as u32, client, class)
}

#[inline]
fn who(client: ClientId, class: StatusClass) -> u32 {
    u32::from(class.0) << 16 | u32::from(client.0)
}

fn who_of(who: u32) -> (ClientId, StatusClass) {
    (ClientId(who as u16), StatusClass((who >> 16) as u8))
}
