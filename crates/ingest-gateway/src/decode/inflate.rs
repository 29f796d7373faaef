//! Decompression as the bytes come, into room that the caller gives: never more than that at once,
//! so a bomb costs what its caller takes. Whatever is left over, cut off or damaged is an error.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use brotli_decompressor::{
    Allocator, BrotliDecompressStream, BrotliResult, BrotliState, HuffmanCode, SliceWrapper,
    StandardAlloc,
};
use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, InBuffer, Operation, OutBuffer};

use super::Encoding;

mod gzip;

use gzip::Gzip;

/// The window that a decoder must allow (RFC 8878, section 3.1.1.1.2) and that a content encoding
/// may use at most (RFC 9659): 8 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// What one who inflates deflate keeps: the window and tables.
const DEFLATE_BYTES: usize = 48 * 1024;

/// Why a body cannot be decompressed: 400.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the body is not {encoding}: {why}")]
pub struct InflateError {
    pub encoding: &'static str,
    pub why: String,
}

/// Decompresses one body.
pub struct Inflater {
    encoding: Encoding,
    state: State,
}

enum State {
    Identity,
    Gzip(Gzip),
    Deflate(Deflate),
    Brotli(Box<Brotli>),
    Zstd(Box<Zstd>),
}

/// How many bytes of the body were taken, and how many were made of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moved {
    pub taken: usize,
    pub made: usize,
}

/// Where decoded bytes go.
struct Room<'o> {
    out: &'o mut [u8],
    made: usize,
}

/// What went wrong inside of a decoder.
struct Corrupt(String);

impl Inflater {
    #[must_use]
    pub fn new(encoding: Encoding) -> Self {
        let state = match encoding {
            Encoding::Identity => State::Identity,
            Encoding::Gzip => State::Gzip(Gzip::new()),
            Encoding::Deflate => State::Deflate(Deflate::Head(Vec::new())),
            Encoding::Brotli => State::Brotli(Box::new(Brotli::new())),
            Encoding::Zstd => State::Zstd(Box::default()),
        };
        Self { encoding, state }
    }

    /// Takes of the next bytes of the body, `input`, as many as there is room in `out` for what
    /// they hold. All that was taken is out where room is left.
    ///
    /// # Errors
    /// Nothing more of the body can be read then. Damage may be found before what stands in front
    /// of it is out: a decoder runs ahead, by up to its window, of the room that it is given.
    pub fn run(&mut self, input: &[u8], out: &mut [u8]) -> Result<Moved, InflateError> {
        let mut out = Room { out, made: 0 };
        let result = match &mut self.state {
            State::Identity => Ok(identity(input, &mut out)),
            State::Gzip(gzip) => gzip.run(input, &mut out),
            State::Deflate(deflate) => deflate.run(input, &mut out),
            State::Brotli(brotli) => brotli.run(input, &mut out),
            State::Zstd(zstd) => zstd.run(input, &mut out),
        };
        let taken = result.map_err(|Corrupt(why)| self.corrupt(why))?;
        let made = out.made;
        Ok(Moved { taken, made })
    }

    /// The body has ended.
    ///
    /// # Errors
    /// Where it was cut off.
    pub fn finish(&self) -> Result<(), InflateError> {
        let whole = match &self.state {
            State::Identity => true,
            State::Gzip(gzip) => gzip.is_whole(),
            State::Deflate(deflate) => matches!(deflate, Deflate::End),
            State::Brotli(brotli) => brotli.ended,
            State::Zstd(zstd) => zstd.between_frames && zstd.started,
        };
        if whole {
            Ok(())
        } else {
            Err(self.corrupt("it is cut off".to_owned()))
        }
    }

    /// The window that it has or may come to have, in bytes.
    #[must_use]
    pub fn window_bytes(&self) -> usize {
        match &self.state {
            State::Identity => 0,
            State::Gzip(_) | State::Deflate(_) => DEFLATE_BYTES,
            State::Brotli(brotli) => brotli.window_bytes,
            State::Zstd(_) => 1 << ZSTD_WINDOW_LOG_MAX,
        }
    }

    /// Bytes of prefix codes, where a body may have as many as it likes.
    #[must_use]
    pub fn codes_bytes(&self) -> usize {
        match &self.state {
            State::Brotli(brotli) => brotli.codes.0.load(Ordering::Relaxed),
            _ => 0,
        }
    }

    fn corrupt(&self, why: String) -> InflateError {
        InflateError {
            encoding: self.encoding.name(),
            why,
        }
    }
}

impl Room<'_> {
    fn left(&mut self) -> &mut [u8] {
        &mut self.out[self.made..]
    }

    fn is_full(&self) -> bool {
        self.made == self.out.len()
    }
}

fn identity(input: &[u8], out: &mut Room<'_>) -> usize {
    let left = out.left();
    let len = input.len().min(left.len());
    left[..len].copy_from_slice(&input[..len]);
    out.made += len;
    len
}

/// zlib (RFC 1950), as HTTP defines `deflate`; or raw (RFC 1951), as some clients send it.
enum Deflate {
    /// Too few bytes to tell these apart.
    Head(Vec<u8>),
    Data(Decompress),
    End,
}

impl Deflate {
    fn run(&mut self, input: &[u8], out: &mut Room<'_>) -> Result<usize, Corrupt> {
        let mut used = 0;
        if let Self::Head(head) = self {
            used = input.len().min(2 - head.len());
            head.extend_from_slice(&input[..used]);
            let &[method, flags, ..] = head.as_slice() else {
                return Ok(used);
            };
            let check = u16::from_be_bytes([method, flags]);
            let zlib = method & 0x0f == 8 && method >> 4 <= 7 && check.is_multiple_of(31);
            let mut inner = Decompress::new(zlib);
            // Two bytes are less than a symbol that would fill the room.
            let (taken, ended) = inflate(&mut inner, head, out)?;
            if taken < head.len() {
                return Err(corrupt("something stands behind its end"));
            }
            *self = if ended { Self::End } else { Self::Data(inner) };
        }
        if let Self::Data(inner) = self {
            let (taken, ended) = inflate(inner, &input[used..], out)?;
            used += taken;
            if ended {
                *self = Self::End;
            }
        }
        if matches!(self, Self::End) && used < input.len() {
            return Err(corrupt("something stands behind its end"));
        }
        Ok(used)
    }
}

