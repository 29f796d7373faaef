//! An entry of which the broker refuses a record as too large, against what is known of the topic:
//! that record gets an entry of its own, so that those behind it can go. Pure.

use std::sync::Arc;

use crate::{
    batch::Batch,
    dlq::{Entry, Head, Reason, entries},
};

/// The first record that is left of `batch` apart, then those behind it: as they were sent.
pub(super) fn parted(head: &Head, batch: &Batch, now_ms: i64) -> Vec<Entry> {
    let at = batch.progress.acknowledged;
    let rest = Head {
        // The mark of its send is that of another entry.
        may_have_been_sent: true,
        partition: batch.progress.partition,
        since: batch.progress.since,
        stored_ms: now_ms,
        ..head.clone()
    };
    let alone = Head {
        reason: Reason::TooLarge,
        ..rest.clone()
    };
    let mut parts = entries(&alone, &Arc::new(batch.alone(at)), 0);
    parts.extend(entries(&rest, &batch.records, at + 1));
    parts
}

#[cfg(test)]
mod tests {
    use pipeline_core::{Offset, PartitionId};

    use super::*;
    use crate::{
        batch::{Progress, test::batch_of},
        dlq::entry::test::head_of,
    };

    #[test]
    fn what_is_not_in_kafka_is_in_the_parts_with_the_identity_that_it_was_sent_with() {
        let mut batch = batch_of(7, &["gone", "too large", "b", "c"]);
        batch.progress = Progress {
            partition: Some(PartitionId(3)),
            since: Some(Offset(9)),
            may_have_been_sent: false,
            acknowledged: 1,
        };
        let head = head_of(batch.id);
        let parts = parted(&head, &batch, 5);
        let of = |part: &Entry| -> (Reason, Vec<u32>) {
            let sequences = &part.records.sequences[part.first..part.end];
            (part.head.reason, sequences.to_vec())
        };
        let found: Vec<_> = parts.iter().map(of).collect();
        let expected = [(Reason::TooLarge, vec![1]), (Reason::KafkaAway, vec![2, 3])];
        assert_eq!(found, expected);
        for part in &parts {
            assert!(part.head.may_have_been_sent);
            assert_eq!(part.head.partition, Some(PartitionId(3)));
            assert_eq!(part.head.since, Some(Offset(9)));
        }
        batch.progress.acknowledged = 3;
        assert_eq!(parted(&head, &batch, 5).len(), 1, "nothing is behind it");
    }
}
