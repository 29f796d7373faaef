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

use std::{
    fmt,
    io::{self, Read, Seek, SeekFrom, Write},
    ops::Range,
    path::Path,
};

use crate::fsx::{self, File};

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
    /// Creates `path` (which must not exist) and makes its name durable.
    ///
    /// # Errors
    /// As the file system says.
    pub fn create(path: &Path, kind: [u8; 4]) -> io::Result<Self> {
        let compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
        let mut file = File::create_new(path)?;
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

/// What reading a file came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FrameReport {
    pub whole: u64,
    /// Bytes of the file.
    pub len: u64,
    /// Byte ranges that hold no whole frame (damage, or a torn end), in order, none empty.
    pub damaged: Vec<Range<u64>>,
    /// The last of `damaged` is what a write that never ended leaves: less than a head, or a good
    /// head with less behind it than it says. Nothing of it was ever durable.
    pub torn: bool,
}

/// Visits every whole frame (position, payload) in order, whatever is damaged between them.
/// Holds one frame in memory at a time.
///
/// # Errors
/// Where the file cannot be read at all, is of another kind, or of an unknown version.
pub fn read_frames(
    path: &Path,
    kind: [u8; 4],
    visit: &mut dyn FnMut(u64, &[u8]),
) -> io::Result<FrameReport> {
    let mut file = File::open(path)?;
    let end = file.byte_len()?;
    let mut report = FrameReport {
        len: end,
        torn: end < HEADER_LEN,
        ..FrameReport::default()
    };
    let mut decompressor = Decompressor::new()?;
    // Where the damage that is being passed over began.
    let mut damaged_from = None;
    let mut at = match read_header(&mut file, end, kind)? {
        Header::Whole => HEADER_LEN,
        Header::Damaged => {
            damaged_from = Some(0);
            // A torn header is all there is; behind a damaged one the first frame is in its place.
            HEADER_LEN.min(end)
        }
    };
    while at < end {
        let loaded = load(&mut file, at, end, kind, &mut decompressor)?;
        let cut_short = end - at < HEAD_LEN || matches!(loaded, Load::Torn);
        report.torn = damaged_from.is_none() && cut_short;
        let next = match loaded {
            Load::Whole { next } => {
                report
                    .damaged
                    .extend(damaged_from.take().map(|from| from..at));
                report.whole += 1;
                visit(at, &decompressor.payload);
                at = next;
                continue;
            }
            Load::BadPayload { next } => next,
            Load::Torn => end,
            Load::NoFrame => find_frame(&mut file, at + 1, end, kind)?,
        };
        damaged_from.get_or_insert(at);
        at = next;
    }
    report.damaged.extend(
        damaged_from
            .map(|from| from..end)
            .filter(|range| !range.is_empty()),
    );
    Ok(report)
}

/// Reads one frame at a known position.
///
/// # Errors
/// Where there is no whole frame.
pub fn read_frame(path: &Path, kind: [u8; 4], position: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let end = file.byte_len()?;
    let mut decompressor = Decompressor::new()?;
    match load(&mut file, position, end, kind, &mut decompressor)? {
        Load::Whole { .. } => Ok(decompressor.payload),
        Load::BadPayload { .. } | Load::Torn | Load::NoFrame => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("no whole frame at byte {position} of {}", path.display()),
        )),
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

struct Head {
    length: u64,
    payload_crc: u32,
}

impl Head {
    fn parse(bytes: &[u8; HEAD_LEN as usize], kind: [u8; 4], position: u64) -> Option<Self> {
        let seed = Seed::new(kind, position);
        let good = bytes[..12] == MARKER && seed.crc(&bytes[12..16]) == word(bytes, 16);
        good.then(|| Self {
            length: u64::from(word(bytes, 12)),
            payload_crc: word(bytes, 20),
        })
    }
}

struct Decompressor {
    inner: zstd::bulk::Decompressor<'static>,
    compressed: Vec<u8>,
    payload: Vec<u8>,
}

impl Decompressor {
    fn new() -> io::Result<Self> {
        Ok(Self {
            inner: zstd::bulk::Decompressor::new()?,
            compressed: Vec::new(),
            payload: Vec::new(),
        })
    }
}

