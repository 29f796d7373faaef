//! Days of made-up sites, and sums over them that know nothing of a page's format.

use std::collections::BTreeMap;

use aggregator::{
    hour::Day,
    report::day::{self, AGENTS, Client, HOSTS, Key, Kind, Limits, PATHS, Row, SiteDay},
};
use fastrand::Rng;

/// 2026-08-03
pub const FIRST: Day = Day(20_668);

pub const HOSTILE_PATH: &str =
    "/</script><img src=x onerror=\"window.hacked=1\">\u{2028}\u{202e}txt";
pub const HOSTILE_AGENT: &str = "=cmd|' /C calc'!A1<script>window.hacked=2</script>";

const BOTS: [(&str, &str, &str, u64); 14] = [
    ("Googlebot", "Google", "search", 90),
    ("GPTBot", "OpenAI", "ai-training", 70),
    ("bingbot", "Microsoft", "search", 45),
    ("ClaudeBot", "Anthropic", "ai-training", 44),
    ("OAI-SearchBot", "OpenAI", "ai-search", 30),
    ("ChatGPT-User", "OpenAI", "ai-user", 24),
    ("AhrefsBot", "Ahrefs", "seo", 22),
    ("meta-externalagent", "Meta", "ai-training", 18),
    ("PerplexityBot", "Perplexity", "ai-search", 15),
    ("Bytespider", "ByteDance", "ai-training", 12),
    ("CCBot", "Common Crawl", "ai-training", 7),
    ("UptimeRobot", "UptimeRobot", "monitor", 6),
    ("Perplexity-User", "Perplexity", "ai-user", 3),
    ("Feedly", "Feedly", "feed", 2),
];

pub struct Site {
    pub days: BTreeMap<Day, SiteDay>,
}

/// What is asked for: the filters of a page, as this file understands them.
#[derive(Clone, Copy, Default)]
pub struct Wanted<'a> {
    pub bot: Option<&'a str>,
    pub ai: bool,
    pub purpose: Option<&'a str>,
    pub status: Option<u8>,
}

impl Wanted<'_> {
    fn takes(&self, client: &Client, status: Option<u8>) -> bool {
        self.bot.is_none_or(|bot| client.name == bot)
            && (!self.ai || client.purpose.starts_with("ai-"))
            && self.purpose.is_none_or(|purpose| client.purpose == purpose)
            && (self.status.is_none() || self.status == status)
    }
}

impl Site {
    /// `size`: requests an hour, about. `names`: different paths a day.
    pub fn new(seed: u64, days: i64, size: u64, names: usize) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut clients = [Kind::Human, Kind::Unknown, Kind::Empty]
            .map(|kind| Client {
                kind,
                name: format!("{kind:?}").to_lowercase(),
                operator: String::new(),
                purpose: String::new(),
            })
            .to_vec();
        let bots = BOTS.map(|(name, operator, purpose, _)| Client {
            kind: Kind::Bot,
            name: name.into(),
            operator: operator.into(),
            purpose: purpose.into(),
        });
        clients.extend(bots);
        let mut weights = vec![1_000, 30, 12];
        weights.extend(BOTS.map(|(_, _, _, weight)| weight));
        let days = (0..days).map(|i| {
            let day = one_day(&mut rng, &clients, &weights, i, size, names);
            (Day(FIRST.0 + i), day)
        });
        Self {
            days: days.collect(),
        }
    }

    /// The same requests, each kind of them for a name of its own, as long as a page takes them,
    /// another one each day, `filled` up with a character that strangers choose.
    pub fn with_long_names(&self, filled: char) -> BTreeMap<Day, SiteDay> {
        let mut days = self.days.clone();
        for (at, day) in &mut days {
            for rows in [&mut day.paths, &mut day.agents, &mut day.hosts] {
                let whole = std::mem::take(rows);
                for row in &whole {
                    rows.extend(row.cells.iter().zip(0..).map(|(cell, number)| {
                        let filling = filled.to_string();
                        let filling = filling.repeat(280_usize.saturating_sub(row.name.len()));
                        Row {
                            name: format!("{}{filling}/{at}/{number}", row.name),
                            cells: vec![*cell],
                            missed: 0,
                        }
                    }));
                }
                rows.sort_unstable_by(|one, other| one.name.cmp(&other.name));
            }
        }
        days
    }

    /// Requests in hours from `from` to before `to`, counted from the first day's first.
    pub fn requests(&self, from: i64, to: i64, wanted: Wanted<'_>) -> u64 {
        let mut sum = 0;
        for (at, day) in &self.days {
            for (hour, key, count) in &day.hours {
                let hour = (at.0 - FIRST.0) * 24 + i64::from(*hour);
                let client = &day.clients[key.client.unwrap() as usize];
                if (from..to).contains(&hour) && wanted.takes(client, key.status) {
                    sum += count;
                }
            }
        }
        sum
    }

    /// Bytes sent on days from `from` to before `to`.
    pub fn bytes(&self, from: i64, to: i64, wanted: Wanted<'_>) -> u64 {
        let days = self.days.range(Day(FIRST.0 + from)..Day(FIRST.0 + to));
        let sent = days.flat_map(|(_, day)| day.bytes.iter().map(move |sent| (day, sent)));
        sent.filter(|(day, (key, _))| {
            wanted.takes(&day.clients[key.client.unwrap() as usize], key.status)
        })
        .map(|(_, (_, bytes))| bytes)
        .sum()
    }

    /// Requests for `path` on days from `from` to before `to`.
    pub fn of_path(&self, path: &str, from: i64, to: i64, wanted: Wanted<'_>) -> u64 {
        let mut sum = 0;
        for day in self.days.range(Day(FIRST.0 + from)..Day(FIRST.0 + to)) {
            for row in day.1.paths.iter().filter(|row| row.name == path) {
                for (key, count) in &row.cells {
                    if wanted.takes(&day.1.clients[key.client.unwrap() as usize], key.status) {
                        sum += count;
                    }
                }
            }
        }
        sum
    }
}

