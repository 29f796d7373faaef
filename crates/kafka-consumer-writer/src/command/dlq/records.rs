//! Which messages are copies of one record, by batch and sequence in their partition: one of them
//! goes, and the others are done with it. Touches no disk.
//!
//! A replayed record has an id made from one message's offset. So that no copy ever goes under a
//! second id, the first that goes *leads*, durably: a later one goes under the leader's id and
//! *since*, or, once the leader has landed, not at all.

use std::collections::HashMap;

use pipeline_core::{BatchId, Offset};
use sha2::{Digest, Sha256};

use crate::dead_letters::{
    Place,
    marks::{Mark, Marks, RecordKey},
};

/// What becomes of a message that may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Goes(Lead),
    /// It is done with when another one has landed, or has already.
    Follows,
}

/// Under whose identity a message goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lead {
    pub offset: Offset,
    /// Of the first try, if there was one.
    pub since: Option<Offset>,
    /// To be marked as led by it before it goes.
    pub record: Option<RecordKey>,
}

impl Lead {
    /// All is durable that has to be before it goes.
    pub fn is_marked(&self) -> bool {
        self.since.is_some() && self.record.is_none()
    }
}

/// Of one replay.
#[derive(Debug, Default)]
pub struct Records {
    /// What leads in this run.
    leaders: HashMap<Place, HashMap<RecordKey, Offset>>,
    followers: Vec<(Place, Vec<Follower>)>,
}

#[derive(Clone, Copy, Debug)]
struct Follower {
    offset: Offset,
    leader: Offset,
}

impl Records {
    /// A message that may go; one without a batch is nobody's copy.
    pub fn role(
        &mut self,
        marks: &Marks,
        place: &Place,
        offset: Offset,
        record: Option<RecordKey>,
    ) -> Role {
        let own = Lead {
            offset,
            since: marks.of(place, offset).since,
            record,
        };
        let Some(record) = record else {
            return Role::Goes(own);
        };
        if !self.leaders.contains_key(place) {
            self.leaders.insert(place.clone(), HashMap::new());
        }
        let leaders = self.leaders.get_mut(place).expect("it is there");
        if let Some(leader) = leaders.get(&record) {
            let leader = *leader;
            self.follow(place, Follower { offset, leader });
            return Role::Follows;
        }
        let Some(leader) = marks.leader(place, record) else {
            leaders.insert(record, offset);
            return Role::Goes(own);
        };
        let of_leader = marks.of(place, leader);
        if of_leader.landed.is_some() {
            self.follow(place, Follower { offset, leader });
            return Role::Follows;
        }
        leaders.insert(record, leader);
        Role::Goes(Lead {
            offset: leader,
            since: of_leader.since,
            record: None,
        })
    }

    /// Whether a copy of it has landed: then nobody need ask whether this one passes the rules.
    pub fn has_landed(marks: &Marks, place: &Place, record: Option<RecordKey>) -> bool {
        let leader = record.and_then(|record| marks.leader(place, record));
        leader.is_some_and(|leader| marks.of(place, leader).landed.is_some())
    }

    pub fn followers(&self) -> u64 {
        self.followers
            .iter()
            .map(|(_, some)| some.len() as u64)
            .sum()
    }

    /// The marks of those whose leader has landed, by the marks as they are now.
    pub fn settled<'a>(
        &'a self,
        marks: &'a Marks,
    ) -> impl Iterator<Item = (&'a Place, Vec<(Offset, Mark)>)> {
        self.followers.iter().map(|(place, followers)| {
            let landed = |it: &Follower| {
                let landed = marks.of(place, it.leader).landed?;
                Some((it.offset, Mark::Done { landed }))
            };
            (place, followers.iter().filter_map(landed).collect())
        })
    }

    fn follow(&mut self, place: &Place, follower: Follower) {
        match self.followers.last_mut() {
            Some((last, followers)) if last == place => followers.push(follower),
            _ => self.followers.push((place.clone(), vec![follower])),
        }
    }
}

