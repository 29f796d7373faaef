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
//! magic "SLHR", version u16 (little-endian)
//! hour (zigzag varint), number of sites (varint), each:
//!   0, or 1 and the site (string)
//!   requests, with_bytes (varints), bytes (two varints: low and high 64 bits)
//!   statuses: number, each: code, count (varints)
//!   methods, paths, user agents: number, each: key (string), count (varint)
//! ```
//! Strings are UTF-8 with their length in front as a varint. Nothing here removes a file.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use pipeline_core::fsx;
use sha2::{Digest, Sha256};

use crate::{
    counts::{Counts, Keys, Sites},
    hour::Hour,
};

const MAGIC: [u8; 4] = *b"SLHR";
const VERSION: u16 = 1;
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
    sites: &Sites<'_>,
) -> Result<StateName, StateError> {
    let plain = encode(hour, sites);
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

/// A state in memory; [`State::sites`] borrows from it.
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
    pub fn sites(&self) -> Result<Sites<'_>, StateError> {
        let damaged = |detail: String| StateError::Damaged {
            path: self.path.clone(),
            detail,
        };
        let (hour, sites) = decode(&self.plain).map_err(damaged)?;
        if hour != self.hour {
            return Err(damaged(format!("holds the hour {hour}")));
        }
        Ok(sites)
    }
}

fn hash(bytes: &[u8]) -> StateHash {
    let hash = Sha256::digest(bytes);
    hash[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn encode(hour: Hour, sites: &Sites<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    put(&mut out, ((hour.0 << 1) ^ (hour.0 >> 63)) as u64);
    put(&mut out, sites.len() as u64);
    for (site, counts) in sites {
        match site {
            None => out.push(0),
            Some(site) => {
                out.push(1);
                put_text(&mut out, site);
            }
        }
        put(&mut out, counts.requests);
        put(&mut out, counts.with_bytes);
        put(&mut out, counts.bytes as u64);
        put(&mut out, (counts.bytes >> 64) as u64);
        put(&mut out, counts.statuses.len() as u64);
        for (status, count) in &counts.statuses {
            put(&mut out, u64::from(*status));
            put(&mut out, *count);
        }
        for keys in [&counts.methods, &counts.paths, &counts.user_agents] {
            put(&mut out, keys.len() as u64);
            for (key, count) in keys {
                put_text(&mut out, key);
                put(&mut out, *count);
            }
        }
    }
    out
}

fn decode(plain: &[u8]) -> Result<(Hour, Sites<'_>), String> {
    let mut from = Reader(plain);
    if from.take(4)? != MAGIC {
        return Err("is not an hour's state".to_owned());
    }
    let version = u16::from_le_bytes(from.take(2)?.try_into().expect("two bytes"));
    if version != VERSION {
        return Err(format!("has version {version}, known is {VERSION}"));
    }
    let hour = from.number()?;
    let hour = Hour((hour >> 1) as i64 ^ -((hour & 1) as i64));
    let mut sites = Vec::new();
    for _ in 0..from.number()? {
        let site = match from.take(1)? {
            [0] => None,
            _ => Some(from.text()?),
        };
        let mut counts = Counts {
            requests: from.number()?,
            with_bytes: from.number()?,
            bytes: u128::from(from.number()?),
            ..Counts::default()
        };
        counts.bytes |= u128::from(from.number()?) << 64;
        for _ in 0..from.number()? {
            let status = u16::try_from(from.number()?).map_err(|_| "has an odd status code")?;
            counts.statuses.push((status, from.number()?));
        }
        counts.methods = from.keys()?;
        counts.paths = from.keys()?;
        counts.user_agents = from.keys()?;
        sites.push((site, counts));
    }
    if !from.0.is_empty() {
        return Err(format!("has {} bytes behind its end", from.0.len()));
    }
    Ok((hour, sites))
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let (head, rest) = self
            .0
            .split_at_checked(len)
            .ok_or_else(|| format!("ends {} bytes too early", len - self.0.len()))?;
        self.0 = rest;
        Ok(head)
    }

    fn number(&mut self) -> Result<u64, String> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("has a number of more than 64 bits".to_owned())
    }

    fn text(&mut self) -> Result<&'a str, String> {
        let len = self.number()?;
        let bytes = self.take(usize::try_from(len).unwrap_or(usize::MAX))?;
        std::str::from_utf8(bytes).map_err(|error| error.to_string())
    }

    fn keys(&mut self) -> Result<Keys<'a>, String> {
        let count = self.number()?;
        // A key takes two bytes at least, so a wrong number asks for no more than that.
        let mut keys = Vec::with_capacity((count as usize).min(self.0.len() / 2));
        for _ in 0..count {
            keys.push((self.text()?, self.number()?));
        }
        Ok(keys)
    }
}
