//! What watches the pipeline: the rules under deploy/observability, and the dashboard on a real
//! Prometheus that scrapes all three services. That all of it names only what there is,
//! pipeline-core's own tests say.

use std::{
    fs,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use testbed::{
    documents,
    http::get,
    load::Load,
    process::poll_until,
    prometheus::{self, Prometheus},
    service::Service,
    skip,
    stand::{Plan, Stand},
};

use crate::{RunDir, load};

/// How long a fresh Prometheus may take to have a rate of everything.
const DATA_WITHIN: Duration = Duration::from_secs(60);

fn deployed(path: &str) -> PathBuf {
    documents::repository()
        .join("deploy/observability")
        .join(path)
}

/// What says nothing about the broker is run on the embedded one alone.
fn is_elsewhere(test: &str) -> bool {
    let elsewhere = Plan::from_env().kafka.is_some();
    if elsewhere {
        skip::optional(test, "it is the same on every broker");
    }
    elsewhere
}

/// Whether a program of the Debian package `prometheus` is there; noted where it is not.
fn has(program: &str, test: &str) -> bool {
    let there = prometheus::has(program);
    if !there {
        let why = format!("{program} (Debian: prometheus) is not installed");
        skip::skipped(test, &why);
    }
    there
}

#[test]
fn the_rules_are_sound_and_each_does_what_its_cases_say() -> Result<()> {
    if is_elsewhere("the rules") || !has("promtool", "the rules") {
        return Ok(());
    }
    let run = |args: [&str; 2], files: &str| -> Result<()> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(deployed(files))? {
            paths.push(entry?.path());
        }
        assert!(paths.len() >= 2, "{files} has {paths:?}");
        let output = Command::new("promtool").args(args).args(paths).output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        let faults = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}{faults}");
        Ok(())
    };
    run(["check", "rules"], "rules")?;
    run(["test", "rules"], "tests")
}

#[test]
fn a_real_prometheus_reads_every_metric_and_fills_every_panel() -> Result<()> {
    if is_elsewhere("the dashboard") {
        return Ok(());
    }
    let (promtool, wanted) = (
        has("promtool", "promtool on the metrics"),
        has("prometheus", "the dashboard on a real Prometheus"),
    );
    if !promtool && !wanted {
        return Ok(());
    }
    let dir = RunDir::new("observability");
    let mut stand = Stand::up(&dir, Plan::from_env())?;
    let config = fs::read_to_string(deployed("prometheus.yml"))?;
    let rules = deployed("rules").canonicalize()?.join("*.yml");
    let prometheus = wanted
        .then(|| Prometheus::start(&config, &rules, &stand))
        .transpose()?;
    // It goes on, as what is over has no rate.
    let gentle = testbed::load::Plan {
        rate: Some(500),
        ..load(62)
    };
    let load = Load::start(&stand.addresses, gentle);
    if promtool {
        for service in stand.services() {
            check_metrics(service)?;
        }
    }
    let Some(mut prometheus) = prometheus else {
        return dir.passed();
    };
    let mut empty = queries()?;
    assert!(empty.len() > 60, "{} queries", empty.len());
    let filled = poll_until(DATA_WITHIN, || {
        let mut still = Vec::new();
        for (panel, query) in empty.drain(..) {
            if prometheus.query(&query)?.is_empty() {
                still.push((panel, query));
            }
        }
        empty = still;
        Ok(empty.is_empty().then_some(()))
    })?;
    assert!(filled.is_some(), "no data: {empty:#?}");
    load.stop();
    dir.passed()
}

fn check_metrics(service: &Service) -> Result<()> {
    let text = get(service.admin, "/metrics")?.body;
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().context("a standard input")?;
    input.write_all(&text)?;
    drop(input);
    let output = child.wait_with_output()?;
    // 3 would be a remark on style: there is none, and none is allowed.
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(
        output.status.success() && said.is_empty(),
        "{}: {said}",
        service.name
    );
    Ok(())
}

/// What the panels ask, as Grafana would send it.
fn queries() -> Result<Vec<(String, String)>> {
    let text = fs::read_to_string(deployed("grafana/sluice.json"))?;
    let dashboard: serde_json::Value = serde_json::from_str(&text)?;
    let panels = dashboard["panels"].as_array().context("panels")?;
    let mut queries = Vec::new();
    for panel in panels {
        let title = panel["title"].as_str().context("a title")?;
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expr = target["expr"].as_str().context("an expression")?;
            let expr = expr.replace("$__rate_interval", "30s");
            assert!(!expr.contains('$'), "{title}: {expr}");
            queries.push((title.to_owned(), expr));
        }
    }
    Ok(queries)
}
