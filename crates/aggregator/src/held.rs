//! Counts of portions that are not in states yet, on the disk meanwhile, and when that is worth it.
//! Commits nothing; a process that ends leaves nothing of it.
//!
//! States are read and written whole. Where the hours of a backlog lie mixed in all of its
//! segments, each portion touches all days, and a commit after each would read all there is again
//! and again. So a portion is held, and the next one read, until what is held is
//! [`WORTH_A_COMMIT`] times what stands in the days that it touches: then all that is ever read
//! again is a small part of what is counted, however large the backlog. Of a backlog in the order
//! of time a portion touches little that stands, and is committed at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use pipeline_core::fsx::Scratch;
use zstd::bulk::{Compressor, Decompressor};

use crate::{
    counts::Content,
    fold::Delta,
    hour::{Day, Hour},
    manifest::Manifest,
    state::{StateError, codec},
};

/// How many times the requests that its states hold a commit should bring.
const WORTH_A_COMMIT: u64 = 8;
const LEVEL: i32 = 1;
const STEP: &str = "hold counts in";

/// How much is held. Bounds the disk, memory, and what a crash makes be done again.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// On the disk. 0: every portion is committed by itself.
    pub bytes_max: u64,
    /// Of one day, as they are in memory when they are added to it.
    pub day_bytes_max: usize,
    pub records_max: u64,
    /// Days, once for each portion that touches them.
    pub pieces_max: usize,
    /// Segments whose counts are held.
    pub segments_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            bytes_max: 1 << 30,
            day_bytes_max: 4 << 20,
            records_max: 50_000_000,
            pieces_max: 100_000,
            segments_max: 100_000,
        }
    }
}

pub struct Held {
    pub records: u64,
    pub aside: u64,
    bounds: Bounds,
    /// The file is where this is.
    dir: PathBuf,
    file: Option<Scratch>,
    bytes: u64,
    days: BTreeMap<Day, Vec<Piece>>,
}

/// What one portion has of one day: for each hour the hour of the day, a length and a state's body.
struct Piece {
    at: u64,
    packed_len: usize,
    plain_len: usize,
}

/// The counts of one hour that were held.
pub struct HeldHour {
    pub hour: Hour,
    body: Vec<u8>,
}

impl Held {
    /// Nothing yet.
    #[must_use]
    pub fn new(dir: &Path, bounds: Bounds) -> Self {
        Self {
            records: 0,
            aside: 0,
            bounds,
            dir: dir.to_owned(),
            file: None,
            bytes: 0,
            days: BTreeMap::new(),
        }
    }

    /// Nothing, in the same place.
    #[must_use]
    pub fn anew(&self) -> Self {
        Self::new(&self.dir, self.bounds)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    pub fn days(&self) -> impl Iterator<Item = Day> {
        self.days.keys().copied()
    }

    /// Whether `delta` is held rather than committed with what is held so far, which `manifest`
    /// does not have. Then there are `segments` behind all of it.
    #[must_use]
    pub fn goes_on(&self, delta: &Delta, manifest: &Manifest, segments: usize) -> bool {
        let of_days = delta.days();
        let pieces: usize = self.days.values().map(Vec::len).sum();
        let day_len = |day: &Day| -> usize {
            let pieces = self.days.get(day).into_iter().flatten();
            pieces.map(|piece| piece.plain_len).sum()
        };
        let bounds = &self.bounds;
        let records = self.records + delta.records;
        let fits = self.bytes + delta.memory() as u64 <= bounds.bytes_max
            && of_days
                .iter()
                .all(|(day, bytes)| day_len(day) + bytes <= bounds.day_bytes_max)
            && pieces + of_days.len() <= bounds.pieces_max
            && records <= bounds.records_max
            && segments <= bounds.segments_max;
        let touched: BTreeSet<Day> = self.days().chain(of_days.into_keys()).collect();
        let standing = touched.iter().filter_map(|day| manifest.days.get(day));
        let standing: u64 = standing.map(|day| day.requests).sum();
        fits && records < standing.saturating_mul(WORTH_A_COMMIT)
    }

    /// Takes in what `delta` holds, of no more than `keys_max` keys in each dimension of an hour.
    ///
    /// # Errors
    /// As the file system says. Nothing of it is to be used then.
    pub fn put(&mut self, delta: &Delta, keys_max: usize) -> Result<(), StateError> {
        let put = self.try_put(delta, keys_max);
        put.map_err(StateError::io(STEP, &self.dir))
    }

    fn try_put(&mut self, delta: &Delta, keys_max: usize) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(Scratch::create_in(&self.dir)?),
        };
        let mut compressor = Compressor::new(LEVEL)?;
        compressor.include_checksum(true)?;
        let hours: Vec<_> = delta.hours(keys_max).into_iter().collect();
        let (mut plain, mut body) = (Vec::new(), Vec::new());
        for hours in hours.chunk_by(|(one, _), (other, _)| one.day() == other.day()) {
            plain.clear();
            for (hour, content) in hours {
                body.clear();
                codec::encode(content, &mut body);
                plain.push(hour.of_day());
                plain.extend_from_slice(&(body.len() as u64).to_le_bytes());
                plain.extend_from_slice(&body);
            }
            let packed = compressor.compress(&plain)?;
            self.bytes += packed.len() as u64;
            self.days.entry(hours[0].0.day()).or_default().push(Piece {
                at: file.append(&packed)?,
                packed_len: packed.len(),
                plain_len: plain.len(),
            });
        }
        self.records += delta.records;
        self.aside += delta.aside;
        Ok(())
    }

    /// What is held of a day.
    ///
    /// # Errors
    /// As the file system says, or where it gives other bytes than it was given.
    pub fn of(&self, day: Day) -> Result<Vec<HeldHour>, StateError> {
        self.try_of(day).map_err(StateError::io(STEP, &self.dir))
    }

    fn try_of(&self, day: Day) -> io::Result<Vec<HeldHour>> {
        let mut hours = Vec::new();
        let (Some(file), Some(pieces)) = (&self.file, self.days.get(&day)) else {
            return Ok(hours);
        };
        let mut decompressor = Decompressor::new()?;
        let mut packed = Vec::new();
        for piece in pieces {
            packed.resize(piece.packed_len, 0);
            file.read_at(piece.at, &mut packed)?;
            let plain = decompressor.decompress(&packed, piece.plain_len)?;
            let mut rest = &plain[..];
            while !rest.is_empty() {
                let (hour, behind) = take_hour(day, rest).ok_or_else(|| odd("ends early"))?;
                hours.push(hour);
                rest = behind;
            }
        }
        Ok(hours)
    }
}

impl HeldHour {
    /// # Errors
    /// Where it is not what was put there.
    pub fn content(&self) -> Result<Content<'_>, StateError> {
        let dir = Path::new("a file without a name");
        codec::decode(&self.body).map_err(|detail| StateError::io(STEP, dir)(odd(&detail)))
    }
}

fn take_hour(day: Day, bytes: &[u8]) -> Option<(HeldHour, &[u8])> {
    let (&of_day, bytes) = bytes.split_first()?;
    let (len, bytes) = bytes.split_first_chunk()?;
    let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
    let (body, behind) = bytes.split_at_checked(len)?;
    let hour = HeldHour {
        hour: Hour(day.hours().start.0 + i64::from(of_day)),
        body: body.to_vec(),
    };
    Some((hour, behind))
}

fn odd(detail: &str) -> io::Error {
    let detail = format!("counts on the disk are not those that were put there: {detail}");
    io::Error::new(io::ErrorKind::InvalidData, detail)
}
