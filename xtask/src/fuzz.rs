//! `cargo xtask fuzz`: looks for bodies that break a decoder, with libFuzzer.

use std::{fs, path::Path, process::Command, time::Instant};

use anyhow::{Result, bail};

use crate::shell::{root, step, strict};

const DIR: &str = "crates/ingest-gateway/fuzz";

/// Random bodies against every decoder, each judged by an oracle
///
/// Targets: `json`, `ndjson`, `csv`, `text`, `inflate` (all encodings), `pieces` (a body in pieces
/// is the same as the whole) and `record`; without one, each in turn. Begins with the inputs under
/// crates/ingest-gateway/fuzz/seeds, keeps what reaches new code in fuzz/corpus, and an input that
/// fails in fuzz/artifacts: put it among the seeds, where `cargo test` runs it on stable.
/// Needs a nightly toolchain and cargo-fuzz.
#[derive(clap::Args)]
pub struct Args {
    /// One target
    target: Option<String>,
    /// How long each target is run
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

pub fn run(args: &Args) -> Result<()> {
    let dir = root().join(DIR);
    let all = targets(&dir)?;
    let chosen: Vec<&String> = match &args.target {
        None => all.iter().collect(),
        Some(target) => match all.iter().find(|name| *name == target) {
            Some(name) => vec![name],
            None => bail!("found target `{target}`, allowed are {}", all.join(", ")),
        },
    };
    if let Some(missing) = missing() {
        if strict() {
            bail!("{missing}");
        }
        println!("SKIPPED: {missing}");
        return Ok(());
    }
    // The same versions of everything as in the product.
    fs::copy(root().join("Cargo.lock"), dir.join("Cargo.lock"))?;
    let start = Instant::now();
    for target in &chosen {
        let corpus = dir.join("corpus").join(target);
        fs::create_dir_all(&corpus)?;
        step(
            nightly(&["cargo", "fuzz", "run", "--fuzz-dir"])
                .arg(&dir)
                .arg(target)
                .arg(corpus)
                .arg(dir.join("seeds").join(target))
                .arg("--")
                .arg(format!("-max_total_time={}", args.seconds))
                // A decoder that takes so long or so much for so little is at fault, too.
                .args(["-timeout=20", "-rss_limit_mb=1024", "-print_final_stats=1"]),
        )?;
    }
    println!(
        "\nfuzz: {} found nothing in {:.0} s",
        chosen.len(),
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

fn targets(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir.join("fuzz_targets"))? {
        let path = entry?.path();
        if let Some(name) = path.file_stem() {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// What keeps the targets from running, and how to get it.
fn missing() -> Option<&'static str> {
    let runs = |words: &[&str]| {
        nightly(words)
            .output()
            .is_ok_and(|out| out.status.success())
    };
    if !runs(&["rustc", "--version"]) {
        return Some("no nightly toolchain: `rustup toolchain install nightly`");
    }
    if !runs(&["cargo", "fuzz", "--version"]) {
        return Some("no cargo-fuzz: `cargo install cargo-fuzz`");
    }
    None
}

fn nightly(words: &[&str]) -> Command {
    let mut command = Command::new("rustup");
    command
        .args(["run", "nightly"])
        .args(words)
        .current_dir(root());
    // Cargo's own, for the xtask that it runs.
    for name in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN", "CARGO_MANIFEST_DIR"] {
        command.env_remove(name);
    }
    command
}
