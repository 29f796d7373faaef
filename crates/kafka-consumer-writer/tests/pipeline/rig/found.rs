//! What a rig finds on the disk, and whether that is what was sent.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use kafka_consumer_writer::dead_letters::{EntryKind, FILE_KIND, read_payload};
use pipeline_core::{
    BatchId, PartitionId,
    dlq::read_frames,
    store::{
        Fate, Totals, read_segment,
        verify::{Which, verify},
    },
};

use super::{Rig, Sent, TOPIC, batch_id, line};

/// One stored record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    pub partition: i32,
    pub offset: i64,
    pub identity: Option<(BatchId, u32)>,
    pub line: String,
}

impl Rig {
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for partition in 0..self.partitions {
            if let Ok(Some(end)) = self.chain(partition).walk(None, &mut |_| true) {
                for (fate, count) in fates(&end.totals) {
                    totals.add(fate, count);
                }
            }
        }
        totals
    }

    /// Every stored record, and the proof that the store is whole.
    pub fn stored(&self) -> Vec<Stored> {
        self.stored_in(self.dir.path())
    }

    pub fn stored_in(&self, dir: &Path) -> Vec<Stored> {
        let report = verify(&dir.join("logs"), &Which::default(), &|_, _| {});
        let report = report.expect("the store is listed");
        assert!(report.is_whole(), "{report:?}");
        let store = self.store(dir);
        let mut all = Vec::new();
        for partition in 0..self.partitions {
            let chain = store.chain(TOPIC, PartitionId(partition));
            let mut paths = Vec::new();
            chain
                .walk(None, &mut |visited| {
                    paths.push(visited.path);
                    true
                })
                .expect("the chain holds together");
            for path in paths {
                let (trailer, _, plain) = read_segment(&path).expect("whole");
                for record in trailer.records(&plain) {
                    all.push(Stored {
                        partition,
                        offset: record.offset.0,
                        identity: record.batch.map(|batch| (batch, record.sequence)),
                        line: String::from_utf8(record.line.to_vec()).expect("UTF-8"),
                    });
                }
            }
        }
        all
    }

    /// Each produced identity (batch, sequence) must be stored once, as it was sent.
    pub fn check_exact(&self, expected: impl IntoIterator<Item = (u64, u32)>) {
        self.check_exact_in(self.dir.path(), expected);
    }

    fn check_exact_in(&self, dir: &Path, expected: impl IntoIterator<Item = (u64, u32)>) {
        let mut stored: BTreeMap<(BatchId, u32), String> = BTreeMap::new();
        for record in self.stored_in(dir) {
            let identity = record.identity.expect("all have an envelope");
            let twice = stored.insert(identity, record.line);
            assert!(twice.is_none(), "{identity:?} is stored twice");
        }
        for (batch, sequence) in expected {
            let found = stored.remove(&(batch_id(batch), sequence));
            assert_eq!(
                found.as_deref(),
                Some(line(batch, sequence).as_str()),
                "batch {batch} sequence {sequence}"
            );
        }
        assert!(stored.is_empty(), "nobody sent {stored:?}");
    }

    /// As [`Self::check_exact`], and what each partition holds is in the order in which it was sent.
    pub fn check_in_order(&self, sent: &[Sent]) {
        self.check_in_order_in(self.dir.path(), sent);
    }

    pub fn check_in_order_in(&self, dir: &Path, sent: &[Sent]) {
        self.check_exact_in(dir, sent.iter().map(|sent| (sent.batch, sent.sequence)));
        let mut stored: BTreeMap<i32, Vec<_>> = BTreeMap::new();
        for record in self.stored_in(dir) {
            let offsets = stored.entry(record.partition).or_default();
            offsets.push((record.offset, record.identity.expect("checked")));
        }
        let mut expected: BTreeMap<i32, Vec<_>> = BTreeMap::new();
        for sent in sent {
            let identity = (batch_id(sent.batch), sent.sequence);
            let offsets = expected.entry(sent.partition).or_default();
            offsets.push((sent.offset, identity));
        }
        assert_eq!(stored, expected);
    }

    /// What the consumer DLQ holds of poison and undecidable, by partition and offset.
    pub fn dead_letters(&self) -> BTreeMap<(i32, i64), (EntryKind, String)> {
        let mut found = BTreeMap::new();
        for path in self.dead_letter_files("records-") {
            let report = read_frames(&path, FILE_KIND, &mut |_, payload| {
                read_payload(payload, &mut |place, entry| {
                    let key = (place.partition.0, entry.offset.0);
                    found.insert(key, (entry.kind, entry.detail.to_string()));
                })
                .expect("whole");
            });
            assert!(report.expect("readable").damaged.is_empty());
        }
        found
    }

    pub fn dead_letter_files(&self, prefix: &str) -> Vec<PathBuf> {
        let dir = self.dir.path().join("dlq/consumer");
        let mut paths: Vec<PathBuf> = std::fs::read_dir(dir)
            .expect("the directory is there")
            .map(|entry| entry.expect("listed").path())
            .filter(|path| {
                let name = path
                    .file_name()
                    .expect("a file")
                    .to_string_lossy()
                    .into_owned();
                name.starts_with(prefix)
            })
            .collect();
        paths.sort();
        paths
    }
}

fn fates(totals: &Totals) -> [(Fate, u64); 6] {
    [
        (Fate::Stored, totals.stored),
        (Fate::Duplicate, totals.duplicate),
        (Fate::Poison, totals.poison),
        (Fate::Undecidable, totals.undecidable),
        (Fate::Skipped, totals.skipped),
        (Fate::Lost, totals.lost),
    ]
}
