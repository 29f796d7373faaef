//! What a broker and a client can do at most: produce only, or fetch only.
//!
//! The measure beside which the benchmarks put a stage's figure, and the reason why reading goes
//! by our own client: `--client rskafka` does the same with that one.
//!
//!     cargo run --release -p kafka-link --example ceiling -- \
//!         --broker 127.0.0.1:9092 --topic logs --records 1000000 --mode produce --client ours
//!
//! The topic is there already. Fetching reads it from the start, `--records` of it. Producing sends
//! to all partitions at once; with `--connections N` as so many clients would that each wait for
//! their acknowledgement: batches of `--each` records, as fast as they may or `--rate` records a
//! second, and says how long they waited.

use std::{
    collections::BTreeMap,
    error::Error,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use kafka_link::{
    Acks, BatchEncoder, Cluster, ClusterConfig, Codec, EncodedBatch, FetchFrom, FetchOptions,
};
use pipeline_core::{Offset, PartitionId};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const FETCH_BYTES: u32 = 8 << 20;
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Clone)]
struct Args {
    broker: String,
    topic: String,
    records: u64,
    size: usize,
    mode: String,
    client: String,
    codec: Codec,
    each: usize,
    connections: usize,
    rate: f64,
}

fn main() -> Result<()> {
    let args = Args::parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let (cpu, started) = (cpu_seconds()?, Instant::now());
    let records = runtime.block_on(run(&args))?;
    let (seconds, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds()? - cpu);
    println!(
        "{} {} {records} records, {seconds:.2} s, {cpu:.2} CPU s: {:.0} records/s, {:.0} records per CPU s",
        args.client,
        args.mode,
        records as f64 / seconds,
        records as f64 / cpu,
    );
    Ok(())
}

async fn run(args: &Args) -> Result<u64> {
    match (args.mode.as_str(), args.client.as_str()) {
        ("produce", "ours") => ours::produce(args).await,
        ("fetch", "ours") => ours::fetch(args).await,
        ("produce", "rskafka") => theirs::produce(args).await,
        ("fetch", "rskafka") => theirs::fetch(args).await,
        (mode, client) => Err(format!("no mode `{mode}` with client `{client}`").into()),
    }
}

mod ours {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use tokio::task::JoinSet;

    use super::*;

    fn cluster(args: &Args) -> Cluster {
        Cluster::new(ClusterConfig {
            brokers: vec![args.broker.clone()],
            client_id: "ceiling".to_owned(),
            connect_timeout: TIMEOUT,
            request_timeout: TIMEOUT,
            response_bytes_max: 64 << 20,
            security: Default::default(),
        })
    }

    pub async fn produce(args: &Args) -> Result<u64> {
        let cluster = cluster(args);
        let partitions = cluster.topic(&args.topic).await?.partitions.clone();
        if args.connections > 0 {
            let ids = partitions.iter().map(|p| p.id).collect();
            return waiting(args, cluster, ids).await;
        }
        let mut sent = 0;
        while sent < args.records {
            let batches: Vec<_> = partitions.iter().map(|p| (p.id, encode(args))).collect();
            for (_, result) in cluster
                .produce(&args.topic, Acks::All, TIMEOUT, batches)
                .await
            {
                result?;
                sent += args.each as u64;
            }
        }
        Ok(sent)
    }

