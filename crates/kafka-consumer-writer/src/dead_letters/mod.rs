//! The consumer DLQ: poison and undecidable messages, and copies of failed saves.
//!
//! ```text
//! <dlqDir>/records-<writer>-<n>.dlq                        poison and undecidable, until someone decides
//! <dlqDir>/unsaved-<topic>-p00003-<first>-<next>.dlq       a copy, removed once the chain is past it
//! <dlqDir>/marks-<replay>.dlq                              what a replay has sent, see [`marks`]
//! <dlqDir>/writer-<writer>.lock                            this writer lives: nobody removes its files
//! <dlqDir>/damaged/                                        damaged files, all whole entries of which are done
//! ```
//!
//! Entries are keyed by topic (name and id), partition and offset. A message that was put aside once
//! stays so when it is read again, whatever became of its entry: [`DeadLetters::put_aside_from`].
//! This process writes a key once; after a crash
//! (or from a second process) it may stand there again, so readers go by the key. Files of other
//! processes are read and never written. Calls that touch the disk block, for as long as it hangs;
//! `records`, `bytes` and `passed` never wait for one of them. A failed file is left and a new one
//! begun.

mod copies;
mod count;
mod decided;
mod entry;
mod files;
mod keys;
pub mod marks;
mod runs;
mod survey;
pub mod tidy;
mod unsaved;
mod waiting;

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

pub use entry::{Entry, EntryHeader, EntryKind, PayloadError, Place, read as read_payload};
use pipeline_core::{
    Offset,
    dlq::{FrameWriter, HEADER_LEN, read_frames},
    fsx::{self, Lock, LockError},
};
pub use survey::{Seen, Survey, survey};

use copies::Copies;
use count::Meanwhile;
use decided::Decided;
use files::{Unreadable, files, is_records_file, len, list_others};
use keys::Keys;
use waiting::Waiting;

/// Kind of the files, in their header.
pub const FILE_KIND: [u8; 4] = *b"cdlq";
/// A frame is closed once it has this many bytes.
const FRAME_BYTES: usize = 1 << 20;
/// A file is closed once it has this many bytes.
const FILE_BYTES: u64 = 64 << 20;
const SUFFIX: &str = ".dlq";

