//! Reads the consumer DLQ as its documentation says, to know which records were put aside as
//! undecidable, and how much poison. Shares no code with the product: a header of 28 bytes, then
//! frames of 24 bytes (the length in bytes 12 to 16) and a zstd payload; of a payload only kind,
//! offset, *since* and value matter. Any other version is refused: what is not read would be taken
//! for lost.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{order, store::place};

const HEADER: usize = 28;
const MAGIC: &[u8] = b"sluicefrcdlq\0\0\0\x02";
const FRAME_HEAD: usize = 24;
const MARKER: [u8; 4] = [0xf7, 0x1e, 0xd5, 0x9b];
const POISONED: u8 = 1;
const UNDECIDABLE: u8 = 2;
/// Of a `sluice` header of version 1; its last eight bytes are *since*.
const ENVELOPE: usize = 37;

/// What is in the directories' `records-*.dlq`.
#[derive(Debug, Default)]
pub struct Aside {
    /// How often a record of the load is there as undecidable, by request and index.
    undecidable: HashMap<(u32, u32), u32>,
    /// How many messages are there that a campaign sent as poison.
    poison: u64,
    /// Anything else: no load sends it.
    strange: Vec<String>,
    /// By partition and offset, each message once: an entry may stand there again after a crash.
    messages: HashMap<(u32, i64), Message>,
    /// A stand has one topic.
    topic: Option<Vec<u8>>,
}

/// A message that was put aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    Poison,
    /// `since`: where its header can be read.
    Undecidable {
        since: Option<i64>,
    },
}

impl Aside {
    /// Reads `dlq/consumer*` below a stand's directory.
    ///
    /// # Errors
    /// When a file cannot be read or is not as documented; a torn end is as it should be after a
    /// kill.
    pub fn read(dir: &Path) -> Result<Self> {
        let mut aside = Self::default();
        for dir in listed(&dir.join("dlq"), "consumer")? {
            for file in listed(&dir, "records-")? {
                let bytes = fs::read(&file)?;
                aside
                    .read_file(&bytes)
                    .with_context(|| format!("in {}", file.display()))?;
            }
        }
        Ok(aside)
    }

    /// How often it was put aside.
    pub fn copies(&self, request: u32, index: u32) -> u32 {
        self.undecidable
            .get(&(request, index))
            .copied()
            .unwrap_or(0)
    }

    /// What is there of the message at this place.
    pub fn at(&self, partition: u32, offset: i64) -> Option<Message> {
        self.messages.get(&(partition, offset)).copied()
    }

    /// Messages of one partition, each counted once.
    pub fn messages_of(&self, partition: u32) -> u64 {
        let places = self.messages.keys();
        places.filter(|(own, _)| *own == partition).count() as u64
    }

    /// Undecidable messages, each counted once: of one record there may be several.
    pub fn undecidable(&self) -> u64 {
        let messages = self.messages.values();
        messages.filter(|it| **it != Message::Poison).count() as u64
    }

    /// Undecidable messages that stand at or behind these ends of the partitions' logs, and were
    /// first sent when the logs were known to be as long.
    pub fn undecidable_from<'a>(
        &'a self,
        ends: &'a [i64],
    ) -> impl Iterator<Item = (u32, i64)> + 'a {
        let places = self.messages.iter();
        let found = places.filter(move |((partition, offset), message)| {
            let end = ends.get(*partition as usize).copied().unwrap_or(0);
            let Message::Undecidable { since } = message else {
                return false;
            };
            *offset >= end && since.is_none_or(|since| since >= end)
        });
        found.map(|(place, _)| *place)
    }

    /// Undecidable records, each counted once.
    pub fn records(&self) -> u64 {
        self.undecidable.len() as u64
    }

    /// Poison that a campaign sent, each message counted once.
    pub fn poison(&self) -> u64 {
        self.poison
    }

    /// Entries that are no record of the load.
    pub fn strange(&self) -> &[String] {
        &self.strange
    }

    fn read_file(&mut self, bytes: &[u8]) -> Result<()> {
        let Some((header, mut rest)) = bytes.split_at_checked(HEADER) else {
            return Ok(());
        };
        if header[8..24] != *MAGIC {
            bail!("a header of another kind or version: {header:02x?}");
        }
        while let Some((head, behind)) = rest.split_at_checked(FRAME_HEAD) {
            if head[8..12] != MARKER {
                bail!("no frame: {head:02x?}");
            }
            let length = u32::from_be_bytes(head[12..16].try_into()?) as usize;
            let Some((packed, next)) = behind.split_at_checked(length) else {
                break;
            };
            self.read_payload(&zstd::decode_all(packed)?)?;
            rest = next;
        }
        Ok(())
    }

    fn read_payload(&mut self, payload: &[u8]) -> Result<()> {
        let mut rest = Rest(payload);
        if rest.u8()? != 1 {
            bail!("a payload of an unknown version");
        }
        let name = usize::from(u16::from_be_bytes(rest.array()?));
        rest.take(name)?;
        let id = usize::from(rest.u8()?);
        let topic = rest.take(id)?.to_vec();
        if *self.topic.get_or_insert_with(|| topic.clone()) != topic {
            bail!("messages of more than one topic");
        }
        let partition = u32::from_be_bytes(rest.array()?);
        while !rest.0.is_empty() {
            let kind = rest.u8()?;
            let offset = i64::from_be_bytes(rest.array()?);
            rest.take(8)?; // the message's time
            let since = match rest.u8()? {
                3 => since(rest.bytes()?),
                _ => None,
            };
            let value = if rest.u8()? == 1 { rest.bytes()? } else { b"" };
            let detail = String::from_utf8_lossy(rest.bytes()?).into_owned();
            if self.messages.contains_key(&(partition, offset)) {
                continue;
            }
            let mut know = |message| self.messages.insert((partition, offset), message);
            match place(value) {
                Some(record) if kind == UNDECIDABLE => {
                    know(Message::Undecidable { since });
                    *self.undecidable.entry(record).or_insert(0) += 1;
                }
                None if kind == POISONED && value.starts_with(order::POISON.as_bytes()) => {
                    know(Message::Poison);
                    self.poison += 1;
                }
                _ => self.strange.push(format!(
                    "partition {partition} offset {offset} is of kind {kind}: {detail}"
                )),
            }
        }
        Ok(())
    }
}

