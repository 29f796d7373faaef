//! Reading framed files: every whole frame, whatever is damaged between them. Changes nothing.

use std::{
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
    path::Path,
};

use super::{HEAD_LEN, HEADER_LEN, HEADER_SKIP, MAGIC, MARKER, PAYLOAD_BYTES_MAX, Seed, VERSION};
use crate::fsx::File;

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

impl FrameReport {
    /// Of `damaged` what is more than a torn end. Of an empty file, which is torn too, there is none.
    #[must_use]
    pub fn damage(&self) -> &[Range<u64>] {
        let torn = usize::from(self.torn);
        &self.damaged[..self.damaged.len().saturating_sub(torn)]
    }
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

fn word(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_be_bytes(word)
}
