//! Logs and metrics: one list of metrics ([`catalog`]), one way to start both.

pub mod catalog;

use crate::config::Telemetry;

/// Starts logging to stderr. Call once, first.
pub fn start_logging(telemetry: &Telemetry) {
    let _ = telemetry;
    todo!()
}

/// Renders what `/metrics` says.
#[derive(Clone)]
pub struct MetricsHandle(metrics_exporter_prometheus::PrometheusHandle);

impl MetricsHandle {
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }
}

/// Installs the recorder and registers each metric of `service` at zero, for each value of its
/// labels. Call once.
#[must_use]
pub fn start_metrics(service: catalog::Service) -> MetricsHandle {
    let _ = service;
    todo!()
}
