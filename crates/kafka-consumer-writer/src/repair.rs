//! `repair`: sets the damaged end of a chain aside, if Kafka still has its offsets. The writer
//! then reads them once more.
//!
//! Whoever repairs joins the group and must get all partitions: so no other writer extends a chain
//! meanwhile. One that is frozen finds its place taken when it wakes, or halts.

use std::{
    io::Write,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use kafka_link::{Beat, Cluster, ErrorKind, GroupConfig, KafkaError, Member, Pulse, TopicInfo};
use pipeline_core::{
    Offset, PartitionId,
    config::Config,
    lifecycle::exit,
    store::{
        Chain, Store,
        repair::{Examined, Repair},
    },
};
use tokio::task::JoinHandle;

use crate::{
    service::new_cluster,
    steps::log_bounds,
    takeover::{Difference, same_topic},
};

/// For all that is asked of Kafka, the dead members' session timeout included.
const KAFKA_PATIENCE: Duration = Duration::from_secs(120);

/// Longest pause between heartbeats.
const BEAT_MAX: Duration = Duration::from_secs(1);
/// Between words about how far it has got.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// What is left to do: its cursor is behind what was set aside, and what is read once more has
/// other segments.
const AGGREGATOR: &str = "an aggregator that has counted what was set aside halts there: when the \
     writer has read it once more, stop the aggregator and run `aggregator rebuild`";

/// Why a chain that could be repaired is not.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("{0}")]
    Hopeless(String),
    #[error("nothing can be said of the rest of the chain before that can be read")]
    Unreadable,
    #[error(transparent)]
    Difference(#[from] Difference),
    #[error(
        "Kafka has nothing before {log_start} any more: {lost} records from {next} on would be lost; restore the file from a backup"
    )]
    Expired {
        next: Offset,
        log_start: Offset,
        lost: i64,
    },
    #[error("the log ends at {log_end}, before {next}: it was truncated")]
    Truncated { next: Offset, log_end: Offset },
    #[error(
        "other members of group {group} hold {theirs} of the {all} partitions: stop all writers first"
    )]
    InUse {
        group: String,
        theirs: usize,
        all: usize,
    },
    #[error("the chain has changed meanwhile, or others came into the group: run it again")]
    Changed,
    #[error("{0}")]
    Disk(String),
    #[error("Kafka does not answer: {0}")]
    Kafka(String),
}

struct Finding {
    chain: Chain,
    /// What is wrong, whether or not it can be repaired.
    damage: String,
    outcome: Result<Repair, Refused>,
}

/// The command: as [`run`], on stdout.
#[must_use]
pub fn command(config: &Config, dry_run: bool) -> u8 {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("failed to start the runtime: {error}");
            return exit::FAILED;
        }
    };
    let mut out = std::io::stdout().lock();
    let code = runtime.block_on(run(config, dry_run, &mut out));
    code.unwrap_or(exit::FAILED)
}

