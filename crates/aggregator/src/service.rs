//! The process around the runs: on an interval with an admin listener, or once.

use std::time::{Duration, Instant};

use pipeline_core::{
    config::Config,
    fsx,
    lifecycle::{Readiness, Shutdown, admin, exit, manager},
    telemetry::{
        MetricsHandle,
        catalog::{self, label},
        volumes,
    },
};
use tokio::{
    task::{self, JoinSet},
    time,
};

use crate::{
    Aggregator, Archiving, Clock, Policy, Portion,
    counts::Limits,
    run::{Report, RunError, Settings},
};

/// How often each summary is compared with the manifest.
const RECHECK_EVERY: Duration = Duration::from_secs(3600);

/// Plans of the archive that one run carries out: counting goes on between the runs.
const PLANS_MAX: usize = 1;

/// Runs on every `aggregation.interval` until a shutdown is asked for. Gives the exit code.
///
/// # Errors
/// Where it cannot start, or cannot go on: see [`RunError::is_final`].
pub async fn serve(
    config: &Config,
    portion: Portion,
    readiness: Readiness,
    shutdown: Shutdown,
    metrics: MetricsHandle,
) -> anyhow::Result<u8> {
    readiness.wait_for("listener");
    readiness.wait_for("directories");
    manager::keep_told(&readiness);
    let addr = config.aggregation.admin_addr;
    let _admin = admin::serve(addr, "aggregator", readiness.clone(), metrics).await?;
    readiness.met("listener");
    let mut aggregator = open(config, portion, PLANS_MAX).await?;
    readiness.met("directories");
    // Ends with this function.
    let mut beside = JoinSet::new();
    let storage = &config.storage;
    for (volume, dir) in [
        ("store", &storage.logs_dir),
        ("analytics", &storage.analytics_dir),
        ("archive", &storage.archive_dir),
    ] {
        beside.spawn(volumes::watch(volume, dir.clone()));
    }
    tracing::info!(
        logs = %config.storage.logs_dir.display(),
        analytics = %config.storage.analytics_dir.display(),
        interval = ?config.aggregation.interval,
        "counting"
    );
    let mut ticks = time::interval(config.aggregation.interval);
    // A run that takes long is followed by a pause, not by all that it has missed.
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    let mut rechecked = Instant::now();
    loop {
        tokio::select! {
            () = shutdown.requested() => return Ok(exit::OK),
            _ = ticks.tick() => {}
        }
        if rechecked.elapsed() >= RECHECK_EVERY {
            aggregator.recheck();
            rechecked = Instant::now();
        }
        let stop = shutdown.clone();
        let outcome;
        (aggregator, outcome) = task::spawn_blocking(move || {
            let outcome = run(&mut aggregator, &stop);
            (aggregator, outcome)
        })
        .await?;
        match outcome {
            Ok(_) => {}
            // At the next turn of the loop it ends.
            Err(RunError::Stopped) => {}
            Err(error) if error.is_final() => return Err(error.into()),
            Err(error) => tracing::error!("run failed, trying again: {error}"),
        }
    }
}

/// One run. Gives the exit code: 0 when all that was stored at its start is counted.
///
/// # Errors
/// Where it could not be done.
pub async fn once(config: &Config, portion: Portion, shutdown: Shutdown) -> anyhow::Result<u8> {
    let mut aggregator = open(config, portion, usize::MAX).await?;
    let report = task::spawn_blocking(move || run(&mut aggregator, &shutdown)).await??;
    tracing::info!(
        records = report.records,
        aside = report.aside,
        summaries = report.summaries,
        "counted"
    );
    Ok(if report.halted.is_empty() {
        exit::OK
    } else {
        exit::FAILED
    })
}

/// A disk that hangs holds up nobody who asks the listener.
async fn open(config: &Config, portion: Portion, plans_max: usize) -> anyhow::Result<Aggregator> {
    let (logs, analytics) = (&config.storage.logs_dir, &config.storage.analytics_dir);
    let (logs, analytics) = (logs.clone(), analytics.clone());
    let (settings, archiving) = (settings(config, portion), archiving(config, plans_max));
    let opened = task::spawn_blocking(move || -> Result<Aggregator, RunError> {
        let aggregator = Aggregator::open(&logs, &analytics, settings)?.with_archive(archiving);
        aggregator.takes_files()?;
        Ok(aggregator)
    });
    Ok(opened.await??)
}

/// How counts are kept, as the configuration says.
#[must_use]
pub fn settings(config: &Config, portion: Portion) -> Settings {
    Settings {
        portion,
        limits: Limits {
            keys: config.aggregation.max_keys_per_hour,
            ..Limits::default()
        },
        strip_query: config.aggregation.strip_query,
        ..Settings::default()
    }
}

/// How records are archived and removed, as the configuration says.
#[must_use]
pub fn archiving(config: &Config, plans_max: usize) -> Archiving {
    let (storage, aggregation) = (&config.storage, &config.aggregation);
    Archiving {
        dir: storage.archive_dir.clone(),
        policy: Policy {
            after: aggregation.archive_after,
            // Seen at the first run behind it, so it is seen one run before.
            max_wait: aggregation
                .archive_max_wait
                .saturating_sub(2 * aggregation.interval),
            file_bytes: 64 << 20,
            plan_bytes: 2 << 30,
            memory_bytes: 128 << 20,
            plans_max,
            live_retention: storage.live_retention,
            archive_retention: storage.archive_retention,
            analytics_retention: storage.analytics_retention,
        },
        clock: Clock::system(),
    }
}

/// One run with its metrics and its words.
fn run(aggregator: &mut Aggregator, shutdown: &Shutdown) -> Result<Report, RunError> {
    let begun = Instant::now();
    let outcome = aggregator.run(&mut |step| {
        fsx::before(step.name());
        !shutdown.is_requested()
    });
    let label = match &outcome {
        Ok(report) if !report.halted.is_empty() => "halted",
        Ok(report) if report.commits > 0 => "counted",
        Ok(_) => "nothing_new",
        Err(RunError::Stopped) => "stopped",
        Err(RunError::Superseded { .. }) => "superseded",
        Err(_) => "failed",
    };
    metrics::counter!(catalog::AGGREGATION_RUNS, label::OUTCOME => label).increment(1);
    metrics::histogram!(catalog::AGGREGATION_RUN_DURATION).record(begun.elapsed().as_secs_f64());
    let report = outcome?;
    metrics::gauge!(catalog::AGGREGATION_CHAINS_HALTED).set(report.halted.len() as f64);
    for halted in &report.halted {
        tracing::error!(
            topic = halted.topic,
            partition = halted.partition.0,
            "partition is not counted on: {}",
            halted.fault
        );
    }
    if report.commits > 0 {
        tracing::debug!(
            records = report.records,
            aside = report.aside,
            summaries = report.summaries,
            "counted in {:?}",
            begun.elapsed()
        );
    }
    Ok(report)
}
