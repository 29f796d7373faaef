//! The records of one segment, one after the other, in bounded memory: of a segment of any size no
//! more than a piece of its file and a piece of its lines. Checks all that there is to check of its
//! data; whether that holds is known at the end only, so who takes records in before it must be
//! able to let go of them. Nothing here knows a chain.

use std::{
    cell::RefCell,
    fs::File,
    io,
    ops::{Deref, DerefMut},
    os::unix::fs::FileExt,
    path::Path,
};

use sha2::{Digest, Sha256};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::{
    owner::StoreError,
    segment::{OTHER_HASH, SegmentError},
    trailer::{Runs, StoredRecord, Trailer},
    walk::{ChainFault, Visited},
};
use crate::fsx;

/// A segment of the usual size fits into both pieces, and is decompressed in one go.
const PACKED_BYTES: usize = 128 << 10;
const PLAIN_BYTES: usize = 512 << 10;
/// The window that zstd may ask for, 8 MiB: what any of its usual levels takes.
const WINDOW_LOG_MAX: u32 = 23;

/// A segment that is being read. Not an iterator, as each record lies in a buffer that the next one
/// may take.
pub struct Records<'v> {
    path: &'v Path,
    data: Data<'v>,
    runs: Runs<'v>,
    plain: Vec<u8>,
    /// The part of `plain` that was not given out yet.
    at: usize,
    end: usize,
}

impl<'v> Records<'v> {
    /// # Errors
    /// Where the file cannot be opened.
    pub(super) fn open(visited: &'v Visited) -> io::Result<Self> {
        let file = fsx::open(&visited.path)?;
        let mut data = Data::new(file, &visited.trailer)?;
        let mut plain = std::mem::take(&mut data.kept.plain);
        plain.resize(PLAIN_BYTES, 0);
        Ok(Self {
            path: &visited.path,
            data,
            runs: visited.trailer.runs(),
            plain,
            at: 0,
            end: 0,
        })
    }

    /// The next record, or `None` at the end, which is reached only where all is well.
    ///
    /// # Errors
    /// What is wrong with the segment.
    #[expect(clippy::should_implement_trait, reason = "it lends")]
    #[inline]
    pub fn next(&mut self) -> Result<Option<StoredRecord<'_>>, ChainFault> {
        let mut looked = self.at;
        loop {
            if let Some(found) = memchr::memchr(b'\n', &self.plain[looked..self.end]) {
                let line = self.at..looked + found;
                self.at = line.end + 1;
                let Some(place) = self.runs.next() else {
                    return Err(self.other_lines());
                };
                let line = &self.plain[line];
                return Ok(Some(StoredRecord { line, ..place }));
            }
            match self.more()? {
                Some(begin) => looked = begin,
                None => break,
            }
        }
        if self.at < self.end || self.runs.next().is_some() {
            return Err(self.other_lines());
        }
        Ok(None)
    }

    /// Decompresses behind the part of a line that is left, and says where that begins.
    #[cold]
    fn more(&mut self) -> Result<Option<usize>, ChainFault> {
        self.plain.copy_within(self.at..self.end, 0);
        (self.at, self.end) = (0, self.end - self.at);
        let begin = self.end;
        if self.end == self.plain.len() {
            // A line that is longer than any piece so far.
            self.plain.resize(2 * self.end, 0);
        }
        let made = self.data.more(&mut self.plain[begin..]);
        let made = made.map_err(|error| error.at(self.path))?;
        self.end += made.unwrap_or_default();
        Ok(made.map(|_| begin))
    }

    #[cold]
    fn other_lines(&self) -> ChainFault {
        let stored = self.data.trailer.own_totals().stored;
        let detail = format!("does not hold the {stored} whole lines that the trailer says");
        SegmentError::Damaged(detail).at(self.path)
    }
}

impl Drop for Records<'_> {
    fn drop(&mut self) {
        // What one long line took is not kept.
        if self.plain.len() <= PLAIN_BYTES {
            self.data.kept.plain = std::mem::take(&mut self.plain);
        }
    }
}

impl SegmentError {
    /// As a fault of the chain that the segment is of.
    pub(super) fn at(self, path: &Path) -> ChainFault {
        match self {
            Self::Io(error) => StoreError::at("read", path)(error).into(),
            Self::Damaged(detail) => ChainFault::Damaged {
                path: path.to_owned(),
                detail,
            },
        }
    }
}

