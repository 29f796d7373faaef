//! Framed, checksummed, append-only files: the base of both dead letter queues.
//!
//! A file is a header and frames, integers big-endian. Header and heads of frames lie in
//! skippable frames of zstd (RFC 8878, section 3.1.2), so that `zstdcat` shows the payloads alone:
//!
//! ```text
//! skip     50 2a 4d 18 · length of what follows, without the payload (u32, little-endian)
//! header   skip · magic "sluicefr" (8) · kind (4) · version (u32) · CRC-32C of these 16 bytes (u32)
//! frame    skip · marker (4) · length (u32) · head CRC (u32) · payload CRC (u32) · zstd payload
//! ```
//!
//! Both CRCs of a frame are CRC-32C and begin with the file's kind and version and the frame's
//! position; the head CRC covers the length behind these, the payload CRC the compressed payload.
//! So a reader that searches for the next marker behind damage takes neither a frame of another
//! file for one of this, nor bytes inside a payload for a frame; and a file whose header is
//! damaged still gives all its frames.
//!
//! What a payload means is its owner's business. This file never decides when to sync, and never
//! writes to a file that has failed once.

pub mod rate;
mod read;

use std::{
    fmt,
    io::{self, Write},
    path::Path,
};

pub use read::{FrameReport, read_frame, read_frames};

use crate::fsx::{self, Access, File};

const MAGIC: [u8; 8] = *b"sluicefr";
/// 1 was without skippable frames.
const VERSION: u32 = 2;
/// Bytes of a file before its first frame.
pub const HEADER_LEN: u64 = 28;
/// The marker with what stands before it. No byte of its last four is zero or text, so that
/// neither holes nor records look like one.
const MARKER: [u8; 12] = [0x50, 0x2a, 0x4d, 0x18, 16, 0, 0, 0, 0xf7, 0x1e, 0xd5, 0x9b];
const HEAD_LEN: u64 = 24;
/// What stands before the magic.
const HEADER_SKIP: [u8; 8] = [0x50, 0x2a, 0x4d, 0x18, 20, 0, 0, 0];
/// Fast, and two thirds of what a high level gains on access logs; the queue is a detour.
const ZSTD_LEVEL: i32 = 1;
/// Longest payload of one frame, before compression.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 30;

/// Appends frames to one file. Nothing is durable before [`FrameWriter::sync`].
pub struct FrameWriter {
    file: File,
    kind: [u8; 4],
    len: u64,
    /// A write or sync has failed: what stands behind `len` is unknown.
    failed: bool,
    compressor: zstd::bulk::Compressor<'static>,
    frame: Vec<u8>,
}

impl FrameWriter {
    /// Creates `path` (which must not exist) and makes its name durable. It holds customers'
    /// records: its owner alone may read it.
    ///
    /// # Errors
    /// As the file system says.
    pub fn create(path: &Path, kind: [u8; 4]) -> io::Result<Self> {
        let compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
        let mut file = File::create_new(path, Access::Owner)?;
        file.write_all(&header(kind))?;
        file.sync_all()?;
        fsx::sync_dir(parent(path))?;
        Ok(Self {
            file,
            kind,
            len: HEADER_LEN,
            failed: false,
            compressor,
            frame: Vec::new(),
        })
    }

    /// Appends one frame; gives its position. After an error the file is not appended to again:
    /// start a new one.
    ///
    /// # Errors
    /// As the file system says; a payload over [`PAYLOAD_BYTES_MAX`]; any call after an error.
    pub fn append(&mut self, payload: &[u8]) -> io::Result<u64> {
        self.refuse_after_error()?;
        if payload.len() > PAYLOAD_BYTES_MAX {
            // Nothing has been written: the file is still good.
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "a frame's payload has {} bytes, allowed are {PAYLOAD_BYTES_MAX}",
                    payload.len()
                ),
            ));
        }
        let head_len = HEAD_LEN as usize;
        self.frame.clear();
        self.frame
            .resize(head_len + zstd::zstd_safe::compress_bound(payload.len()), 0);
        let compressed = self
            .compressor
            .compress_to_buffer(payload, &mut self.frame[head_len..])?;
        self.frame.truncate(head_len + compressed);

        let position = self.len;
        let seed = Seed::new(self.kind, position);
        let length = u32::try_from(compressed)
            .expect("a compressed gibibyte is shorter than four")
            .to_be_bytes();
        let payload_crc = seed.crc(&self.frame[head_len..]).to_be_bytes();
        self.frame[..12].copy_from_slice(&MARKER);
        self.frame[12..16].copy_from_slice(&length);
        self.frame[16..20].copy_from_slice(&seed.crc(&length).to_be_bytes());
        self.frame[20..24].copy_from_slice(&payload_crc);

        let written = self.file.write_all(&self.frame);
        self.failed = written.is_err();
        written?;
        self.len += self.frame.len() as u64;
        Ok(position)
    }

    /// Makes all appended frames durable.
    ///
    /// # Errors
    /// As the file system says; a failed sync is never tried again on the same file, each further
    /// call is an error.
    pub fn sync(&mut self) -> io::Result<()> {
        self.refuse_after_error()?;
        let synced = self.file.sync_data();
        self.failed = synced.is_err();
        synced
    }

    /// Most bytes that a payload of `len` bytes takes in a file.
    #[must_use]
    pub fn frame_len_max(len: usize) -> u64 {
        HEAD_LEN + zstd::zstd_safe::compress_bound(len) as u64
    }

    /// Bytes of the file, its header included.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// No frame has been appended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == HEADER_LEN
    }

    fn refuse_after_error(&self) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other(
                "an earlier write or sync of this file failed, a new file is needed",
            ));
        }
        Ok(())
    }
}

impl fmt::Debug for FrameWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameWriter")
            .field("file", &self.file)
            .field("len", &self.len)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

/// What both CRCs of a frame begin with.
#[derive(Clone, Copy)]
struct Seed(u32);

impl Seed {
    fn new(kind: [u8; 4], position: u64) -> Self {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&kind);
        bytes[4..8].copy_from_slice(&VERSION.to_be_bytes());
        bytes[8..].copy_from_slice(&position.to_be_bytes());
        Self(crc32c::crc32c(&bytes))
    }

    fn crc(self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(self.0, bytes)
    }
}

fn header(kind: [u8; 4]) -> [u8; HEADER_LEN as usize] {
    let mut bytes = [0; HEADER_LEN as usize];
    bytes[..8].copy_from_slice(&HEADER_SKIP);
    bytes[8..16].copy_from_slice(&MAGIC);
    bytes[16..20].copy_from_slice(&kind);
    bytes[20..24].copy_from_slice(&VERSION.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[8..24]);
    bytes[24..].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// A bare file name lies in the working directory.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests;
