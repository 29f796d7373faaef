//! How many records wait, and how many bytes there are: counted anew, as other processes and people
//! add and remove some. A count never keeps those waiting who put messages aside, but for its first
//! and its last step.

use std::{
    io,
    path::PathBuf,
    sync::{MutexGuard, atomic::Ordering},
};

use super::{
    DeadLetters, Entry, EntryKind, Place,
    decided::Decided,
    files::{bytes_aside, files, len, list_others},
    runs::KeySet,
    survey::each_message,
    waiting::Waiting,
};

/// What is kept while the records are counted: it is not to wait for that, nor to be counted twice.
#[derive(Debug, Default)]
pub(super) struct Meanwhile {
    /// No file had them before.
    keys: KeySet,
    /// Of these, durable.
    waiting: Waiting,
}

impl DeadLetters {
    /// Sums the files anew: other processes and people add and remove some too.
    ///
    /// # Errors
    /// As the file system says.
    pub fn recount(&self) -> io::Result<()> {
        let mut bytes = bytes_aside(&self.dir);
        for path in files(&self.dir)? {
            bytes += len(&path).unwrap_or(0);
        }
        self.bytes.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Counts the records anew where others have added some or removed some, or a replay has sent
    /// some. What is put aside meanwhile waits for none of it.
    ///
    /// # Errors
    /// As the file system says.
    pub fn recount_records(&self) -> io::Result<()> {
        let others = list_others(&self.dir, &self.writer)?;
        if *self.lock_others() == others {
            return Ok(());
        }
        self.read_records(others)
    }

    /// Counts the records, and learns the keys that others have written or marked.
    pub(super) fn read_records(&self, others: Vec<(PathBuf, u64)>) -> io::Result<()> {
        let _counting = self.counting.lock().expect("no panic under this lock");
        self.begin_count();
        self.end_count(self.count_records())?;
        *self.lock_others() = others;
        Ok(())
    }

    /// But for what is kept meanwhile.
    pub(super) fn count_records(&self) -> io::Result<Waiting> {
        let decided = Decided::read(&self.dir)?;
        let mut waiting = Waiting::default();
        each_message(&self.dir, &mut |place, entry| {
            let offset = entry.offset;
            let meanwhile = self.lock_meanwhile();
            let is_kept = |it: &Meanwhile| it.keys.contains(place, offset);
            if entry.kind != EntryKind::Unsaved && !meanwhile.as_ref().is_some_and(is_kept) {
                self.lock_keys().found(place, offset);
                let waits = !decided.is_done(place, offset);
                waiting.add(u64::from(waits), entry.timestamp_ms);
            }
            Ok(())
        })?;
        for (place, offset) in decided.keys() {
            self.lock_keys().found(place, offset);
        }
        Ok(waiting)
    }

    /// In the midst of no keeping: what is in the files by now is met there, the rest is kept
    /// meanwhile.
    pub(super) fn begin_count(&self) {
        let _open = self.open.lock().expect("no panic under this lock");
        *self.lock_meanwhile() = Some(Meanwhile::default());
    }

    /// None is kept between the sum and the end of the count.
    pub(super) fn end_count(&self, counted: io::Result<Waiting>) -> io::Result<()> {
        let _open = self.open.lock().expect("no panic under this lock");
        let meanwhile = self.lock_meanwhile().take().unwrap_or_default();
        *self.lock_waiting() = counted?.with(meanwhile.waiting);
        Ok(())
    }

    /// Before a count can meet these in a file; `open` is held until they are [`Self::kept`].
    pub(super) fn begin_keeping(&self, place: &Place, entries: &[&Entry<'_>]) {
        if let Some(meanwhile) = self.lock_meanwhile().as_mut() {
            let keys = self.lock_keys();
            for entry in entries {
                if !keys.is_known(place, entry.offset) {
                    meanwhile.keys.insert(place, entry.offset);
                }
            }
        }
    }

    /// These are durable.
    pub(super) fn kept(&self, place: &Place, entries: &[&Entry<'_>]) {
        let counted = self.lock_keys().synced(place, entries);
        let oldest = entries.iter().map(|entry| entry.timestamp_ms).min();
        let oldest = oldest.unwrap_or_default();
        self.lock_waiting().add(counted, oldest);
        if let Some(meanwhile) = self.lock_meanwhile().as_mut() {
            meanwhile.waiting.add(counted, oldest);
        }
    }

    pub(super) fn lock_waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("no panic under this lock")
    }

    fn lock_others(&self) -> MutexGuard<'_, Vec<(PathBuf, u64)>> {
        self.others.lock().expect("no panic under this lock")
    }

    fn lock_meanwhile(&self) -> MutexGuard<'_, Option<Meanwhile>> {
        self.meanwhile.lock().expect("no panic under this lock")
    }
}
