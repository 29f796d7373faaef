//! One run: from the look at the chains to the last summary.
//!
//! ```text
//! load the greatest manifest
//! until all that was stored at the beginning is read:
//!   fold a portion of segments           nothing on disk changes
//!   write the states of changed hours    files that no manifest names yet
//!   fsync states and chains
//!   put the next manifest if absent      the one step that counts
//!   look for a greater number
//!   remove what only old manifests name
//! render the summaries of changed hours and days
//! ```
//! A process that dies between any two steps leaves either what the old manifest says or what the
//! new one says; the next run goes on from there. Summaries are made from states, so one that is
//! missing or old is made again.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use pipeline_core::{
    fsx,
    store::{Store, StoreError},
    telemetry::catalog,
};

use crate::{
    backlog::{Backlog, BacklogError, Folded, Halted, Portion, ReadMismatch},
    counts::{self, Sites},
    fold::Delta,
    hour::{Day, Hour},
    manifest::{HourEntry, Manifest, StateDir},
    render,
    state::{self, State, StateError, StateName},
};

/// Temporary files older than this are of processes that died.
const STALE_AFTER: Duration = Duration::from_secs(3600);
/// Portions after which summaries are brought up to date though the run goes on.
const RENDER_EVERY: u64 = 16;

/// What a run is about to do. It asks before each of these, and ends when told to: every one may
/// be the last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    PutFirstManifest,
    FoldSegment,
    WriteState,
    SyncStates,
    SyncChain,
    PutManifest,
    LookForGreater,
    RemoveOld,
    RenameSummary,
    SyncSummaries,
}

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
    pub halted: Vec<Halted>,
}

/// Why a run did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// As it was told to.
    #[error("stopped before everything was counted")]
    Stopped,
    #[error(
        "another aggregator has put manifest {number} in {}: only one may run on a directory",
        dir.display()
    )]
    Superseded { number: u64, dir: PathBuf },
    #[error("the books do not add up: {0}")]
    Books(String),
    #[error(
        "no manifest in {}, but {} is there: the manifests are lost, and counting anew would \
         count twice",
        dir.display(),
        trace.display()
    )]
    NoManifest { dir: PathBuf, trace: PathBuf },
    #[error(
        "{} has counted store {counted}, but {} holds store {found}",
        dir.display(),
        logs.display()
    )]
    OtherStore {
        dir: PathBuf,
        logs: PathBuf,
        counted: String,
        found: String,
    },
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RunError {
    /// Whether trying again is of no use before someone has looked at it.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Stopped | Self::Store(_) | Self::State(StateError::Io { .. }) => false,
            Self::Superseded { .. }
            | Self::Books(_)
            | Self::NoManifest { .. }
            | Self::OtherStore { .. }
            | Self::State(StateError::Damaged { .. }) => true,
        }
    }
}

impl From<BacklogError> for RunError {
    fn from(error: BacklogError) -> Self {
        match error {
            BacklogError::Store(error) => Self::Store(error),
            BacklogError::Cursor(detail) => Self::Books(detail),
        }
    }
}

impl From<ReadMismatch> for RunError {
    fn from(mismatch: ReadMismatch) -> Self {
        Self::Books(mismatch.to_string())
    }
}

pub struct Aggregator {
    logs: PathBuf,
    dir: StateDir,
    portion: Portion,
    /// What stands on disk, unless a run has failed since.
    known: Option<Known>,
    /// Compare each summary with the manifest, and clean up, in the next run.
    recheck: bool,
    /// Not rendered yet.
    hours: BTreeSet<Hour>,
    days: BTreeSet<Day>,
}

struct Known {
    manifest: Manifest,
    /// Put by this process.
    own: bool,
    /// Named by the manifest before this one, and not by this one.
    replaced: Vec<StateName>,
}

type GoOn<'a> = &'a mut dyn FnMut(Step) -> bool;

impl Aggregator {
    /// # Errors
    /// Where the directories cannot be made.
    pub fn open(logs: &Path, analytics: &Path, portion: Portion) -> Result<Self, StateError> {
        Ok(Self {
            logs: logs.to_owned(),
            dir: StateDir::open(analytics)?,
            portion,
            known: None,
            recheck: true,
            hours: BTreeSet::new(),
            days: BTreeSet::new(),
        })
    }

