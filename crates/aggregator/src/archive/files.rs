//! The files that stand in the archive: which there are, and what each says of itself. Changes
//! nothing.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use parquet::file::reader::{FileReader, SerializedFileReader};
use pipeline_core::fsx;
use serde::{Deserialize, Serialize};

use super::{
    Place, aside_dir,
    pending::PlannedFile,
    table::{self, Columns},
};
use crate::{
    hour::{Day, Hour},
    state::StateError,
};

/// The format of what a file says of itself.
const FORMAT: u32 = 1;

/// What a file says of itself, in its metadata under `sluice`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    pub format: u32,
    /// The store that its records come from.
    pub store: String,
    #[serde(flatten)]
    pub file: PlannedFile,
}

impl About {
    #[must_use]
    pub fn new(store: &str, file: &PlannedFile) -> Self {
        Self {
            format: FORMAT,
            store: store.to_owned(),
            file: file.clone(),
        }
    }

    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("plain data")
    }
}

/// A file by its place and name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Found {
    pub place: Place,
    pub path: PathBuf,
}

/// A file that is open to read.
pub struct Archived {
    pub about: About,
    pub reader: SerializedFileReader<File>,
}

impl Archived {
    /// Each group's rows, in order, as one is asked for: no more than one is in memory.
    pub fn groups(&self, path: &Path) -> impl Iterator<Item = Result<Columns, StateError>> {
        let groups = 0..self.reader.num_row_groups();
        groups.map(move |at| {
            table::read_group(&self.reader, at).map_err(|error| StateError::Damaged {
                path: path.to_owned(),
                detail: error.to_string(),
            })
        })
    }
}

impl Found {
    /// The plan's number, which its name begins with.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        let name = self.path.file_name()?.to_str()?;
        name.split_once('-')?.0.parse().ok()
    }

    /// # Errors
    /// Where it cannot be read, or is not what its name and place say.
    pub fn open(&self) -> Result<Archived, StateError> {
        let path = &self.path;
        let damaged = |detail: String| StateError::Damaged {
            path: path.clone(),
            detail,
        };
        let file = File::open(path).map_err(StateError::io("open", path))?;
        let reader = SerializedFileReader::new(file).map_err(|error| damaged(error.to_string()))?;
        let about = table::about(&reader).map_err(|error| damaged(error.to_string()))?;
        let about: About =
            serde_json::from_str(&about).map_err(|error| damaged(error.to_string()))?;
        if about.format != FORMAT {
            let detail = format!("has format {}, known is {FORMAT}", about.format);
            return Err(damaged(detail));
        }
        let name = path.file_name().and_then(|name| name.to_str());
        if name != Some(&about.file.name) || about.file.place != self.place {
            let detail = format!("is {} of {}", about.file.name, about.file.place);
            return Err(damaged(detail));
        }
        let rows = reader.metadata().file_metadata().num_rows();
        if u64::try_from(rows) != Ok(about.file.records) {
            let detail = format!("has {rows} rows, and says {}", about.file.records);
            return Err(damaged(detail));
        }
        Ok(Archived { about, reader })
    }
}

/// All files of the archive and of what is aside, in order of place and name. `hour` chooses.
///
/// # Errors
/// Where a directory cannot be listed.
pub fn list(archive: &Path, hour: impl Fn(Place) -> bool) -> Result<Vec<Found>, StateError> {
    let mut found = Vec::new();
    for (aside, root) in [(false, archive.to_owned()), (true, aside_dir(archive))] {
        for (day, dir) in days(&root)? {
            for name in names(&dir)? {
                let hour_of = name.strip_prefix("hour=").and_then(|name| {
                    let of_day: i64 = name.parse().ok()?;
                    Some(Hour(day.hours().start.0.checked_add(of_day)?))
                });
                let Some(place) = hour_of.map(|hour| Place { aside, hour }) else {
                    continue;
                };
                let dir = place.dir(archive);
                if !hour(place) || dir.file_name().and_then(|found| found.to_str()) != Some(&*name)
                {
                    continue;
                }
                let files = names(&dir)?;
                let files = files.iter().filter(|name| {
                    name.ends_with(".parquet") && !name.starts_with(fsx::TEMPORARY_PREFIX)
                });
                found.extend(files.map(|name| Found {
                    place,
                    path: dir.join(name),
                }));
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The days of a root, with their directories.
///
/// # Errors
/// Where it cannot be listed.
pub fn days(root: &Path) -> Result<Vec<(Day, PathBuf)>, StateError> {
    let names = names(root)?;
    let days = names.iter().filter_map(|name| {
        let day = Day::parse(name.strip_prefix("date=")?)?;
        Some((day, root.join(name)))
    });
    Ok(days.collect())
}

/// Whether any file is there, and which.
///
/// # Errors
/// Where a directory cannot be listed.
pub fn trace(archive: &Path) -> Result<Option<PathBuf>, StateError> {
    for root in [archive.to_owned(), aside_dir(archive)] {
        for (_, day) in days(&root)? {
            for hour in names(&day)? {
                let hour = day.join(hour);
                let files = names(&hour)?;
                if let Some(name) = files.iter().find(|name| name.ends_with(".parquet")) {
                    return Ok(Some(hour.join(name)));
                }
            }
        }
    }
    Ok(None)
}

/// The names in a directory, none where it is none.
///
/// # Errors
/// Where it cannot be listed.
pub fn names(dir: &Path) -> Result<Vec<String>, StateError> {
    use io::ErrorKind::{NotADirectory, NotFound};
    match fsx::list_dir(dir) {
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(Vec::new()),
        names => names.map_err(StateError::io("list", dir)),
    }
}