enum Load {
    /// The payload is in the decompressor.
    Whole {
        next: u64,
    },
    /// The head is good, so the length is too: the next frame is known without a search.
    BadPayload {
        next: u64,
    },
    /// The head is good, and the file ends before its payload does.
    Torn,
    NoFrame,
}

fn load(
    file: &mut File,
    position: u64,
    end: u64,
    kind: [u8; 4],
    decompressor: &mut Decompressor,
) -> io::Result<Load> {
    if position < HEADER_LEN || end.saturating_sub(position) < HEAD_LEN {
        return Ok(Load::NoFrame);
    }
    let mut head = [0; HEAD_LEN as usize];
    file.seek(SeekFrom::Start(position))?;
    file.read_exact(&mut head)?;
    let Some(head) = Head::parse(&head, kind, position) else {
        return Ok(Load::NoFrame);
    };
    let next = position + HEAD_LEN + head.length;
    if next > end {
        return Ok(Load::Torn);
    }
    let length = usize::try_from(head.length).expect("the length came from a u32");
    decompressor.compressed.resize(length, 0);
    file.read_exact(&mut decompressor.compressed)?;
    if Seed::new(kind, position).crc(&decompressor.compressed) != head.payload_crc {
        return Ok(Load::BadPayload { next });
    }
    let size = zstd::zstd_safe::get_frame_content_size(&decompressor.compressed)
        .ok()
        .flatten()
        .and_then(|size| usize::try_from(size).ok())
        .filter(|size| *size <= PAYLOAD_BYTES_MAX);
    let Some(size) = size else {
        return Ok(Load::BadPayload { next });
    };
    decompressor.payload.clear();
    decompressor.payload.reserve(size);
    let decompressed = decompressor
        .inner
        .decompress_to_buffer(&decompressor.compressed, &mut decompressor.payload);
    Ok(match decompressed {
        Ok(found) if found == size => Load::Whole { next },
        _ => Load::BadPayload { next },
    })
}

/// The first position at or behind `from` with a good frame head; `end` where there is none.
fn find_frame(file: &mut File, from: u64, end: u64, kind: [u8; 4]) -> io::Result<u64> {
    const WINDOW: usize = 256 * 1024;
    let finder = memchr::memmem::Finder::new(&MARKER);
    let mut window = Vec::new();
    let mut at = from;
    while end.saturating_sub(at) >= HEAD_LEN {
        let length = WINDOW.min(usize::try_from(end - at).unwrap_or(WINDOW));
        window.resize(length, 0);
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut window)?;
        for hit in finder.find_iter(&window) {
            let position = at + hit as u64;
            if let Some(Ok(bytes)) = window
                .get(hit..hit + HEAD_LEN as usize)
                .map(<&[u8; HEAD_LEN as usize]>::try_from)
                && Head::parse(bytes, kind, position).is_some()
            {
                return Ok(position);
            }
        }
        // A head may lie across the window's end; the last one of the file may not.
        at += (length - HEAD_LEN as usize + 1) as u64;
    }
    Ok(end)
}

enum Header {
    Whole,
    Damaged,
}

/// A header is believed only with its CRC: then another kind or version is an error.
fn read_header(file: &mut File, end: u64, kind: [u8; 4]) -> io::Result<Header> {
    if end < HEADER_LEN {
        return Ok(Header::Damaged);
    }
    let mut bytes = [0; HEADER_LEN as usize];
    file.read_exact(&mut bytes)?;
    let skip = HEADER_SKIP.len();
    // The first version had nothing before its magic; it is known to be another.
    let header = &bytes[if bytes.starts_with(&MAGIC) { 0 } else { skip }..][..20];
    if header[..8] != MAGIC || crc32c::crc32c(&header[..16]) != word(header, 16) {
        return Ok(Header::Damaged);
    }
    let fault = |message| Err(io::Error::new(io::ErrorKind::InvalidData, message));
    if header[8..12] != kind {
        return fault(format!(
            "the file is of kind `{}`, expected `{}`",
            header[8..12].escape_ascii(),
            kind.escape_ascii()
        ));
    }
    match word(header, 12) {
        VERSION if bytes[..skip] == HEADER_SKIP => Ok(Header::Whole),
        VERSION => Ok(Header::Damaged),
        found => fault(format!(
            "the file has format version {found}, known is {VERSION}"
        )),
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

fn word(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_be_bytes(word)
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
