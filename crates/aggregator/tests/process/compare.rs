//! Every number of every summary beside what DuckDB computes of the same records, raw and archived:
//! bot classes included. `cargo xtask counts compare` does the same at full size.

use aggregator::bots::{Class, Classifier};
use serde_json::json;
use testbed::duckdb::{self, Check};

use super::*;

const AGENTS: [&str; 9] = [
    "-",
    "curl/8.5.0",
    "\"quoted\" \u{e9}",
    "Mozilla/5.0 (X11; Linux x86_64; rv:139.0) Gecko/20100101 Firefox/139.0",
    "Mozilla/5.0 (Linux; Android 6.0; CUBOT NOTE S) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/80.0.3987.99 Mobile Safari/537.36",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "Mozilla/5.0 (compatible; SomethingNew-Crawler/0.1)",
];

/// Over four days and three sites; some have no more than they must.
fn line(rng: &mut fastrand::Rng) -> String {
    let pick = |rng: &mut fastrand::Rng, of: &[&str]| of[rng.usize(..of.len())].to_owned();
    let time = format!(
        "2015-05-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        rng.u8(14..18),
        rng.u8(..10),
        rng.u8(..60),
        rng.u8(..60),
        rng.u16(..1000)
    );
    let mut line = json!({
        "timestamp": time,
        "path": format!("/p{}?q={}", rng.u8(..12), rng.u8(..3)),
        "userAgent": pick(rng, &AGENTS),
        "more": [rng.u8(..3)],
    });
    if rng.u8(..4) > 0 {
        line["site"] = pick(rng, &["a.example", "b.example", "c.example"]).into();
    }
    if rng.u8(..6) > 0 {
        line["method"] = pick(rng, &["GET", "POST", "HEAD"]).into();
        line["status"] = [200, 204, 301, 404, 500, 503][rng.usize(..6)].into();
        line["bytes"] = rng.u32(..50_000).into();
        line["referer"] = pick(rng, &["-", "https://r.example/x", "http://S.example:8080/"]).into();
    }
    if rng.bool() {
        line["durationMs"] = (f64::from(rng.u32(..80_000)) / 8.0).into();
    }
    line.to_string()
}

fn class(agent: &str) -> Value {
    let classifier = Classifier::shared();
    let (class, bot) = match classifier.classify(agent) {
        Class::Human => ("human", None),
        Class::Unknown => ("unknown", None),
        Class::Empty => ("empty", None),
        Class::Bot(id) => ("bot", Some(classifier.bot(id))),
    };
    let name = bot.map(|bot| bot.name.to_string()).unwrap_or_default();
    let operator = bot.and_then(|bot| bot.operator.as_deref());
    let purpose = bot.map(|bot| bot.purpose.to_string()).unwrap_or_default();
    json!({
        "agent": agent, "class": class, "name": name, "operator": operator.unwrap_or_default(),
        "purpose": purpose,
    })
}

#[test]
fn every_number_is_what_duckdb_computes_of_the_raw_records_and_of_the_archive() {
    if !duckdb::is_there() {
        testbed::skip::skipped("the summaries beside DuckDB", "no python3 with duckdb");
        return;
    }
    let place = Place::new();
    let path = place.dir.path().join("config.yaml");
    let config = fs::read_to_string(&path).unwrap();
    let config = config.replace("interval: 20ms", "interval: 20ms\n  archiveAfter: 0ms");
    fs::write(&path, config).unwrap();
    let mut rng = fastrand::Rng::with_seed(81);
    let (mut ndjson, mut stored) = (String::new(), 0);
    // The second and the third run find hours that were counted and archived before.
    for _ in 0..3 {
        for _ in 0..4 {
            let lines: Vec<String> = (0..150).map(|_| line(&mut rng)).collect();
            place.store_lines(&lines);
            stored += lines.len();
            ndjson.extend(lines.iter().map(|line| format!("{line}\n")));
        }
        let output = place.output(&["--once"]);
        assert!(output.status.success(), "{output:?}");
    }
    let raw = place.dir.path().join("records.ndjson");
    fs::write(&raw, ndjson).unwrap();
    let classes = place.dir.path().join("classes.ndjson");
    let lines = AGENTS.map(|agent| format!("{}\n", class(agent)));
    fs::write(&classes, lines.concat()).unwrap();
    for records in [raw, place.data().join("archive")] {
        let check = Check {
            records: &records,
            analytics: &place.data().join("analytics"),
            classes: Some(&classes),
            progress: false,
        };
        let said = check.run().unwrap();
        let all = format!(" numbers of {stored} records");
        assert!(said.contains(&all), "{}: {said}", records.display());
    }
}
