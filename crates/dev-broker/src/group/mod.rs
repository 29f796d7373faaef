//! One consumer group as a state machine: requests and time go in, answers come out. It has no
//! clock, no sockets and no randomness; [`crate::coordinator`] drives it. The rules are those of
//! the classic group protocol, static membership included
//! (<https://kafka.apache.org/protocol.html>, KIP-345, KIP-394, KIP-814).

mod rebalance;
#[cfg(test)]
mod tests;
mod types;

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::error_code as code;

pub(crate) use types::{Answer, Join, Joined, Sync, Synced, Token, Who};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Empty,
    /// Members are asked to join again, until all have or the deadline.
    Preparing {
        deadline: Instant,
        /// An empty group's first rebalance waits for more members until then.
        not_before: Instant,
    },
    /// The leader is asked for the assignment.
    Completing {
        deadline: Instant,
    },
    Stable,
}

#[derive(Debug)]
pub(crate) struct Group {
    state: State,
    generation: i32,
    protocol_type: Option<String>,
    protocol: Option<String>,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    /// Instance id to member id.
    instances: HashMap<String, String>,
    /// Ids that were given out and not used yet, and until when they are held.
    pending: HashMap<String, Instant>,
    initial_delay: Duration,
}

#[derive(Debug)]
pub(crate) struct Member {
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    session_timeout: Duration,
    rebalance_timeout: Duration,
    protocols: Vec<(String, Bytes)>,
    pub assignment: Bytes,
    join: Option<Token>,
    sync: Option<Token>,
    session_deadline: Instant,
}

impl Group {
    pub(crate) fn new(initial_delay: Duration) -> Self {
        Self {
            state: State::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            instances: HashMap::new(),
            pending: HashMap::new(),
            initial_delay,
        }
    }

    pub(crate) fn join(&mut self, now: Instant, join: Join, out: &mut Vec<Answer>) {
        let instance = join.instance_id.as_ref();
        let known = instance
            .and_then(|instance| self.instances.get(instance))
            .cloned();
        match (instance, known) {
            (Some(_), Some(old)) if join.member_id.is_empty() => {
                self.replace_static(now, &old, join, out);
            }
            (Some(_), Some(member)) if member != join.member_id => {
                out.push(join.refused(code::FENCED_INSTANCE_ID));
            }
            (Some(_), None) if !join.member_id.is_empty() => {
                out.push(join.refused(code::UNKNOWN_MEMBER_ID));
            }
            _ if !self.fits(&join) => out.push(join.refused(code::INCONSISTENT_GROUP_PROTOCOL)),
            (Some(_), None) => {
                let id = join.fresh_id.clone();
                self.add(now, id, join, out);
            }
            (None, _) if join.member_id.is_empty() && join.id_required => {
                let id = join.fresh_id.clone();
                let mut answer = join.error(code::MEMBER_ID_REQUIRED);
                answer.member_id.clone_from(&id);
                self.pending.insert(id, now + join.session_timeout);
                out.push(Answer::Join(join.token, answer));
            }
            (None, _) if join.member_id.is_empty() => {
                let id = join.fresh_id.clone();
                self.add(now, id, join, out);
            }
            _ if self.pending.remove(&join.member_id).is_some() => {
                let id = join.member_id.clone();
                self.add(now, id, join, out);
            }
            _ if !self.members.contains_key(&join.member_id) => {
                out.push(join.refused(code::UNKNOWN_MEMBER_ID));
            }
            _ => self.rejoin(now, join, out),
        }
    }

    pub(crate) fn sync(&mut self, now: Instant, who: Who<'_>, sync: Sync, out: &mut Vec<Answer>) {
        let refuse = |error| Answer::Sync(sync.token, Synced::error(error));
        if let Err(error) = self.check(who) {
            return out.push(refuse(error));
        }
        let differs = |asked: &Option<String>, is: &Option<String>| asked.is_some() && asked != is;
        if differs(&sync.protocol_type, &self.protocol_type)
            || differs(&sync.protocol, &self.protocol)
        {
            return out.push(refuse(code::INCONSISTENT_GROUP_PROTOCOL));
        }
        match self.state {
            State::Empty => out.push(refuse(code::UNKNOWN_MEMBER_ID)),
            State::Preparing { .. } => out.push(refuse(code::REBALANCE_IN_PROGRESS)),
            State::Stable => {
                self.touch(now, who.member_id);
                let assignment = self.members[who.member_id].assignment.clone();
                out.push(Answer::Sync(sync.token, self.synced(assignment)));
            }
            State::Completing { .. } => {
                let leads = self.leader.as_deref() == Some(who.member_id);
                if let Some(member) = self.members.get_mut(who.member_id)
                    && let Some(earlier) = member.sync.replace(sync.token)
                {
                    let error = Synced::error(code::REBALANCE_IN_PROGRESS);
                    out.push(Answer::Sync(earlier, error));
                }
                if leads {
                    self.assign(now, sync.assignments, out);
                }
            }
        }
    }

