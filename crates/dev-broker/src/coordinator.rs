//! Groups and their committed offsets: drives the state machines of [`crate::group`] with
//! requests and a clock, hands out their answers, and keeps offsets in the directory.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Notify, oneshot};

use crate::{
    error_code as code,
    group::{Answer, Group, Join, Joined, Sync, Synced, Token, Who},
    store::{Store, StoredOffset},
};

/// Kafka's `offset.metadata.max.bytes`.
pub(crate) const METADATA_BYTES_MAX: usize = 4096;

pub(crate) struct Coordinator {
    groups: Mutex<BTreeMap<String, Entry>>,
    next_token: AtomicU64,
    /// A deadline may have come nearer.
    changed: Notify,
    initial_delay: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    pub offset: i64,
    pub epoch: i32,
    pub metadata: String,
}

/// A group, what it has committed, and who waits for an answer of it.
pub(crate) struct Entry {
    pub group: Group,
    pub offsets: BTreeMap<(String, i32), Committed>,
    joins: HashMap<Token, oneshot::Sender<Joined>>,
    syncs: HashMap<Token, oneshot::Sender<Synced>>,
}

impl Coordinator {
    pub(crate) fn open(store: Option<&Store>, initial_delay: Duration) -> io::Result<Self> {
        let mut groups: BTreeMap<String, Entry> = BTreeMap::new();
        for kept in store
            .map(Store::load_offsets)
            .transpose()?
            .unwrap_or_default()
        {
            let Some(offset) = kept.offset else { continue };
            let entry = groups.entry(kept.group);
            let entry = entry.or_insert_with(|| Entry::new(initial_delay));
            let committed = Committed {
                offset,
                epoch: kept.epoch,
                metadata: kept.metadata,
            };
            entry
                .offsets
                .insert((kept.topic, kept.partition), committed);
        }
        Ok(Self {
            groups: Mutex::new(groups),
            next_token: AtomicU64::new(1),
            changed: Notify::new(),
            initial_delay,
        })
    }

    /// Waits until the group answers; `join.token` is set here.
    pub(crate) async fn join(&self, group: &str, mut join: Join) -> Joined {
        let (answer, answered) = oneshot::channel();
        join.token = self.next_token.fetch_add(1, Ordering::Relaxed);
        {
            let mut groups = self.lock();
            if !groups.contains_key(group) && !join.member_id.is_empty() {
                return Joined {
                    error: code::UNKNOWN_MEMBER_ID,
                    generation: -1,
                    member_id: join.member_id,
                    ..Joined::default()
                };
            }
            let entry = groups.entry(group.to_owned());
            let entry = entry.or_insert_with(|| Entry::new(self.initial_delay));
            entry.joins.insert(join.token, answer);
            entry.step(|group, out| group.join(now(), join, out));
        }
        self.changed.notify_one();
        answered.await.unwrap_or_else(|_| Joined {
            error: code::COORDINATOR_NOT_AVAILABLE,
            generation: -1,
            ..Joined::default()
        })
    }

    /// Waits until the leader has assigned; `sync.token` is set here.
    pub(crate) async fn sync(&self, group: &str, who: Who<'_>, mut sync: Sync) -> Synced {
        let (answer, answered) = oneshot::channel();
        sync.token = self.next_token.fetch_add(1, Ordering::Relaxed);
        {
            let mut groups = self.lock();
            let Some(entry) = groups.get_mut(group) else {
                return Synced {
                    error: code::UNKNOWN_MEMBER_ID,
                    ..Synced::default()
                };
            };
            entry.syncs.insert(sync.token, answer);
            entry.step(|group, out| group.sync(now(), who, sync, out));
        }
        self.changed.notify_one();
        answered.await.unwrap_or_else(|_| Synced {
            error: code::COORDINATOR_NOT_AVAILABLE,
            ..Synced::default()
        })
    }

    pub(crate) fn heartbeat(&self, group: &str, who: Who<'_>) -> i16 {
        let mut groups = self.lock();
        let entry = groups.get_mut(group);
        entry.map_or(code::UNKNOWN_MEMBER_ID, |e| e.group.heartbeat(now(), who))
    }

    pub(crate) fn leave(&self, group: &str, member: &str, instance: Option<&str>) -> i16 {
        let mut groups = self.lock();
        let Some(entry) = groups.get_mut(group) else {
            return code::UNKNOWN_MEMBER_ID;
        };
        let error = entry.step(|group, out| group.leave(now(), member, instance, out));
        self.changed.notify_one();
        error
    }