    /// Each of so many clients sends a batch, waits, and sends the next.
    async fn waiting(args: &Args, cluster: Cluster, partitions: Vec<PartitionId>) -> Result<u64> {
        let batches = args.records.div_ceil(args.each as u64);
        let given = Arc::new(AtomicU64::new(0));
        let started = Instant::now();
        let mut clients = JoinSet::new();
        for _ in 0..args.connections {
            let (args, cluster) = (args.clone(), cluster.clone());
            let (partitions, given) = (partitions.clone(), Arc::clone(&given));
            clients.spawn(async move {
                let mut waited = Vec::new();
                loop {
                    let number = given.fetch_add(1, Ordering::Relaxed);
                    if number >= batches {
                        return Ok(waited);
                    }
                    let mut due = Instant::now();
                    if args.rate > 0.0 {
                        let after = number as f64 * args.each as f64 / args.rate;
                        due = started + Duration::from_secs_f64(after);
                        tokio::time::sleep_until(due.into()).await;
                    }
                    let partition = partitions[number as usize % partitions.len()];
                    let batch = vec![(partition, encode(&args))];
                    let answers = cluster
                        .produce(&args.topic, Acks::All, TIMEOUT, batch)
                        .await;
                    for (_, answer) in answers {
                        answer.map_err(|error| error.to_string())?;
                    }
                    waited.push(due.elapsed());
                }
            });
        }
        let mut waited = Vec::new();
        while let Some(client) = clients.join_next().await {
            let client: std::result::Result<_, String> = client?;
            waited.append(&mut client?);
        }
        waited.sort_unstable();
        let quantile = |part: f64| waited[((waited.len() - 1) as f64 * part).round() as usize];
        println!(
            "p50_us {} p99_us {}",
            quantile(0.5).as_micros(),
            quantile(0.99).as_micros()
        );
        Ok(batches * args.each as u64)
    }

    fn encode(args: &Args) -> EncodedBatch {
        let value = value(args.size);
        let mut encoder = BatchEncoder::with_capacity(now_ms(), args.each * (args.size + 70));
        for _ in 0..args.each {
            encoder.push(&value, Some(("sluice", &HEADER)));
        }
        encoder.finish(args.codec)
    }

    pub async fn fetch(args: &Args) -> Result<u64> {
        let cluster = cluster(args);
        let partitions = cluster.topic(&args.topic).await?.partitions.clone();
        let mut from: Vec<FetchFrom> = partitions
            .iter()
            .map(|partition| FetchFrom {
                topic_id: None,
                partition: partition.id,
                offset: Offset(0),
            })
            .collect();
        let options = FetchOptions {
            wait_max: Duration::from_millis(500),
            bytes_min: 1,
            bytes_max: FETCH_BYTES,
            partition_bytes_max: FETCH_BYTES,
        };
        let (mut records, mut bytes) = (0, 0);
        while records < args.records {
            let results = cluster.fetch(&args.topic, &from, options).await;
            if results.is_empty() {
                break;
            }
            for (partition, result) in results {
                let fetched = result?;
                for block in &fetched.blocks {
                    records += block.messages.len() as u64;
                    for message in &block.messages {
                        bytes += block.value(message).map_or(0, <[u8]>::len);
                        bytes += block.header(message).map_or(0, <[u8]>::len);
                    }
                }
                set(&mut from, partition, fetched.next);
            }
        }
        println!("{bytes} bytes");
        Ok(records)
    }

    fn set(from: &mut [FetchFrom], partition: PartitionId, next: Offset) {
        if let Some(from) = from.iter_mut().find(|from| from.partition == partition) {
            from.offset = next;
        }
    }
}

mod theirs {
    use rskafka::{
        chrono::DateTime,
        client::{
            ClientBuilder,
            partition::{Compression, PartitionClient, UnknownTopicHandling},
        },
        record::Record,
    };

    use super::*;

    async fn partitions(args: &Args) -> Result<Vec<PartitionClient>> {
        let client = ClientBuilder::new(vec![args.broker.clone()])
            .build()
            .await?;
        let topics = client.list_topics().await?;
        let topic = topics
            .into_iter()
            .find(|topic| topic.name == args.topic)
            .ok_or("no such topic")?;
        let mut clients = Vec::new();
        for id in &topic.partitions {
            let handling = UnknownTopicHandling::Error;
            clients.push(client.partition_client(&*args.topic, *id, handling).await?);
        }
        Ok(clients)
    }

