//! Summaries: what people and their tools read. Pure bytes from counts, and the way to tell which
//! manifest a file that stands there shows. The same counts always give the same bytes.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use pipeline_core::record::json;

use crate::{
    counts::{Counts, Keys, Sites},
    hour::{Day, Hour},
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
pub fn hour(hour: Hour, changed: u64, sites: &Sites<'_>) -> Vec<u8> {
    summary("hour", &format!("{hour}:00:00Z"), changed, sites)
}

/// The summary of one day; `sites` are the sums over its hours.
#[must_use]
pub fn day(day: Day, changed: u64, sites: &Sites<'_>) -> Vec<u8> {
    summary("day", &day.to_string(), changed, sites)
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

fn summary(unit: &str, time: &str, changed: u64, sites: &Sites<'_>) -> Vec<u8> {
    let mut json = Json::default();
    json.object(|json| {
        json.field(unit);
        json::append_string(time, &mut json.out);
        json.number("manifest", changed.into());
        let all = Counts::sum(sites.iter().map(|(_, counts)| counts));
        json.counts(&all);
        json.field("sites");
        json.object(|json| {
            for (site, counts) in sites {
                // Records without a site are in the totals alone.
                if let Some(site) = site {
                    json.field(site);
                    json.object(|json| json.counts(counts));
                }
            }
        });
    });
    json.out.push(b'\n');
    json.out
}

/// JSON with two blanks for each level, fields in the order they are given.
#[derive(Default)]
struct Json {
    out: Vec<u8>,
    depth: usize,
    /// Whether the object that is open has a field already.
    begun: bool,
}

impl Json {
    fn object(&mut self, fields: impl FnOnce(&mut Self)) {
        self.out.push(b'{');
        self.depth += 1;
        self.begun = false;
        fields(self);
        self.depth -= 1;
        if self.begun {
            self.line();
        }
        self.out.push(b'}');
        self.begun = true;
    }

    fn field(&mut self, name: &str) {
        if self.begun {
            self.out.push(b',');
        }
        self.begun = true;
        self.line();
        json::append_string(name, &mut self.out);
        self.out.extend_from_slice(b": ");
    }

    fn number(&mut self, name: &str, number: u128) {
        self.field(name);
        self.out.extend_from_slice(number.to_string().as_bytes());
    }

    fn keys(&mut self, name: &str, keys: &Keys<'_>) {
        self.field(name);
        self.object(|json| {
            for (key, count) in keys {
                json.number(key, (*count).into());
            }
        });
    }

    fn counts(&mut self, counts: &Counts<'_>) {
        self.number("requests", counts.requests.into());
        self.keys("requestsPerPath", &counts.paths);
        self.keys("requestsPerUserAgent", &counts.user_agents);
        if !counts.methods.is_empty() {
            self.keys("requestsPerMethod", &counts.methods);
        }
        if !counts.statuses.is_empty() {
            self.statuses(counts);
        }
        if counts.with_bytes > 0 {
            self.number("bytes", counts.bytes);
        }
    }

    fn statuses(&mut self, counts: &Counts<'_>) {
        self.field("requestsPerStatusClass");
        self.object(|json| {
            let class = |status: u16| status / 100;
            for same in counts
                .statuses
                .chunk_by(|one, other| class(one.0) == class(other.0))
            {
                let sum: u64 = same.iter().map(|(_, count)| count).sum();
                json.number(&format!("{}xx", class(same[0].0)), sum.into());
            }
        });
        self.field("requestsPerStatus");
        self.object(|json| {
            for (status, count) in &counts.statuses {
                json.number(&status.to_string(), (*count).into());
            }
        });
    }

    fn line(&mut self) {
        self.out.push(b'\n');
        self.out.resize(self.out.len() + 2 * self.depth, b' ');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sites() -> Sites<'static> {
        let one = Counts {
            requests: 3,
            with_bytes: 2,
            bytes: 512,
            statuses: vec![(200, 1), (204, 1), (404, 1)],
            methods: vec![("GET", 3)],
            paths: vec![("/", 1), ("/\"quoted\"\n", 2)],
            user_agents: vec![("-", 3)],
        };
        let bare = Counts {
            requests: 1,
            paths: vec![("/", 1)],
            user_agents: vec![("Gr\u{fc}n/1.0", 1)],
            ..Counts::default()
        };
        vec![
            (None, bare.clone()),
            (Some("a.example"), one),
            (Some("b.example"), bare),
        ]
    }

    #[test]
    fn a_summary_holds_totals_and_each_site() {
        let bytes = hour(Hour::parse("2015-05-17T10").unwrap(), 12, &sites());
        let found: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let bare = serde_json::json!({
            "requests": 1,
            "requestsPerPath": {"/": 1},
            "requestsPerUserAgent": {"Gr\u{fc}n/1.0": 1},
        });
        let expected = serde_json::json!({
            "hour": "2015-05-17T10:00:00Z",
            "manifest": 12,
            "requests": 5,
            "requestsPerPath": {"/": 3, "/\"quoted\"\n": 2},
            "requestsPerUserAgent": {"-": 3, "Gr\u{fc}n/1.0": 2},
            "requestsPerMethod": {"GET": 3},
            "requestsPerStatusClass": {"2xx": 2, "4xx": 1},
            "requestsPerStatus": {"200": 1, "204": 1, "404": 1},
            "bytes": 512,
            "sites": {
                "a.example": {
                    "requests": 3,
                    "requestsPerPath": {"/": 1, "/\"quoted\"\n": 2},
                    "requestsPerUserAgent": {"-": 3},
                    "requestsPerMethod": {"GET": 3},
                    "requestsPerStatusClass": {"2xx": 2, "4xx": 1},
                    "requestsPerStatus": {"200": 1, "204": 1, "404": 1},
                    "bytes": 512,
                },
                "b.example": bare,
            },
        });
        assert_eq!(found, expected);
        assert!(bytes.starts_with(b"{\n  \"hour\": \"2015-05-17T10:00:00Z\",\n"));
        assert!(bytes.ends_with(b"\n  }\n}\n"));
    }

    #[test]
    fn a_summary_without_sites_is_json_too() {
        let bytes = day(Day(0), 1, &vec![]);
        let found: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(found["day"], "1970-01-01");
        assert_eq!(found["sites"], serde_json::json!({}));
    }

    #[test]
    fn the_manifest_is_found_in_a_file_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("summary.json");
        assert_eq!(shown(&path), None);
        std::fs::write(&path, day(Day(16_572), 7, &sites())).unwrap();
        assert_eq!(shown(&path), Some(7));
        std::fs::write(&path, hour(Hour(3), u64::MAX, &sites())).unwrap();
        assert_eq!(shown(&path), Some(u64::MAX));
        for other in ["", "{}", "{\n  \"manifest\": x,\n", "\u{1f600}"] {
            std::fs::write(&path, other).unwrap();
            assert_eq!(shown(&path), None, "{other}");
        }
    }
}