fn since(header: &[u8]) -> Option<i64> {
    let header: &[u8; ENVELOPE] = header
        .try_into()
        .ok()
        .filter(|it: &&[u8; ENVELOPE]| it[0] == 1)?;
    let (_, since) = header.split_last_chunk()?;
    Some(i64::from_be_bytes(*since))
}

fn listed(dir: &Path, prefix: &str) -> Result<Vec<PathBuf>> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len).context("it ends early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into()?)
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn bytes(&mut self) -> Result<&'a [u8]> {
        let len = u32::from_be_bytes(self.array()?);
        self.take(len as usize)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A file with one frame that holds these values as undecidable, at offsets from 0.
    pub fn file_of(values: &[String]) -> Vec<u8> {
        let mut payload = vec![1, 0, 1, b't', 1, b'i', 0, 0, 0, 3];
        for (offset, value) in (0_i64..).zip(values) {
            payload.push(UNDECIDABLE);
            payload.extend(offset.to_be_bytes());
            payload.extend([0; 8]);
            payload.extend([3, 0, 0, 0, 2, 9, 9]);
            payload.push(1);
            payload.extend((value.len() as u32).to_be_bytes());
            payload.extend(value.as_bytes());
            payload.extend([0; 4]);
        }
        let packed = zstd::encode_all(payload.as_slice(), 1).expect("memory takes it");
        let mut file = vec![0; HEADER + FRAME_HEAD];
        file[8..24].copy_from_slice(MAGIC);
        file[HEADER + 8..HEADER + 12].copy_from_slice(&MARKER);
        file[HEADER + 12..HEADER + 16].copy_from_slice(&(packed.len() as u32).to_be_bytes());
        file.extend(packed);
        file
    }

    #[test]
    fn an_entry_counts_once_however_often_it_stands_there() {
        let value = |path: &str| format!(r#"{{"path":"{path}"}}"#);
        let file = file_of(&[value("/t/1/2"), value("/t/1/2"), value("/t/1/3")]);
        let mut aside = Aside::default();
        for _ in 0..2 {
            aside.read_file(&file).expect("as documented");
        }
        assert_eq!(
            (aside.copies(1, 2), aside.copies(1, 3), aside.records()),
            (2, 1, 2)
        );
        assert_eq!((aside.undecidable(), aside.messages_of(3)), (3, 3));
        assert_eq!(aside.at(3, 3), None);
        assert_eq!(aside.undecidable_from(&[]).count(), 3);
        assert_eq!(aside.undecidable_from(&[0, 0, 0, 3]).count(), 0);
        assert!(aside.strange().is_empty());
        aside
            .read_file(&file[..file.len() - 1])
            .expect("a torn end");
        aside
            .read_file(&file_of(&["{}".to_owned()]))
            .expect("as documented");
        assert!(aside.strange().is_empty(), "the key is known");
        let other = file_of(&["".to_owned(), "".to_owned(), "".to_owned(), "{}".to_owned()]);
        aside.read_file(&other).expect("as documented");
        assert_eq!(aside.strange().len(), 1);
    }
}
