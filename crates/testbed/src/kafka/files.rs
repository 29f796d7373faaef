//! What a Kafka node needs on disk: the jars, its settings, its log's settings, the cluster's id.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use super::{Cluster, Node, VERSION, secure};

/// Name of the listener that a proxy may stand before.
pub const PROXIED: &str = "PROXIED";

/// One node's `node.properties`.
pub fn settings(node: &Node, cluster: &Cluster) -> Result<String> {
    let count = cluster.nodes.len();
    let in_sync = count.div_ceil(2);
    let voters: Vec<String> = cluster
        .nodes
        .iter()
        .map(|node| format!("{}@127.0.0.1:{}", node.id, node.port + 1))
        .collect();
    Ok(format!(
        "process.roles=broker,controller
node.id={id}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},{PROXIED}://{proxied},CONTROLLER://127.0.0.1:{controller}{more}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},{PROXIED}://{proxy}{more}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,{PROXIED}:PLAINTEXT{protocols}
{secure}log.dirs={data}
offsets.topic.replication.factor={count}
offsets.topic.num.partitions=1
transaction.state.log.replication.factor={count}
transaction.state.log.min.isr={in_sync}
min.insync.replicas={in_sync}
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
# What a measurement made goes soon after it, and what is over a topic's bound while it runs.
log.retention.check.interval.ms=5000
log.segment.delete.delay.ms=1000
# Failover fast enough for tests.
replica.lag.time.max.ms=3000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
# Leaders go home soon, so that the next node that dies leads something.
leader.imbalance.check.interval.seconds=5
",
        id = node.id,
        voters = voters.join(","),
        port = node.port,
        controller = node.port + 1,
        proxied = node.route().1,
        proxy = node.route().0,
        data = node.dir.join("data").display(),
        more = secure::listeners(node),
        protocols = secure::PROTOCOLS,
        secure = secure::settings(cluster)?,
    ))
}

pub const LOG4J: &str = "status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d %p %m (%c)%n
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
";

fn pom() -> String {
    format!(
        r#"<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>sluice</groupId>
  <artifactId>kafka-for-tests</artifactId>
  <version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>{VERSION}</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.25.1</version></dependency>
  </dependencies>
</project>
"#
    )
}

/// The jars, once.
pub fn fetch_jars(dir: &Path) -> Result<()> {
    let libs = dir.join("libs");
    if libs.join(format!("kafka_2.13-{VERSION}.jar")).exists() {
        return Ok(());
    }
    program("mvn", "maven")?;
    fs::write(dir.join("pom.xml"), pom())?;
    // Into a directory beside, renamed when whole: an interrupted fetch is begun anew.
    let half = dir.join("libs.partial");
    let _ = fs::remove_dir_all(&half);
    let output = Command::new("mvn")
        .current_dir(dir)
        .args(["-q", "-B", "dependency:copy-dependencies"])
        .arg(format!("-DoutputDirectory={}", half.display()))
        .output()
        .context("cannot start mvn")?;
    if !output.status.success() {
        bail!(
            "maven cannot fetch Kafka {VERSION}:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let _ = fs::remove_dir_all(&libs);
    fs::rename(&half, &libs).with_context(|| format!("no jars in {}", half.display()))
}

/// Kept, so that a node added to the directory later joins the same cluster.
pub fn cluster_id(dir: &Path) -> Result<String> {
    let file = dir.join("cluster-id");
    if let Ok(id) = fs::read_to_string(&file) {
        return Ok(id.trim().to_owned());
    }
    let output = java(&dir.join("libs"))
        .args(["kafka.tools.StorageTool", "random-uuid"])
        .output()
        .context("cannot start java")?;
    let said = String::from_utf8(output.stdout)?;
    let id = said.lines().last().unwrap_or_default().trim().to_owned();
    if !output.status.success() || id.is_empty() {
        bail!(
            "no cluster id from kafka:\n{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    fs::write(file, &id)?;
    Ok(id)
}

/// Java with the jars.
pub fn java(libs: &Path) -> Command {
    let mut command = Command::new("java");
    command.arg("-cp").arg(libs.join("*"));
    command
}

/// That a program can be started, or which package has it.
pub fn program(name: &str, package: &str) -> Result<()> {
    match Command::new(name)
        .arg("-version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
    {
        Ok(_) => Ok(()),
        Err(error) => bail!(
            "`{name}` cannot be started ({error}): a real Kafka needs Java 17 and Maven \
             (Debian: apt-get install {package})"
        ),
    }
}
