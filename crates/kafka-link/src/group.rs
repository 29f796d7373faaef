//! One member of one consumer group on one topic: join, heartbeat, commit, leave.
//!
//! The `consumer` protocol with the `range` assignor, eager: on a rebalance all is given up and
//! joined anew. The leader's assignment is computed here.

use std::{collections::BTreeMap, time::Duration};

use pipeline_core::{Offset, PartitionId};

use crate::{Cluster, KafkaError};

#[derive(Clone, Debug)]
pub struct GroupConfig {
    pub group_id: String,
    /// Static membership (KIP-345).
    pub instance_id: Option<String>,
    pub topic: String,
    pub session_timeout: Duration,
    /// How long the group waits for a member to give up what is revoked.
    pub rebalance_timeout: Duration,
}

/// What this member has been given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Assignment {
    pub generation: i32,
    pub partitions: Vec<PartitionId>,
}

/// What a heartbeat says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Beat {
    Stable,
    /// Flush, commit, then join again.
    Rebalance,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Committed {
    /// The next offset to read.
    pub offset: Offset,
    pub metadata: String,
}

/// Not `Clone`: one owner joins. Heartbeats and commits go by `&self`, also while `join` of
/// another member runs.
pub struct Member {
    #[allow(dead_code)]
    cluster: Cluster,
}

impl Member {
    #[must_use]
    pub fn new(cluster: Cluster, config: GroupConfig) -> Self {
        let _ = config;
        Self { cluster }
    }

    /// Joins (or joins again) and syncs; ends when this member has its assignment.
    ///
    /// # Errors
    /// `Fatal` where the group speaks another protocol or has other assignors, `Lost` where a
    /// static member was fenced; the rest may be tried again.
    pub async fn join(&mut self) -> Result<Assignment, KafkaError> {
        todo!()
    }

    /// # Errors
    /// `Lost` where the member is no longer one.
    pub async fn heartbeat(&self) -> Result<Beat, KafkaError> {
        todo!()
    }

    /// Commits as the current generation; one result for each partition.
    pub async fn commit(
        &self,
        offsets: &[(PartitionId, Committed)],
    ) -> Vec<(PartitionId, Result<(), KafkaError>)> {
        let _ = offsets;
        todo!()
    }

    /// What the group has committed; partitions without a commit are absent.
    ///
    /// # Errors
    /// As the broker says.
    pub async fn committed(
        &self,
        partitions: &[PartitionId],
    ) -> Result<BTreeMap<PartitionId, Committed>, KafkaError> {
        let _ = partitions;
        todo!()
    }

    /// Leaves the group (best effort, bounded). A static member does not leave.
    pub async fn leave(&mut self) {
        todo!()
    }
}
