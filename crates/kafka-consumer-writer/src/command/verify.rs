//! `verify`: the proof, offline, for people or as JSON; with `--kafka` also whether Kafka has what
//! the chains say.

mod kafka;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use pipeline_core::{
    command::{Progress, print, say},
    config::{Config, Kafka},
    lifecycle::{CommonArgs, exit},
    store::verify::{Absent, ChainReport, Damage, Report, Which, verify},
};
use serde_json::{Value, json};

use self::kafka::{Comparison, Side};
use super::Where;

/// Where the files cannot tell.
const ASK_KAFKA: &str = "verify --kafka says what this store has committed";

#[derive(clap::Args, Clone, Debug, Default)]
pub struct Verify {
    /// One JSON object instead of text
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub place: Where,
    /// The store, where it is not the configuration's storage.logsDir
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Compare with Kafka too: the topic's id, the logs' ends and what the group has committed. A
    /// difference is exit 1; 75 where the store is whole and Kafka does not answer
    #[arg(long)]
    pub kafka: bool,
}

impl Verify {
    #[must_use]
    pub fn run(self, common: &CommonArgs) -> u8 {
        let config = (self.kafka || self.dir.is_none()).then(|| common.load_or_exit());
        let root = match (&self.dir, &config) {
            (Some(dir), _) => dir.clone(),
            (None, Some(config)) => config.storage.logs_dir.clone(),
            (None, None) => unreachable!("read where no directory is named"),
        };
        let kafka = config.as_ref().map(|config: &Config| &config.kafka);
        print(&root, |out| self.prove(&root, kafka, out))
    }

    /// Checks the chains under `root`; gives the exit code.
    ///
    /// # Errors
    /// Where `out` does not take it: then nobody has read that all is whole.
    pub fn prove(&self, root: &Path, kafka: Option<&Kafka>, out: &mut dyn Write) -> io::Result<u8> {
        let which = Which {
            topic: self.place.topic.clone(),
            partition: self.place.partition(),
        };
        let progress = Progress::begin();
        let report = verify(root, &which, &|done, total| {
            progress.show(|| format!("checked {done} of {total} segments"));
        });
        progress.end();
        let report = match report {
            Ok(report) => report,
            Err(error) => return self.no_proof(root, &error.to_string(), out),
        };
        if report.chains.is_empty()
            && report.is_whole()
            && let Some(none) = self.place.no_chain()
        {
            return self.no_proof(root, &format!("{}: {none}", root.display()), out);
        }
        let compared = kafka
            .filter(|_| self.kafka)
            .map(|kafka| kafka::compare(kafka, root, &which, &report));
        let code = match &compared {
            _ if !report.is_whole() => exit::FAILED,
            None => exit::OK,
            Some(Err(_)) => exit::TRY_LATER,
            Some(Ok(comparison)) => comparison.exit_code(),
        };
        let printed = if self.json {
            print_json(root, &report, compared.as_ref(), out)
        } else {
            print_text(root, &report, compared.as_ref(), out)
        };
        match printed {
            // Whoever has read enough of it may ask for the code all the same.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(code),
            printed => printed.map(|()| code),
        }
    }

    fn no_proof(&self, root: &Path, error: &str, out: &mut dyn Write) -> io::Result<u8> {
        say(error);
        if self.json {
            let chains: [(); 0] = [];
            let answer = json!({"store": root, "whole": false, "error": error, "chains": chains});
            print_answer(&answer, out)?;
        }
        Ok(exit::FAILED)
    }
}

type Compared = Result<Comparison, String>;

fn print_json(
    root: &Path,
    report: &Report,
    compared: Option<&Compared>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let chains: Vec<_> = report
        .chains
        .iter()
        .map(|chain| {
            let mut json = json!({
                "topic": chain.topic,
                "partition": chain.partition,
                "first": chain.first,
                "next": chain.next,
                "segments": chain.segments,
                "bytes": chain.bytes,
                "totals": chain.totals,
                "whole": chain.damage.is_empty(),
                "damage": damage_json(&chain.damage),
            });
            if let Some(side) = side_of(compared, chain) {
                json["kafka"] = side_json(side);
            }
            json
        })
        .collect();
    let mut answer = json!({
        "store": root,
        "id": report.store.0,
        "whole": report.is_whole(),
        "damage": damage_json(&report.damage),
        "absent": report.absent.iter().map(absent_json).collect::<Vec<_>>(),
        "chains": chains,
    });
    match compared {
        None => {}
        Some(Err(error)) => answer["kafka"] = json!({"error": error}),
        Some(Ok(comparison)) => {
            let without_chain: Vec<_> = comparison
                .without_chain
                .iter()
                .map(|(partition, side)| {
                    let mut json = side_json(side);
                    json["partition"] = json!(partition);
                    json
                })
                .collect();
            answer["kafka"] = json!({
                "topic": comparison.topic,
                "group": comparison.group,
                "agrees": comparison.agrees(),
                "withoutChain": without_chain,
            });
        }
    }
    print_answer(&answer, out)
}

