//! One partition's directory: START, publish, watermark. Reads no segment (`walk` does) and never
//! removes one that it has not just linked itself.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::SystemTime,
};

use super::{
    owner::{StoreError, each_name, list},
    segment::Encoded,
    trailer::{Link, Trailer},
    walk::ChainFault,
};
use crate::{
    fsx,
    ids::{Offset, PartitionId},
};

/// The format of `START`.
pub const FORMAT: u32 = 1;

/// The directory of one partition's chain.
#[derive(Clone, Debug)]
pub struct Chain {
    dir: PathBuf,
    topic: String,
    partition: PartitionId,
    /// The last segment that was published through this value or a clone of it.
    own: Arc<Mutex<Option<Own>>>,
}

/// The first offset, and the file.
type Own = (Offset, fsx::Identity);

/// The file `START`.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Start {
    pub format: u32,
    pub cluster_id: String,
    pub topic_id: String,
    pub first_offset: Offset,
}

/// What became of a publish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Published {
    /// Ours is the next segment, durably.
    Linked,
    /// The name is taken: reload from the chain (it may be our own earlier attempt).
    NameTaken,
    /// The watermark is above our name: our file is removed, give the partition up.
    BelowWatermark,
    /// What our file goes on from is not in the chain any more (a repair has set it aside), or is
    /// damaged: our file is removed, give the partition up.
    Severed,
}

impl Chain {
    pub(super) fn at(dir: PathBuf, topic: &str, partition: PartitionId) -> Self {
        Self {
            dir,
            topic: topic.to_owned(),
            partition,
            own: Arc::default(),
        }
    }

    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    #[must_use]
    pub fn partition(&self) -> PartitionId {
        self.partition
    }

    #[must_use]
    pub fn segment_path(&self, first: Offset) -> PathBuf {
        self.dir.join(format!("{:020}{SEGMENT_SUFFIX}", first.0))
    }

    pub(super) fn watermark_path(&self, at: Offset) -> PathBuf {
        self.dir.join(format!("w{:020}", at.0))
    }

    #[must_use]
    pub fn start_path(&self) -> PathBuf {
        self.dir.join("START")
    }

    /// # Errors
    /// Where `START` is there and cannot be read or understood.
    pub fn start(&self) -> Result<Option<Start>, ChainFault> {
        let path = self.start_path();
        match fsx::read(&path) {
            Ok(json) => read_start(&json)
                .map(Some)
                .map_err(|detail| ChainFault::Damaged { path, detail }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::at("read", &path)(error).into()),
        }
    }

    /// Puts `START` if absent, durably, and gives back the one that stands.
    ///
    /// # Errors
    /// Where it cannot be made durable, or the one that stands cannot be understood.
    pub fn put_start(&self, start: &Start) -> Result<Start, ChainFault> {
        let path = self.start_path();
        fsx::create_dirs(&self.dir).map_err(StoreError::at("make directory", &self.dir))?;
        fsx::put_if_absent(&path, &write_start(start)).map_err(StoreError::at("put", &path))?;
        self.start()?.ok_or_else(|| {
            let gone = io::Error::from(io::ErrorKind::NotFound);
            StoreError::at("read back", &path)(gone).into()
        })
    }

    /// The greatest watermark, if any.
    ///
    /// # Errors
    /// Where the directory cannot be listed.
    pub fn watermark(&self) -> Result<Option<Offset>, StoreError> {
        // Looked at after each publish, beside a long chain: nothing is collected or sorted.
        let mut greatest = None;
        each_name(&self.dir, &mut |name| {
            greatest = greatest.max(watermark_of(name));
        })?;
        Ok(greatest)
    }

    /// Puts the watermark `at` if absent, durably: from now on names below it belong to no chain.
    /// To be called before the first of them is removed; `at` is the first offset of a segment.
    ///
    /// # Errors
    /// Where it cannot be made durable.
    pub fn put_watermark(&self, at: Offset) -> Result<(), StoreError> {
        let path = self.watermark_path(at);
        fsx::put_if_absent(&path, b"").map_err(StoreError::at("put", &path))?;
        Ok(())
    }

