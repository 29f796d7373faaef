//! The producer's dead letter queue: what Kafka does not take now is durable before its 202.
//!
//! One thread owns the files ([`files`]): it takes all that waits, appends it, makes it durable
//! with one fsync, and answers. [`Dlq`] is the handle; [`replay`] sends what is here once Kafka
//! answers again. Bounded in bytes on disk, and in memory by the queue's budget, as each waiting
//! entry's batch still holds its share of it.

mod bytes;
pub mod entry;
pub mod filter;
pub mod mark;
pub mod rate;

pub mod names;
pub mod standing;

pub mod files;
pub mod load;

pub mod replay;

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::{oneshot, watch};

pub use self::{
    entry::{Entry, Head, Reason, entries},
    files::{FileLimits, Files, OpenError, Refusal, Totals},
    mark::{DoneMark, SentMark},
};
use self::{load::Seen, rate::WriteRate};
use crate::{producer::settle::now_ms, telemetry};

/// After which the thread makes durable what it has taken, whatever else waits.
const GROUP_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Between two looks at the clock, while there is something that ages.
const TICK: Duration = Duration::from_secs(1);
/// Between two attempts to remove what the disk did not let go.
const REMOVE_AGAIN: Duration = Duration::from_secs(5);

/// Handle to the thread; cheap to clone. The thread ends when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Dlq {
    commands: mpsc::Sender<Command>,
    totals: watch::Receiver<Totals>,
    dir: Arc<Path>,
}

#[derive(Debug)]
enum Command {
    Store(Vec<Entry>, oneshot::Sender<Result<(), Refusal>>),
    /// Data files to replay, oldest first; ends the current one if there are no others than these.
    Sealed(HashSet<u64>, oneshot::Sender<Vec<u64>>),
    /// Data files that have ended, oldest first; ends none.
    Ended(oneshot::Sender<Vec<u64>>),
    MarkSent(u64, Vec<SentMark>, oneshot::Sender<io::Result<()>>),
    MarkDone(u64, Vec<DoneMark>, oneshot::Sender<io::Result<()>>),
    Correct(u64, Box<Seen>),
    /// The last command.
    Stop(oneshot::Sender<()>),
}

impl Dlq {
    /// Takes the directory and starts the thread.
    ///
    /// # Errors
    /// Where another process has the directory, or it cannot be used.
    pub fn start(dir: &Path, limits: FileLimits) -> Result<Self, OpenError> {
        let files = Files::open(dir, limits)?;
        let (commands, todo) = mpsc::channel();
        let (totals, seen) = watch::channel(files.totals());
        let gauges = Gauges::new(&files);
        thread::Builder::new()
            .name("dlq".to_owned())
            .spawn(move || run(files, gauges, &todo, &totals))
            .map_err(|error| OpenError::Io {
                dir: dir.to_owned(),
                error,
            })?;
        Ok(Self {
            commands,
            totals: seen,
            dir: dir.into(),
        })
    }

    /// Ends when the entries, of one batch, are durable.
    ///
    /// # Errors
    /// Where one was refused: the queue is full, or the disk failed.
    pub async fn store(&self, entries: Vec<Entry>) -> Result<(), Refusal> {
        let (reply, answer) = oneshot::channel();
        let sent = self.commands.send(Command::Store(entries, reply));
        let gone = |may_be_kept| Refusal {
            may_be_kept,
            why: "the dead letter queue has stopped".to_owned(),
        };
        if sent.is_err() {
            return Err(gone(false));
        }
        answer.await.unwrap_or_else(|_| Err(gone(true)))
    }

    #[must_use]
    pub fn totals(&self) -> Totals {
        *self.totals.borrow()
    }

