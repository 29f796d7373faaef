//! Framed, checksummed, append-only files: the base of both dead letter queues.
//!
//! A file is a header (magic, kind, version) and frames. A frame is a marker, a length, a CRC-32C
//! and a zstd payload; the marker lets a reader find the next whole frame behind a damaged one.
//! What a payload means is its owner's business.

use std::{io, ops::Range, path::Path};

/// Appends frames to one file. Nothing is durable before [`FrameWriter::sync`].
#[derive(Debug)]
pub struct FrameWriter {
    file: std::fs::File,
    len: u64,
}

impl FrameWriter {
    /// Creates `path` (which must not exist) and makes its name durable.
    ///
    /// # Errors
    /// As the file system says.
    pub fn create(path: &Path, kind: [u8; 4]) -> io::Result<Self> {
        let _ = (path, kind);
        todo!()
    }

    /// Appends one frame; gives its position. After an error the file must not be appended to
    /// again: start a new one.
    ///
    /// # Errors
    /// As the file system says.
    pub fn append(&mut self, payload: &[u8]) -> io::Result<u64> {
        let _ = (payload, &self.file);
        todo!()
    }

    /// # Errors
    /// As the file system says; never try again on the same file.
    pub fn sync(&mut self) -> io::Result<()> {
        todo!()
    }

    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// What reading a file came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FrameReport {
    pub whole: u64,
    /// Byte ranges that hold no whole frame (damage, or a torn end).
    pub damaged: Vec<Range<u64>>,
}

/// Visits every whole frame (position, payload) in order, whatever is damaged between them.
///
/// # Errors
/// Where the file cannot be read at all, is of another kind, or of an unknown version.
pub fn read_frames(
    path: &Path,
    kind: [u8; 4],
    visit: &mut dyn FnMut(u64, &[u8]),
) -> io::Result<FrameReport> {
    let _ = (path, kind, visit);
    todo!()
}

/// Reads one frame at a known position.
///
/// # Errors
/// Where there is no whole frame.
pub fn read_frame(path: &Path, position: u64) -> io::Result<Vec<u8>> {
    let _ = (path, position);
    todo!()
}