    pub(crate) fn heartbeat(&mut self, now: Instant, who: Who<'_>) -> i16 {
        if let Err(error) = self.check(who) {
            return error;
        }
        self.touch(now, who.member_id);
        match self.state {
            State::Empty => code::UNKNOWN_MEMBER_ID,
            State::Preparing { .. } => code::REBALANCE_IN_PROGRESS,
            State::Completing { .. } | State::Stable => code::NONE,
        }
    }

    pub(crate) fn leave(
        &mut self,
        now: Instant,
        member_id: &str,
        instance_id: Option<&str>,
        out: &mut Vec<Answer>,
    ) -> i16 {
        if self.pending.remove(member_id).is_some() {
            self.complete_if_all_joined(now, out);
            return code::NONE;
        }
        let id = match instance_id.map(|instance| self.instances.get(instance)) {
            Some(None) => return code::UNKNOWN_MEMBER_ID,
            // an admin removes a static member without knowing its id
            Some(Some(id)) if member_id.is_empty() || id == member_id => id.clone(),
            Some(Some(_)) => return code::FENCED_INSTANCE_ID,
            None => member_id.to_owned(),
        };
        if !self.members.contains_key(&id) {
            return code::UNKNOWN_MEMBER_ID;
        }
        self.remove(now, &id, out);
        code::NONE
    }

    /// Whether this member may commit offsets now. A commit counts as a sign of life.
    pub(crate) fn may_commit(&mut self, now: Instant, who: Who<'_>) -> i16 {
        if who.generation < 0 && who.member_id.is_empty() && self.state == State::Empty {
            // a tool, or a consumer that assigns its partitions itself
            return code::NONE;
        }
        if let Err(error) = self.check(who) {
            return error;
        }
        if let State::Completing { .. } = self.state {
            // a new generation that has no assignment yet owns nothing to commit
            return code::REBALANCE_IN_PROGRESS;
        }
        self.touch(now, who.member_id);
        code::NONE
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.pending.is_empty()
    }

    pub(crate) fn state_name(&self) -> &'static str {
        match self.state {
            State::Empty => "Empty",
            State::Preparing { .. } => "PreparingRebalance",
            State::Completing { .. } => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }

    pub(crate) fn generation(&self) -> i32 {
        self.generation
    }

    pub(crate) fn protocol_type(&self) -> &str {
        self.protocol_type.as_deref().unwrap_or_default()
    }

    pub(crate) fn protocol(&self) -> &str {
        self.protocol.as_deref().unwrap_or_default()
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = (&String, &Member)> {
        self.members.iter()
    }

    /// What the member told of itself for the protocol in force.
    pub(crate) fn metadata_of(&self, member: &Member) -> Bytes {
        member.metadata(self.protocol())
    }

    /// Known, not fenced, of this generation.
    fn check(&self, who: Who<'_>) -> Result<(), i16> {
        if let Some(instance) = who.instance_id {
            match self.instances.get(instance) {
                None => return Err(code::UNKNOWN_MEMBER_ID),
                Some(id) if id != who.member_id => return Err(code::FENCED_INSTANCE_ID),
                Some(_) => {}
            }
        }
        if !self.members.contains_key(who.member_id) {
            return Err(code::UNKNOWN_MEMBER_ID);
        }
        if who.generation != self.generation {
            return Err(code::ILLEGAL_GENERATION);
        }
        Ok(())
    }

    fn touch(&mut self, now: Instant, member_id: &str) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.session_deadline = now + member.session_timeout;
        }
    }

    /// Same type, and a protocol that all members have.
    fn fits(&self, join: &Join) -> bool {
        if join.protocols.is_empty() || join.protocol_type.is_empty() {
            return false;
        }
        if self.members.is_empty() {
            return true;
        }
        let all_have = |name: &str| self.members.values().all(|m| m.has(name));
        self.protocol_type.as_ref() == Some(&join.protocol_type)
            && join.protocols.iter().any(|(name, _)| all_have(name))
    }

    fn synced(&self, assignment: Bytes) -> Synced {
        Synced {
            error: code::NONE,
            protocol_type: self.protocol_type().to_owned(),
            protocol: self.protocol().to_owned(),
            assignment,
        }
    }
}

impl Member {
    fn new(now: Instant, join: &Join) -> Self {
        Self {
            instance_id: join.instance_id.clone(),
            client_id: join.client_id.clone(),
            client_host: join.client_host.clone(),
            session_timeout: join.session_timeout,
            rebalance_timeout: join.rebalance_timeout,
            protocols: join.protocols.clone(),
            assignment: Bytes::new(),
            join: None,
            sync: None,
            session_deadline: now + join.session_timeout,
        }
    }

    fn has(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| name == protocol);
        found
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }
}
