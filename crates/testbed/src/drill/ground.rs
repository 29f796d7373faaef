//! What a drill happens on: a pipeline with small bounds, a load, Prometheus, and a person with the
//! runbook in a shell.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};

use super::{
    Plan, rules,
    runbook::{Done, Runbook, Shell},
    senders::Sender,
    watch::Watch,
};
use crate::{
    body::Mix,
    control::Control,
    disk::SmallDisk,
    load::{self, Load},
    process::poll_until,
    prometheus::Prometheus,
    stand::{self, Stand},
};

const DISK_BYTES: u64 = 48 << 20;
/// Longest wait for anything that is no alert.
pub const SOON: Duration = Duration::from_secs(60);
/// Of the load, records a second.
const RATE: u32 = 300;

/// The gateway that answers before anything is kept, which a drill is rude to.
pub const ASYNC: usize = 1;
/// The gateway with a certificate.
pub const TLS: usize = 2;

pub struct Ground {
    pub stand: Stand,
    pub prometheus: Prometheus,
    pub watch: Watch,
    pub load: Option<Load>,
    /// Store and analytics, each on one of its own; none where this process may not mount.
    pub disks: Option<[SmallDisk; 2]>,
    pub senders: Vec<Sender>,
    /// Something was lost on purpose.
    pub has_lost: bool,
    runbook: Runbook,
    done: Vec<Done>,
}

impl Ground {
    /// # Errors
    /// When something does not start.
    pub fn up(dir: &Path, plan: &Plan, certificate_days: u32) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let mounted = [dir.join("store-disk"), dir.join("analytics-disk")]
            .map(|dir| SmallDisk::mount(&dir, DISK_BYTES));
        let [store, analytics] = mounted;
        let disks = store?.zip(analytics?).map(|(a, b)| [a, b]);
        let mut stand = Stand::prepare(dir, stand_plan(plan))?;
        if !plan.quick {
            stand.add_gateway_with(&[("kafka.async", "true")])?;
            super::senders::certificate(&stand.dir, certificate_days)?;
            let files = [
                ("server.tls.certFile", "server.crt"),
                ("server.tls.keyFile", "server.key"),
            ];
            stand.add_gateway_with(&files)?;
        }
        stand.start_broker()?;
        for writer in &mut stand.writers {
            writer.start()?;
        }
        stand.start_others()?;

        let deployed = plan.repository.join("deploy/observability");
        let quick = stand.dir.join("rules");
        fs::create_dir_all(&quick)?;
        let read = |name: &str| {
            let path = deployed.join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let alerts = rules::alerts(&read("rules/alerts.yml")?)?;
        fs::write(quick.join("alerts.yml"), alerts)?;
        let books = rules::books(&read("rules/books.yml")?)?;
        fs::write(quick.join("books.yml"), books)?;
        let config = read("prometheus.yml")?;
        let prometheus = Prometheus::start(&config, &quick.join("*.yml"), &stand)?;
        let watch = Watch::start(prometheus.address());
        let load = Load::start(
            &stand.addresses[..1],
            load::Plan {
                mix: Mix {
                    seed: plan.seed,
                    records: (1, 40),
                    broken_every: 0,
                    ..Mix::default()
                },
                rate: Some(RATE),
                patience: Duration::from_secs(1),
                ..load::Plan::default()
            },
        );
        let mut ground = Self {
            stand,
            prometheus,
            watch,
            load: Some(load),
            disks,
            senders: Vec::new(),
            has_lost: false,
            runbook: Runbook::read(&plan.repository.join("docs/runbook.md"))?,
            done: Vec::new(),
        };
        // What a counter counted before it was first seen has not grown.
        let services = ground.stand.services().count();
        ground.wait_above("count(count_over_time(up[1h]) > 2)", services as f64 - 0.5)?;
        Ok(ground)
    }

    /// Runs what the runbook says confirms the alert. Returns how many commands that were.
    ///
    /// # Errors
    /// When one is not there or fails.
    pub fn confirm(&mut self, alert: &str) -> Result<usize> {
        let lines = self.runbook.confirm(alert)?;
        for line in &lines {
            self.shell_line(0, &line.text)?;
        }
        Ok(lines.len())
    }

    /// Runs the one command of a section of the runbook that begins so, on the host of a gateway.
    ///
    /// # Errors
    /// When it is not there, or fails as a command.
    pub fn runbook(&mut self, gateway: usize, section: &str, start: &str) -> Result<Done> {
        let line = self.runbook.command(section, start)?;
        self.shell_line(gateway, &line)
    }

    /// The one command of a section of the runbook that begins so.
    ///
    /// # Errors
    /// When it is not there.
    pub fn command(&self, section: &str, start: &str) -> Result<String> {
        self.runbook.command(section, start)
    }

