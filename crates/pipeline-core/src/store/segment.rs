//! The bytes of one segment: zstd frames of NDJSON, then a skippable frame with the trailer.
//!
//! ```text
//! data      one zstd frame with its checksum (nothing at all where no record is stored)
//! frame     0x184D2A50, length of what follows (both u32, little-endian): zstd skips it
//!   trailer   see `codec`
//!   footer    16 bytes: length of the trailer (u32), its CRC-32C (u32), both little-endian,
//!             and "SLUICEND"
//! ```
//! The footer never changes, so that the trailer is found from the file's end whatever its
//! version. Every byte is covered: the data by its SHA-256 in the trailer, the trailer by the
//! CRC-32C (and by the next segment's link), the rest by having exactly one right value.
//! Nothing here knows a directory or decides what a record becomes.

use std::{cell::RefCell, fs::File, io, os::unix::fs::FileExt, path::Path};

use sha2::{Digest, Sha256};
use zstd::{bulk::Compressor, zstd_safe::CParameter};

use super::{
    codec,
    records::Data,
    trailer::{FateRun, LastMessage, Link, SegmentHash, StoredRun, Totals, Trailer},
};
use crate::{fsx, ids::Offset};

/// The level that `Draft::encode` is meant to be called with.
pub const LEVEL: i32 = 1;
/// Longest NDJSON of one segment, so that no reader is asked for more memory.
pub const PLAIN_BYTES_MAX: u64 = 1 << 30;

const FRAME_MAGIC: u32 = 0x184D_2A50;
const FRAME_HEAD_LEN: usize = 8;
const FOOTER_MAGIC: [u8; 8] = *b"SLUICEND";
const FOOTER_LEN: usize = 16;
/// The first read at the end of a file; most trailers are shorter.
const TAIL_LEN: u64 = 4096;
/// Data is read in pieces of at most so much where it is only looked at.
const PIECE_LEN: u64 = 128 << 10;
pub(super) const OTHER_HASH: &str = "data does not have the hash that the trailer holds";

/// What the caller says of a segment; the rest of the trailer is computed.
#[derive(Clone, Debug)]
pub struct Draft {
    pub first: Offset,
    /// Exclusive.
    pub next: Offset,
    /// `None` for the first segment of a chain.
    pub previous: Option<Link>,
    /// Id of the writing process.
    pub writer: [u8; 16],
    /// Covers `[first, next)` without a gap.
    pub fates: Vec<FateRun>,
    /// Covers the stored offsets, in order.
    pub stored: Vec<StoredRun>,
    /// The totals of the chain before this segment.
    pub totals_before: Totals,
    /// Where no message was seen in this segment: that of the segment before.
    pub last: Option<LastMessage>,
}

/// A whole segment file in memory.
#[derive(Clone, Debug)]
pub struct Encoded {
    pub bytes: Vec<u8>,
    pub hash: SegmentHash,
    pub trailer: Trailer,
}

impl Encoded {
    /// What the next segment names as the one before it.
    #[must_use]
    pub fn link(&self) -> Link {
        Link {
            first: self.trailer.first,
            hash: self.hash,
        }
    }
}

/// Why a segment cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The file system's trouble; says nothing of the data.
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}")]
    Damaged(String),
}

impl Draft {
    /// Compresses `ndjson` (each line with its `\n`) and appends the trailer.
    ///
    /// # Panics
    /// Where the draft contradicts itself (runs that do not cover the range): a bug of the caller.
    #[must_use]
    pub fn encode(&self, ndjson: &[u8], level: i32) -> Encoded {
        let mut bytes = if ndjson.is_empty() {
            Vec::new()
        } else {
            compress(ndjson, level)
        };
        let mut totals = self.totals_before;
        for run in &self.fates {
            totals.add(run.fate, run.count);
        }
        let trailer = Trailer {
            first: self.first,
            next: self.next,
            previous: self.previous,
            writer: self.writer,
            fates: self.fates.clone(),
            stored: self.stored.clone(),
            totals,
            last: self.last,
            data_len: bytes.len() as u64,
            data_sha256: Sha256::digest(&bytes).into(),
            plain_len: ndjson.len() as u64,
        };
        if let Err(error) = trailer.check() {
            panic!("a segment's draft contradicts itself: {error}");
        }
        debug_assert_eq!(
            memchr::memchr_iter(b'\n', ndjson).count() as u64,
            trailer.own_totals().stored,
            "one line for each stored record"
        );
        let encoded = codec::encode(&trailer);
        let trailer_len = u32::try_from(encoded.len()).expect("a trailer is far below 4 GiB");
        bytes.reserve(FRAME_HEAD_LEN + encoded.len() + FOOTER_LEN);
        bytes.extend_from_slice(&FRAME_MAGIC.to_le_bytes());
        bytes.extend_from_slice(&(trailer_len + FOOTER_LEN as u32).to_le_bytes());
        bytes.extend_from_slice(&encoded);
        bytes.extend_from_slice(&trailer_len.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&encoded).to_le_bytes());
        bytes.extend_from_slice(&FOOTER_MAGIC);
        Encoded {
            bytes,
            hash: SegmentHash(Sha256::digest(&encoded).into()),
            trailer,
        }
    }
}

