//! Custody of the manifests: which one is known to stand, putting the next one, and the look for
//! a greater number before anything that others could see. Decides nothing about counts.

use std::{
    collections::BTreeSet,
    io,
    path::Path,
    time::{Duration, SystemTime},
};

use pipeline_core::fsx;

use crate::{
    hour::{Day, Period},
    manifest::{Manifest, StateDir},
    run::{GoOn, RunError, Step, ask},
    state::{Head, Hours, State, StateError, StateName},
};

/// Temporary files older than this are of processes that died.
pub const STALE_AFTER: Duration = Duration::from_secs(3600);

/// The manifest that this process goes on from.
pub struct Keeper {
    pub dir: StateDir,
    pub manifest: Manifest,
    /// Put by this process.
    own: bool,
    /// Named by the manifest before this one, and not by this one.
    replaced: Vec<StateName>,
}

impl Keeper {
    /// Reads the greatest manifest. Puts the first where nothing is.
    pub fn load(dir: &StateDir, go_on: GoOn<'_>) -> Result<Self, RunError> {
        loop {
            let Some(greatest) = greatest(dir)? else {
                if let Some(trace) = dir.trace_of_counts()? {
                    // Another one may have begun since the first look.
                    if greatest(dir)?.is_some() {
                        continue;
                    }
                    return Err(RunError::NoManifest {
                        dir: dir.dir().to_owned(),
                        trace,
                    });
                }
                ask(go_on, Step::PutFirstManifest)?;
                // Taken: by the same, as it counts nothing.
                dir.put(&Manifest::first())?;
                continue;
            };
            // Gone again: someone has put greater ones meanwhile.
            if let Some(manifest) = dir.read(greatest)? {
                return Ok(Self {
                    replaced: only_before(dir, &manifest)?,
                    dir: dir.clone(),
                    manifest,
                    own: false,
                });
            }
        }
    }

    /// For a manifest that is made anew and will be put under its number.
    #[must_use]
    pub fn anew(dir: &StateDir, manifest: Manifest) -> Self {
        Self {
            dir: dir.clone(),
            manifest,
            own: false,
            replaced: Vec::new(),
        }
    }

    /// Whether its manifest is still there; an error where others have gone on from it since, and
    /// then nothing is changed: there is nothing of its own to take back.
    pub fn stands(&self) -> Result<bool, RunError> {
        match greatest(&self.dir)? {
            Some(greatest) if greatest > self.manifest.number => Err(self.superseded(greatest)),
            greatest => Ok(greatest == Some(self.manifest.number)),
        }
    }

    /// Puts `next`, which replaces the states `replaced`, and removes what only older ones name.
    pub fn commit(
        &mut self,
        next: Manifest,
        replaced: Vec<StateName>,
        go_on: GoOn<'_>,
    ) -> Result<(), RunError> {
        next.check_books().map_err(RunError::Books)?;
        ask(go_on, Step::PutManifest)?;
        match self.dir.put(&next) {
            Ok(true) => {}
            Ok(false) => return Err(self.superseded(next.number)),
            Err(error) => {
                // Perhaps there, perhaps not yet durable. Nobody else has put it, and the next run
                // goes on from whatever stands.
                if self.dir.holds(&next) {
                    self.manifest = next;
                    self.own = true;
                }
                return Err(error.into());
            }
        }
        let number = next.number;
        self.manifest = next;
        self.own = true;
        let outdated = std::mem::replace(&mut self.replaced, replaced);
        ask(go_on, Step::LookForGreater)?;
        self.look()?;
        // Kept are this manifest and the one before it.
        if number > 2 {
            self.remove(&self.dir.manifest_path(number - 2), go_on)?;
        }
        for name in &outdated {
            self.remove(&self.dir.counts().join(name.file_name()), go_on)?;
        }
        Ok(())
    }

    /// Ends this process's work where a manifest is there with a greater number than its own.
    pub fn look(&self) -> Result<(), RunError> {
        let number = self.manifest.number;
        let greatest = greatest(&self.dir)?.unwrap_or_default();
        if greatest <= number {
            return Ok(());
        }
        if self.own {
            remove_file(&self.dir.manifest_path(number))?;
        }
        Err(self.superseded(greatest))
    }

