//! The life of a process: arguments, configuration or exit 78, readiness, signals, the admin
//! listener, a drain with a deadline.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::config::Config;

/// Exit codes of all three services (`sysexits.h` where it has one).
pub mod exit {
    pub const OK: u8 = 0;
    /// A run failed, or a check found damage.
    pub const FAILED: u8 = 1;
    /// Bad command line (clap's own).
    pub const USAGE: u8 = 2;
    /// Bad configuration (`EX_CONFIG`).
    pub const CONFIG: u8 = 78;
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
}

impl CommonArgs {
    /// Loads the configuration. Prints every fault to stderr and ends the process with 78 when
    /// it is bad; with `--check` prints that it is good and ends with 0.
    #[must_use]
    pub fn load_or_exit(&self) -> Config {
        todo!()
    }
}

/// A set of latches; ready when all are closed and nothing drains.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<std::sync::Mutex<ReadinessState>>);

#[derive(Debug, Default)]
struct ReadinessState {
    open: Vec<&'static str>,
    draining: bool,
}

impl Readiness {
    /// Adds a condition that is not met yet.
    pub fn wait_for(&self, name: &'static str) {
        self.0
            .lock()
            .expect("no panic under this lock")
            .open
            .push(name);
    }

    /// The condition is met.
    pub fn met(&self, name: &'static str) {
        self.0
            .lock()
            .expect("no panic under this lock")
            .open
            .retain(|open| *open != name);
    }

    pub fn drain(&self) {
        self.0.lock().expect("no panic under this lock").draining = true;
    }

    /// `Ok` when ready, else what it waits for.
    ///
    /// # Errors
    /// The names of the open conditions, or `draining`.
    pub fn check(&self) -> Result<(), String> {
        let state = self.0.lock().expect("no panic under this lock");
        if state.draining {
            return Err("draining".to_owned());
        }
        if state.open.is_empty() {
            Ok(())
        } else {
            Err(format!("waiting for {}", state.open.join(", ")))
        }
    }
}

/// Drain on SIGTERM or SIGINT; a second signal or the deadline ends the process at once.
#[derive(Clone, Debug)]
pub struct Shutdown {
    token: CancellationToken,
}

impl Shutdown {
    /// Installs the signal handlers. From the first signal on `readiness` says draining,
    /// [`Self::requested`] resolves, and after `timeout` the process exits with 1.
    #[must_use]
    pub fn install(readiness: Readiness, timeout: Duration) -> Self {
        let _ = (readiness, timeout);
        todo!()
    }

    /// For tests and commands: a shutdown that comes only by [`Self::request`].
    #[must_use]
    pub fn manual() -> Self {
        Self {
            token: CancellationToken::new(),
        }
    }

    pub fn request(&self) {
        self.token.cancel();
    }

    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }
}
