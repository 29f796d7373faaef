//! What stands under deploy/observability and in docs/runbook.md, held against the catalog: no rule
//! and no panel asks for a metric, a label or a value that is not there, and each alert has its
//! cases and its section. Whether the rules do what they should is promtool's to say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use serde_json::Value;

use super::catalog::{ALL, Kind, Label, Metric};
use crate::{config::reference::file, documents::anchors};

const RULES: [&str; 2] = ["alerts", "books"];
/// Of whatever scrapes: they say where a series is from.
const TARGET_LABELS: [&str; 2] = ["job", "instance"];
const SEVERITIES: [&str; 2] = ["page", "ticket"];

fn yaml(path: &str) -> Value {
    let text = fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All rules, recording and alerting.
fn rules() -> Vec<Value> {
    let files = RULES.map(|name| yaml(&format!("deploy/observability/rules/{name}.yml")));
    let groups = files.iter().flat_map(|file| list(&file["groups"]));
    groups.flat_map(|group| list(&group["rules"])).collect()
}

fn alerts() -> Vec<Value> {
    let mut rules = rules();
    rules.retain(|rule| rule["alert"].is_string());
    assert!(rules.len() > 20, "{} alerts", rules.len());
    rules
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn text(value: &Value) -> String {
    let text = value.as_str();
    text.unwrap_or_else(|| panic!("{value} is no text"))
        .to_owned()
}

/// Panels and the rows they stand in, in order.
fn panels() -> Vec<Value> {
    let path = "deploy/observability/grafana/sluice.json";
    let text = fs::read_to_string(file(path)).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    list(&dashboard["panels"])
}

/// A series that an expression names: the metric, and its matchers (label, values).
type Named = (String, Vec<(String, Vec<String>)>);

/// The series of a PromQL expression. As much of the language as we write: no comments, and every
/// name that is not a function, a keyword or within `by (…)` is a metric's.
fn named(expr: &str) -> Vec<Named> {
    let expr = without_groupings(expr);
    let mut found = Vec::new();
    let mut rest = expr.as_str();
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '"') {
        rest = &rest[start..];
        if let Some(text) = rest.strip_prefix('"') {
            rest = text.split_once('"').unwrap().1;
            continue;
        }
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
            .unwrap_or(rest.len());
        let name = &rest[..end];
        let before_it = expr.len() - rest.len();
        let in_number = expr[..before_it].ends_with(|c: char| c.is_ascii_digit());
        rest = &rest[end..];
        let is_call = rest.trim_start().starts_with('(');
        let keyword = ["and", "or", "unless", "offset", "bool"].contains(&name);
        let matchers = match rest.strip_prefix('{').and_then(|it| it.split_once('}')) {
            Some((inside, behind)) => {
                rest = behind;
                matchers(inside)
            }
            None => Vec::new(),
        };
        if !is_call && !keyword && !in_number {
            found.push((name.to_owned(), matchers));
        }
    }
    found
}

/// `by (…)` and its like are of labels; durations in brackets of neither.
fn without_groupings(expr: &str) -> String {
    let mut out = expr.replace('\n', " ");
    for (word, close) in [("by (", ')'), ("on (", ')'), ("[", ']')] {
        while let Some(start) = out.find(word) {
            let end = start + out[start..].find(close).unwrap();
            out.replace_range(start..=end, "");
        }
    }
    out
}

fn matchers(inside: &str) -> Vec<(String, Vec<String>)> {
    let each = inside.split("\",").filter(|it| !it.trim().is_empty());
    each.map(|matcher| {
        let (label, values) = matcher.split_once('"').unwrap();
        let label = label.trim_end_matches(['=', '!', '~']).trim();
        let values = values.trim_end_matches('"').split('|');
        (label.to_owned(), values.map(str::to_owned).collect())
    })
    .collect()
}

#[test]
fn an_expression_is_read_as_prometheus_reads_it() {
    let expr = "sum by (le, code) (rate(a_total{code=~\"x|y\",job=\"j\"}[5m] offset 30s))\n\
                / on () b:c:sum30s > 1e3 unless \"d\" == time()";
    let expected: Vec<Named> = vec![
        (
            "a_total".to_owned(),
            vec![
                ("code".to_owned(), vec!["x".to_owned(), "y".to_owned()]),
                ("job".to_owned(), vec!["j".to_owned()]),
            ],
        ),
        ("b:c:sum30s".to_owned(), Vec::new()),
    ];
    assert_eq!(named(expr), expected);
}

/// The metric that a sample of this name belongs to.
fn metric_of(name: &str) -> Option<&'static Metric> {
    ALL.iter().find(|metric| match metric.kind {
        Kind::Histogram(_) => name
            .strip_prefix(metric.name)
            .is_some_and(|rest| ["_bucket", "_count", "_sum"].contains(&rest)),
        _ => metric.name == name,
    })
}

