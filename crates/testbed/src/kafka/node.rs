//! One node: its process, found again by its pid file.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::{Cluster, Listener, brokers_known, files, secure};
use crate::process::{poll_until, signal_pid, tail, tied};

/// A node's ports, from its first: of its listeners, its controller and the proxy before it.
const PORTS: u16 = 8;
const START_WITHIN: Duration = Duration::from_secs(90);

/// How long the nodes live.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Life {
    /// They outlive the command that starts them, and a Ctrl-C in its terminal.
    Detached,
    /// They are killed when the thread that starts them ends, however it ends.
    Tied,
}

/// One broker and controller.
#[derive(Clone, Debug)]
pub struct Node {
    pub(super) id: u16,
    pub(super) port: u16,
    pub(super) life: Life,
    pub(super) dir: PathBuf,
    pub(super) libs: PathBuf,
}

impl Node {
    pub fn id(&self) -> u16 {
        self.id
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub fn address_of(&self, listener: Listener) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port + listener.offset()))
    }

    /// Of the listener that a proxy may stand before: the proxy's address, and its own.
    pub(super) fn route(&self) -> (SocketAddr, SocketAddr) {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        (at(self.port + 3), at(self.port + 2))
    }

    /// Its process, if it lives.
    pub fn pid(&self) -> Option<u32> {
        let pid: u32 = fs::read_to_string(self.dir.join("pid"))
            .ok()?
            .trim()
            .parse()
            .ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        if stat.rsplit_once(')')?.1.trim_start().starts_with('Z') {
            return None; // dead, only nobody has waited for it
        }
        // The id may have been given to another process since: only one with our file is ours. In
        // the middle of an exec (Java's launcher does one) the command line is empty.
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let file = self.properties().into_os_string().into_encoded_bytes();
        let ours = line.is_empty() || line.split(|byte| *byte == 0).any(|word| word == file);
        ours.then_some(pid)
    }

    pub fn runs(&self) -> bool {
        self.pid().is_some()
    }

    /// # Errors
    /// When it does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self
            .pid()
            .with_context(|| format!("kafka node {} does not run", self.id))?;
        signal_pid(pid, signal)
    }

    /// Whether its ports are free: where another Kafka has them, that one would answer for this.
    ///
    /// # Errors
    /// Names the one that is taken.
    pub(super) fn may_listen(&self) -> Result<()> {
        match taken_from(self.port) {
            None => Ok(()),
            Some(port) => bail!(
                "port {port} is taken by another process, and node {} needs {} to {}: give another \
                 --port, or end what listens there",
                self.id,
                self.port,
                self.port + PORTS - 1
            ),
        }
    }

    /// Starts the process; does not wait until it answers.
    ///
    /// # Errors
    /// When Java cannot be started.
    pub fn start(&self) -> Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("log.txt"))?;
        let mut java = files::java(&self.libs);
        java.args([
            "-Xms256m",
            "-Xmx512m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
        ])
        .arg(format!(
            "-Dlog4j2.configurationFile={}",
            self.dir.join("log4j2.properties").display()
        ))
        .arg("kafka.Kafka")
        .arg(self.properties());
        let mut command = match self.life {
            Life::Tied => tied(&java),
            Life::Detached => java,
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .context("cannot start java")?;
        fs::write(self.dir.join("pid"), format!("{}\n", child.id()))?;
        Ok(())
    }

    /// Waits until this node answers and knows `count` brokers.
    ///
    /// # Errors
    /// When it ends, or does not answer in time; its last words are in the error.
    pub fn wait_until_it_knows(&self, count: usize) -> Result<()> {
        let ready = poll_until(START_WITHIN, || {
            if !self.runs() {
                bail!("kafka node {} ended:\n{}", self.id, self.last_words());
            }
            Ok(brokers_known(self.address())
                .ok()
                .filter(|known| *known == count))
        })?;
        ready.map(|_| ()).with_context(|| {
            format!(
                "kafka node {} does not know {count} brokers after {START_WITHIN:?}:\n{}",
                self.id,
                self.last_words()
            )
        })
    }

    /// # Errors
    /// When the system does not tell.
    pub fn wait_until_gone(&self, within: Duration) -> Result<bool> {
        Ok(poll_until(within, || Ok((!self.runs()).then_some(())))?.is_some())
    }

    pub(super) fn properties(&self) -> PathBuf {
        self.dir.join("node.properties")
    }

    fn last_words(&self) -> String {
        tail(&self.dir.join("log.txt"), 30)
    }

    pub(super) fn prepare(&self, cluster: &Cluster, cluster_id: &str) -> Result<()> {
        let data = self.dir.join("data");
        fs::create_dir_all(&data)?;
        // At each start: the port may be another one.
        fs::write(self.properties(), files::settings(self, cluster)?)?;
        fs::write(self.dir.join("log4j2.properties"), files::LOG4J)?;
        if data.join("meta.properties").exists() {
            return Ok(());
        }
        let mut format = files::java(&self.libs);
        format
            .args(["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c"])
            .arg(self.properties());
        secure::add_users(&mut format, &cluster.secure())?;
        let output = format.output().context("cannot start java")?;
        if !output.status.success() {
            bail!(
                "cannot format {}:\n{}{}",
                data.display(),
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }
}

/// The first of a node's ports that somebody listens on now.
pub(super) fn taken_from(first: u16) -> Option<u16> {
    let taken = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_err();
    (first..first + PORTS).find(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::free_port;

    #[test]
    fn a_port_that_somebody_listens_on_is_named() {
        let first = free_port(1);
        let node = Node {
            id: 1,
            port: first,
            life: Life::Tied,
            dir: PathBuf::new(),
            libs: PathBuf::new(),
        };
        node.may_listen().unwrap();
        for offset in [0, Listener::Expired.offset()] {
            let other = TcpListener::bind((Ipv4Addr::LOCALHOST, first + offset)).unwrap();
            let error = node.may_listen().unwrap_err().to_string();
            let named = format!("port {} is taken", first + offset);
            assert!(error.contains(&named), "{error}");
            drop(other);
        }
    }
}
