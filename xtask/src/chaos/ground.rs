//! What every campaign stands on: its Kafka, its directory, and how both end.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use testbed::{
    kafka::{self, Cluster},
    stand,
};

use super::Args;
use crate::{
    kafka::{Temporary, ours_in},
    shell::{require_broker, root},
};

/// The Kafka of a campaign. One that was started for it ends with this value.
pub struct Ground {
    /// One whose nodes may be hit.
    pub cluster: Option<Cluster>,
    /// Where the stand comes to, as `host:port,host:port`; `None` starts the embedded broker.
    pub kafka: Option<String>,
    own: Option<Temporary>,
    nodes: u16,
}

impl Ground {
    /// As the command line says; starts an Apache Kafka where that is asked for.
    pub fn prepare(args: &Args) -> Result<Self> {
        let nodes = args.nodes.parse()?;
        if args.apache {
            let dir = args.kafka_dir.clone();
            let dir = dir.unwrap_or_else(|| root().join("target/chaos-kafka"));
            let own = Temporary::up(&dir, nodes)?;
            return Ok(Self {
                cluster: Some(own.cluster().clone()),
                kafka: Some(own.cluster().bootstrap_all()),
                own: Some(own),
                nodes,
            });
        }
        let cluster = given(args)?;
        let kafka = match &cluster {
            Some(cluster) => Some(cluster.bootstrap_all()),
            None => args.kafka.clone(),
        };
        if cluster.is_none() && kafka.is_some() {
            println!("this Kafka was not started by us: only the services are hit");
        }
        Ok(Self {
            cluster,
            kafka,
            own: None,
            nodes,
        })
    }

    /// Whether the Kafka was started for this run alone.
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// A stand on it, with as many copies of each record as there are nodes.
    pub fn stand(&self, args: &Args) -> Result<stand::Plan> {
        let copies = match (&self.cluster, &self.kafka) {
            (Some(cluster), _) => u32::try_from(cluster.nodes().len())?,
            (None, Some(_)) => 1,
            (None, None) => u32::from(self.nodes),
        };
        Ok(stand::Plan {
            profile: args.profile(),
            kafka: self.kafka.clone(),
            nodes: self.nodes,
            replication: copies,
            ..stand::Plan::default()
        })
    }

    /// The end of a run: what is broken is left for a look, all else goes.
    pub fn end(self, dir: &Path, topic: &str, holds: bool) -> Result<()> {
        if !holds {
            let dir = dir.display();
            bail!("the promise is broken; everything is left in {dir}");
        }
        std::fs::remove_dir_all(dir)?;
        match (self.own, &self.kafka) {
            (Some(own), _) => own.down(),
            (None, Some(kafka)) => kafka::delete_topic(kafka, topic),
            (None, None) => Ok(()),
        }
    }
}

/// Where this run happens.
pub fn place(args: &Args, stand: &stand::Plan) -> PathBuf {
    let dir = args.dir.clone();
    let dir = dir.unwrap_or_else(|| root().join("target/chaos"));
    let dir = dir.join(&stand.topic);
    println!("building and starting in {}", dir.display());
    dir
}

/// The Kafka of `kafka up`, if that is the one to run on.
pub fn given(args: &Args) -> Result<Option<Cluster>> {
    let Some(address) = &args.kafka else {
        return Ok(None);
    };
    require_broker(address)?;
    let dir = args.kafka_dir.clone();
    let dir = dir.unwrap_or_else(|| root().join(".kafka"));
    let ours = ours_in(&dir, address);
    if ours.is_none() && args.kafka_dir.is_some() {
        bail!("{address} is no node of the Kafka in {}", dir.display());
    }
    Ok(ours)
}
