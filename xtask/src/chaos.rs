//! `cargo xtask chaos`: faults under load, many times, and the oracle at the end.

mod aggregator;
mod gateway;
mod ground;
mod rebalances;
mod writer;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use testbed::{
    body::Mix,
    chaos::{self, Target},
    load,
    process::Profile,
    stand,
};

use self::ground::Ground;

/// How long all of Kafka is away, once, in `pipeline`.
const OUTAGE: Duration = Duration::from_secs(20);
/// `server.requestTimeout` at its default, and what a busy machine adds.
const ANSWER_WITHIN: Duration = Duration::from_secs(33);

/// Faults under load at seeded moments, then the oracle
///
/// Starts a whole pipeline and sends records all the while: every format, half of the bodies
/// gzip, four of ten with an Idempotency-Key (sent again, with it, until they are accepted), the
/// others sent once. At the end everything comes to rest, `verify` must say whole, and the oracle
/// compares: each record of a 202 stored once and counted once, no other record there but those
/// whose answer never came or was 503 unknown_outcome, and these at most once. The oracle reads
/// with `zstdcat` (Debian: apt-get install zstd) and shares no code with the product.
///
/// `gateway`: rounds of every fault that the gateway has to bear, often several at once: kill -9,
/// SIGSTOP, SIGTERM; leaders moved, nodes and all of Kafka frozen or killed; acks lost after the
/// write, late, throttled, error codes; a full disk for the dead letters; kill -9 while Kafka is
/// away. Each round follows from --seed and its number alone, and --only runs it again by itself
/// (what is in flight then is the machine's choice, so it may take a few tries). On the embedded
/// broker with three nodes, or with --apache on an Apache Kafka of its own, where a proxy between
/// gateway and Kafka loses the acks and a quota throttles. As root the dead letters lie on a small
/// tmpfs that is filled; else they are bounded to 256 KiB. With --dedup-max-batches 10 the writer
/// may put records aside as undecidable, and still none is lost or stored twice; clients then do
/// not repeat what may have been taken, as no window would know it.
///
/// `writer`: in each round the writer ends as by kill -9 at a seeded step: before or after it makes a
/// segment, puts aside what is no record, writes, syncs, links or removes a file, syncs the
/// directory, commits; and comes back after a moment. In some it is stopped there instead, past its
/// session, until another has gone on and what it would extend is removed; then it is woken. All the
/// while segments are removed behind it, by a process that ends at its own steps. Both are builds of
/// their own, with fault points that no product has. Messages that are no records come in between,
/// and copies of what is in the logs; in every second stretch of ten rounds the duplicate window is
/// tiny, so that they fall out of it. After each stretch the load pauses, and what is stored must be
/// what was accepted. On the embedded broker with three nodes, or with --apache on an Apache Kafka of
/// its own; before one round of four the leader of a partition is killed. The books are compared at
/// every scrape, beside a stopped writer too, and at the end each message of the logs with the
/// chains' order and the consumer DLQ, and the chains' totals with all that is there. Then what is
/// undecidable and not stored is replayed, by a replay that is killed and run again, the rest thrown
/// away, and each accepted record is stored once.
///
/// `aggregator`: in each round the aggregator ends as by kill -9 at a seeded step: counting, putting
/// states and manifests, rendering, archiving, removing segments and days; or is stopped there
/// instead, until another has done its work, and woken; or a `rebuild` ends so, at times with all
/// state lost. All with archive and retention on, under a load with records of 1970 and 2099, while
/// the writer is killed or stopped now and then. DuckDB (`pip install duckdb`) reads the archive all
/// the while, and at pauses and at the end every count of every summary is compared with what it
/// computes from the stored records, and the archive with these. On a broker of one node.
///
/// `pipeline`: in each round one service is killed with -9 and started again, at 20,000 records a
/// second or more: any of the three and the broker, which is frozen for a while, killed and
/// started again on its data; once, in the middle, all of Kafka is away for 20 s.
///
/// `rebalances`: up to four writers come and go: in each round one is started, ended, killed with
/// -9, or frozen until others have its partitions, at times while the group is still at the move
/// before. The order in each partition is compared with the log too (Debian: apt-get install
/// kcat).
#[derive(clap::Args)]
pub struct Args {
    #[arg(value_enum)]
    what: What,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 20)]
    rounds: u32,
    /// The first round [gateway]
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    from: u32,
    /// This round alone [gateway]
    #[arg(long, value_name = "N", conflicts_with_all = ["from", "rounds"], value_parser = clap::value_parser!(u32).range(1..))]
    only: Option<u32>,
    /// Print the rounds and do nothing [gateway, writer, aggregator]
    #[arg(long)]
    list: bool,
    /// A broker that runs already. One that `cargo xtask kafka up` started is hit too by
    /// `gateway` and `pipeline`; of any other only the services are hit
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// The directory given to `kafka up` [default: .kafka in the repository], or with --apache
    /// where to start one: what an earlier one left there is removed, but not the jars [default:
    /// target/chaos-kafka]
    #[arg(long, value_name = "DIR")]
    kafka_dir: Option<PathBuf>,
    /// Start an Apache Kafka for this run and end it afterwards; needs Java 17 and Maven
    #[arg(long, conflicts_with = "kafka")]
    apache: bool,
    /// Nodes of the Kafka that is started: replication 3 and min.insync.replicas 2 with three
    #[arg(long, default_value = "3", value_parser = ["1", "3"])]
    nodes: String,
    /// `consumer.dedupMaxBatches`: 10 makes the duplicate window tiny [gateway]
    #[arg(long, value_name = "N")]
    dedup_max_batches: Option<u32>,
    /// Records a second; 0 is as fast as it goes [default: 25000; gateway and writer 3000, aggregator 500]
    #[arg(long)]
    rate: Option<u32>,
    /// Where everything happens; made new for each run below it
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Unoptimised binaries: a shorter build, but they may not keep up with the rate
    #[arg(long)]
    dev: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Gateway,
    Writer,
    Aggregator,
    Pipeline,
    Rebalances,
}

