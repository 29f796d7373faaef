//! One partition: its log behind a lock that is never held across an await, who leads it, and
//! the fetches that wait for it.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::{batch::BatchHead, error_code as code, log::Log, settings::Settings, txn::AbortedTxn};

#[derive(Debug)]
pub(crate) struct Partition {
    pub index: i32,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub log: Log,
    pub leader: i32,
    pub epoch: i32,
    pub replicas: Vec<i32>,
    /// Counts appends and whatever else a waiting fetch wants to know of.
    changes: u64,
    /// One for each connection that waits; taken out when woken.
    waiters: Vec<Arc<Notify>>,
}

/// What a fetch wants of one partition.
pub(crate) struct Want {
    pub offset: i64,
    pub bytes_max: usize,
    /// The first batch whole, even above `bytes_max`.
    pub whole_first: bool,
    /// Nothing of transactions that are still open.
    pub committed_only: bool,
}

/// What a fetch of one partition found.
pub(crate) struct Found {
    pub error: i16,
    /// For [`Partition::wait`].
    pub changes: u64,
    pub high_watermark: i64,
    pub stable_end: i64,
    pub log_start: i64,
    pub bytes: Bytes,
    /// From the fetched offset to the end, also beyond what was taken.
    pub available: u64,
    pub aborted: Vec<AbortedTxn>,
}

impl Partition {
    pub(crate) fn new(index: i32, log: Log, leader: i32, epoch: i32, replicas: Vec<i32>) -> Self {
        Self {
            index,
            inner: Mutex::new(Inner {
                log,
                leader,
                epoch,
                replicas,
                changes: 0,
                waiters: Vec::new(),
            }),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Base offset and log start, or the error code for a node that does not lead.
    pub(crate) fn append(
        &self,
        node: i32,
        batch: &[u8],
        head: &BatchHead,
        settings: &Settings,
    ) -> Result<(i64, i64), i16> {
        let mut inner = self.lock();
        inner.check_leader(node, -1)?;
        let epoch = inner.epoch;
        let base = inner.log.append(batch, head, epoch).map_err(|error| {
            storage_error("append", &error);
            code::KAFKA_STORAGE_ERROR
        })?;
        if let Some(bytes_max) = settings.retention_bytes {
            inner.log.keep_at_most(bytes_max);
        }
        inner.wake();
        Ok((base, inner.log.start()))
    }

    pub(crate) fn fetch(&self, node: i32, leader_epoch: i32, want: &Want) -> Found {
        let inner = self.lock();
        let mut found = Found {
            error: code::NONE,
            changes: inner.changes,
            high_watermark: -1,
            stable_end: -1,
            log_start: -1,
            bytes: Bytes::new(),
            available: 0,
            aborted: Vec::new(),
        };
        if let Err(error) = inner.check_leader(node, leader_epoch) {
            found.error = error;
            return found;
        }
        found.high_watermark = inner.log.end();
        found.stable_end = inner.log.stable_end();
        found.log_start = inner.log.start();
        let until = match want.committed_only {
            true => found.stable_end,
            false => found.high_watermark,
        };
        let from = want.offset;
        match inner
            .log
            .read(from, until, want.bytes_max, want.whole_first)
        {
            Err(_) => found.error = code::OFFSET_OUT_OF_RANGE,
            Ok(Err(error)) => {
                storage_error("read", &error);
                found.error = code::KAFKA_STORAGE_ERROR;
            }
            Ok(Ok(bytes)) => {
                found.bytes = bytes;
                let beyond = inner.log.bytes_from(until);
                found.available = inner.log.bytes_from(from).saturating_sub(beyond);
                if want.committed_only {
                    found.aborted = inner.log.aborted_from(from);
                }
            }
        }
        found
    }

    /// Registers a waiter, unless something has changed since it looked. Returns whether it waits.
    pub(crate) fn wait(&self, waiter: &Arc<Notify>, seen: u64) -> bool {
        let mut inner = self.lock();
        if inner.changes != seen {
            return false;
        }
        if !inner.waiters.iter().any(|w| Arc::ptr_eq(w, waiter)) {
            inner.waiters.push(Arc::clone(waiter));
        }
        true
    }
}

impl Inner {
    /// `leader_epoch` as the client knows it; below 0 where it does not.
    pub(crate) fn check_leader(&self, node: i32, leader_epoch: i32) -> Result<(), i16> {
        if self.leader != node {
            return Err(code::NOT_LEADER_OR_FOLLOWER);
        }
        if leader_epoch >= 0 && leader_epoch < self.epoch {
            return Err(code::FENCED_LEADER_EPOCH);
        }
        if leader_epoch > self.epoch {
            return Err(code::UNKNOWN_LEADER_EPOCH);
        }
        Ok(())
    }

    /// Lets every waiting fetch look again.
    pub(crate) fn wake(&mut self) {
        self.changes += 1;
        for waiter in self.waiters.drain(..) {
            waiter.notify_one();
        }
    }
}

fn storage_error(what: &str, error: &io::Error) {
    tracing::error!(%error, "failed to {what} a partition's file");
}
