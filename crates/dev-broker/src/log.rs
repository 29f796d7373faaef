//! The log of one partition: an index of batches in memory, their bytes in memory or in a file.
//! Batches are kept as they came; only base offset and leader epoch are set. Knows nothing of
//! requests, waiting or leaders ([`crate::partition`] does).

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use bytes::{Bytes, BytesMut};

use crate::{
    batch::{self, BatchHead},
    txn::{AbortedTxn, Txns},
};

#[derive(Debug)]
pub(crate) struct Log {
    /// First offset that may be read; may lie inside of the first batch.
    start: i64,
    entries: VecDeque<Entry>,
    end: i64,
    /// Where the next batch goes: position in the file, or bytes ever appended.
    tail: u64,
    file: Option<File>,
    txns: Txns,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfRange;

#[derive(Debug)]
struct Entry {
    base: i64,
    last: i64,
    max_timestamp: i64,
    epoch: i32,
    len: usize,
    /// Batches lie back to back, in memory too: positions tell how many bytes lie between two.
    at: u64,
    /// `None`: in the file, at `at`.
    bytes: Option<Bytes>,
}

impl Log {
    pub(crate) fn in_memory() -> Self {
        Self {
            start: 0,
            entries: VecDeque::new(),
            end: 0,
            tail: 0,
            file: None,
            txns: Txns::default(),
        }
    }

    /// Opens the file and reads the head of every batch in it. What a killed process left half
    /// written at the end was never acknowledged, and is cut off.
    pub(crate) fn in_file(path: &Path, start: i64) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let file_len = file.metadata()?.len();
        let mut log = Self::in_memory();
        log.start = start;
        log.end = start;
        let mut head_bytes = [0; batch::HEADER_LEN];
        while file.read_exact_at(&mut head_bytes, log.tail).is_ok() {
            let Some(head) = BatchHead::parse(&head_bytes) else {
                break;
            };
            if log.tail + head.len as u64 > file_len {
                break;
            }
            let mut commits = None;
            if head.is_control() {
                let mut whole = vec![0; head.len];
                file.read_exact_at(&mut whole, log.tail)?;
                commits = batch::marker_commits(&whole, &head);
            }
            log.txns.note(&head, head.base_offset, commits);
            log.index(&head, head.base_offset, head.epoch, None);
        }
        file.set_len(log.tail)?;
        log.file = Some(file);
        log.drop_before_start();
        Ok(log)
    }

    pub(crate) fn start(&self) -> i64 {
        self.start
    }

    pub(crate) fn end(&self) -> i64 {
        self.end
    }

    /// Up to where a read-committed reader may go.
    pub(crate) fn stable_end(&self) -> i64 {
        self.txns.stable_end(self.end)
    }

    /// Bytes that a reader at `from` has before it.
    pub(crate) fn bytes_from(&self, from: i64) -> u64 {
        let first = self.entries.get(self.first_reaching(from));
        first.map_or(0, |entry| self.tail - entry.at)
    }

    /// Appends one checked batch and returns its base offset.
    pub(crate) fn append(&mut self, batch: &[u8], head: &BatchHead, epoch: i32) -> io::Result<i64> {
        let base = self.end;
        let mut bytes = BytesMut::from(batch);
        batch::place(&mut bytes, base, epoch);
        let kept = match &self.file {
            None => Some(bytes.freeze()),
            Some(file) => {
                file.write_all_at(&bytes, self.tail)?;
                None
            }
        };
        let commits = batch::marker_commits(batch, head);
        self.txns.note(head, base, commits);
        self.index(head, base, epoch, kept);
        Ok(base)
    }

    /// Batches from the one that holds `from`, those before `until`, at most `max` bytes: like a
    /// real broker, the last one may be cut short. With `whole_first` the first is given whole,
    /// however large it is.
    pub(crate) fn read(
        &self,
        from: i64,
        until: i64,
        max: usize,
        whole_first: bool,
    ) -> Result<io::Result<Bytes>, OutOfRange> {
        if from < self.start || from > self.end {
            return Err(OutOfRange);
        }
        let first = self.first_reaching(from);
        let entry = self.entries.get(first).filter(|entry| entry.base < until);
        let Some(entry) = entry else {
            return Ok(Ok(Bytes::new()));
        };
        // transactions are decided batch by batch, so `until` never lies inside of one
        let beyond = self.entries.get(self.first_reaching(until));
        let decided = beyond.map_or(self.tail, |e| e.at) - entry.at;
        let max = max.min(usize::try_from(decided).unwrap_or(max));
        let limit = if entry.len > max {
            if !whole_first {
                return Ok(Ok(Bytes::new()));
            }
            entry.len
        } else {
            max
        };
        Ok(match &entry.bytes {
            // the everyday case of a reader that keeps up: one batch, nothing copied
            Some(bytes) if first + 1 == self.entries.len() || limit == entry.len => {
                Ok(bytes.clone())
            }
            Some(_) => Ok(self.gather(first, limit)),
            None => self.pread(entry.at, limit),
        })
    }

