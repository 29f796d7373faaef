//! Copies of failed saves, for people: each is written once, as far as there is room, and removed
//! once the chain has passed it.

use std::{
    io,
    path::PathBuf,
    sync::{MutexGuard, atomic::Ordering},
};

use pipeline_core::Offset;

use super::{
    DeadLetters, Entry, EntryKind, Place, append_all,
    copies::{self, Copies},
    files::files,
};
use crate::batcher::{Batch, Content};

impl DeadLetters {
    /// Whether there is a copy of a failed save, this process's or one that it has found, that the
    /// chain has passed.
    #[must_use]
    pub fn has_passed_copies(&self, place: &Place, next: Offset) -> bool {
        self.lock_copies().any_passed(place, next)
    }

    /// Removes the copies of failed saves that the chain has passed, and remembers the others: a
    /// process that was killed may have left some.
    ///
    /// # Errors
    /// As the file system says.
    pub fn remove_passed_copies(&self, place: &Place, next: Offset) -> io::Result<()> {
        for path in files(&self.dir)? {
            let Some(copied) = copies::next_of(&path, place) else {
                continue;
            };
            self.lock_copies().add(place, copied);
            // The chain may have passed it meanwhile, as below.
            if copied <= next || self.lock_keys().is_past(place, copied) {
                self.remove(&path)?;
                self.lock_copies().forget(place, copied);
            }
        }
        // And those that someone else has removed.
        self.lock_copies().forget_passed(place, next);
        Ok(())
    }

    /// Writes a copy of a batch whose save failed. Copies take at most half of the bound, so that
    /// they never keep poison from its place; gives `None` where that is used up, the copy is
    /// there already, or the chain has meanwhile passed it.
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
        let path = self.dir.join(copies::name(place, batch));
        let mut file = match self.create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            created => created?,
        };
        let before = file.len();
        let entries = batch
            .chunks
            .iter()
            .filter_map(|chunk| match &chunk.content {
                Content::Messages(block) => Some(block),
                Content::Skipped | Content::Lost => None,
            })
            .flat_map(|block| block.messages.iter().map(move |message| (block, message)))
            .map(|(block, message)| Entry::of(EntryKind::Unsaved, block, message, detail.into()));
        let appended = append_all(&mut file, place, entries);
        self.bytes.fetch_add(file.len() - before, Ordering::Relaxed);
        if let Err(error) = appended {
            // A copy that is not whole helps nobody.
            let _ = self.remove(&path);
            return Err(error);
        }
        self.lock_copies().add(place, batch.next);
        // A later try may have landed while this was written. Either it is seen here, or those who
        // remove the passed copies come after this and see the file.
        if self.lock_keys().is_past(place, batch.next) {
            self.remove(&path)?;
            self.lock_copies().forget(place, batch.next);
            return Ok(None);
        }
        Ok(Some(path))
    }

    fn lock_copies(&self) -> MutexGuard<'_, Copies> {
        self.copies.lock().expect("no panic under this lock")
    }
}
