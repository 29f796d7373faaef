//! One run: from the look at the chains to the last summary.
//!
//! ```text
//! load the greatest manifest
//! until all that was stored at the beginning is read:
//!   fold a portion of segments           nothing on disk changes; more of them where a commit
//!                                        would not be worth it yet (`held`)
//!   write the states of what changed     files that no manifest names yet
//!   fsync states and chains
//!   put the next manifest if absent      the one step that counts
//!   look for a greater number
//!   remove what only old manifests name
//! render the summaries of changed hours and days
//! archive what is due (`archive::run`), remove what is old enough (`retention`)
//! ```
//! A process that dies between any two steps leaves either what the old manifest says or what the
//! new one says; the next run goes on from there. Summaries are made from states, so one that is
//! missing or old is made again.

mod error;
mod step;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

pub use error::RunError;
use pipeline_core::{
    PartitionId, fsx,
    store::Store,
    telemetry::{self, catalog},
};
pub use step::{GoOn, Step, ask};

use crate::{
    archive::{self, Archiving},
    backlog::{Backlog, Folded, Halted, Portion},
    counts::Limits,
    days,
    fold::Delta,
    held::{self, Held},
    keeper::Keeper,
    manifest::StateDir,
    reports::Reports,
    retention::{self, Removals},
    state::StateError,
    summaries::{self, Due},
};

/// Commits after which summaries are brought up to date though the run goes on.
const RENDER_EVERY: u64 = 16;

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Records counted, those aside included.
    pub records: u64,
    pub aside: u64,
    /// Manifests put.
    pub commits: u64,
    /// Summaries written.
    pub summaries: u64,
    /// Records archived, and their files.
    pub archived: u64,
    pub files: u64,
    /// Live segments removed.
    pub removed: u64,
    /// Pages written, the index included.
    pub reports: u64,
    pub halted: Vec<Halted>,
}

impl Report {
    /// One more chain, unless it is known as that.
    pub fn halted(&mut self, halted: Halted) {
        let same =
            |known: &Halted| known.topic == halted.topic && known.partition == halted.partition;
        if !self.halted.iter().any(same) {
            self.halted.push(halted);
        }
    }
}

/// How to count.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    pub portion: Portion,
    pub held: held::Bounds,
    pub limits: Limits,
    /// Count paths without their query (`aggregation.stripQuery`).
    pub strip_query: bool,
}

pub struct Aggregator {
    logs: PathBuf,
    dir: StateDir,
    settings: Settings,
    archiving: Option<Archiving>,
    /// What stands on disk, unless a run has failed since.
    keeper: Option<Keeper>,
    /// Compare each summary with the manifest, and clean up, in the next run.
    recheck: bool,
    due: Due,
    removals: Removals,
    reports: Reports,
    /// Since when this process has seen chains halted.
    halted_since: BTreeMap<(String, PartitionId), SystemTime>,
    /// When the last run began that came to its end; at first, when this process began.
    last_good: SystemTime,
}

impl Aggregator {
    /// # Errors
    /// Where the directories cannot be made.
    pub fn open(logs: &Path, analytics: &Path, settings: Settings) -> Result<Self, StateError> {
        Ok(Self {
            logs: logs.to_owned(),
            dir: StateDir::open(analytics)?,
            settings,
            archiving: None,
            keeper: None,
            recheck: true,
            due: Due::default(),
            removals: Removals::default(),
            reports: Reports::default(),
            halted_since: BTreeMap::new(),
            last_good: SystemTime::now(),
        })
    }

    /// With an archive and retention.
    #[must_use]
    pub fn with_archive(mut self, archiving: Archiving) -> Self {
        self.dir = self.dir.with_archive(&archiving.dir);
        self.archiving = Some(archiving);
        self
    }

    /// Whether files can be made wherever a run makes or removes some: what is not well there is
    /// found at the start, not at the first record.
    ///
    /// # Errors
    /// Names the directory where none can.
    pub fn takes_files(&self) -> Result<(), RunError> {
        self.dir.takes_files()?;
        if let Some(archiving) = &self.archiving {
            archive::run::takes_files(archiving)?;
        }
        // Segments are removed there. Where there is no store yet, its writer makes it.
        if Store::open_existing(&self.logs)?.is_some() {
            let probe = fsx::takes_files(&self.logs);
            probe.map_err(StateError::io("write a probe file in", &self.logs))?;
        }
        Ok(())
    }

