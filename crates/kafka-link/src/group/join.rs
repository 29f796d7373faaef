//! Joining: the group is asked until this member has its assignment.
//!
//! JoinGroup waits until every member has come (or their time is over), then the leader deals out
//! the partitions, and SyncGroup hands everyone theirs. At each step the group may have moved on;
//! then it begins anew, within a deadline.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use kafka_protocol::{
    error::ResponseError,
    messages::{
        JoinGroupRequest, JoinGroupResponse, SyncGroupRequest,
        join_group_request::JoinGroupRequestProtocol,
        sync_group_request::SyncGroupRequestAssignment,
    },
};
use pipeline_core::PartitionId;

use super::{
    Assignment, Manner, Place, Seat,
    protocol::{
        ASSIGNOR, PROTOCOL_TYPE, decode_assignment, decode_subscription, encode_assignment,
        encode_subscription,
    },
    range::{self, Candidate},
    text,
};
use crate::{
    KafkaError,
    error::{Context, ErrorKind},
    net::{Call, Lane},
};

/// Before beginning anew.
const PAUSE: Duration = Duration::from_millis(50);
/// From this version on protocol type and name are sent along.
const NAMED_PROTOCOL_VERSION: i16 = 5;

/// A group of the classic protocol has a leader. The broker makes a group one of the new protocol,
/// and leads it itself, as soon as a member speaks that.
const NEW_PROTOCOL: &str = "a consumer with group.protocol=consumer (KIP-848) is in it";

/// How one round ended.
enum Round {
    Assigned(Assignment),
    /// The group moved on meanwhile.
    Anew(KafkaError),
}

