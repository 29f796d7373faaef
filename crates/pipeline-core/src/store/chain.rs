//! One partition's directory: START, publish, watermark, and the walk.

use std::path::{Path, PathBuf};

use super::segment::{Encoded, LastMessage, Link, SegmentHash, Totals, Trailer};
use crate::ids::{Offset, PartitionId};

/// Identity of one store; stands in `OWNER` and in the metadata of commits. 32 hex digits.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct StoreId(pub String);

/// An I/O failure with the step and the path. Never says that the data is wrong.
#[derive(Debug, thiserror::Error)]
#[error("failed to {step} {path}: {source}")]
pub struct StoreError {
    pub step: &'static str,
    pub path: PathBuf,
    pub source: std::io::Error,
}

/// Why a chain cannot be followed or extended. Halts its partition.
#[derive(Debug, thiserror::Error)]
pub enum ChainFault {
    #[error(transparent)]
    Io(#[from] StoreError),
    #[error("damaged {path}: {detail}")]
    Damaged { path: PathBuf, detail: String },
    /// The segment that should be named `expected` is not there although later names are.
    #[error("missing segment {path}: {detail}")]
    Missing { path: PathBuf, detail: String },
}

/// The root of a store.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    id: StoreId,
}

impl Store {
    /// Opens, or makes, the store at `root`; refuses a file system without hard links.
    ///
    /// # Errors
    /// Names the step that failed.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let _ = root;
        todo!()
    }

    /// Opens a store only where one is (for readers).
    ///
    /// # Errors
    /// Names the step that failed.
    pub fn open_existing(root: &Path) -> Result<Option<Self>, StoreError> {
        let _ = root;
        todo!()
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
        let dir = self
            .root
            .join("_live")
            .join(topic)
            .join(format!("p{:05}", partition.0));
        Chain {
            dir,
            topic: topic.to_owned(),
            partition,
        }
    }

    /// Every chain that has a directory, in order of topic and partition.
    ///
    /// # Errors
    /// Names the step that failed.
    pub fn chains(&self) -> Result<Vec<Chain>, StoreError> {
        todo!()
    }
}

/// The directory of one partition's chain.
#[derive(Clone, Debug)]
pub struct Chain {
    dir: PathBuf,
    topic: String,
    partition: PartitionId,
}

/// The file `START`.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Start {
    pub format: u32,
    pub cluster_id: String,
    pub topic_id: String,
    pub first_offset: Offset,
}

/// Where a reader has got to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cursor {
    pub next: Offset,
    /// The last segment read; `None` before the first.
    pub last: Option<Link>,
}

/// The end of a chain: all that is needed to extend it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChainEnd {
    pub next: Offset,
    pub last: Option<Link>,
    pub totals: Totals,
    pub last_message: Option<LastMessage>,
}

/// What became of a publish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Published {
    /// Ours is the next segment, durably.
    Linked,
    /// The name is taken: reload from the chain (it may be our own earlier attempt).
    NameTaken,
    /// The watermark is above our name: our file is removed, give the partition up.
    BelowWatermark,
}

/// One segment as the walk meets it.
#[derive(Clone, Debug)]
pub struct Visited {
    pub path: PathBuf,
    pub hash: SegmentHash,
    pub file_len: u64,
    pub trailer: Trailer,
}

impl Chain {
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    #[must_use]
    pub fn partition(&self) -> PartitionId {
        self.partition
    }

    #[must_use]
    pub fn segment_path(&self, first: Offset) -> PathBuf {
        self.dir.join(format!("{:020}.ndjson.zst", first.0))
    }

    /// # Errors
    /// Where `START` is there and cannot be read or understood.
    pub fn start(&self) -> Result<Option<Start>, ChainFault> {
        todo!()
    }

    /// Puts `START` if absent, durably, and gives back the one that stands.
    ///
    /// # Errors
    /// Where it cannot be made durable, or the one that stands cannot be understood.
    pub fn put_start(&self, start: &Start) -> Result<Start, ChainFault> {
        let _ = start;
        todo!()
    }

    /// The greatest watermark, if any.
    ///
    /// # Errors
    /// Where the directory cannot be listed.
    pub fn watermark(&self) -> Result<Option<Offset>, StoreError> {
        todo!()
    }

    /// Walks from `from` (`None`: the watermark, or START) to the end by `next`, checking links
    /// and that every listed name is reached. The directory is listed first. `visit` may end the
    /// walk early by returning `false`. A chain without START gives `Ok(None)`; segments without
    /// START are damage.
    ///
    /// # Errors
    /// The first damaged or missing segment.
    pub fn walk(
        &self,
        from: Option<Cursor>,
        visit: &mut dyn FnMut(Visited) -> bool,
    ) -> Result<Option<ChainEnd>, ChainFault> {
        let _ = (from, visit);
        todo!()
    }

    /// Publishes a segment: own temporary file, write, fsync, link without replacing, fsync of
    /// the directory, look at the watermark.
    ///
    /// # Errors
    /// Where a step failed: the outcome is unknown, look at the chain before writing again.
    pub fn publish(&self, segment: &Encoded) -> Result<Published, StoreError> {
        let _ = segment;
        todo!()
    }

    /// Makes the directory's entries durable (a reader does so before it commits a cursor).
    ///
    /// # Errors
    /// Where fsync fails.
    pub fn sync(&self) -> Result<(), StoreError> {
        todo!()
    }
}
