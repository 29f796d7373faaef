//! One site's day as reports show it: requests by hour, client and status class whole; names (paths,
//! agents, …) only as far as a page lists them. Cutting is decided here and nowhere else.

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use serde::{Deserialize, Serialize};

/// Longest name in bytes; a longer one is shown cut, and those that are then the same as one.
const NAME_BYTES_MAX: usize = 300;

/// What a table keeps of a day.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Names with the most requests.
    pub names: usize,
    /// Beside those, the names with the most requests of each client: what a rare crawler looks
    /// at is not among a site's most wanted pages.
    pub names_of_client: usize,
    /// Numbers, over all names.
    pub cells: usize,
}

pub const PATHS: Limits = Limits {
    names: 500,
    names_of_client: 25,
    cells: 2_500,
};
pub const AGENTS: Limits = Limits {
    names: 150,
    names_of_client: 3,
    cells: 500,
};
pub const HOSTS: Limits = Limits {
    names: 150,
    names_of_client: 0,
    cells: 500,
};
pub const CODES: Limits = Limits {
    names: 100,
    names_of_client: 0,
    cells: 1_000,
};

/// Whose requests are counted together: all people, say, or one bot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Client {
    pub kind: Kind,
    pub name: String,
    pub operator: String,
    pub purpose: String,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Human,
    Bot,
    Unknown,
    Empty,
}

/// What a site's index shows of its clients. In the order of [`Group::ALL`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Group {
    Human,
    Ai,
    Bot,
    Unknown,
    Empty,
}

impl Group {
    pub const ALL: [Self; 5] = [Self::Human, Self::Ai, Self::Bot, Self::Unknown, Self::Empty];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Ai => "ai",
            Self::Bot => "bot",
            Self::Unknown => "unknown",
            Self::Empty => "empty",
        }
    }
}

impl Client {
    #[must_use]
    pub fn group(&self) -> Group {
        match self.kind {
            Kind::Human => Group::Human,
            Kind::Unknown => Group::Unknown,
            Kind::Empty => Group::Empty,
            Kind::Bot => match self.purpose.as_str() {
                "ai-training" | "ai-search" | "ai-user" => Group::Ai,
                _ => Group::Bot,
            },
        }
    }
}

/// What requests are counted by: a place in a list of clients, and the first digit of the status
/// (0: the record has none). `None`: not told apart.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Key {
    pub client: Option<u32>,
    pub status: Option<u8>,
}

/// A name with its requests.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Row {
    pub name: String,
    pub cells: Vec<(Key, u64)>,
    /// It may have so many more, at most: there were more names than are counted apart.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missed: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SiteDay {
    pub clients: Vec<Client>,
    /// Every request of the day once, by hour of the day, in order.
    pub hours: Vec<(u8, Key, u64)>,
    /// Bytes that were sent, of the whole day, in order; of those keys that have any.
    pub bytes: Vec<(Key, u64)>,
    /// How long requests took: a sketch's buckets and how many are in each.
    pub durations: Vec<(i32, u64)>,
    pub paths: Vec<Row>,
    pub agents: Vec<Row>,
    pub hosts: Vec<Row>,
    pub codes: Vec<Row>,
}

impl SiteDay {
    #[must_use]
    pub fn groups(&self) -> [u64; Group::ALL.len()] {
        let mut groups = [0; Group::ALL.len()];
        for (_, key, count) in &self.hours {
            let client = key.client.and_then(|at| self.clients.get(at as usize));
            if let Some(client) = client {
                groups[client.group() as usize] += count;
            }
        }
        groups
    }
}

