//! What was built: what `--version`, `/version`, the log and `sluice_build_info` say of it.
//!
//! The commit is told to the build, not asked of git by it: so a build needs no git, the same
//! source makes the same bytes, and a commit changes nothing for whoever builds again and again.

use std::sync::LazyLock;

use metrics::Label;

use super::catalog::{Service, label};

pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Where the build was told it (environment variable `SLUICE_COMMIT` while compiling).
pub const COMMIT: Option<&str> = match option_env!("SLUICE_COMMIT") {
    Some(commit) if !commit.is_empty() => Some(commit),
    _ => None,
};

/// What `--version` says behind the name.
pub fn version() -> &'static str {
    static LINE: LazyLock<String> = LazyLock::new(|| line(VERSION, COMMIT));
    &LINE
}

fn line(version: &str, commit: Option<&str>) -> String {
    match commit {
        Some(commit) => format!("{version} (commit {commit})"),
        None => version.to_owned(),
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_that_was_told_its_commit_names_it() {
        assert_eq!(line("1.2.3", Some("0a1b")), "1.2.3 (commit 0a1b)");
        assert_eq!(line("1.2.3", None), "1.2.3");
        assert_eq!(version(), line(VERSION, COMMIT));
    }
}
