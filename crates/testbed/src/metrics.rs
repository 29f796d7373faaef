//! Reads `/metrics` as Prometheus would: its text format, as far as sums need it.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};

use crate::http;

/// One scrape.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Name, labels as they stand between the braces, value.
    samples: Vec<(String, String, f64)>,
}

impl Metrics {
    /// # Errors
    /// When the service does not answer, or not in the text format.
    pub fn scrape(admin: SocketAddr) -> Result<Self> {
        let response = http::get(admin, "/metrics")?;
        if response.status != 200 {
            bail!("{admin}/metrics answers {}", response.status);
        }
        Self::parse(&response.text())
    }

    /// # Errors
    /// When a line is not in the text format.
    pub fn parse(text: &str) -> Result<Self> {
        let mut samples = Vec::new();
        for line in text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let (series, value) = line.rsplit_once(' ').with_context(|| odd(line))?;
            let (name, labels) = match series.split_once('{') {
                Some((name, labels)) => {
                    (name, labels.strip_suffix('}').with_context(|| odd(line))?)
                }
                None => (series, ""),
            };
            let value = value.parse().with_context(|| odd(line))?;
            samples.push((name.to_owned(), labels.to_owned(), value));
        }
        Ok(Self { samples })
    }

    /// The sum over all labels; `None` when there is no such metric.
    pub fn sum(&self, name: &str) -> Option<f64> {
        let mut values = self
            .samples
            .iter()
            .filter(|(own, ..)| own == name)
            .peekable();
        values.peek()?;
        Some(values.map(|(.., value)| value).sum())
    }

    /// The value with this label among others, as `code="missing"`.
    pub fn with(&self, name: &str, label: &str) -> Option<f64> {
        let has = |labels: &str| labels.split(',').any(|own| own == label);
        let sample = self
            .samples
            .iter()
            .find(|(own, labels, _)| own == name && has(labels));
        sample.map(|(.., value)| *value)
    }

    /// Whether the metric is there, whatever its value.
    pub fn has(&self, name: &str) -> bool {
        // A histogram has no sample of its bare name.
        self.samples.iter().any(|(own, ..)| {
            own.strip_prefix(name)
                .is_some_and(|rest| matches!(rest, "" | "_bucket" | "_count" | "_sum"))
        })
    }
}

fn odd(line: &str) -> String {
    format!("not a line of metrics: {line:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_go_over_labels() {
        let text =
            "# HELP a b\n# TYPE a counter\na{code=\"x\",kind=\"y z\"} 2\na{code=\"q\"} 3\nb 1\n";
        let metrics = Metrics::parse(text).expect("well made");
        assert_eq!(metrics.sum("a"), Some(5.0));
        assert_eq!(metrics.with("a", "code=\"q\""), Some(3.0));
        assert_eq!(metrics.sum("b"), Some(1.0));
        assert_eq!(metrics.sum("c"), None);
        assert!(Metrics::parse("nonsense").is_err());
    }
}