/// Repairs what can be repaired; gives the exit code: 0 when nothing is damaged any more (or, dry,
/// when all damage can be repaired), 75 where Kafka does not answer and nothing else is in the way,
/// 1 when not.
///
/// # Errors
/// Where `out` cannot be written.
pub async fn run(config: &Config, dry_run: bool, out: &mut dyn Write) -> std::io::Result<u8> {
    let topic = &config.kafka.topic;
    let root = config.storage.logs_dir.clone();
    let looked = blocking({
        let topic = topic.clone();
        move || look(root, &topic, dry_run)
    });
    let Looked {
        store,
        mut damaged,
        whole,
        completed,
    } = match looked.await {
        Ok(looked) => looked,
        Err(error) => {
            writeln!(out, "{error}")?;
            return Ok(exit::FAILED);
        }
    };
    writeln!(
        out,
        "{topic}: {whole} chains whole, {} damaged",
        damaged.len()
    )?;
    for partition in completed {
        writeln!(
            out,
            "{topic} p{:05}: its newest snapshot stands in two files again",
            partition.0
        )?;
    }
    if damaged.is_empty() {
        return Ok(exit::OK);
    }
    // Before Kafka is waited for: whoever looks after the store must know in any case.
    for Finding { chain, damage, .. } in &damaged {
        writeln!(out, "{}: {damage}", name(chain))?;
    }
    let cluster = new_cluster(&config.kafka);
    judge_all(&cluster, topic, &mut damaged).await;
    let mut code = exit::OK;
    let mut repairs = Vec::new();
    for Finding { chain, outcome, .. } in damaged {
        match outcome {
            Ok(repair) => repairs.push((chain, repair)),
            Err(refused) => {
                code = refused.exit_code(code);
                writeln!(out, "{}: not repaired: {refused}", name(&chain))?;
            }
        }
    }
    if repairs.is_empty() {
        return Ok(code);
    }
    if dry_run {
        for (chain, repair) in repairs {
            let name = name(&chain);
            for path in &repair.aside {
                writeln!(out, "{name}: would set aside {}", path.display())?;
            }
            writeln!(out, "{name}: the writer would read on at {}", repair.next)?;
        }
        return Ok(code);
    }
    let mut member = match join(&cluster, config).await {
        Ok(member) => member,
        Err(refused) => {
            writeln!(out, "nothing is repaired: {refused}")?;
            return Ok(refused.exit_code(code));
        }
    };
    let alone = Alone::new(member.pulse(), config.consumer.session_timeout);
    let mut repaired = false;
    for (chain, repair) in repairs {
        let (name, next) = (name(&chain), repair.next);
        let to = store.aside_dir(&chain);
        let mut go_on = alone.go_on();
        let moved = blocking(move || chain.set_aside(&repair, &to, &mut go_on)).await;
        let moved = moved
            .map_err(|error| Refused::Disk(error.to_string()))
            .and_then(|moved| moved.ok_or(Refused::Changed));
        match moved {
            Ok(moved) => {
                repaired = true;
                for path in moved {
                    writeln!(out, "{name}: set aside as {}", path.display())?;
                }
                writeln!(out, "{name}: the writer reads on at {next}")?;
            }
            Err(refused) => {
                code = refused.exit_code(code);
                writeln!(out, "{name}: not repaired: {refused}")?;
            }
        }
    }
    drop(alone);
    member.leave().await;
    if repaired {
        writeln!(out, "{AGGREGATOR}")?;
    }
    Ok(code)
}

fn name(chain: &Chain) -> String {
    format!("{} p{:05}", chain.topic(), chain.partition().0)
}

impl Refused {
    /// Of the command, where it was `before` without this: what Kafka alone is in the way of can
    /// be tried later.
    fn exit_code(&self, before: u8) -> u8 {
        match self {
            Self::Kafka(_) if before != exit::FAILED => exit::TRY_LATER,
            _ => exit::FAILED,
        }
    }
}

/// Keeps the membership while files are moved, however long that takes, and says when it is over:
/// another member has come, or the group has thrown this one out.
struct Alone {
    is_so: Arc<AtomicBool>,
    beating: JoinHandle<()>,
}

impl Alone {
    fn new(pulse: Pulse, session_timeout: Duration) -> Self {
        let is_so = Arc::new(AtomicBool::new(true));
        let told = is_so.clone();
        let beating = tokio::spawn(async move {
            let mut clock = tokio::time::interval((session_timeout / 4).min(BEAT_MAX));
            let mut heard = Instant::now();
            loop {
                clock.tick().await;
                match pulse.heartbeat().await {
                    Ok(Beat::Stable) => heard = Instant::now(),
                    // A broker that is away for a moment throws nobody out.
                    Err(error)
                        if !matches!(
                            error.kind,
                            ErrorKind::Lost | ErrorKind::Fenced | ErrorKind::Rejoin
                        ) && heard.elapsed() < session_timeout / 2 => {}
                    Ok(Beat::Rebalance) | Err(_) => break,
                }
            }
            told.store(false, Ordering::Release);
        });
        Self { is_so, beating }
    }

    fn go_on(&self) -> impl FnMut() -> bool + Send + use<> {
        let is_so = self.is_so.clone();
        move || is_so.load(Ordering::Acquire)
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.beating.abort();
    }
}

struct Looked {
    store: Store,
    damaged: Vec<Finding>,
    whole: usize,
    /// Whole ones of whose newest snapshot a file was missing or damaged.
    completed: Vec<PartitionId>,
}

