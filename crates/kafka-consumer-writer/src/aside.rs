//! What one save sets aside, in few bytes: which messages and why. The messages themselves stay in
//! their batch, so that the notes can wait for the DLQ's disk on any thread.

use pipeline_core::Offset;

use crate::{
    batcher::{Batch, Content},
    dead_letters::{Entry, EntryKind},
};

/// One message that cannot go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    pub offset: Offset,
    pub kind: EntryKind,
    pub detail: String,
}

/// The notes of these entries, in their order.
#[must_use]
pub fn notes(entries: Vec<Entry<'_>>) -> Vec<Note> {
    let note = |entry: Entry<'_>| Note {
        offset: entry.offset,
        kind: entry.kind,
        detail: entry.detail.into_owned(),
    };
    entries.into_iter().map(note).collect()
}

/// The entries that notes in order of offset speak of.
///
/// # Panics
/// Where a note speaks of a message that the batch does not hold.
#[must_use]
pub fn entries<'a>(batch: &'a Batch, notes: &'a [Note]) -> Vec<Entry<'a>> {
    let blocks = batch
        .chunks
        .iter()
        .filter_map(|chunk| match &chunk.content {
            Content::Messages(block) => Some(block),
            Content::Skipped | Content::Lost => None,
        });
    let mut messages =
        blocks.flat_map(|block| block.messages.iter().map(move |message| (block, message)));
    let entry = |note: &'a Note| {
        let (block, message) = messages
            .find(|(_, message)| message.offset == note.offset)
            .expect("notes are of this batch, in order");
        Entry::of(note.kind, block, message, note.detail.as_str().into())
    };
    notes.iter().map(entry).collect()
}
