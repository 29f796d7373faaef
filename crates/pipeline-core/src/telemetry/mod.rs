//! Logs and metrics: one list of metrics ([`catalog`]), one way to start both.
//!
//! Logs go to stderr, metrics to `/metrics`. Nothing here decides what is logged or counted.

pub mod build;
pub mod catalog;
pub(crate) mod process;
mod repeats;
pub mod volumes;

use std::{
    io::IsTerminal,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::{LogFormat, Telemetry};
use catalog::{Kind, Label, Service};

/// Histogram samples are kept whole until a scrape or this; so a service that nobody scrapes
/// stays small.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Starts logging to stderr, at most ten lines a second at `info`. Call once, first; a second call
/// changes nothing.
pub fn start_logging(telemetry: &Telemetry) {
    let filter = EnvFilter::new(&telemetry.log_level);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Of a log that takes nothing, as its disk is full, it would tell that same log, and panic.
        .log_internal_errors(false);
    let repeats = REPEATS.get_or_init(repeats::Repeats::start).clone();
    // An error says that logging is on already.
    let _ = match telemetry.log_format {
        LogFormat::Text => {
            let builder = builder.with_ansi(std::io::stderr().is_terminal());
            builder.finish().with(repeats).try_init()
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true);
            builder.finish().with(repeats).try_init()
        }
    };
}

static REPEATS: OnceLock<repeats::Repeats> = OnceLock::new();

/// Says what was withheld in the last second before the process ends.
pub fn end_logging() {
    if let Some(repeats) = REPEATS.get() {
        repeats.end();
    }
}

/// Renders what `/metrics` says.
#[derive(Clone)]
pub struct MetricsHandle(PrometheusHandle);

impl MetricsHandle {
    #[must_use]
    pub fn render(&self) -> String {
        let _whole = lock(&TOGETHER);
        self.0.render()
    }
}

static TOGETHER: Mutex<()> = Mutex::new(());

/// Sets metrics that say something of each other, so that no scrape sees only some of them set.
pub fn together<T>(set: impl FnOnce() -> T) -> T {
    let _whole = lock(&TOGETHER);
    set()
}

fn lock(mutex: &Mutex<()>) -> MutexGuard<'_, ()> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for MetricsHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MetricsHandle")
    }
}

/// Installs the recorder and registers each metric of `service` at zero, for each value of its
/// labels. Call before anything counts. Several services in one process (tests) share the
/// recorder.
#[must_use]
pub fn start_metrics(service: Service) -> MetricsHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    let handle = HANDLE.get_or_init(|| {
        let recorder = recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).expect("nothing else installs a recorder");
        let upkeep = handle.clone();
        thread::Builder::new()
            .name("metrics-upkeep".to_owned())
            .spawn(move || {
                loop {
                    thread::sleep(UPKEEP_INTERVAL);
                    upkeep.run_upkeep();
                }
            })
            .expect("a process that cannot start a thread cannot start");
        handle
    });
    register(service);
    MetricsHandle(handle.clone())
}

fn recorder() -> PrometheusRecorder {
    let mut builder = PrometheusBuilder::new();
    for metric in catalog::ALL {
        if let Kind::Histogram(buckets) = metric.kind {
            builder = builder
                .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets)
                .expect("no histogram of the catalog is without buckets");
        }
    }
    builder.build_recorder()
}

/// Makes each metric of `service` known to the current recorder, at zero.
fn register(service: Service) {
    for metric in catalog::ALL {
        if !metric.services.contains(&service) {
            continue;
        }
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
            Kind::Histogram(_) => metrics::describe_histogram!(metric.name, metric.help),
        }
        let label_sets: Vec<Vec<metrics::Label>> = match metric.label {
            None => vec![Vec::new()],
            Some(Label::Enum { name, values }) => values()
                .into_iter()
                .map(|value| vec![metrics::Label::from_static_parts(name, value)])
                .collect(),
            // Its values are known only later; whoever learns one sets it.
            Some(Label::Open { .. }) => Vec::new(),
            Some(Label::Build) => {
                metrics::gauge!(metric.name, build::labels(service)).set(1.0);
                continue;
            }
        };
        for labels in label_sets {
            match metric.kind {
                Kind::Counter => metrics::counter!(metric.name, labels).absolute(0),
                Kind::Gauge => metrics::gauge!(metric.name, labels).set(0.0),
                Kind::Histogram(_) => drop(metrics::histogram!(metric.name, labels)),
            }
        }
    }
}

#[cfg(test)]
mod deployed;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