    /// All or nothing: either this member may commit, or none of the offsets is kept.
    pub(crate) fn commit(
        &self,
        store: Option<&Store>,
        group: &str,
        who: Who<'_>,
        offsets: Vec<((String, i32), Committed)>,
    ) -> Result<(), i16> {
        let mut groups = self.lock();
        if !groups.contains_key(group) && who.generation >= 0 {
            return Err(code::ILLEGAL_GENERATION);
        }
        let entry = groups.entry(group.to_owned());
        let entry = entry.or_insert_with(|| Entry::new(self.initial_delay));
        match entry.group.may_commit(now(), who) {
            code::NONE => {}
            error => return Err(error),
        }
        let kept = offsets
            .iter()
            .map(|((topic, partition), committed)| StoredOffset {
                group: group.to_owned(),
                topic: topic.clone(),
                partition: *partition,
                offset: Some(committed.offset),
                epoch: committed.epoch,
                metadata: committed.metadata.clone(),
            });
        append(store, &kept.collect::<Vec<_>>())?;
        entry.offsets.extend(offsets);
        Ok(())
    }

    /// Looks at a group, or at its absence.
    pub(crate) fn with<T>(&self, group: &str, look: impl FnOnce(Option<&Entry>) -> T) -> T {
        look(self.lock().get(group))
    }

    /// Looks at all groups.
    pub(crate) fn each<T>(&self, look: impl FnMut((&String, &Entry)) -> T) -> Vec<T> {
        self.lock().iter().map(look).collect()
    }

    /// Forgets a group without members, with its offsets.
    pub(crate) fn delete(&self, store: Option<&Store>, group: &str) -> i16 {
        let mut groups = self.lock();
        match groups.get(group) {
            None => return code::GROUP_ID_NOT_FOUND,
            Some(entry) if !entry.group.is_empty() => return code::NON_EMPTY_GROUP,
            Some(entry) => {
                let gone = entry.offsets.keys().map(|key| removal(group, key));
                if let Err(error) = append(store, &gone.collect::<Vec<_>>()) {
                    return error;
                }
            }
        }
        groups.remove(group);
        code::NONE
    }

    /// A deleted topic takes the groups' offsets with it.
    pub(crate) fn forget_topic(&self, store: Option<&Store>, topic: &str) {
        let mut gone = Vec::new();
        for (group, entry) in self.lock().iter_mut() {
            entry.offsets.retain(|key, _| {
                let goes = key.0 == topic;
                if goes {
                    gone.push(removal(group, key));
                }
                !goes
            });
        }
        // the error is logged; the topic is gone either way
        let _ = append(store, &gone);
    }

    /// Until a timer is due, or may be.
    pub(crate) async fn timer_due(&self) {
        let changed = self.changed.notified();
        match self.next_deadline() {
            None => changed.await,
            Some(at) => {
                // due, or changed: the caller looks again either way
                let _ = tokio::time::timeout_at(at.into(), changed).await;
            }
        }
    }

    pub(crate) fn tick(&self) {
        let now = now();
        for entry in self.lock().values_mut() {
            entry.step(|group, out| group.tick(now, out));
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let entries = self.lock();
        entries
            .values()
            .filter_map(|e| e.group.next_deadline())
            .min()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn new(initial_delay: Duration) -> Self {
        Self {
            group: Group::new(initial_delay),
            offsets: BTreeMap::new(),
            joins: HashMap::new(),
            syncs: HashMap::new(),
        }
    }

    /// One step of the state machine; its answers go to those who wait.
    fn step<T>(&mut self, step: impl FnOnce(&mut Group, &mut Vec<Answer>) -> T) -> T {
        let mut out = Vec::new();
        let result = step(&mut self.group, &mut out);
        for answer in out {
            // a receiver that is gone belongs to a connection that is gone: the session timeout
            // deals with the member, as in a real broker
            match answer {
                Answer::Join(token, joined) => {
                    if let Some(waiting) = self.joins.remove(&token) {
                        let _ = waiting.send(joined);
                    }
                }
                Answer::Sync(token, synced) => {
                    if let Some(waiting) = self.syncs.remove(&token) {
                        let _ = waiting.send(synced);
                    }
                }
            }
        }
        result
    }
}

/// Tokio's clock, so that tests with paused time hold.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn removal(group: &str, key: &(String, i32)) -> StoredOffset {
    StoredOffset {
        group: group.to_owned(),
        topic: key.0.clone(),
        partition: key.1,
        offset: None,
        epoch: -1,
        metadata: String::new(),
    }
}

fn append(store: Option<&Store>, entries: &[StoredOffset]) -> Result<(), i16> {
    let Some(store) = store else { return Ok(()) };
    store.append_offsets(entries).map_err(|error| {
        tracing::error!(%error, "failed to keep committed offsets");
        code::KAFKA_STORAGE_ERROR
    })
}
