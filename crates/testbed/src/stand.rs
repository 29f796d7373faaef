//! A whole pipeline in a directory: broker, gateways, writers and aggregator as processes, with
//! the configuration files that a user would write, and the oracle at the end.

mod files;
mod rest;
mod runs;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    aside::Aside,
    config::Config,
    kafka::Access,
    ledger::Ledger,
    oracle::{self, Verdict},
    process::{Bins, Profile},
    service::{Broker, Service, run_to_end},
    store::Store,
};

pub use self::runs::{fresh_name, is_of_dead_run, remove_dead_runs};

/// The configuration file of the first service of each kind.
pub const CONFIG: &str = "sluice.yaml";
/// Longest `shutdownTimeout` in a stand; short, so that a hang is seen soon.
const SHUTDOWN: Duration = Duration::from_secs(15);

/// What to put up.
#[derive(Clone, Debug)]
pub struct Plan {
    pub profile: Profile,
    /// A broker that runs already, or several as `host:port,host:port`; `None` starts the
    /// embedded one.
    pub kafka: Option<String>,
    /// Of the embedded broker.
    pub nodes: u16,
    pub topic: String,
    pub partitions: u32,
    pub replication: u32,
    pub gateways: usize,
    pub writers: usize,
    /// `kafka.consumers` of each writer.
    pub consumers: u32,
    pub aggregator: bool,
    /// Further settings, by path, as YAML.
    pub settings: Vec<(String, String)>,
    /// What the gateways go through instead of [`Plan::kafka`], as proxies.
    pub gateways_kafka: Option<String>,
    /// The duplicate window is so short that the writer may put records aside as undecidable.
    pub may_be_undecidable: bool,
}

/// A pipeline. Everything ends with it; the directory stays.
#[derive(Debug)]
pub struct Stand {
    pub dir: PathBuf,
    pub plan: Plan,
    bins: Bins,
    pub broker: Option<Broker>,
    pub gateways: Vec<Service>,
    /// Where each gateway takes `/logs`.
    pub addresses: Vec<SocketAddr>,
    pub writers: Vec<Service>,
    pub aggregator: Service,
    config: Config,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            profile: Profile::Dev,
            kafka: None,
            nodes: 1,
            topic: fresh_name(),
            partitions: 4,
            replication: 1,
            gateways: 1,
            writers: 1,
            consumers: 1,
            aggregator: true,
            settings: Vec::new(),
            gateways_kafka: None,
            may_be_undecidable: false,
        }
    }
}

impl Plan {
    /// On the broker of `SLUICE_TEST_KAFKA`, by what `SLUICE_TEST_KAFKA_CONFIG` says, or on the
    /// embedded one.
    pub fn from_env() -> Self {
        let kafka = std::env::var("SLUICE_TEST_KAFKA")
            .ok()
            .filter(|address| !address.is_empty());
        let access = Access::from_env().filter(|_| kafka.is_some());
        Self {
            kafka,
            settings: access.map(Access::settings).unwrap_or_default(),
            ..Self::default()
        }
    }

    #[must_use]
    pub fn with(mut self, path: &str, value: impl ToString) -> Self {
        self.settings.push((path.to_owned(), value.to_string()));
        self
    }
}

impl Stand {
    /// Builds the services if need be, writes the configuration and starts everything; returns
    /// when all of it is ready.
    ///
    /// # Errors
    /// When something does not start; its last words are in the error.
    pub fn up(dir: &Path, plan: Plan) -> Result<Self> {
        let mut stand = Self::prepare(dir, plan)?;
        stand.start_broker()?;
        for writer in &mut stand.writers {
            writer.start()?;
        }
        stand.start_others()?;
        Ok(stand)
    }

    /// # Errors
    /// When the embedded broker, if it is to be one, does not listen.
    pub fn start_broker(&mut self) -> Result<()> {
        self.broker.as_mut().map_or(Ok(()), Broker::start)
    }

