//! The window as a snapshot beside its chain, and back.

use pipeline_core::{
    Offset,
    store::{
        ChainEnd, EncodedSnapshot, SegmentError, SnapshotBatch, SnapshotHead, SnapshotReader,
        SnapshotWriter,
    },
};

use super::{Entry, Window};
use crate::sequences::Sequences;

impl Window {
    /// The snapshot of a chain that ends at `end` and has the segments `names`.
    #[must_use]
    pub fn save(&self, end: &ChainEnd, names: Vec<Offset>) -> EncodedSnapshot {
        let head = SnapshotHead {
            end: end.clone(),
            names,
            window_start: self.start,
        };
        let mut writer = SnapshotWriter::new(&head, self.entries.len());
        let mut runs = Vec::new();
        for entry in &self.entries {
            entry.stored.runs_into(&mut runs);
            let batch = SnapshotBatch {
                batch: entry.batch,
                received_ms: entry.received_ms,
                greatest: entry.greatest,
            };
            writer.batch(&batch, &runs);
        }
        writer.finish()
    }

    /// The window that was saved. Where fewer batches are allowed now, the oldest leave; where
    /// more, what left before is not known again.
    ///
    /// # Errors
    /// What is wrong with the snapshot.
    pub fn restore(bytes: &[u8], batches_max: usize) -> Result<(SnapshotHead, Self), SegmentError> {
        let mut reader = SnapshotReader::open(bytes)?;
        let mut window = Self::new(batches_max);
        window.start = reader.head.window_start;
        window.entries.reserve(reader.left());
        let (entries, base, hasher) = (&window.entries, window.base, &window.hasher);
        window.index.reserve(reader.left(), |&serial| {
            use std::hash::BuildHasher;
            hasher.hash_one(entries[super::place(serial, base)].batch)
        });
        while let Some((batch, runs)) = reader.batch()? {
            let mut stored = Sequences::run(runs[0].0, runs[0].1);
            for (first, last) in &runs[1..] {
                stored.insert_run(*first, *last);
            }
            window.push(Entry {
                batch: batch.batch,
                received_ms: batch.received_ms,
                greatest: batch.greatest,
                stored,
            });
        }
        window.drop_surplus();
        Ok((reader.head, window))
    }
}
