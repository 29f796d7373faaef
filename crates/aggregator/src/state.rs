//! States: the counts of one hour or day as an immutable file. A manifest names those of days, the
//! state of a day those of its hours.
//!
//! ```text
//! <analyticsDir>/_state/counts/2015-05-17-<number of the manifest, 20 digits>-<32 hex digits>
//! <analyticsDir>/_state/counts/2015-05-17T10-<number, 20 digits>-<32 hex digits>
//! ```
//! The hex digits are the first half of the SHA-256 of the file's head, which holds that of its
//! body: so a name says what its file holds, two processes that write the same name write the same
//! bytes, damage is seen when it is read, and the head can be read alone.
//!
//! ```text
//! magic "SLST", version u16, length of the head u32 (little-endian)
//! head
//!   0 hour, 1 day (one byte), since 1970 (zigzag varint), requests
//!   hours of a day: number, each: hour of the day, manifest, requests, hash (string)
//!   length of the body, its SHA-256 (32 bytes)
//! body: one zstd frame of
//!   versions of the classification: number, each a string
//!   bots: number, each: name, operator, purpose (strings)
//!   error of the sites' counts, number of sites, each:
//!     0 (records without one), 1 (those not kept apart), or 2 and the site (string)
//!     traffic: number, each: hour of the day, client and class, requests, requests with bytes,
//!       bytes (two varints: low and high 64 bits)
//!     statuses: number, each: code, count
//!     durations: number of buckets, each: bucket (zigzag), count
//!     paths, user agents, methods, referring hosts, each a table:
//!       other, error, number of missed, each: key (string), count
//!       number of keys, each: key (string), number of rows, each: client and class, count
//! ```
//! Client and class are one number: client * 6 + class; clients are 0 human, 1 unknown, 2 empty,
//! and from 3 on the bots in their order. Numbers are varints, strings UTF-8 with their length in
//! front. Nothing here removes a file.

pub(crate) mod codec;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use pipeline_core::fsx;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zstd::bulk::Compressor;

use crate::{
    counts::Content,
    hour::{Hour, Period},
};

const MAGIC: [u8; 4] = *b"SLST";
const VERSION: u16 = 2;
/// Magic, version, length of the head.
const FIXED_LEN: usize = 10;
/// A day's head with 24 hours has far less.
const HEAD_BYTES_MAX: usize = 1 << 16;
const ZSTD_LEVEL: i32 = 1;

/// First half of the SHA-256 of a state's head, in hex.
pub type StateHash = String;

/// One state as it is named by what stands above it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Entry {
    /// The manifest that last changed it.
    pub changed: u64,
    pub state: StateHash,
    pub requests: u64,
}

impl Entry {
    #[must_use]
    pub fn name(&self, period: Period) -> StateName {
        StateName {
            period,
            number: self.changed,
            hash: self.state.clone(),
        }
    }
}

/// The hours of a day that have counts.
pub type Hours = BTreeMap<Hour, Entry>;

/// Why a state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("failed to {step} {path}: {cause}")]
    Io {
        step: &'static str,
        path: PathBuf,
        cause: io::Error,
    },
    #[error("damaged {path}: {detail}")]
    Damaged { path: PathBuf, detail: String },
}

impl StateError {
    /// For `map_err`.
    pub fn io(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Io {
            step,
            path: path.to_owned(),
            cause,
        }
    }
}

/// The name of a state file: what is read from a directory, and what a manifest makes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StateName {
    pub period: Period,
    /// The manifest it was written for.
    pub number: u64,
    pub hash: StateHash,
}

impl StateName {
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}-{:020}-{}", self.period, self.number, self.hash)
    }

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (rest, hash) = name.rsplit_once('-')?;
        let (period, number) = rest.rsplit_once('-')?;
        let parsed = Self {
            period: Period::parse(period)?,
            number: number.parse().ok()?,
            hash: hash.to_owned(),
        };
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (parsed.file_name() == name && hash.len() == 32 && hash.bytes().all(hex)).then_some(parsed)
    }
}

/// Writes the state of `period` for manifest `number`; a day with its hours. The name is durable
/// once `dir` is fsynced.
///
/// # Errors
/// Names the step that failed.
pub fn write(
    dir: &Path,
    period: Period,
    number: u64,
    content: &Content<'_>,
    hours: Hours,
) -> Result<Entry, StateError> {
    let mut plain = Vec::new();
    codec::encode(content, &mut plain);
    let body = compress(&plain).map_err(StateError::io("compress", dir))?;
    let head = Head {
        period,
        requests: content.requests(),
        hours,
        body_len: body.len() as u64,
        body_sha256: Sha256::digest(&body).into(),
    };
    let mut bytes = head.encode();
    let entry = Entry {
        changed: number,
        state: hash(&bytes),
        requests: head.requests,
    };
    bytes.extend_from_slice(&body);
    let path = dir.join(entry.name(period).file_name());
    let temporary =
        fsx::Temporary::write_in(dir, &bytes).map_err(StateError::io("write and fsync", &path))?;
    // Taken: by the same bytes.
    temporary
        .link(&path)
        .map_err(StateError::io("link", &path))?;
    Ok(entry)
}

