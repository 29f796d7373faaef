//! A real Apache Kafka on loopback, from Maven Central: one or three KRaft nodes in a directory,
//! started detached and found again by their pid files. Never anything but loopback.

pub mod access;
mod files;
pub mod group;
pub mod logs;
mod metadata;
mod node;
pub mod secure;
mod topics;
mod wire;

use std::{
    fs,
    net::{SocketAddr, ToSocketAddrs},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

pub use self::{
    access::Access,
    node::{Life, Node},
    secure::{Listener, Secure},
    topics::Bounded,
};

/// The release that the suite is run on.
pub const VERSION: &str = "4.1.0";
/// Where the first node listens unless told otherwise.
pub const DEFAULT_PORT: u16 = 19_092;

const STOP_WITHIN: Duration = Duration::from_secs(20);

/// The nodes of one directory.
#[derive(Clone, Debug)]
pub struct Cluster {
    dir: PathBuf,
    nodes: Vec<Node>,
}

impl Cluster {
    /// Fetches the jars if the directory has none, formats what is new, starts what does not run
    /// and waits until every node knows all the others.
    ///
    /// Node `n` listens on `port + 100 (n - 1)`, its controller on the port after that; the next
    /// two are for [`Cluster::routes`], and those after them are [`Listener`]'s.
    ///
    /// # Errors
    /// When Java or Maven are missing, the jars cannot be fetched, the directory was made for
    /// another number of nodes or runs on another port, somebody else listens on a port, or a node
    /// does not answer.
    pub fn up(dir: &Path, count: u16, port: u16, life: Life) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let dir = dir.canonicalize()?;
        let shape = dir.join("shape");
        let wanted = format!("{count} nodes from port {port}\n");
        if shape.exists() {
            Self::open(&dir)?.may_become(count, port)?;
        }
        let cluster = Self::lay_out(&dir, count, port, life);
        for node in cluster.nodes.iter().filter(|node| !node.runs()) {
            node.may_listen()?;
        }
        files::program("java", "default-jre-headless")?;
        files::fetch_jars(&dir)?;
        let id = files::cluster_id(&dir)?;
        Secure::made(&dir)?;
        for node in &cluster.nodes {
            node.prepare(&cluster, &id)?;
        }
        fs::write(shape, wanted)?;
        for node in &cluster.nodes {
            if !node.runs() {
                node.start()?;
            }
        }
        for node in &cluster.nodes {
            node.wait_until_it_knows(cluster.nodes.len())?;
        }
        Ok(cluster)
    }

    /// The cluster that an earlier `up` made in this directory, running or not.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(dir: &Path) -> Result<Self> {
        let shape = dir.join("shape");
        let text = fs::read_to_string(&shape)
            .with_context(|| format!("no Kafka of ours in {}", dir.display()))?;
        let mut numbers = text
            .split_whitespace()
            .filter_map(|word| word.parse::<u16>().ok());
        match (numbers.next(), numbers.next()) {
            (Some(count), Some(port)) => Ok(Self::lay_out(
                &dir.canonicalize()?,
                count,
                port,
                Life::Detached,
            )),
            _ => bail!("{} says {text:?}", shape.display()),
        }
    }

    /// Whether its nodes, with what they hold, may be started as these.
    fn may_become(&self, count: u16, port: u16) -> Result<()> {
        let (dir, known) = (self.dir.display(), self.nodes.len());
        if known != usize::from(count) {
            bail!(
                "{dir} was made for {known} node(s), not {count}: remove it (after `cargo xtask \
                 kafka down`) or give another --dir"
            );
        }
        let first = &self.nodes[0];
        if first.port != port && self.nodes.iter().any(Node::runs) {
            bail!(
                "the Kafka in {dir} runs, from port {}: end it (`cargo xtask kafka down`) before \
                 it is started from port {port}, or give another --dir",
                first.port
            );
        }
        Ok(())
    }

    /// For `kafka.brokers` and `--kafka`.
    pub fn bootstrap(&self) -> String {
        self.nodes[0].address().to_string()
    }

    /// All nodes, for who must start while one is away.
    pub fn bootstrap_all(&self) -> String {
        let nodes: Vec<_> = self
            .nodes
            .iter()
            .map(|node| node.address().to_string())
            .collect();
        nodes.join(",")
    }

    /// Where each node's clients expect a proxy if they come through the listener behind it, and
    /// that listener.
    ///
    /// # Errors
    /// When the nodes were set up before there was such a listener.
    pub fn routes(&self) -> Result<Vec<(SocketAddr, SocketAddr)>> {
        for node in &self.nodes {
            let text = fs::read_to_string(node.properties())?;
            if !text.contains(files::PROXIED) {
                bail!(
                    "the nodes in {} have no listener for a proxy: remove it (after `cargo xtask \
                     kafka down`) and start them anew",
                    self.dir.display()
                );
            }
        }
        Ok(self.nodes.iter().map(Node::route).collect())
    }

    /// For `kafka.brokers`, where clients come in by this listener of the first node.
    pub fn bootstrap_by(&self, listener: Listener) -> String {
        self.nodes[0].address_of(listener).to_string()
    }

    /// The certificates and users of the listeners with TLS and SASL.
    pub fn secure(&self) -> Secure {
        Secure::open(&self.dir)
    }

    /// Lets `principal` (as `User:limited`) do more: `words` as for `kafka-acls.sh --add`.
    ///
    /// # Errors
    /// When Kafka's own tool does not do it.
    pub fn allow(&self, principal: &str, words: &[&str]) -> Result<()> {
        let output = files::java(&self.dir.join("libs"))
            .args(["org.apache.kafka.tools.AclCommand", "--bootstrap-server"])
            .arg(self.bootstrap())
            .args(["--add", "--force", "--allow-principal", principal])
            .args(words)
            .output()
            .context("cannot start java")?;
        if !output.status.success() {
            bail!(
                "no rights for {principal}:\n{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }

    /// Sets a group's offsets to the log's beginnings, as an operator does: `kafka-consumer-groups.sh
    /// --reset-offsets`. The group must have no members.
    ///
    /// # Errors
    /// When Kafka's own tool does not do it.
    pub fn reset_offsets(&self, group: &str, topic: &str) -> Result<()> {
        let tool = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
        let output = files::java(&self.dir.join("libs"))
            .args([tool, "--bootstrap-server", &self.bootstrap()])
            .args(["--reset-offsets", "--to-earliest", "--execute"])
            .args(["--group", group, "--topic", topic])
            .output()
            .context("cannot start java")?;
        let said = String::from_utf8_lossy(&output.stdout);
        // It says so of what it did not do, too.
        if !output.status.success() || said.contains("Error") {
            let more = String::from_utf8_lossy(&output.stderr);
            bail!("the offsets of {group} are not reset:\n{said}{more}");
        }
        Ok(())
    }

    /// Bounds what each client may produce at each node; over it, answers say throttled.
    ///
    /// # Errors
    /// When Kafka's own tool does not do it.
    pub fn throttle_producers(&self, bytes_per_second: u32) -> Result<()> {
        let output = files::java(&self.dir.join("libs"))
            .args(["kafka.admin.ConfigCommand", "--bootstrap-server"])
            .arg(self.bootstrap_all())
            .args(["--alter", "--entity-type", "clients", "--entity-default"])
            .arg("--add-config")
            .arg(format!("producer_byte_rate={bytes_per_second}"))
            .output()
            .context("cannot start java")?;
        if !output.status.success() {
            bail!(
                "no quota:\n{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Ends every node that runs: SIGTERM, and SIGKILL for one that does not heed it. Returns how
    /// many ran.
    ///
    /// # Errors
    /// When a node outlives even that.
    pub fn down(&self) -> Result<usize> {
        let running: Vec<&Node> = self.nodes.iter().filter(|node| node.runs()).collect();
        for node in &running {
            // A frozen node would never hear the SIGTERM.
            let _ = node.signal(Signal::CONT);
            let _ = node.signal(Signal::TERM);
        }
        for node in &running {
            if !node.wait_until_gone(STOP_WITHIN)? {
                let _ = node.signal(Signal::KILL);
                if !node.wait_until_gone(STOP_WITHIN)? {
                    bail!("kafka node {} outlives a kill -9", node.id);
                }
            }
        }
        Ok(running.len())
    }

    /// Removes what nodes of an earlier run left in a directory, but not the jars.
    ///
    /// # Errors
    /// When a node of it still runs and cannot be ended.
    pub fn forget(dir: &Path) -> Result<()> {
        if let Ok(old) = Self::open(dir) {
            old.down()?;
            for node in old.nodes {
                let _ = fs::remove_dir_all(node.dir);
            }
        }
        for file in ["shape", "cluster-id"] {
            let _ = fs::remove_file(dir.join(file));
        }
        let _ = fs::remove_dir_all(dir.join("secure"));
        Ok(())
    }

    fn lay_out(dir: &Path, count: u16, port: u16, life: Life) -> Self {
        let nodes = (1..=count)
            .map(|id| Node {
                id,
                port: port + 100 * (id - 1),
                life,
                dir: dir.join(format!("node{id}")),
                libs: dir.join("libs"),
            })
            .collect();
        Self {
            dir: dir.to_owned(),
            nodes,
        }
    }
}

/// A first port for so many nodes, of which all ports are free now.
///
/// # Panics
/// When there is none.
pub fn free_port(count: u16) -> u16 {
    // Below those that tests take.
    let mut candidates = (0..600).map(|_| fastrand::u16(11_000..19_000));
    let all_free =
        |first: &u16| (0..count).all(|nth| node::taken_from(first + 100 * nth).is_none());
    candidates
        .find(all_free)
        .expect("ports for Kafka on loopback")
}

/// Whether a broker takes requests there, if need be by TLS and SASL.
///
/// # Errors
/// When it does not.
pub fn answers(address: &str, access: Option<&Access>) -> Result<()> {
    const API_VERSIONS: (u16, u16) = (18, 0);
    let host = address.rsplit_once(':').map_or("", |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut last = None;
    // A name may stand for several addresses, of which one is right.
    for address in address.to_socket_addrs()? {
        match wire::ask_by(access, host, address, API_VERSIONS, &[]) {
            Ok(_) => return Ok(()),
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("no such host")?)
}

/// The node that leads each partition of a topic, as any node of the cluster tells it.
///
/// # Errors
/// When none answers, or the topic is not there.
pub fn leaders(cluster: &Cluster, topic: &str) -> Result<Vec<u32>> {
    let mut last = None;
    for node in cluster.nodes() {
        match metadata::ask(node.address(), &[topic]).and_then(|known| known.leaders(topic)) {
            Ok(leaders) => return Ok(leaders),
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("a cluster has nodes")?)
}

/// Removes a topic and all that is in it from the cluster of these brokers, given as
/// `host:port,host:port`.
///
/// # Errors
/// When no broker does it.
pub fn delete_topic(brokers: &str, topic: &str) -> Result<()> {
    const DELETE_TOPICS: (u16, u16) = (20, 1);
    let mut body = 1_u32.to_be_bytes().to_vec();
    wire::put_text(&mut body, topic)?;
    body.extend(5_000_u32.to_be_bytes()); // for the others to hear of it
    let mut why = String::from("no broker is known");
    for broker in brokers
        .split(',')
        .filter_map(|b| b.to_socket_addrs().ok()?.next())
    {
        let error = wire::ask(broker, DELETE_TOPICS, &body).and_then(|answer| {
            let mut rest = wire::Rest(&answer);
            rest.take(4)?; // throttled for
            rest.count()?;
            rest.text()?;
            rest.i16()
        });
        match error {
            Ok(0) => return Ok(()),
            other => why = format!("{broker}: {other:?}"),
        }
    }
    bail!("topic {topic} is not deleted: {why}")
}

fn brokers_known(address: SocketAddr) -> Result<usize> {
    Ok(metadata::ask(address, &[])?.brokers)
}
