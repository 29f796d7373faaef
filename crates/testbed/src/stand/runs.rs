//! The names that runs give to what they make, and what killed runs have left under theirs.

use std::{
    fs,
    path::Path,
    process::id,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result};

use crate::clock::Millis;

/// A name that no other run has had, for topics and groups.
pub fn fresh_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("sluice-{:x}-{:x}-{count}", Millis::now().0, id())
}

/// Whether a process that is gone has made this name: what it has left is nobody's.
pub fn is_of_dead_run(name: &str) -> bool {
    let mut parts = name.split('-');
    let ours = parts.next() == Some("sluice") && parts.next().is_some_and(|at| hex(at).is_some());
    let process = parts.next().filter(|_| ours).and_then(hex);
    process.is_some_and(|process| !Path::new("/proc").join(process.to_string()).exists())
}

/// Removes what runs that were killed have left in a directory of runs.
///
/// # Errors
/// When something cannot be removed.
pub fn remove_dead_runs(dir: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry?;
        if is_of_dead_run(&entry.file_name().to_string_lossy()) {
            let path = entry.path();
            fs::remove_dir_all(&path)
                .with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_dead_runs_left_is_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        // No process has this id.
        let (dead, own) = ("sluice-1a2b-ffffffff-0", fresh_name());
        let others = ["sluice-demo", "sluice-1a2b", "logs", &*own];
        for name in others.into_iter().chain([dead]) {
            fs::create_dir(dir.path().join(name)).expect("made");
        }
        remove_dead_runs(dir.path()).expect("removed");
        assert!(!dir.path().join(dead).exists());
        for name in others {
            assert!(dir.path().join(name).exists(), "{name}");
        }
        remove_dead_runs(&dir.path().join("none")).expect("nothing to do");
    }
}
