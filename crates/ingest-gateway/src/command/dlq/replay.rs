//! `dlq replay`: sends what is wanted by the rules of the running gateway, and says what is left.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::Path,
    sync::Arc,
    time::Duration,
};

use kafka_link::Cluster;
use pipeline_core::{
    command::{Progress, Sending, failed, in_use},
    config::{Config, Telemetry},
    lifecycle::{Readiness, Shutdown, exit},
    telemetry::start_logging,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{list::span, say, survey::survey};
use crate::{
    budget::Budget,
    dlq::{
        Dlq, OpenError,
        files::holder,
        filter::Filter,
        replay::{Cause, Count, Pace, Replayer, Tally, is_for},
    },
    gateway::parts::{cluster_config, sender, start_dlq},
    producer::{
        drain::{DrainControl, drain},
        link::{Link, LinkConfig, ViewReceiver},
    },
};

/// Between two looks at what can be sent now.
const INTERVAL: Duration = Duration::from_millis(500);
/// Longest wait for Kafka's first word.
const FIRST_LOOK_MAX: Duration = Duration::from_secs(10);
/// What is on its way when the command is told to stop has this long.
const STOP_MAX: Duration = Duration::from_secs(5);
/// Between looks at how far it is.
const PROGRESS_LOOK: Duration = Duration::from_millis(250);

pub(super) fn run(config: Config, filter: Filter, how: &Sending) -> u8 {
    let dir = config.ingestion.producer_dlq_dir.clone();
    match holder(&dir) {
        Ok(Some(by)) => return in_use(&dir, &by, ADVICE),
        Ok(None) => {}
        Err(error) => return failed(&dir, &error),
    }
    let (wanted, unreadable) = match count(&dir, &filter) {
        Ok(counted) => counted,
        Err(error) => return failed(&dir, &error),
    };
    if wanted == Count::default() && unreadable > 0 {
        say("nothing that can be read is to be sent, what cannot be read is left");
        return exit::FAILED;
    }
    // What the gateway would log at each step is said here in sum.
    start_logging(&Telemetry {
        log_level: "warn".to_owned(),
        log_format: config.telemetry.log_format,
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a process that cannot have threads cannot send");
    let how = *how;
    runtime.block_on(async {
        let command = Command {
            wait: Duration::from_secs(how.wait),
            rate: how.rate.unwrap_or(0),
            config,
            filter,
            wanted,
        };
        if how.dry_run {
            command.dry_run().await
        } else {
            command.replay().await
        }
    })
}

struct Command {
    config: Config,
    filter: Filter,
    rate: u64,
    wait: Duration,
    /// When it began.
    wanted: Count,
}

const ADVICE: &str = ". A gateway that runs replays by itself as soon as Kafka takes what is here; \
     stop it to replay by hand.";

/// Gives also what cannot be read, so that nobody knows whether it is wanted.
fn count(dir: &Path, filter: &Filter) -> io::Result<(Count, u64)> {
    let survey = survey(dir, filter, &mut |_, _| Ok(()))?;
    for line in &survey.damage {
        say(&format!("damage: {line}"));
    }
    let wanted = Count {
        entries: survey.entries,
        records: survey.records,
    };
    Ok((wanted, survey.unreadable))
}

impl Command {
    fn dir(&self) -> &Path {
        &self.config.ingestion.producer_dlq_dir
    }

    fn link(&self) -> (Cluster, Link) {
        let kafka = &self.config.kafka;
        let cluster = Cluster::new(cluster_config(&self.config));
        let link = LinkConfig {
            topic: kafka.topic.as_str().into(),
            create: None,
        };
        let link = Link::new(cluster.clone(), link);
        (cluster, link)
    }

    async fn dry_run(self) -> u8 {
        let (_, mut link) = self.link();
        let unfit = link.first_look(self.wait.min(FIRST_LOOK_MAX)).await.err();
        let view = link.view().borrow().clone();
        let topic = self.config.kafka.topic.as_str();
        let cluster = view.as_ref().map(|view| &*view.cluster_id);
        let mut ours = BTreeMap::<Option<i32>, Count>::new();
        let mut foreign = BTreeMap::<String, Count>::new();
        let surveyed = survey(self.dir(), &self.filter, &mut |_, entry| {
            let head = entry.head;
            // Without Kafka's word, as if the cluster were the right one.
            let cluster = cluster.unwrap_or(&head.cluster_id);
            let counted = if is_for(head, cluster, topic) {
                let fixed = entry.marks.progress_of(head, entry.position).partition;
                let id = fixed.or_else(|| Some(view.as_ref()?.partition_of(head.batch)));
                ours.entry(id.map(|id| id.0)).or_default()
            } else {
                let place = format!("cluster {} topic {}", head.cluster_id, head.topic);
                foreign.entry(place).or_default()
            };
            *counted += Count {
                entries: 1,
                records: entry.records.into(),
            };
            Ok(())
        });
        if let Err(error) = surveyed {
            return failed(self.dir(), &error);
        }
        let mut lines = Vec::new();
        for (partition, count) in ours {
            let partition = partition.map_or_else(|| "?".to_owned(), |id| id.to_string());
            let count = shown(count);
            lines.push(format!(
                "would send {count} to topic {topic} partition {partition}"
            ));
        }
        for (place, count) in foreign {
            lines.push(format!("would leave {}: for {place}", shown(count)));
        }
        if let Some(why) = unfit {
            lines.push(format!("but {why}"));
        } else if view.is_none() {
            lines.push("but kafka does not answer".to_owned());
        }
        if self.wanted == Count::default() {
            lines.push("nothing to send".to_owned());
        }
        // A closed stdout is no failure of what was asked.
        let _ = writeln!(io::stdout(), "{}", lines.join("\n"));
        exit::OK
    }

    async fn replay(self) -> u8 {
        if self.wanted == Count::default() {
            say(&format!("{}: nothing to send", self.dir().display()));
            return exit::OK;
        }
        let dlq = match start_dlq(&self.config).await {
            Ok(dlq) => dlq,
            Err(OpenError::InUse { dir, by }) => {
                return in_use(&dir, by.as_deref().unwrap_or("a process"), ADVICE);
            }
            Err(error) => {
                say(&error.to_string());
                return exit::FAILED;
            }
        };
        let shutdown = Shutdown::install(Readiness::default(), STOP_MAX * 2);
        let (cluster, mut link) = self.link();
        let unfit = link.first_look(self.wait.min(FIRST_LOOK_MAX)).await.err();
        let view = link.view();
        let done = CancellationToken::new();
        let keeper = tokio::spawn(link.keep(done.clone()));

        let (control, drain) = drain();
        let memory = Budget::without_reserve(self.config.server.memory_budget);
        let sender = sender(&self.config, cluster, drain, &memory);
        let mut replayer = Replayer::of(
            dlq.clone(),
            sender,
            view.clone(),
            Pace::Rate(self.rate),
            self.filter.clone(),
            shutdown.token(),
        );
        let progress = tokio::spawn(progress(replayer.tally(), self.wanted, done.clone()));
        let watch = tokio::spawn(end_sends(shutdown.clone(), control, done.clone()));
        if unfit.is_none() {
            self.until_done(&mut replayer, &dlq, &shutdown).await;
        }
        done.cancel();
        dlq.stop().await;
        // None of them fails; the first two end with `done`.
        let _ = tokio::join!(keeper, progress, watch);
        self.summary(&replayer, &view, unfit, shutdown.is_requested())
    }

    /// Rounds, until nothing is left that waiting would help.
    async fn until_done(&self, replayer: &mut Replayer, dlq: &Dlq, shutdown: &Shutdown) {
        let tally = replayer.tally();
        let mut moved = Instant::now();
        while !shutdown.is_requested() {
            let before = tally.count();
            let whole = replayer.round().await;
            let progress = tally.count() != before;
            if progress {
                moved = Instant::now();
            }
            let may_pass = replayer.left().keys().any(|cause| cause.may_pass());
            // After progress there may be entries of records that were kept apart.
            if whole && !may_pass && (!progress || dlq.totals().entries == 0) {
                return;
            }
            if moved.elapsed() >= self.wait {
                return;
            }
            if !progress {
                tokio::select! {
                    () = tokio::time::sleep(INTERVAL) => {}
                    () = shutdown.requested() => {}
                }
            }
        }
    }

    fn summary(
        &self,
        replayer: &Replayer,
        view: &ViewReceiver,
        unfit: Option<String>,
        stopped: bool,
    ) -> u8 {
        say(&format!("replayed {}", shown(replayer.tally().count())));
        let left = match count(self.dir(), &self.filter) {
            Ok((left, _)) => left,
            Err(error) => return failed(self.dir(), &error),
        };
        let causes = replayer.left();
        if left == Count::default() && !causes.contains_key(&Cause::Unreadable) {
            say("none of them is left");
            return exit::OK;
        }
        say(&format!(
            "left are {}, in {}",
            shown(left),
            self.dir().display()
        ));
        if let Some(why) = unfit {
            say(&format!("  {why}"));
        } else if view.borrow().is_none() {
            say(&format!(
                "  kafka did not answer within {}: {}",
                span(self.wait.as_secs()),
                self.config.kafka.brokers.join(", ")
            ));
        }
        for (cause, count) in causes {
            say(&format!("  {}: {}", shown(count), cause.as_str()));
        }
        if stopped {
            say("stopped; run it again to go on");
        }
        exit::FAILED
    }
}

/// What is on its way when the command is told to stop has a moment, and no more.
async fn end_sends(shutdown: Shutdown, control: DrainControl, done: CancellationToken) {
    tokio::select! {
        () = shutdown.requested() => {
            control.end_at(std::time::Instant::now() + STOP_MAX);
            done.cancelled().await;
        }
        () = done.cancelled() => {}
    }
}

async fn progress(tally: Arc<Tally>, wanted: Count, done: CancellationToken) {
    let progress = Progress::begin();
    let began = Instant::now();
    let mut ticks = tokio::time::interval(PROGRESS_LOOK);
    loop {
        tokio::select! {
            () = done.cancelled() => return progress.end(),
            _ = ticks.tick() => {}
        }
        let count = tally.count();
        let seconds = began.elapsed().as_secs().max(1);
        progress.show(|| {
            format!(
                "replayed {} of {} records, {} of {} entries, {} records/s",
                count.records,
                wanted.records,
                count.entries,
                wanted.entries,
                count.records / seconds
            )
        });
    }
}

fn shown(count: Count) -> String {
    format!("{} entries with {} records", count.entries, count.records)
}
