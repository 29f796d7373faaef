//! A range of days as one page's data: JSON of a size that has a bound. docs/reports.md tells its
//! format. Names that do not fit are left out, never requests: these are in the time line.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, HashMap},
};

use serde::Serialize;

use super::{
    day::{self, Client, Group, Key, Limits, Row, SiteDay},
    keys::{Numbers, Of},
    pack::{Named, packed},
    page,
    series::{Durations, Series},
};
use crate::hour::Day;

/// Days that a page holds.
pub const DAYS_MAX: i64 = 90;

/// Bytes of a site's data, and of the index's, as they stand in a page.
const SITE_BYTES_MAX: usize = 4_400_000;
const INDEX_BYTES_MAX: usize = 850_000;

/// Names of a table over all days, at first; fewer where they take too many bytes.
const NAMES_MAX: usize = 3_000;
const NAMES_MIN: usize = 50;
const INDEX_DAYS_MIN: i64 = 7;

/// One line of the index.
pub struct SiteLine<'a> {
    pub name: &'a str,
    /// The file of its report; none of sites that are counted together.
    pub file: Option<String>,
    /// Requests by [`Group`], by day.
    pub days: BTreeMap<Day, [u64; Group::ALL.len()]>,
}

/// The data of a site's page. `site` is empty for records without one. Days are those with
/// requests; what is more than [`DAYS_MAX`] older than the last is left out.
#[must_use]
pub fn site(site: &str, days: &BTreeMap<Day, SiteDay>) -> Vec<u8> {
    let mut names = NAMES_MAX;
    let mut range = DAYS_MAX;
    loop {
        let json = site_within(site, days, range, names);
        let len = page::embedded_len(&json);
        if len <= SITE_BYTES_MAX || range == 1 {
            return json;
        }
        if names > NAMES_MIN {
            // A little less than what would fit if names were all of it: each look costs time.
            let fitting = names * SITE_BYTES_MAX / len;
            names = (fitting - fitting / 16).max(NAMES_MIN);
        } else {
            range = range * 3 / 4;
        }
    }
}

/// The data of the index: `all` are the days of all sites together, without names.
#[must_use]
pub fn index<D: Borrow<SiteDay>>(all: &BTreeMap<Day, D>, sites: &[SiteLine<'_>]) -> Vec<u8> {
    let mut range = DAYS_MAX;
    let mut most = sites.len();
    loop {
        let json = index_within(all, &sites[..most], range);
        let len = page::embedded_len(&json);
        if len <= INDEX_BYTES_MAX || most == 0 {
            return json;
        }
        if range > INDEX_DAYS_MIN {
            let fitting = range * INDEX_BYTES_MAX as i64 / len as i64;
            range = fitting.clamp(INDEX_DAYS_MIN, range - 1);
        } else {
            most /= 2;
        }
    }
}

/// The days of a page: as many as `range`, up to the last one there is.
#[must_use]
pub fn window(days: impl DoubleEndedIterator<Item = Day>, range: i64) -> (Day, i64) {
    let mut last = Day(0);
    let mut first = None;
    for day in days.rev() {
        last = first.map_or(day, |_| last);
        if last.0 - day.0 >= range {
            break;
        }
        first = Some(day);
    }
    let first = first.unwrap_or(last);
    (first, last.0 - first.0 + 1)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    format: u32,
    site: Option<&'a str>,
    first_day: String,
    days: i64,
    clients: Vec<(&'a str, day::Kind, &'a str, &'a str)>,
    keys: Vec<(Of, i8)>,
    /// A key's number, and its requests packed.
    hours: Vec<(u64, String)>,
    /// A key's number, and its bytes by day packed.
    bytes: Vec<(u64, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    durations: Option<Durations>,
    tables: Tables<'a>,
}

#[derive(Default, Serialize)]
struct Tables<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    sites: Option<Table<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paths: Option<Table<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agents: Option<Table<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hosts: Option<Table<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    codes: Option<Table<'a>>,
}

#[derive(Serialize)]
struct Table<'a> {
    by: &'static [&'static str],
    rest: &'static str,
    names: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    about: Vec<String>,
    /// The keys of each name's counts, where they are the same for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keys: Vec<u64>,
    /// Packed.
    days: Vec<String>,
    /// Packed: names and how many more requests each may have at most. Empty where all is counted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missed: Vec<String>,
}

