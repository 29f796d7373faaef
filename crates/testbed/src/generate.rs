//! Realistic access logs for the demo: several sites, people, search engines, AI crawlers,
//! monitors and feeds over the last two days, and a few lines that are broken in ordinary ways.

use std::fmt::Write;

use fastrand::Rng;

use crate::clock::{HOUR_MS, Millis};

/// One body for `POST /logs`.
#[derive(Clone, Debug)]
pub struct Piece {
    /// What it is, for messages about its lines.
    pub name: String,
    /// All pieces are of one file, whose line numbers say enough.
    pub in_one_file: bool,
    pub target: String,
    pub content_type: &'static str,
    pub body: Vec<u8>,
    /// Records in it, broken ones included.
    pub records: u64,
    /// Where each record stands, by index, as `line 17`.
    pub places: Vec<String>,
}

/// A log file in bodies of up to `lines` lines, blank ones left out as the gateway does.
pub fn from_file(text: &[u8], lines: usize) -> Vec<Piece> {
    let all: Vec<(usize, &[u8])> = text
        .split_inclusive(|byte| *byte == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.trim_ascii().is_empty())
        .collect();
    let cut = |(number, part): (usize, &[(usize, &[u8])])| Piece {
        name: format!("body {}", number + 1),
        in_one_file: true,
        target: "/logs".to_owned(),
        content_type: "text/plain",
        body: part.iter().flat_map(|(_, line)| *line).copied().collect(),
        records: part.len() as u64,
        places: part
            .iter()
            .map(|(line, _)| format!("line {}", line + 1))
            .collect(),
    };
    all.chunks(lines).enumerate().map(cut).collect()
}

struct Visitor {
    agent: &'static str,
    /// Share of the traffic, of a thousand.
    share: u32,
    habit: Habit,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Habit {
    /// By day, pages and what belongs to them.
    Person,
    /// Pages at any hour, and now and then robots.txt.
    Crawler,
    /// One page, again and again.
    Monitor,
    Feed,
}

const VISITORS: [Visitor; 18] = [
    person(
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0.0.0 Safari/537.36",
        230,
    ),
    person(
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
        160,
    ),
    person(
        "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0.0.0 Mobile Safari/537.36",
        110,
    ),
    person(
        "Mozilla/5.0 (X11; Linux x86_64; rv:139.0) Gecko/20100101 Firefox/139.0",
        60,
    ),
    person(
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
        80,
    ),
    crawler(
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        90,
    ),
    crawler(
        "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
        45,
    ),
    crawler(
        "Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)",
        15,
    ),
    crawler(
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
        60,
    ),
    crawler(
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; ChatGPT-User/1.0; +https://openai.com/bot",
        20,
    ),
    crawler(
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; ClaudeBot/1.0; +claudebot@anthropic.com)",
        40,
    ),
    crawler(
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; PerplexityBot/1.0; +https://perplexity.ai/perplexitybot)",
        15,
    ),
    crawler("CCBot/2.0 (https://commoncrawl.org/faq/)", 10),
    crawler(
        "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
        25,
    ),
    Visitor {
        agent: "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
        share: 15,
        habit: Habit::Monitor,
    },
    Visitor {
        agent: "Feedly/1.0 (+https://feedly.com/poller.html; 41 subscribers)",
        share: 10,
        habit: Habit::Feed,
    },
    Visitor {
        agent: "curl/8.14.1",
        share: 5,
        habit: Habit::Monitor,
    },
    Visitor {
        agent: "-",
        share: 10,
        habit: Habit::Crawler,
    },
];

const SITES: [(&str, &[&str]); 3] = [
    (
        "shop.example",
        &[
            "/",
            "/products",
            "/products/kettle",
            "/products/lamp",
            "/cart",
            "/checkout",
            "/search?q=lamp",
        ],
    ),
    (
        "news.example",
        &[
            "/",
            "/politics",
            "/science/orbits",
            "/sport",
            "/archive/2015",
            "/author/editors",
        ],
    ),
    (
        "docs.example",
        &[
            "/",
            "/install",
            "/reference/config",
            "/reference/http",
            "/tutorial/first-steps",
            "/changelog",
        ],
    ),
];
const ASSETS: [&str; 5] = [
    "/style.css",
    "/app.js",
    "/favicon.ico",
    "/logo.svg",
    "/fonts/text.woff2",
];

const fn person(agent: &'static str, share: u32) -> Visitor {
    Visitor {
        agent,
        share,
        habit: Habit::Person,
    }
}

