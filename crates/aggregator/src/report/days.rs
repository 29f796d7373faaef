//! The file of one day: for each site what its report shows of that day, so that a page is made
//! from small pieces and not from hours' states. Made from these states, and made again where it
//! is missing or damaged.
//!
//! ```text
//! <analyticsDir>/_state/reports/2015-05-17
//! one line of JSON: [`Head`]
//! pieces, one behind the other: JSON of a [`SiteDay`] in zstd
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::day::{
    AGENTS, CODES, Client, Group, HOSTS, Key, Kind, Limits, PATHS, Row, SiteDay, cut,
};
use crate::{
    client,
    counts::{Content, Counts, Site},
    hour::Day,
    table::{Table, coalesce},
};

const FORMAT: u32 = 2;
const ZSTD_LEVEL: i32 = 3;
/// No site's day is near it: see the limits in `day`.
const PIECE_BYTES_MAX: usize = 64 << 20;

/// First half of a SHA-256, in hex.
pub type PieceHash = String;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Head {
    pub format: u32,
    pub day: String,
    /// The manifest that last changed an hour of the day.
    pub manifest: u64,
    /// In order; the empty name is that of records without a site.
    pub sites: Vec<Piece>,
    /// Sites that are not kept apart.
    pub other: Option<[u64; Group::ALL.len()]>,
    /// All sites, without names.
    pub all: SiteDay,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Piece {
    pub site: String,
    pub groups: [u64; Group::ALL.len()],
    pub hash: PieceHash,
    /// Behind the head.
    pub at: u64,
    pub len: u64,
}

/// The file of `day`, of which `content` is the sum.
#[must_use]
pub fn write(day: Day, manifest: u64, content: &Content<'_>) -> Vec<u8> {
    let mut pieces = Vec::new();
    let mut head = Head {
        format: FORMAT,
        day: day.to_string(),
        manifest,
        sites: Vec::new(),
        other: None,
        all: all(content),
    };
    for (site, counts) in &content.sites {
        let name = match site {
            Site::None => "",
            Site::Named(name) => *name,
            Site::Other => {
                head.other = Some(hours(content, &counts.traffic).groups());
                continue;
            }
        };
        let day = site_day(content, counts);
        let json = serde_json::to_vec(&day).expect("numbers and texts are always JSON");
        let piece = zstd::bulk::compress(&json, ZSTD_LEVEL).expect("memory is all it takes");
        head.sites.push(Piece {
            site: name.to_owned(),
            groups: day.groups(),
            hash: hash(&piece),
            at: pieces.len() as u64,
            len: piece.len() as u64,
        });
        pieces.extend_from_slice(&piece);
    }
    let mut out = serde_json::to_vec(&head).expect("numbers and texts are always JSON");
    out.push(b'\n');
    out.extend_from_slice(&pieces);
    out
}

/// The head of a file, from the line that it begins with; `None` where that is none of `day`.
#[must_use]
pub fn read_head(line: &[u8], day: Day) -> Option<Head> {
    let head: Head = serde_json::from_slice(line).ok()?;
    (head.format == FORMAT && head.day == day.to_string()).then_some(head)
}

/// The piece with `hash`; `None` where these bytes are not it.
#[must_use]
pub fn read_piece(bytes: &[u8], expected: &str) -> Option<SiteDay> {
    if hash(bytes) != expected {
        return None;
    }
    let json = zstd::bulk::decompress(bytes, PIECE_BYTES_MAX).ok()?;
    serde_json::from_slice(&json).ok()
}

fn hash(bytes: &[u8]) -> PieceHash {
    let hash = Sha256::digest(bytes);
    hash[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

type Traffic<'a> = [(crate::counts::Slot<'a>, crate::counts::Traffic)];

/// All sites together, without names.
fn all(content: &Content<'_>) -> SiteDay {
    let sites = || content.sites.iter().map(|(_, counts)| counts);
    let traffic = sites().flat_map(|counts| counts.traffic.iter().copied());
    let buckets = sites().flat_map(|counts| counts.durations.buckets.iter().copied());
    SiteDay {
        durations: coalesce(buckets.collect()),
        ..hours(content, &coalesce(traffic.collect()))
    }
}

fn site_day(content: &Content<'_>, counts: &Counts<'_>) -> SiteDay {
    let places = places(&counts.traffic);
    let rows = |table: &Table<'_>, limits: Limits| -> Vec<Row> {
        let cell = |(place, count): &(crate::table::Place<'_>, u64)| {
            (key(&places, place.client, place.class), *count)
        };
        let rows: Vec<(&str, Vec<(Key, u64)>)> = table
            .keys()
            .map(|same| (same[0].0.key, same.iter().map(cell).collect()))
            .collect();
        cut(&rows, |name| table.missed(name), limits)
    };
    let codes: Vec<(String, Vec<(Key, u64)>)> = counts
        .statuses
        .iter()
        .map(|(code, count)| {
            let status = Some((code / 100) as u8);
            let key = Key {
                client: None,
                status,
            };
            (code.to_string(), vec![(key, *count)])
        })
        .collect();
    let codes: Vec<_> = codes
        .iter()
        .map(|(code, cells)| (code.as_str(), cells.clone()))
        .collect();
    SiteDay {
        paths: rows(&counts.paths, PATHS),
        agents: rows(&counts.user_agents, AGENTS),
        hosts: rows(&counts.referring_hosts, HOSTS),
        codes: cut(&codes, |_| 0, CODES),
        durations: counts.durations.buckets.clone(),
        ..hours(content, &counts.traffic)
    }
}

