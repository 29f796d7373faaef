//! A directory with a configuration file, a broker, and the binary as a process on them.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use dev_broker::{Broker, Options};
use testbed::{
    http::{Client, Request, Response},
    metrics::Metrics,
    process::{Process, poll_until},
};
use tokio::runtime::Runtime;

use crate::topic::{self, Stored};

/// Longest wait for something that is certain to come.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Place {
    dir: tempfile::TempDir,
    broker: Broker,
    /// The broker's.
    runtime: Runtime,
}

pub struct Serving {
    pub process: Process,
    pub addr: SocketAddr,
    pub admin: SocketAddr,
}

impl Place {
    pub fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let options = Options::default().topic("logs", 2);
        Self {
            dir: tempfile::tempdir().unwrap(),
            broker: runtime.block_on(Broker::start(options)).unwrap(),
            runtime,
        }
    }

    /// Writes the configuration: what it needs, and `more`. As an editor does it, at once.
    pub fn configure(&self, more: &str) {
        self.configure_server("", more);
    }

    /// As [`Self::configure`], with more lines in the section `server`.
    pub fn configure_server(&self, server: &str, more: &str) {
        let yaml = format!(
            "dataDir: {}\nserver:\n  addr: 127.0.0.1:0\n  adminAddr: 127.0.0.1:0\n{server}kafka:\n  \
             brokers: ['{}']\n  groupID: test\n{more}",
            self.dir.path().join("data").display(),
            self.broker.bootstrap()
        );
        let new = self.dir.path().join("new.yaml");
        fs::write(&new, yaml).unwrap();
        fs::rename(new, self.config()).unwrap();
    }

    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    pub fn dlq_dir(&self) -> PathBuf {
        self.dir.path().join("data/dlq/producer")
    }

    /// Every message of the topic.
    pub fn stored(&self) -> Vec<Stored> {
        let brokers = self.broker.bootstrap_servers();
        self.runtime.block_on(topic::stored(&brokers))
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("config.yaml")
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ingest-gateway"));
        command
            .arg("--config")
            .arg(self.config())
            .args(arguments)
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    pub fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Starts the gateway and waits until it is ready.
    pub fn serve(&self) -> Serving {
        let log = self.dir.path().join("gateway.log");
        let mut process = Process::spawn(self.command(&[]), "ingest-gateway", &log).unwrap();
        let ready = poll_until(PATIENCE, || {
            assert!(process.ended()?.is_none(), "{}", process.log_tail(20));
            let text = fs::read_to_string(&log)?;
            let line = text.lines().find(|line| line.contains("gateway is ready"));
            let field = |name| {
                let (_, rest) = line?.split_once(name)?;
                rest.split(' ').next()?.parse().ok()
            };
            Ok(field("addr=").zip(field("admin=")))
        });
        let (addr, admin) = ready.unwrap().expect("the gateway is not ready");
        Serving {
            process,
            addr,
            admin,
        }
    }
}

impl Serving {
    pub fn client(&self) -> Client {
        Client::new(self.addr, PATIENCE)
    }

    pub fn metrics(&self) -> Metrics {
        Metrics::scrape(self.admin).unwrap()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.process.log()).unwrap()
    }

    /// SIGTERM; it must end well.
    pub fn terminate(mut self) -> String {
        self.process.terminate().unwrap();
        let status = self.process.wait(PATIENCE).unwrap();
        assert!(status.success(), "{status} {}", self.process.log_tail(20));
        self.log()
    }
}

/// One record with the API key `key`.
pub fn post(client: &mut Client, key: &str) -> Response {
    let body = br#"{"timestamp":"2026-01-02T03:04:05Z","path":"/","userAgent":"test"}"#;
    let headers = [("Content-Type", "application/json"), ("X-API-Key", key)];
    let request = Request {
        method: "POST",
        target: "/logs",
        headers: &headers,
        body,
    };
    client.send(&request).unwrap()
}

pub fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let came = poll_until(PATIENCE, || Ok(there().then_some(()))).unwrap();
    assert!(came.is_some(), "waited in vain for {what}");
}
