//! What of a file was not sent, why, and when it is worth another look. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    iter::Sum,
    ops::AddAssign,
    time::{Duration, Instant},
};

use pipeline_core::PartitionId;

use crate::{
    dlq::load::{Loaded, Pending},
    producer::view::TopicView,
};

/// Before what the broker has refused, or what is not ours, is looked at again.
const REFUSED_PAUSE: Duration = Duration::from_secs(300);
/// Before a disk that did not take a mark, or did not give what it holds, is asked again.
const DISK_PAUSE: Duration = Duration::from_secs(5);

/// Why an entry was not sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Cause {
    /// Its partition does not take anything now.
    Away,
    /// The disk did not take the mark without which nothing may be sent.
    Unmarked,
    /// The disk did not give it.
    Unread,
    /// The replay was told to stop before.
    Stopped,
    /// The broker refuses the data, or it is larger than the topic takes now.
    Refused,
    /// For another cluster or topic.
    Foreign,
    /// Damaged, or of another version.
    Unreadable,
}

impl Cause {
    /// Why something could not be read: what was written is wrong, or the disk failed.
    pub(super) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData => Self::Unreadable,
            _ => Self::Unread,
        }
    }

    /// Waiting may help.
    #[must_use]
    pub fn may_pass(self) -> bool {
        matches!(self, Self::Away | Self::Unmarked | Self::Unread)
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Away => "kafka does not take them now",
            Self::Unmarked => "the disk did not take the marks that must be there before a send",
            Self::Unread => "the disk did not give them",
            Self::Stopped => "stopped before",
            Self::Refused => "refused by kafka, or larger than the topic takes",
            Self::Foreign => "for another cluster or topic",
            Self::Unreadable => "cannot be read",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Count {
    pub entries: u64,
    pub records: u64,
}

impl Count {
    pub(super) fn of(pending: &Pending) -> Self {
        Self {
            entries: 1,
            records: pending.records.into(),
        }
    }

    pub(super) fn of_entries(entries: usize) -> Self {
        Self {
            entries: entries as u64,
            records: 0,
        }
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.entries += other.entries;
        self.records += other.records;
    }
}

impl Sum for Count {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        let mut sum = Self::default();
        counts.for_each(|count| sum += count);
        sum
    }
}

impl Loaded {
    pub(super) fn foreign(&self) -> Count {
        Count {
            entries: self.foreign_entries,
            records: self.foreign_records,
        }
    }

    pub(super) fn unknown(&self) -> Count {
        Count {
            entries: self.seen.unknown,
            records: 0,
        }
    }
}

/// What of one file was not sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Left {
    pub causes: BTreeMap<Cause, Count>,
    /// The partitions that do not take anything.
    pub away: BTreeSet<PartitionId>,
    pub until: Until,
}

/// How long a file is left alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Until {
    Time(Instant),
    /// Until one of the partitions takes something.
    Answer,
}

impl Default for Left {
    fn default() -> Self {
        Self {
            causes: BTreeMap::new(),
            away: BTreeSet::new(),
            until: Until::Answer,
        }
    }
}

impl Left {
    pub(super) fn add(&mut self, cause: Cause, count: Count) {
        if count != Count::default() {
            *self.causes.entry(cause).or_default() += count;
        }
    }

    /// Of so many as nobody knows.
    pub(super) fn note(&mut self, cause: Cause) {
        self.causes.entry(cause).or_default();
    }

    pub(super) fn add_away(&mut self, pending: &Pending) {
        self.away.insert(pending.partition);
        self.add(Cause::Away, Count::of(pending));
    }

    /// Nothing of it can go yet.
    pub(super) fn is_resting(&self, view: &TopicView, now: Instant) -> bool {
        match self.until {
            Until::Time(until) => until > now,
            Until::Answer => !self.away.iter().any(|id| view.would_admit(*id, now)),
        }
    }

    /// `None` where nothing was left.
    pub(super) fn rest(mut self, now: Instant) -> Option<Self> {
        let has = |cause| self.causes.contains_key(&cause);
        self.until = if has(Cause::Unmarked) || has(Cause::Unread) {
            Until::Time(now + DISK_PAUSE)
        } else if has(Cause::Stopped) {
            Until::Time(now)
        } else if !self.away.is_empty() {
            Until::Answer
        } else {
            Until::Time(now + REFUSED_PAUSE)
        };
        (!self.causes.is_empty()).then_some(self)
    }
}
