//! The rounds of a group: who must join again, when a generation begins, who is dropped by a
//! timer. Same rule as its parent: time is passed in.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{Answer, Group, Join, Joined, Member, State, Synced};
use crate::error_code as code;

impl Group {
    /// When [`Group::tick`] has something to do, unless a request comes first.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let members = self.members.values();
        let sessions = members
            .filter(|member| !member.waits())
            .map(|member| member.session_deadline);
        let round = match self.state {
            State::Preparing {
                deadline,
                not_before,
            } => Some(if self.all_joined() {
                not_before
            } else {
                deadline
            }),
            State::Completing { deadline } => Some(deadline),
            State::Empty | State::Stable => None,
        };
        let pending = self.pending.values().copied();
        sessions.chain(pending).chain(round).min()
    }

    /// Timers: sessions without a sign of life, ids never used, rounds that took too long.
    pub(crate) fn tick(&mut self, now: Instant, out: &mut Vec<Answer>) {
        self.pending.retain(|_, until| *until > now);
        let silent = |member: &Member| !member.waits() && member.session_deadline <= now;
        for id in self.ids_where(silent) {
            self.remove(now, &id, out);
        }
        match self.state {
            State::Preparing { deadline, .. } if deadline <= now => self.complete(now, out),
            State::Preparing { .. } => self.complete_if_all_joined(now, out),
            State::Completing { deadline } if deadline <= now => {
                for id in self.ids_where(|member| member.sync.is_none()) {
                    self.remove(now, &id, out);
                }
            }
            State::Completing { .. } | State::Empty | State::Stable => {}
        }
    }

    pub(super) fn add(&mut self, now: Instant, id: String, join: Join, out: &mut Vec<Answer>) {
        let mut member = Member::new(now, &join);
        member.join = Some(join.token);
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type);
        }
        if let Some(instance) = join.instance_id {
            self.instances.insert(instance, id.clone());
        }
        self.leader.get_or_insert_with(|| id.clone());
        self.members.insert(id, member);
        if let State::Preparing {
            deadline,
            not_before,
        } = self.state
        {
            // whoever comes while the first round waits makes it wait anew, within its deadline
            let not_before = if not_before > now {
                deadline.min(now + self.initial_delay)
            } else {
                not_before
            };
            self.state = State::Preparing {
                deadline,
                not_before,
            };
            self.complete_if_all_joined(now, out);
        } else {
            self.prepare(now, out);
        }
    }

    /// A known member joins: the round it was asked for, or one that it asks for.
    pub(super) fn rejoin(&mut self, now: Instant, join: Join, out: &mut Vec<Answer>) {
        let id = join.member_id.clone();
        let leads = self.leader.as_ref() == Some(&id);
        let member = &self.members[&id];
        let same = member.protocols == join.protocols;
        let answer_at_once = match self.state {
            State::Completing { .. } => same,
            State::Stable => same && !leads,
            State::Preparing { .. } | State::Empty => false,
        };
        if answer_at_once {
            // it has not seen the last answer, most likely
            let answer = self.joined(&id, leads);
            self.touch(now, &id);
            return out.push(Answer::Join(join.token, answer));
        }
        self.update(now, &id, &join, out);
        match self.state {
            State::Preparing { .. } => self.complete_if_all_joined(now, out),
            _ => self.prepare(now, out),
        }
    }

    /// A static member is back under a new id; the old one is fenced from now on.
    pub(super) fn replace_static(
        &mut self,
        now: Instant,
        old: &str,
        join: Join,
        out: &mut Vec<Answer>,
    ) {
        if !self.fits(&join) {
            return out.push(join.refused(code::INCONSISTENT_GROUP_PROTOCOL));
        }
        let Some(mut member) = self.members.remove(old) else {
            return out.push(join.refused(code::UNKNOWN_MEMBER_ID));
        };
        if let Some(token) = member.join.take() {
            let mut fenced = join.error(code::FENCED_INSTANCE_ID);
            fenced.member_id = old.to_owned();
            out.push(Answer::Join(token, fenced));
        }
        if let Some(token) = member.sync.take() {
            out.push(Answer::Sync(token, Synced::error(code::FENCED_INSTANCE_ID)));
        }
        let id = join.fresh_id.clone();
        let led = self.leader.as_deref() == Some(old);
        if led {
            self.leader = Some(id.clone());
        }
        if let Some(instance) = &join.instance_id {
            self.instances.insert(instance.clone(), id.clone());
        }
        self.members.insert(id.clone(), member);
        self.update(now, &id, &join, out);
        match self.state {
            State::Preparing { .. } => self.complete_if_all_joined(now, out),
            State::Stable if self.protocol == self.elect_protocol() => {
                // nothing that the assignment depends on has changed: no rebalance
                if let Some(member) = self.members.get_mut(&id) {
                    member.join = None;
                }
                let mut answer = self.joined(&id, led && join.can_skip_assignment);
                answer.skip_assignment = led && join.can_skip_assignment;
                if led && !join.can_skip_assignment {
                    // told that another one leads, so that it does not assign
                    answer.leader = old.to_owned();
                }
                out.push(Answer::Join(join.token, answer));
            }
            _ => self.prepare(now, out),
        }
    }

    pub(super) fn remove(&mut self, now: Instant, id: &str, out: &mut Vec<Answer>) {
        let Some(member) = self.members.remove(id) else {
            return;
        };
        if let Some(instance) = &member.instance_id {
            self.instances.remove(instance);
        }
        if let Some(token) = member.join {
            let answer = Joined {
                error: code::UNKNOWN_MEMBER_ID,
                generation: -1,
                member_id: id.to_owned(),
                ..Joined::default()
            };
            out.push(Answer::Join(token, answer));
        }
        if let Some(token) = member.sync {
            out.push(Answer::Sync(token, Synced::error(code::UNKNOWN_MEMBER_ID)));
        }
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
        match self.state {
            State::Preparing { .. } => self.complete_if_all_joined(now, out),
            State::Completing { .. } | State::Stable => self.prepare(now, out),
            State::Empty => {}
        }
    }

    /// The leader's word: everybody gets its part, and the generation works.
    pub(super) fn assign(
        &mut self,
        now: Instant,
        mut assignments: HashMap<String, Bytes>,
        out: &mut Vec<Answer>,
    ) {
        self.state = State::Stable;
        let mut waiting = Vec::new();
        for (id, member) in &mut self.members {
            member.assignment = assignments.remove(id).unwrap_or_default();
            if let Some(token) = member.sync.take() {
                member.session_deadline = now + member.session_timeout;
                waiting.push((token, member.assignment.clone()));
            }
        }
        for (token, assignment) in waiting {
            out.push(Answer::Sync(token, self.synced(assignment)));
        }
    }

    pub(super) fn complete_if_all_joined(&mut self, now: Instant, out: &mut Vec<Answer>) {
        if let State::Preparing { not_before, .. } = self.state
            && self.all_joined()
            && not_before <= now
        {
            self.complete(now, out);
        }
    }

    /// Asks everybody to join again.
    fn prepare(&mut self, now: Instant, out: &mut Vec<Answer>) {
        for member in self.members.values_mut() {
            if let Some(token) = member.sync.take() {
                member.session_deadline = now + member.session_timeout;
                let again = Synced::error(code::REBALANCE_IN_PROGRESS);
                out.push(Answer::Sync(token, again));
            }
        }
        let first = self.state == State::Empty;
        let deadline = now + self.rebalance_timeout();
        self.state = State::Preparing {
            deadline,
            not_before: match first {
                true => deadline.min(now + self.initial_delay),
                false => now,
            },
        };
        self.complete_if_all_joined(now, out);
    }

    /// The next generation begins with those who have joined; static members who have not are
    /// kept until their session ends.
    fn complete(&mut self, now: Instant, out: &mut Vec<Answer>) {
        let absent = self.ids_where(|m| m.join.is_none() && m.instance_id.is_none());
        for id in absent {
            self.members.remove(&id);
        }
        let joined = |id: &String| self.members.get(id).is_some_and(|m| m.join.is_some());
        if !self.leader.as_ref().is_some_and(joined) {
            let next = self.members.iter().find(|(_, m)| m.join.is_some());
            let next = next.map(|(id, _)| id.clone());
            if next.is_none() && !self.members.is_empty() {
                // only static members, and none of them here: wait on
                self.state = State::Preparing {
                    deadline: now + self.rebalance_timeout(),
                    not_before: now,
                };
                return;
            }
            self.leader = next;
        }
        self.generation += 1;
        self.protocol = self.elect_protocol();
        if self.members.is_empty() {
            self.state = State::Empty;
            return;
        }
        self.state = State::Completing {
            deadline: now + self.rebalance_timeout(),
        };
        for id in self.ids_where(|member| member.join.is_some()) {
            let leads = self.leader.as_ref() == Some(&id);
            let answer = self.joined(&id, leads);
            self.touch(now, &id);
            let member = self.members.get_mut(&id);
            if let Some(token) = member.and_then(|member| member.join.take()) {
                out.push(Answer::Join(token, answer));
            }
        }
    }

    fn update(&mut self, now: Instant, id: &str, join: &Join, out: &mut Vec<Answer>) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        member.protocols.clone_from(&join.protocols);
        member.session_timeout = join.session_timeout;
        member.rebalance_timeout = join.rebalance_timeout;
        member.client_id.clone_from(&join.client_id);
        member.client_host.clone_from(&join.client_host);
        member.session_deadline = now + join.session_timeout;
        if let Some(earlier) = member.join.replace(join.token) {
            let mut answer = join.error(code::REBALANCE_IN_PROGRESS);
            answer.member_id = id.to_owned();
            out.push(Answer::Join(earlier, answer));
        }
    }

    fn joined(&self, id: &str, with_members: bool) -> Joined {
        let protocol = self.protocol();
        let all = self.members.iter();
        let members = all.map(|(id, m)| (id.clone(), m.instance_id.clone(), m.metadata(protocol)));
        Joined {
            error: code::NONE,
            generation: self.generation,
            protocol_type: self.protocol_type().to_owned(),
            protocol: protocol.to_owned(),
            leader: self.leader.clone().unwrap_or_default(),
            member_id: id.to_owned(),
            skip_assignment: false,
            members: if with_members {
                members.collect()
            } else {
                Vec::new()
            },
        }
    }

    /// Each member votes for the first of its protocols that all have.
    fn elect_protocol(&self) -> Option<String> {
        let all_have = |name: &str| self.members.values().all(|m| m.has(name));
        let mut votes: HashMap<&str, usize> = HashMap::new();
        let mut best: Option<&str> = None;
        for member in self.members.values() {
            let choice = member.protocols.iter().find(|(name, _)| all_have(name));
            let Some((name, _)) = choice else { continue };
            *votes.entry(name).or_default() += 1;
            if best.is_none_or(|best| votes[name.as_str()] > votes[best]) {
                best = Some(name);
            }
        }
        best.map(str::to_owned)
    }

    fn all_joined(&self) -> bool {
        self.pending.is_empty() && self.members.values().all(|member| member.join.is_some())
    }

    fn rebalance_timeout(&self) -> Duration {
        let members = self.members.values();
        members
            .map(|m| m.rebalance_timeout)
            .max()
            .unwrap_or_default()
    }

    fn ids_where(&self, fits: impl Fn(&Member) -> bool) -> Vec<String> {
        let fitting = self.members.iter().filter(|(_, member)| fits(member));
        fitting.map(|(id, _)| id.clone()).collect()
    }
}

impl Member {
    /// Waits for the others; its client cannot show life meanwhile.
    fn waits(&self) -> bool {
        self.join.is_some() || self.sync.is_some()
    }
}