const fn crawler(agent: &'static str, share: u32) -> Visitor {
    Visitor {
        agent,
        share,
        habit: Habit::Crawler,
    }
}

struct Visit {
    time: Millis,
    site: &'static str,
    path: String,
    agent: &'static str,
    status: u16,
    bytes: u64,
    duration_ms: u32,
    client: String,
    referer: &'static str,
}

/// About `records` records, the last of them `now`, in bodies of up to 500: log lines of one site,
/// NDJSON and JSON arrays of all sites, CSV with a header.
pub fn generate(seed: u64, records: u32, now: Millis) -> Vec<Piece> {
    let mut rng = Rng::with_seed(seed);
    let mut left = records;
    let mut pieces = Vec::new();
    while left > 0 {
        let count = rng.u32(200..=500).min(left);
        left -= count;
        let number = pieces.len() as u32;
        // The pieces follow each other through the two days, as shippers would send them.
        let done = f64::from(records - left) / f64::from(records);
        let until = now.0 - ((1.0 - done) * 47.0 * HOUR_MS as f64) as i64;
        let visits = |rng: &mut Rng, site: Option<usize>| {
            let mut visits: Vec<Visit> = (0..count)
                .map(|_| {
                    let time = Millis(until - rng.i64(0..HOUR_MS));
                    visit(rng, site, time)
                })
                .collect();
            visits.sort_by_key(|visit| visit.time);
            visits
        };
        pieces.push(match number % 6 {
            0 | 2 | 4 => log_lines(&mut rng, number, visits),
            1 | 3 => ndjson(&mut rng, number, visits),
            _ if number % 12 == 5 => csv(&mut rng, number, visits),
            _ => json_array(&mut rng, number, visits),
        });
    }
    pieces
}

fn visit(rng: &mut Rng, site: Option<usize>, time: Millis) -> Visit {
    let (site, pages) = SITES[site.unwrap_or_else(|| rng.usize(0..SITES.len()))];
    let mut ticket = rng.u32(0..VISITORS.iter().map(|visitor| visitor.share).sum());
    let mut visitor = &VISITORS[0];
    for candidate in &VISITORS {
        visitor = candidate;
        if ticket < candidate.share {
            break;
        }
        ticket -= candidate.share;
    }
    let path = match visitor.habit {
        Habit::Person if rng.u8(0..10) < 4 => ASSETS[rng.usize(0..ASSETS.len())].to_owned(),
        Habit::Crawler if rng.u8(0..20) == 0 => "/robots.txt".to_owned(),
        Habit::Monitor => "/".to_owned(),
        Habit::Feed => "/feed.xml".to_owned(),
        // The first pages of a site are read more than the last ones.
        _ if rng.u8(0..12) == 0 => format!("/p/{}", rng.u32(1..400)),
        _ => pages[rng.usize(0..pages.len()).min(rng.usize(0..pages.len()))].to_owned(),
    };
    let status = match rng.u32(0..100) {
        0..84 => 200,
        84..92 => 304,
        92..97 => 404,
        97..99 => 301,
        _ => 500,
    };
    let referer = if visitor.habit == Habit::Person && rng.bool() {
        "https://www.google.com/"
    } else {
        "-"
    };
    Visit {
        time,
        site,
        path,
        agent: visitor.agent,
        status,
        bytes: if status == 304 {
            0
        } else {
            rng.u64(200..60_000)
        },
        duration_ms: rng.u32(1..40) * rng.u32(1..12),
        client: format!("198.51.100.{}", rng.u8(1..255)),
        referer,
    }
}

/// One line in about 700 is broken.
fn breaks(rng: &mut Rng) -> bool {
    rng.u32(0..700) == 0
}

fn log_lines(
    rng: &mut Rng,
    number: u32,
    visits: impl Fn(&mut Rng, Option<usize>) -> Vec<Visit>,
) -> Piece {
    let site = number as usize / 2 % SITES.len();
    let mut body = String::new();
    let visits = visits(rng, Some(site));
    for v in &visits {
        let start = body.len();
        let _ = write!(
            body,
            r#"{} - - [{}] "GET {} HTTP/1.1" {} {} "{}" "{}""#,
            v.client,
            v.time.clf(),
            v.path,
            v.status,
            v.bytes,
            v.referer,
            v.agent
        );
        if breaks(rng) {
            // Cut off, as by a full disk or a rotation in the middle of a write.
            body.truncate(start + (body.len() - start) * 2 / 3);
        }
        body.push('\n');
    }
    piece(
        number,
        "log lines",
        format!("/logs?site={}", SITES[site].0),
        "text/plain",
        body,
        &visits,
    )
}

