//! Durable file steps: own temporary name, write, fsync, link or rename, fsync of the directory.

use std::{io, path::Path};

/// Puts a file where none is: temporary file in the same directory, write, fsync, `link` without
/// replacing, fsync of the directory. `Ok(false)`: the name was taken (and the directory has been
/// fsynced, so what stands there is durable). The temporary file is removed in each case.
///
/// # Errors
/// As the file system says; whether the name exists is then unknown.
pub fn put_if_absent(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let _ = (path, bytes);
    todo!()
}

/// Replaces a file as a whole: temporary file, write, fsync, rename, fsync of the directory.
///
/// # Errors
/// As the file system says.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let _ = (path, bytes);
    todo!()
}

/// Makes a directory's entries durable.
///
/// # Errors
/// As the file system says.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    let _ = dir;
    todo!()
}

/// Makes a directory and those above it, each durable in its parent.
///
/// # Errors
/// As the file system says.
pub fn create_dirs(dir: &Path) -> io::Result<()> {
    let _ = dir;
    todo!()
}
