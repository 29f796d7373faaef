//! Every file that readers of a store, an archive or analytics can come upon, with a hash of what is
//! in it: so that it can be said what somebody has changed.

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    fs,
    hash::{Hash, Hasher},
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// What a file is to its readers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Renamed into place as a whole, and made anew where it is not as the manifest says.
    Rendered,
    /// Put once, and the same for ever.
    Put,
}

/// Files by their path.
pub struct Tree {
    root: PathBuf,
    files: BTreeMap<PathBuf, u64>,
}

/// Of two trees.
#[derive(Default, Debug)]
pub struct Changes {
    pub rendered: Vec<PathBuf>,
    pub other: Vec<PathBuf>,
}

impl Tree {
    /// What an aggregator has made below a stand's directory: manifests and states, summaries,
    /// reports, archive. Temporary files are nobody's to read, and what is of 1970 goes by retention
    /// as soon as it is there.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read(root: &Path) -> Result<Self> {
        Self::of(root, &["analytics", "archive", "archive-aside"])
    }

    /// And the chains, which nothing may go on with meanwhile.
    ///
    /// # Errors
    /// As [`Tree::read`].
    pub fn with_chains(root: &Path) -> Result<Self> {
        Self::of(
            root,
            &["logs/_live", "analytics", "archive", "archive-aside"],
        )
    }

    fn of(root: &Path, dirs: &[&str]) -> Result<Self> {
        let mut tree = Self {
            root: root.to_owned(),
            files: BTreeMap::new(),
        };
        for dir in dirs {
            tree.add(&root.join(dir))
                .with_context(|| format!("in {dir}"))?;
        }
        Ok(tree)
    }

    fn add(&mut self, dir: &Path) -> Result<()> {
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // Of watermarks the greatest counts: an old one that is put late says nothing.
            let skip = [".tmp-", "date=1970", "1970-", "w0"];
            if skip.iter().any(|start| name.starts_with(start)) {
                continue;
            }
            if path.is_dir() {
                self.add(&path)?;
                continue;
            }
            let mut hasher = DefaultHasher::new();
            let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
            bytes.hash(&mut hasher);
            let below = path.strip_prefix(&self.root)?.to_owned();
            self.files.insert(below, hasher.finish());
        }
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// What differs in `later`, but for states that no manifest names: whoever was about to put one
    /// leaves them, and the next start removes them.
    pub fn changes(&self, later: &Self) -> Changes {
        let mut changes = Changes::default();
        let mut note = |path: &Path| {
            let list = match kind(path) {
                Kind::Rendered => &mut changes.rendered,
                Kind::Put => &mut changes.other,
            };
            list.push(path.to_owned());
        };
        for (path, hash) in &self.files {
            if later.files.get(path) != Some(hash) {
                note(path);
            }
        }
        for path in later.files.keys() {
            if !self.files.contains_key(path) && !path.starts_with("analytics/_state/counts") {
                note(path);
            }
        }
        changes
    }
}

impl Changes {
    pub fn is_none(&self) -> bool {
        self.rendered.is_empty() && self.other.is_empty()
    }
}

fn kind(path: &Path) -> Kind {
    let of_reports = path.starts_with("analytics/_state/reports");
    let state = path.starts_with("analytics/_state") && !of_reports;
    if path.starts_with("analytics") && !state {
        Kind::Rendered
    } else {
        Kind::Put
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_changed_gone_or_new_is_seen_and_what_nobody_reads_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let put = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("it has one")).expect("made");
            fs::write(path, text).expect("written");
        };
        let tree = || Tree::with_chains(dir.path()).expect("read");
        put("analytics/2026-01-01/summary.json", "1");
        put("analytics/_state/m00000000000000000001.json", "1");
        put("archive/date=2026-01-01/hour=00/a.parquet", "1");
        put("logs/_live/t/p00000/00000000000000000000.ndjson.zst", "1");
        let before = tree();
        assert_eq!(before.len(), 4);
        put("analytics/_state/counts/2026-01-01-1-a", "1");
        put("archive/.tmp-1", "1");
        put("archive/date=1970-01-01/hour=00/a.parquet", "1");
        put("logs/_live/t/p00000/w00000000000000000001", "");
        assert!(before.changes(&tree()).is_none());
        put("analytics/2026-01-01/summary.json", "2");
        put("archive/date=2026-01-01/hour=00/b.parquet", "1");
        fs::remove_file(
            dir.path()
                .join("analytics/_state/m00000000000000000001.json"),
        )
        .expect("removed");
        let changes = before.changes(&tree());
        assert_eq!((changes.rendered.len(), changes.other.len()), (1, 2));
    }
}
