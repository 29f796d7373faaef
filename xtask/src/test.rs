//! `cargo xtask test`: everything that must hold, on the embedded broker or on a given one.

use std::{fs, num::NonZero, path::PathBuf, time::Duration};

use anyhow::{Result, bail};
use testbed::kafka::Access;

use crate::shell::{build_services, cargo, require_broker_by, root, step, strict};

/// The test binaries that take any broker; one that is renamed makes cargo say so.
const ON_ANY_BROKER: [&str; 3] = [SUITE, "on_brokers", "groups"];
const SUITE: &str = "suite";

/// Formatting, lints, and every test
///
/// Without --kafka: `cargo fmt --check`, clippy with warnings as errors, then the unit, property
/// and integration tests of the whole workspace; the integration tests start the built services
/// and the embedded broker as processes, each in a directory of its own.
///
/// With --kafka: the same integration tests, and those of the Kafka crate, against that broker
/// (`cargo xtask kafka up` starts one). Topics and groups are new in each run; nothing else on the
/// broker is touched. What the broker wants of its clients stands in a file with lines of the
/// section `kafka` (`tls:`, `sasl:`); `kafka up` makes such files for its listeners.
///
/// What cannot run here (`zstd` or `kcat` not installed) is named as SKIPPED at the end; with
/// CI=true that is a failure.
#[derive(clap::Args)]
pub struct Args {
    /// Run the integration tests on this broker instead of the embedded one
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// What the section `kafka` needs to say besides, for TLS and SASL
    #[arg(long, value_name = "FILE", requires = "kafka")]
    kafka_config: Option<PathBuf>,
    /// The directory of `kafka up`, where the broker is of it: for what needs its other listeners
    #[arg(long, value_name = "DIR", requires = "kafka")]
    kafka_dir: Option<PathBuf>,
    /// Of the integration suite only the tests with this in their names; may be given again
    #[arg(long, value_name = "WORD", requires = "kafka")]
    only: Vec<String>,
}

pub fn run(args: &Args) -> Result<()> {
    let access = args.kafka_config.as_deref().map(Access::read).transpose()?;
    if let Some(kafka) = &args.kafka {
        require_broker_by(kafka, access.as_ref())?;
    }
    let notes = root().join("target/skipped-tests.txt");
    let _ = fs::remove_file(&notes);
    let mut done: Vec<(&str, Duration)> = Vec::new();

    if args.kafka.is_none() {
        done.push((
            "formatting",
            step(&mut cargo(&["fmt", "--all", "--check"]))?,
        ));
        let clippy = [
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ];
        done.push(("clippy", step(&mut cargo(&clippy))?));
    }
    done.push(("build", build_services(false)?));
    let mut tests = cargo(&["test", "--workspace", "--locked", "--no-fail-fast"]);
    tests.env("RUST_TEST_THREADS", test_threads().to_string());
    if let Some(kafka) = &args.kafka {
        // Of the whole workspace, as any smaller selection would compile half of it once more.
        let selected: &[&str] = if args.only.is_empty() {
            &ON_ANY_BROKER
        } else {
            &[SUITE]
        };
        for name in selected {
            tests.args(["--test", name]);
        }
        tests.env("SLUICE_TEST_KAFKA", kafka);
        if !args.only.is_empty() {
            tests.arg("--").args(&args.only);
        }
        if let (Some(access), Some(file)) = (&access, &args.kafka_config) {
            tests.env("SLUICE_TEST_KAFKA_CONFIG", file.canonicalize()?);
            let kcat = root().join("target/kcat.conf");
            // Before librdkafka 2.6.1 its SCRAM is refused by brokers with CVE-2024-56128 mended, and
            // systems have older ones; our own listener takes PLAIN as well.
            let mechanism = args.kafka_dir.as_ref().map(|_| "PLAIN");
            fs::write(&kcat, access.kcat_config(mechanism)?)?;
            tests.env("KCAT_CONFIG", kcat);
        }
        if let Some(dir) = &args.kafka_dir {
            tests.env("SLUICE_TEST_KAFKA_DIR", dir.canonicalize()?);
        }
    }
    done.push(("tests", step(tests.env("SLUICE_SKIPPED", &notes))?));

    println!(
        "\ntest: all passed on {}",
        args.kafka.as_deref().unwrap_or("the embedded broker")
    );
    for (what, took) in &done {
        println!("  {what:<12} {:>6.1} s", took.as_secs_f64());
    }
    let skipped = fs::read_to_string(&notes).unwrap_or_default();
    let mut missing = 0;
    for line in skipped.lines() {
        println!("  SKIPPED {line}");
        missing += usize::from(!line.starts_with("optional "));
    }
    if missing > 0 && strict() {
        bail!("{missing} tests could not run, and CI=true allows no gap");
    }
    Ok(())
}

/// Most tests wait for processes that they have started, more than they compute.
fn test_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(2, NonZero::get);
    cores + cores.div_ceil(2)
}