/// The batch id under which a record is replayed that this message leads: the first 16 bytes of SHA-256 over
/// `sluice replay 1`, the topic's id (its name where the broker gives none) with its length in
/// front (u64), partition (i32) and offset (i64); integers big-endian.
pub fn replay_id(place: &Place, offset: Offset) -> BatchId {
    let topic = if place.topic_id.is_empty() {
        &place.topic
    } else {
        &place.topic_id
    };
    let mut hash = Sha256::new();
    hash.update(b"sluice replay 1");
    hash.update((topic.len() as u64).to_be_bytes());
    hash.update(topic);
    hash.update(place.partition.0.to_be_bytes());
    hash.update(offset.0.to_be_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hash.finalize()[..16]);
    BatchId(id)
}

#[cfg(test)]
mod tests {
    use pipeline_core::PartitionId;

    use super::*;

    const RECORD: RecordKey = (BatchId([9; 16]), 5);

    fn place(partition: i32) -> Place {
        Place {
            topic: "logs".to_owned(),
            topic_id: "id".to_owned(),
            partition: PartitionId(partition),
        }
    }

    fn lead(role: Role) -> (i64, Option<i64>, bool) {
        match role {
            Role::Goes(lead) => (
                lead.offset.0,
                lead.since.map(|since| since.0),
                lead.record.is_some(),
            ),
            Role::Follows => panic!("it follows"),
        }
    }

    #[test]
    fn of_the_copies_of_a_record_one_goes_and_the_others_are_done_once_it_has_landed() {
        let mut marks = Marks::default();
        let mut records = Records::default();
        let mut role =
            |at: i64, place: &Place, record| records.role(&marks, place, Offset(at), record);
        assert_eq!(lead(role(6, &place(0), Some(RECORD))), (6, None, true));
        assert_eq!(role(7, &place(0), Some(RECORD)), Role::Follows);
        // Of another sequence, another partition, or without a batch.
        let other = (RECORD.0, 6);
        assert_eq!(lead(role(8, &place(0), Some(other))), (8, None, true));
        assert_eq!(lead(role(7, &place(1), Some(RECORD))), (7, None, true));
        assert_eq!(lead(role(9, &place(0), None)), (9, None, false));
        assert_eq!(lead(role(10, &place(0), None)), (10, None, false));

        let settled = |marks: &Marks| -> Vec<_> {
            let each = records.settled(marks).flat_map(|(_, marks)| marks);
            each.collect()
        };
        assert_eq!(settled(&marks), []);
        let landed = Offset(20);
        marks.add(&place(0), Offset(6), Mark::Done { landed });
        assert_eq!(settled(&marks), [(Offset(7), Mark::Done { landed })]);
    }

    #[test]
    fn a_copy_that_is_met_later_goes_under_the_id_of_the_first_or_not_at_all() {
        let mut marks = Marks::default();
        let since = Offset(9);
        marks.add(&place(0), Offset(6), Mark::Sent { since });
        marks.add(&place(0), Offset(6), Mark::Leads { record: RECORD });
        // A replay was cut off; this one meets the copy first.
        let mut records = Records::default();
        let role = records.role(&marks, &place(0), Offset(7), Some(RECORD));
        assert_eq!(lead(role), (6, Some(9), false));
        let role = records.role(&marks, &place(0), Offset(6), Some(RECORD));
        assert_eq!(role, Role::Follows);

        let landed = Offset(10);
        marks.add(&place(0), Offset(6), Mark::Done { landed });
        let mut records = Records::default();
        let role = records.role(&marks, &place(0), Offset(30), Some(RECORD));
        assert_eq!(role, Role::Follows);
        let settled: Vec<_> = records.settled(&marks).flat_map(|it| it.1).collect();
        assert_eq!(settled, [(Offset(30), Mark::Done { landed })]);
    }
}
