//! The consumer DLQ: poison and undecidable messages, and copies of failed saves.
//!
//! ```text
//! <dlqDir>/records-<writer>-<n>.dlq                        poison and undecidable, until someone decides
//! <dlqDir>/unsaved-<topic>-p00003-<first>-<next>.dlq       a copy, removed once the chain is past it
//! ```
//!
//! Entries are keyed by topic (name and id), partition and offset. This process writes a key once; after a crash
//! (or from a second process) it may stand there again, so readers go by the key. Files of other
//! processes are read and never written. All calls block; a failed file is left and a new one begun.

mod entry;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
};

pub use entry::{Entry, EntryHeader, EntryKind, PayloadError, Place, read as read_payload};
use pipeline_core::{
    Offset, PartitionId,
    dlq::{FrameWriter, read_frames},
    fsx,
};

use crate::batcher::{Batch, Content};

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
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    file: Option<FrameWriter>,
    files_made: u32,
    /// Bytes of all files but the open one.
    closed_bytes: u64,
    records: u64,
    /// Offsets that are here and that no chain is known to have passed.
    known: HashMap<Place, BTreeSet<i64>>,
}

impl DeadLetters {
    /// Opens or makes the directory and counts what is there. A damaged file gives what is whole
    /// and is said in the log; it never stops a start.
    ///
    /// # Errors
    /// Where the directory cannot be made or listed.
    pub fn open(dir: &Path, bytes_max: u64, writer: [u8; 16]) -> io::Result<Self> {
        fsx::create_dirs(dir)?;
        let mut state = State::default();
        let mut keys = HashSet::new();
        for path in files(dir)? {
            state.closed_bytes += fs::metadata(&path)?.len();
            if !is_records_file(&path) {
                continue;
            }
            let mut unreadable = 0_u64;
            let report = read_frames(&path, FILE_KIND, &mut |_, payload| {
                let read = read_payload(payload, &mut |place, entry| {
                    if keys.insert((place.clone(), entry.offset)) {
                        state.records += 1;
                    }
                });
                unreadable += u64::from(read.is_err());
            });
            match report {
                Ok(report) if report.damaged.is_empty() && unreadable == 0 => {}
                Ok(report) => tracing::warn!(
                    path = %path.display(),
                    damaged = ?report.damaged,
                    unreadable,
                    "consumer DLQ file is damaged; what is whole is used"
                ),
                Err(error) => tracing::warn!(
                    path = %path.display(),
                    %error,
                    "consumer DLQ file cannot be read"
                ),
            }
        }
        for (place, offset) in keys {
            state.known.entry(place).or_default().insert(offset.0);
        }
        use std::fmt::Write as _;
        let name = writer.iter().take(8).fold(String::new(), |mut name, byte| {
            let _ = write!(name, "{byte:02x}");
            name
        });
        Ok(Self {
            dir: dir.to_owned(),
            bytes_max,
            writer: name,
            state: Mutex::new(state),
        })
    }

