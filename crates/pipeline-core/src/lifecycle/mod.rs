//! The life of a process: arguments, configuration or exit 78, readiness, signals, the admin
//! listener, a drain with a deadline.
//!
//! In the order a service meets them: [`CommonArgs`], [`Readiness`], [`Shutdown`], [`Hangup`],
//! [`admin`] (whose [`probe`] the gateway also answers on its own listener), [`manager`]. What is
//! drained or read anew, and how, is the service's business.

pub mod admin;
pub mod allocator;
mod descriptors;
mod hangup;
pub mod manager;
mod probe;
mod ready;
mod shutdown;

use std::{io::Write, path::PathBuf};

pub use descriptors::raise_descriptor_limit;
pub use hangup::{Hangup, Hangups};
pub use probe::{probe, problem};
use rustix::process::{Resource, Rlimit, setrlimit};
pub use shutdown::Shutdown;
use tokio::sync::watch;

use crate::config::{Config, ConfigFile, Fault, NamedFiles};

/// Exit codes of all three services (`sysexits.h` where it has one).
pub mod exit {
    pub const OK: u8 = 0;
    /// A run failed, or a check found damage.
    pub const FAILED: u8 = 1;
    /// Bad command line (clap's own).
    pub const USAGE: u8 = 2;
    /// Another process has what this one needs; later it may work (`EX_TEMPFAIL`).
    pub const TRY_LATER: u8 = 75;
    /// Bad configuration (`EX_CONFIG`).
    pub const CONFIG: u8 = 78;

    /// Of a listener that could not be opened: its port may be another process's.
    #[must_use]
    pub fn of_listener(error: &std::io::Error) -> u8 {
        match error.kind() {
            std::io::ErrorKind::AddrInUse => TRY_LATER,
            _ => FAILED,
        }
    }
}

/// The arguments every service takes; flatten it into the service's own `clap` struct.
#[derive(clap::Args, Clone, Debug)]
pub struct CommonArgs {
    /// The configuration file, one for all three services
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        default_value = "config/config.yaml"
    )]
    pub config: PathBuf,
    /// Only validate the configuration: exit 0 when it is good, 78 with every fault when not
    #[arg(long)]
    pub check: bool,
    /// With --check: try Kafka as well; exit 0 when all that is needed is there, 75 when Kafka does
    /// not answer, 78 when something has to be changed
    #[arg(long, requires = "check")]
    pub connect: bool,
    /// Only ask the service that runs with this configuration: exit 0 when it is ready, 1 when not
    #[arg(long)]
    pub ready: bool,
}

impl CommonArgs {
    /// Loads the configuration. Prints every fault to stderr and ends the process with 78 when
    /// it is bad; with `--check` prints that it is good and, but for `--connect`, ends with 0.
    #[must_use]
    pub fn load_or_exit(&self) -> Config {
        self.load_file_or_exit(|_| Vec::new()).into_config()
    }

    /// As [`Self::load_or_exit`], for a service that reads its file anew, with the faults that
    /// only this service finds in the files that it names.
    #[must_use]
    pub fn load_file_or_exit(&self, judge: impl FnOnce(&NamedFiles) -> Vec<Fault>) -> ConfigFile {
        // From here on there may be secrets in memory.
        no_core_dumps();
        // A closed stderr or stdout changes no exit code.
        match ConfigFile::load_judged(&self.config, judge) {
            Ok(file) => {
                if self.check {
                    let _ = writeln!(std::io::stdout(), "{} is good", self.config.display());
                }
                if self.check && !self.connect {
                    std::process::exit(exit::OK.into());
                }
                file
            }
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "{error}");
                std::process::exit(exit::CONFIG.into());
            }
        }
    }
}

/// What the process holds in memory stays there if it crashes: passwords, keys, and records.
fn no_core_dumps() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    if let Err(error) = setrlimit(Resource::Core, none) {
        let _ = writeln!(
            std::io::stderr(),
            "core dumps cannot be turned off: {error}"
        );
    }
}

/// A set of latches; ready when all are closed and nothing drains.
#[derive(Clone, Debug, Default)]
pub struct Readiness(watch::Sender<ReadinessState>);

#[derive(Debug, Default)]
struct ReadinessState {
    open: Vec<&'static str>,
    draining: bool,
}

impl Readiness {
    /// Adds a condition that is not met yet.
    pub fn wait_for(&self, name: &'static str) {
        self.0.send_modify(|state| state.open.push(name));
    }

