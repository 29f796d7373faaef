//! Hour states: the counts of one hour as an immutable file that a manifest names.
//!
//! ```text
//! <analyticsDir>/_state/hours/2015-05-17T10-<number of the manifest, 20 digits>-<32 hex digits>
//! ```
//! The hex digits are the first half of the file's SHA-256, so a name says what its file holds:
//! two processes that write the same name write the same bytes, and damage is seen when it is
//! read. The file is one zstd frame of:
//!
//! ```text
//! magic "SLHR", version u16 (little-endian), hour (zigzag varint)
//! versions of the classification: number, each a string
//! bots: number, each: name, operator, purpose (strings)
//! error of the sites' counts, number of sites, each:
//!   0 (records without one), 1 (those not kept apart), or 2 and the site (string)
//!   traffic: number, each: hour of the day, client and class, requests, requests with bytes,
//!     bytes (two varints: low and high 64 bits)
//!   statuses: number, each: code, count
//!   durations: number of buckets, each: bucket (zigzag), count
//!   paths, user agents, methods, referring hosts, each a table:
//!     other, error, number of missed, each: key (string), count
//!     number of keys, each: key (string), number of rows, each: client and class, count
//! ```
//! Client and class are one number: client * 6 + class; clients are 0 human, 1 unknown, 2 empty,
//! and from 3 on the bots in their order. Numbers are varints.
//! Strings are UTF-8 with their length in front as a varint. Nothing here removes a file.

mod codec;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use pipeline_core::fsx;
use sha2::{Digest, Sha256};

use self::codec::Reader;
use crate::{counts::Content, hour::Hour};

const MAGIC: [u8; 4] = *b"SLHR";
const VERSION: u16 = 2;
const ZSTD_LEVEL: i32 = 1;

/// First half of the SHA-256 of a state file, in hex.
pub type StateHash = String;

/// Why a state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("failed to {step} {path}: {source}")]
    Io {
        step: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("damaged {path}: {detail}")]
    Damaged { path: PathBuf, detail: String },
}

impl StateError {
    /// For `map_err`.
    pub fn io(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            step,
            path: path.to_owned(),
            source,
        }
    }
}

/// The name of a state file: what is read from a directory, and what a manifest makes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StateName {
    pub hour: Hour,
    /// The manifest it was written for.
    pub number: u64,
    pub hash: StateHash,
}

impl StateName {
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}-{:020}-{}", self.hour, self.number, self.hash)
    }

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (hour, rest) = name.split_at_checked(13)?;
        let (number, hash) = rest.strip_prefix('-')?.split_once('-')?;
        let parsed = Self {
            hour: Hour::parse(hour)?,
            number: number.parse().ok()?,
            hash: hash.to_owned(),
        };
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (parsed.file_name() == name && hash.len() == 32 && hash.bytes().all(hex)).then_some(parsed)
    }
}

/// Writes the state of `hour` for manifest `number`. The name is durable once `dir` is fsynced.
///
/// # Errors
/// Names the step that failed.
pub fn write(
    dir: &Path,
    hour: Hour,
    number: u64,
    content: &Content<'_>,
) -> Result<StateName, StateError> {
    let plain = encode(hour, content);
    let bytes =
        zstd::bulk::compress(&plain, ZSTD_LEVEL).map_err(StateError::io("compress", dir))?;
    let name = StateName {
        hour,
        number,
        hash: hash(&bytes),
    };
    let path = dir.join(name.file_name());
    let temporary =
        fsx::Temporary::write_in(dir, &bytes).map_err(StateError::io("write and fsync", &path))?;
    // Taken: by the same bytes.
    temporary
        .link(&path)
        .map_err(StateError::io("link", &path))?;
    Ok(name)
}

/// A state in memory; [`State::content`] borrows from it.
pub struct State {
    path: PathBuf,
    hour: Hour,
    plain: Vec<u8>,
}

impl State {
    /// # Errors
    /// Where the file is gone, cannot be read, or is not what its name says.
    pub fn read(dir: &Path, name: &StateName) -> Result<Self, StateError> {
        let path = dir.join(name.file_name());
        let damaged = |detail: String| StateError::Damaged {
            path: path.clone(),
            detail,
        };
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(damaged("missing although a manifest names it".to_owned()));
            }
            Err(error) => return Err(StateError::io("read", &path)(error)),
        };
        let found = hash(&bytes);
        if found != name.hash {
            return Err(damaged(format!("has hash {found}")));
        }
        // Its hash holds, so what it asks of memory is what this program wrote.
        let plain =
            zstd::decode_all(bytes.as_slice()).map_err(|error| damaged(error.to_string()))?;
        Ok(Self {
            path,
            hour: name.hour,
            plain,
        })
    }

    /// # Errors
    /// Where it is of an unknown version, or not a state.
    pub fn content(&self) -> Result<Content<'_>, StateError> {
        let damaged = |detail: String| StateError::Damaged {
            path: self.path.clone(),
            detail,
        };
        let (hour, content) = decode(&self.plain).map_err(damaged)?;
        if hour != self.hour {
            return Err(damaged(format!("holds the hour {hour}")));
        }
        Ok(content)
    }
}

fn hash(bytes: &[u8]) -> StateHash {
    let hash = Sha256::digest(bytes);
    hash[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn encode(hour: Hour, content: &Content<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    codec::put(&mut out, codec::zigzag(hour.0));
    codec::encode(content, &mut out);
    out
}

fn decode(plain: &[u8]) -> Result<(Hour, Content<'_>), String> {
    let mut from = Reader(plain);
    if from.take(4)? != MAGIC {
        return Err("is not an hour's state".to_owned());
    }
    let version = u16::from_le_bytes(from.take(2)?.try_into().expect("two bytes"));
    if version != VERSION {
        return Err(format!("has version {version}, known is {VERSION}"));
    }
    let hour = Hour(codec::unzigzag(from.number()?));
    Ok((hour, codec::decode(from.0)?))
}
