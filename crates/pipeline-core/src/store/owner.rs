//! The root of a store: its identity, and the chains below it. Never looks into a chain.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::chain::Chain;
use crate::{fsx, ids::PartitionId};

/// The format of `OWNER`.
const FORMAT: u32 = 1;

/// Identity of one store; stands in `OWNER` and in the metadata of commits. 32 hex digits.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct StoreId(pub String);

impl std::fmt::Display for StoreId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// An I/O failure with the step and the path. Never says that the data is wrong.
#[derive(Debug, thiserror::Error)]
#[error("failed to {step} {path}: {cause}")]
pub struct StoreError {
    pub step: &'static str,
    pub path: PathBuf,
    pub cause: io::Error,
}

impl StoreError {
    /// For `map_err`.
    pub(super) fn at(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self {
            step,
            path: path.to_owned(),
            cause,
        }
    }
}

/// The root of a store.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    id: StoreId,
}

/// The file `OWNER`.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Owner {
    format: u32,
    id: String,
}

impl Store {
    /// Opens, or makes, the store at `root`; refuses a file system without hard links.
    ///
    /// # Errors
    /// Names the step that failed.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        fsx::create_dirs(root).map_err(StoreError::at("make directory", root))?;
        probe_links(root)?;
        if let Some(store) = Self::open_existing(root)? {
            return Ok(store);
        }
        let mut id = [0; 16];
        getrandom::fill(&mut id)
            .map_err(|error| io::Error::other(error.to_string()))
            .map_err(StoreError::at("make an id for", root))?;
        let owner = Owner {
            format: FORMAT,
            id: crate::ids::BatchId(id).to_string(),
        };
        let json = serde_json::to_vec(&owner).expect("plain data");
        let path = root.join("OWNER");
        fsx::put_if_absent(&path, &json).map_err(StoreError::at("put", &path))?;
        // Ours, or that of a process that was faster.
        Self::open_existing(root)?.ok_or_else(|| {
            StoreError::at("read back", &path)(io::Error::from(io::ErrorKind::NotFound))
        })
    }

    /// Opens a store only where one is (for readers).
    ///
    /// # Errors
    /// Names the step that failed; chains without `OWNER` are no new store.
    pub fn open_existing(root: &Path) -> Result<Option<Self>, StoreError> {
        let path = root.join("OWNER");
        // `OWNER` is put before the first chain: seen in the other order, both are there.
        let chains = root.join("_live").exists();
        let json = match fsx::read(&path) {
            Ok(json) => json,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !chains => return Ok(None),
            Err(error) => return Err(StoreError::at("read", &path)(error)),
        };
        let fail = |detail: String| {
            StoreError::at("understand", &path)(io::Error::new(io::ErrorKind::InvalidData, detail))
        };
        let owner: Owner =
            serde_json::from_slice(&json).map_err(|error| fail(error.to_string()))?;
        if owner.format != FORMAT {
            return Err(fail(format!("format {}, known is {FORMAT}", owner.format)));
        }
        if owner.id.len() != 32 || !owner.id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(fail(format!("id {:?} is not 32 hex digits", owner.id)));
        }
        Ok(Some(Self {
            root: root.to_owned(),
            id: StoreId(owner.id),
        }))
    }

    /// Whether the store is where it was and takes files. On a disk that hangs it does not return.
    ///
    /// # Errors
    /// Names the step that failed.
    pub fn answers(&self) -> Result<(), StoreError> {
        // Never made anew: on a file system that was unmounted there is another place.
        match Self::open_existing(&self.root)? {
            Some(found) if found.id == self.id => probe_links(&self.root),
            _ => Err(StoreError::at("find this store at", &self.root)(
                io::Error::from(io::ErrorKind::NotFound),
            )),
        }
    }

    #[must_use]
    pub fn id(&self) -> &StoreId {
        &self.id
    }

    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    #[must_use]
    pub fn chain(&self, topic: &str, partition: PartitionId) -> Chain {
        Chain::at(
            self.root
                .join("_live")
                .join(topic)
                .join(format!("p{:05}", partition.0)),
            topic,
            partition,
        )
    }

    /// Where a repair puts what it takes out of a chain; no reader looks there.
    #[must_use]
    pub fn aside_dir(&self, chain: &Chain) -> PathBuf {
        self.root
            .join("_aside")
            .join(chain.topic())
            .join(format!("p{:05}", chain.partition().0))
    }

    /// Every chain that has a directory, in order of topic and partition.
    ///
    /// # Errors
    /// Names the step that failed.
    pub fn chains(&self) -> Result<Vec<Chain>, StoreError> {
        let mut chains = Vec::new();
        for topic in self.topics()? {
            chains.extend(self.chains_of(&topic)?);
        }
        Ok(chains)
    }

    /// Every topic that has a directory, in order.
    ///
    /// # Errors
    /// Names the step that failed.
    pub fn topics(&self) -> Result<Vec<String>, StoreError> {
        list(&self.root.join("_live"))
    }

    /// A topic's chains that have a directory, in order of partition.
    ///
    /// # Errors
    /// Names the step that failed.
    pub fn chains_of(&self, topic: &str) -> Result<Vec<Chain>, StoreError> {
        let mut partitions: Vec<PartitionId> = list(&self.root.join("_live").join(topic))?
            .iter()
            .filter_map(|name| partition_of(name))
            .collect();
        partitions.sort_unstable();
        let chain = |partition| self.chain(topic, partition);
        Ok(partitions.into_iter().map(chain).collect())
    }
}

/// The names in a directory, sorted; none where it is not there or is a file.
pub(super) fn list(dir: &Path) -> Result<Vec<String>, StoreError> {
    let mut names = Vec::new();
    each_name(dir, &mut |name| names.push(name.to_owned()))?;
    names.sort_unstable();
    Ok(names)
}

/// Visits the names in `dir`, in no order; a directory that is not there has none.
pub(super) fn each_name(dir: &Path, visit: &mut dyn FnMut(&str)) -> Result<(), StoreError> {
    let entries = match fsx::read_dir(dir) {
        Ok(entries) => entries,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(());
        }
        Err(error) => return Err(StoreError::at("list", dir)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(StoreError::at("list", dir))?;
        // A name that is not text is none of ours.
        if let Some(name) = entry.file_name().to_str() {
            visit(name);
        }
    }
    Ok(())
}

fn partition_of(name: &str) -> Option<PartitionId> {
    let number = name.strip_prefix('p')?.parse().ok()?;
    (format!("p{number:05}") == name).then_some(PartitionId(number))
}

/// Publishing rests on `link` failing where the name is taken.
fn probe_links(root: &Path) -> Result<(), StoreError> {
    let probe = fsx::Temporary::write_in(root, b"")
        .map_err(StoreError::at("write a probe file in", root))?;
    let mut second = probe.path().as_os_str().to_owned();
    second.push("-link");
    let second = PathBuf::from(second);
    let linked = probe.link(&second);
    let again = probe.link(&second);
    // Best effort: nobody reads such a name.
    let _ = fsx::remove_file(&second);
    let linked = linked.map_err(StoreError::at(
        "make a hard link (which the store needs) in",
        root,
    ))?;
    let again = again.map_err(StoreError::at("make a hard link in", root))?;
    if linked && !again {
        return Ok(());
    }
    Err(StoreError::at("probe", root)(io::Error::other(
        "hard links replace files that are there",
    )))
}
