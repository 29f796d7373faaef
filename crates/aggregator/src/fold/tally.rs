//! One hour of one site while it is folded: numbers under small keys.

use std::{borrow::Cow, cmp::Reverse, collections::BTreeMap};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::{
    shapes::{Shape, Shapes},
    strings::{Ranks, Strings},
};
use crate::{
    classes::ClientId,
    client::StatusClass,
    counts::{Counts, Traffic},
    hour::Hour,
    sketch::{self, Durations},
    table::{Place, Table},
};

#[derive(Clone, Copy)]
enum Dimension {
    Path,
    UserAgent,
    Method,
    ReferringHost,
}

pub struct Tally {
    pub hour: Hour,
    site: Option<Box<str>>,
    /// By path, client and status class: see [`key`].
    paths: Cells,
    /// What all else is counted from.
    shapes: Shapes,
    durations: Durations,
}

/// Requests by string, client and status class: see [`key`].
type Cells = HashMap<u64, u64, RandomState>;

/// What an entry of [`Cells`] takes, about, with what stands empty beside it.
const ENTRY_BYTES: usize = 28;

impl Tally {
    #[must_use]
    pub fn new(hour: Hour, site: Option<&str>) -> Self {
        Self {
            hour,
            site: site.map(Box::from),
            paths: Cells::default(),
            shapes: Shapes::default(),
            durations: Durations::default(),
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
        let site = self.site().map_or(0, str::len);
        let counts = self.paths.len() * ENTRY_BYTES + self.shapes.memory();
        size_of::<Self>() + site + counts + self.durations.memory()
    }

    /// The kinds of clients that are counted here, each once.
    #[must_use]
    pub fn clients(&self) -> Vec<ClientId> {
        let mut clients: Vec<u16> = self.shapes.iter().map(|it| it.client.0).collect();
        clients.sort_unstable();
        clients.dedup();
        clients.into_iter().map(ClientId).collect()
    }

    #[inline]
    pub fn count(&mut self, path: u32, shape: Shape, client: ClientId, bytes: Option<u64>) {
        *self
            .paths
            .entry(key(path, client, shape.class()))
            .or_default() += 1;
        self.shapes.add(shape, client, bytes);
    }

    #[inline]
    pub fn duration(&mut self, ms: f64) {
        self.durations.add(sketch::bucket(ms));
    }

    /// What is counted in each dimension, of the heaviest strings where there are more than
    /// `keys_max`: what memory the rest would take is never asked for.
    #[must_use]
    pub fn dimensions(&self, keys_max: usize) -> [Counted; 4] {
        use Dimension::{Method, Path, ReferringHost, UserAgent};
        [Path, UserAgent, Method, ReferringHost].map(|dimension| {
            let cells: Cow<'_, Cells> = match dimension {
                Path => Cow::Borrowed(&self.paths),
                UserAgent => Cow::Owned(self.of_shapes(|shape| Some(shape.agent))),
                Method => Cow::Owned(self.of_shapes(Shape::method)),
                ReferringHost => Cow::Owned(self.of_shapes(Shape::host)),
            };
            let mut counted = Counted::of(&cells);
            counted.bound(keys_max);
            counted
        })
    }

    fn of_shapes(&self, string: impl Fn(Shape) -> Option<u32>) -> Cells {
        let mut cells = Cells::default();
        for counted in self.shapes.iter() {
            if let Some(string) = string(counted.shape) {
                let key = key(string, counted.client, counted.shape.class());
                *cells.entry(key).or_default() += counted.traffic.requests;
            }
        }
        cells
    }

    #[must_use]
    pub fn counts<'a>(
        &self,
        dimensions: [Counted; 4],
        strings: &'a Strings,
        ranks: &Ranks,
    ) -> Counts<'a> {
        let mut statuses: BTreeMap<u16, u64> = BTreeMap::new();
        let mut traffic: HashMap<u32, Traffic, RandomState> = HashMap::default();
        for counted in self.shapes.iter() {
            let who = who(counted.client, counted.shape.class());
            *traffic.entry(who).or_default() += counted.traffic;
            if let Some(status) = counted.shape.status() {
                *statuses.entry(status).or_default() += counted.traffic.requests;
            }
        }
        let of_day = self.hour.of_day();
        let mut traffic: Vec<_> = traffic
            .into_iter()
            .map(|(who, traffic)| {
                let (client, class) = who_of(who);
                ((of_day, client.client(), class), traffic)
            })
            .collect();
        traffic.sort_unstable_by_key(|(slot, _)| *slot);
        let [paths, user_agents, methods, referring_hosts] =
            dimensions.map(|dimension| dimension.table(strings, ranks));
        Counts {
            traffic,
            statuses: statuses.into_iter().collect(),
            durations: self.durations.sketch(),
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
    fn of(cells: &Cells) -> Self {
        let cells = cells.iter().map(|(key, count)| {
            let (string, client, class) = parts(*key);
            Cell {
                string,
                client,
                class,
                count: *count,
            }
        });
        Self {
            cells: cells.collect(),
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

/// Class in the highest bits, then client and string.
#[inline]
fn key(string: u32, client: ClientId, class: StatusClass) -> u64 {
    u64::from(who(client, class)) << 32 | u64::from(string)
}

fn parts(key: u64) -> (u32, ClientId, StatusClass) {
    let (client, class) = who_of((key >> 32) as u32);
    (key as u32, client, class)
}

#[inline]
fn who(client: ClientId, class: StatusClass) -> u32 {
    u32::from(class.0) << 16 | u32::from(client.0)
}

fn who_of(who: u32) -> (ClientId, StatusClass) {
    (ClientId(who as u16), StatusClass((who >> 16) as u8))
}
