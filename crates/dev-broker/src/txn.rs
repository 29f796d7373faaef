//! Transactions in a partition's log, as far as its readers need them: which are open (nothing
//! behind them is stable) and which were aborted. Clients cannot write any here; tests append the
//! batches that a transactional producer has left behind.

use std::collections::BTreeMap;

use crate::batch::BatchHead;

#[derive(Debug, Default)]
pub(crate) struct Txns {
    /// First offset by producer.
    open: BTreeMap<i64, i64>,
    aborted: Vec<AbortedTxn>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AbortedTxn {
    pub producer_id: i64,
    pub first_offset: i64,
    /// Offset of the abort marker.
    pub last_offset: i64,
}

impl Txns {
    /// Notes one batch of the log. `commits`: what its marker says, if it is one.
    pub(crate) fn note(&mut self, head: &BatchHead, base: i64, commits: Option<bool>) {
        if !head.is_transactional() {
            return;
        }
        let Some(commits) = commits else {
            self.open.entry(head.producer_id).or_insert(base);
            return;
        };
        let first = self.open.remove(&head.producer_id);
        if let Some(first_offset) = first
            && !commits
        {
            self.aborted.push(AbortedTxn {
                producer_id: head.producer_id,
                first_offset,
                last_offset: base,
            });
        }
    }

    /// The log was cut: what ended behind the cut is open again.
    pub(crate) fn truncate(&mut self, end: i64) {
        self.open.retain(|_, first| *first < end);
        let open = &mut self.open;
        self.aborted.retain(|txn| {
            let whole = txn.last_offset < end;
            if !whole && txn.first_offset < end {
                open.insert(txn.producer_id, txn.first_offset);
            }
            whole
        });
    }

    /// Up to where every transaction is decided.
    pub(crate) fn stable_end(&self, end: i64) -> i64 {
        self.open.values().copied().min().unwrap_or(end)
    }

    pub(crate) fn aborted_from(&self, from: i64) -> Vec<AbortedTxn> {
        let reaching = self.aborted.iter().filter(|txn| txn.last_offset >= from);
        reaching.copied().collect()
    }
}