    /// The next run compares each summary that stands there with the manifest.
    pub fn recheck(&mut self) {
        self.recheck = true;
    }

    /// The next run makes each report that is old, however long the last ones took.
    #[cfg(test)]
    pub(crate) fn forget_reports(&mut self) {
        self.reports = Reports::default();
    }

    /// Counts all that is stored now and brings the summaries up to date.
    ///
    /// # Errors
    /// Why it ended early. What was committed stays; a chain that is damaged is no error of the
    /// run, see [`Report::halted`].
    pub fn run(&mut self, go_on: GoOn<'_>) -> Result<Report, RunError> {
        let began = SystemTime::now();
        let outcome = self.run_now(go_on);
        match &outcome {
            Ok(_) => self.last_good = began,
            Err(RunError::Stopped) => {}
            // Nothing that was stored since then is sure to be counted.
            Err(_) => show_lag(Some(self.last_good)),
        }
        outcome
    }

    fn run_now(&mut self, go_on: GoOn<'_>) -> Result<Report, RunError> {
        let mut keeper = match self.keeper.take() {
            // Whoever has gone on while this one was idle goes on alone.
            Some(keeper) if keeper.stands()? => keeper,
            // Whatever this process knew is gone, or unknown after a failure.
            _ => {
                self.recheck = true;
                Keeper::load(&self.dir, go_on)?
            }
        };
        match self.run_with(&mut keeper, go_on) {
            Ok(report) => {
                self.keeper = Some(keeper);
                self.recheck = false;
                Ok(report)
            }
            Err(error @ (RunError::Stopped | RunError::Superseded { .. })) => Err(error),
            Err(error) => {
                // A file that is gone, say, was removed by whoever has gone on.
                keeper.look()?;
                Err(error)
            }
        }
    }

    fn run_with(&mut self, keeper: &mut Keeper, go_on: GoOn<'_>) -> Result<Report, RunError> {
        let mut report = Report::default();
        show_books(keeper);
        if self.recheck {
            keeper.clean_up(go_on)?;
            if let Some(archiving) = &self.archiving {
                archive::run::clean_up(archiving)?;
            }
            self.due.find_old(keeper)?;
            summaries::remove_uncounted(keeper, go_on)?;
            self.reports.forget();
        }
        let store = self.store(keeper)?;
        if let Some(store) = &store {
            let mut backlog = Backlog::look(store, &keeper.manifest, self.recheck)?;
            let mut held = Held::new(self.dir.counts(), self.settings.held);
            loop {
                let folded = backlog.fold(&self.settings, &mut || go_on(Step::FoldSegment))?;
                show_lag(backlog.waiting_since());
                let segments = backlog.arrivals().len();
                let delta = match folded {
                    Folded::Full(delta) if held.goes_on(&delta, &keeper.manifest, segments) => {
                        ask(go_on, Step::HoldPortion)?;
                        held.put(&delta, self.settings.limits.keys)?;
                        backlog.held();
                        continue;
                    }
                    Folded::Full(delta) | Folded::Last(delta) => *delta,
                    Folded::End if held.is_empty() => break,
                    Folded::End => Delta::new(self.settings.strip_query),
                    Folded::Stopped => return Err(RunError::Stopped),
                };
                self.count(keeper, store, &held, &delta, &backlog, go_on)?;
                backlog.committed();
                show_books(keeper);
                let records = held.records + delta.records;
                let aside = held.aside + delta.aside;
                held = held.anew();
                metrics::counter!(catalog::AGGREGATION_RECORDS).increment(records);
                metrics::counter!(catalog::AGGREGATION_RECORDS_ASIDE).increment(aside);
                report.records += records;
                report.aside += aside;
                report.commits += 1;
                if report.commits.is_multiple_of(RENDER_EVERY) {
                    report.summaries += self.due.render(keeper, go_on)?;
                }
            }
            report.halted = backlog.halted();
        }
        if let Some(archiving) = &self.archiving {
            retention::analytics(archiving, keeper, go_on)?;
        }
        report.summaries += self.due.render(keeper, go_on)?;
        if let (Some(archiving), Some(store)) = (&self.archiving, &store) {
            archive::run::archive(archiving, keeper, store, &mut report, go_on)?;
            let removals = &mut self.removals;
            removals.live(archiving, keeper, store, &mut report, go_on)?;
            retention::archive(archiving, keeper, go_on)?;
        }
        report.reports = self.reports.render(keeper, go_on)?;
        show_lag(self.halted_since(&report.halted));
        Ok(report)
    }

