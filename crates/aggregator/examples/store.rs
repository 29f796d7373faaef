//! Makes a store for measuring the aggregator with, as a writer would have written it: one topic,
//! its partitions in turn, segments of so many records. The records are those of an access log
//! (combined), again and again, or made ones over many days and sites; most are given a duration.
//! Called again on the same directory it appends.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context, Result, bail};
use clap::Parser;
use pipeline_core::{
    BatchId, Offset, PartitionId,
    record::{Known, RecordErrorCode, Rules, TextRecord, timestamp},
    store::{Chain, Draft, Fate, FateRun, Published, Start, Store, StoredRun, segment},
};

const DAY_MS: i64 = 24 * 3_600_000;
/// 2026-01-01T00:00:00Z
const FIRST_MS: i64 = 1_767_225_600_000;
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

#[derive(Parser)]
struct Args {
    /// The store's directory
    #[arg(long)]
    logs: PathBuf,
    #[arg(long, default_value_t = 2_000_000)]
    records: u64,
    /// Records of a segment
    #[arg(long, default_value_t = 512)]
    each: u32,
    #[arg(long, default_value_t = 4)]
    partitions: i32,
    /// An access log (combined)
    #[arg(long)]
    input: Option<PathBuf>,
    /// Made records: over so many days
    #[arg(long, default_value_t = 90)]
    days: u32,
    /// Made records: of so many sites
    #[arg(long, default_value_t = 20)]
    sites: u32,
    /// Made records: over so many hours instead
    #[arg(long)]
    hours: Option<u32>,
    /// Made records: each with a path of its own
    #[arg(long)]
    distinct: bool,
    /// Beside those, one record in ten asks for one of so many paths, again and again
    #[arg(long, default_value_t = 0, requires = "distinct")]
    again: u32,
    /// Says in this file how often each of these was asked for: JSON, by site
    #[arg(long, requires = "again")]
    truth: Option<PathBuf>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let store = Store::open(&args.logs)?;
    let mut chains = (0..args.partitions)
        .map(|partition| Writer::open(store.chain("logs", PartitionId(partition))))
        .collect::<Result<Vec<_>>>()?;
    let mut lines = Lines::new(&args)?;
    let mut ndjson = Vec::new();
    let mut left = args.records;
    for number in 0.. {
        let count = left.min(u64::from(args.each)) as u32;
        if count == 0 {
            break;
        }
        ndjson.clear();
        for _ in 0..count {
            lines.append(&mut ndjson)?;
            ndjson.push(b'\n');
        }
        left -= u64::from(count);
        let chains_len = chains.len();
        chains[number % chains_len].publish(&ndjson, count)?;
    }
    if let Some(path) = &args.truth {
        fs::write(path, serde_json::to_vec(&lines.asked)?)
            .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// The end of a chain that grows.
struct Writer {
    chain: Chain,
    end: pipeline_core::store::ChainEnd,
}

impl Writer {
    fn open(chain: Chain) -> Result<Self> {
        chain.put_start(&Start {
            format: 1,
            cluster_id: "cluster".to_owned(),
            topic_id: "0123456789abcdef0123456789abcdef".to_owned(),
            first_offset: Offset(0),
        })?;
        let end = chain.walk(None, &mut |_| true)?.context("a chain")?;
        Ok(Self { chain, end })
    }

    fn publish(&mut self, ndjson: &[u8], count: u32) -> Result<()> {
        let first = self.end.next;
        let draft = Draft {
            first,
            next: Offset(first.0 + i64::from(count)),
            previous: self.end.last,
            writer: [1; 16],
            fates: vec![FateRun {
                fate: Fate::Stored,
                count: u64::from(count),
            }],
            stored: vec![StoredRun {
                first,
                count,
                // Whatever their times are, they are none of the future.
                received_ms: FIRST_MS + 3650 * DAY_MS,
                batch: Some(BatchId([2; 16])),
                first_sequence: 0,
            }],
            totals_before: self.end.totals,
            last: self.end.last_message,
        };
        let segment = draft.encode(ndjson, segment::LEVEL);
        if self.chain.publish(&segment)? != Published::Linked {
            bail!("someone else writes to {}", self.chain.dir().display());
        }
        self.end.next = segment.trailer.next;
        self.end.last = Some(segment.link());
        self.end.totals = segment.trailer.totals;
        Ok(())
    }
}

struct Lines {
    rng: fastrand::Rng,
    rules: Rules,
    log: Vec<String>,
    next: usize,
    span_ms: i64,
    sites: u32,
    distinct: bool,
    again: u32,
    made: u64,
    /// How often paths were asked for that come again, by site.
    asked: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Lines {
    fn new(args: &Args) -> Result<Self> {
        let log = match &args.input {
            None => Vec::new(),
            Some(path) => {
                let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
                let text = String::from_utf8_lossy(&text).into_owned();
                text.lines().map(str::to_owned).collect()
            }
        };
        Ok(Self {
            rng: fastrand::Rng::with_seed(args.seed),
            rules: Rules {
                record_bytes_max: 1 << 18,
                default_site: None,
                bound_site: None,
            },
            log,
            next: 0,
            span_ms: match args.hours {
                Some(hours) => i64::from(hours) * 3_600_000,
                None => i64::from(args.days) * DAY_MS,
            },
            sites: args.sites,
            distinct: args.distinct,
            again: args.again,
            made: 0,
            asked: BTreeMap::new(),
        })
    }

    fn append(&mut self, out: &mut Vec<u8>) -> Result<()> {
        for _ in 0..self.log.len() {
            let at = self.next;
            self.next = (at + 1) % self.log.len();
            if self.combined(at, out).is_some() {
                return Ok(());
            }
        }
        if !self.log.is_empty() {
            bail!("the log holds no line that is understood");
        }
        self.made(out).ok().context("a made record is none")
    }

    /// Exponential, as waits are.
    fn duration(&mut self) -> String {
        format!("{:.3}", -(1.0 - self.rng.f64()).ln() * 80.0)
    }

    fn combined(&mut self, at: usize, out: &mut Vec<u8>) -> Option<()> {
        let duration = self.duration();
        let line = &self.log[at];
        let (address, rest) = line.split_once(' ')?;
        let (time, rest) = rest.split_once('[')?.1.split_once("] \"")?;
        let (request, rest) = rest.split_once("\" ")?;
        let mut request = request.split(' ');
        let (method, path, protocol) = (request.next()?, request.next()?, request.next()?);
        let (status, rest) = rest.split_once(' ')?;
        let (bytes, rest) = rest.split_once(" \"")?;
        let (referer, rest) = rest.split_once("\" \"")?;
        let agent = rest.strip_suffix('"')?;
        let (date, clock) = time.strip_suffix(" +0000")?.split_once(':')?;
        let mut date = date.split('/');
        let (day, month, year) = (date.next()?, date.next()?, date.next()?);
        let month = MONTHS.iter().position(|name| *name == month)? + 1;
        let time = format!("{year}-{month:02}-{day}T{clock}Z");
        let mut record = TextRecord::<RecordErrorCode>::new(&self.rules, out);
        for (field, text) in [
            (Known::Timestamp, &*time),
            (Known::RemoteAddr, address),
            (Known::Method, method),
            (Known::Path, path),
            (Known::Protocol, protocol),
            (Known::Status, status),
            (Known::Bytes, if bytes == "-" { "" } else { bytes }),
            (Known::Referer, referer),
            (Known::UserAgent, agent),
            (Known::DurationMs, &*duration),
        ] {
            record.known(field, text).ok()?;
        }
        record.finish().ok()
    }

    fn made(&mut self, out: &mut Vec<u8>) -> Result<(), RecordErrorCode> {
        self.made += 1;
        let duration = self.duration();
        let rng = &mut self.rng;
        // Some are frequent, most are rare.
        let skewed = |rng: &mut fastrand::Rng, count: u32| {
            let share = rng.f64();
            (f64::from(count) * share * share * share) as u32
        };
        let ms = FIRST_MS + rng.i64(0..self.span_ms);
        // Now and then one of a shipper that sends no more than it must, or names no site.
        let bare = rng.u8(..16) == 0;
        let site = match rng.u8(..40) {
            0 => String::new(),
            _ => format!("site{:02}.example", skewed(rng, self.sites)),
        };
        let path = if self.again > 0 && rng.u8(..10) == 0 {
            let path = format!("/again/{}", skewed(rng, self.again));
            let of_site = self.asked.entry(site.clone()).or_default();
            *of_site.entry(path.clone()).or_default() += 1;
            path
        } else if self.distinct {
            format!("/articles/{:x}/{}", rng.u64(..), self.made)
        } else {
            format!("/section{}/page-{}", rng.u8(..9), skewed(rng, 3_000))
        };
        let agent = AGENTS[skewed(rng, AGENTS.len() as u32) as usize];
        let status = STATUSES[skewed(rng, 6) as usize];
        let bytes = rng.u32(..80_000).to_string();
        let referer = match skewed(rng, 200) {
            0 => "-".to_owned(),
            from => format!("https://From{from}.example:8443/x"),
        };
        let agent = agent.replace('#', &rng.u32(100..160).to_string());
        let mut record = TextRecord::<RecordErrorCode>::new(&self.rules, out);
        // An empty text is a field that is not there.
        let unless_bare = |text: &str| if bare { String::new() } else { text.to_owned() };
        for (field, text) in [
            (Known::Timestamp, timestamp::format_utc(ms)),
            (Known::Site, site),
            (Known::Method, unless_bare(METHODS[skewed(rng, 3) as usize])),
            (Known::Path, path),
            (Known::Status, unless_bare(status)),
            (Known::Bytes, unless_bare(&bytes)),
            (Known::Referer, unless_bare(&referer)),
            (Known::UserAgent, agent),
            (Known::DurationMs, unless_bare(&duration)),
        ] {
            if !text.is_empty() {
                record.known(field, &text)?;
            }
        }
        record.finish()
    }
}

const METHODS: [&str; 3] = ["GET", "HEAD", "POST"];
const STATUSES: [&str; 6] = ["200", "304", "404", "301", "500", "206"];
/// `#` is a version.
const AGENTS: [&str; 12] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/#.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:#.0) Gecko/20100101 Firefox/#.0",
    "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/#.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; ClaudeBot/1.0; +claudebot@anthropic.com)",
    "CCBot/2.0 (https://commoncrawl.org/faq/)",
    "curl/8.14.1",
    "-",
    "SomeApp/# (build #)",
];