    /// The state of a day, where it has one.
    pub fn day(&self, day: Day) -> Result<Option<State>, StateError> {
        let name = self.manifest.state_name(day);
        name.map(|name| self.state(&name)).transpose()
    }

    pub fn state(&self, name: &StateName) -> Result<State, StateError> {
        State::read(self.dir.counts(), name)
    }

    /// The hours of a day that have states.
    pub fn hours(&self, day: Day) -> Result<Hours, StateError> {
        match self.manifest.state_name(day) {
            None => Ok(Hours::new()),
            Some(name) => Ok(Head::read(self.dir.counts(), &name)?.hours),
        }
    }

    /// Removes what processes that died have left: manifests and states that nobody will read
    /// again, old temporary files.
    pub fn clean_up(&self, go_on: GoOn<'_>) -> Result<(), RunError> {
        let manifest = &self.manifest;
        for number in self.dir.numbers()? {
            if number + 1 < manifest.number {
                self.remove(&self.dir.manifest_path(number), go_on)?;
            }
        }
        let mut named = BTreeSet::new();
        for day in manifest.days.keys() {
            named.extend(manifest.state_name(*day));
            named.extend(names(&self.hours(*day)?));
        }
        named.extend(self.replaced.iter().cloned());
        for name in self.dir.states()? {
            // One for a greater number may belong to a manifest that is about to be put.
            if name.number <= manifest.number && !named.contains(&name) {
                self.remove(&self.dir.counts().join(name.file_name()), go_on)?;
            }
        }
        let before = SystemTime::now() - STALE_AFTER;
        for dir in [self.dir.analytics(), self.dir.dir(), self.dir.counts()] {
            fsx::remove_stale_temporaries(dir, before)
                .map_err(StateError::io("remove stale temporary files in", dir))?;
        }
        Ok(())
    }

    /// Removes a file that is of no use to the manifest that stands.
    pub fn remove(&self, path: &Path, go_on: GoOn<'_>) -> Result<(), RunError> {
        ask(go_on, Step::RemoveOld)?;
        self.look()?;
        remove_file(path)
    }

    fn superseded(&self, number: u64) -> RunError {
        RunError::Superseded {
            number,
            dir: self.dir.dir().to_owned(),
        }
    }
}

fn greatest(dir: &StateDir) -> Result<Option<u64>, StateError> {
    Ok(dir.numbers()?.last().copied())
}

/// States that the manifest before `manifest` names and this one does not.
fn only_before(dir: &StateDir, manifest: &Manifest) -> Result<Vec<StateName>, StateError> {
    let before = match dir.read(manifest.number - 1) {
        Ok(Some(before)) => before,
        Ok(None) => return Ok(Vec::new()),
        // It is kept for people only: nothing is counted from it.
        Err(error @ StateError::Damaged { .. }) => {
            tracing::warn!("the manifest before the greatest is of no use: {error}");
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut only = Vec::new();
    for (day, entry) in &before.days {
        if manifest.days.get(day) == Some(entry) {
            continue;
        }
        let now = match manifest.state_name(*day) {
            Some(name) => names(&Head::read(dir.counts(), &name)?.hours),
            None => BTreeSet::new(),
        };
        let name = entry.name(Period::Day(*day));
        // Gone or damaged: what it named is found by a clean-up.
        if let Ok(head) = Head::read(dir.counts(), &name) {
            only.extend(names(&head.hours).difference(&now).cloned());
        }
        only.push(name);
    }
    Ok(only)
}

fn names(hours: &Hours) -> BTreeSet<StateName> {
    let names = hours.iter();
    names
        .map(|(hour, entry)| entry.name(Period::Hour(*hour)))
        .collect()
}

fn remove_file(path: &Path) -> Result<(), RunError> {
    match fsx::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StateError::io("remove", path)(error).into())
        }
        _ => Ok(()),
    }
}
