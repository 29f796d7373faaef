//! A second count of what was put into a store, which knows nothing of the aggregator's ways.

use super::*;

impl World {
    /// That each record put is counted once, and that nothing else is left.
    pub(super) fn assert_counted(&self) {
        let (mut found, expected) = (self.found(), self.expected());
        for (file, found) in &mut found {
            snap(found, expected.get(file).unwrap_or(&Value::Null));
        }
        let files = found.keys().chain(expected.keys());
        for file in files.collect::<std::collections::BTreeSet<_>>() {
            assert_eq!(found.get(file), expected.get(file), "{file}");
        }
        let manifest = self.manifest();
        assert_eq!(manifest["counted"], json!(self.put.len()));
        assert_eq!(manifest["aside"], json!(self.aside));
    }

    /// What the summaries must hold, by their path below `analytics`, without `manifest`.
    pub(super) fn expected(&self) -> BTreeMap<String, Value> {
        let mut files: BTreeMap<String, Vec<&Put>> = BTreeMap::new();
        for record in &self.put {
            let time = pipeline_core::record::timestamp::format_utc(record.hour_ms);
            let (day, hour) = (&time[..10], &time[11..13]);
            for file in [
                format!("{day}/summary_{hour}.json"),
                format!("{day}/summary.json"),
            ] {
                files.entry(file).or_default().push(record);
            }
        }
        files
            .into_iter()
            .map(|(file, records)| {
                let mut summary = count(&records);
                let time = pipeline_core::record::timestamp::format_utc(records[0].hour_ms);
                if file.ends_with("/summary.json") {
                    summary.insert("day".to_owned(), json!(&time[..10]));
                } else {
                    summary.insert("hour".to_owned(), json!(format!("{}:00:00Z", &time[..13])));
                }
                let mut sites = Map::new();
                for site in ["a.example", "b.example"] {
                    let of_site: Vec<&Put> = records
                        .iter()
                        .copied()
                        .filter(|record| record.site.as_deref() == Some(site))
                        .collect();
                    if !of_site.is_empty() {
                        sites.insert(site.to_owned(), Value::Object(count(&of_site)));
                    }
                }
                summary.insert("sites".to_owned(), Value::Object(sites));
                (file, Value::Object(summary))
            })
            .collect()
    }
}

fn count(records: &[&Put]) -> Map<String, Value> {
    let tally = |of: &dyn Fn(&Put) -> Option<String>| {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for key in records.iter().filter_map(|record| of(record)) {
            *counts.entry(key).or_default() += 1;
        }
        counts
    };
    let rest =
        |of: fn(&Rest) -> Option<String>| tally(&move |record: &Put| of(record.rest.as_ref()?));
    let mut summary = Map::new();
    summary.insert("requests".to_owned(), json!(records.len()));
    let of_kind = |kind: &str| {
        let (agent, _) = AGENTS.iter().find(|(_, of)| *of == kind).unwrap();
        let records = records.iter().filter(|record| record.agent == *agent);
        records.copied().collect::<Vec<&Put>>()
    };
    let mut clients = Map::new();
    for (_, kind) in AGENTS {
        clients.insert(kind.to_owned(), json!(of_kind(kind).len()));
    }
    summary.insert("requestsPerClient".to_owned(), Value::Object(clients));
    let mut bots = Map::new();
    let bot = of_kind("bot");
    if !bot.is_empty() {
        let mut counts =
            json!({"operator": "OpenAI", "purpose": "ai-training", "requests": bot.len()});
        let mut classes: BTreeMap<String, u64> = BTreeMap::new();
        let mut bytes = None;
        for rest in bot.iter().filter_map(|record| record.rest.as_ref()) {
            *classes
                .entry(format!("{}xx", rest.status / 100))
                .or_default() += 1;
            *bytes.get_or_insert(0) += rest.bytes;
        }
        if let Some(bytes) = bytes {
            counts["requestsPerStatusClass"] = json!(classes);
            counts["bytes"] = json!(bytes);
        }
        bots.insert("GPTBot".to_owned(), counts);
    }
    summary.insert("requestsPerBot".to_owned(), Value::Object(bots));
    let mut accuracy = Map::new();
    for (name, counts) in [
        (
            "requestsPerPath",
            tally(&|record| Some(record.path.clone())),
        ),
        (
            "requestsPerUserAgent",
            tally(&|record| Some(record.agent.clone())),
        ),
        ("requestsPerMethod", rest(|rest| Some(rest.method.clone()))),
        (
            "requestsPerReferringHost",
            rest(|rest| rest.referring_host.clone()),
        ),
        (
            "requestsPerStatusClass",
            rest(|rest| Some(format!("{}xx", rest.status / 100))),
        ),
        (
            "requestsPerStatus",
            rest(|rest| Some(rest.status.to_string())),
        ),
    ] {
        if !name.contains("Status") {
            accuracy.insert(name.to_owned(), json!({"exact": true}));
        }
        if !counts.is_empty() {
            summary.insert(name.to_owned(), json!(counts));
        }
    }
    summary.insert("accuracy".to_owned(), Value::Object(accuracy));
    let rests: Vec<&Rest> = records.iter().filter_map(|r| r.rest.as_ref()).collect();
    if !rests.is_empty() {
        let bytes: u64 = rests.iter().map(|rest| rest.bytes).sum();
        summary.insert("bytes".to_owned(), json!(bytes));
        let mut durations: Vec<f64> = rests.iter().map(|rest| rest.duration_ms).collect();
        durations.sort_by(f64::total_cmp);
        let quantile = |percent: usize| {
            let rank = (percent * durations.len()).div_ceil(100);
            json!(durations[rank.max(1) - 1])
        };
        summary.insert(
            "durationMs".to_owned(),
            json!({
                "requests": durations.len(),
                "p50": quantile(50),
                "p90": quantile(90),
                "p99": quantile(99),
                "relativeError": 0.01,
            }),
        );
    }
    summary
}

/// Where a quantile of `found` is within its stated error, it becomes the right one.
fn snap(found: &mut Value, right: &Value) {
    let (Value::Object(found), Value::Object(right)) = (found, right) else {
        return;
    };
    for (name, found) in found {
        let Some(right) = right.get(name) else {
            continue;
        };
        if name == "durationMs" {
            for quantile in ["p50", "p90", "p99"] {
                let (one, other) = (found[quantile].as_f64(), right[quantile].as_f64());
                let (one, other) = (one.unwrap(), other.unwrap());
                if (one - other).abs() <= 0.01 * other {
                    found[quantile] = right[quantile].clone();
                }
            }
        }
        snap(found, right);
    }
}