    /// The next run compares each summary that stands there with the manifest.
    pub fn recheck(&mut self) {
        self.recheck = true;
    }

    /// Counts all that is stored now and brings the summaries up to date.
    ///
    /// # Errors
    /// Why it ended early. What was committed stays; a chain that is damaged is no error of the
    /// run, see [`Report::halted`].
    pub fn run(&mut self, go_on: GoOn<'_>) -> Result<Report, RunError> {
        let mut report = Report::default();
        let outcome = self.run_once(&mut report, go_on);
        let Err(error) = outcome else {
            return Ok(report);
        };
        // What stands on disk is unknown, and which summaries are old too.
        self.recheck = true;
        let known = self.known.take();
        if matches!(error, RunError::Stopped | RunError::Superseded { .. }) {
            return Err(error);
        }
        // A file that is gone, say, was removed by whoever has gone on.
        if let Some(known) = known {
            self.look(&known)?;
        }
        Err(error)
    }

    fn run_once(&mut self, report: &mut Report, go_on: GoOn<'_>) -> Result<(), RunError> {
        self.load(go_on)?;
        if self.recheck {
            self.clean_up(go_on)?;
            self.find_old_summaries();
        }
        if let Some(store) = self.store()? {
            let mut backlog = Backlog::look(&store, &self.known().manifest)?;
            loop {
                let folded = backlog.fold(self.portion, &mut || go_on(Step::FoldSegment))?;
                show_lag(backlog.waiting_since());
                let delta = match folded {
                    Folded::Some(delta) => delta,
                    Folded::End => break,
                    Folded::Stopped => return Err(RunError::Stopped),
                };
                self.commit(&store, &delta, &backlog, go_on)?;
                backlog.committed();
                show_lag(backlog.waiting_since());
                metrics::counter!(catalog::AGGREGATION_RECORDS).increment(delta.records);
                metrics::counter!(catalog::AGGREGATION_RECORDS_ASIDE).increment(delta.aside);
                report.records += delta.records;
                report.aside += delta.aside;
                report.commits += 1;
                if report.commits.is_multiple_of(RENDER_EVERY) {
                    report.summaries += self.render(go_on)?;
                }
            }
            report.halted = backlog.halted();
        }
        report.summaries += self.render(go_on)?;
        self.recheck = false;
        Ok(())
    }

    fn known(&self) -> &Known {
        self.known.as_ref().expect("loaded at the run's beginning")
    }

    /// Reads the greatest manifest, unless it is the one known. Puts the first where nothing is.
    fn load(&mut self, go_on: GoOn<'_>) -> Result<(), RunError> {
        loop {
            let numbers = self.dir.numbers()?;
            let Some(&greatest) = numbers.last() else {
                if let Some(trace) = self.dir.trace_of_counts()? {
                    return Err(RunError::NoManifest {
                        dir: self.dir.dir().to_owned(),
                        trace,
                    });
                }
                ask(go_on, Step::PutFirstManifest)?;
                // Put by another: the same.
                self.dir.put(&Manifest::first())?;
                continue;
            };
            if let Some(known) = &self.known
                && known.manifest.number == greatest
            {
                return Ok(());
            }
            // Whatever this process knew is old: others have gone on.
            self.recheck = true;
            // Gone again: someone has put greater ones meanwhile.
            let Some(manifest) = self.dir.read(greatest)? else {
                continue;
            };
            self.known = Some(Known {
                replaced: self.only_before(&manifest)?,
                manifest,
                own: false,
            });
            return Ok(());
        }
    }

    /// States that the manifest before `manifest` names and this one does not.
    fn only_before(&self, manifest: &Manifest) -> Result<Vec<StateName>, StateError> {
        let Some(before) = self.dir.read(manifest.number - 1)? else {
            return Ok(Vec::new());
        };
        let names = before.hours.keys().filter_map(|hour| {
            let name = before.state_name(*hour)?;
            (manifest.state_name(*hour).as_ref() != Some(&name)).then_some(name)
        });
        Ok(names.collect())
    }

