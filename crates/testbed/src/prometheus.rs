//! A real Prometheus (Debian's) that watches a stand with the configuration that is deployed, but
//! for where the services are and how often it looks.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{
    http::get,
    process::{Process, free_port},
    service::Service,
    stand::Stand,
};

/// A Prometheus that runs. It ends with its value.
#[derive(Debug)]
pub struct Prometheus {
    address: SocketAddr,
    process: Process,
}

/// An alert as its API tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alert {
    pub name: String,
    /// With its labels, as `SluiceServiceDown{job=aggregator}`.
    pub shown: String,
    pub firing: bool,
}

/// Whether a program of the Debian package `prometheus` can be called.
pub fn has(program: &str) -> bool {
    let asked = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    asked.is_ok()
}

impl Prometheus {
    /// `config` is the text of the deployed prometheus.yml, `rules` a pattern of rule files; it
    /// looks each second.
    ///
    /// # Errors
    /// When the configuration is not as expected, or Prometheus cannot be started.
    pub fn start(config: &str, rules: &Path, stand: &Stand) -> Result<Self> {
        let mut config = config.to_owned();
        let gateways: Vec<&Service> = stand.gateways.iter().collect();
        let writers: Vec<&Service> = stand.writers.iter().collect();
        for (found, wanted) in [
            ("127.0.0.1:9101", addresses(&gateways)),
            ("127.0.0.1:9102", addresses(&writers)),
            ("127.0.0.1:9103", addresses(&[&stand.aggregator])),
            ("rules/*.yml", rules.display().to_string()),
            ("scrape_interval: 15s", "scrape_interval: 1s".to_owned()),
            (
                "evaluation_interval: 30s",
                "evaluation_interval: 1s".to_owned(),
            ),
        ] {
            if !config.contains(found) {
                bail!("{found} is not in prometheus.yml");
            }
            config = config.replace(found, &wanted);
        }
        let file = stand.dir.join("prometheus.yml");
        fs::write(&file, config)?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                stand.dir.join("tsdb").display()
            ))
            .arg(format!("--web.listen-address={address}"));
        let log = stand.dir.join("prometheus.log");
        Ok(Self {
            address,
            process: Process::spawn(command, "prometheus", &log)?,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The numbers that a query gives now; none while it is still starting.
    ///
    /// # Errors
    /// When the query cannot be parsed, or Prometheus has ended.
    pub fn query(&mut self, query: &str) -> Result<Vec<f64>> {
        let target = format!("/api/v1/query?query={}", escaped(query));
        let Some(answer) = self.ask(&target)? else {
            return Ok(Vec::new());
        };
        let found = answer["data"]["result"].as_array().context("a result")?;
        let numbers = found.iter().filter_map(|it| it["value"][1].as_str());
        let numbers = numbers.filter_map(|number| number.parse::<f64>().ok());
        Ok(numbers.filter(|number| !number.is_nan()).collect())
    }

    fn ask(&mut self, target: &str) -> Result<Option<Value>> {
        if let Some(status) = self.process.ended()? {
            bail!("prometheus ended: {status}\n{}", self.process.log_tail(20));
        }
        ask(self.address, target)
    }
}

/// The alerts that are pending or firing; none while it is still starting.
///
/// # Errors
/// When it answers anything else.
pub fn alerts(address: SocketAddr) -> Result<Vec<Alert>> {
    let Some(answer) = ask(address, "/api/v1/alerts")? else {
        return Ok(Vec::new());
    };
    let found = answer["data"]["alerts"].as_array().context("alerts")?;
    let alert = |it: &Value| -> Option<Alert> {
        let labels = it["labels"].as_object()?;
        let name = labels.get("alertname")?.as_str()?.to_owned();
        let others = labels.iter().filter(|(label, _)| *label != "alertname");
        let others: Vec<_> = others
            .map(|(label, value)| format!("{label}={}", value.as_str().unwrap_or_default()))
            .collect();
        Some(Alert {
            shown: format!("{name}{{{}}}", others.join(",")),
            name,
            firing: it["state"] == "firing",
        })
    };
    Ok(found.iter().filter_map(alert).collect())
}

fn ask(address: SocketAddr, target: &str) -> Result<Option<Value>> {
    // It is still starting.
    let Ok(response) = get(address, target) else {
        return Ok(None);
    };
    match response.status {
        200 => Ok(Some(response.json())),
        503 => Ok(None),
        status => bail!("{target}: {status} {}", response.text()),
    }
}

fn addresses(services: &[&Service]) -> String {
    let each: Vec<_> = services.iter().map(|it| it.admin.to_string()).collect();
    each.join(", ")
}

/// For a query string (RFC 3986, 2.1).
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(byte as char);
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