fn site_within(site: &str, days: &BTreeMap<Day, SiteDay>, range: i64, names: usize) -> Vec<u8> {
    let (first, count) = window(days.keys().copied(), range);
    let shown = || days.range(first..);
    let mut numbers = Numbers::of(shown().map(|(_, day)| day));
    let series = Series::of(shown, first, count, &mut numbers);
    let limits = |names_of_client| Limits {
        names,
        names_of_client,
        cells: usize::MAX,
    };
    let both: &[_] = &["group", "client", "status"];
    let mut table = |of: fn(&SiteDay) -> &Vec<Row>, by, rest, of_client| {
        let rows = shown().map(|(at, day)| (*at, day, of(day)));
        table(
            rows,
            first,
            count,
            by,
            rest,
            limits(of_client),
            &mut numbers,
        )
    };
    let tables = Tables {
        sites: None,
        paths: table(|day| &day.paths, both, "to paths that are not listed", 40),
        agents: table(|day| &day.agents, both, "by agents that are not listed", 5),
        hosts: table(
            |day| &day.hosts,
            both,
            "with no referring host, or one that is not listed",
            0,
        ),
        codes: table(|day| &day.codes, &["status"], "without a status code", 0),
    };
    write(Some(site), first, count, series, tables, &numbers)
}

fn index_within<D: Borrow<SiteDay>>(
    all: &BTreeMap<Day, D>,
    sites: &[SiteLine<'_>],
    range: i64,
) -> Vec<u8> {
    let (first, count) = window(all.keys().copied(), range);
    let shown = || all.range(first..).map(|(at, day)| (at, day.borrow()));
    let mut numbers = Numbers::of(shown().map(|(_, day)| day));
    let series = Series::of(shown, first, count, &mut numbers);
    let keys = Group::ALL.map(|group| numbers.number(Of::Group(group.name()), None));
    let mut days = vec![Named::default(); count as usize];
    for (site, at) in sites.iter().zip(0..) {
        for (day, groups) in site.days.range(first..) {
            let into = &mut days[(day.0 - first.0) as usize];
            into.name(at);
            into.numbers.extend(groups);
        }
    }
    let sites = Table {
        by: &["group"],
        rest: "of sites that are not listed",
        names: sites.iter().map(|site| site.name).collect(),
        about: sites
            .iter()
            .map(|site| site.file.clone().unwrap_or_default())
            .collect(),
        keys: keys.to_vec(),
        days: packed(&days),
        missed: Vec::new(),
    };
    let tables = Tables {
        sites: Some(sites),
        ..Tables::default()
    };
    write(None, first, count, series, tables, &numbers)
}

/// The table of those names that are wanted most over all days; `None` where there are none.
fn table<'a>(
    days: impl Iterator<Item = (Day, &'a SiteDay, &'a Vec<Row>)> + Clone,
    first: Day,
    count: i64,
    by: &'static [&'static str],
    rest: &'static str,
    limits: Limits,
    numbers: &mut Numbers<'_>,
) -> Option<Table<'a>> {
    let mut sums: BTreeMap<&str, BTreeMap<Key, u64>> = BTreeMap::new();
    for (_, day, rows) in days.clone() {
        for row in rows {
            let sum = sums.entry(&row.name).or_default();
            for (key, count) in &row.cells {
                *sum.entry(numbers.key(day, *key)).or_default() += count;
            }
        }
    }
    if sums.is_empty() {
        return None;
    }
    let sums: Vec<(&str, Vec<(Key, u64)>)> = sums
        .into_iter()
        .map(|(name, cells)| (name, cells.into_iter().collect()))
        .collect();
    let kept = day::heaviest(sums.iter().map(|(_, cells)| cells.as_slice()), limits);
    let names: Vec<&str> = kept.iter().map(|at| sums[*at].0).collect();
    let places: HashMap<&str, u64> = names.iter().copied().zip(0..).collect();
    let mut lists = vec![Named::default(); count as usize];
    let mut missed = lists.clone();
    for (at, day, rows) in days {
        let of_day = (at.0 - first.0) as usize;
        let into = &mut lists[of_day];
        for row in rows {
            let Some(place) = places.get(row.name.as_str()) else {
                continue;
            };
            if row.missed > 0 {
                missed[of_day].name(*place);
                missed[of_day].numbers.push(row.missed);
            }
            into.name(*place);
            into.numbers.push(row.cells.len() as u64);
            for (key, count) in &row.cells {
                into.numbers
                    .extend([numbers.number_of(numbers.key(day, *key)), *count]);
            }
        }
    }
    Some(Table {
        by,
        rest,
        names,
        about: Vec::new(),
        keys: Vec::new(),
        days: packed(&lists),
        missed: if missed.iter().all(|day| day.numbers.is_empty()) {
            Vec::new()
        } else {
            packed(&missed)
        },
    })
}

fn write(
    site: Option<&str>,
    first: Day,
    days: i64,
    series: Series,
    tables: Tables<'_>,
    numbers: &Numbers<'_>,
) -> Vec<u8> {
    let page = Page {
        format: 2,
        site,
        first_day: first.to_string(),
        days,
        clients: numbers.clients.iter().copied().map(client).collect(),
        keys: numbers.keys.clone(),
        hours: series.hours,
        bytes: series.bytes,
        durations: series.durations,
        tables,
    };
    serde_json::to_vec(&page).expect("numbers and texts are always JSON")
}

fn client(client: &Client) -> (&str, day::Kind, &str, &str) {
    let Client {
        name,
        kind,
        operator,
        purpose,
    } = client;
    (name, *kind, operator, purpose)
}
