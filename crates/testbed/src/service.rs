//! One service of the pipeline: a built binary with its configuration file, its admin address and
//! its log, started, killed, ended and asked.

use std::{
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{
    control::Control,
    http,
    metrics::Metrics,
    process::{Process, free_port, free_ports, poll_until},
};

const READY_WITHIN: Duration = Duration::from_secs(30);
const ENDS_WITHIN: Duration = Duration::from_secs(180);
/// What a busy machine may add to the service's own `shutdownTimeout`.
const MARGIN: Duration = Duration::from_secs(3);

/// A command that ends by itself, and must end with 0.
///
/// # Errors
/// When it does not; its last words are in the error.
pub fn run_to_end(command: Command, name: &str, log: &Path) -> Result<()> {
    let mut process = Process::spawn(command, name, log)?;
    let status = process.wait(ENDS_WITHIN)?;
    if !status.success() {
        bail!("{name} ended with {status}\n{}", process.log_tail(20));
    }
    Ok(())
}

/// A service, running or not.
#[derive(Debug)]
pub struct Service {
    pub name: String,
    pub binary: PathBuf,
    pub config: PathBuf,
    /// Where `/readyz` and `/metrics` are.
    pub admin: SocketAddr,
    pub log: PathBuf,
    pub shutdown_timeout: Duration,
    /// Further variables of its environment.
    pub env: Vec<(String, String)>,
    process: Option<Process>,
}

impl Service {
    pub fn new(
        name: String,
        binary: PathBuf,
        config: PathBuf,
        admin: SocketAddr,
        log: PathBuf,
        shutdown_timeout: Duration,
    ) -> Self {
        Self {
            name,
            binary,
            config,
            admin,
            log,
            shutdown_timeout,
            env: Vec::new(),
            process: None,
        }
    }

    /// The command line, for further arguments.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--config").arg(&self.config);
        let env = self.env.iter().map(|(name, value)| (name, value));
        command.envs(env);
        command
    }

    /// Starts it; does not wait.
    ///
    /// # Errors
    /// When it cannot be started, or runs already.
    pub fn start(&mut self) -> Result<()> {
        if self.process.is_some() {
            bail!("{} runs already", self.name);
        }
        self.process = Some(Process::spawn(self.command(), &self.name, &self.log)?);
        Ok(())
    }

    /// Waits for 200 on `/readyz`.
    ///
    /// # Errors
    /// When it ends before, or is not ready in time; its last words are in the error.
    pub fn wait_ready(&mut self) -> Result<()> {
        let admin = self.admin;
        let ready = poll_until(READY_WITHIN, || {
            let process = self.process()?;
            if let Some(status) = process.ended()? {
                bail!(
                    "{} ended: {status}\n{}",
                    process.name(),
                    process.log_tail(20)
                );
            }
            let ready = http::get(admin, "/readyz").is_ok_and(|response| response.status == 200);
            Ok(ready.then_some(()))
        })?;
        if ready.is_none() {
            let words = self.process()?.log_tail(20);
            bail!("{} is not ready after {READY_WITHIN:?}\n{words}", self.name);
        }
        Ok(())
    }

    /// kill -9.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.process()?.kill()?;
        self.process = None;
        Ok(())
    }

    /// SIGTERM; it must end with 0 within its `shutdownTimeout`. Returns how long it took.
    ///
    /// # Errors
    /// When it does not.
    pub fn terminate(&mut self) -> Result<Duration> {
        let start = Instant::now();
        self.process()?.terminate()?;
        self.wait_ended()?;
        Ok(start.elapsed())
    }

    /// Waits for the end after a SIGTERM; it must be 0 and within its `shutdownTimeout`.
    ///
    /// # Errors
    /// When it is not.
    pub fn wait_ended(&mut self) -> Result<()> {
        let within = self.shutdown_timeout + MARGIN;
        let process = self.process()?;
        let status = process.wait(within)?;
        if !status.success() {
            bail!(
                "{} ended with {status} after SIGTERM\n{}",
                process.name(),
                process.log_tail(20)
            );
        }
        self.process = None;
        Ok(())
    }

    /// Terminates it if it runs.
    ///
    /// # Errors
    /// As [`Service::terminate`].
    pub fn terminate_if_running(&mut self) -> Result<()> {
        if self.process.is_some() {
            self.terminate()?;
        }
        Ok(())
    }

    /// It has ended by itself, as it should.
    pub fn forget_ended(&mut self) {
        self.process = None;
    }

    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Its id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// # Errors
    /// When it does not run.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.process
            .as_mut()
            .with_context(|| format!("{} does not run", self.name))
    }

    /// # Errors
    /// When it does not answer.
    pub fn metrics(&self) -> Result<Metrics> {
        Metrics::scrape(self.admin).with_context(|| format!("no metrics from {}", self.name))
    }
}

/// The embedded broker as a process.
#[derive(Debug)]
pub struct Broker {
    /// Of the first node; the others have the ports after it.
    pub address: SocketAddr,
    pub nodes: u16,
    /// Where faults are asked for.
    pub control: Control,
    binary: PathBuf,
    dir: PathBuf,
    log: PathBuf,
    process: Option<Process>,
}

impl Broker {
    pub fn new(binary: PathBuf, nodes: u16, dir: PathBuf, log: PathBuf) -> Self {
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            address: loopback(free_ports(nodes)),
            nodes,
            control: Control::new(loopback(free_port())),
            binary,
            dir,
            log,
            process: None,
        }
    }

    /// For `kafka.brokers`.
    pub fn bootstrap(&self) -> String {
        let ports = (0..self.nodes).map(|nth| self.address.port() + nth);
        let nodes: Vec<_> = ports.map(|port| format!("127.0.0.1:{port}")).collect();
        nodes.join(",")
    }

    /// Starts it on its directory and waits until it listens.
    ///
    /// # Errors
    /// When it ends before, or does not listen in time.
    pub fn start(&mut self) -> Result<()> {
        let mut command = Command::new(&self.binary);
        command
            .arg("--listen")
            .arg(self.address.to_string())
            .args(["--nodes", &self.nodes.to_string()])
            .args(["--control", &self.control.address().to_string()])
            .arg("--dir")
            .arg(&self.dir);
        let mut process = Process::spawn(command, "dev-broker", &self.log)?;
        let listens = poll_until(READY_WITHIN, || {
            if let Some(status) = process.ended()? {
                bail!("dev-broker ended: {status}\n{}", process.log_tail(20));
            }
            // It listens there last.
            Ok(TcpStream::connect(self.control.address()).ok())
        })?;
        if listens.is_none() {
            bail!(
                "dev-broker does not listen after {READY_WITHIN:?}\n{}",
                process.log_tail(20)
            );
        }
        self.process = Some(process);
        Ok(())
    }

    /// # Errors
    /// When it does not run.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("dev-broker does not run")
    }

    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// kill -9; its directory stays.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.process()?.kill()?;
        self.process = None;
        Ok(())
    }
}