/// Where messages go that cannot go on: durable when `keep` returns.
pub trait Aside: Send + Sync {
    /// Makes the entries of one partition durable; a key that is there already is not written
    /// again.
    ///
    /// # Errors
    /// As the file system says, or where the queue is full. Nothing may be relied on then.
    fn keep(&self, place: &Place, entries: &[Entry<'_>]) -> io::Result<()>;
}

/// The directory, opened for writing.
#[derive(Debug)]
pub struct DeadLetters {
    dir: PathBuf,
    bytes_max: u64,
    /// Makes this process's file names its own.
    writer: String,
    /// Of all files, as far as is known.
    bytes: AtomicU64,
    /// Never held over a call to the file system, as `keys`.
    waiting: Mutex<Waiting>,
    /// Never held over a call to the file system: those who must not block take it too.
    keys: Mutex<Keys>,
    /// Copies of failed saves, as far as they are known; as `keys`.
    copies: Mutex<Copies>,
    /// Held while the disk works, by blocking threads alone.
    open: Mutex<OpenFile>,
    /// While the records are counted; as `keys`.
    meanwhile: Mutex<Option<Meanwhile>>,
    /// Held over a count: there is one at a time.
    counting: Mutex<()>,
    /// The files of others, when the records were last counted.
    others: Mutex<Vec<(PathBuf, u64)>>,
    _alive: Lock,
}

#[derive(Debug, Default)]
struct OpenFile {
    file: Option<(FrameWriter, PathBuf)>,
    files_made: u32,
}

impl DeadLetters {
    /// Opens or makes the directory and counts what is there. A damaged file gives what is whole
    /// and is said in the log; it never stops a start.
    ///
    /// # Errors
    /// Where the directory cannot be made or listed.
    pub fn open(dir: &Path, bytes_max: u64, writer: [u8; 16]) -> io::Result<Self> {
        fsx::create_private_dir(dir)?;
        use std::fmt::Write as _;
        let name = writer.iter().take(8).fold(String::new(), |mut name, byte| {
            let _ = write!(name, "{byte:02x}");
            name
        });
        let alive = tidy::lock_writer(dir, &name).map_err(|error| match error {
            LockError::Io(error) => error,
            LockError::Held { .. } => io::Error::other(error),
        })?;
        if let Err(error) = tidy::tidy_if_free(dir, bytes_max) {
            tracing::warn!(%error, "failed to remove what has been replayed from the consumer DLQ");
        }
        // Before they are read: what comes later is counted later.
        let others = list_others(dir, &name)?;
        let decided = Decided::read(dir)?;
        for damage in &decided.damage {
            tracing::error!(
                %damage,
                "marks of the consumer DLQ cannot be read: `dlq replay` leaves the messages that \
                 they may speak of until the file is mended, or someone takes it away"
            );
        }
        let mut keys = Keys::default();
        let mut waiting = Waiting::default();
        for path in files(dir)? {
            if !is_records_file(&path) {
                continue;
            }
            let mut unreadable = Unreadable::default();
            let report = read_frames(&path, FILE_KIND, &mut |position, payload| {
                let read = read_payload(payload, &mut |place, entry| {
                    let waits = !decided.is_done(place, entry.offset);
                    let counts = keys.found(place, entry.offset) && waits;
                    waiting.add(u64::from(counts), entry.timestamp_ms);
                });
                unreadable.note(position, read);
            });
            match report {
                Ok(report) => {
                    if let Some(damage) = unreadable.describe(&path, &report.damaged) {
                        tracing::warn!(%damage, "consumer DLQ file is damaged; what is whole is used");
                    }
                }
                // Another process removes its own files.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(
                    path = %path.display(),
                    %error,
                    "consumer DLQ file cannot be read"
                ),
            }
        }
        for (place, offset) in decided.keys() {
            keys.found(place, offset);
        }
        let queue = Self {
            dir: dir.to_owned(),
            bytes_max,
            writer: name,
            bytes: AtomicU64::new(0),
            waiting: Mutex::new(waiting),
            keys: Mutex::new(keys),
            copies: Mutex::default(),
            open: Mutex::default(),
            meanwhile: Mutex::default(),
            counting: Mutex::default(),
            others: Mutex::new(others),
            _alive: alive,
        };
        queue.recount()?;
        Ok(queue)
    }

    /// Poison and undecidable records that wait for someone's decision.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.lock_waiting().records
    }

    /// The time in Kafka of the oldest of them.
    #[must_use]
    pub fn oldest_ms(&self) -> Option<i64> {
        self.lock_waiting().oldest_ms
    }

    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Bytes that still fit.
    #[must_use]
    pub fn room(&self) -> u64 {
        self.bytes_max.saturating_sub(self.bytes())
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The messages from `next` on, where this chain ends, that were put aside already: by a writer
    /// that ended before its segment was linked, or in segments that a repair has cut off. Their
    /// entries wait, or were replayed, or thrown away; so none of them may be stored now. Of a
    /// topic without an id nothing is said: it may be another one of that name.
    ///
    /// What another process has put aside or marked since this one last looked (seconds, or ten
    /// times as long as a look takes) may be missing. That is harmless as long as both decide alike:
    /// by a window that is made of the chain alone, and by the same rules, this one puts the same
    /// message aside again under the same key. A look at each take-over would make all partitions
    /// wait for the one disk of the queue.
    ///
    /// # Errors
    /// As the file system says.
    pub fn put_aside_from(&self, place: &Place, next: Offset) -> io::Result<BTreeSet<Offset>> {
        if place.topic_id.is_empty() {
            return Ok(BTreeSet::new());
        }
        let back = self.lock_keys().go_back(place, next);
        if back {
            self.read_records(list_others(&self.dir, &self.writer)?)?;
            self.lock_keys().read_again(place);
        }
        Ok(self.lock_keys().from(place, next))
    }

    /// The chain of this partition has come to `next`: keys below need not be remembered, nor
    /// copies kept.
    pub fn passed(&self, place: &Place, next: Offset) {
        self.lock_keys().pass(place, next);
    }

    /// Removes a file; one that is gone already is fine.
    fn remove(&self, path: &Path) -> io::Result<()> {
        let len = len(path).unwrap_or(0);
        match fsx::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => {
                let less = |bytes: u64| Some(bytes.saturating_sub(len));
                let _ = self
                    .bytes
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
                Ok(())
            }
        }
    }

