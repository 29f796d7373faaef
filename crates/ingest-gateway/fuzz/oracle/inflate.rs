//! Decompression, beside reference readers.

use std::io::{Read, Write};

use flate2::{Compression, read, write};
use ingest_gateway::decode::{Encoding, Inflater};

use super::Options;

/// Beyond this it is a bomb: cut off.
const OUT_MAX: usize = 1 << 20;
/// A larger window is filled in vain before anything is cut off, which costs a fuzzer a second:
/// only every so manieth input may have one.
const WINDOW_BYTES_MAX: usize = 1 << 18;
const LARGE_WINDOW_EVERY: u8 = 16;

pub fn inflate(data: &[u8]) {
    let Some((mut options, wire)) = Options::of(data) else {
        return;
    };
    let encoding = match data[0] & 3 {
        0 => Encoding::Gzip,
        1 => Encoding::Zstd,
        2 => Encoding::Brotli,
        _ => Encoding::Deflate,
    };
    if encoding == Encoding::Brotli && !data[1].is_multiple_of(LARGE_WINDOW_EVERY) {
        let mut inflater = Inflater::new(encoding);
        let first = inflater.run(&wire[..wire.len().min(1)], &mut []);
        if first.is_ok() && inflater.window_bytes() > WINDOW_BYTES_MAX {
            return;
        }
    }
    let whole = run(encoding, wire, || (usize::MAX, 64 * 1024));
    let pieces = run(encoding, wire, || {
        (options.cuts.usize(1..40), options.cuts.usize(1..300))
    });
    assert!(
        whole.is_like(&pieces),
        "{encoding:?}: {whole:?} but in pieces {pieces:?}"
    );
    if let End::Whole = whole.end
        && let Some(theirs) = reference(encoding, wire)
    {
        assert!(
            whole.made == theirs,
            "{encoding:?} differs from the reference"
        );
    }
    if let Some(compressed) = compressed(encoding, wire) {
        let back = run(encoding, &compressed, || {
            (options.cuts.usize(1..100), options.cuts.usize(1..5000))
        });
        assert!(
            back.end == End::Whole && back.made == wire,
            "{encoding:?}: there and back"
        );
    }
}

struct Outcome {
    made: Vec<u8>,
    end: End,
}

#[derive(PartialEq, Eq, Debug)]
enum End {
    Whole,
    Corrupt,
    TooLong,
}

impl Outcome {
    /// Both refused, or both the same text. A body that is too long and damaged behind that may be
    /// refused for either: a decoder runs ahead of the room that it is given (brotli by its window,
    /// zstd by a frame that would fit), and how far, the pieces say. What was made before is of one
    /// text in any case.
    fn is_like(&self, other: &Self) -> bool {
        let len = self.made.len().min(other.made.len());
        let is_whole = |of: &Self| of.end == End::Whole;
        self.made[..len] == other.made[..len]
            && is_whole(self) == is_whole(other)
            && (!is_whole(self) || self.made.len() == other.made.len())
    }
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} after {} bytes", self.end, self.made.len())
    }
}

/// With pieces, and room for what they hold, as `sizes` says.
fn run(encoding: Encoding, mut wire: &[u8], mut sizes: impl FnMut() -> (usize, usize)) -> Outcome {
    let mut inflater = Inflater::new(encoding);
    let mut made = Vec::new();
    while !wire.is_empty() {
        let (piece, room) = sizes();
        let (mut piece, rest) = wire.split_at(piece.min(wire.len()));
        wire = rest;
        loop {
            let mut out = vec![0; room];
            let Ok(moved) = inflater.run(piece, &mut out) else {
                let end = End::Corrupt;
                return Outcome { made, end };
            };
            piece = &piece[moved.taken..];
            made.extend_from_slice(&out[..moved.made]);
            if made.len() > OUT_MAX {
                let end = End::TooLong;
                return Outcome { made, end };
            }
            if moved.made < room {
                assert!(piece.is_empty(), "it stops only where there is no room");
                break;
            }
        }
    }
    let end = match inflater.finish() {
        Ok(()) => End::Whole,
        Err(_) => End::Corrupt,
    };
    Outcome { made, end }
}

/// What another reader makes of it; `None` where it has no opinion.
fn reference(encoding: Encoding, wire: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let result = match encoding {
        Encoding::Gzip => read::MultiGzDecoder::new(wire).read_to_end(&mut out),
        Encoding::Zstd => zstd::Decoder::new(wire).ok()?.read_to_end(&mut out),
        Encoding::Brotli => {
            brotli_decompressor::Decompressor::new(wire, 4096).read_to_end(&mut out)
        }
        _ => match read::ZlibDecoder::new(wire).read_to_end(&mut out) {
            Err(_) => {
                out.clear();
                read::DeflateDecoder::new(wire).read_to_end(&mut out)
            }
            read => read,
        },
    };
    result.expect("what is whole for us is whole for others");
    Some(out)
}

fn compressed(encoding: Encoding, text: &[u8]) -> Option<Vec<u8>> {
    let done = match encoding {
        Encoding::Gzip => {
            let mut encoder = write::GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(text).and_then(|()| encoder.finish())
        }
        Encoding::Deflate => {
            let mut encoder = write::ZlibEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(text).and_then(|()| encoder.finish())
        }
        Encoding::Zstd => zstd::encode_all(text, 1),
        // We have no compressor for it.
        _ => return None,
    };
    Some(done.expect("writes to memory"))
}
