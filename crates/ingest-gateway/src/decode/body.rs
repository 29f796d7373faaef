//! One body from the wire to its batch: decompressed, decoded and, where it has a key, hashed, all
//! as it comes. No I/O and no clock: its caller brings the bytes, and the time between two steps,
//! each of which does a bounded amount of work.
//!
//! A compressed body that makes very much of very little is first only measured: decompressed to
//! its end and thrown away, while its bytes as received are kept, which are few. Only where it
//! fits the limit it is decompressed again and decoded. So a bomb costs its window, not its size.

use pipeline_core::{BatchId, record::Rules};

use super::{BodyError, DecodedBatch, Decoder, Encoding, Inflater, Limits, Media};
use crate::identity::{KeyedHash, WrongLength};

/// Decompressed in pieces of this, while they are warm.
const PIECE_BYTES: usize = 64 * 1024;
/// The first piece of a small body is as small as this.
const PIECE_BYTES_MIN: usize = 4 * 1024;
/// One step takes or makes about so many bytes,
const STEP_BYTES: usize = 256 * 1024;
/// and ends at the piece with so many rejected records, which cost much more than their bytes.
const STEP_REJECTED: u64 = 4096;
/// A body that decodes to more than this many times its bytes,
pub(super) const RATIO_MAX: u64 = 50;
/// and to more than so many bytes, or has them as lines, is measured first,
const MEASURED_FROM_BYTES: u64 = 4 * 1024 * 1024;
/// but its bytes as received are kept for that up to this, and
const KEPT_BYTES_MAX: usize = 1024 * 1024;
/// may fill a window of this; one that fills a larger one is refused.
pub(super) const WINDOW_BYTES_MAX: usize = 12 * 1024 * 1024;
/// That is looked at behind each so many bytes of the body as received, where all that they make
/// is out: a decoder runs ahead of what it gives, so at any other place the pieces would matter.
const SLICE_BYTES: u64 = 16 * 1024;

/// What is known of a body before its first byte.
pub struct BodyHead {
    pub media: Media,
    pub encoding: Encoding,
    pub rules: Rules,
    pub limits: Limits,
    pub decoded_bytes_max: u64,
    /// Its length as it is received, if that was announced.
    pub wire_len: Option<u64>,
    /// What its id is made from, where it has a key: begun by
    /// [`BatchKey::begin`](crate::identity::BatchKey::begin) without a length.
    pub key: Option<KeyedHash>,
}

/// A body, decoded.
#[derive(Debug)]
pub struct Decoded {
    pub batch: DecodedBatch,
    /// Of a body with a key.
    pub id: Option<BatchId>,
    pub decoded_bytes: u64,
}

/// How far a step has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// All that was given is done with.
    Idle,
    /// There is more to do with it: let others have their turn, and call again.
    More,
}

/// Decodes one body.
pub struct BodyDecoder {
    head: BodyHead,
    inflater: Inflater,
    decoder: Decoder,
    /// What was decompressed last, in its first bytes.
    piece: Vec<u8>,
    piece_len: usize,
    /// How long it could have been.
    piece_room: usize,
    /// The body as received, as far as it may be needed again.
    wire: Option<Vec<u8>>,
    wire_bytes: u64,
    decoded_bytes: u64,
    /// It was seen to hold many rejected records: its pieces are small from then on.
    crowded: bool,
    pass: Pass,
    fault: Option<BodyError>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pass {
    /// Decoded as it comes.
    Only,
    /// Thrown away.
    Measuring,
    /// Decoded from the bytes that were kept, up to here.
    Again(usize),
    /// Unreadable; only its length is looked at, as one that is too long is refused for that.
    Unreadable,
    Ended,
}

impl BodyDecoder {
    #[must_use]
    pub fn new(mut head: BodyHead) -> Self {
        let plain = head.encoding == Encoding::Identity;
        let len = head.wire_len.filter(|_| plain);
        if let Some(key) = &mut head.key {
            key.restart(len);
        }
        Self {
            inflater: Inflater::new(head.encoding),
            decoder: head.decoder(len),
            piece: Vec::new(),
            piece_len: 0,
            piece_room: 0,
            wire: (!plain).then(Vec::new),
            wire_bytes: 0,
            decoded_bytes: 0,
            crowded: false,
            pass: Pass::Only,
            fault: None,
            head,
        }
    }

