use std::collections::HashSet;

use super::{
    catalog::{ALL, Metric},
    *,
};

/// What `/metrics` says right after the start of `service`.
fn rendered(service: Service) -> String {
    let recorder = recorder();
    metrics::with_local_recorder(&recorder, || register(service));
    recorder.handle().render()
}

const SERVICES: [Service; 3] = [Service::Gateway, Service::Writer, Service::Aggregator];

#[test]
fn each_metric_is_there_from_the_start_at_zero_for_each_value_of_its_label() {
    for service in SERVICES {
        let text = rendered(service);
        let lines: HashSet<&str> = text.lines().collect();
        for metric in ALL {
            let here = metric.services.contains(&service);
            let kind = match metric.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram(_) => "histogram",
            };
            let open = matches!(metric.label, Some(Label::Open { .. }));
            if matches!(metric.label, Some(Label::Build)) {
                let said = lines.iter().any(|line| {
                    line.starts_with(&format!(
                        "{}{{service=\"{}\",",
                        metric.name,
                        service.as_str()
                    )) && line.ends_with("\"} 1")
                });
                assert!(said, "{}\n{text}", metric.name);
            }
            let typed = lines.contains(format!("# TYPE {} {kind}", metric.name).as_str());
            assert_eq!(
                typed,
                here && !open,
                "{} in {service:?}\n{text}",
                metric.name
            );
            if typed {
                let help = format!("# HELP {} {}", metric.name, metric.help);
                assert!(lines.contains(help.as_str()), "{help}\n{text}");
            }
            for series in series_at_zero(metric) {
                assert_eq!(lines.contains(series.as_str()), here, "{series}\n{text}");
            }
        }
    }
}

fn series_at_zero(metric: &Metric) -> Vec<String> {
    let name = metric.name;
    match (metric.kind, metric.label) {
        (_, Some(Label::Open { .. } | Label::Build)) => Vec::new(),
        (
            _,
            Some(Label::Enum {
                name: label,
                values,
            }),
        ) => values()
            .into_iter()
            .map(|value| format!("{name}{{{label}=\"{value}\"}} 0"))
            .collect(),
        (Kind::Histogram(buckets), None) => buckets
            .iter()
            .map(|bound| format!("{name}_bucket{{le=\"{bound}\"}} 0"))
            .chain([format!("{name}_count 0"), format!("{name}_sum 0")])
            .collect(),
        (Kind::Counter | Kind::Gauge, None) => vec![format!("{name} 0")],
    }
}

/// The rules of `promtool check metrics`, except where the contract's own names break them.
#[test]
fn names_follow_the_rules_of_prometheus() {
    let mut seen = HashSet::new();
    for metric in ALL {
        let name = metric.name;
        assert!(seen.insert(name), "{name} stands twice");
        assert!(
            name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') && !name.starts_with('_'),
            "{name}"
        );
        let counter = metric.kind == Kind::Counter;
        assert_eq!(counter, name.ends_with("_total"), "{name}");
        for suffix in ["_count", "_sum", "_bucket"] {
            assert!(!name.ends_with(suffix), "{name}");
        }
        let build = matches!(metric.label, Some(Label::Build));
        assert_eq!(build, name.ends_with("_info"), "{name}");
        for word in name.split('_') {
            let bad = [
                "counter",
                "gauge",
                "histogram",
                "summary",
                "ms",
                "millis",
                "kb",
                "mb",
                "milliseconds",
                "minutes",
                "hours",
                "percent",
            ];
            assert!(!bad.contains(&word), "{name}: {word}");
        }
        if ["seconds", "bytes", "ratio"].contains(&metric.unit) {
            let base = name.trim_end_matches("_total").trim_end_matches("_left");
            assert!(base.ends_with(metric.unit), "{name} is in {}", metric.unit);
        }
        assert!(
            metric.help.ends_with('.') && metric.help.len() > 10,
            "{name}"
        );
        assert!(!metric.services.is_empty(), "{name}");
        if let Some(Label::Enum {
            name: label,
            values,
        }) = metric.label
        {
            let values = values();
            let distinct: HashSet<_> = values.iter().collect();
            assert!(
                !values.is_empty() && distinct.len() == values.len(),
                "{name}"
            );
            assert!(!["le", "quantile"].contains(&label), "{name}");
        }
    }
}

/// Spelled out here a second time: renaming one breaks every dashboard.
#[test]
fn the_contracts_names_and_labels_are_all_there() {
    let contract = [
        "ingestion_work_queue_depth",
        "ingestion_work_queue_capacity",
        "ingestion_work_queue_bytes",
        "ingestion_work_queue_fill_ratio",
        "log_batches_received_total",
        "log_records_accepted_total",
        "log_records_rejected_total{code}",
        "invalid_requests_total{code}",
        "http_request_duration_seconds",
        "producer_write_duration_seconds",
        "producer_errors_total{kind}",
        "producer_retries_total",
        "producer_dlq_records",
        "producer_dlq_bytes",
        "kafka_up",
        "consumer_errors_total{kind}",
        "consumer_lag_records{partition}",
        "consumer_dedup_reach_seconds",
        "batch_flush_records",
        "batch_flush_bytes",
        "batch_flush_duration_seconds",
        "logs_ingested_total",
        "consumer_duplicates_total",
        "consumer_dlq_records",
        "aggregation_runs_total{outcome}",
        "aggregation_lag_seconds",
        "aggregation_records_total",
    ];
    let ours: HashSet<String> = ALL
        .iter()
        .map(|metric| match metric.labels() {
            [] => metric.name.to_owned(),
            labels => format!("{}{{{}}}", metric.name, labels.join(",")),
        })
        .collect();
    for name in contract {
        assert!(ours.contains(name), "{name} is missing");
    }
}

#[test]
fn what_is_counted_is_rendered_in_its_bucket_and_label() {
    let recorder = recorder();
    metrics::with_local_recorder(&recorder, || {
        register(Service::Gateway);
        metrics::counter!(catalog::PRODUCER_ERRORS, catalog::label::KIND => "fatal").increment(3);
        metrics::histogram!(catalog::HTTP_REQUEST_DURATION).record(0.3);
    });
    let text = recorder.handle().render();
    for line in [
        "producer_errors_total{kind=\"fatal\"} 3",
        "producer_errors_total{kind=\"retry\"} 0",
        "http_request_duration_seconds_bucket{le=\"0.25\"} 0",
        "http_request_duration_seconds_bucket{le=\"0.5\"} 1",
        "http_request_duration_seconds_count 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn gauges_that_are_set_together_are_rendered_together() {
    let recorder = recorder();
    let sums = [catalog::AGGREGATION_READ, catalog::AGGREGATION_COUNTED];
    let set = |to: u32| {
        metrics::with_local_recorder(&recorder, || {
            together(|| sums.map(|name| metrics::gauge!(name).set(to)));
        });
    };
    set(0);
    let handle = MetricsHandle(recorder.handle());
    std::thread::scope(|scope| {
        let sets = scope.spawn(|| (1..20_000).for_each(set));
        while !sets.is_finished() {
            let text = handle.render();
            let values = sums.map(|name| {
                let line = text.lines().find_map(|line| line.strip_prefix(name));
                line.map(str::to_owned)
            });
            assert_eq!(values[0], values[1]);
        }
    });
}