    /// Ends when the totals have changed since this handle last waited.
    pub async fn changed(&mut self) {
        if self.totals.changed().await.is_err() {
            // The thread has ended: nothing will change any more.
            std::future::pending::<()>().await;
        }
    }

    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.dir.to_path_buf()
    }

    /// Files to replay, oldest first, without those that are `stuck`.
    pub async fn sealed(&self, stuck: HashSet<u64>) -> Vec<u64> {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::Sealed(stuck, reply));
        answer.await.unwrap_or_default()
    }

    /// Files that nothing is appended to any more, oldest first.
    pub async fn ended(&self) -> Vec<u64> {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::Ended(reply));
        answer.await.unwrap_or_default()
    }

    /// Ends when the marks are durable.
    ///
    /// # Errors
    /// As the file system says; nothing may be sent then.
    pub async fn mark_sent(&self, number: u64, marks: Vec<SentMark>) -> io::Result<()> {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::MarkSent(number, marks, reply));
        answer
            .await
            .unwrap_or_else(|_| Err(io::Error::other("the dead letter queue has stopped")))
    }

    /// Ends when the entries no longer count.
    ///
    /// # Errors
    /// Where that could not be noted on the disk: they will be sent once more.
    pub async fn mark_done(&self, number: u64, marks: Vec<DoneMark>) -> io::Result<()> {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::MarkDone(number, marks, reply));
        answer
            .await
            .unwrap_or_else(|_| Err(io::Error::other("the dead letter queue has stopped")))
    }

    /// A sealed file was read anew.
    pub fn correct(&self, number: u64, seen: Seen) {
        let _ = self.commands.send(Command::Correct(number, Box::new(seen)));
    }
}

impl Dlq {
    /// Ends the thread after all that was asked before, and gives the directory back.
    pub async fn stop(&self) {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::Stop(reply));
        let _ = answer.await;
    }
}

/// What the queue says of itself on `/metrics`.
struct Gauges {
    rate: WriteRate,
    /// They change without anything happening.
    age: bool,
    /// When what could not be removed is tried again.
    remove_at: Instant,
}

impl Gauges {
    fn new(files: &Files) -> Self {
        let mut gauges = Self {
            rate: WriteRate::new(Instant::now()),
            age: false,
            remove_at: Instant::now(),
        };
        gauges.set(files, 0);
        gauges
    }

    fn set(&mut self, files: &Files, written_bytes: u64) {
        let now = Instant::now();
        self.rate.wrote(written_bytes, now);
        let oldest_ms = files.oldest_ms();
        let age_ms = oldest_ms.map_or(0, |oldest| now_ms().saturating_sub(oldest).max(0));
        let seconds_left = self.rate.seconds_left(files.room(), now);
        telemetry::dlq(files.totals(), seconds_left, age_ms);
        self.age = oldest_ms.is_some() || seconds_left < rate::SECONDS_LEFT_MAX;
    }

