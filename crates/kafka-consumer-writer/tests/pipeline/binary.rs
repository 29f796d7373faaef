//! The built binary on a rig: as a service, and its commands.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use testbed::{
    metrics::Metrics,
    process::{Process, free_port},
};

use crate::rig::{Rig, wait_for};

/// Its configuration file, and where it answers.
pub struct Binary {
    config: PathBuf,
    log: PathBuf,
    pub admin: SocketAddr,
}

impl Binary {
    pub fn on(rig: &Rig, consumer: &str) -> Self {
        let dir = rig.dir.path();
        let admin = format!("127.0.0.1:{}", free_port());
        let config = dir.join("config.yaml");
        let yaml = rig.yaml(dir, "", &format!("adminAddr: {admin}; {consumer}"));
        fs::write(&config, yaml).expect("written");
        Self {
            config,
            log: dir.join("writer.log"),
            admin: admin.parse().expect("an address"),
        }
    }

    /// The file with its configuration.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// What the service says.
    pub fn log(&self) -> &Path {
        &self.log
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kafka-consumer-writer"));
        command.arg("--config").arg(&self.config);
        command
    }

    pub fn start(&self) -> Process {
        Process::spawn(self.command(), "writer", &self.log).expect("started")
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kafka-consumer-writer"));
        command.args(args).arg("--config").arg(&self.config);
        command.output().expect("it runs")
    }

    /// Waits until the metrics say so.
    pub async fn shows(&self, what: &str, is_so: impl Fn(&Metrics) -> bool) -> Metrics {
        let mut last = Metrics::default();
        wait_for(what, || {
            last = Metrics::scrape(self.admin).unwrap_or_default();
            is_so(&last)
        })
        .await;
        last
    }
}

/// As SIGTERM; gives the exit code.
pub fn stopped(mut writer: Process) -> Option<i32> {
    writer.terminate().expect("signalled");
    writer
        .wait(Duration::from_secs(60))
        .expect("it ends")
        .code()
}