    /// Takes the next bytes of the body from the front of `wire`, as many as one step allows.
    ///
    /// # Errors
    /// Where nothing of the body is accepted, whatever follows.
    pub fn push(&mut self, wire: &mut &[u8]) -> Result<Progress, BodyError> {
        let rejected = self.decoder.rejected_count();
        if self.head.encoding == Encoding::Identity {
            for _ in 0..STEP_BYTES / PIECE_BYTES {
                let (piece, rest) = wire.split_at(wire.len().min(self.piece_max()));
                *wire = rest;
                self.wire_bytes += piece.len() as u64;
                self.decoded_bytes = self.wire_bytes;
                self.check_length()?;
                self.head.hash(piece)?;
                self.decoder.push(piece)?;
                let enough = self.is_enough(rejected);
                if rest.is_empty() {
                    return Ok(Progress::Idle);
                }
                if enough {
                    break;
                }
            }
            return Ok(Progress::More);
        }
        for _ in 0..STEP_BYTES / PIECE_BYTES {
            let used = self.inflate(&wire[..self.slice_len(wire)])?;
            let (taken, rest) = wire.split_at(used);
            *wire = rest;
            self.wire_bytes += used as u64;
            if let Some(kept) = &mut self.wire {
                kept.extend_from_slice(taken);
            }
            if self.pass == Pass::Only {
                match self.take_piece() {
                    Ok(()) => self.look_at_ratio(),
                    Err(error) => self.only_measure_on(error)?,
                }
            }
            self.check_window()?;
            if rest.is_empty() && !self.piece_is_full() {
                return Ok(Progress::Idle);
            }
            if self.is_enough(rejected) {
                break;
            }
        }
        Ok(Progress::More)
    }

    /// The body has ended; `None` is to be asked again: a step was done, and there are more.
    ///
    /// # Errors
    /// Where nothing of the body is accepted.
    pub fn finish(&mut self) -> Result<Option<Decoded>, BodyError> {
        match self.pass {
            Pass::Only => {
                self.inflater.finish()?;
                self.pass = Pass::Ended;
            }
            Pass::Measuring => {
                self.inflater.finish()?;
                let len = std::mem::take(&mut self.decoded_bytes);
                self.decoder = self.head.decoder(Some(len));
                if let Some(key) = &mut self.head.key {
                    key.restart(Some(len));
                }
                self.inflater = Inflater::new(self.head.encoding);
                self.pass = Pass::Again(0);
                return Ok(None);
            }
            Pass::Again(mut at) => {
                let wire = self.wire.take().unwrap_or_default();
                let rejected = self.decoder.rejected_count();
                for _ in 0..STEP_BYTES / PIECE_BYTES {
                    at += self.inflate(&wire[at..])?;
                    self.take_piece()?;
                    self.pass = Pass::Again(at);
                    if !self.piece_is_full() {
                        self.inflater.finish()?;
                        self.pass = Pass::Ended;
                        break;
                    }
                    if self.is_enough(rejected) {
                        break;
                    }
                }
                self.wire = Some(wire);
                return Ok(None);
            }
            Pass::Unreadable => {
                self.inflater.finish()?;
                return Err(self.fault.take().unwrap_or_else(|| {
                    BodyError::unreadable("the body was unreadable before".to_owned())
                }));
            }
            Pass::Ended => {}
        }
        let id = match &mut self.head.key {
            Some(key) => match key.finish().map_err(wrong_length)? {
                None => return Ok(None),
                id => id,
            },
            None => None,
        };
        let decoder = std::mem::replace(&mut self.decoder, self.head.decoder(None));
        Ok(Some(Decoded {
            batch: decoder.finish()?,
            id,
            decoded_bytes: self.decoded_bytes,
        }))
    }

    /// Bytes on the heap, windows included.
    #[must_use]
    pub fn memory(&self) -> usize {
        let decoded = usize::try_from(self.decoded_bytes).unwrap_or(usize::MAX);
        self.decoder.memory()
            + self.piece.capacity()
            + self.wire.as_ref().map_or(0, Vec::capacity)
            + self.head.key.as_ref().map_or(0, KeyedHash::memory)
            + self
                .inflater
                .window_bytes()
                .min(decoded.saturating_add(PIECE_BYTES))
            + self.inflater.codes_bytes()
    }

    /// How many bytes of the body came.
    #[must_use]
    pub fn wire_bytes(&self) -> u64 {
        self.wire_bytes
    }

