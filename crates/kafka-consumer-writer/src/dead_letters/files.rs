//! The files of a directory, by name alone.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use pipeline_core::fsx;

use super::marks;

/// All that counts and is not appended to by this process.
pub(super) fn list_others(dir: &Path, writer: &str) -> io::Result<Vec<(PathBuf, u64)>> {
    let own = format!("records-{writer}-");
    let mut others = Vec::new();
    for path in files(dir)? {
        let counts = is_records_file(&path) || has_prefix(&path, marks::PREFIX);
        if counts
            && !has_prefix(&path, &own)
            && let Some(len) = len(&path)?
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

/// `None`: it is gone.
pub(super) fn len(path: &Path) -> io::Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
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
