//! `aggregator top` on summaries that the same binary has made: each row, each number and each
//! error bound is that of the summary.

use std::{collections::BTreeMap, fs};

use serde_json::{Value, json};

use crate::Place;

/// More distinct paths and agents than are kept apart for a site.
const KEYS_MAX: usize = 6;
const SITES: [&str; 3] = ["a.example", "b.example", ""];
const BOTS: [&str; 3] = [
    "Mozilla/5.0 (compatible; GPTBot/1.2; +https://openai.com/gptbot)",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "curl/8.14.1",
];

fn counted() -> Place {
    let place = Place::new();
    let config = place.dir.path().join("config.yaml");
    let begun = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{begun}  maxKeysPerHour: {KEYS_MAX}\n")).unwrap();
    let mut rng = fastrand::Rng::with_seed(11);
    let mut lines = Vec::new();
    for number in 0..600 {
        let site = SITES[rng.usize(..3)];
        let agent = match rng.u8(..3) {
            0 => BOTS[rng.usize(..3)].to_owned(),
            1 => format!("Mozilla/5.0 (X11) Gecko/1 Firefox/{}.0", rng.u8(..9)),
            _ => "-".to_owned(),
        };
        // b.example stays below the bound.
        let paths = if site == "b.example" { 5 } else { 30 };
        let mut line = json!({
            "timestamp": format!("2015-05-17T{:02}:05:03Z", 9 + rng.u8(..3)),
            "path": format!("/{}\u{1b}[2J", rng.usize(..paths).min(rng.usize(..paths))),
            "userAgent": agent,
        });
        if !site.is_empty() {
            line["site"] = json!(site);
        }
        lines.push(line.to_string());
        // In several runs, so that what was dropped comes again.
        if number % 200 == 199 {
            place.store_lines(&lines);
            lines.clear();
            assert_eq!(place.output(&["--once"]).status.code(), Some(0));
        }
    }
    place
}

/// What `top` must say of `counts`, a summary or what one holds of a site.
fn expected(by: &str, whole: &Value, site: Option<&str>) -> Value {
    let counts = site.map_or(whole, |site| &whole["sites"][site]);
    let field = match by {
        "path" => "requestsPerPath",
        "agent" => "requestsPerUserAgent",
        "bot" => "requestsPerBot",
        _ => "sites",
    };
    let of = if by == "site" { whole } else { counts };
    let mut rows: Vec<Value> = of[field]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(key, _)| by != "site" || site.is_none_or(|site| site == *key))
        .map(|(key, value)| match by {
            "bot" => json!({
                "bot": key,
                "requests": value["requests"],
                "operator": value["operator"],
                "purpose": value["purpose"],
            }),
            "site" => json!({"site": key, "requests": value["requests"]}),
            _ => json!({by: key, "requests": value}),
        })
        .collect();
    let rank = |row: &Value| {
        let requests = row["requests"].as_u64().unwrap();
        (
            std::cmp::Reverse(requests),
            row[by].as_str().unwrap().to_owned(),
        )
    };
    rows.sort_by_key(rank);
    let accuracy = &counts["accuracy"][field];
    let or = |value: &Value, default: Value| {
        if value.is_null() {
            default
        } else {
            value.clone()
        }
    };
    json!({
        "site": site,
        "by": by,
        "requests": counts["requests"],
        "requestsPerClient": counts["requestsPerClient"],
        "keys": rows.len(),
        "exact": or(&accuracy["exact"], json!(true)),
        "errorMax": or(&accuracy["errorMax"], json!(0)),
        "other": or(&accuracy["other"], json!(0)),
        "rows": rows,
    })
}

#[test]
fn top_says_what_the_summaries_say() {
    let place = counted();
    let day = place.data().join("analytics/2015-05-17");
    let (mut exact, mut bounded) = (0, 0);
    for (unit, time, file) in [
        ("hour", "2015-05-17T10", "summary_10.json"),
        ("day", "2015-05-17", "summary.json"),
    ] {
        let bytes = fs::read(day.join(file)).unwrap();
        let summary: Value = serde_json::from_slice(&bytes).unwrap();
        for by in ["path", "agent", "bot", "site"] {
            for site in [None, Some("a.example"), Some("b.example")] {
                let unit_word = format!("--{unit}");
                let mut words = vec!["top", "--by", by, &unit_word, time, "--limit", "1000"];
                words.extend(site.into_iter().flat_map(|site| ["--site", site]));
                let mut right = expected(by, &summary, site);
                right[unit] = json!(time);
                let found = said(&place, &[&words[..], &["--json"]].concat());
                let found: Value = serde_json::from_str(&found).unwrap();
                assert_eq!(found, right, "{words:?}");
                if right["exact"] == true {
                    exact += 1;
                } else {
                    bounded += 1;
                }
                assert_table(&said(&place, &words), &right, by);
            }
        }
    }
    assert!(exact > 5 && bounded > 5, "{exact} {bounded}");
    let missing = place.output(&["top", "--day", "2015-05-18"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(missing.stdout.is_empty());
}

fn said(place: &Place, words: &[&str]) -> String {
    let output = place.output(words);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{words:?}: {failed}");
    String::from_utf8(output.stdout).unwrap()
}

/// That the table for people has the same rows, and says the same of how exact they are.
fn assert_table(table: &str, right: &Value, by: &str) {
    assert!(!table.contains('\u{1b}'), "a log steers the terminal");
    let head = format!(": {} requests", right["requests"]);
    assert!(table.lines().next().unwrap().contains(&head), "{table}");
    let lines: BTreeMap<String, &str> = table
        .lines()
        .skip(3)
        .take_while(|line| !line.is_empty())
        .map(|line| (line.rsplit("  ").next().unwrap().trim().to_owned(), line))
        .collect();
    let rows = right["rows"].as_array().unwrap();
    assert_eq!(lines.len(), rows.len(), "{table}");
    for row in rows {
        let key = row[by].as_str().unwrap().replace('\u{1b}', "\\u{1b}");
        let line = lines
            .get(&key)
            .unwrap_or_else(|| panic!("{key} in {table}"));
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(cells[0], row["requests"].to_string(), "{line}");
        for field in ["operator", "purpose"] {
            if let Some(text) = row[field].as_str() {
                assert!(line.contains(text), "{line}");
            }
        }
    }
    let bound = format!("may be too low by up to {};", right["errorMax"]);
    assert_eq!(table.contains(&bound), right["exact"] == false, "{table}");
}