    fn lock_keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().expect("no panic under this lock")
    }

    /// The open file, or a new one where that is full or there is none.
    fn file_of(&self, open: &mut OpenFile) -> io::Result<(FrameWriter, PathBuf)> {
        if let Some(open) = open.file.take()
            && open.0.len() < FILE_BYTES
        {
            return Ok(open);
        }
        let name = format!("records-{}-{:06}{SUFFIX}", self.writer, open.files_made);
        open.files_made += 1;
        let path = self.dir.join(name);
        let file = self.create(&path)?;
        Ok((file, path))
    }

    /// Begins a file; where that fails nothing is left of it.
    fn create(&self, path: &Path) -> io::Result<FrameWriter> {
        match FrameWriter::create(path, FILE_KIND) {
            Ok(file) => {
                self.bytes.fetch_add(file.len(), Ordering::Relaxed);
                Ok(file)
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::AlreadyExists {
                    let _ = fsx::remove_file(path);
                }
                Err(error)
            }
        }
    }
}

impl Aside for DeadLetters {
    fn keep(&self, place: &Place, entries: &[Entry<'_>]) -> io::Result<()> {
        if self.lock_keys().all_durable(place, entries) {
            return Ok(());
        }
        let mut open = self.open.lock().expect("no panic under this lock");
        let new = self.lock_keys().not_durable(place, entries);
        if new.is_empty() {
            return Ok(());
        }
        let wanted: usize = new
            .iter()
            .map(|entry| entry.value.map_or(0, <[u8]>::len) + entry.detail.len() + 64)
            .sum();
        let fits = || self.bytes() + wanted as u64 <= self.bytes_max;
        if !fits() {
            // Someone may have made room.
            self.recount()?;
        }
        if !fits() {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!(
                    "consumer DLQ {} is full: {} of {} bytes used, {wanted} more wanted",
                    self.dir.display(),
                    self.bytes(),
                    self.bytes_max
                ),
            ));
        }
        self.begin_keeping(place, &new);
        let (mut file, path) = self.file_of(&mut open)?;
        let before = file.len();
        let appended = append_all(&mut file, place, new.iter().map(|&entry| entry.clone()));
        self.bytes.fetch_add(file.len() - before, Ordering::Relaxed);
        if let Err(error) = appended {
            // What stands in a file that failed is unknown: the next try begins a new one. On a
            // full disk that is often, so one with nothing else in it does not stay.
            if before == HEADER_LEN {
                let _ = self.remove(&path);
            }
            return Err(error);
        }
        open.file = Some((file, path));
        self.kept(place, &new);
        Ok(())
    }
}

fn append_all<'a>(
    file: &mut FrameWriter,
    place: &Place,
    entries: impl Iterator<Item = Entry<'a>>,
) -> io::Result<()> {
    let mut payload = Vec::new();
    entry::begin(place, &mut payload);
    let begun = payload.len();
    for entry in entries {
        entry::append(&entry, &mut payload);
        if payload.len() >= FRAME_BYTES {
            file.append(&payload)?;
            payload.truncate(begun);
        }
    }
    if payload.len() > begun {
        file.append(&payload)?;
    }
    file.sync()
}

#[cfg(test)]
mod tests;
