//! Sends what is in the dead letter queue once Kafka takes it: oldest first, gently.
//!
//! An entry that was never sent gets its partition and a fresh *since* now, and a durable mark
//! that says so before the first attempt; one that may have been sent keeps both. Entries for
//! another cluster or topic are left alone. What the broker refuses for good waits long between
//! attempts and holds nothing else up. The running gateway and `dlq replay` both do it here.

mod chunk;
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

pub use self::{
    left::{Cause, Count, Left},
    pace::Pace,
};
use super::{
    Dlq, Head,
    filter::Filter,
    load::{Choice, Loaded, Pending, load, visit},
    names::DataFile,
};
use crate::{
    producer::{link::ViewReceiver, send::Sender, view::TopicView},
    queue::Queue,
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
        let stuck = self.left.iter();
        let stuck = stuck.filter(|(_, left)| left.is_resting(&view, now));
        let stuck = stuck.map(|(number, _)| *number).collect();
        for file in self.dlq.sealed(stuck).await {
            if self.stop.is_cancelled() || self.usable_view().is_none() {
                return false;
            }
            let number = file.number;
            // Of many files that wait for one partition the first has made its trial by now.
            if let Some(left) = self.left.get(&number)
                && left.is_resting(&view, Instant::now())
            {
                continue;
            }
            let mut left = Left::default();
            match self.load(file, &view).await {
                Ok(loaded) => {
                    left.add(Cause::Foreign, loaded.foreign());
                    left.add(Cause::Unreadable, loaded.unknown());
                    self.replay(number, &view, &loaded, &mut left).await;
                }
                Err(cause) => left.note(cause),
            }
            match left.rest(Instant::now()) {
                Some(left) => _ = self.left.insert(number, left),
                None => self.forget(number),
            }
        }
        !self.stop.is_cancelled()
    }

    /// A file of which nothing is left.
    fn forget(&mut self, number: u64) {
        self.left.remove(&number);
        self.checked.remove(&number);
        self.said_foreign.remove(&number);
    }

    /// While nothing can be sent: damage is said as long as somebody can still act on it.
    async fn check_one(&mut self) {
        let ended = self.dlq.ended().await;
        let unchecked = |file: &DataFile| !self.checked.contains(&file.number);
        let Some(file) = ended.into_iter().find(unchecked) else {
            return;
        };
        let number = file.number;
        self.checked.insert(number);
        let dir = self.dlq.dir();
        let read = spawn_blocking(move || visit(&dir, &file, &mut |_| {})).await;
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

    async fn load(&mut self, file: DataFile, view: &Arc<TopicView>) -> Result<Loaded, Cause> {
        let number = file.number;
        self.checked.insert(number);
        let dir = self.dlq.dir();
        let topic = Arc::clone(&self.sender.topic);
        let known = Arc::clone(view);
        let wanted = Arc::clone(&self.wanted);
        let choose = move |head: &Head, payload: &[u8]| {
            if !wanted.wants(head, payload) {
                Choice::Leave
            } else if is_for(head, &known.cluster_id, &topic) {
                Choice::Send {
                    to: known.partition_of(head.batch),
                }
            } else {
                Choice::Foreign
            }
        };
        let read = spawn_blocking(move || load(&dir, &file, &choose)).await;
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
}

/// Whether an entry is for this cluster and topic.
#[must_use]
pub fn is_for(head: &Head, cluster: &str, topic: &str) -> bool {
    let same_cluster = head.cluster_id.is_empty() || *head.cluster_id == *cluster;
    same_cluster && *head.topic == *topic
}