    /// The store, if there is one yet; it must be the one that was counted.
    fn store(&self, keeper: &Keeper) -> Result<Option<Store>, RunError> {
        let store = Store::open_existing(&self.logs)?;
        let Some(counted) = &keeper.manifest.store else {
            return Ok(store);
        };
        let found = store.as_ref().map(|store| store.id().0.as_str());
        if found == Some(counted) {
            return Ok(store);
        }
        Err(RunError::OtherStore {
            dir: self.dir.analytics().to_owned(),
            logs: self.logs.clone(),
            counted: counted.clone(),
            found: found.unwrap_or("none").to_owned(),
        })
    }

    /// Makes `held` and `delta` count: the next manifest, with all that it names durable before it.
    fn count(
        &mut self,
        keeper: &mut Keeper,
        store: &Store,
        held: &Held,
        delta: &Delta,
        backlog: &Backlog,
        go_on: GoOn<'_>,
    ) -> Result<(), RunError> {
        let mut next = keeper.manifest.clone();
        next.number += 1;
        next.store = Some(store.id().0.clone());
        next.counted += held.records + delta.records - held.aside - delta.aside;
        next.aside += held.aside + delta.aside;
        next.chains = backlog.states();
        let now_ms = self.now_ms();
        for arrival in backlog.arrivals() {
            next.archive.add(arrival, now_ms);
        }
        if let Some(archiving) = &self.archiving {
            archive::run::mark(archiving, &mut next);
        }
        let limits = self.settings.limits;
        let written = days::add(keeper, next.number, held, delta, limits, go_on)?;
        if !written.days.is_empty() {
            ask(go_on, Step::SyncStates)?;
            let counts = self.dir.counts();
            fsx::sync_dir(counts).map_err(StateError::io("fsync", counts))?;
        }
        next.days.extend(written.days);
        for chain in backlog.moved() {
            // A name that was linked may not be durable yet, and must be before it is counted.
            ask(go_on, Step::SyncChain)?;
            chain.sync()?;
        }
        keeper.commit(next, written.replaced, go_on)?;
        self.due.hours_changed(&written.hours);
        let days = written.hours.iter().map(|hour| hour.day());
        self.reports.days_changed(days);
        Ok(())
    }

    fn now_ms(&self) -> i64 {
        let clock = self.archiving.as_ref().map(|archiving| &archiving.clock);
        clock.map_or_else(|| archive::to_ms(SystemTime::now()), |clock| clock.now_ms())
    }

    /// Since when the chain has been halted that has been so longest.
    fn halted_since(&mut self, halted: &[Halted]) -> Option<SystemTime> {
        let now = SystemTime::now();
        let mut before = std::mem::take(&mut self.halted_since);
        for chain in halted {
            let chain = (chain.topic.clone(), chain.partition);
            let since = before.remove(&chain).unwrap_or(now);
            self.halted_since.insert(chain, since);
        }
        self.halted_since.values().min().copied()
    }
}

fn show_books(keeper: &Keeper) {
    let manifest = &keeper.manifest;
    let waiting = manifest.archive.waiting() as f64;
    let [read, counted, aside] = manifest.books().map(|records| records as f64);
    // They add up at every scrape.
    telemetry::together(|| {
        metrics::gauge!(catalog::AGGREGATION_READ).set(read);
        metrics::gauge!(catalog::AGGREGATION_COUNTED).set(counted);
        metrics::gauge!(catalog::AGGREGATION_SET_ASIDE).set(aside);
        metrics::gauge!(catalog::AGGREGATION_ARCHIVE_WAITING).set(waiting);
    });
}

fn show_lag(waiting_since: Option<SystemTime>) {
    let lag = waiting_since.map_or(Duration::ZERO, |since| {
        // A clock that was set back makes no lag.
        SystemTime::now().duration_since(since).unwrap_or_default()
    });
    metrics::gauge!(catalog::AGGREGATION_LAG).set(lag.as_secs_f64());
}