    /// Fills the piece; says how much of `wire` is in it.
    fn inflate(&mut self, wire: &[u8]) -> Result<usize, BodyError> {
        if self.piece_is_full() && self.piece.len() < self.piece_max() {
            let len = (wire.len() * 16).clamp(PIECE_BYTES_MIN, PIECE_BYTES);
            self.piece = vec![
                0;
                if self.piece_len == 0 {
                    len
                } else {
                    PIECE_BYTES
                }
            ];
        }
        self.piece_room = self.piece.len().min(self.piece_max());
        let moved = self
            .inflater
            .run(wire, &mut self.piece[..self.piece_room])?;
        self.piece_len = moved.made;
        self.decoded_bytes += moved.made as u64;
        self.check_length()?;
        Ok(moved.taken)
    }

    fn take_piece(&mut self) -> Result<(), BodyError> {
        let piece = &self.piece[..self.piece_len];
        self.head.hash(piece)?;
        self.decoder.push(piece)
    }

    /// There may be more where this came from.
    fn piece_is_full(&self) -> bool {
        self.piece_len == self.piece_room
    }

    fn piece_max(&self) -> usize {
        let decodes = !matches!(self.pass, Pass::Measuring | Pass::Unreadable);
        if self.crowded && decodes {
            PIECE_BYTES_MIN
        } else {
            PIECE_BYTES
        }
    }

    /// Whether a step that began with so many rejected records ends here.
    fn is_enough(&mut self, rejected: u64) -> bool {
        // It may be another decoder by now.
        let enough = self.decoder.rejected_count().saturating_sub(rejected) >= STEP_REJECTED;
        self.crowded |= enough;
        enough
    }

    fn check_length(&self) -> Result<(), BodyError> {
        let allowed = self.head.decoded_bytes_max;
        if self.decoded_bytes > allowed {
            return Err(BodyError::DecodedTooLong { allowed });
        }
        Ok(())
    }

    fn look_at_ratio(&mut self) {
        let Some(wire) = &self.wire else { return };
        let held = self.decoded_bytes.max(self.decoder.memory() as u64);
        if held <= MEASURED_FROM_BYTES {
            return;
        }
        // What has a key and no length yet would be kept to be hashed.
        if self.decoded_bytes > RATIO_MAX * self.wire_bytes || self.head.key.is_some() {
            self.pass = Pass::Measuring;
            self.decoder = self.head.decoder(None);
            if let Some(key) = &mut self.head.key {
                key.restart(None);
            }
        } else if wire.len() > KEPT_BYTES_MAX {
            self.wire = None;
        }
    }

    /// The body is at fault; whether it is too long as well, is still to be seen.
    fn only_measure_on(&mut self, error: BodyError) -> Result<(), BodyError> {
        if error.is_too_large() {
            return Err(error);
        }
        self.fault = Some(error);
        self.pass = Pass::Unreadable;
        self.wire = None;
        self.decoder = self.head.decoder(None);
        if let Some(key) = &mut self.head.key {
            key.restart(None);
        }
        Ok(())
    }

    fn check_window(&self) -> Result<(), BodyError> {
        let found = self.inflater.window_bytes();
        let filled = self.decoded_bytes > WINDOW_BYTES_MAX as u64 && found > WINDOW_BYTES_MAX;
        let slices = self.wire_bytes.next_multiple_of(SLICE_BYTES);
        if filled && self.decoded_bytes > RATIO_MAX * slices {
            return Err(BodyError::WindowTooLarge { found });
        }
        Ok(())
    }

    /// How much of `wire` is decompressed next: no slice begins before all of the one before is out.
    fn slice_len(&self, wire: &[u8]) -> usize {
        if self.head.encoding != Encoding::Brotli {
            return wire.len();
        }
        let into = self.wire_bytes % SLICE_BYTES;
        if into == 0 && self.wire_bytes > 0 && self.piece_is_full() {
            return 0;
        }
        wire.len().min((SLICE_BYTES - into) as usize)
    }
}

impl BodyHead {
    fn decoder(&self, len: Option<u64>) -> Decoder {
        Decoder::new(self.media, self.rules.clone(), self.limits, len)
    }

    fn hash(&mut self, piece: &[u8]) -> Result<(), BodyError> {
        match &mut self.key {
            Some(key) => key.push(piece).map_err(wrong_length),
            None => Ok(()),
        }
    }
}

fn wrong_length(error: WrongLength) -> BodyError {
    BodyError::unreadable(error.to_string())
}
