//! The files of a directory, by name alone; and those of them that are set aside.

use std::{
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

use pipeline_core::fsx;

use super::{PayloadError, marks};

/// Of damaged files nothing whole of which waits any more; no command reads them.
const DAMAGED: &str = "damaged";
const DAMAGED_SUFFIX: &str = "-damaged";

/// The whole frames of one file that this build cannot read: of another version perhaps.
#[derive(Debug, Default)]
pub(super) struct Unreadable {
    payloads: u64,
    first: Option<String>,
}

impl Unreadable {
    /// Of the frame at byte `position`.
    pub(super) fn note(&mut self, position: u64, read: Result<(), PayloadError>) {
        if let Err(why) = read {
            self.payloads += 1;
            self.first
                .get_or_insert_with(|| format!("at byte {position}: {why}"));
        }
    }

    /// What of the file cannot be read, for people; `None` where all can.
    pub(super) fn describe(&self, path: &Path, damaged: &[Range<u64>]) -> Option<String> {
        let mut parts = Vec::new();
        if !damaged.is_empty() {
            parts.push(format!("bytes {damaged:?} hold no whole frame"));
        }
        if let Some(first) = &self.first {
            let payloads = self.payloads;
            parts.push(format!(
                "{payloads} payloads cannot be read, the first {first}"
            ));
        }
        (!parts.is_empty()).then(|| format!("{}: {}", path.display(), parts.join(", ")))
    }
}

/// All that counts and is not appended to by this process.
pub(super) fn list_others(dir: &Path, writer: &str) -> io::Result<Vec<(PathBuf, u64)>> {
    let own = format!("records-{writer}-");
    let mut others = Vec::new();
    for path in files(dir)? {
        let counts = is_records_file(&path) || has_prefix(&path, marks::PREFIX);
        if counts
            && !has_prefix(&path, &own)
            && let Some(len) = len(&path)
        {
            others.push((path, len));
        }
    }
    Ok(others)
}

pub(super) fn is_records_file(path: &Path) -> bool {
    has_prefix(path, "records-")
}

pub(super) fn has_prefix(path: &Path, prefix: &str) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with(prefix))
}

/// `None`: it is gone, or nobody can say; one file never keeps the others from being counted.
pub(super) fn len(path: &Path) -> Option<u64> {
    fs::metadata(path).map(|metadata| metadata.len()).ok()
}

pub(super) fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for item in fsx::read_dir(dir)? {
        let path = item?.path();
        if path.extension().is_some_and(|end| end == "dlq") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Moves a damaged file to where nobody takes it for one that is to be read; gives its new path.
pub(super) fn set_aside(dir: &Path, path: &Path) -> io::Result<PathBuf> {
    let aside = dir.join(DAMAGED);
    fsx::create_private_dir(&aside)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut to = aside.join(format!("{name}{DAMAGED_SUFFIX}"));
    // An old copy of the directory may have brought another one of that name.
    while !fsx::link(path, &to)? {
        to = aside.join(format!("{name}-{:08x}{DAMAGED_SUFFIX}", fastrand::u32(..)));
    }
    fsx::sync_dir(&aside)?;
    fsx::remove_file(path)?;
    fsx::sync_dir(dir)?;
    Ok(to)
}

/// Bytes of what is set aside; 0 where nobody can say.
pub(super) fn bytes_aside(dir: &Path) -> u64 {
    let items = fs::read_dir(dir.join(DAMAGED)).into_iter().flatten();
    items.filter_map(|item| len(&item.ok()?.path())).sum()
}