/// Every damaged chain of the topic, and how many are whole. Whoever has a whole one may go on with
/// it meanwhile: its snapshot is completed all the same.
fn look(root: PathBuf, topic: &str, dry_run: bool) -> Result<Looked, String> {
    let store = Store::open_existing(&root).map_err(|error| error.to_string())?;
    let store = store.ok_or_else(|| format!("there is no store at {}", root.display()))?;
    let mut damaged = Vec::new();
    let mut whole = 0;
    let mut completed = Vec::new();
    let (mut segments, mut said) = (0_u64, Instant::now());
    let mut progress = || {
        segments += 1;
        if said.elapsed() >= SAY_EVERY {
            said = Instant::now();
            eprintln!("{segments} segments read");
        }
    };
    for chain in store.chains().map_err(|error| error.to_string())? {
        if chain.topic() != topic {
            continue;
        }
        let (damage, outcome) = match chain.examine(&mut progress) {
            Ok(Examined::Whole) if dry_run => {
                whole += 1;
                continue;
            }
            Ok(Examined::Whole) => match chain.complete_newest_snapshot() {
                Ok(done) => {
                    whole += 1;
                    completed.extend(done.then_some(chain.partition()));
                    continue;
                }
                Err(error) => (
                    "the newest snapshot stands in one file".to_owned(),
                    Err(Refused::Disk(error.to_string())),
                ),
            },
            Ok(Examined::Repairable(repair)) => (repair.damage.to_string(), Ok(repair)),
            Ok(Examined::Hopeless { damage, why }) => {
                (damage.to_string(), Err(Refused::Hopeless(why)))
            }
            Err(fault) => (fault.to_string(), Err(Refused::Unreadable)),
        };
        damaged.push(Finding {
            chain,
            damage,
            outcome,
        });
    }
    Ok(Looked {
        store,
        damaged,
        whole,
        completed,
    })
}

/// Asks Kafka about what could be repaired, for one patience in all.
async fn judge_all(cluster: &Cluster, topic: &str, damaged: &mut [Finding]) {
    let deadline = tokio::time::Instant::now() + KAFKA_PATIENCE;
    for finding in damaged {
        let Ok(repair) = &finding.outcome else {
            continue;
        };
        let partition = finding.chain.partition();
        let asked = async {
            let info = cluster.topic(topic).await?;
            let bounds = log_bounds(cluster, topic, partition).await?;
            Ok::<_, KafkaError>((info, bounds))
        };
        let refused = match tokio::time::timeout_at(deadline, asked).await {
            Ok(Ok((info, bounds))) => judge(repair, &info, bounds).err(),
            Ok(Err(error)) => Some(Refused::Kafka(error.to_string())),
            Err(_) => Some(Refused::Kafka(format!("for {KAFKA_PATIENCE:?}"))),
        };
        if let Some(refused) = refused {
            finding.outcome = Err(refused);
        }
    }
}

/// Whether Kafka has all from the repaired chain's end on.
fn judge(repair: &Repair, info: &TopicInfo, bounds: (Offset, Offset)) -> Result<(), Refused> {
    same_topic(&repair.start, &info.cluster_id, &info.topic_id)?;
    let (next, (log_start, log_end)) = (repair.next, bounds);
    if next < log_start {
        let lost = log_start.0 - next.0;
        return Err(Refused::Expired {
            next,
            log_start,
            lost,
        });
    }
    if log_end < next {
        return Err(Refused::Truncated { next, log_end });
    }
    Ok(())
}

/// Joins the group as its only member.
async fn join(cluster: &Cluster, config: &Config) -> Result<Member, Refused> {
    let kafka = |error: KafkaError| Refused::Kafka(error.to_string());
    let all = cluster.topic(&config.kafka.topic).await.map_err(kafka)?;
    let all = all.partitions.len();
    let session_timeout = config.consumer.session_timeout;
    let group = GroupConfig {
        group_id: config.kafka.group_id.clone(),
        instance_id: None,
        topic: config.kafka.topic.clone(),
        session_timeout,
        rebalance_timeout: config.consumer.persist_timeout + session_timeout,
    };
    let mut member = Member::new(cluster.clone(), group);
    let joined = tokio::time::timeout(KAFKA_PATIENCE, member.join()).await;
    let assignment = match joined {
        Ok(joined) => joined.map_err(kafka)?,
        Err(_) => return Err(Refused::Kafka(format!("for {KAFKA_PATIENCE:?}"))),
    };
    let ours = assignment.partitions.len();
    if ours < all {
        member.leave().await;
        return Err(Refused::InUse {
            group: config.kafka.group_id.clone(),
            theirs: all - ours,
            all,
        });
    }
    Ok(member)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