/// A day with its hours and bytes alone.
fn hours(content: &Content<'_>, traffic: &Traffic<'_>) -> SiteDay {
    let places = places(traffic);
    let clients = places.iter().map(|client| named(content, *client));
    let sent = traffic.iter().filter(|(_, traffic)| traffic.with_bytes > 0);
    let sent = sent.map(|((_, client, class), traffic)| {
        let bytes = u64::try_from(traffic.bytes).unwrap_or(u64::MAX);
        (key(&places, *client, *class), bytes)
    });
    // Hostile values of 64 bits do not overflow it.
    let mut bytes: BTreeMap<Key, u64> = BTreeMap::new();
    for (key, more) in sent {
        let sum = bytes.entry(key).or_default();
        *sum = sum.saturating_add(more);
    }
    SiteDay {
        bytes: bytes.into_iter().collect(),
        clients: clients.collect(),
        hours: traffic
            .iter()
            .map(|((hour, client, class), traffic)| {
                (*hour, key(&places, *client, *class), traffic.requests)
            })
            .collect(),
        ..SiteDay::default()
    }
}

/// All clients, in order.
fn places<'a>(traffic: &Traffic<'a>) -> Vec<client::Client<'a>> {
    let mut places: Vec<_> = traffic.iter().map(|((_, client, _), _)| *client).collect();
    places.sort_unstable();
    places.dedup();
    places
}

fn key(
    places: &[client::Client<'_>],
    client: client::Client<'_>,
    class: client::StatusClass,
) -> Key {
    // Whoever is in a table is in the traffic: it counts every request.
    let place = places.binary_search(&client).ok();
    Key {
        client: place.map(|at| at as u32),
        status: Some(class.0),
    }
}

fn named(content: &Content<'_>, client: client::Client<'_>) -> Client {
    let (kind, name) = match client {
        client::Client::Human => (Kind::Human, "human"),
        client::Client::Unknown => (Kind::Unknown, "unknown"),
        client::Client::Empty => (Kind::Empty, "empty"),
        client::Client::Bot(name) => (Kind::Bot, name),
    };
    let bot = match kind {
        Kind::Bot => content.bot(name),
        _ => None,
    };
    let text = |of: fn(&client::Bot<'_>) -> String| bot.map(of).unwrap_or_default();
    Client {
        kind,
        name: name.to_owned(),
        operator: text(|bot| bot.operator.to_owned()),
        purpose: text(|bot| bot.purpose.to_owned()),
    }
}