fn check(at: &str, expr: &str, recorded: &BTreeSet<String>) {
    for (name, matchers) in named(expr) {
        let metric = metric_of(&name);
        let known = metric.is_some()
            || recorded.contains(&name)
            || ["up", "ALERTS"].contains(&name.as_str());
        assert!(known, "{at}: there is no metric {name}");
        let Some(metric) = metric else { continue };
        for (label, values) in matchers {
            if TARGET_LABELS.contains(&label.as_str()) {
                continue;
            }
            assert!(
                metric.labels().contains(&label.as_str()),
                "{at}: {name} has no label {label}"
            );
            if let Some(Label::Enum { values: all, .. }) = metric.label {
                for value in values {
                    assert!(
                        all().contains(&value.as_str()),
                        "{at}: {name} has no {label} {value}"
                    );
                }
            }
        }
    }
}

fn recorded() -> BTreeSet<String> {
    let rules = rules();
    let names = rules.iter().filter_map(|rule| rule["record"].as_str());
    names.map(str::to_owned).collect()
}

#[test]
fn every_rule_is_about_metrics_labels_and_values_that_there_are() {
    let recorded = recorded();
    for rule in rules() {
        let name = rule["alert"].as_str().or(rule["record"].as_str());
        check(name.unwrap(), &text(&rule["expr"]), &recorded);
    }
}

#[test]
fn every_panel_is_about_metrics_that_there_are_and_says_its_unit_and_what_it_shows() {
    let recorded = recorded();
    let mut shown = 0;
    for panel in panels() {
        let title = text(&panel["title"]);
        if panel["type"] == "row" {
            continue;
        }
        shown += 1;
        assert!(text(&panel["description"]).ends_with('.'), "{title}");
        assert!(
            panel["fieldConfig"]["defaults"]["unit"].is_string(),
            "{title}"
        );
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let targets = list(&panel["targets"]);
        assert!(!targets.is_empty(), "{title}");
        for target in targets {
            check(&title, &text(&target["expr"]), &recorded);
        }
    }
    assert!(shown > 40, "{shown} panels");
}

#[test]
fn each_alert_says_how_bad_it_is_and_links_to_its_section_of_the_runbook() {
    let runbook = fs::read_to_string(file("docs/runbook.md")).unwrap();
    let anchors = anchors(&runbook);
    for alert in alerts() {
        let name = text(&alert["alert"]);
        let severity = text(&alert["labels"]["severity"]);
        assert!(SEVERITIES.contains(&severity.as_str()), "{name}");
        for words in ["summary", "description"] {
            assert!(alert["annotations"][words].is_string(), "{name}: {words}");
        }
        let anchor = name.to_lowercase();
        let url = text(&alert["annotations"]["runbook_url"]);
        assert_eq!(url, format!("docs/runbook.md#{anchor}"), "{name}");
        assert!(anchors.contains(&anchor), "the runbook has no ### {name}");
        let section = runbook.split(&format!("### {name}\n")).nth(1).unwrap();
        let section = section.split("\n#").next().unwrap();
        for part in [format!("**Means**: {severity}."), "**Confirm**".into()] {
            assert!(section.contains(&part), "{name}: {part}");
        }
        for part in ["**Do**", "**Over**"] {
            assert!(section.contains(part), "{name}: {part}");
        }
    }
}

#[test]
fn each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() {
    let mut cases: BTreeMap<String, [bool; 2]> = BTreeMap::new();
    for name in RULES {
        let tests = list(&yaml(&format!("deploy/observability/tests/{name}.yml"))["tests"]);
        for case in tests
            .iter()
            .flat_map(|test| list(&test["promql_expr_test"]))
        {
            let expr = text(&case["expr"]);
            let Some(alert) = expr.split("alertname=\"").nth(1) else {
                continue;
            };
            let alert = alert.split('"').next().unwrap().to_owned();
            let fires = !list(&case["exp_samples"]).is_empty();
            assert!(!fires || expr.contains("alertstate=\"firing\""), "{expr}");
            cases.entry(alert).or_default()[usize::from(fires)] = true;
        }
    }
    for alert in alerts() {
        let name = text(&alert["alert"]);
        assert_eq!(cases.get(&name), Some(&[true, true]), "{name}");
    }
}