    /// The first batch whose newest record is at or after `timestamp`, and its bytes.
    pub(crate) fn batch_at_time(&self, timestamp: i64) -> Option<io::Result<Bytes>> {
        let entry = self.entries.iter().find(|e| e.max_timestamp >= timestamp)?;
        Some(self.bytes_of(entry))
    }

    /// The batch with the newest record of all.
    pub(crate) fn batch_of_newest(&self) -> Option<io::Result<Bytes>> {
        let mut newest: Option<&Entry> = None;
        for entry in &self.entries {
            if newest.is_none_or(|n| entry.max_timestamp > n.max_timestamp) {
                newest = Some(entry);
            }
        }
        newest.map(|entry| self.bytes_of(entry))
    }

    /// Everything from `offset` on is gone, as after an unclean election. Whole batches only: the
    /// new end is the base of the first batch that reaches past `offset`.
    pub(crate) fn truncate(&mut self, offset: i64) -> io::Result<()> {
        while let Some(entry) = self.entries.back() {
            if entry.last < offset {
                break;
            }
            if let Some(file) = &self.file {
                file.set_len(entry.at)?;
            }
            self.tail = entry.at;
            self.end = entry.base;
            self.entries.pop_back();
        }
        self.start = self.start.min(self.end);
        self.txns.truncate(self.end);
        Ok(())
    }

    /// Records below `offset` are gone; those after it are not touched.
    pub(crate) fn delete_before(&mut self, offset: i64) {
        self.start = offset.clamp(self.start, self.end);
        self.drop_before_start();
    }

    /// Drops the oldest whole batches until no more than `bytes_max` are kept.
    pub(crate) fn keep_at_most(&mut self, bytes_max: u64) {
        while self.entries.len() > 1 && self.tail - self.entries[0].at > bytes_max {
            let next = self.entries[0].last + 1;
            self.delete_before(next);
        }
    }

    /// The greatest epoch at or below `epoch`, and the offset where it ends.
    pub(crate) fn epoch_end(&self, epoch: i32, current: i32) -> Option<(i32, i64)> {
        if epoch >= current {
            return (epoch == current).then_some((current, self.end));
        }
        let found = self.entries.iter().rev().find(|e| e.epoch <= epoch);
        match found {
            Some(entry) => Some((entry.epoch, entry.last + 1)),
            None => Some((epoch, self.start)),
        }
    }

    pub(crate) fn aborted_from(&self, from: i64) -> Vec<AbortedTxn> {
        self.txns.aborted_from(from)
    }

    fn index(&mut self, head: &BatchHead, base: i64, epoch: i32, bytes: Option<Bytes>) {
        let last = base + i64::from(head.last_offset_delta);
        self.entries.push_back(Entry {
            base,
            last,
            max_timestamp: head.max_timestamp,
            epoch,
            len: head.len,
            at: self.tail,
            bytes,
        });
        self.end = last + 1;
        self.tail += head.len as u64;
    }

    fn drop_before_start(&mut self) {
        while self.entries.front().is_some_and(|e| e.last < self.start) {
            self.entries.pop_front();
        }
    }

    /// Index of the first batch that ends at or after `offset`.
    fn first_reaching(&self, offset: i64) -> usize {
        self.entries.partition_point(|e| e.last < offset)
    }

    fn gather(&self, first: usize, limit: usize) -> Bytes {
        let there = self.entries.get(first).map_or(0, |e| self.tail - e.at);
        let limit = limit.min(usize::try_from(there).unwrap_or(limit));
        let mut out = BytesMut::with_capacity(limit);
        for entry in self.entries.iter().skip(first) {
            let room = limit - out.len();
            let Some(bytes) = &entry.bytes else {
                break;
            };
            out.extend_from_slice(&bytes[..bytes.len().min(room)]);
            if out.len() == limit {
                break;
            }
        }
        out.freeze()
    }

    fn pread(&self, at: u64, limit: usize) -> io::Result<Bytes> {
        let Some(file) = &self.file else {
            return Ok(Bytes::new());
        };
        let there = usize::try_from(self.tail.saturating_sub(at)).unwrap_or(usize::MAX);
        let mut out = BytesMut::zeroed(limit.min(there));
        file.read_exact_at(&mut out, at)?;
        Ok(out.freeze())
    }

    fn bytes_of(&self, entry: &Entry) -> io::Result<Bytes> {
        match &entry.bytes {
            Some(bytes) => Ok(bytes.clone()),
            None => self.pread(entry.at, entry.len),
        }
    }
}
