//! Writes docs/metrics.md from the catalog, and checks that what stands in the repository is the
//! same. To write it anew: `UPDATE_DOCS=1 cargo test -p pipeline-core telemetry::reference`.

use std::fmt::Write;

use super::catalog::{ALL, Kind, Label, Metric, Service};
use crate::config::reference::agrees;

#[test]
fn the_page_of_the_metrics_says_what_the_catalog_says() {
    let again = "UPDATE_DOCS=1 cargo test -p pipeline-core telemetry::reference";
    agrees("docs/metrics.md", &page(), again);
}

fn page() -> String {
    let mut out = String::from(
        "# Metrics\n\n\
         <!-- Written from crates/pipeline-core/src/telemetry/catalog.rs by \
         `UPDATE_DOCS=1 cargo test -p pipeline-core telemetry::reference`. -->\n\n\
         Each service answers `GET /metrics` on its `adminAddr`, in Prometheus' text format. Each \
         metric is there from the start, at zero for each value of its label; only partitions are \
         learnt while running. Counters begin at zero with each process; what says \"since the \
         store's beginning\" holds through any restart. Rules, alerts and a dashboard made of them \
         are in [`deploy/observability`](../deploy/observability/), what to do at an alert in the \
         [runbook](runbook.md).\n",
    );
    let groups: [(&str, &[Service]); 5] = [
        ("ingest-gateway", &[Service::Gateway]),
        ("kafka-consumer-writer", &[Service::Writer]),
        ("aggregator", &[Service::Aggregator]),
        ("Gateway and writer", &[Service::Gateway, Service::Writer]),
        (
            "Every service",
            &[Service::Gateway, Service::Writer, Service::Aggregator],
        ),
    ];
    let mut written = 0;
    for (title, services) in groups {
        writeln!(out, "\n## {title}\n").unwrap();
        out.push_str("| metric | type | unit | meaning |\n|---|---|---|---|\n");
        for metric in ALL.iter().filter(|metric| metric.services == services) {
            row(&mut out, metric);
            written += 1;
        }
    }
    assert_eq!(written, ALL.len(), "each metric is of one of the groups");
    out
}

fn row(out: &mut String, metric: &Metric) {
    let labels = match metric.label {
        None => String::new(),
        Some(Label::Enum { name, values }) => {
            let values: Vec<_> = values().iter().map(|it| format!("`{it}`")).collect();
            format!(" `{name}`: {}.", values.join(", "))
        }
        Some(Label::Open { name }) => format!(" `{name}`: learnt while running."),
        Some(Label::Build) => format!(" Labels: `{}`.", metric.labels().join("`, `")),
    };
    let kind = match metric.kind {
        Kind::Counter => "counter".to_owned(),
        Kind::Gauge => "gauge".to_owned(),
        Kind::Histogram(buckets) => {
            let bounds: Vec<_> = buckets.iter().map(f64::to_string).collect();
            format!("histogram, up to {}", bounds.join(", "))
        }
    };
    let Metric {
        name, unit, help, ..
    } = metric;
    writeln!(out, "| `{name}` | {kind} | {unit} | {help}{labels} |").unwrap();
}
