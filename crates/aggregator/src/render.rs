//! Summaries: what people and their tools read. Pure bytes from counts, and the way to tell which
//! manifest a file that stands there shows. The same counts always give the same bytes.

mod json;

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use self::json::Json;
use crate::{
    client::{Client, StatusClass},
    counts::{Content, Counts, Site, Traffic},
    hour::{Day, Hour},
    sketch,
    table::{Table, coalesce},
};

/// `<analyticsDir>/2015-05-17/summary_10.json`
#[must_use]
pub fn hour_path(analytics: &Path, hour: Hour) -> PathBuf {
    day_dir(analytics, hour.day()).join(format!("summary_{:02}.json", hour.of_day()))
}

/// `<analyticsDir>/2015-05-17/summary.json`
#[must_use]
pub fn day_path(analytics: &Path, day: Day) -> PathBuf {
    day_dir(analytics, day).join("summary.json")
}

#[must_use]
pub fn day_dir(analytics: &Path, day: Day) -> PathBuf {
    analytics.join(day.to_string())
}

/// The summary of one hour, last changed by manifest `changed`.
#[must_use]
pub fn hour(hour: Hour, changed: u64, content: &Content<'_>) -> Vec<u8> {
    summary("hour", &format!("{hour}:00:00Z"), changed, content)
}

/// The summary of one day; `content` is the sum over its hours.
#[must_use]
pub fn day(day: Day, changed: u64, content: &Content<'_>) -> Vec<u8> {
    summary("day", &day.to_string(), changed, content)
}

/// The manifest that the summary at `path` shows; `None` where it is missing or unreadable.
#[must_use]
pub fn shown(path: &Path) -> Option<u64> {
    // It stands among the first fields: no need to read what may be large.
    let mut head = [0; 128];
    let mut len = 0;
    let mut file = File::open(path).ok()?;
    while len < head.len() {
        match file.read(&mut head[len..]).ok()? {
            0 => break,
            read => len += read,
        }
    }
    let head = std::str::from_utf8(&head[..len]).ok()?;
    let (_, number) = head.split_once("\n  \"manifest\": ")?;
    number.split_once(",\n")?.0.parse().ok()
}

/// Where a dimension's keys are not all kept, the rest is under this name.
const OTHER: &str = "other";
const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)];

fn summary(unit: &str, time: &str, changed: u64, content: &Content<'_>) -> Vec<u8> {
    let mut json = Json::default();
    json.object(|json| {
        json.text(unit, time);
        json.number("manifest", changed.into());
        json.field("classification");
        json.list(&content.classifications);
        counts(json, content, &content.total());
        json.field("sites");
        json.object(|json| {
            for (site, of_site) in &content.sites {
                // Records without a site are in the totals alone.
                if let Site::Named(site) = site {
                    json.field(site);
                    json.object(|json| counts(json, content, of_site));
                }
            }
        });
        if content.sites_error_max > 0 {
            json.number("sitesErrorMax", content.sites_error_max.into());
        }
        for (site, of_site) in &content.sites {
            if *site == Site::Other {
                json.field("otherSites");
                json.object(|json| counts(json, content, of_site));
            }
        }
    });
    json.end()
}

fn counts(json: &mut Json, content: &Content<'_>, counts: &Counts<'_>) {
    let total = counts.total();
    json.number("requests", total.requests.into());
    table(json, "requestsPerPath", &counts.paths);
    table(json, "requestsPerUserAgent", &counts.user_agents);
    clients(json, content, counts);
    for (name, of) in &counts.tables()[2..] {
        if of.requests() > 0 {
            table(json, name, of);
        }
    }
    if !counts.statuses.is_empty() {
        let classes = counts
            .statuses
            .iter()
            .map(|(status, count)| (status / 100, *count));
        status_classes(json, coalesce(classes.collect()));
        json.field("requestsPerStatus");
        json.object(|json| {
            for (status, count) in &counts.statuses {
                json.number(&status.to_string(), (*count).into());
            }
        });
    }
    if total.with_bytes > 0 {
        json.number("bytes", total.bytes);
    }
    if counts.durations.count() > 0 {
        json.field("durationMs");
        json.object(|json| {
            json.number("requests", counts.durations.count().into());
            for (name, q) in QUANTILES {
                json.float(name, counts.durations.quantile(q).unwrap_or_default());
            }
            json.float("relativeError", sketch::RELATIVE_ERROR);
        });
    }
    json.field("accuracy");
    json.object(|json| {
        for (name, table) in counts.tables() {
            json.field(name);
            json.object(|json| {
                json.flag("exact", table.is_exact());
                if !table.is_exact() {
                    json.number("other", table.other.into());
                    json.number("errorMax", table.error_max.into());
                }
            });
        }
    });
}

#[derive(Default)]
struct OfBot {
    total: Traffic,
    classes: Vec<(u16, u64)>,
}

fn clients(json: &mut Json, content: &Content<'_>, counts: &Counts<'_>) {
    let mut kinds = BTreeMap::from([("human", 0), ("bot", 0), ("unknown", 0), ("empty", 0)]);
    let mut bots: BTreeMap<&str, OfBot> = BTreeMap::new();
    for ((_, client, StatusClass(class)), traffic) in &counts.traffic {
        *kinds.entry(client.kind()).or_default() += traffic.requests;
        if let Client::Bot(name) = client {
            let of_bot = bots.entry(name).or_default();
            of_bot.total += *traffic;
            if *class > 0 {
                of_bot.classes.push((u16::from(*class), traffic.requests));
            }
        }
    }
    json.field("requestsPerClient");
    json.object(|json| {
        for kind in ["human", "bot", "unknown", "empty"] {
            json.number(kind, kinds[kind].into());
        }
    });
    json.field("requestsPerBot");
    json.object(|json| {
        for (name, OfBot { total, classes }) in bots {
            json.field(name);
            json.object(|json| {
                if let Some(bot) = content.bot(name) {
                    // Not written down by anybody.
                    if bot.operator.is_empty() {
                        json.null("operator");
                    } else {
                        json.text("operator", bot.operator);
                    }
                    json.text("purpose", bot.purpose);
                }
                json.number("requests", total.requests.into());
                if !classes.is_empty() {
                    status_classes(json, coalesce(classes));
                }
                if total.with_bytes > 0 {
                    json.number("bytes", total.bytes);
                }
            });
        }
    });
}

fn status_classes(json: &mut Json, classes: Vec<(u16, u64)>) {
    json.field("requestsPerStatusClass");
    json.object(|json| {
        for (class, count) in classes {
            json.number(&format!("{class}xx"), count.into());
        }
    });
}

fn table(json: &mut Json, name: &str, table: &Table<'_>) {
    let keys = table.keys().map(|rows| {
        let sum: u64 = rows.iter().map(|(_, count)| count).sum();
        (rows[0].0.key, sum)
    });
    let mut counts: Vec<(&str, u64)> = keys.collect();
    if table.other > 0 {
        // A key of that very name is not told apart from it.
        counts.push((OTHER, table.other));
        counts = coalesce(counts);
    }
    json.field(name);
    json.object(|json| {
        for (key, count) in counts {
            json.number(key, count.into());
        }
    });
}

#[cfg(test)]
mod tests;