impl Seat {
    pub(super) async fn join(&self) -> Result<Assignment, KafkaError> {
        self.place().give_up();
        // One whole rebalance may be wasted on a member that went away in its middle.
        let deadline = Instant::now() + 2 * self.config.rebalance_timeout + self.request_timeout();
        loop {
            match self.round(deadline).await? {
                Round::Assigned(assignment) => return Ok(assignment),
                Round::Anew(error) if Instant::now() + PAUSE >= deadline => {
                    return Err(error.within("the group did not settle in time"));
                }
                Round::Anew(error) => {
                    tracing::debug!(group = self.config.group_id, %error, "joins anew");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn round(&self, deadline: Instant) -> Result<Round, KafkaError> {
        let joined = match self.ask_to_join(deadline).await? {
            Ok(joined) => joined,
            Err(anew) => return Ok(Round::Anew(anew)),
        };
        let generation = joined.generation_id;
        let member_id = joined.member_id.as_str().to_owned();
        self.place().member_id.clone_from(&member_id);
        if let Some(name) = joined.protocol_name.as_deref()
            && name != ASSIGNOR
        {
            let what = format!(
                "group {} uses the assignor `{name}`, ours is `{ASSIGNOR}`",
                self.config.group_id
            );
            return Err(KafkaError::new(ErrorKind::Fatal, what));
        }
        let leads = joined.leader.as_str() == member_id;
        let alone = leads && joined.members.len() == 1;
        let mut strangers = joined.leader.is_empty().then(|| NEW_PROTOCOL.to_owned());
        let mut assignments = Vec::new();
        // A static leader that is back skips it: the assignment of before stands.
        if leads && !joined.skip_assignment {
            (assignments, strangers) = self.deal_out(joined, deadline).await?;
        }
        let answer = self
            .coordinator
            .ask(
                self.manner(deadline),
                |version| {
                    let request = SyncGroupRequest::default()
                        .with_group_id(self.group_id())
                        .with_generation_id(generation)
                        .with_member_id(text(&member_id))
                        .with_group_instance_id(self.instance_id())
                        .with_assignments(assignments.clone());
                    if version < NAMED_PROTOCOL_VERSION {
                        request
                    } else {
                        request
                            .with_protocol_type(Some(text(PROTOCOL_TYPE)))
                            .with_protocol_name(Some(text(ASSIGNOR)))
                    }
                },
                |answer| [answer.error_code],
            )
            .await?;
        if answer.error_code != 0 {
            let error = self.refused(SyncGroupRequest::NAME, answer.error_code);
            return self.anew(error).map(Round::Anew);
        }
        let given = decode_assignment(answer.assignment, &self.config.topic)?;
        let partitions: Vec<PartitionId> = given.partitions.into_iter().map(PartitionId).collect();
        *self.place() = Place {
            member_id,
            generation: Some(generation),
            partitions: partitions.clone(),
            dealt: given.dealt.filter(|_| leads),
        };
        Ok(Round::Assigned(Assignment {
            generation,
            partitions,
            strangers,
            alone,
        }))
    }

    /// JoinGroup, and once more where the coordinator only gives a name at first (KIP-394).
    async fn ask_to_join(
        &self,
        deadline: Instant,
    ) -> Result<Result<JoinGroupResponse, KafkaError>, KafkaError> {
        let subscription = encode_subscription(&self.config.topic)?;
        for _ in 0..2 {
            let member_id = self.place().member_id.clone();
            let answer = self
                .coordinator
                .ask(
                    self.manner(deadline),
                    |_| {
                        let protocol = JoinGroupRequestProtocol::default()
                            .with_name(text(ASSIGNOR))
                            .with_metadata(subscription.clone());
                        JoinGroupRequest::default()
                            .with_group_id(self.group_id())
                            .with_session_timeout_ms(millis(self.config.session_timeout))
                            .with_rebalance_timeout_ms(millis(self.config.rebalance_timeout))
                            .with_member_id(text(&member_id))
                            .with_group_instance_id(self.instance_id())
                            .with_protocol_type(text(PROTOCOL_TYPE))
                            .with_protocols(vec![protocol])
                    },
                    |answer| [answer.error_code],
                )
                .await?;
            match answer.error_code {
                0 => return Ok(Ok(answer)),
                code if code == ResponseError::MemberIdRequired.code() => {
                    self.place().member_id = answer.member_id.as_str().to_owned();
                }
                code => {
                    let error = self.refused(JoinGroupRequest::NAME, code);
                    return self.anew(error).map(Err);
                }
            }
        }
        let code = ResponseError::MemberIdRequired.code();
        Ok(Err(self.refused(JoinGroupRequest::NAME, code)))
    }

    /// Sorts out whether joining begins anew after `error`, and as whom.
    fn anew(&self, error: KafkaError) -> Result<KafkaError, KafkaError> {
        let code = error.code.unwrap_or(0);
        match error.kind {
            ErrorKind::Fenced => {
                self.place().member_id.clear();
                Err(error)
            }
            ErrorKind::Lost => {
                if code == ResponseError::UnknownMemberId.code() {
                    self.place().member_id.clear();
                }
                Ok(error)
            }
            ErrorKind::Rejoin => Ok(error),
            _ => Err(error),
        }
    }

    /// The leader's work: everyone's assignment, and who of them is not one of us.
    async fn deal_out(
        &self,
        joined: JoinGroupResponse,
        deadline: Instant,
    ) -> Result<(Vec<SyncGroupRequestAssignment>, Option<String>), KafkaError> {
        let mut candidates = Vec::with_capacity(joined.members.len());
        let mut strangers = Vec::new();
        for member in joined.members {
            let member_id = member.member_id.as_str().to_owned();
            // It gets nothing, rather than that nobody gets anything.
            let topics = decode_subscription(member.metadata).unwrap_or_else(|error| {
                strangers.push(format!("member {member_id}: {error}"));
                Vec::new()
            });
            candidates.push(Candidate {
                member_id,
                instance_id: member.group_instance_id.map(|id| id.as_str().to_owned()),
                topics,
            });
        }
        let topics: BTreeSet<&String> = candidates
            .iter()
            .flat_map(|candidate| &candidate.topics)
            .collect();
        let mut counts = BTreeMap::new();
        for topic in topics {
            // Asked anew: a rebalance may be due to the topic's growth.
            self.cluster.forget(topic);
            match Arc::clone(self.cluster.inner()).view(topic, deadline).await {
                Ok(view) => {
                    let count = view.info.partitions.len();
                    counts.insert(topic.clone(), i32::try_from(count).unwrap_or(i32::MAX));
                }
                Err(error) if *topic == self.config.topic => return Err(error),
                // Another member's topic: it gets nothing of it rather than we all wait.
                Err(error) => tracing::warn!(topic, %error, "a topic of the group is left out"),
            }
        }
        let dealt = counts.get(&self.config.topic).copied().unwrap_or(0);
        let shares = range::assign(&candidates, &counts);
        let mut assignments = Vec::with_capacity(shares.len());
        for (member_id, share) in &shares {
            assignments.push(
                SyncGroupRequestAssignment::default()
                    .with_member_id(text(member_id))
                    .with_assignment(encode_assignment(share, dealt)?),
            );
        }
        let strangers = (!strangers.is_empty()).then(|| strangers.join("; "));
        Ok((assignments, strangers))
    }

    fn manner(&self, deadline: Instant) -> Manner {
        Manner {
            lane: Lane::Join,
            context: Context::Group,
            // The broker answers when all members are there or the rebalance is over.
            attempt: self.config.rebalance_timeout + self.request_timeout(),
            deadline,
        }
    }
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
