//! One member of one consumer group on one topic: join, heartbeat, commit, leave.
//!
//! The `consumer` protocol, eager: on a rebalance all is given up and joined anew. The leader's
//! assignment is computed here. Speaks the classic protocol (KIP-62, KIP-345, KIP-394), which
//! Kafka 3 and 4 and others know. The assignor has a name of its own: a consumer that is no writer
//! of ours shares no assignor with us, so the broker lets no such two into one group.

mod coordinator;
mod join;
mod offsets;
mod protocol;
mod range;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use kafka_protocol::{
    error::ResponseError,
    messages::{GroupId, HeartbeatRequest, LeaveGroupRequest, leave_group_request::MemberIdentity},
    protocol::StrBytes,
};
use pipeline_core::{Offset, PartitionId};

use crate::{
    Cluster, KafkaError,
    error::{Context, ErrorKind},
    net::{Call, Lane},
};
use coordinator::{Coordinator, Manner};

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
    /// Where someone else is in the group who may hold partitions and stores nothing: who, for
    /// people. Only the leader sees the others, but every member sees a group of the new protocol.
    pub strangers: Option<String>,
    /// Whether nobody else is in this generation. Whoever has no leader's part is not: another leads.
    pub alone: bool,
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

/// Not `Clone`: one owner joins. Heartbeats and commits go by `&self`, or by a [`Pulse`] from
/// another task.
pub struct Member {
    seat: Arc<Seat>,
}

/// A member's heartbeats and commits, for another task than the one that joins. Cheap to clone.
#[derive(Clone)]
pub struct Pulse {
    seat: Arc<Seat>,
}

impl Member {
    /// Does no I/O.
    #[must_use]
    pub fn new(cluster: Cluster, config: GroupConfig) -> Self {
        Self {
            seat: Arc::new(Seat {
                coordinator: Coordinator::new(cluster.clone(), config.group_id.clone()),
                cluster,
                config,
                place: Mutex::default(),
            }),
        }
    }

    /// Joins (or joins again) and syncs; ends when this member has its assignment. What it had
    /// before is given up by the call: commits of it are refused from here on.
    ///
    /// May be dropped and called again.
    ///
    /// # Errors
    /// `Fatal` where the group speaks another protocol or has other assignors, `Fenced` where
    /// another process has taken a static member's name; the rest may be tried again.
    pub async fn join(&mut self) -> Result<Assignment, KafkaError> {
        self.seat.join().await
    }

    #[must_use]
    pub fn pulse(&self) -> Pulse {
        Pulse {
            seat: Arc::clone(&self.seat),
        }
    }

    /// See [`Pulse::heartbeat`].
    ///
    /// # Errors
    /// `Lost` or `Fenced` where the member is no longer one.
    pub async fn heartbeat(&self) -> Result<Beat, KafkaError> {
        self.seat.heartbeat().await
    }

    /// See [`Pulse::commit`].
    pub async fn commit(
        &self,
        offsets: &[(PartitionId, Committed)],
    ) -> Vec<(PartitionId, Result<(), KafkaError>)> {
        self.seat.commit(offsets).await
    }

    /// What the group has committed; partitions without a commit are absent.
    ///
    /// # Errors
    /// As the broker says.
    pub async fn committed(
        &self,
        partitions: &[PartitionId],
    ) -> Result<BTreeMap<PartitionId, Committed>, KafkaError> {
        self.seat.committed(partitions).await
    }

    /// Leaves the group at the process's end (best effort, bounded). A static member does not:
    /// the group keeps its partitions for it until its session is over, so that a restart moves
    /// none.
    pub async fn leave(&mut self) {
        if self.seat.config.instance_id.is_some() {
            self.seat.place().give_up();
        } else {
            self.seat.leave().await;
        }
    }
}

impl Pulse {
    /// Follows the coordinator where it moves; ends within the session timeout.
    ///
    /// # Errors
    /// `Lost` or `Fenced` where the member is no longer one.
    pub async fn heartbeat(&self) -> Result<Beat, KafkaError> {
        self.seat.heartbeat().await
    }

    /// Commits as the current generation; one result for each partition. Follows the coordinator
    /// where it moves; ends within the request timeout. Partitions that are not this member's are
    /// refused as `Lost` without being sent: their new owner may have committed more.
    pub async fn commit(
        &self,
        offsets: &[(PartitionId, Committed)],
    ) -> Vec<(PartitionId, Result<(), KafkaError>)> {
        self.seat.commit(offsets).await
    }

    /// See [`Member::committed`].
    ///
    /// # Errors
    /// As the broker says.
    pub async fn committed(
        &self,
        partitions: &[PartitionId],
    ) -> Result<BTreeMap<PartitionId, Committed>, KafkaError> {
        self.seat.committed(partitions).await
    }

    /// Leaves the group at once, static or not (best effort, bounded): others shall have the
    /// partitions now. Heartbeats and commits say `Lost` from here on; a join makes it a member
    /// again.
    pub async fn give_way(&self) {
        self.seat.leave().await;
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Member").field(&self.seat.config).finish()
    }
}

impl fmt::Debug for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pulse").field(&self.seat.config).finish()
    }
}

/// What a member and its pulses share.
struct Seat {
    cluster: Cluster,
    coordinator: Coordinator,
    config: GroupConfig,
    place: Mutex<Place>,
}