fn ndjson(
    rng: &mut Rng,
    number: u32,
    visits: impl Fn(&mut Rng, Option<usize>) -> Vec<Visit>,
) -> Piece {
    let visits = visits(rng, None);
    let mut body = String::new();
    for visit in &visits {
        let mut record = json(visit);
        if breaks(rng) {
            spoil(rng, &mut record);
        }
        let _ = writeln!(body, "{record}");
    }
    piece(
        number,
        "NDJSON",
        "/logs".to_owned(),
        "application/x-ndjson",
        body,
        &visits,
    )
}

fn json_array(
    rng: &mut Rng,
    number: u32,
    visits: impl Fn(&mut Rng, Option<usize>) -> Vec<Visit>,
) -> Piece {
    let visits = visits(rng, None);
    let mut records: Vec<serde_json::Value> = visits.iter().map(json).collect();
    for record in &mut records {
        if breaks(rng) {
            spoil(rng, record);
        }
    }
    let body = serde_json::Value::from(records).to_string();
    piece(
        number,
        "JSON array",
        "/logs".to_owned(),
        "application/json",
        body,
        &visits,
    )
}

fn csv(
    rng: &mut Rng,
    number: u32,
    visits: impl Fn(&mut Rng, Option<usize>) -> Vec<Visit>,
) -> Piece {
    let visits = visits(rng, None);
    let mut body = "timestamp,site,method,path,status,bytes,durationMs,userAgent\n".to_owned();
    for v in &visits {
        let time = if breaks(rng) {
            "yesterday".to_owned()
        } else {
            v.time.to_string()
        };
        let _ = writeln!(
            body,
            r#"{time},{},GET,"{}",{},{},{},"{}""#,
            v.site, v.path, v.status, v.bytes, v.duration_ms, v.agent
        );
    }
    piece(number, "CSV", "/logs".to_owned(), "text/csv", body, &visits)
}

fn piece(
    number: u32,
    kind: &str,
    target: String,
    content_type: &'static str,
    body: String,
    visits: &[Visit],
) -> Piece {
    let place = |index: usize| match content_type {
        "application/json" => format!("element {index}"),
        // Behind the header.
        "text/csv" => format!("line {}", index + 2),
        _ => format!("line {}", index + 1),
    };
    Piece {
        name: format!("body {} ({kind})", number + 1),
        in_one_file: false,
        target,
        content_type,
        body: body.into_bytes(),
        records: visits.len() as u64,
        places: (0..visits.len()).map(place).collect(),
    }
}

fn json(v: &Visit) -> serde_json::Value {
    serde_json::json!({
        "timestamp": v.time.to_string(),
        "site": v.site,
        "method": "GET",
        "path": v.path,
        "status": v.status,
        "bytes": v.bytes,
        "durationMs": v.duration_ms,
        "remoteAddr": v.client,
        "referer": v.referer,
        "userAgent": v.agent,
    })
}

/// As shippers get it wrong.
fn spoil(rng: &mut Rng, record: &mut serde_json::Value) {
    match rng.u8(0..4) {
        0 => record["timestamp"] = "17/May/2015".into(),
        1 => record["status"] = "OK".into(),
        2 => record["path"] = " ".into(),
        _ => {
            if let Some(fields) = record.as_object_mut() {
                let agent = fields.remove("userAgent").unwrap_or_default();
                fields.insert("user_agent".to_owned(), agent);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_logs() {
        let now = Millis(1_750_000_000_000);
        let (one, two) = (generate(7, 5_000, now), generate(7, 5_000, now));
        assert_eq!(one.iter().map(|piece| piece.records).sum::<u64>(), 5_000);
        assert!(one.iter().zip(&two).all(|(one, two)| one.body == two.body));
        let kinds: std::collections::HashSet<_> = one.iter().map(|p| p.content_type).collect();
        assert_eq!(kinds.len(), 4, "{kinds:?}");
    }

    #[test]
    fn a_file_is_cut_at_lines_and_keeps_their_numbers() {
        let pieces = from_file(b"a\n\nb\r\n \nc", 2);
        let bodies: Vec<_> = pieces.iter().map(|piece| piece.body.as_slice()).collect();
        assert_eq!(bodies, [b"a\nb\r\n".as_slice(), b"c"]);
        assert_eq!(pieces[0].places, ["line 1", "line 3"]);
        assert_eq!(pieces[1].places, ["line 5"]);
    }
}
