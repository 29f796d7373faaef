//! Decompression as the bytes come: each write gives what it can, and never more than the limit.
//!
//! The output grows in small steps up to the limit, so a bomb costs what the limit allows and is
//! found out at the first byte beyond. Whatever is left over, cut off or damaged is an error.

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, InBuffer, Operation, OutBuffer};

use super::Encoding;

mod gzip;

use gzip::Gzip;

/// Output is made room for in steps of this.
const STEP_BYTES: usize = 64 * 1024;
/// The window that a decoder must allow (RFC 8878, section 3.1.1.1.2) and that a content encoding
/// may use at most (RFC 9659): 8 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Why a body cannot be decompressed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InflateError {
    /// 400.
    #[error("the body is not {encoding}: {why}")]
    Corrupt { encoding: &'static str, why: String },
    /// 413: `server.maxDecodedBytes`.
    #[error("the body has more than {limit} bytes when decoded, allowed are {limit}")]
    OverLimit { limit: u64 },
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

/// What went wrong inside of a decoder.
enum Trouble {
    Over,
    Corrupt(String),
}

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

    /// Takes the next bytes of the body; appends what they hold to `out`, which never grows
    /// beyond `limit` by more than a byte.
    ///
    /// # Errors
    /// Nothing more of the body can be read then.
    pub fn write(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        limit: u64,
    ) -> Result<(), InflateError> {
        let max = usize::try_from(limit).unwrap_or(usize::MAX - 1);
        let result = match &mut self.state {
            State::Identity => identity(input, out, max),
            State::Gzip(gzip) => gzip.write(input, out, max),
            State::Deflate(deflate) => deflate.write(input, out, max),
            State::Brotli(brotli) => brotli.write(input, out, max),
            State::Zstd(zstd) => zstd.write(input, out, max),
        };
        result.map_err(|trouble| match trouble {
            Trouble::Over => InflateError::OverLimit { limit },
            Trouble::Corrupt(why) => self.corrupt(why),
        })
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

    fn corrupt(&self, why: String) -> InflateError {
        InflateError::Corrupt {
            encoding: self.encoding.name(),
            why,
        }
    }
}

fn identity(input: &[u8], out: &mut Vec<u8>, max: usize) -> Result<(), Trouble> {
    if input.len() > max.saturating_sub(out.len()) {
        return Err(Trouble::Over);
    }
    out.extend_from_slice(input);
    Ok(())
}

/// zlib (RFC 1950), as HTTP defines `deflate`; or raw (RFC 1951), as some clients send it.
enum Deflate {
    /// Too few bytes to tell these apart.
    Head(Vec<u8>),
    Data(Decompress),
    End,
}

impl Deflate {
    fn write(&mut self, input: &[u8], out: &mut Vec<u8>, max: usize) -> Result<(), Trouble> {
        if let Self::Head(head) = self {
            head.extend_from_slice(input);
            let &[method, flags, ..] = head.as_slice() else {
                return Ok(());
            };
            let check = u16::from_be_bytes([method, flags]);
            let zlib = method & 0x0f == 8 && method >> 4 <= 7 && check.is_multiple_of(31);
            let head = std::mem::take(head);
            *self = Self::Data(Decompress::new(zlib));
            return self.data(&head, out, max);
        }
        self.data(input, out, max)
    }

    fn data(&mut self, input: &[u8], out: &mut Vec<u8>, max: usize) -> Result<(), Trouble> {
        let mut used = 0;
        if let Self::Data(inner) = self {
            let ended;
            (used, ended) = inflate(inner, input, out, max)?;
            if ended {
                *self = Self::End;
            }
        }
        if used < input.len() {
            return Err(corrupt("something stands behind its end"));
        }
        Ok(())
    }
}

/// Inflates all of `input`, or up to the end of the stream; says how much that was, and whether
/// the stream has ended.
fn inflate(
    inner: &mut Decompress,
    input: &[u8],
    out: &mut Vec<u8>,
    max: usize,
) -> Result<(usize, bool), Trouble> {
    let mut used = 0;
    loop {
        make_room(out, max);
        let (in_before, out_before) = (inner.total_in(), out.len());
        let status = inner
            .decompress_vec(&input[used..], out, FlushDecompress::None)
            .map_err(|error| corrupt(error.message().unwrap_or("damaged data")))?;
        let step = usize::try_from(inner.total_in() - in_before).expect("a part of `input`");
        used += step;
        if out.len() > max {
            return Err(Trouble::Over);
        }
        let idle = step == 0 && out.len() == out_before;
        match status {
            Status::StreamEnd => return Ok((used, true)),
            // Room is left, so all that the input holds is out.
            Status::Ok | Status::BufError
                if idle || (used == input.len() && out.len() < out.capacity()) =>
            {
                if used < input.len() {
                    return Err(corrupt("it does not go on"));
                }
                return Ok((used, false));
            }
            Status::Ok | Status::BufError => {}
        }
    }
}

struct Brotli {
    state: BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    buffer: Vec<u8>,
    total_out: usize,
    ended: bool,
}

impl Brotli {
    fn new() -> Self {
        Self {
            // Strict: windows of 16 MiB at most.
            state: BrotliState::new_strict(
                StandardAlloc::default(),
                StandardAlloc::default(),
                StandardAlloc::default(),
            ),
            buffer: vec![0; STEP_BYTES],
            total_out: 0,
            ended: false,
        }
    }

    fn write(&mut self, input: &[u8], out: &mut Vec<u8>, max: usize) -> Result<(), Trouble> {
        let (mut left, mut used) = (input.len(), 0);
        while !self.ended {
            let (mut room, mut made) = (self.buffer.len(), 0);
            let result = BrotliDecompressStream(
                &mut left,
                &mut used,
                input,
                &mut room,
                &mut made,
                &mut self.buffer,
                &mut self.total_out,
                &mut self.state,
            );
            make_room(out, max);
            identity(&self.buffer[..made], out, max)?;
            match result {
                BrotliResult::ResultSuccess => self.ended = true,
                BrotliResult::NeedsMoreInput => return Ok(()),
                BrotliResult::NeedsMoreOutput => {}
                BrotliResult::ResultFailure => return Err(corrupt("damaged data")),
            }
        }
        if left > 0 {
            return Err(corrupt("something stands behind its end"));
        }
        Ok(())
    }
}

/// Frames one behind the other (RFC 8878).
#[derive(Default)]
struct Zstd {
    inner: Option<ZstdDecoder<'static>>,
    started: bool,
    between_frames: bool,
}

impl Zstd {
    fn write(&mut self, input: &[u8], out: &mut Vec<u8>, max: usize) -> Result<(), Trouble> {
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
        loop {
            if input.pos == input.src.len() && self.between_frames {
                return Ok(());
            }
            make_room(out, max);
            let before = (input.pos, out.len());
            let position = out.len();
            let wanted = inner
                .run(&mut input, &mut OutBuffer::around_pos(out, position))
                .map_err(|error| damaged(&error))?;
            self.started |= input.pos > 0;
            self.between_frames = wanted == 0;
            if out.len() > max {
                return Err(Trouble::Over);
            }
            let idle = before == (input.pos, out.len());
            if input.pos == input.src.len() && (idle || out.len() < out.capacity()) {
                return Ok(());
            }
            if idle {
                return Err(corrupt("it does not go on"));
            }
        }
    }
}

/// Room in `out` for one more step, and for no more than one byte above `max`.
fn make_room(out: &mut Vec<u8>, max: usize) {
    if out.capacity() - out.len() >= STEP_BYTES || out.capacity() > max {
        return;
    }
    let wanted = (out.len() * 2).max(out.len() + STEP_BYTES).min(max + 1);
    out.reserve_exact(wanted.saturating_sub(out.len()));
}

fn corrupt(why: &str) -> Trouble {
    Trouble::Corrupt(why.to_owned())
}

fn damaged(error: &std::io::Error) -> Trouble {
    Trouble::Corrupt(error.to_string())
}
