//! gzip: headers and trailers around deflate (<https://www.rfc-editor.org/rfc/rfc1952>).

use flate2::{Crc, Decompress};

use super::{Corrupt, Room, corrupt, inflate};

/// Longest gzip header (it may hold a file name and a comment of any length).
const HEADER_BYTES_MAX: usize = 4096;

/// Members one behind the other (RFC 1952).
pub(super) struct Gzip {
    place: Place,
    /// Of a header or a trailer that has not come whole.
    pending: Vec<u8>,
    inner: Decompress,
    crc: Crc,
    members: u64,
}

enum Place {
    Header,
    Data,
    Trailer,
}

impl Gzip {
    pub(super) fn new() -> Self {
        Self {
            place: Place::Header,
            pending: Vec::new(),
            inner: Decompress::new(false),
            crc: Crc::new(),
            members: 0,
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        matches!(self.place, Place::Header) && self.pending.is_empty() && self.members > 0
    }

    pub(super) fn run(&mut self, all: &[u8], out: &mut Room<'_>) -> Result<usize, Corrupt> {
        let mut input = all;
        loop {
            match self.place {
                Place::Header | Place::Trailer if input.is_empty() => break,
                Place::Header => {
                    let had = self.pending.len();
                    let take = input.len().min(HEADER_BYTES_MAX - had);
                    self.pending.extend_from_slice(&input[..take]);
                    match header_len(&self.pending)? {
                        Some(len) => {
                            input = &input[len - had..];
                            self.pending.clear();
                            self.place = Place::Data;
                        }
                        None if self.pending.len() == HEADER_BYTES_MAX => {
                            return Err(corrupt("its header is too long"));
                        }
                        None => return Ok(all.len()),
                    }
                }
                Place::Data => {
                    let before = out.made;
                    let (used, ended) = inflate(&mut self.inner, input, out)?;
                    self.crc.update(&out.out[before..out.made]);
                    input = &input[used..];
                    if ended {
                        self.place = Place::Trailer;
                    } else if input.is_empty() || out.is_full() {
                        break;
                    }
                }
                Place::Trailer => {
                    let take = input.len().min(8 - self.pending.len());
                    self.pending.extend_from_slice(&input[..take]);
                    input = &input[take..];
                    if let Some(trailer) = self.pending.first_chunk::<8>() {
                        let [crc @ .., l0, l1, l2, l3] = *trailer;
                        if u32::from_le_bytes(crc) != self.crc.sum()
                            || u32::from_le_bytes([l0, l1, l2, l3]) != self.crc.amount()
                        {
                            return Err(corrupt("its checksum differs"));
                        }
                        self.pending.clear();
                        self.crc.reset();
                        self.inner.reset(false);
                        self.members += 1;
                        self.place = Place::Header;
                    }
                }
            }
        }
        Ok(all.len() - input.len())
    }
}

/// The length of the header that `bytes` begins with; `None` where more must come.
fn header_len(bytes: &[u8]) -> Result<Option<usize>, Corrupt> {
    const FHCRC: u8 = 2;
    const FEXTRA: u8 = 4;
    const FNAME: u8 = 8;
    const FCOMMENT: u8 = 16;
    let magic = [0x1f, 0x8b, 8];
    let known = bytes.len().min(magic.len());
    if bytes[..known] != magic[..known] {
        return Err(corrupt("a member does not begin with 1f 8b 08"));
    }
    let Some(fixed) = bytes.first_chunk::<10>() else {
        return Ok(None);
    };
    let flags = fixed[3];
    if flags & 0xe0 != 0 {
        return Err(corrupt("a member has reserved flags"));
    }
    let mut len = fixed.len();
    if flags & FEXTRA != 0 {
        let Some(&[low, high]) = bytes.get(len..len + 2) else {
            return Ok(None);
        };
        len += 2 + usize::from(u16::from_le_bytes([low, high]));
    }
    for text in [FNAME, FCOMMENT] {
        if flags & text != 0 {
            let rest = bytes.get(len..).unwrap_or_default();
            let Some(end) = memchr::memchr(0, rest) else {
                return Ok(None);
            };
            len += end + 1;
        }
    }
    if flags & FHCRC != 0 {
        let Some(&[low, high]) = bytes.get(len..len + 2) else {
            return Ok(None);
        };
        let mut crc = Crc::new();
        crc.update(&bytes[..len]);
        if u32::from(u16::from_le_bytes([low, high])) != crc.sum() & 0xffff {
            return Err(corrupt("a header's checksum differs"));
        }
        len += 2;
    }
    Ok((len <= bytes.len()).then_some(len))
}