/// The rows that stay, in the order of their names; those whose shortened names are the same, as
/// one. `missed` says of a name how many more it may have. The same input always gives the same rows.
#[must_use]
pub fn cut<'a>(
    rows: &[(&'a str, Vec<(Key, u64)>)],
    missed: impl Fn(&str) -> u64,
    limits: Limits,
) -> Vec<Row> {
    let mut names: BTreeMap<Cow<'a, str>, (BTreeMap<Key, u64>, u64)> = BTreeMap::new();
    for at in heaviest(rows.iter().map(|(_, cells)| cells.as_slice()), limits) {
        let (name, cells) = &rows[at];
        let (sums, missed_sum) = names.entry(shortened(name)).or_default();
        for (key, count) in cells {
            *sums.entry(*key).or_default() += count;
        }
        *missed_sum += missed(name);
    }
    let row = |(name, (cells, missed)): (Cow<'_, str>, (BTreeMap<Key, u64>, u64))| Row {
        name: name.into_owned(),
        cells: cells.into_iter().collect(),
        missed,
    };
    names.into_iter().map(row).collect()
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The places of the rows that `limits` keep, in order.
pub fn heaviest<'a>(
    rows: impl Iterator<Item = &'a [(Key, u64)]> + Clone,
    limits: Limits,
) -> Vec<usize> {
    let mut all = Top::new(limits.names);
    let mut each: BTreeMap<Option<u32>, Top> = BTreeMap::new();
    for (at, cells) in rows.clone().enumerate() {
        all.push(cells.iter().map(|(_, count)| count).sum(), at);
        // Cells come in the order of their clients.
        for same in cells.chunk_by(|one, other| one.0.client == other.0.client) {
            let count = same.iter().map(|(_, count)| count).sum();
            each.entry(same[0].0.client)
                .or_insert_with(|| Top::new(limits.names_of_client))
                .push(count, at);
        }
    }
    let sizes: Vec<usize> = rows.map(<[_]>::len).collect();
    let mut left = limits.cells;
    let mut kept = BTreeSet::new();
    // What is wanted most by anyone comes first, so that no client is without its first pages.
    let tops: Vec<Vec<usize>> = each.into_values().map(Top::places).collect();
    let all = all.places();
    let of_clients = (0..limits.names_of_client)
        .flat_map(|rank| tops.iter().filter_map(move |top| top.get(rank).copied()));
    let (first, rest) = all.split_at(all.len().min(limits.names / 2));
    let order = first.iter().copied().chain(of_clients);
    for at in order.chain(rest.iter().copied()) {
        if kept.contains(&at) {
            continue;
        }
        let Some(less) = left.checked_sub(sizes[at]) else {
            break;
        };
        left = less;
        kept.insert(at);
    }
    kept.into_iter().collect()
}

fn shortened(name: &str) -> Cow<'_, str> {
    if name.len() <= NAME_BYTES_MAX {
        return Cow::Borrowed(name);
    }
    let end = name.floor_char_boundary(NAME_BYTES_MAX - '…'.len_utf8());
    Cow::Owned(format!("{}…", &name[..end]))
}

/// The places with the most requests; of equals the first.
struct Top {
    most: usize,
    items: Vec<(Reverse<u64>, usize)>,
}

impl Top {
    fn new(most: usize) -> Self {
        let items = Vec::new();
        Self { most, items }
    }

    fn push(&mut self, count: u64, at: usize) {
        if self.most == 0 {
            return;
        }
        self.items.push((Reverse(count), at));
        if self.items.len() >= 2 * self.most + 64 {
            self.items.select_nth_unstable(self.most);
            self.items.truncate(self.most);
        }
    }

    fn places(mut self) -> Vec<usize> {
        self.items.sort_unstable();
        self.items.truncate(self.most);
        self.items.into_iter().map(|(_, at)| at).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(client: u32) -> Key {
        Key {
            client: Some(client),
            status: Some(2),
        }
    }

    const FEW: Limits = Limits {
        names: 2,
        names_of_client: 1,
        cells: 100,
    };

    #[test]
    fn a_rare_client_keeps_its_first_pages() {
        let names: Vec<String> = (0..1_000).map(|i| format!("/{i:04}")).collect();
        let mut rows: Vec<(&str, Vec<(Key, u64)>)> = Vec::new();
        for (i, name) in names.iter().enumerate() {
            rows.push((name, vec![(key(0), 1_000 - i as u64)]));
        }
        rows[900].1.push((key(7), 3));
        rows[901].1.push((key(7), 2));
        let kept = cut(&rows, |_| 0, FEW);
        let kept: Vec<&str> = kept.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(kept, ["/0000", "/0001", "/0900"]);
    }

    #[test]
    fn there_are_never_more_cells_than_allowed() {
        let cells: Vec<(Key, u64)> = (0..50).map(|client| (key(client), 1)).collect();
        let rows: Vec<_> = ["/a", "/b", "/c"].map(|name| (name, cells.clone())).into();
        let limits = Limits { names: 3, ..FEW };
        assert_eq!(cut(&rows, |_| 0, limits).len(), 2);
    }

    #[test]
    fn names_that_are_the_same_when_shortened_are_one() {
        let [one, other] = ["x", "y"].map(|end| format!("/{}{end}", "\u{e9}".repeat(400)));
        let rows = [
            (one.as_str(), vec![(key(0), 2)]),
            (&other, vec![(key(0), 3)]),
        ];
        let kept = cut(&rows, |_| 2, FEW);
        assert_eq!((kept.len(), kept[0].missed), (1, 4));
        assert_eq!(kept[0].cells, [(key(0), 5)]);
        assert!(kept[0].name.len() <= NAME_BYTES_MAX && kept[0].name.ends_with('…'));
    }
}
