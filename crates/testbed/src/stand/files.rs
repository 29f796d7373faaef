//! The configuration files of a stand, and the services they belong to.

use std::{net::SocketAddr, path::Path};

use anyhow::{Context, Result};

use super::{CONFIG, Plan, SHUTDOWN};
use crate::{
    config::{Config, quoted},
    process::{Bins, free_port},
    service::Service,
};

/// A service that is not started, and where it takes requests if it is a gateway. `own_file`: its
/// configuration is not that of the others.
pub fn service(
    dir: &Path,
    bins: &Bins,
    config: &Config,
    binary: &str,
    number: usize,
    own_file: bool,
) -> Result<(Service, SocketAddr)> {
    let name = match number {
        0 => binary.to_owned(),
        _ => format!("{binary}-{}", number + 1),
    };
    // The first of each share one file, as on one machine; a further one needs addresses and
    // a DLQ of its own.
    let mut config = config.clone();
    let file = match number {
        0 if !own_file => dir.join(CONFIG),
        _ => dir.join("services").join(format!("{name}.yaml")),
    };
    if number > 0 {
        config
            .set("server.addr", loopback())
            .set("server.adminAddr", loopback())
            .set("consumer.adminAddr", loopback())
            .set("aggregation.adminAddr", loopback())
            .set(
                "ingestion.producerDLQDir",
                format!("dlq/producer-{}", number + 1),
            )
            .set("consumer.dlqDir", format!("dlq/consumer-{}", number + 1));
        if let Some(instance) = config.get("kafka.groupInstanceID") {
            let own = format!("{instance}-{}", number + 1);
            config.set("kafka.groupInstanceID", own);
        }
    }
    config.write(&file, "Made by Sluice's testbed.")?;
    let admin = match binary {
        "ingest-gateway" => "server.adminAddr",
        "kafka-consumer-writer" => "consumer.adminAddr",
        _ => "aggregation.adminAddr",
    };
    let admin = config
        .get(admin)
        .context("the admin address is set")?
        .parse()?;
    let address = config
        .get("server.addr")
        .context("the address is set")?
        .parse()?;
    let log = dir.join("services").join(format!("{name}.log"));
    let service = Service::new(name, bins.path(binary), file, admin, log, SHUTDOWN);
    Ok((service, address))
}

/// An address that nothing else here has.
pub fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

/// `host:port,host:port` as YAML.
pub fn brokers(addresses: &str) -> String {
    let each: Vec<_> = addresses.split(',').map(quoted).collect();
    format!("[{}]", each.join(", "))
}

/// What the first service of each kind reads.
pub fn first_config(dir: &Path, plan: &Plan, kafka: &str) -> Config {
    let mut config = Config::default();
    let shutdown = format!("{}s", SHUTDOWN.as_secs());
    config
        .set("dataDir", quoted(dir.display()))
        .set("server.addr", loopback())
        .set("server.adminAddr", loopback())
        .set("server.shutdownTimeout", &shutdown)
        .set("kafka.brokers", brokers(kafka))
        .set("kafka.topic", &plan.topic)
        .set("kafka.groupID", format!("{}-writer", plan.topic))
        .set("kafka.consumers", plan.consumers)
        .set("kafka.createTopic.partitions", plan.partitions)
        .set("kafka.createTopic.replicationFactor", plan.replication)
        .set("consumer.adminAddr", loopback())
        .set("consumer.shutdownTimeout", &shutdown)
        .set("aggregation.interval", "1s")
        .set("aggregation.adminAddr", loopback())
        .set("aggregation.shutdownTimeout", &shutdown)
        .set("telemetry.log.level", "info");
    for (path, value) in &plan.settings {
        config.set(path, value);
    }
    config
}