/// A segment's data on its way from the file.
pub(super) struct Data<'t> {
    file: File,
    trailer: &'t Trailer,
    /// How far the file is read, and how much came out.
    read: u64,
    plain: u64,
    hash: Sha256,
    /// The part of `kept.packed` that is not decompressed yet.
    at: usize,
    end: usize,
    /// Whether zstd stands between two frames.
    whole: bool,
    kept: Lent,
}

impl<'t> Data<'t> {
    pub(super) fn new(file: File, trailer: &'t Trailer) -> io::Result<Self> {
        Ok(Self {
            file,
            trailer,
            read: 0,
            plain: 0,
            hash: Sha256::new(),
            at: 0,
            end: 0,
            whole: true,
            kept: Lent::take()?,
        })
    }

    /// Decompresses into `out`, which has room; `None`: there is no more, and all of it was right.
    pub(super) fn more(&mut self, out: &mut [u8]) -> Result<Option<usize>, SegmentError> {
        let damaged = |detail: String| Err(SegmentError::Damaged(detail));
        loop {
            if self.at == self.end {
                self.refill()?;
                if self.at == self.end && self.whole {
                    return self.check().map(|()| None);
                }
            }
            let ended = self.at == self.end;
            let kept = &mut *self.kept;
            let mut from = InBuffer::around(&kept.packed[self.at..self.end]);
            let mut to = OutBuffer::around(out);
            let left = match kept.decoder.run(&mut from, &mut to) {
                Ok(left) => left,
                Err(error) => return damaged(format!("data cannot be decompressed: {error}")),
            };
            self.whole = left == 0;
            self.at += from.pos();
            let made = to.pos();
            self.plain += made as u64;
            if self.plain > self.trailer.plain_len {
                return damaged(format!(
                    "more records than the {} bytes that the trailer says",
                    self.trailer.plain_len
                ));
            }
            if made > 0 {
                return Ok(Some(made));
            }
            if ended {
                return damaged("data ends too early".to_owned());
            }
        }
    }

    fn refill(&mut self) -> Result<(), SegmentError> {
        let left = self.trailer.data_len - self.read;
        let len = left.min(PACKED_BYTES as u64) as usize;
        let packed = &mut self.kept.packed[..len];
        self.file
            .read_exact_at(packed, self.read)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => {
                    SegmentError::Damaged("file became shorter while it was read".to_owned())
                }
                _ => SegmentError::Io(error),
            })?;
        self.hash.update(&*packed);
        self.read += len as u64;
        (self.at, self.end) = (0, len);
        Ok(())
    }

    /// At the end.
    fn check(&mut self) -> Result<(), SegmentError> {
        let fail = |detail: String| Err(SegmentError::Damaged(detail));
        if <[u8; 32]>::from(self.hash.finalize_reset()) != self.trailer.data_sha256 {
            return fail(OTHER_HASH.to_owned());
        }
        let (found, said) = (self.plain, self.trailer.plain_len);
        if found != said {
            return fail(format!("{found} bytes of records, the trailer says {said}"));
        }
        Ok(())
    }
}

/// What reading takes of memory. It is large beside most segments: one per thread is kept.
struct Kept {
    decoder: Decoder<'static>,
    packed: Vec<u8>,
    plain: Vec<u8>,
}

thread_local! {
    static KEPT: RefCell<Option<Box<Kept>>> = const { RefCell::new(None) };
}

/// Goes back to its thread.
struct Lent(Option<Box<Kept>>);

impl Lent {
    fn take() -> io::Result<Self> {
        let mut kept = match KEPT.with_borrow_mut(Option::take) {
            Some(kept) => kept,
            None => {
                let mut decoder = Decoder::new()?;
                decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
                // Each byte that goes in has its SHA-256, so what comes out needs no other hash.
                decoder.set_parameter(DParameter::ForceIgnoreChecksum(true))?;
                Box::new(Kept {
                    decoder,
                    packed: vec![0; PACKED_BYTES],
                    plain: Vec::new(),
                })
            }
        };
        // Whoever had it may have stopped in the middle.
        kept.decoder.reinit()?;
        Ok(Self(Some(kept)))
    }
}

impl Deref for Lent {
    type Target = Kept;

    fn deref(&self) -> &Kept {
        self.0.as_deref().expect("until it is dropped")
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Kept {
        self.0.as_deref_mut().expect("until it is dropped")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let kept = self.0.take();
        // Gone where the thread ends: then it goes, too.
        let _ = KEPT.try_with(|place| place.replace(kept));
    }
}
