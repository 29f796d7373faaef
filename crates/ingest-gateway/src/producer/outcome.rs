//! What follows from a failed produce. Pure: one table, no clock, no I/O.

use kafka_link::ErrorKind;

/// What the worker does with the record batch that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Send it again after a pause, while retries and deadline last.
    Retry,
    /// Send it in smaller pieces; a single record that is still too large goes to the DLQ.
    Split,
    /// Something in it is refused for good: send each client's batch alone; one that is alone
    /// already goes to the DLQ.
    Isolate,
    /// No attempt of ours helps.
    Dlq,
}

/// What one failure means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    pub next: Next,
    /// A copy may be in the topic: from here on the identity must not change.
    pub may_have_been_sent: bool,
    /// It counts for the circuit: it says something about Kafka, not about the data.
    pub kafka_is_away: bool,
}

/// The table.
#[must_use]
pub fn judge(kind: ErrorKind) -> Verdict {
    let verdict = |next, may_have_been_sent, kafka_is_away| Verdict {
        next,
        may_have_been_sent,
        kafka_is_away,
    };
    match kind {
        ErrorKind::Retry | ErrorKind::RefreshAndRetry => verdict(Next::Retry, false, true),
        ErrorKind::UnknownOutcome => verdict(Next::Retry, true, true),
        ErrorKind::TooLarge => verdict(Next::Split, false, false),
        ErrorKind::Poison => verdict(Next::Isolate, false, false),
        ErrorKind::Fatal | ErrorKind::Auth => verdict(Next::Dlq, false, true),
        // None of these answers a produce. Should one come, nothing is known of what happened.
        ErrorKind::Rejoin
        | ErrorKind::Lost
        | ErrorKind::Fenced
        | ErrorKind::OffsetOutOfRange
        | ErrorKind::OtherTopic => verdict(Next::Dlq, true, true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_failure_of_kafka_blames_the_data_and_no_unknown_outcome_is_taken_for_a_failure() {
        for kind in ErrorKind::ALL {
            let verdict = judge(kind);
            let about_data = matches!(verdict.next, Next::Split | Next::Isolate);
            assert_eq!(verdict.kafka_is_away, !about_data, "{kind:?}");
            if about_data {
                assert!(!verdict.may_have_been_sent, "{kind:?}");
            }
        }
        assert!(judge(ErrorKind::UnknownOutcome).may_have_been_sent);
        assert!(!judge(ErrorKind::Retry).may_have_been_sent);
    }
}