    /// Poison and undecidable records that wait for someone's decision.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.lock().records
    }

    /// The chain of this partition has come to `next`: keys below need not be remembered.
    pub fn passed(&self, place: &Place, next: Offset) {
        if let Some(known) = self.lock().known.get_mut(place) {
            *known = known.split_off(&next.0);
        }
    }

    /// Removes the copies of failed saves that the chain has passed.
    ///
    /// # Errors
    /// As the file system says.
    pub fn remove_passed_copies(
        &self,
        topic: &str,
        partition: PartitionId,
        next: Offset,
    ) -> io::Result<()> {
        let prefix = unsaved_prefix(topic, partition);
        for path in files(&self.dir)? {
            let copied_next = path
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(|name| name.strip_prefix(&prefix)?.strip_suffix(SUFFIX))
                .and_then(|range| range.split_once('-')?.1.parse::<i64>().ok());
            if copied_next.is_some_and(|copied| copied <= next.0) {
                let len = fs::metadata(&path)?.len();
                fs::remove_file(&path)?;
                let mut state = self.lock();
                state.closed_bytes = state.closed_bytes.saturating_sub(len);
            }
        }
        Ok(())
    }

    /// Writes a copy of a batch whose save failed. Copies take at most half of the bound, so that
    /// they never keep poison from its place; gives `None` where that is used up or the copy is
    /// there already.
    ///
    /// # Errors
    /// As the file system says.
    pub fn copy_unsaved(
        &self,
        place: &Place,
        batch: &Batch,
        detail: &str,
    ) -> io::Result<Option<PathBuf>> {
        if self.bytes() + batch.bytes > self.bytes_max / 2 {
            return Ok(None);
        }
        let name = format!(
            "{}{:020}-{:020}{SUFFIX}",
            unsaved_prefix(&place.topic, place.partition),
            batch.first.0,
            batch.next.0
        );
        let path = self.dir.join(name);
        let mut file = match FrameWriter::create(&path, FILE_KIND) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            created => created?,
        };
        let entries = batch
            .chunks
            .iter()
            .filter_map(|chunk| match &chunk.content {
                Content::Messages(block) => Some(block),
                Content::Skipped | Content::Lost => None,
            })
            .flat_map(|block| block.messages.iter().map(move |message| (block, message)))
            .map(|(block, message)| Entry::of(EntryKind::Unsaved, block, message, detail.into()));
        if let Err(error) = append_all(&mut file, place, entries) {
            // A copy that is not whole helps nobody.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        self.lock().closed_bytes += file.len();
        Ok(Some(path))
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let state = self.lock();
        state.closed_bytes + state.file.as_ref().map_or(0, FrameWriter::len)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }
}

impl Aside for DeadLetters {
    fn keep(&self, place: &Place, entries: &[Entry<'_>]) -> io::Result<()> {
        let mut state = self.lock();
        let new: Vec<&Entry<'_>> = {
            let known = state.known.entry(place.clone()).or_default();
            entries
                .iter()
                .filter(|entry| !known.contains(&entry.offset.0))
                .collect()
        };
        if new.is_empty() {
            return Ok(());
        }
        let wanted: usize = new
            .iter()
            .map(|entry| entry.value.map_or(0, <[u8]>::len) + entry.detail.len() + 64)
            .sum();
        let used = state.closed_bytes + state.file.as_ref().map_or(0, FrameWriter::len);
        if used + wanted as u64 > self.bytes_max {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!(
                    "consumer DLQ {} is full: {used} of {} bytes used, {wanted} more wanted",
                    self.dir.display(),
                    self.bytes_max
                ),
            ));
        }
        let mut file = match state.file.take() {
            Some(file) if file.len() < FILE_BYTES => file,
            full => {
                state.closed_bytes += full.map_or(0, |file| file.len());
                let name = format!("records-{}-{:06}{SUFFIX}", self.writer, state.files_made);
                state.files_made += 1;
                FrameWriter::create(&self.dir.join(name), FILE_KIND)?
            }
        };
        if let Err(error) = append_all(&mut file, place, new.iter().map(|&entry| entry.clone())) {
            // What stands in that file is unknown: the next try begins a new one.
            state.closed_bytes += file.len();
            return Err(error);
        }
        state.file = Some(file);
        state.records += new.len() as u64;
        if let Some(known) = state.known.get_mut(place) {
            known.extend(new.iter().map(|entry| entry.offset.0));
        }
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

fn unsaved_prefix(topic: &str, partition: PartitionId) -> String {
    format!("unsaved-{topic}-p{:05}-", partition.0)
}

fn is_records_file(path: &Path) -> bool {
    path.file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.starts_with("records-"))
}

fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for item in fs::read_dir(dir)? {
        let path = item?.path();
        if path.extension().is_some_and(|end| end == "dlq") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests;
