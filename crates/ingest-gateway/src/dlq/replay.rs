//! Sends what is in the dead letter queue once Kafka takes it: oldest first, gently.
//!
//! An entry that was never sent gets its partition and a fresh *since* now, and a durable mark
//! that says so before the first attempt; one that may have been sent keeps both. Entries for
//! another cluster or topic are left alone. What the broker refuses for good waits long between
//! attempts and holds nothing else up. The running gateway and `dlq replay` both do it here.

mod left;
mod pace;
mod parted;
mod size;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use self::{left::Until, parted::parted, size::split};
pub use self::{
    left::{Cause, Count, Left},
    pace::Pace,
};
use super::{
    Dlq, DoneMark, Head, Reason, SentMark, entries,
    filter::Filter,
    load::{Choice, Loaded, Pending, load, load_entry, visit},
};
use crate::{
    batch::{Batch, memory_of},
    budget::Share,
    decode::RecordBatch,
    producer::{
        link::ViewReceiver,
        send::{Sender, Settled},
        settle::now_ms,
        view::{TopicView, line_bytes_max},
    },
    queue::Queue,
    telemetry,
};

/// Between two looks while there is something to replay.
const INTERVAL: Duration = Duration::from_millis(500);

pub struct Replayer {
    dlq: Dlq,
    sender: Sender,
    view: ViewReceiver,
    pace: Pace,
    wanted: Arc<Filter>,
    /// Nothing is begun any more; what is on its way goes on.
    stop: CancellationToken,
    /// Files of which something was left.
    left: HashMap<u64, Left>,
    /// Files that were read whole, and what is wrong with them said.
    checked: HashSet<u64>,
    /// Foreign entries are said once a file.
    said_foreign: HashSet<u64>,
    tally: Arc<Tally>,
}

/// What was replayed so far.
#[derive(Debug, Default)]
pub struct Tally {
    entries: AtomicU64,
    records: AtomicU64,
}

impl Tally {
    #[must_use]
    pub fn count(&self) -> Count {
        Count {
            entries: self.entries.load(Ordering::Relaxed),
            records: self.records.load(Ordering::Relaxed),
        }
    }
}

/// One chunk on its way: places are those in `pending`.
#[derive(Default)]
struct Chunk {
    pending: Vec<Pending>,
    batches: Vec<Batch>,
    marks: Vec<SentMark>,
    heads: Vec<Head>,
    /// Records that are larger than the topic takes now, by the place of their entry.
    too_large: HashMap<usize, RecordBatch>,
}

impl Replayer {
    /// Replays every entry for its cluster and topic, beside live traffic.
    #[must_use]
    pub fn new(dlq: Dlq, sender: Sender, view: ViewReceiver, queue: Arc<Queue>) -> Self {
        let wanted = Filter::default();
        let stop = CancellationToken::new();
        Self::of(dlq, sender, view, Pace::BesideLive(queue), wanted, stop)
    }

    /// Replays what is wanted.
    #[must_use]
    pub fn of(
        dlq: Dlq,
        sender: Sender,
        view: ViewReceiver,
        pace: Pace,
        wanted: Filter,
        stop: CancellationToken,
    ) -> Self {
        Self {
            dlq,
            // What fails stays where it is, and is tried again later.
            sender: Sender {
                retries_max: 0,
                ..sender
            },
            view,
            pace,
            wanted: Arc::new(wanted),
            stop,
            left: HashMap::new(),
            checked: HashSet::new(),
            said_foreign: HashSet::new(),
            tally: Arc::default(),
        }
    }