    /// The store, if there is one yet; it must be the one that was counted.
    fn store(&self) -> Result<Option<Store>, RunError> {
        let store = Store::open_existing(&self.logs)?;
        let Some(counted) = &self.known().manifest.store else {
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

    /// Makes `delta` count.
    fn commit(
        &mut self,
        store: &Store,
        delta: &Delta,
        backlog: &Backlog,
        go_on: GoOn<'_>,
    ) -> Result<(), RunError> {
        let old = &self.known().manifest;
        let mut next = old.clone();
        next.number += 1;
        next.store = Some(store.id().0.clone());
        next.counted += delta.records - delta.aside;
        next.aside += delta.aside;
        next.chains = backlog.states();
        let mut changed = Vec::new();
        let mut replaced = Vec::new();
        for (hour, added) in delta.hours() {
            ask(go_on, Step::WriteState)?;
            let entry = self.add(old, next.number, hour, added)?;
            next.hours.insert(hour, entry);
            replaced.extend(old.state_name(hour));
            changed.push(hour);
        }
        if !changed.is_empty() {
            ask(go_on, Step::SyncStates)?;
            let hours = self.dir.hours();
            fsx::sync_dir(hours).map_err(StateError::io("fsync", hours))?;
        }
        for chain in backlog.moved() {
            ask(go_on, Step::SyncChain)?;
            chain.sync()?;
        }
        next.check_books().map_err(RunError::Books)?;

        ask(go_on, Step::PutManifest)?;
        let number = next.number;
        if !self.dir.put(&next)? {
            return Err(self.superseded(number));
        }
        let before = self.known.replace(Known {
            manifest: next,
            own: true,
            replaced,
        });
        ask(go_on, Step::LookForGreater)?;
        self.look(self.known())?;

        // Kept are this manifest and the one before it.
        let before = before.expect("loaded at the run's beginning");
        if number > 2 {
            self.remove(&self.dir.manifest_path(number - 2), go_on)?;
        }
        for name in &before.replaced {
            self.remove(&self.dir.hours().join(name.file_name()), go_on)?;
        }
        self.days.extend(changed.iter().map(|hour| hour.day()));
        self.hours.extend(changed);
        Ok(())
    }

    /// Writes the state of `hour` with `added` in it.
    fn add(
        &self,
        old: &Manifest,
        number: u64,
        hour: Hour,
        added: Sites<'_>,
    ) -> Result<HourEntry, RunError> {
        let state = self.state(old, hour)?;
        let sites = match &state {
            None => added,
            Some(state) => {
                let sites = state.sites()?;
                let (found, expected) = (counts::requests(&sites), old.hours[&hour].requests);
                if found != expected {
                    return Err(RunError::Books(format!(
                        "the state of {hour} holds {found} requests, the manifest says {expected}"
                    )));
                }
                counts::sum_sites(vec![sites, added])
            }
        };
        let name = state::write(self.dir.hours(), hour, number, &sites)?;
        Ok(HourEntry {
            changed: number,
            state: name.hash,
            requests: counts::requests(&sites),
        })
    }

    fn state(&self, manifest: &Manifest, hour: Hour) -> Result<Option<State>, StateError> {
        let name = manifest.state_name(hour);
        name.map(|name| State::read(self.dir.hours(), &name))
            .transpose()
    }

    /// Writes each summary that is due.
    fn render(&mut self, go_on: GoOn<'_>) -> Result<u64, RunError> {
        let manifest = &self.known().manifest;
        let mut written = 0;
        let mut days = self.days.clone();
        for &hour in &self.hours {
            let Some(state) = self.state(manifest, hour)? else {
                continue;
            };
            let json = render::hour(hour, manifest.hours[&hour].changed, &state.sites()?);
            self.publish(&render::hour_path(self.dir.analytics(), hour), &json, go_on)?;
            days.insert(hour.day());
            written += 1;
        }
        for &day in &days {
            let mut states = Vec::new();
            for hour in manifest.hours.range(day.hours()).map(|(hour, _)| *hour) {
                states.extend(self.state(manifest, hour)?);
            }
            let sites = states.iter().map(State::sites).collect::<Result<_, _>>()?;
            let changed = changed_day(manifest, day);
            let json = render::day(day, changed, &counts::sum_sites(sites));
            self.publish(&render::day_path(self.dir.analytics(), day), &json, go_on)?;
            written += 1;
            ask(go_on, Step::SyncSummaries)?;
            let dir = render::day_dir(self.dir.analytics(), day);
            fsx::sync_dir(&dir).map_err(StateError::io("fsync", &dir))?;
        }
        self.hours.clear();
        self.days.clear();
        Ok(written)
    }

    fn publish(&self, path: &Path, json: &[u8], go_on: GoOn<'_>) -> Result<(), RunError> {
        let dir = path.parent().expect("a summary is in a day's directory");
        if !dir.is_dir() {
            fsx::create_dirs(dir).map_err(StateError::io("make directory", dir))?;
        }
        // Not beside its target: what a killed process leaves is out of people's sight.
        let temporary = fsx::Temporary::write_in(self.dir.dir(), json)
            .map_err(StateError::io("write", path))?;
        ask(go_on, Step::RenameSummary)?;
        self.look(self.known())?;
        temporary
            .rename(path)
            .map_err(StateError::io("rename to", path))?;
        Ok(())
    }

    /// Marks each summary that does not show what the manifest says.
    fn find_old_summaries(&mut self) {
        let manifest = &self.known().manifest;
        let analytics = self.dir.analytics();
        let mut hours = BTreeSet::new();
        let mut days = BTreeSet::new();
        for (&hour, entry) in &manifest.hours {
            days.insert(hour.day());
            if render::shown(&render::hour_path(analytics, hour)) != Some(entry.changed) {
                hours.insert(hour);
            }
        }
        days.retain(|day| {
            let shown = render::shown(&render::day_path(analytics, *day));
            shown != Some(changed_day(manifest, *day))
        });
        self.hours.extend(hours);
        self.days.extend(days);
    }

    /// Removes what processes that died have left: manifests and states that nobody will read
    /// again, old temporary files.
    fn clean_up(&self, go_on: GoOn<'_>) -> Result<(), RunError> {
        let manifest = &self.known().manifest;
        for number in self.dir.numbers()? {
            if number + 1 < manifest.number {
                self.remove(&self.dir.manifest_path(number), go_on)?;
            }
        }
        let mut named: BTreeSet<StateName> = manifest
            .hours
            .keys()
            .filter_map(|hour| manifest.state_name(*hour))
            .collect();
        named.extend(self.known().replaced.iter().cloned());
        for name in self.dir.states()? {
            // One for a greater number may belong to a manifest that is about to be put.
            if name.number <= manifest.number && !named.contains(&name) {
                self.remove(&self.dir.hours().join(name.file_name()), go_on)?;
            }
        }
        let before = SystemTime::now() - STALE_AFTER;
        for dir in [self.dir.dir(), self.dir.hours()] {
            fsx::remove_stale_temporaries(dir, before)
                .map_err(StateError::io("remove stale temporary files in", dir))?;
        }
        Ok(())
    }

    fn remove(&self, path: &Path, go_on: GoOn<'_>) -> Result<(), RunError> {
        ask(go_on, Step::RemoveOld)?;
        self.look(self.known())?;
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StateError::io("remove", path)(error).into())
            }
            _ => Ok(()),
        }
    }

    /// Ends this process's work where a manifest is there with a greater number than its own.
    fn look(&self, known: &Known) -> Result<(), RunError> {
        let number = known.manifest.number;
        let greatest = self.dir.numbers()?.last().copied().unwrap_or_default();
        if greatest <= number {
            return Ok(());
        }
        if known.own {
            let path = self.dir.manifest_path(number);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StateError::io("remove", &path)(error).into());
                }
                _ => {}
            }
        }
        Err(self.superseded(greatest))
    }

    fn superseded(&self, number: u64) -> RunError {
        RunError::Superseded {
            number,
            dir: self.dir.dir().to_owned(),
        }
    }
}

fn ask(go_on: GoOn<'_>, step: Step) -> Result<(), RunError> {
    if go_on(step) {
        Ok(())
    } else {
        Err(RunError::Stopped)
    }
}

/// The manifest that last changed any hour of `day`.
fn changed_day(manifest: &Manifest, day: Day) -> u64 {
    let entries = manifest.hours.range(day.hours());
    entries.map(|(_, entry)| entry.changed).max().unwrap_or(0)
}

fn show_lag(waiting_since: Option<SystemTime>) {
    let lag = waiting_since.map_or(Duration::ZERO, |since| {
        // A clock that was set back makes no lag.
        SystemTime::now().duration_since(since).unwrap_or_default()
    });
    metrics::gauge!(catalog::AGGREGATION_LAG).set(lag.as_secs_f64());
}
