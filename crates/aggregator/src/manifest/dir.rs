//! The directory that holds manifests and states: by name, read and put. Decides nothing.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use pipeline_core::fsx;

use super::Manifest;
use crate::{
    archive::files,
    hour::Day,
    state::{StateError, StateName},
};

/// The directory that holds manifests and states.
#[derive(Clone, Debug)]
pub struct StateDir {
    analytics: PathBuf,
    dir: PathBuf,
    counts: PathBuf,
    archive: Option<PathBuf>,
}

impl StateDir {
    /// Makes the directories where they are not.
    ///
    /// # Errors
    /// Names the step that failed.
    pub fn open(analytics: &Path) -> Result<Self, StateError> {
        let dir = analytics.join("_state");
        let counts = dir.join("counts");
        fsx::create_dirs(&counts).map_err(StateError::io("make directory", &counts))?;
        Ok(Self {
            analytics: analytics.to_owned(),
            dir,
            counts,
            archive: None,
        })
    }

    /// Whether files can be made wherever states and summaries are put.
    ///
    /// # Errors
    /// Names the directory where none can.
    pub fn takes_files(&self) -> Result<(), StateError> {
        for dir in [&self.analytics, &self.dir, &self.counts] {
            fsx::takes_files(dir).map_err(StateError::io("write a probe file in", dir))?;
        }
        Ok(())
    }

    /// Of a directory that is only read.
    #[must_use]
    pub fn at(analytics: &Path) -> Self {
        let dir = analytics.join("_state");
        Self {
            analytics: analytics.to_owned(),
            counts: dir.join("counts"),
            dir,
            archive: None,
        }
    }

    /// The greatest manifest; `None`: there is none.
    ///
    /// # Errors
    /// Where it cannot be read or understood.
    pub fn greatest(&self) -> Result<Option<Manifest>, StateError> {
        if !self.dir.is_dir() {
            return Ok(None);
        }
        loop {
            let Some(number) = self.numbers()?.pop() else {
                return Ok(None);
            };
            // Gone again: greater ones have been put meanwhile.
            if let Some(manifest) = self.read(number)? {
                return Ok(Some(manifest));
            }
        }
    }

    /// With the archive whose plans the manifests hold.
    #[must_use]
    pub fn with_archive(self, archive: &Path) -> Self {
        Self {
            archive: Some(archive.to_owned()),
            ..self
        }
    }

    #[must_use]
    pub fn analytics(&self) -> &Path {
        &self.analytics
    }

    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the states of hours and days are.
    #[must_use]
    pub fn counts(&self) -> &Path {
        &self.counts
    }

    #[must_use]
    pub fn manifest_path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("m{number:020}.json"))
    }

    /// The numbers of all manifests, in order.
    ///
    /// # Errors
    /// Where the directory cannot be listed.
    pub fn numbers(&self) -> Result<Vec<u64>, StateError> {
        let mut numbers: Vec<u64> = list(&self.dir)?
            .iter()
            .filter_map(|name| {
                let number = name.strip_prefix('m')?.strip_suffix(".json")?;
                let parsed = number.parse().ok()?;
                (format!("{parsed:020}") == number).then_some(parsed)
            })
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The names of all states of hours and days.
    ///
    /// # Errors
    /// Where the directory cannot be listed.
    pub fn states(&self) -> Result<Vec<StateName>, StateError> {
        let names = list(&self.counts)?;
        Ok(names
            .iter()
            .filter_map(|name| StateName::parse(name))
            .collect())
    }

    /// # Errors
    /// Where the file cannot be read or understood; `Ok(None)`: there is none of that number.
    pub fn read(&self, number: u64) -> Result<Option<Manifest>, StateError> {
        let path = self.manifest_path(number);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StateError::io("read", &path)(error)),
        };
        let manifest = Manifest::decode(&bytes).and_then(|manifest| {
            if manifest.number == number {
                Ok(manifest)
            } else {
                Err(format!("holds the manifest {}", manifest.number))
            }
        });
        match manifest {
            Ok(manifest) => Ok(Some(manifest)),
            Err(detail) => Err(StateError::Damaged { path, detail }),
        }
    }

    /// Puts `manifest` if absent, durably; `Ok(false)`: its number is taken.
    ///
    /// # Errors
    /// Where a step failed; whether it is there is then unknown.
    pub fn put(&self, manifest: &Manifest) -> Result<bool, StateError> {
        let path = self.manifest_path(manifest.number);
        let bytes = manifest.encode();
        let put = fsx::put_if_absent(&path, &bytes).or_else(|error| {
            // Linked, and then its directory was not synced: that may work now.
            if self.holds(manifest) && fsx::sync_dir(&self.dir).is_ok() {
                Ok(true)
            } else {
                Err(error)
            }
        });
        put.map_err(StateError::io("put", &path))
    }

    /// Whether what stands under the manifest's number is this very one, byte for byte. What
    /// cannot be read is not.
    #[must_use]
    pub fn holds(&self, manifest: &Manifest) -> bool {
        fs::read(self.manifest_path(manifest.number)).is_ok_and(|found| found == manifest.encode())
    }

    /// Whether anything is there that only a manifest could have led to.
    ///
    /// # Errors
    /// Where a directory cannot be listed.
    pub fn trace_of_counts(&self) -> Result<Option<PathBuf>, StateError> {
        if let Some(state) = self.states()?.first() {
            return Ok(Some(self.counts.join(state.file_name())));
        }
        let days = list(&self.analytics)?;
        let day = days.iter().find(|name| Day::parse(name).is_some());
        match (day, &self.archive) {
            (Some(day), _) => Ok(Some(self.analytics.join(day))),
            (None, Some(archive)) => files::trace(archive),
            (None, None) => Ok(None),
        }
    }
}

fn list(dir: &Path) -> Result<Vec<String>, StateError> {
    let failed = |error| StateError::io("list", dir)(error);
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        // A name that is not text is none of ours.
        if let Ok(name) = entry.map_err(failed)?.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}
