//! Files as a released version wrote them, under tests/fixtures/<version>: every later one must
//! read them. Never writes over one that is there: what a release has written stays as it is.
//!
//! `UPDATE_FIXTURES=1 cargo test NAME` makes those of the current version that are not there yet.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// The version whose files are made where they are missing.
const CURRENT: &str = "v1";

/// A copy of the fixture `name` in `to`, which `make` wrote into an empty directory once.
///
/// # Panics
/// Where there is none and nobody asked for one.
pub fn copy_to(to: &Path, name: &str, make: impl FnOnce(&Path)) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    let committed = root.join(CURRENT).join(name);
    let _alone = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if !committed.exists() {
        let asked = env::var_os("UPDATE_FIXTURES").is_some();
        assert!(asked, "{} is missing: {AGAIN}", committed.display());
        fs::create_dir_all(&committed).expect("a directory");
        make(&committed);
        // Locks are of processes, not of a format.
        for path in files(&committed).expect("just made") {
            let name = path.file_name().and_then(|name| name.to_str());
            if name.is_some_and(|name| name.ends_with("LOCK") || name.ends_with(".lock")) {
                fs::remove_file(path).expect("just made");
            }
        }
    }
    copy(&committed, to).expect("a copy");
}

/// Tests run side by side, and one of them makes what others read.
static MAKING: Mutex<()> = Mutex::new(());

const AGAIN: &str = "UPDATE_FIXTURES=1 makes it, for a version that is not released yet";

/// Every file below `dir`, in order.
///
/// # Errors
/// As the file system says.
pub fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let from = entry?.path();
        let to = to.join(from.file_name().expect("an entry has a name"));
        if from.is_dir() {
            copy(&from, &to)?;
        } else {
            fs::copy(&from, &to)?;
        }
    }
    Ok(())
}