/// Who this member is to the group at the moment.
#[derive(Clone, Default, Debug)]
struct Place {
    /// Empty before the coordinator gave one.
    member_id: String,
    /// `None`: not a member, or joining.
    generation: Option<i32>,
    partitions: Vec<PartitionId>,
    /// Of the leader: how many partitions it dealt out.
    dealt: Option<usize>,
}

impl Seat {
    async fn heartbeat(&self) -> Result<Beat, KafkaError> {
        let place = self.place().clone();
        let Some(generation) = place.generation else {
            return Err(self.not_a_member());
        };
        let session = self.config.session_timeout;
        let manner = Manner {
            lane: Lane::Group,
            context: Context::Group,
            // A coordinator that is silent for that long may be gone: another must hear of us
            // before the session is over.
            attempt: self.request_timeout().min(session / 3),
            deadline: Instant::now() + session,
        };
        let answer = self
            .coordinator
            .ask(
                manner,
                |_| {
                    HeartbeatRequest::default()
                        .with_group_id(self.group_id())
                        .with_generation_id(generation)
                        .with_member_id(text(&place.member_id))
                        .with_group_instance_id(self.instance_id())
                },
                |answer| [answer.error_code],
            )
            .await?;
        if answer.error_code == 0 {
            return Ok(if self.topic_has_grown(&place) {
                Beat::Rebalance
            } else {
                Beat::Stable
            });
        }
        let error = self.refused(HeartbeatRequest::NAME, answer.error_code);
        match error.kind {
            ErrorKind::Rejoin => Ok(Beat::Rebalance),
            _ => {
                self.note(&error, generation);
                Err(error)
            }
        }
    }

    async fn leave(&self) {
        let place = std::mem::take(&mut *self.place());
        if place.member_id.is_empty() {
            return;
        }
        let manner = Manner {
            lane: Lane::Group,
            context: Context::Group,
            attempt: self.request_timeout(),
            deadline: Instant::now() + self.request_timeout().min(LEAVE_MAX),
        };
        let left = self
            .coordinator
            .ask(
                manner,
                |version| {
                    let request = LeaveGroupRequest::default().with_group_id(self.group_id());
                    let member_id = text(&place.member_id);
                    if version < LEAVE_MANY_VERSION {
                        request.with_member_id(member_id)
                    } else {
                        let member = MemberIdentity::default()
                            .with_member_id(member_id)
                            .with_group_instance_id(self.instance_id());
                        request.with_members(vec![member])
                    }
                },
                |answer| [answer.error_code],
            )
            .await;
        if let Err(error) = left {
            // The session timeout will do it.
            tracing::debug!(group = self.config.group_id, %error, "failed to leave");
        }
    }

    /// Whether this member leads and has dealt out fewer partitions than there are now.
    fn topic_has_grown(&self, place: &Place) -> bool {
        let metadata = self.cluster.inner().metadata();
        let now = metadata.partition_count(&self.config.topic);
        place.dealt.zip(now).is_some_and(|(dealt, now)| now > dealt)
    }

    /// What the broker says about a call that it refused, for people too.
    fn refused(&self, call: &str, code: i16) -> KafkaError {
        let group = &self.config.group_id;
        let call = format!("{call} of group {group}");
        let detail = if code == ResponseError::InconsistentGroupProtocol.code() {
            Some(
                "its other members are no writers of Sluice (they have another protocol or \
                 assignor): writers need a kafka.groupID of their own",
            )
        } else if code == ResponseError::GroupIdNotFound.code() {
            Some("perhaps it is a group of the new consumer protocol (KIP-848)")
        } else if code == ResponseError::InvalidSessionTimeout.code() {
            Some("see group.min.session.timeout.ms and group.max.session.timeout.ms of the broker")
        } else if code == ResponseError::FencedInstanceId.code() {
            Some("another process has taken this member's group instance id")
        } else {
            None
        };
        KafkaError::answered(Context::Group, code, &call, detail)
    }

    /// Takes in that the member is none any more, if it still is of `generation`.
    fn note(&self, error: &KafkaError, generation: i32) {
        if !matches!(error.kind, ErrorKind::Lost | ErrorKind::Fenced) {
            return;
        }
        let mut place = self.place();
        if place.generation == Some(generation) {
            place.give_up();
            if error.code != Some(ResponseError::IllegalGeneration.code()) {
                place.member_id.clear();
            }
        }
    }

    fn not_a_member(&self) -> KafkaError {
        let what = format!(
            "not a member of group {} at the moment",
            self.config.group_id
        );
        KafkaError::new(ErrorKind::Lost, what)
    }

    fn request_timeout(&self) -> Duration {
        self.cluster.inner().config().request_timeout
    }

    fn group_id(&self) -> GroupId {
        GroupId(text(&self.config.group_id))
    }

    fn instance_id(&self) -> Option<StrBytes> {
        self.config.instance_id.as_deref().map(text)
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place
            .lock()
            .expect("nothing panics while it holds this lock")
    }
}

impl Place {
    /// Keeps only the name.
    fn give_up(&mut self) {
        self.generation = None;
        self.partitions.clear();
        self.dealt = None;
    }
}

/// Leaving is a courtesy: others go on when the session is over.
const LEAVE_MAX: Duration = Duration::from_secs(5);
/// From this version on several members may leave at once.
const LEAVE_MANY_VERSION: i16 = 3;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