/// What a state says of itself before its counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    pub period: Period,
    pub requests: u64,
    /// Of a day.
    pub hours: Hours,
    body_len: u64,
    body_sha256: [u8; 32],
}

/// A state in memory; [`State::content`] borrows from it.
pub struct State {
    path: PathBuf,
    pub head: Head,
    plain: Vec<u8>,
}

impl Head {
    /// Reads the head alone.
    ///
    /// # Errors
    /// Where the file is gone, cannot be read, or is not what its name says.
    pub fn read(dir: &Path, name: &StateName) -> Result<Self, StateError> {
        Ok(open(dir, name)?.1)
    }
}

impl State {
    /// # Errors
    /// Where the file is gone, cannot be read, or is not what its name says.
    pub fn read(dir: &Path, name: &StateName) -> Result<Self, StateError> {
        let (mut file, head, path) = open(dir, name)?;
        let damaged = |detail: String| StateError::Damaged {
            path: path.clone(),
            detail,
        };
        let mut body = Vec::new();
        file.read_to_end(&mut body)
            .map_err(StateError::io("read", &path))?;
        if body.len() as u64 != head.body_len
            || <[u8; 32]>::from(Sha256::digest(&body)) != head.body_sha256
        {
            return Err(damaged(
                "its counts do not have the hash that it holds".to_owned(),
            ));
        }
        // The hash holds, so what it asks of memory is what this program wrote.
        let plain =
            zstd::decode_all(body.as_slice()).map_err(|error| damaged(error.to_string()))?;
        Ok(Self { path, head, plain })
    }

    /// # Errors
    /// Where it contradicts itself.
    pub fn content(&self) -> Result<Content<'_>, StateError> {
        let damaged = |detail: String| StateError::Damaged {
            path: self.path.clone(),
            detail,
        };
        let content = codec::decode(&self.plain).map_err(damaged)?;
        let (found, requests) = (content.requests(), self.head.requests);
        if found != requests {
            return Err(damaged(format!("holds {found} requests, not {requests}")));
        }
        Ok(content)
    }
}

/// The file of `name`, read to the end of its head.
fn open(dir: &Path, name: &StateName) -> Result<(File, Head, PathBuf), StateError> {
    let path = dir.join(name.file_name());
    let damaged = |detail: String| StateError::Damaged {
        path: path.clone(),
        detail,
    };
    let mut file = match fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(damaged("missing although a manifest names it".to_owned()));
        }
        Err(error) => return Err(StateError::io("open", &path)(error)),
    };
    let mut read = |len: usize, into: &mut Vec<u8>| {
        let read = file.by_ref().take(len as u64).read_to_end(into);
        match read.map_err(StateError::io("read", &path))? {
            found if found == len => Ok(()),
            found => Err(damaged(format!("ends {} bytes too early", len - found))),
        }
    };
    let mut bytes = Vec::with_capacity(2048);
    read(FIXED_LEN, &mut bytes)?;
    if bytes[..4] != MAGIC {
        return Err(damaged("is not a state".to_owned()));
    }
    let version = u16::from_le_bytes([bytes[4], bytes[5]]);
    if version != VERSION {
        return Err(damaged(format!(
            "has version {version}, known is {VERSION}"
        )));
    }
    let len = u32::from_le_bytes(bytes[6..10].try_into().expect("four bytes")) as usize;
    if len > HEAD_BYTES_MAX {
        return Err(damaged(format!("has a head of {len} bytes")));
    }
    read(len, &mut bytes)?;
    let found = hash(&bytes);
    if found != name.hash {
        return Err(damaged(format!("has hash {found}")));
    }
    let head = Head::decode(&bytes[FIXED_LEN..]).map_err(damaged)?;
    if head.period != name.period {
        return Err(damaged(format!("holds {}", head.period)));
    }
    Ok((file, head, path))
}

fn hash(bytes: &[u8]) -> StateHash {
    let hash = Sha256::digest(bytes);
    hash[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Contexts are large and most states small: one per thread is kept.
fn compress(plain: &[u8]) -> io::Result<Vec<u8>> {
    thread_local! {
        static KEPT: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    }
    KEPT.with_borrow_mut(|kept| {
        if kept.is_none() {
            *kept = Some(Compressor::new(ZSTD_LEVEL)?);
        }
        kept.as_mut().expect("made above").compress(plain)
    })
}

#[cfg(test)]
mod tests;