/// Reads only the trailer of an open file (one or two small reads at its end).
///
/// # Errors
/// What is wrong with it.
pub fn read_trailer(file: &File) -> Result<(Trailer, SegmentHash), SegmentError> {
    let fail = |detail: String| Err(SegmentError::Damaged(detail));
    let file_len = file.metadata()?.len();
    let overhead = (FRAME_HEAD_LEN + FOOTER_LEN) as u64;
    if file_len < overhead {
        return fail(format!("{file_len} bytes are too few for a segment"));
    }
    let mut tail = vec![0; file_len.min(TAIL_LEN) as usize];
    read_at(file, &mut tail, file_len - file_len.min(TAIL_LEN))?;

    let footer = &tail[tail.len() - FOOTER_LEN..];
    if footer[8..] != FOOTER_MAGIC {
        return fail("does not end with a segment's footer (cut off?)".to_owned());
    }
    let trailer_len = u64::from(le_u32(&footer[..4]));
    let crc = le_u32(&footer[4..8]);
    let frame_len = trailer_len + overhead;
    if frame_len > file_len {
        return fail(format!(
            "footer claims a trailer of {trailer_len} bytes in a file of {file_len}"
        ));
    }
    if frame_len > tail.len() as u64 {
        tail = vec![0; frame_len as usize];
        read_at(file, &mut tail, file_len - frame_len)?;
    }
    let frame = &tail[tail.len() - frame_len as usize..];
    if le_u32(&frame[..4]) != FRAME_MAGIC
        || u64::from(le_u32(&frame[4..8])) != trailer_len + FOOTER_LEN as u64
    {
        return fail("the trailer's frame has a wrong head".to_owned());
    }
    let encoded = &frame[FRAME_HEAD_LEN..frame.len() - FOOTER_LEN];
    let found = crc32c::crc32c(encoded);
    if found != crc {
        return fail(format!(
            "trailer has checksum {found:08x}, expected {crc:08x}"
        ));
    }
    let trailer = codec::decode(encoded)?;
    trailer.check()?;
    if trailer.data_len + frame_len != file_len {
        return fail(format!(
            "{} bytes of data and {frame_len} of trailer in a file of {file_len}",
            trailer.data_len
        ));
    }
    Ok((trailer, SegmentHash(Sha256::digest(encoded).into())))
}

/// Reads and checks a whole segment: trailer, data hash, plain length, line count.
///
/// # Errors
/// What is wrong with it.
pub fn read_segment(path: &Path) -> Result<(Trailer, SegmentHash, Vec<u8>), SegmentError> {
    let fail = |detail: String| Err(SegmentError::Damaged(detail));
    let file = fsx::open(path)?;
    let (trailer, hash) = read_trailer(&file)?;
    let mut ndjson = vec![0; trailer.plain_len as usize];
    let mut data = Data::new(file, &trailer)?;
    let mut at = 0;
    // Room to find more than is expected in, which is an error.
    let mut behind = [0];
    while let Some(made) = match &mut ndjson[at..] {
        [] => data.more(&mut behind)?,
        room => data.more(room)?,
    } {
        at += made;
    }
    let stored = trailer.own_totals().stored;
    let lines = memchr::memchr_iter(b'\n', &ndjson).count() as u64;
    if lines != stored || ndjson.last().is_some_and(|last| *last != b'\n') {
        return fail(format!("{lines} whole lines, the trailer says {stored}"));
    }
    Ok((trailer, hash, ndjson))
}

/// That the data of an open file has the hash that its trailer holds.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check_data(file: &File, trailer: &Trailer) -> Result<(), SegmentError> {
    let mut piece = vec![0; trailer.data_len.min(PIECE_LEN) as usize];
    let mut hash = Sha256::new();
    let mut at = 0;
    while at < trailer.data_len {
        let len = (trailer.data_len - at).min(PIECE_LEN) as usize;
        read_at(file, &mut piece[..len], at)?;
        hash.update(&piece[..len]);
        at += len as u64;
    }
    if <[u8; 32]>::from(hash.finalize()) == trailer.data_sha256 {
        return Ok(());
    }
    Err(SegmentError::Damaged(OTHER_HASH.to_owned()))
}

/// Contexts are large (about 1 MB) and segments small: one per thread is kept.
fn compress(ndjson: &[u8], level: i32) -> Vec<u8> {
    thread_local! {
        static KEPT: RefCell<Option<(i32, Compressor<'static>)>> = const { RefCell::new(None) };
    }
    KEPT.with_borrow_mut(|kept| {
        if kept.as_ref().is_none_or(|(kept, _)| *kept != level) {
            let mut new = Compressor::new(level).expect("zstd makes a context");
            new.set_parameter(CParameter::ChecksumFlag(true))
                .expect("zstd knows checksums");
            *kept = Some((level, new));
        }
        let (_, compressor) = kept.as_mut().expect("made above");
        compressor
            .compress(ndjson)
            .expect("zstd compresses into a buffer of its own bound")
    })
}

fn read_at(file: &File, into: &mut [u8], at: u64) -> Result<(), SegmentError> {
    file.read_exact_at(into, at)
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                SegmentError::Damaged("file became shorter while it was read".to_owned())
            }
            _ => SegmentError::Io(error),
        })
}

fn le_u32(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("four bytes"))
}
