//! The broker's directory: which topics there are, where the logs lie, which offsets are
//! committed. Written for a process that is killed at any instant, not for a lost machine: no
//! fsync anywhere.
//!
//! `broker.json` (replaced whole), `<topic id>/<partition>.log` (batches back to back),
//! `offsets.jsonl` (one commit a line, the last of a partition counts; rewritten at the start).

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

const VERSION: u32 = 1;

pub(crate) struct Store {
    dir: PathBuf,
    offsets: Mutex<File>,
    saving: Mutex<()>,
    /// Held while this process lives: two brokers in one directory would mix their logs.
    _lock: File,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Stored {
    version: u32,
    pub cluster_id: String,
    pub topics: Vec<StoredTopic>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredTopic {
    pub name: String,
    #[serde(with = "hex")]
    pub id: u128,
    pub replication: i16,
    pub partitions: Vec<StoredPartition>,
    pub settings: BTreeMap<String, String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredPartition {
    pub leader: i32,
    pub epoch: i32,
    pub replicas: Vec<i32>,
    pub start: i64,
}

/// One committed offset; a topic's deletion or a group's is written as one without `offset`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredOffset {
    pub group: String,
    pub topic: String,
    pub partition: i32,
    pub offset: Option<i64>,
    pub epoch: i32,
    pub metadata: String,
}

impl Store {
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let lock = File::create(dir.join("lock"))?;
        lock.try_lock()
            .map_err(|_| io::Error::other("another broker uses it"))?;
        let mut offsets = OpenOptions::new();
        let offsets = offsets
            .create(true)
            .append(true)
            .open(dir.join("offsets.jsonl"))?;
        Ok(Self {
            dir: dir.to_owned(),
            offsets: Mutex::new(offsets),
            saving: Mutex::new(()),
            _lock: lock,
        })
    }

    /// `None` in a fresh directory.
    pub(crate) fn load(&self) -> io::Result<Option<Stored>> {
        let text = match fs::read(self.dir.join("broker.json")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        let stored: Stored = serde_json::from_slice(&text)?;
        if stored.version != VERSION {
            let why = format!(
                "broker.json is of version {}, not {VERSION}",
                stored.version
            );
            return Err(io::Error::other(why));
        }
        Ok(Some(stored))
    }

    /// `topics` is asked under the lock: of two savers the later one writes the later state.
    pub(crate) fn save(
        &self,
        cluster_id: &str,
        topics: impl FnOnce() -> Vec<StoredTopic>,
    ) -> io::Result<()> {
        let _one = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let stored = Stored {
            version: VERSION,
            cluster_id: cluster_id.to_owned(),
            topics: topics(),
        };
        self.replace("broker.json", &serde_json::to_vec_pretty(&stored)?)
    }

    pub(crate) fn make_topic(&self, id: Uuid) -> io::Result<()> {
        fs::create_dir_all(self.topic_dir(id))
    }

    pub(crate) fn remove_topic(&self, id: Uuid) {
        if let Err(error) = fs::remove_dir_all(self.topic_dir(id)) {
            tracing::warn!(%error, "failed to remove the files of a deleted topic");
        }
    }

    pub(crate) fn log_path(&self, id: Uuid, partition: i32) -> PathBuf {
        self.topic_dir(id).join(format!("{partition}.log"))
    }

    /// Every offset that was committed and not removed since. A line cut short by a kill was
    /// never acknowledged.
    pub(crate) fn load_offsets(&self) -> io::Result<Vec<StoredOffset>> {
        let text = fs::read(self.dir.join("offsets.jsonl"))?;
        let mut last = BTreeMap::new();
        for line in text.split(|byte| *byte == b'\n') {
            if let Ok(entry) = serde_json::from_slice::<StoredOffset>(line) {
                let key = (entry.group.clone(), entry.topic.clone(), entry.partition);
                last.insert(key, entry);
            }
        }
        last.retain(|_, entry| entry.offset.is_some());
        let kept: Vec<StoredOffset> = last.into_values().collect();
        self.replace("offsets.jsonl", &lines(&kept)?)?;
        let reopened = OpenOptions::new()
            .append(true)
            .open(self.dir.join("offsets.jsonl"))?;
        *self.offsets.lock().unwrap_or_else(PoisonError::into_inner) = reopened;
        Ok(kept)
    }

    pub(crate) fn append_offsets(&self, entries: &[StoredOffset]) -> io::Result<()> {
        let text = lines(entries)?;
        let mut file = self.offsets.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&text)
    }

    fn topic_dir(&self, id: Uuid) -> PathBuf {
        self.dir.join(format!("{:032x}", id.as_u128()))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let fresh = self.dir.join(format!("{name}.new"));
        fs::write(&fresh, bytes)?;
        fs::rename(&fresh, self.dir.join(name))
    }
}

fn lines(entries: &[StoredOffset]) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    for entry in entries {
        serde_json::to_writer(&mut text, entry)?;
        text.push(b'\n');
    }
    Ok(text)
}

/// JSON numbers do not hold 128 bits.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(id: &u128, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&format!("{id:032x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u128, D::Error> {
        let text = String::deserialize(from)?;
        u128::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}