fn absent_json(absent: &Absent) -> Value {
    json!({"topic": absent.topic, "first": absent.first, "last": absent.last})
}

fn damage_json(damage: &[Damage]) -> Vec<Value> {
    damage
        .iter()
        .map(|damage| json!({"path": damage.path, "detail": damage.detail}))
        .collect()
}

fn side_json(side: &Side) -> Value {
    json!({
        "logStart": side.log.map(|(start, _)| start),
        "logEnd": side.log.map(|(_, end)| end),
        "committed": side.commit.as_ref().map(|commit| json!({
            "offset": commit.offset,
            "metadata": commit.metadata,
        })),
        "difference": side.difference,
        "error": side.error,
    })
}

fn print_answer(answer: &Value, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, answer).map_err(io::Error::from)?;
    writeln!(out)
}

fn print_text(
    root: &Path,
    report: &Report,
    compared: Option<&Compared>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (mut segments, mut stored, mut bytes) = (0, 0, 0);
    for chain in &report.chains {
        let totals = &chain.totals;
        segments += chain.segments;
        stored += totals.stored;
        bytes += chain.bytes;
        writeln!(
            out,
            "{} p{:05}: offsets {} to {}, {} segments, {} stored, {} duplicate, {} poison, \
             {} undecidable, {} skipped, {} lost: {}",
            chain.topic,
            chain.partition.0,
            chain.first,
            chain.next,
            chain.segments,
            totals.stored,
            totals.duplicate,
            totals.poison,
            totals.undecidable,
            totals.skipped,
            totals.lost,
            whole_or_not(chain.damage.is_empty())
        )?;
        print_damage(&chain.damage, out)?;
        if let Some(side) = side_of(compared, chain) {
            writeln!(out, "  kafka: {side}")?;
        }
    }
    print_damage(&report.damage, out)?;
    for Absent { topic, first, last } in &report.absent {
        let which = match (first.0, last.0) {
            (first, last) if first == last => format!("p{first:05}"),
            (first, last) => format!("p{first:05} to p{last:05}"),
        };
        writeln!(
            out,
            "{topic} {which}: no chain, though later ones are there: never begun, or gone ({ASK_KAFKA})"
        )?;
    }
    if report.chains.is_empty() {
        writeln!(
            out,
            "{}: no chain is there, nothing was proved: a new store, or its chains are gone \
             ({ASK_KAFKA})",
            root.display()
        )?;
    }
    writeln!(
        out,
        "{}: {} chains, {segments} segments, {stored} records stored, {bytes} bytes: {}",
        root.display(),
        report.chains.len(),
        whole_or_not(report.is_whole())
    )?;
    match compared {
        None => Ok(()),
        Some(Err(error)) => writeln!(out, "kafka: not compared: {error}"),
        Some(Ok(comparison)) => {
            for (partition, side) in &comparison.without_chain {
                writeln!(
                    out,
                    "{} p{:05}: no chain; kafka: {side}",
                    comparison.topic, partition.0
                )?;
            }
            writeln!(
                out,
                "kafka: topic {}, group {}: {}",
                comparison.topic,
                comparison.group,
                comparison.word()
            )
        }
    }
}

fn print_damage(damage: &[Damage], out: &mut dyn Write) -> io::Result<()> {
    for damage in damage {
        writeln!(out, "  {}: {}", damage.path.display(), damage.detail)?;
    }
    Ok(())
}

fn side_of<'a>(compared: Option<&'a Compared>, chain: &ChainReport) -> Option<&'a Side> {
    let comparison = compared?.as_ref().ok()?;
    (chain.topic == comparison.topic).then(|| comparison.chains.get(&chain.partition))?
}

fn whole_or_not(whole: bool) -> &'static str {
    if whole { "whole" } else { "DAMAGED" }
}
