//! The disk of the store and of the analytics, what is put aside, and a chain that is damaged.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::{
    Expected, Wave,
    ground::{Ground, SOON},
    senders::Sender,
};
use crate::{
    process::poll_until,
    service::Service,
    stand::Stand,
    store::{newest, segments},
};

pub const FULL: Wave = Wave {
    name: "full: the disk of the store",
    alerts: &[
        Expected {
            alert: "SluiceDiskFull",
            label: "volume=store",
            cause: "nothing is free on the store's disk",
        },
        Expected {
            alert: "SluiceSavesFailing",
            label: "",
            cause: "saves find no room",
        },
        Expected {
            alert: "SluiceNothingStored",
            label: "",
            cause: "records wait",
        },
        Expected {
            alert: "SluiceMemberStalled",
            label: "",
            cause: "the member has left its group",
        },
        Expected {
            alert: "SluiceLagNearRetention",
            label: "",
            cause: "the oldest record is old",
        },
        Expected {
            alert: "SluiceLagGrowing",
            label: "",
            cause: "more records come",
        },
        Expected {
            alert: "SluiceDiskFilling",
            label: "volume=store",
            cause: "under 15 % is free",
        },
    ],
    cause: |ground| ground.disk(0)?.fill(0),
    mend: |ground| {
        ground.disk(0)?.free()?;
        ground.wait_stored()
    },
};

pub const ASIDE: Wave = Wave {
    name: "aside: poison in the topic, and a full disk of the analytics",
    alerts: &[
        Expected {
            alert: "SluiceConsumerDlqNearlyFull",
            label: "",
            cause: "poison comes fast, 16 MiB for it",
        },
        Expected {
            alert: "SluiceRecordsPutAside",
            label: "",
            cause: "it waits for a decision",
        },
        Expected {
            alert: "SluiceAggregationLate",
            label: "",
            cause: "no room for a manifest",
        },
    ],
    cause: |ground| {
        ground.disk(1)?.fill(0)?;
        let (broker, topic) = (ground.stand.kafka(), ground.stand.plan.topic.clone());
        ground.senders = vec![Sender::start(Duration::from_millis(500), move || {
            // Kafka is there; what does not come now comes next.
            let _ = poison(&broker, &topic, 20);
        })];
        Ok(())
    },
    mend: |ground| {
        ground.senders.clear();
        ground.disk(1)?.free()?;
        decide(ground)
    },
};

pub const DAMAGED: Wave = Wave {
    name: "damaged: a byte of a segment that is not counted yet",
    alerts: &[
        Expected {
            alert: "SluicePartitionHalted",
            label: "reason=damaged",
            cause: "the writer will not extend it",
        },
        Expected {
            alert: "SluiceChainNotCounted",
            label: "",
            cause: "the aggregator will not count it",
        },
    ],
    cause: |ground| {
        ground.stand.aggregator.terminate()?;
        damage(ground)?;
        ground.stand.aggregator.start()?;
        ground.stand.aggregator.wait_ready()
    },
    mend: |ground| {
        repair(ground)?;
        ground.wait_stored()?;
        ground.stand.aggregator.terminate()?;
        let rebuild = "aggregator rebuild --config config.yaml";
        let done = ground.runbook(0, "SluiceChainNotCounted", rebuild)?;
        if done.code != 0 {
            bail!("{done:?}");
        }
        ground.stand.aggregator.start()?;
        ground.stand.aggregator.wait_ready()?;
        whole(ground)
    },
};

/// A name that does not answer stands for a disk that hangs: whoever opens it waits.
pub const HANGS: Wave = Wave {
    name: "hangs: a segment whose disk does not answer",
    alerts: &[Expected {
        alert: "SluiceChainsUnread",
        label: "",
        cause: "who opens the last segment of a chain waits for ever",
    }],
    cause: |ground| {
        ground.stand.aggregator.terminate()?;
        ground.stand.writers[0].terminate()?;
        let last = last_of_first(&ground.topic_dir())?;
        fs::rename(&last, kept(&last)?)?;
        let made = Command::new("mkfifo").arg(&last).status()?;
        if !made.success() {
            bail!("mkfifo ended with {made}");
        }
        start(&mut ground.stand.writers[0])
    },
    mend: |ground| {
        // As the page has it: the mount is mended, and what hung in it is forced off.
        let last = last_of_first(&ground.topic_dir())?;
        fs::rename(kept(&last)?, &last)?;
        ground.stand.writers[0].kill()?;
        start(&mut ground.stand.writers[0])?;
        start(&mut ground.stand.aggregator)?;
        ground.wait_stored()
    },
};