pub fn run(args: &Args) -> Result<()> {
    match args.what {
        What::Gateway => gateway::run(args),
        What::Writer => writer::run(args),
        What::Rebalances => rebalances::run(args),
        What::Aggregator => aggregator::run(args),
        What::Pipeline => pipeline(args),
    }
}

/// kill -9 of whole services.
fn pipeline(args: &Args) -> Result<()> {
    let ground = Ground::prepare(args)?;
    let mut targets = vec![Target::Gateway, Target::Writer, Target::Aggregator];
    if ground.kafka.is_none() || ground.cluster.is_some() {
        targets.push(Target::Kafka);
    }
    let stand = stand::Plan {
        // One process, which is hit as a whole.
        nodes: 1,
        replication: ground
            .cluster
            .as_ref()
            .map_or(1, |c| c.nodes().len() as u32),
        // Two of each: partitions move, and one gateway goes on.
        gateways: 2,
        writers: 2,
        ..ground.stand(args)?
    };
    let dir = ground::place(args, &stand);
    let plan = chaos::Plan {
        rounds: args.rounds,
        seed: args.seed,
        load: args.load(25_000),
        outage: targets.contains(&Target::Kafka).then_some(OUTAGE),
        targets,
        cluster: ground.cluster.clone(),
        stand,
        rest_within: Duration::from_secs(180),
    };
    let (ledger, verdict) = chaos::run(&dir, &plan, &mut |line| println!("{line}"))
        .with_context(|| format!("everything is left in {}", dir.display()))?;
    if ledger.slowest > ANSWER_WITHIN {
        bail!(
            "an answer took {:?}: longer than requestTimeout",
            ledger.slowest
        );
    }
    ground.end(&dir, &plan.stand.topic, verdict.holds())
}

impl Args {
    fn profile(&self) -> Profile {
        if self.dev {
            Profile::Dev
        } else {
            Profile::Release
        }
    }

    /// A load at the rate that is asked for, or at this one.
    fn load(&self, rate: u32) -> load::Plan {
        let rate = self.rate.unwrap_or(rate);
        load::Plan {
            mix: Mix {
                seed: self.seed,
                ..Mix::default()
            },
            rate: (rate > 0).then_some(rate),
            ..load::Plan::default()
        }
    }
}