/// How long requests take, in ms, and how many of a hundred: p50 is 12, p90 is 80, p99 is 2,400.
pub const DURATIONS: [(f64, u64); 4] = [(12.0, 60), (80.0, 33), (2_400.0, 6), (30_000.0, 1)];

/// The bucket of a sketch, as docs/analytics.md has them.
fn bucket(ms: f64) -> i32 {
    let gamma: f64 = 1.0094 / 0.9906;
    (ms.ln() / gamma.ln()).ceil() as i32
}

fn one_day(
    rng: &mut Rng,
    clients: &[Client],
    weights: &[u64],
    i: i64,
    size: u64,
    names: usize,
) -> SiteDay {
    let mut hours = Vec::new();
    let mut totals: BTreeMap<Key, u64> = BTreeMap::new();
    for hour in 0..24u8 {
        let wave = 1.0 + 0.55 * ((f64::from(hour) - 14.0) / 24.0 * std::f64::consts::TAU).cos();
        let week = if (i + 4) % 7 > 4 { 0.7 } else { 1.0 };
        for (client, weight) in weights.iter().enumerate() {
            let is_human = client == 0;
            let swing = if is_human {
                wave * week
            } else {
                1.0 + (i as f64) / 150.0
            };
            let share = *weight as f64 / 1_450.0 * swing * (0.7 + 0.6 * rng.f64());
            for (status, part) in [(2, 0.84), (3, 0.09), (4, 0.06), (5, 0.01)] {
                let exact = size as f64 * share * part;
                let count = exact as u64 + u64::from(rng.f64() < exact.fract());
                if count > 0 {
                    let key = Key {
                        client: Some(client as u32),
                        status: Some(status),
                    };
                    hours.push((hour, key, count));
                    *totals.entry(key).or_default() += count;
                }
            }
        }
    }
    let path = |rank: usize, rng: &mut Rng| match rank {
        0 => "/".to_owned(),
        1 => "/robots.txt".to_owned(),
        2 => HOSTILE_PATH.to_owned(),
        // Some are the same each day, the tail is not.
        3..200 => format!(
            "/articles/2026/{:02}/a-title-of-usual-length-{rank:04}",
            rank % 12 + 1
        ),
        _ => format!("/search?q={:06}&page={}", rng.u32(..1_000_000), rank % 9),
    };
    let agent = |rank: usize, _: &mut Rng| match rank {
        0 => HOSTILE_AGENT.to_owned(),
        _ => format!(
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
             Chrome/{}.0.0.0 Safari/537.36 Edg/{rank}.0",
            150 - rank % 90
        ),
    };
    let host = |rank: usize, _: &mut Rng| format!("www.referrer-{rank:03}.example");
    let codes = totals
        .iter()
        .fold(BTreeMap::new(), |mut codes, (key, count)| {
            let code = [200, 301, 404, 503][usize::from(key.status.unwrap() - 2)];
            *codes.entry(code).or_default() += count;
            codes
        });
    let codes = codes.into_iter().map(|(code, count): (u16, u64)| {
        let status = Some((code / 100) as u8);
        Row {
            name: code.to_string(),
            cells: vec![(
                Key {
                    client: None,
                    status,
                },
                count,
            )],
            missed: 0,
        }
    });
    let sent = totals.iter().map(|(key, count)| {
        let each = 4_000 + 7 * u64::from(key.client.unwrap());
        (*key, count * each)
    });
    let all: u64 = totals.values().sum();
    let timed = DURATIONS.map(|(ms, percent)| (bucket(ms), all * percent / 100));
    SiteDay {
        clients: clients.to_vec(),
        hours,
        bytes: sent.collect(),
        durations: timed.to_vec(),
        paths: rows(rng, &totals, names, 1, PATHS, path),
        agents: rows(rng, &totals, 200, 1, AGENTS, agent),
        hosts: rows(rng, &totals, 150, 3, HOSTS, host),
        codes: codes.collect(),
    }
}

/// `totals` over names, the first ones with the most; one in `of` requests has a name.
fn rows(
    rng: &mut Rng,
    totals: &BTreeMap<Key, u64>,
    names: usize,
    of: u64,
    limits: Limits,
    name: impl Fn(usize, &mut Rng) -> String,
) -> Vec<Row> {
    let mut rows: BTreeMap<String, BTreeMap<Key, u64>> = BTreeMap::new();
    for (key, total) in totals {
        let mut left = total / of;
        let mut rank = 0;
        while left > 0 {
            let count = (left / 8).max(1);
            let at = if rank < 40 { rank } else { rng.usize(..names) };
            let cells = rows.entry(name(at.min(names - 1), rng)).or_default();
            *cells.entry(*key).or_default() += count;
            left -= count;
            rank += 1;
        }
    }
    let rows: Vec<(&str, Vec<(Key, u64)>)> = rows
        .iter()
        .map(|(name, cells)| {
            (
                name.as_str(),
                cells.iter().map(|(key, n)| (*key, *n)).collect(),
            )
        })
        .collect();
    day::cut(
        &rows,
        |name| if name == "/robots.txt" { 3 } else { 0 },
        limits,
    )
}
