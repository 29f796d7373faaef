//! The archive: every stored record, whole, as Parquet, by hour of its own time.
//!
//! ```text
//! <archiveDir>/date=2015-05-17/hour=10/<number of the plan, 20 digits>-<16 hex digits>.parquet
//! <archiveDir>-aside/date=…/hour=…/…             records counted aside, in the same form
//! <archiveDir>/.tmp-…                            being written; no pattern for the above fits it
//! ```
//! In reading order: `tally` (what segments bring for which place), `pending` (what is counted and
//! not yet archived, and the plan; pure), `table` (rows to Parquet and back), `rows` (the records
//! of a plan, sorted), `spill` (those that memory has no room for), `publish` (a plan's files put in place), `run` (all of
//! that in order), `files` (what stands there).

pub mod files;
pub mod pending;
pub mod publish;
pub mod rows;
pub mod run;
pub mod spill;
pub mod table;
pub mod tally;

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use pipeline_core::PartitionId;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::hour::Hour;

/// Where, and by which rules.
#[derive(Clone)]
pub struct Archiving {
    pub dir: PathBuf,
    pub policy: Policy,
    pub clock: Clock,
}

#[derive(Clone, Debug)]
pub struct Policy {
    /// How long nothing may have come for an hour that is over.
    pub after: Duration,
    /// Longest time from storing a record to archiving it.
    pub max_wait: Duration,
    /// Lines of a file and of a plan, about.
    pub file_bytes: u64,
    pub plan_bytes: u64,
    /// Of a plan's lines, so many are held in memory while it is carried out, or those of a file;
    /// more lie on the disk meanwhile.
    pub memory_bytes: usize,
    /// Plans that one run carries out, so that counting is not kept waiting.
    pub plans_max: usize,
    pub live_retention: Duration,
    pub archive_retention: Option<Duration>,
    pub analytics_retention: Option<Duration>,
}

/// Milliseconds since 1970, as someone says.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl Clock {
    #[must_use]
    pub fn system() -> Self {
        Self(Arc::new(|| to_ms(SystemTime::now())))
    }

    #[must_use]
    pub fn new(now_ms: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_ms))
    }

    #[must_use]
    pub fn now_ms(&self) -> i64 {
        (self.0)()
    }
}

#[must_use]
pub fn to_ms(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

/// A record further ahead of its time of receipt than this is counted aside: its clock is wrong,
/// and it would stand in an hour that nobody looks at yet.
const AHEAD_MAX_MS: i64 = 24 * 3_600_000;

/// Where a record belongs: an hour, of the archive or of what is counted aside.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Place {
    pub aside: bool,
    pub hour: Hour,
}

impl Place {
    #[inline]
    #[must_use]
    pub fn of(timestamp_ms: i64, received_ms: i64) -> Self {
        Self {
            aside: timestamp_ms > received_ms.saturating_add(AHEAD_MAX_MS),
            hour: Hour::of_ms(timestamp_ms),
        }
    }

    /// The directory of its files.
    #[must_use]
    pub fn dir(self, archive: &Path) -> PathBuf {
        let root = if self.aside {
            aside_dir(archive)
        } else {
            archive.to_owned()
        };
        root.join(format!("date={}", self.hour.day()))
            .join(format!("hour={:02}", self.hour.of_day()))
    }
}

/// `<archiveDir>-aside`
#[must_use]
pub fn aside_dir(archive: &Path) -> PathBuf {
    let mut name = archive.file_name().unwrap_or_default().to_owned();
    name.push("-aside");
    archive.with_file_name(name)
}

/// `2015-05-17T10`, `aside:2099-01-01T00`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let aside = if self.aside { ASIDE } else { "" };
        write!(f, "{aside}{}", self.hour)
    }
}

const ASIDE: &str = "aside:";

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hour = text.strip_prefix(ASIDE);
        Ok(Self {
            aside: hour.is_some(),
            hour: Hour::parse(hour.unwrap_or(text))
                .ok_or_else(|| format!("{text:?} is not a place of the archive"))?,
        })
    }
}

/// A chain, by topic and partition.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ChainId {
    pub topic: Arc<str>,
    pub partition: PartitionId,
}

impl ChainId {
    #[must_use]
    pub fn new(topic: &str, partition: PartitionId) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}

/// `logs/3`: no topic's name has a slash.
impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition.0)
    }
}

impl FromStr for ChainId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.rsplit_once('/');
        let chain = parts.and_then(|(topic, partition)| {
            Some(Self::new(topic, PartitionId(partition.parse().ok()?)))
        });
        chain.ok_or_else(|| format!("{text:?} is not a chain"))
    }
}

macro_rules! as_text {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(D::Error::custom)
            }
        }
    )*};
}

as_text!(Place, ChainId);
