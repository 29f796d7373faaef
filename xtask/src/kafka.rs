//! `cargo xtask kafka up|down`: a real Apache Kafka on this machine.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::Result;
use clap::Subcommand;
use testbed::kafka::{Cluster, DEFAULT_PORT, Life, Listener, VERSION, free_port};

use crate::shell::root;

/// A real Apache Kafka on loopback, for tests and measurements
///
/// Nothing is installed: the jars come from Maven Central into the directory (54 MB, once), and
/// the nodes run on the machine's own Java. Needs Java 17 and Maven (Debian: apt-get install
/// default-jre-headless maven).
#[derive(Subcommand)]
pub enum Command {
    /// Start it (or find it running) and print its address
    ///
    /// Listens without TLS, and besides with TLS and SASL; what its clients need for that (`kafka:`
    /// with `tls:`, `sasl:`) is made in files that are named. All users may do everything but
    /// `limited`, who has no rights. The data stays in the directory over down and up. Each node takes about 340 MB of memory.
    Up {
        /// 1, or 3 with every topic's copies on all of them and min.insync.replicas=2
        #[arg(long, default_value = "1", value_parser = ["1", "3"])]
        nodes: String,
        /// Jars, settings, logs and data [default: .kafka in the repository]
        #[arg(long)]
        dir: Option<PathBuf>,
        /// The first node's port; the next ones are 100 and 200 above it, controllers one above each
        #[arg(long, default_value_t = DEFAULT_PORT, value_parser = clap::value_parser!(u16).range(1024..=65_300))]
        port: u16,
    },
    /// End it; its data stays
    Down {
        /// The directory given to `up` [default: .kafka in the repository]
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

/// The Kafka that `kafka up` started in this directory, if one of its nodes is at the address.
pub fn ours_in(dir: &Path, address: &str) -> Option<Cluster> {
    let cluster = Cluster::open(dir).ok()?;
    let mut nodes = cluster.nodes().iter();
    nodes
        .any(|node| node.address().to_string() == address)
        .then_some(cluster)
}

/// The same in the directory that it takes by itself.
pub fn ours(address: &str) -> Option<Cluster> {
    ours_in(&place(&None), address)
}

pub fn run(command: &Command) -> Result<()> {
    match command {
        Command::Up { nodes, dir, port } => up(&place(dir), nodes.parse()?, *port),
        Command::Down { dir } => down(&place(dir)),
    }
}

/// A Kafka that ends with this value, for `ci` and `chaos`.
pub struct Temporary {
    cluster: Cluster,
    address: String,
}

impl Temporary {
    /// Jars are kept in the directory, data is not.
    pub fn up(dir: &Path, nodes: u16) -> Result<Self> {
        Cluster::forget(dir)?;
        println!(
            "\n▸ Apache Kafka {VERSION}, {nodes} node(s), in {}",
            dir.display()
        );
        let start = Instant::now();
        let cluster = Cluster::up(dir, nodes, free_port(nodes), Life::Tied)?;
        let address = cluster.bootstrap();
        println!("{address} after {:.1} s", start.elapsed().as_secs_f64());
        Ok(Self { cluster, address })
    }

    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// Ends it, and forgets its data; after a failure that stays for a look.
    pub fn down(self) -> Result<()> {
        self.cluster.down()?;
        Cluster::forget(self.cluster.dir())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // On the way out of a failure that has its own message.
        let _ = self.cluster.down();
    }
}

fn up(dir: &Path, nodes: u16, port: u16) -> Result<()> {
    println!(
        "Apache Kafka {VERSION}, {nodes} node(s), in {}",
        dir.display()
    );
    let start = Instant::now();
    let cluster = Cluster::up(dir, nodes, port, Life::Detached)?;
    for node in cluster.nodes() {
        let pid = node.pid().unwrap_or_default();
        println!("  node {} on {} (pid {pid})", node.id(), node.address());
    }
    println!(
        "ready after {:.1} s; end it with `cargo xtask kafka down`",
        start.elapsed().as_secs_f64()
    );
    let secure = cluster.secure();
    for (listener, what, file) in [
        (
            Listener::MutualTls,
            "TLS both ways",
            secure.mutual_tls_config(),
        ),
        (
            Listener::SaslSsl,
            "TLS and SASL",
            secure.sasl_config("SCRAM-SHA-512"),
        ),
        (
            Listener::SaslPlaintext,
            "SASL PLAIN without TLS",
            secure.sasl_config("PLAIN-without-TLS"),
        ),
    ] {
        let address = cluster.bootstrap_by(listener);
        println!("{what}: {address} --kafka-config {}", file.display());
    }
    println!("{}", cluster.bootstrap());
    Ok(())
}

fn down(dir: &Path) -> Result<()> {
    let cluster = Cluster::open(dir)?;
    let ended = cluster.down()?;
    println!(
        "{ended} node(s) ended; the data stays in {}",
        cluster.dir().display()
    );
    Ok(())
}

fn place(dir: &Option<PathBuf>) -> PathBuf {
    dir.clone().unwrap_or_else(|| root().join(".kafka"))
}
