//! What a run does that a kill may come between, and how it asks whether to go on. Decides nothing.

use super::RunError;

/// What a run is about to do. It asks before each of these, and ends when told to: every one may
/// be the last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    PutFirstManifest,
    FoldSegment,
    HoldPortion,
    WriteState,
    SyncStates,
    SyncChain,
    PutManifest,
    LookForGreater,
    RemoveOld,
    RenameSummary,
    SyncSummaries,
    ReadForArchive,
    PublishFile,
    SyncArchive,
    RemoveSegment,
    RemoveDay,
}

/// Asked before each step; `false` ends the run.
pub type GoOn<'a> = &'a mut dyn FnMut(Step) -> bool;

impl Step {
    /// As a campaign calls it that ends the process there.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PutFirstManifest => "put-first-manifest",
            Self::FoldSegment => "fold-segment",
            Self::HoldPortion => "hold-portion",
            Self::WriteState => "write-state",
            Self::SyncStates => "sync-states",
            Self::SyncChain => "sync-chain",
            Self::PutManifest => "put-manifest",
            Self::LookForGreater => "look-for-greater",
            Self::RemoveOld => "remove-old",
            Self::RenameSummary => "rename-summary",
            Self::SyncSummaries => "sync-summaries",
            Self::ReadForArchive => "read-for-archive",
            Self::PublishFile => "publish-file",
            Self::SyncArchive => "sync-archive",
            Self::RemoveSegment => "remove-segment",
            Self::RemoveDay => "remove-day",
        }
    }
}

/// Asks whether to go on with `step`.
pub fn ask(go_on: GoOn<'_>, step: Step) -> Result<(), RunError> {
    if go_on(step) {
        Ok(())
    } else {
        Err(RunError::Stopped)
    }
}