    /// Starts all but broker and writers, and waits until what runs is ready.
    ///
    /// # Errors
    /// When something does not start; its last words are in the error.
    pub fn start_others(&mut self) -> Result<()> {
        for gateway in &mut self.gateways {
            gateway.start()?;
        }
        if self.plan.aggregator {
            self.aggregator.start()?;
        }
        for service in self.services().filter(|service| service.is_running()) {
            service.wait_ready()?;
        }
        Ok(())
    }

    /// Everything but the start.
    ///
    /// # Errors
    /// When the services do not build, or the directory cannot be written.
    pub fn prepare(dir: &Path, plan: Plan) -> Result<Self> {
        let bins = Bins::built(plan.profile)?;
        fs::create_dir_all(dir.join("services"))
            .with_context(|| format!("cannot make {}", dir.display()))?;
        let dir = dir.canonicalize()?;
        let broker = plan.kafka.is_none().then(|| {
            let log = dir.join("services/dev-broker.log");
            Broker::new(bins.path("dev-broker"), plan.nodes, dir.join("kafka"), log)
        });
        let kafka = match &broker {
            Some(broker) => broker.bootstrap(),
            None => plan.kafka.clone().unwrap_or_default(),
        };
        let config = files::first_config(&dir, &plan, &kafka);
        let aggregator = files::service(&dir, &bins, &config, "aggregator", 0, false)?.0;
        let mut stand = Self {
            dir,
            bins,
            broker,
            gateways: Vec::new(),
            addresses: Vec::new(),
            writers: Vec::new(),
            aggregator,
            config,
            plan,
        };
        for _ in 0..stand.plan.gateways {
            stand.add_gateway()?;
        }
        for _ in 0..stand.plan.writers {
            stand.add_writer()?;
        }
        Ok(stand)
    }

    /// One more gateway, not started.
    ///
    /// # Errors
    /// When its configuration cannot be written.
    pub fn add_gateway(&mut self) -> Result<&mut Service> {
        self.add_gateway_with(&[])
    }

    /// The same with settings of its own, which only one that is not the first can have.
    ///
    /// # Errors
    /// As [`Stand::add_gateway`].
    pub fn add_gateway_with(&mut self, settings: &[(&str, &str)]) -> Result<&mut Service> {
        let number = self.gateways.len();
        let mut config = self.config.clone();
        for (path, value) in settings {
            config.set(path, value);
        }
        let own_kafka = self.plan.gateways_kafka.as_deref();
        if let Some(kafka) = own_kafka {
            config.set("kafka.brokers", files::brokers(kafka));
        }
        let (binary, own) = ("ingest-gateway", own_kafka.is_some());
        let (service, address) =
            files::service(&self.dir, &self.bins, &config, binary, number, own)?;
        self.addresses.push(address);
        self.gateways.push(service);
        Ok(&mut self.gateways[number])
    }

    /// One more writer on the same store, not started.
    ///
    /// # Errors
    /// When its configuration cannot be written.
    pub fn add_writer(&mut self) -> Result<&mut Service> {
        let number = self.writers.len();
        let binary = "kafka-consumer-writer";
        let (service, _) =
            files::service(&self.dir, &self.bins, &self.config, binary, number, false)?;
        self.writers.push(service);
        Ok(&mut self.writers[number])
    }

    pub fn services(&mut self) -> impl Iterator<Item = &mut Service> {
        let others = self.gateways.iter_mut().chain(&mut self.writers);
        others.chain(std::iter::once(&mut self.aggregator))
    }