    pub async fn produce(args: &Args) -> Result<u64> {
        let partitions = partitions(args).await?;
        if args.codec != Codec::None {
            return Err("rskafka is measured without compression".into());
        }
        let mut sent = 0;
        while sent < args.records {
            for partition in &partitions {
                let records = (0..args.each).map(|_| Record {
                    key: None,
                    value: Some(value(args.size)),
                    headers: BTreeMap::from([("sluice".to_owned(), HEADER.to_vec())]),
                    timestamp: DateTime::from_timestamp_millis(now_ms()).unwrap_or_default(),
                });
                let records = records.collect();
                partition
                    .produce(records, Compression::NoCompression)
                    .await?;
                sent += args.each as u64;
            }
        }
        Ok(sent)
    }

    pub async fn fetch(args: &Args) -> Result<u64> {
        let partitions = partitions(args).await?;
        let mut next = vec![0; partitions.len()];
        let (mut records, mut bytes) = (0, 0);
        while records < args.records {
            let before = records;
            for (partition, next) in partitions.iter().zip(&mut next) {
                let range = 1..i32::try_from(FETCH_BYTES)?;
                let (fetched, _) = partition.fetch_records(*next, range, 500).await?;
                for record in &fetched {
                    bytes += record.record.value.as_ref().map_or(0, Vec::len);
                    bytes += record.record.headers.get("sluice").map_or(0, Vec::len);
                    *next = record.offset + 1;
                }
                records += fetched.len() as u64;
            }
            if records == before {
                break;
            }
        }
        println!("{bytes} bytes");
        Ok(records)
    }
}

/// As long as an envelope.
const HEADER: [u8; 37] = [7; 37];

/// As compressible as a log line.
fn value(size: usize) -> Vec<u8> {
    let line = format!(
        r#"{{"timestamp":"2026-01-01T00:00:00.{:09}Z","path":"/products/{}","userAgent":"Mozilla/5.0 (X11; Linux x86_64)","status":200,"method":"GET","bytes":{}}}"#,
        fastrand::u32(..1_000_000_000),
        fastrand::u32(..100_000),
        fastrand::u32(..),
    );
    let mut value = line.into_bytes();
    value.resize(size, b' ');
    value
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_millis() as i64)
}

/// User and system time of this process (`proc(5)`, fields 14 and 15, in hundredths).
fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("/proc/self/stat has no name")?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || -> Result<f64> { Ok(fields.next().ok_or("too few fields")?.parse()?) };
    Ok((ticks()? + ticks()?) / 100.0)
}

impl Args {
    fn parse() -> Result<Self> {
        let mut given = BTreeMap::new();
        let mut args = std::env::args().skip(1);
        while let Some(name) = args.next() {
            let value = args.next().ok_or_else(|| format!("{name} has no value"))?;
            given.insert(name, value);
        }
        let mut take = |name: &str, default: &str| -> Result<String> {
            match given.remove(name) {
                Some(value) => Ok(value),
                None if default.is_empty() => Err(format!("{name} is missing").into()),
                None => Ok(default.to_owned()),
            }
        };
        let args = Self {
            broker: take("--broker", "")?,
            topic: take("--topic", "")?,
            records: take("--records", "1000000")?.parse()?,
            size: take("--size", "200")?.parse()?,
            mode: take("--mode", "")?,
            each: take("--each", "1000")?.parse()?,
            connections: take("--connections", "0")?.parse()?,
            rate: take("--rate", "0")?.parse()?,
            client: take("--client", "ours")?,
            codec: match take("--codec", "none")?.as_str() {
                "none" => Codec::None,
                "gzip" => Codec::Gzip,
                "snappy" => Codec::Snappy,
                "lz4" => Codec::Lz4,
                "zstd" => Codec::Zstd,
                other => return Err(format!("no codec `{other}`").into()),
            },
        };
        match given.keys().next() {
            Some(name) => Err(format!("no option {name}").into()),
            None => Ok(args),
        }
    }
}
