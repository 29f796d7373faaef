//! `repair`: sets the damaged end of a chain aside, if Kafka still has its offsets. The writer
//! then reads them once more. Of a chain that is whole, snapshots that are damaged are set aside.
//!
//! Whoever repairs joins the group and must be alone in it: so no other writer extends a chain
//! meanwhile. One that is frozen finds its place taken when it wakes, or halts.

mod alone;
mod judge;

use std::{
    io::Write,
    path::PathBuf,
    time::{Duration, Instant},
};

use pipeline_core::{
    config::Config,
    lifecycle::exit,
    store::{
        Chain, Store, StoreError,
        mend::Mended,
        repair::{Examined, Repair},
    },
};

use crate::service::new_cluster;
use alone::Alone;
pub use judge::Refused;
use judge::judge_all;

/// For all that is asked of Kafka, the dead members' session timeout included.
const KAFKA_PATIENCE: Duration = Duration::from_secs(120);

/// Between words about how far it has got.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// What is left to do: its cursor is behind what was set aside, and what is read once more has
/// other segments.
const AGGREGATOR: &str = "an aggregator that has counted what was set aside halts there: when the \
     writer has read it once more, stop the aggregator and run `aggregator rebuild`";

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
        mended,
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
    for (name, snapshots) in &mended {
        say_mended(name, snapshots, out)?;
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
    let alone = match Alone::join(&cluster, config).await {
        Ok(alone) => alone,
        Err(refused) => {
            writeln!(out, "nothing is repaired: {refused}")?;
            return Ok(refused.exit_code(code));
        }
    };
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
    alone.leave().await;
    if repaired {
        writeln!(out, "{AGGREGATOR}")?;
    }
    Ok(code)
}

fn say_mended(name: &str, snapshots: &Snapshots, out: &mut dyn Write) -> std::io::Result<()> {
    match snapshots {
        Snapshots::WouldGo(damaged) => {
            for path in damaged {
                let path = path.display();
                writeln!(
                    out,
                    "{name}: would make anew or set aside {path}: a damaged snapshot"
                )?;
            }
        }
        Snapshots::Mended(Mended { completed, aside }) => {
            if *completed {
                writeln!(out, "{name}: its newest snapshot stands in two files again")?;
            }
            for path in aside {
                let path = path.display();
                writeln!(out, "{name}: a damaged snapshot is set aside as {path}")?;
            }
        }
    }
    Ok(())
}

fn name(chain: &Chain) -> String {
    format!("{} p{:05}", chain.topic(), chain.partition().0)
}

struct Looked {
    store: Store,
    damaged: Vec<Finding>,
    whole: usize,
    /// Of whole ones, by name.
    mended: Vec<(String, Snapshots)>,
}

/// What became of damaged snapshots beside a chain that is whole.
enum Snapshots {
    Mended(Mended),
    /// In a dry run.
    WouldGo(Vec<PathBuf>),
}

/// Every damaged chain of the topic, and how many are whole. Whoever has a whole one may go on with
/// it meanwhile: its snapshots are mended all the same.
fn look(root: PathBuf, topic: &str, dry_run: bool) -> Result<Looked, String> {
    let store = Store::open_existing(&root).map_err(|error| error.to_string())?;
    let store = store.ok_or_else(|| format!("there is no store at {}", root.display()))?;
    let mut damaged = Vec::new();
    let mut whole = 0;
    let mut mended = Vec::new();
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
            Ok(Examined::Whole) => match mend(&store, &chain, dry_run) {
                Ok(snapshots) => {
                    whole += 1;
                    mended.push((name(&chain), snapshots));
                    continue;
                }
                Err(error) => (
                    "a snapshot is damaged or stands in one file".to_owned(),
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
        mended,
    })
}

fn mend(store: &Store, chain: &Chain, dry_run: bool) -> Result<Snapshots, StoreError> {
    Ok(if dry_run {
        Snapshots::WouldGo(chain.damaged_snapshots()?)
    } else {
        Snapshots::Mended(chain.mend_snapshots(&store.aside_dir(chain))?)
    })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