    /// What was run since the last call.
    pub fn take_done(&mut self) -> Vec<Done> {
        std::mem::take(&mut self.done)
    }

    pub fn control(&self) -> Result<&Control> {
        let broker = self.stand.broker.as_ref();
        Ok(&broker.context("the embedded broker")?.control)
    }

    /// Waits until a query gives a number above this.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_above(&mut self, query: &str, bound: f64) -> Result<()> {
        let mut last = Vec::new();
        let prometheus = &mut self.prometheus;
        let came = poll_until(SOON, || {
            last = prometheus.query(query)?;
            Ok(last.iter().any(|it| *it > bound).then_some(()))
        })?;
        came.with_context(|| format!("{query} is {last:?}, not above {bound}"))
    }

    /// Waits until nothing waits in Kafka.
    ///
    /// # Errors
    /// When something does.
    pub fn wait_stored(&self) -> Result<()> {
        let mut lag = None;
        // Under the load there are always some on their way.
        let came = poll_until(SOON, || {
            lag = self.stand.lag();
            Ok(lag.filter(|lag| *lag < f64::from(RATE)))
        })?;
        came.map(drop)
            .with_context(|| format!("the lag is {lag:?}"))
    }

    /// The ends of the services' logs, for errors.
    pub fn last_words(&mut self) -> String {
        let words = self.stand.services().map(|service| {
            let tail = crate::process::tail(&service.log, 4);
            format!("\n--- {}\n{tail}", service.name)
        });
        words.collect()
    }

    /// Ends everything properly.
    ///
    /// # Errors
    /// When something does not end as it should.
    pub fn end(&mut self) -> Result<()> {
        self.senders.clear();
        self.load.take().map(Load::stop);
        for service in self.stand.services() {
            service.terminate_if_running()?;
        }
        Ok(())
    }

    /// Runs a line as on the host of the first gateway.
    ///
    /// # Errors
    /// When it fails as a command.
    pub fn line(&mut self, line: &str) -> Result<Done> {
        self.shell_line(0, line)
    }

    /// Where the chains are.
    pub fn topic_dir(&self) -> PathBuf {
        let live = self.stand.dir.join("store-disk/logs/_live");
        live.join(&self.stand.plan.topic)
    }

    fn shell_line(&mut self, gateway: usize, line: &str) -> Result<Done> {
        let done = self.shell(gateway)?.run(line)?;
        self.done.push(done.clone());
        Ok(done)
    }

    /// A person on the host of a gateway.
    fn shell(&self, gateway: usize) -> Result<Shell> {
        let stand = &self.stand;
        let topic = stand.plan.topic.clone();
        let first_broker = stand.kafka();
        let first_broker = first_broker.split(',').next().unwrap_or_default();
        let service = stand.gateways.get(gateway).context("a gateway")?;
        let local = |admin: SocketAddr| format!("localhost:{}", admin.port());
        let dlq = match gateway {
            0 => "dlq/producer".to_owned(),
            _ => format!("dlq/producer-{}", gateway + 1),
        };
        let names = [
            ("config.yaml", path(&service.config)),
            ("localhost:9101", local(service.admin)),
            ("localhost:9102", local(stand.writers[0].admin)),
            ("localhost:9103", local(stand.aggregator.admin)),
            ("localhost:8080", local(stand.addresses[gateway])),
            ("dlq/producer", dlq),
            ("KAFKA", first_broker.to_owned()),
            ("TOPIC", topic.clone()),
            ("GROUP", format!("{topic}-writer")),
        ];
        let bins = stand.binary("ingest-gateway");
        Ok(Shell {
            dir: stand.dir.clone(),
            bins: bins.parent().map(PathBuf::from).context("a directory")?,
            names: names.map(|(page, here)| (page.to_owned(), here)).to_vec(),
            // One that does not run has none, and no command then asks.
            pid: service.pid().unwrap_or(0),
        })
    }
}

/// kill -9, damage and hunger are what the small bounds are for: each alert in seconds.
fn stand_plan(plan: &Plan) -> stand::Plan {
    let stand = stand::Plan {
        profile: plan.profile,
        nodes: 3,
        replication: 3,
        partitions: 2,
        ..stand::Plan::default()
    };
    stand
        .with("storage.logsDir", "store-disk/logs")
        .with("storage.analyticsDir", "analytics-disk/analytics")
        .with("storage.archiveDir", "archive")
        .with("ingestion.queueBufferSize", 8)
        .with("ingestion.producerWorkers", 1)
        .with("ingestion.producerDLQMaxBytes", "64MiB")
        .with("consumer.dlqMaxBytes", "16MiB")
        .with("consumer.persistTimeout", "2s")
        .with("consumer.stallTimeout", "4s")
        .with("consumer.sessionTimeout", "6s")
}

fn path(path: &Path) -> String {
    path.display().to_string()
}