    /// Replays until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.something_to_do() => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                _ = self.round() => {}
            }
        }
    }

    async fn something_to_do(&mut self) {
        while self.dlq.totals().entries == 0 {
            self.dlq.changed().await;
        }
        tokio::time::sleep(INTERVAL).await;
    }

    #[must_use]
    pub fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.tally)
    }

    /// What was left of the files that were looked at.
    #[must_use]
    pub fn left(&self) -> BTreeMap<Cause, Count> {
        let mut all = BTreeMap::new();
        for left in self.left.values() {
            for (cause, count) in &left.causes {
                *all.entry(*cause).or_default() += *count;
            }
        }
        all
    }

    /// Each file that is there now, oldest first. Whether it came to the last one.
    pub async fn round(&mut self) -> bool {
        let Some(view) = self.usable_view() else {
            self.check_one().await;
            return false;
        };
        let now = Instant::now();
        let resting = |left: &Left| match left.until {
            Until::Time(until) => until > now,
            Until::Answer => !left.away.iter().any(|id| view.would_admit(*id, now)),
        };
        let stuck: HashSet<_> = self
            .left
            .iter()
            .filter(|(_, left)| resting(left))
            .map(|(number, _)| *number)
            .collect();
        for number in self.dlq.sealed(stuck).await {
            if self.stop.is_cancelled() || self.usable_view().is_none() {
                return false;
            }
            let mut left = Left::default();
            match self.load(number, &view).await {
                Ok(loaded) => {
                    left.add(Cause::Foreign, loaded.foreign());
                    left.add(Cause::Unreadable, loaded.unknown());
                    self.replay(number, &view, &loaded, &mut left).await;
                }
                Err(cause) => left.note(cause),
            }
            match left.rest(Instant::now()) {
                Some(left) => _ = self.left.insert(number, left),
                None => _ = self.left.remove(&number),
            }
        }
        !self.stop.is_cancelled()
    }

    /// While nothing can be sent: damage is said as long as somebody can still act on it.
    async fn check_one(&mut self) {
        let ended = self.dlq.ended().await;
        let unchecked = |number: &u64| !self.checked.contains(number);
        let Some(number) = ended.into_iter().find(unchecked) else {
            return;
        };
        self.checked.insert(number);
        let dir = self.dlq.dir();
        let read = spawn_blocking(move || visit(&dir, number, &mut |_| {})).await;
        if let Ok(Ok((seen, _))) = read {
            self.dlq.correct(number, seen);
        }
    }

    /// Nothing is read from the disk before some partition may be sent to.
    fn usable_view(&self) -> Option<Arc<TopicView>> {
        let view = self.view.borrow().clone()?;
        let now = Instant::now();
        let open = view.partition_ids().any(|id| view.would_admit(id, now));
        (view.unfit.is_none() && open).then_some(view)
    }

    async fn load(&mut self, number: u64, view: &TopicView) -> Result<Loaded, Cause> {
        self.checked.insert(number);
        let dir = self.dlq.dir();
        let cluster = Arc::clone(&view.cluster_id);
        let topic = Arc::clone(&self.sender.topic);
        let wanted = Arc::clone(&self.wanted);
        let choose = move |head: &Head, payload: &[u8]| {
            if !wanted.wants(head, payload) {
                Choice::Leave
            } else if is_for(head, &cluster, &topic) {
                Choice::Send
            } else {
                Choice::Foreign
            }
        };
        let read = spawn_blocking(move || load(&dir, number, &choose)).await;
        let read = read.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        let loaded = match read {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::error!(
                    file = number,
                    "failed to read the dead letter queue: {error}"
                );
                return Err(Cause::of(&error));
            }
        };
        self.dlq.correct(number, loaded.seen.clone());
        if loaded.foreign_entries > 0 && self.said_foreign.insert(number) {
            tracing::warn!(
                file = number,
                entries = loaded.foreign_entries,
                cluster = %view.cluster_id,
                topic = %self.sender.topic,
                "entries of the dead letter queue are for another cluster or topic, they stay"
            );
        }
        Ok(loaded)
    }

    async fn replay(&self, number: u64, view: &TopicView, loaded: &Loaded, left: &mut Left) {
        let mut rest = loaded.pending.as_slice();
        while !rest.is_empty() && !self.stop.is_cancelled() {
            let (chunk, after) = rest.split_at(self.chunk(rest));
            rest = after;
            let pace = self.pace.begin();
            let before = self.tally.count().records;
            self.replay_chunk(number, view, chunk, left).await;
            let pause = self.pace.pause(pace, self.tally.count().records - before);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => {}
            }
        }
        let count = |pending: &[Pending]| pending.iter().map(Count::of).sum();
        left.add(Cause::Stopped, count(rest));
    }

    /// How many of `pending` go together: about one record batch.
    fn chunk(&self, pending: &[Pending]) -> usize {
        let (mut bytes, mut records) = (0, 0);
        let records_max = self.pace.records_max().min(self.sender.batch_records_max);
        let fits = |entry: &&Pending| {
            bytes += entry.bytes;
            records += entry.records as usize;
            bytes <= self.sender.batch_bytes_max && records <= records_max
        };
        pending.iter().take_while(fits).count().max(1)
    }

    async fn replay_chunk(
        &self,
        number: u64,
        view: &TopicView,
        chunk: &[Pending],
        left: &mut Left,
    ) {
        let mut chunk = self.prepare(number, view, chunk, left).await;
        if !chunk.marks.is_empty()
            && let Err(error) = self.dlq.mark_sent(number, chunk.marks).await
        {
            tracing::warn!(
                file = number,
                "failed to mark entries of the dead letter queue, they are not sent yet: {error}"
            );
            left.add(Cause::Unmarked, chunk.pending.iter().map(Count::of).sum());
            return;
        }
        let pending = &chunk.pending;
        let (mut sent, mut to_part) = (Vec::new(), Vec::new());
        let mut settle = |place: usize, batch: Batch, settled| match settled {
            Settled::Acknowledged => sent.push((place, batch)),
            Settled::Left(Reason::TooLarge) if batch.len() > 1 => to_part.push((place, batch)),
            Settled::Left(Reason::Poison | Reason::TooLarge) => {
                left.add(Cause::Refused, Count::of(&pending[place]));
            }
            Settled::Left(_) => left.add_away(batch.progress.partition, &pending[place]),
        };
        self.sender.send(view, chunk.batches, &mut settle).await;
        let mut done = Vec::new();
        for (place, batch) in sent {
            let pending = &chunk.pending[place];
            if let Some(records) = chunk.too_large.remove(&place)
                && let Err(why) = self.keep_apart(&chunk.heads[place], records, &batch).await
            {
                tracing::warn!(file = number, "failed to keep records apart: {why}");
                left.add(Cause::Refused, Count::of(pending));
                continue;
            }
            done.push(self.count_done(pending, batch.len()));
        }
        for (place, batch) in to_part {
            let pending = &chunk.pending[place];
            let mut parts = parted(&chunk.heads[place], &batch, now_ms());
            if let Some(records) = chunk.too_large.remove(&place) {
                let head = parts[0].head.clone();
                parts.extend(entries(&head, &Arc::new(records), 0));
            }
            match self.dlq.store(parts).await {
                Ok(()) => done.push(self.count_done(pending, batch.progress.acknowledged)),
                Err(why) => {
                    tracing::warn!(file = number, "failed to keep records apart: {why}");
                    left.add(Cause::Refused, Count::of(pending));
                }
            }
        }
        if done.is_empty() {
            return;
        }
        tracing::info!(
            file = number,
            entries = done.len(),
            "replayed entries of the dead letter queue"
        );
        if let Err(error) = self.dlq.mark_done(number, done).await {
            tracing::warn!(
                file = number,
                "failed to mark entries of the dead letter queue as done, they will be sent \
                 once more: {error}"
            );
            left.note(Cause::Unmarked);
        }
    }

    /// So many of its records are in Kafka, and it has no others any more.
    fn count_done(&self, pending: &Pending, records: usize) -> DoneMark {
        let records = records as u64;
        self.tally.entries.fetch_add(1, Ordering::Relaxed);
        self.tally.records.fetch_add(records, Ordering::Relaxed);
        telemetry::dlq_replayed(records);
        DoneMark {
            position: pending.position,
            records: pending.records,
        }
    }

    /// Reads the entries, and decides which of them go now, where to, and with which since.
    async fn prepare(
        &self,
        number: u64,
        view: &TopicView,
        chunk: &[Pending],
        left: &mut Left,
    ) -> Chunk {
        let now = Instant::now();
        let mut wanted = Vec::with_capacity(chunk.len());
        for pending in chunk {
            match pending.partition() {
                // Not even read.
                Some(id) if !view.would_admit(id, now) => left.add_away(Some(id), pending),
                _ => wanted.push(*pending),
            }
        }
        let (entries, unread) = self.read(number, &wanted).await;
        for cause in unread {
            left.add(cause, Count::of_entries(1));
        }
        let line_max = line_bytes_max(view.message_bytes_max);
        let mut chunk = Chunk::default();
        for (pending, head, records) in entries {
            let mut progress = pending.progress;
            let partition = *progress
                .partition
                .get_or_insert_with(|| view.partition_of(head.batch));
            let known_end = view.end(partition);
            let fixed = progress.may_have_been_sent;
            if !view.would_admit(partition, now) || (known_end.is_none() && !fixed) {
                left.add_away(Some(partition), &pending);
                continue;
            }
            let (records, too_large) = match split(records, line_max) {
                // Nothing to keep apart: the broker has the last word.
                (fits, Some(too_large)) if fits.ends.is_empty() => (too_large, None),
                parts => parts,
            };
            if let Some(since) = known_end
                && !fixed
            {
                progress.since = Some(since);
                chunk.marks.push(SentMark {
                    position: pending.position,
                    partition,
                    since,
                });
            }
            chunk.batches.push(Batch {
                id: head.batch,
                received_ms: head.received_ms,
                deadline: now + self.time_for(wanted.iter().map(|pending| pending.bytes).sum()),
                memory: self.sender.memory.forced(memory_of(&records)),
                records: Arc::new(records),
                progress,
                answer: None,
                held: Share::default(),
            });
            if let Some(too_large) = too_large {
                let place = chunk.pending.len();
                chunk.too_large.insert(place, too_large);
            }
            chunk.pending.push(pending);
            chunk.heads.push(head);
        }
        chunk
    }

    /// What is too large gets an entry of its own, with its reason: its neighbours go.
    async fn keep_apart(
        &self,
        head: &Head,
        records: RecordBatch,
        sent: &Batch,
    ) -> Result<(), super::Refusal> {
        let head = Head {
            reason: Reason::TooLarge,
            // Its identity is in the topic.
            may_have_been_sent: true,
            partition: sent.progress.partition,
            since: sent.progress.since,
            stored_ms: now_ms(),
            ..head.clone()
        };
        let records = Arc::new(records);
        self.dlq.store(entries(&head, &records, 0)).await
    }

    /// Reads the entries; what cannot be read (any more) is said and left out.
    async fn read(
        &self,
        number: u64,
        chunk: &[Pending],
    ) -> (Vec<(Pending, Head, RecordBatch)>, Vec<Cause>) {
        let dir = self.dlq.dir();
        let chunk = chunk.to_vec();
        let read = spawn_blocking(move || {
            let (mut entries, mut unread) = (Vec::with_capacity(chunk.len()), Vec::new());
            for pending in chunk {
                match load_entry(&dir, number, pending.position) {
                    Ok((head, records)) => entries.push((pending, head, records)),
                    Err(error) => {
                        unread.push(Cause::of(&error));
                        tracing::error!(
                            file = number,
                            position = pending.position,
                            "failed to read an entry of the dead letter queue: {error}"
                        );
                    }
                }
            }
            (entries, unread)
        });
        read.await.unwrap_or_default()
    }

    fn time_for(&self, bytes: usize) -> Duration {
        time_for(
            bytes,
            self.sender.batch_bytes_max,
            self.sender.write_timeout,
        )
    }
}

/// Whether an entry is for this cluster and topic.
#[must_use]
pub fn is_for(head: &Head, cluster: &str, topic: &str) -> bool {
    let same_cluster = head.cluster_id.is_empty() || *head.cluster_id == *cluster;
    same_cluster && *head.topic == *topic
}

/// How long entries of `bytes` may take: a large one goes in many pieces, one after the other, and
/// what is given up half way begins anew.
fn time_for(bytes: usize, piece_bytes_max: usize, write_timeout: Duration) -> Duration {
    let pieces = u32::try_from(bytes / piece_bytes_max.max(1)).unwrap_or(u32::MAX);
    write_timeout.saturating_mul(pieces.saturating_add(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_entry_has_the_time_of_all_its_pieces() {
        let second = Duration::from_secs(1);
        assert_eq!(time_for(10, 1_000_000, second), 2 * second);
        assert_eq!(time_for(128_000_000, 1_000_000, second), 130 * second);
        assert_eq!(time_for(usize::MAX, 0, Duration::MAX), Duration::MAX);
    }
}
