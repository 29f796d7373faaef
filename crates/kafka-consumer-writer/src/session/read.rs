//! What a session asks of the log: one fetch at a time for all its partitions.

use std::time::{Duration, Instant};

use kafka_link::{FetchFrom, FetchOptions, TopicId};

use super::Session;
use crate::steps;

/// A long poll with nothing to read, and one on a stream that flows: a little patience there
/// makes few large answers of many small ones.
const IDLE_WAIT: Duration = Duration::from_millis(500);
const FLOW_WAIT: Duration = Duration::from_millis(20);
pub(super) const FLOW_BYTES: u32 = 64 << 10;
/// How soon a full budget is looked at again.
const ROOM_WAIT: Duration = Duration::from_millis(20);
/// Bounds of a partition's part of one fetch.
const PARTITION_FETCH_BYTES_MIN: u64 = 128 << 10;
const PARTITION_FETCH_BYTES_MAX: u64 = 1 << 20;
/// Between looks at what tasks beside the session have found.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Session {
    pub(super) fn pump_fetch(&mut self, now: Instant) {
        if self.fetching || self.ending.is_some() {
            return;
        }
        let share = self.shared.share();
        let mut asked = Vec::new();
        let mut full = false;
        for (partition, slot) in &self.slots {
            if slot.asking_bounds || slot.fetch_not_before.is_some_and(|at| now < at) {
                continue;
            }
            match slot.core.fetch_from(share) {
                Some(offset) => asked.push(FetchFrom {
                    topic_id: TopicId::parse(&slot.held.place.topic_id),
                    partition: *partition,
                    offset,
                }),
                None => full |= slot.core.is_running(),
            }
        }
        if asked.is_empty() {
            return;
        }
        let Some(reserved) = self.shared.room_for_fetch() else {
            // A save of this member wakes it, one of another member does not.
            self.room_at = Some(now + ROOM_WAIT);
            return;
        };
        let bytes_max = u32::try_from(reserved.bytes()).unwrap_or(u32::MAX);
        // Where a partition waits for room, the poll is short, so that it is soon asked again.
        let patient = self.flowing || full;
        let options = FetchOptions {
            wait_max: if patient { FLOW_WAIT } else { IDLE_WAIT },
            bytes_min: if self.flowing {
                FLOW_BYTES.min(bytes_max)
            } else {
                1
            },
            bytes_max,
            partition_bytes_max: u32::try_from(
                share.clamp(PARTITION_FETCH_BYTES_MIN, PARTITION_FETCH_BYTES_MAX),
            )
            .unwrap_or(u32::MAX),
        };
        self.fetching = true;
        let (cluster, shared) = (self.cluster.clone(), self.shared.clone());
        let fetch = steps::fetch(
            cluster,
            shared,
            asked,
            options,
            reserved,
            self.events.clone(),
        );
        self.tasks.spawn(fetch);
    }

    /// What was read of these partitions' chains for a snapshot did not hold together, or a segment
    /// was found damaged: until a load has judged it, as it may be that nothing runs just now.
    pub(super) fn judge_doubtful(&mut self, now: Instant) {
        self.look_at = now + LOOK_EVERY;
        if self.ending.is_some() {
            return;
        }
        let mut backlog = self.shared.snapshots.lock();
        let mut doubtful = backlog.take_doubtful(|partition| self.slots.contains_key(partition));
        drop(backlog);
        doubtful.extend(self.shared.scrub.lock().all_doubted());
        for partition in doubtful {
            if let Some(slot) = self.slots.get_mut(&partition)
                && slot.core.is_running()
            {
                tracing::error!(topic = self.shared.topic, %partition, "reading no more; the chain is looked at anew");
                slot.core.reload(now);
            }
        }
    }

    /// How long what was read, and is not in the chains, has been in the logs.
    pub(super) fn tell_ages(&self) {
        for (partition, slot) in &self.slots {
            let books = &self.shared.books;
            books.oldest_read(*partition, self.holder, slot.core.oldest_ms());
        }
    }
}