    /// Publishes a segment: own temporary file, write, fsync, link without replacing, fsync of
    /// the directory, look at the watermark and at the segment before.
    ///
    /// # Errors
    /// Where a step failed: the outcome is unknown, look at the chain before writing again.
    pub fn publish(&self, segment: &Encoded) -> Result<Published, StoreError> {
        let first = segment.trailer.first;
        let path = self.segment_path(first);
        // A new temporary file for each attempt: a file whose fsync failed is never used again.
        let temporary = fsx::Temporary::write_in(&self.dir, &segment.bytes).map_err(
            StoreError::at("write and fsync a temporary file for", &path),
        )?;
        let own = fsx::Identity::at(temporary.path()).map_err(StoreError::at("look at", &path))?;
        let linked = temporary
            .link(&path)
            .map_err(StoreError::at("link segment", &path))?;
        // Gone before the directory is synced, so that its removal is durable too.
        drop(temporary);
        self.sync()?;
        if !linked {
            return Ok(Published::NameTaken);
        }
        // Our name was free: it is the chain's next one, or one whose segment has been removed. The
        // watermark above a removed name was put before that removal, so it is seen here. Removal is
        // oldest first: while our own file before it stands, ours cannot have been removed, and
        // the directory (long, mostly) need not be listed.
        if !self.stands_behind_own(segment)? {
            let goes_on = self.goes_on(&segment.trailer)?;
            let back = match self.watermark()? {
                Some(watermark) if watermark > first => Some(Published::BelowWatermark),
                // Ours is the chain's oldest; under the name before it another may stand for a
                // moment, of a process that links below the watermark and takes it back.
                Some(watermark) if watermark == first => None,
                _ if goes_on => None,
                _ => Some(Published::Severed),
            };
            if let Some(back) = back {
                // Set aside or removed while we slept, ours may have left its name to another's.
                fsx::remove_own(&path, own).map_err(StoreError::at("remove", &path))?;
                self.sync()?;
                return Ok(back);
            }
        }
        *self.lock_own() = Some((first, own));
        Ok(Published::Linked)
    }

    /// Whether the segment before is one that was published here, and the file is still that one.
    fn stands_behind_own(&self, segment: &Encoded) -> Result<bool, StoreError> {
        let own = *self.lock_own();
        let Some((first, own)) = own.filter(|(first, _)| {
            let previous = segment.trailer.previous;
            previous.is_some_and(|link| link.first == *first)
        }) else {
            return Ok(false);
        };
        let path = self.segment_path(first);
        match fsx::Identity::at(&path) {
            Ok(found) => Ok(found == own),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::at("look at", &path)(error)),
        }
    }

    /// Whether what a segment goes on from stands there. A repair may have cut the chain before it
    /// while its writer was frozen.
    pub(super) fn goes_on(&self, trailer: &Trailer) -> Result<bool, StoreError> {
        match trailer.previous {
            Some(link) => self.has(link, trailer.first),
            None => or_not(
                self.start()
                    .map(|start| start.is_some_and(|start| start.first_offset == trailer.first)),
            ),
        }
    }

    /// Whether this very segment, which ends at `next`, is in the chain, or was until it was removed:
    /// the watermark is at its end then, or behind that, never within it. One that is damaged is
    /// not: what is known of it is for a take-over to judge.
    pub(super) fn has(&self, link: Link, next: Offset) -> Result<bool, StoreError> {
        match or_not(self.visit(link.first).map(Some))? {
            Some(Some(found)) => Ok(found.hash == link.hash),
            Some(None) => Ok(self.watermark()?.is_some_and(|watermark| watermark >= next)),
            None => Ok(false),
        }
    }

    fn lock_own(&self) -> MutexGuard<'_, Option<Own>> {
        self.own.lock().expect("no panic under this lock")
    }

    /// Removes temporary files last written before `before`: those of attempts that died. Should
    /// one belong to an attempt that is merely slow, its link fails and it looks at the chain.
    ///
    /// # Errors
    /// Where the directory cannot be listed or a file cannot be removed.
    pub fn remove_stale_temporaries(&self, before: SystemTime) -> Result<u64, StoreError> {
        fsx::remove_stale_temporaries(&self.dir, before)
            .map_err(StoreError::at("remove stale temporary files in", &self.dir))
    }

    /// The greatest name that stands for a segment. Says how far a reader may look, never where
    /// the chain ends.
    ///
    /// # Errors
    /// Where the directory cannot be listed.
    pub fn greatest_name(&self) -> Result<Option<Offset>, StoreError> {
        Ok(self.list()?.segments.last().copied())
    }

    /// Makes the directory's entries durable (a reader does so before it commits a cursor).
    ///
    /// # Errors
    /// Where fsync fails.
    pub fn sync(&self) -> Result<(), StoreError> {
        fsx::sync_dir(&self.dir).map_err(StoreError::at("fsync directory", &self.dir))
    }

    pub(super) fn list(&self) -> Result<Listing, StoreError> {
        let mut listing = Listing::default();
        for name in list(&self.dir)? {
            if let Some(first) = segment_of(&name) {
                listing.segments.push(first);
            } else {
                listing.watermark = listing.watermark.max(watermark_of(&name));
            }
        }
        Ok(listing)
    }
}