    /// The condition is met.
    pub fn met(&self, name: &'static str) {
        self.0
            .send_modify(|state| state.open.retain(|open| *open != name));
    }

    /// From here on it is never ready again.
    pub fn drain(&self) {
        self.0.send_modify(|state| state.draining = true);
    }

    /// `Ok` when ready, else what it waits for.
    ///
    /// # Errors
    /// The names of the open conditions, or `draining`.
    pub fn check(&self) -> Result<(), String> {
        let state = self.0.borrow();
        if state.draining {
            return Err("draining".to_owned());
        }
        if state.open.is_empty() {
            Ok(())
        } else {
            Err(format!("waiting for {}", state.open.join(", ")))
        }
    }

    /// Wakes whoever has to know of each change.
    fn watch(&self) -> watch::Receiver<ReadinessState> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_when_each_condition_is_met_and_nothing_drains() {
        let readiness = Readiness::default();
        readiness.wait_for("listener");
        readiness.wait_for("directories");
        assert_eq!(
            readiness.check(),
            Err("waiting for listener, directories".to_owned())
        );
        readiness.met("listener");
        assert_eq!(readiness.check(), Err("waiting for directories".to_owned()));
        readiness.met("directories");
        assert_eq!(readiness.check(), Ok(()));
        let copy = readiness.clone();
        copy.drain();
        assert_eq!(readiness.check(), Err("draining".to_owned()));
    }

    #[test]
    fn the_configuration_file_may_stand_before_and_behind_a_command() {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            common: CommonArgs,
            #[command(subcommand)]
            command: Option<Command>,
        }
        #[derive(clap::Subcommand)]
        enum Command {
            Verify,
        }
        let config = |args: &[&str]| {
            let cli = <Cli as clap::Parser>::try_parse_from(args).unwrap();
            (cli.common.config, cli.common.check, cli.command.is_some())
        };
        let default = PathBuf::from("config/config.yaml");
        let given = PathBuf::from("x.yaml");
        assert_eq!(config(&["s"]), (default, false, false));
        assert_eq!(
            config(&["s", "--check", "--config", "x.yaml"]),
            (given.clone(), true, false)
        );
        assert_eq!(
            config(&["s", "--config", "x.yaml", "verify"]),
            (given.clone(), false, true)
        );
        assert_eq!(
            config(&["s", "verify", "--config", "x.yaml"]),
            (given, false, true)
        );
    }

    const CHILD: &str = "SLUICE_TEST_LOAD";

    /// Not a claim: the process that the test below starts.
    #[test]
    fn child() {
        let Ok(args) = std::env::var(CHILD) else {
            return;
        };
        let (config, check) = args.split_once(' ').unwrap();
        let common = CommonArgs {
            config: config.into(),
            check: check == "check",
            connect: false,
            ready: false,
        };
        // To stderr, where the test harness around it says nothing.
        eprintln!("runs with group {}", common.load_or_exit().kafka.group_id);
        std::process::exit(7);
    }

    fn loaded(config: &str, check: &str) -> (Option<i32>, String, String) {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "lifecycle::tests::child", "--nocapture"])
            .env(CHILD, format!("{config} {check}"))
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    }

    #[test]
    fn a_bad_configuration_ends_with_78_and_a_checked_one_with_0() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.yaml");
        let name = file.to_str().unwrap();
        for check in ["check", "run"] {
            let (code, _, err) = loaded(name, check);
            assert_eq!(code, Some(78));
            assert!(
                err.starts_with(&format!("{name}: cannot be read: ")),
                "{err}"
            );
        }
        std::fs::write(&file, "kafka: {brokers: x, colour: y}").unwrap();
        for check in ["check", "run"] {
            let (code, _, err) = loaded(name, check);
            assert_eq!(code, Some(78));
            let lines: Vec<&str> = err.lines().collect();
            assert_eq!(lines.len(), 3, "{err}");
            for (line, path) in lines.iter().zip(["brokers", "colour", "groupID"]) {
                let start = format!("{name}: kafka.{path}: found ");
                assert!(line.starts_with(&start), "{line}");
            }
        }
        std::fs::write(&file, "kafka: {brokers: ['a:1'], groupID: g}").unwrap();
        let (code, out, err) = loaded(name, "check");
        assert_eq!((code, err.as_str()), (Some(0), ""));
        assert!(out.contains(&format!("{name} is good\n")), "{out}");
        let (code, out, err) = loaded(name, "run");
        assert_eq!((code, err.as_str()), (Some(7), "runs with group g\n"));
        assert!(!out.contains("is good"), "{out}");
    }
}
