//! `ingestion.rejectsDir`: what was refused of bodies, with its reason, so that whoever sends it
//! can be helped.
//!
//! ```text
//! handler ─ keep ─▶ channel (bounded in bytes) ─▶ one thread ─▶ files
//! ```
//!
//! Best effort, and never in the way of an answer: what does not fit into the channel, or onto the
//! disk, is dropped and counted. The thread waits a moment for more and writes it all with one
//! fsync, so that the disk is the dead letter queue's.

pub mod entry;
pub mod files;
pub mod keep;
pub mod read;

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use self::{entry::Refused, files::Files};
use crate::{
    budget::{Budget, Share},
    telemetry::{self, Dropped},
};

/// Of all that waits for the thread.
const WAITING_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Of the lines of one write.
const GROUP_BYTES_MAX: usize = 1024 * 1024;
/// From the first of a group to its write.
const GROUP_WAIT: Duration = Duration::from_secs(1);
/// After trouble with the disk: nothing is tried meanwhile.
const PAUSE: Duration = Duration::from_secs(10);

/// Handle to the thread; cheap to clone. The thread ends when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Rejects {
    waiting: Arc<Budget>,
    todo: Sender<Command>,
}

#[derive(Debug)]
enum Command {
    Keep(Refused, Share),
    /// The last command.
    Stop(oneshot::Sender<()>),
}

impl Rejects {
    /// Starts the thread. Whatever is wrong with the directory, the gateway goes on.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(dir: PathBuf, bytes_max: u64) -> io::Result<Self> {
        Self::start_with(dir, bytes_max, GROUP_WAIT, PAUSE)
    }

    fn start_with(
        dir: PathBuf,
        bytes_max: u64,
        group_wait: Duration,
        pause: Duration,
    ) -> io::Result<Self> {
        let (todo, commands) = mpsc::channel();
        let keeper = Keeper {
            dir,
            bytes_max,
            group_wait,
            pause,
            files: None,
            not_before: None,
        };
        let thread = thread::Builder::new().name("rejects".to_owned());
        thread.spawn(move || keeper.run(&commands))?;
        Ok(Self {
            waiting: Budget::without_reserve(WAITING_BYTES_MAX),
            todo,
        })
    }

    /// Hands it to the thread, or drops it where too much waits.
    pub fn keep(&self, refused: Refused) {
        let records = refused.parts.len();
        if records == 0 {
            return;
        }
        let mut share = self.waiting.share();
        let fits = share.try_set(refused.memory());
        if !fits || self.todo.send(Command::Keep(refused, share)).is_err() {
            telemetry::rejects_dropped(Dropped::Full, records);
        }
    }

    /// Ends when all that was handed over is written, or cannot be.
    pub async fn stop(&self) {
        let (reply, stopped) = oneshot::channel();
        let _ = self.todo.send(Command::Stop(reply));
        let _ = stopped.await;
    }
}

/// The thread.
struct Keeper {
    dir: PathBuf,
    bytes_max: u64,
    group_wait: Duration,
    pause: Duration,
    files: Option<Files>,
    /// Set after trouble.
    not_before: Option<Instant>,
}

impl Keeper {
    fn run(mut self, commands: &Receiver<Command>) {
        self.open();
        let bytes_max = GROUP_BYTES_MAX.min(Files::group_bytes_max(self.bytes_max));
        let mut lines = Vec::new();
        loop {
            let first = match commands.try_recv() {
                // Time to look at what earlier processes have left.
                Err(mpsc::TryRecvError::Empty) if self.check_one() => continue,
                Err(mpsc::TryRecvError::Empty) => commands.recv().ok(),
                tried => tried.ok(),
            };
            let due = Instant::now() + self.group_wait;
            let mut next = first;
            let mut records = 0;
            let stop = loop {
                match next {
                    Some(Command::Keep(refused, share)) => {
                        refused.append_lines(&mut lines);
                        records += refused.parts.len();
                        drop((refused, share));
                    }
                    Some(Command::Stop(reply)) => break Some(Some(reply)),
                    None => break Some(None),
                }
                if lines.len() >= bytes_max {
                    break None;
                }
                let left = due.saturating_duration_since(Instant::now());
                next = match commands.recv_timeout(left) {
                    Ok(command) => Some(command),
                    Err(RecvTimeoutError::Timeout) => break None,
                    Err(RecvTimeoutError::Disconnected) => None,
                };
            };
            if records > 0 {
                self.write(&lines, records);
                lines.clear();
            }
            if let Some(reply) = stop {
                // Another process may have the directory before this one says that it has stopped.
                drop(self.files.take());
                if let Some(reply) = reply {
                    let _ = reply.send(());
                }
                return;
            }
        }
    }

    fn write(&mut self, lines: &[u8], records: usize) {
        self.open();
        let Some(files) = &mut self.files else {
            return telemetry::rejects_dropped(Dropped::Disk, records);
        };
        match files.append(lines) {
            Ok(()) => {
                telemetry::rejects_written(records);
                telemetry::rejects_bytes(files.bytes());
            }
            Err(error) => {
                telemetry::rejects_dropped(Dropped::Disk, records);
                self.trouble(&error);
            }
        }
    }

    /// Opens the directory where it is not, unless there was trouble a moment ago.
    fn open(&mut self) {
        if self.files.is_some() || self.not_before.is_some_and(|then| Instant::now() < then) {
            return;
        }
        match Files::open(&self.dir, self.bytes_max) {
            Ok(files) => {
                telemetry::rejects_bytes(files.bytes());
                self.files = Some(files);
                self.not_before = None;
            }
            Err(error) => self.trouble(&error),
        }
    }

    /// Says so, once for each pause.
    fn trouble(&mut self, error: &io::Error) {
        // Opened anew, what is there is looked at anew.
        self.files = None;
        self.not_before = Some(Instant::now() + self.pause);
        tracing::error!(
            dir = %self.dir.display(),
            "rejected records are not kept for {:?}: {error}",
            self.pause
        );
    }

    fn check_one(&mut self) -> bool {
        let Some(files) = &mut self.files else {
            return false;
        };
        let more = files.check_one();
        telemetry::rejects_bytes(files.bytes());
        more
    }
}

#[cfg(test)]
mod tests;
