//! Why a run did not come to its end, and whether trying again is of use.

use std::path::PathBuf;

use pipeline_core::store::StoreError;

use crate::{
    backlog::{BacklogError, ReadMismatch},
    state::StateError,
};

/// Why a run did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// As it was told to.
    #[error("stopped before everything was counted")]
    Stopped,
    #[error(
        "another aggregator has put manifest {number} in {}: only one may run on a directory",
        dir.display()
    )]
    Superseded { number: u64, dir: PathBuf },
    #[error("the books do not add up: {0}")]
    Books(String),
    #[error(
        "no manifest in {}, but {} is there: the manifests are lost, and counting anew would \
         count twice; `aggregator rebuild` makes them anew",
        dir.display(),
        trace.display()
    )]
    NoManifest { dir: PathBuf, trace: PathBuf },
    #[error(
        "{} has counted store {counted}, but {} holds store {found}: is storage.logsDir the right \
         directory? Where that store is lost for good, `aggregator rebuild --adopt` counts what the \
         archive has of it, and goes on with the other",
        dir.display(),
        logs.display()
    )]
    OtherStore {
        dir: PathBuf,
        logs: PathBuf,
        counted: String,
        found: String,
    },
    #[error(
        "{what} is of {of}, but {} holds {found}: are storage.logsDir, archiveDir and analyticsDir \
         the right directories? Where that is lost for good, --adopt counts what the archive has of it",
        logs.display()
    )]
    NotAdopted {
        what: String,
        of: String,
        logs: PathBuf,
        found: String,
    },
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RunError {
    /// Whether trying again is of no use before someone has looked at it.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Stopped | Self::Store(_) | Self::State(StateError::Io { .. }) => false,
            Self::Superseded { .. }
            | Self::Books(_)
            | Self::NoManifest { .. }
            | Self::OtherStore { .. }
            | Self::NotAdopted { .. }
            | Self::State(StateError::Damaged { .. }) => true,
        }
    }
}

impl From<BacklogError> for RunError {
    fn from(error: BacklogError) -> Self {
        match error {
            BacklogError::Store(error) => Self::Store(error),
            BacklogError::Cursor(detail) => Self::Books(detail),
        }
    }
}

impl From<ReadMismatch> for RunError {
    fn from(mismatch: ReadMismatch) -> Self {
        Self::Books(mismatch.to_string())
    }
}