    pub fn logs_dir(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// Where the topic's chains are.
    pub fn topic_dir(&self) -> PathBuf {
        self.logs_dir().join("_live").join(&self.plan.topic)
    }

    /// The broker's address, for other clients: several as `host:port,host:port`.
    pub fn kafka(&self) -> String {
        match &self.broker {
            Some(broker) => broker.bootstrap(),
            None => self.plan.kafka.clone().unwrap_or_default(),
        }
    }

    pub fn analytics_dir(&self) -> PathBuf {
        self.dir.join("analytics")
    }

    /// A product's binary by its name, whatever a service of it runs.
    pub fn binary(&self, name: &str) -> PathBuf {
        self.bins.path(name)
    }

    /// The sum of a metric over services that run; one that does not answer now counts as none.
    pub fn metric(services: &[Service], name: &str) -> Option<f64> {
        let running = services.iter().filter(|service| service.is_running());
        let mut sum = 0.0;
        for service in running {
            sum += service.metrics().ok()?.sum(name)?;
        }
        Some(sum)
    }

    /// Messages not yet stored, over the writers that run. One without a partition says nothing;
    /// when all say nothing, nothing is known.
    pub fn lag(&self) -> Option<f64> {
        let mut sum = None;
        for writer in self.writers.iter().filter(|writer| writer.is_running()) {
            if let Some(lag) = writer.metrics().ok()?.sum("consumer_lag_records") {
                *sum.get_or_insert(0.0) += lag;
            }
        }
        sum
    }

    /// Waits until the pipeline has nothing left to do, ends every service properly, counts what
    /// is there with `aggregator --once`, proves the chains with `verify`, and judges.
    ///
    /// # Errors
    /// When something does not come to rest in time, does not end properly, or is damaged. A
    /// verdict that does not hold is no error.
    pub fn settle(&mut self, ledger: &Ledger, within: Duration) -> Result<Verdict> {
        let mut store = Store::new(&self.logs_dir(), &self.plan.topic, &ledger.mix);
        self.settle_with(ledger, &mut store, within)
    }

    /// As [`Stand::settle`], with what has been read of the store.
    ///
    /// # Errors
    /// As [`Stand::settle`].
    pub fn settle_with(
        &mut self,
        ledger: &Ledger,
        store: &mut Store,
        within: Duration,
    ) -> Result<Verdict> {
        self.wait_at_rest(ledger, store, within)?;
        for gateway in &mut self.gateways {
            gateway.terminate_if_running()?;
        }
        for writer in &mut self.writers {
            writer.terminate_if_running()?;
        }
        self.aggregator.terminate_if_running()?;
        self.aggregate_once()?;
        self.verify()?;
        store.refresh()?;
        let aside = Aside::read(&self.dir)?;
        let may_be_aside = self.plan.may_be_undecidable;
        let analytics = self.analytics_dir();
        oracle::judge(ledger, store, &aside, may_be_aside, Some(&analytics))
    }

    /// Waits until a pipeline that runs on has nothing left to do, and judges what is stored. The
    /// load must rest.
    ///
    /// # Errors
    /// When it does not come to rest in time. A verdict that does not hold is no error.
    pub fn judge_stored(
        &self,
        ledger: &Ledger,
        store: &mut Store,
        within: Duration,
    ) -> Result<Verdict> {
        self.wait_at_rest(ledger, store, within)?;
        let aside = Aside::read(&self.dir)?;
        oracle::judge(ledger, store, &aside, self.plan.may_be_undecidable, None)
    }

    /// `aggregator --once`, which must end with 0.
    ///
    /// # Errors
    /// When it does not.
    pub fn aggregate_once(&self) -> Result<()> {
        let mut command = self.aggregator.command();
        command.arg("--once");
        let log = self.dir.join("services/aggregator-once.log");
        run_to_end(command, "aggregator --once", &log)
    }

    /// `kafka-consumer-writer verify`, which must say whole. Returns what it prints.
    ///
    /// # Errors
    /// When it says otherwise.
    pub fn verify(&self) -> Result<serde_json::Value> {
        let writer = self.writers.first().context("no writer to verify with")?;
        let output = std::process::Command::new(&writer.binary)
            .args(["verify", "--json", "--config"])
            .arg(&writer.config)
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            bail!(
                "verify ended with {}:\n{said}{}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        serde_json::from_str(&said).with_context(|| format!("verify --json printed {said:?}"))
    }
}