    /// The next command; `None` when there will be none.
    fn next(&mut self, files: &mut Files, todo: &mpsc::Receiver<Command>) -> Option<Command> {
        while self.age || files.has_done() {
            match todo.recv_timeout(TICK) {
                Ok(command) => return Some(command),
                Err(RecvTimeoutError::Timeout) => {
                    if files.has_done() && Instant::now() >= self.remove_at {
                        files.remove_all_done();
                        self.remove_at = Instant::now() + REMOVE_AGAIN;
                    }
                    self.set(files, 0);
                }
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
        todo.recv().ok()
    }
}

fn run(
    mut files: Files,
    mut gauges: Gauges,
    todo: &mpsc::Receiver<Command>,
    totals: &watch::Sender<Totals>,
) {
    let mut entries = Vec::new();
    // With the number of entries that each is about.
    let mut replies = Vec::new();
    let mut stop = None;
    while stop.is_none()
        && let Some(first) = gauges.next(&mut files, todo)
    {
        let mut others = Vec::new();
        let mut bytes = 0;
        // With the marks that will be needed.
        let mut promised = 0;
        let mut next = Some(first);
        while let Some(command) = next {
            match command {
                Command::Store(batch, reply) => {
                    let wanted = batch.iter().map(Entry::encoded_len).sum::<usize>();
                    let needed = batch.iter().map(files::wanted).sum::<u64>();
                    // One entry has its word from the files; of several none may be kept alone.
                    if batch.len() > 1 && promised + needed > files.room() {
                        let _ = reply.send(Err(no_room(needed)));
                    } else {
                        promised += needed;
                        bytes += wanted;
                        replies.push((batch.len(), reply));
                        entries.extend(batch);
                    }
                }
                Command::Stop(reply) => {
                    stop = Some(reply);
                    break;
                }
                other => others.push(other),
            }
            next = (bytes < GROUP_BYTES_MAX)
                .then(|| todo.try_recv().ok())
                .flatten();
        }
        let results = files.store(&entries);
        let kept: usize = entries
            .drain(..)
            .zip(&results)
            .filter(|(_, result)| result.is_ok())
            .map(|(entry, _)| entry.record_count())
            .sum();
        telemetry::dlq_written(kept);
        let mut acknowledge = Vec::with_capacity(others.len());
        for command in others {
            acknowledge.push(act(&mut files, command));
        }
        // The books first: what is answered has been counted.
        let written = files.take_written_bytes();
        gauges.set(&files, written);
        let now = files.totals();
        totals.send_if_modified(|seen| std::mem::replace(seen, now) != now);
        let mut results = results.into_iter();
        for (count, reply) in replies.drain(..) {
            // Nobody waits for the entries of a batch whose client has its answer.
            let _ = reply.send(of_batch(results.by_ref().take(count)));
        }
        for reply in acknowledge {
            reply();
        }
    }
    // Another process may have the directory before this one says that it has stopped.
    drop(files);
    if let Some(reply) = stop {
        let _ = reply.send(());
    }
}

fn no_room(wanted: u64) -> Refusal {
    Refusal {
        may_be_kept: false,
        why: format!("the dead letter queue has no room for the {wanted} bytes of a batch"),
    }
}

/// What became of a batch, from what became of its entries. One that was refused while others were
/// kept is not gone for sure.
fn of_batch(results: impl Iterator<Item = Result<(), Refusal>>) -> Result<(), Refusal> {
    let mut kept = false;
    let mut refused = None;
    for result in results {
        match result {
            Ok(()) => kept = true,
            Err(refusal) => _ = refused.get_or_insert(refusal),
        }
    }
    match refused {
        None => Ok(()),
        Some(refusal) => Err(Refusal {
            may_be_kept: refusal.may_be_kept || kept,
            ..refusal
        }),
    }
}

/// Whether a file that has been appended to for so long is worth ending, so that it can be
/// replayed, while so many are stuck: what comes may well be stuck, too, and each look would end a
/// file. So they are about as many as the square root of twice the seconds that it lasts.
fn is_due(age: Duration, stuck: usize) -> bool {
    age.as_secs() >= stuck as u64
}

/// Does what the command says; gives what answers it.
fn act(files: &mut Files, command: Command) -> Box<dyn FnOnce()> {
    // An error of a send: who asked has gone.
    match command {
        Command::Store(..) | Command::Stop(_) => {
            unreachable!("the loop has taken them")
        }
        Command::Sealed(stuck, reply) => {
            let sealed = files.sealed();
            let age = files.current_age(Instant::now());
            if sealed.iter().all(|number| stuck.contains(number)) && is_due(age, sealed.len()) {
                files.seal();
            }
            let mut sealed = files.sealed();
            sealed.retain(|number| !stuck.contains(number));
            Box::new(move || drop(reply.send(sealed)))
        }
        Command::Ended(reply) => {
            let ended = files.sealed();
            Box::new(move || drop(reply.send(ended)))
        }
        Command::MarkSent(number, marks, reply) => {
            let marked = files.mark_sent(number, marks);
            Box::new(move || drop(reply.send(marked)))
        }
        Command::MarkDone(number, marks, reply) => {
            let marked = files.mark_done(number, marks);
            Box::new(move || drop(reply.send(marked)))
        }
        Command::Correct(number, seen) => {
            files.correct(number, &seen);
            Box::new(|| ())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::test::batch_of;

    #[test]
    fn a_day_of_looks_at_stuck_files_does_not_end_a_file_each() {
        let (mut ended, mut age) = (0, Duration::ZERO);
        assert!(is_due(age, ended), "nothing is stuck");
        for _ in 0..2 * 86_400 {
            age += Duration::from_millis(500);
            if is_due(age, ended) {
                (ended, age) = (ended + 1, Duration::ZERO);
            }
        }
        assert!((100..500).contains(&ended), "{ended}");
    }

    #[tokio::test]
    async fn looking_for_ended_files_ends_none_and_looking_for_work_does() {
        let dir = tempfile::tempdir().unwrap();
        let limits = FileLimits {
            bytes_max: 1 << 20,
            file_bytes_max: 1 << 20,
        };
        let dlq = Dlq::start(dir.path(), limits).unwrap();
        let batch = batch_of(1, &["a"]);
        let head = Head {
            reason: Reason::KafkaAway,
            may_have_been_sent: false,
            partition: None,
            since: None,
            batch: batch.id,
            received_ms: 1,
            stored_ms: 2,
            cluster_id: "c".into(),
            topic: "t".into(),
        };
        for _ in 0..3 {
            dlq.store(entries(&head, &batch.records, 0)).await.unwrap();
            assert!(dlq.ended().await.is_empty());
        }
        assert_eq!(dlq.sealed(HashSet::new()).await, [1]);
        assert_eq!(dlq.ended().await, [1]);
        dlq.stop().await;
    }
}