/// What is there, or the default where it contradicts itself.
fn or_not<T: Default>(read: Result<T, ChainFault>) -> Result<T, StoreError> {
    match read {
        Err(ChainFault::Io(error)) => Err(error),
        Err(ChainFault::Damaged { .. } | ChainFault::Missing { .. }) => Ok(T::default()),
        Ok(read) => Ok(read),
    }
}

/// What a chain's directory holds, by name alone.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// In order.
    pub segments: Vec<Offset>,
    pub watermark: Option<Offset>,
}

pub(super) fn segment_of(name: &str) -> Option<Offset> {
    name.strip_suffix(SEGMENT_SUFFIX).and_then(offset_of)
}

pub(super) fn watermark_of(name: &str) -> Option<Offset> {
    name.strip_prefix('w').and_then(offset_of)
}

const SEGMENT_SUFFIX: &str = ".ndjson.zst";

/// Of exactly 20 digits.
pub(super) fn offset_of(digits: &str) -> Option<Offset> {
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| digits.parse().ok())?
        .map(Offset)
}

/// `START` as JSON, with a checksum as its last field.
pub(super) fn write_start(start: &Start) -> Vec<u8> {
    let mut json = serde_json::to_value(start).expect("plain data");
    json["crc32c"] = checksum(start).into();
    let mut bytes = serde_json::to_vec(&json).expect("plain data");
    bytes.push(b'\n');
    bytes
}

fn read_start(json: &[u8]) -> Result<Start, String> {
    let mut value: serde_json::Value =
        serde_json::from_slice(json).map_err(|error| error.to_string())?;
    match value.get("format") {
        Some(format) if *format == FORMAT => {}
        Some(format) => return Err(format!("format {format}, known is {FORMAT}")),
        None => return Err("no format".to_owned()),
    }
    let claimed = value
        .as_object_mut()
        .and_then(|fields| fields.remove("crc32c"))
        .ok_or("no checksum")?;
    let start: Start = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let found = checksum(&start);
    if claimed != *found {
        return Err(format!("checksum {found}, the file says {claimed}"));
    }
    if start.first_offset.0 < 0 {
        return Err(format!("first offset {} is negative", start.first_offset));
    }
    Ok(start)
}

fn checksum(start: &Start) -> String {
    let json = serde_json::to_vec(start).expect("plain data");
    format!("{:08x}", crc32c::crc32c(&json))
}