/// Two alerts in some seconds; with [`super::kafka::QUICK`] what a test has time for.
pub const QUICK: Wave = Wave {
    name: "quick: poison, a damaged segment",
    alerts: &[
        Expected {
            alert: "SluicePartitionHalted",
            label: "reason=damaged",
            cause: "a byte of a segment changed",
        },
        Expected {
            alert: "SluiceRecordsPutAside",
            label: "",
            cause: "poison in the topic",
        },
    ],
    cause: |ground| {
        let (broker, topic) = (ground.stand.kafka(), ground.stand.plan.topic.clone());
        poison(&broker, &topic, 3)?;
        let aside = poll_until(SOON, || {
            let records = Stand::metric(&ground.stand.writers, "consumer_dlq_records");
            Ok((records == Some(3.0)).then_some(()))
        })?;
        aside.context("the poison is not put aside")?;
        damage(ground)
    },
    mend: |ground| {
        repair(ground)?;
        decide(ground)?;
        ground.wait_stored()?;
        whole(ground)
    },
};

impl Ground {
    /// # Errors
    /// When this process may not mount one.
    fn disk(&self, nth: usize) -> Result<&crate::disk::SmallDisk> {
        let disks = self.disks.as_ref();
        let why = "a full disk needs a mount, which needs root: leave these waves out (--only)";
        Ok(&disks.context(why)?[nth])
    }
}

/// Messages that are no records, into the first partition.
fn poison(broker: &str, topic: &str, messages: usize) -> Result<()> {
    let mut kcat = Command::new("timeout")
        .args(["20", "kcat", "-b", broker, "-P", "-t", topic, "-p", "0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start kcat")?;
    // Not all alike: a dead letter queue packs what is.
    let text: String = (0..messages)
        .map(|_| {
            format!(
                "this is no record {:032x}{:032x}\n",
                fastrand::u128(..),
                fastrand::u128(..)
            )
        })
        .collect();
    let mut input = kcat.stdin.take().context("a standard input")?;
    input.write_all(text.as_bytes())?;
    drop(input);
    let status = kcat.wait()?;
    if !status.success() {
        bail!("kcat ended with {status}");
    }
    Ok(())
}

/// As the runbook has it for poison: looked at, kept, thrown away.
fn decide(ground: &mut Ground) -> Result<()> {
    let section = "Decide undecidable and poison records";
    for start in [
        "kafka-consumer-writer dlq list",
        "kafka-consumer-writer dlq show    --config config.yaml --kind poison",
        "kafka-consumer-writer dlq discard --config config.yaml --kind poison",
    ] {
        let mut line = ground.command(section, start)?;
        if start.contains("discard") {
            // It asks a person; here nobody can be asked.
            line.push_str(" --yes");
        }
        let done = ground.line(&line)?;
        if done.code != 0 {
            bail!("{done:?}");
        }
    }
    let kept = fs::read_to_string(ground.stand.dir.join("kept.ndjson"))?;
    if !kept.contains("this is no record") {
        bail!("the poison is not in kept.ndjson: {kept}");
    }
    Ok(())
}

/// Ends the writer, changes a byte in the last segment of the first partition, and starts it.
fn damage(ground: &mut Ground) -> Result<()> {
    let topic = ground.topic_dir();
    let before = segments(&topic)?.len();
    let more = poll_until(SOON, || {
        Ok((segments(&topic)?.len() > before + 2).then_some(()))
    })?;
    more.context("nothing is stored")?;
    ground.stand.writers[0].terminate()?;
    let path = last_of_first(&topic)?;
    let mut bytes = fs::read(&path)?;
    let middle = bytes.len() / 3;
    bytes[middle] ^= 0xff;
    // Nobody may write to a segment: a copy takes its name.
    let copy = path.with_extension("damaged");
    fs::write(&copy, bytes)?;
    fs::rename(&copy, &path)?;
    start(&mut ground.stand.writers[0])
}

/// The newest segment of the first partition.
fn last_of_first(topic: &Path) -> Result<PathBuf> {
    let last = newest(topic)?.into_iter().find(|(it, _)| *it == 0);
    Ok(last.context("partition 0 has no segment")?.1)
}

/// Where a segment is meanwhile: on its disk, outside of all chains.
fn kept(segment: &Path) -> Result<PathBuf> {
    let logs = segment
        .ancestors()
        .nth(4)
        .context("DIR/_live/TOPIC/PARTITION")?;
    Ok(logs.join("kept-segment"))
}

/// As the runbook has it for a damaged end.
fn repair(ground: &mut Ground) -> Result<()> {
    ground.stand.writers[0].terminate()?;
    let section = "SluicePartitionHalted";
    let dry = "kafka-consumer-writer repair --config config.yaml --dry-run";
    let line = ground.runbook(0, section, dry)?;
    if line.code != 0 && line.code != 1 {
        bail!("{line:?}");
    }
    // "then without `--dry-run`"
    let done = ground.line(&dry.replace(" --dry-run", ""))?;
    if done.code != 0 {
        bail!("{done:?}");
    }
    start(&mut ground.stand.writers[0])
}

/// `verify` says so.
fn whole(ground: &mut Ground) -> Result<()> {
    let verify = "kafka-consumer-writer verify --config config.yaml --kafka";
    let done = ground.runbook(0, "SluicePartitionHalted", verify)?;
    if done.code != 0 {
        bail!("{done:?}");
    }
    Ok(())
}

fn start(service: &mut Service) -> Result<()> {
    service.start()?;
    service.wait_ready()
}
