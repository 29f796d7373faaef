//! Which entries somebody asks for. Pure.

use pipeline_core::{BatchId, record};

use super::entry::{self, Head, Reason};

/// Each part that is there must match; without any, every entry does.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// First receipt, ms since 1970: from here on.
    pub from_ms: Option<i64>,
    /// First receipt: before this.
    pub to_ms: Option<i64>,
    /// One of the entry's records has it.
    pub site: Option<String>,
    /// Any of them, where there are some.
    pub reasons: Vec<Reason>,
    pub batch: Option<BatchId>,
}

impl Filter {
    /// `payload` is the whole entry; it is read only where its records are asked about.
    #[must_use]
    pub fn wants(&self, head: &Head, payload: &[u8]) -> bool {
        let received = head.received_ms;
        self.from_ms.is_none_or(|from| received >= from)
            && self.to_ms.is_none_or(|to| received < to)
            && (self.reasons.is_empty() || self.reasons.contains(&head.reason))
            && self.batch.is_none_or(|batch| batch == head.batch)
            && self
                .site
                .as_deref()
                .is_none_or(|site| has_site(payload, site))
    }
}

/// Host names differ in no more than their case.
fn has_site(payload: &[u8], site: &str) -> bool {
    let Ok((_, records)) = entry::decode(payload) else {
        return false;
    };
    (0..records.len()).any(|at| {
        let fields = record::read(records.line(at));
        let found = fields.ok().and_then(|fields| fields.site);
        found.is_some_and(|found| found.eq_ignore_ascii_case(site))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        batch::test::batch_of,
        dlq::{
            Entry,
            entry::{decode_head, test::head_of},
        },
    };

    fn line(site: &str) -> String {
        format!(r#"{{"timestamp":"2026-01-02T03:04:05Z","path":"/","userAgent":"-"{site}}}"#)
    }

    fn payload() -> Vec<u8> {
        let lines = [line(""), line(r#","site":"shop.example""#)];
        let batch = batch_of(7, &[&lines[0], &lines[1]]);
        let entry = Entry {
            head: Head {
                reason: Reason::Deadline,
                received_ms: 1000,
                ..head_of(batch.id)
            },
            records: Arc::clone(&batch.records),
            first: 0,
            end: 2,
        };
        let mut out = Vec::new();
        entry.encode_into(&mut out);
        out
    }

    #[test]
    fn each_part_that_is_there_must_match() {
        let payload = payload();
        let (head, _) = decode_head(&payload).unwrap();
        let all = Filter::default();
        let ok = Filter {
            from_ms: Some(1000),
            to_ms: Some(1001),
            site: Some("SHOP.example".to_owned()),
            reasons: vec![Reason::Poison, Reason::Deadline],
            batch: Some(head.batch),
        };
        for wanted in [&all, &ok] {
            assert!(wanted.wants(&head, &payload), "{wanted:?}");
        }
        let unwanted = [
            Filter {
                from_ms: Some(1001),
                ..ok.clone()
            },
            Filter {
                to_ms: Some(1000),
                ..ok.clone()
            },
            Filter {
                site: Some("example".to_owned()),
                ..ok.clone()
            },
            Filter {
                reasons: vec![Reason::Poison],
                ..ok.clone()
            },
            Filter {
                batch: Some(BatchId([9; 16])),
                ..ok
            },
        ];
        for filter in unwanted {
            assert!(!filter.wants(&head, &payload), "{filter:?}");
        }
    }
}
