//! The drill: makes each reproducible cause of an alert happen to a running pipeline, sees the
//! alert fire in a real Prometheus with the deployed rules, does what the runbook says with the
//! runbook's own commands, and sees it resolved.
//!
//! ```text
//! rules:   the deployed rules ─▶ the same with short times (pure)
//! waves:   what happens, to whom, and how it is mended
//! runbook: docs/runbook.md ─▶ its commands, run
//! watch:   Prometheus' alerts, looked at all the while
//! ```

mod books;
mod ground;
mod kafka;
mod report;
pub mod rules;
pub mod runbook;
mod senders;
mod services;
mod store;
mod watch;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use self::{ground::Ground, report::Row};
pub use self::{report::Report, senders::certificate};
use crate::process::Profile;

/// From the cause to the alert, at most: the longest `for:` of a drill, the longest range, and what
/// a busy machine adds.
const FIRES_WITHIN: Duration = Duration::from_secs(90);
/// From the mend to the end: the longest range of a drill is a minute, and how fast a dead letter
/// queue fills is forgotten over some minutes.
const OVER_WITHIN: Duration = Duration::from_secs(180);
/// The alert that stays silent while nothing is lost.
const BOOKS: &str = "SluiceBooksNotBalanced";

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub profile: Profile,
    /// The four alerts that a few seconds are enough for, instead of all.
    pub quick: bool,
    /// Only waves whose names have this in them.
    pub only: Option<String>,
    /// The repository, for rules and runbook.
    pub repository: PathBuf,
}

/// Things that happen side by side.
struct Wave {
    name: &'static str,
    alerts: &'static [Expected],
    cause: fn(&mut Ground) -> Result<()>,
    mend: fn(&mut Ground) -> Result<()>,
}

/// An alert that has to fire.
#[derive(Clone, Copy)]
struct Expected {
    alert: &'static str,
    /// Has to be in its labels.
    label: &'static str,
    /// What happens, for people.
    cause: &'static str,
}

/// Runs it. `say` gets a line for each step.
///
/// # Errors
/// When an alert does not fire or is not over in time, a command of the runbook is not there or
/// fails, the books complain of a loss where none is, or are silent where one is.
pub fn run(dir: &Path, plan: &Plan, say: &mut dyn FnMut(&str)) -> Result<Report> {
    let start = Instant::now();
    let waves = waves(plan);
    if waves.is_empty() {
        bail!("no wave has this in its name; there are {:#?}", names());
    }
    // What is wrong from the start is wrong only where it is mended.
    let has_old = waves.iter().any(|wave| wave.name == senders::NOISE.name);
    let mut ground = Ground::up(dir, plan, if has_old { 1 } else { 90 })?;
    say(&format!(
        "up in {:.0} s; Prometheus has the deployed rules, times divided by {}",
        start.elapsed().as_secs_f64(),
        rules::PACE
    ));
    let mut rows = Vec::new();
    for wave in &waves {
        say(&format!("▸ {}", wave.name));
        if let Err(error) = one(&mut ground, wave, &mut rows, say) {
            bail!("{}: {error:#}{}", wave.name, ground.last_words());
        }
    }
    // What looks back far is over last.
    let still = ground.watch.quiet(OVER_WITHIN);
    for row in rows
        .iter_mut()
        .filter(|row| !still.iter().any(|it| it.contains(row.alert)))
    {
        let last = ground.watch.last(row.alert, row.label);
        row.over = last.map(|last| last.saturating_duration_since(row.mended));
    }
    let all = all();
    let mut others = ground.watch.ever();
    others.retain(|name| {
        let known = all
            .iter()
            .flat_map(|wave| wave.alerts)
            .any(|it| it.alert == name);
        !known || (name == BOOKS && !ground.has_lost)
    });
    ground.end()?;
    Ok(Report {
        rows,
        others,
        still,
        took: start.elapsed(),
    })
}

/// Names of the waves, in order.
pub fn names() -> Vec<&'static str> {
    all().into_iter().map(|wave| wave.name).collect()
}

/// Alerts that fire in it, and are confirmed by what the runbook says.
pub fn alerts() -> BTreeSet<&'static str> {
    let waves = all().into_iter();
    let alerts = waves.flat_map(|wave| wave.alerts);
    alerts.map(|it| it.alert).collect()
}

fn all() -> Vec<Wave> {
    vec![
        senders::NOISE,
        kafka::SLOW,
        kafka::DOWN,
        services::KILLED,
        services::LOOP,
        services::STRANGERS,
        books::LOST,
        store::FULL,
        store::ASIDE,
        store::DAMAGED,
        store::HANGS,
        kafka::RETENTION,
    ]
}

fn waves(plan: &Plan) -> Vec<Wave> {
    let mut waves = if plan.quick {
        vec![store::QUICK, kafka::QUICK]
    } else {
        all()
    };
    if let Some(only) = &plan.only {
        waves.retain(|wave| wave.name.contains(only.as_str()));
    }
    waves
}

fn one(
    ground: &mut Ground,
    wave: &Wave,
    rows: &mut Vec<Row>,
    say: &mut dyn FnMut(&str),
) -> Result<()> {
    let begun = Instant::now();
    (wave.cause)(ground)?;
    let mut fired = Vec::new();
    for it in wave.alerts {
        ground.watch.wait(it.alert, it.label, true, FIRES_WITHIN)?;
        let after = begun.elapsed();
        say(&format!(
            "  {:>5.1} s  {} fires: {}",
            after.as_secs_f64(),
            it.alert,
            it.cause
        ));
        fired.push(after);
        let books_are_due = wave.alerts.iter().any(|it| it.alert == BOOKS);
        if !books_are_due && ground.watch.fires(BOOKS, "") && !ground.has_lost {
            bail!("{BOOKS} fires, and nothing is lost");
        }
    }
    for (it, fired) in wave.alerts.iter().zip(fired) {
        rows.push(Row {
            alert: it.alert,
            label: it.label,
            cause: it.cause,
            fired,
            confirmed: ground.confirm(it.alert)?,
            mended: Instant::now(),
            over: None,
        });
    }
    (wave.mend)(ground)?;
    for done in ground.take_done() {
        say(&format!("           {done}"));
    }
    Ok(())
}
