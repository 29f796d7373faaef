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

pub mod names;
pub mod standing;

pub mod files;
pub mod load;

pub mod replay;
mod thread;

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
};

use tokio::sync::{oneshot, watch};

pub use self::{
    entry::{Entry, Head, Reason, entries},
    files::{FileLimits, Files, OpenError, Refusal, Totals},
    mark::{DoneMark, SentMark},
};
use self::{
    load::Seen,
    names::DataFile,
    thread::{Gauges, run},
};

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
    Sealed(HashSet<u64>, oneshot::Sender<Vec<DataFile>>),
    /// Data files that have ended, oldest first; ends none.
    Ended(oneshot::Sender<Vec<DataFile>>),
    MarkSent(u64, Vec<SentMark>, oneshot::Sender<io::Result<()>>),
    MarkDone(u64, Vec<DoneMark>, oneshot::Sender<io::Result<()>>),
    Correct(u64, Box<Seen>),
    /// Whether nothing is left on the disk of what was refused.
    TakeBack(oneshot::Sender<bool>),
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
        std::thread::Builder::new()
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
    pub async fn sealed(&self, stuck: HashSet<u64>) -> Vec<DataFile> {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::Sealed(stuck, reply));
        answer.await.unwrap_or_default()
    }

    /// Files that nothing is appended to any more, oldest first.
    pub async fn ended(&self) -> Vec<DataFile> {
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

    /// Whether nothing is left on the disk of what was refused: what `may_be_kept` looks as if it
    /// had never been sent, and would be sent with a *since* of its own.
    pub async fn take_back(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::TakeBack(reply));
        answer.await.unwrap_or(false)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{batch::test::batch_of, dlq::entry::test::head_of};

    #[tokio::test]
    async fn looking_for_ended_files_ends_none_and_looking_for_work_does() {
        let dir = tempfile::tempdir().unwrap();
        let limits = FileLimits {
            bytes_max: 1 << 20,
            file_bytes_max: 1 << 20,
        };
        let dlq = Dlq::start(dir.path(), limits).unwrap();
        let batch = batch_of(1, &["a"]);
        let head = head_of(batch.id);
        for _ in 0..3 {
            dlq.store(entries(&head, &batch.records, 0)).await.unwrap();
            assert!(dlq.ended().await.is_empty());
        }
        let first = |files: Vec<DataFile>| files.iter().map(|file| file.number).collect::<Vec<_>>();
        assert_eq!(first(dlq.sealed(HashSet::new()).await), [1]);
        assert_eq!(first(dlq.ended().await), [1]);
        dlq.stop().await;
    }
}