/// Inflates what there is room for; says how much of `input` that was, and whether the stream has
/// ended.
fn inflate(
    inner: &mut Decompress,
    input: &[u8],
    out: &mut Room<'_>,
) -> Result<(usize, bool), Corrupt> {
    let mut used = 0;
    while !out.is_full() {
        let (in_before, out_before) = (inner.total_in(), inner.total_out());
        let status = inner
            .decompress(&input[used..], out.left(), FlushDecompress::None)
            .map_err(|error| corrupt(error.message().unwrap_or("damaged data")))?;
        let step = usize::try_from(inner.total_in() - in_before).expect("a part of `input`");
        let made = usize::try_from(inner.total_out() - out_before).expect("there was room");
        used += step;
        out.made += made;
        if status == Status::StreamEnd {
            return Ok((used, true));
        }
        if step == 0 && made == 0 {
            if used < input.len() {
                return Err(corrupt("it does not go on"));
            }
            break;
        }
    }
    Ok((used, false))
}

/// Counts the bytes of a stream's prefix codes: a thousand bytes of a body can ask for 3 MiB.
#[derive(Clone, Default)]
struct Codes(Arc<AtomicUsize>);

impl Allocator<HuffmanCode> for Codes {
    type AllocatedMemory = <StandardAlloc as Allocator<HuffmanCode>>::AllocatedMemory;

    fn alloc_cell(&mut self, len: usize) -> Self::AllocatedMemory {
        self.0
            .fetch_add(len * size_of::<HuffmanCode>(), Ordering::Relaxed);
        StandardAlloc::default().alloc_cell(len)
    }

    fn free_cell(&mut self, data: Self::AllocatedMemory) {
        self.0
            .fetch_sub(size_of_val(data.slice()), Ordering::Relaxed);
    }
}

struct Brotli {
    state: BrotliState<StandardAlloc, StandardAlloc, Codes>,
    codes: Codes,
    total_out: usize,
    window_bytes: usize,
    ended: bool,
}

impl Brotli {
    fn new() -> Self {
        let codes = Codes::default();
        Self {
            // Strict: windows of 16 MiB at most.
            state: BrotliState::new_strict(
                StandardAlloc::default(),
                StandardAlloc::default(),
                codes.clone(),
            ),
            codes,
            total_out: 0,
            window_bytes: 0,
            ended: false,
        }
    }

    fn run(&mut self, input: &[u8], out: &mut Room<'_>) -> Result<usize, Corrupt> {
        if let (0, Some(&first)) = (self.window_bytes, input.first()) {
            self.window_bytes = brotli_window(first);
        }
        let (mut left, mut used) = (input.len(), 0);
        if !self.ended {
            let out_left = out.left();
            let (mut room, mut made) = (out_left.len(), 0);
            let result = BrotliDecompressStream(
                &mut left,
                &mut used,
                input,
                &mut room,
                &mut made,
                out_left,
                &mut self.total_out,
                &mut self.state,
            );
            out.made += made;
            match result {
                BrotliResult::ResultSuccess => self.ended = true,
                BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
                BrotliResult::ResultFailure => return Err(corrupt("damaged data")),
            }
        }
        if self.ended && left > 0 {
            return Err(corrupt("something stands behind its end"));
        }
        Ok(used)
    }
}

/// The window that a stream's first byte names (RFC 7932, section 9.1).
fn brotli_window(first: u8) -> usize {
    let bits = match (first & 1, first >> 1 & 7, first >> 4 & 7) {
        (0, ..) => 16,
        (_, 0, 0) => 17,
        (_, 0, short) => 8 + short,
        (_, long, _) => 17 + long,
    };
    1 << bits
}

/// Frames one behind the other (RFC 8878).
#[derive(Default)]
struct Zstd {
    inner: Option<ZstdDecoder<'static>>,
    started: bool,
    between_frames: bool,
}

impl Zstd {
    fn run(&mut self, input: &[u8], out: &mut Room<'_>) -> Result<usize, Corrupt> {
        let inner = match &mut self.inner {
            Some(inner) => inner,
            none => {
                let mut inner = ZstdDecoder::new().map_err(|error| damaged(&error))?;
                inner
                    .set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))
                    .map_err(|error| damaged(&error))?;
                none.insert(inner)
            }
        };
        let mut input = InBuffer::around(input);
        while !out.is_full() {
            // Asked between frames for nothing, it would begin one.
            if self.between_frames && input.pos == input.src.len() {
                break;
            }
            let before = input.pos;
            let mut buffer = OutBuffer::around(out.left());
            let wanted = inner
                .run(&mut input, &mut buffer)
                .map_err(|error| damaged(&error))?;
            let made = buffer.pos();
            out.made += made;
            self.started |= input.pos > 0;
            self.between_frames = wanted == 0;
            if made == 0 && before == input.pos {
                if input.pos < input.src.len() {
                    return Err(corrupt("it does not go on"));
                }
                break;
            }
        }
        Ok(input.pos)
    }
}

fn corrupt(why: &str) -> Corrupt {
    Corrupt(why.to_owned())
}

fn damaged(error: &std::io::Error) -> Corrupt {
    Corrupt(error.to_string())
}
