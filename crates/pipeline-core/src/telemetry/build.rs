//! What was built: what `/version`, the log and `sluice_build_info` say of it.

use metrics::Label;

use super::catalog::{Service, label};

pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Where the build was told it (environment variable `SLUICE_COMMIT` while compiling).
pub const COMMIT: Option<&str> = option_env!("SLUICE_COMMIT");

impl Service {
    /// The name of its binary.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "ingest-gateway",
            Self::Writer => "kafka-consumer-writer",
            Self::Aggregator => "aggregator",
        }
    }
}

pub(super) fn labels(service: Service) -> Vec<Label> {
    let values = [service.as_str(), VERSION, COMMIT.unwrap_or("unknown")];
    let pairs = label::BUILD.into_iter().zip(values);
    pairs
        .map(|(name, value)| Label::from_static_parts(name, value))
        .collect()
}
