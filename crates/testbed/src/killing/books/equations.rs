//! What the books must fulfil at one look. Pure.
//!
//! T: the chains' totals; L: lags; U: partitions whose lag is not known (yet); E: where logs end.
//!
//! "Before" is before the logs' ends were asked for that the lags are of: before the look, if Kafka
//! answers.
//!
//! 1. accepted before ≤ T (but skipped) + L + E of U + in the producer DLQ: the contract's, and of
//!    a log about which nothing is said as much as all of it may be not yet read.
//! 2. logs' ends before ≤ T + L ≤ E, while one writer is asked and knows all lags: every message is
//!    in the books once. With U only T + L ≤ E.
//! 3. T never goes back, and stored in it is no less than others have found in the chains; but for
//!    writers that say that chains are unread.
//!
//! Two writers may both speak of a partition that went from one to the other: what they say
//! together is too much then, never too little.

use std::time::Duration;

use crate::metrics::Metrics;

const FATES: [&str; 6] = [
    "stored",
    "duplicate",
    "poison",
    "undecidable",
    "lost",
    SKIPPED,
];
const SKIPPED: &str = "skipped";

/// What all writers that were asked say together.
#[derive(Clone, PartialEq, Debug)]
pub struct Writers {
    count: usize,
    /// In the order of [`FATES`].
    totals: [f64; FATES.len()],
    /// By partition.
    lags: Vec<Option<f64>>,
    unread: f64,
    /// Of the logs' ends that the oldest of the lags are of.
    pub age: Duration,
}

/// One look.
#[derive(Clone, Debug)]
pub struct Look {
    pub writers: Writers,
}

/// What was true before a look.
#[derive(Clone, Debug)]
pub struct Before {
    pub accepted: f64,
    /// In the producer DLQ: of what was accepted then, that or the logs held each.
    pub waiting: f64,
    /// Messages in all logs, where that was known.
    pub in_logs: Option<f64>,
}

/// What is known for ever.
#[derive(Clone, Default, Debug)]
pub struct Seen {
    stored: f64,
    /// By partition.
    ends: Vec<Option<i64>>,
    /// The greatest of any look at one writer.
    totals: [f64; FATES.len()],
}

impl Writers {
    /// # Errors
    /// Where a metric is missing that is there from the start.
    pub fn read(scraped: &[Metrics], partitions: u32) -> Result<Self, String> {
        let mut writers = Self {
            count: scraped.len(),
            totals: [0.0; FATES.len()],
            lags: vec![None; partitions as usize],
            unread: 0.0,
            age: Duration::ZERO,
        };
        for metrics in scraped {
            for (total, fate) in writers.totals.iter_mut().zip(FATES) {
                let value = metrics.with("store_chain_records", &format!("fate=\"{fate}\""));
                *total += value.ok_or(format!("no store_chain_records of {fate}"))?;
            }
            for (partition, lag) in writers.lags.iter_mut().enumerate() {
                let label = format!("partition=\"{partition}\"");
                let told = metrics.with("consumer_lag_records", &label);
                // Not a number as long as it is not known.
                if let Some(value) = told.filter(|value| !value.is_nan()) {
                    *lag.get_or_insert(0.0) += value;
                }
            }
            let unread = metrics.sum("store_chains_unread");
            writers.unread += unread.ok_or("no store_chains_unread")?;
            let age = metrics.sum("consumer_log_ends_age_seconds");
            let age = age.ok_or("no consumer_log_ends_age_seconds")?;
            writers.age = writers
                .age
                .max(Duration::try_from_secs_f64(age).map_err(odd_age)?);
        }
        Ok(writers)
    }

    pub fn knows_all_lags(&self) -> bool {
        self.lags.iter().all(Option::is_some)
    }

    fn lag(&self) -> f64 {
        self.lags.iter().flatten().sum()
    }

    /// Messages that are in the books.
    fn all(&self) -> f64 {
        self.totals.iter().sum::<f64>() + self.lag()
    }
}

fn odd_age(error: impl std::fmt::Display) -> String {
    format!("consumer_log_ends_age_seconds: {error}")
}

impl Seen {
    /// Where logs end now, as far as it is known.
    pub fn logs(&mut self, ends: &[Option<i64>]) {
        self.ends.resize(ends.len(), None);
        for (known, end) in self.ends.iter_mut().zip(ends) {
            *known = (*known).max(*end);
        }
    }

    /// Others have found so many records in the chains.
    pub fn stored_at_least(&mut self, records: u64) {
        self.stored = self.stored.max(records as f64);
    }

    /// Messages in all logs.
    pub fn in_logs(&self) -> Option<f64> {
        let ends: Option<Vec<i64>> = self.ends.iter().copied().collect();
        ends.map(|ends| ends.iter().sum::<i64>() as f64)
    }
}

impl Look {
    /// Whether the logs hold, as far as it is known, all that the books speak of.
    pub fn is_covered(&self, seen: &Seen) -> bool {
        self.writers.count > 1 || seen.in_logs().is_some_and(|all| self.writers.all() <= all)
    }

    /// # Errors
    /// The first equation that does not hold.
    pub fn judge(&self, seen: &mut Seen, before: &Before) -> Result<(), String> {
        let writers = &self.writers;
        let unknown = writers.lags.iter().zip(&seen.ends);
        let unknown = unknown.filter(|(lag, _)| lag.is_none());
        let unknown: Option<Vec<f64>> = unknown.map(|(_, end)| end.map(|end| end as f64)).collect();
        let (accepted, waiting) = (before.accepted, before.waiting);
        if let Some(unknown) = unknown {
            let right = writers.all() - writers.totals[FATES.len() - 1];
            let right = right + unknown.iter().sum::<f64>();
            if accepted > right + waiting {
                return Err(format!(
                    "{accepted} accepted, but {right} in the chains or not yet read, and {waiting} \
                     in the producer DLQ"
                ));
            }
        }
        if writers.count == 1 {
            let (all, in_logs) = (writers.all(), seen.in_logs());
            if !self.is_covered(seen) {
                return Err(format!("{all} in the books, but {in_logs:?} in the logs"));
            }
            if let Some(before) = before.in_logs.filter(|_| writers.knows_all_lags())
                && before > all
            {
                return Err(format!(
                    "{before} were in the logs, but {all} are in the books"
                ));
            }
        }
        if writers.unread > 0.0 {
            return Ok(());
        }
        if writers.totals[0] < seen.stored {
            let (told, found) = (writers.totals[0], seen.stored);
            return Err(format!(
                "{told} stored, but {found} were found in the chains"
            ));
        }
        for ((fate, total), most) in FATES.iter().zip(writers.totals).zip(&mut seen.totals) {
            if total < *most {
                return Err(format!("{fate} went back from {most} to {total}"));
            }
            if writers.count == 1 {
                *most = total;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 70 stored, 10 duplicates, 1 poison, 2 undecidable, 3 skipped; lags 10 and 4; so 100 in the
    /// logs, which end at 60 and 40. A lag that is not given is not known.
    fn metrics(lags: &[(u32, u32)]) -> Metrics {
        let mut text = "store_chains_unread 0\nconsumer_log_ends_age_seconds 0.5\n".to_owned();
        for (fate, total) in FATES.iter().zip([70, 10, 1, 2, 0, 3]) {
            text += &format!("store_chain_records{{fate=\"{fate}\"}} {total}\n");
        }
        for (partition, _) in LAGS
            .iter()
            .filter(|(partition, _)| !lags.iter().any(|it| it.0 == *partition))
        {
            text += &format!("consumer_lag_records{{partition=\"{partition}\"}} NaN\n");
        }
        for (partition, lag) in lags {
            text += &format!("consumer_lag_records{{partition=\"{partition}\"}} {lag}\n");
        }
        Metrics::parse(&text).expect("well made")
    }

    fn look(lags: &[(u32, u32)]) -> Look {
        Look {
            writers: Writers::read(&[metrics(lags)], 2).expect("all is there"),
        }
    }

    fn seen() -> Seen {
        let mut seen = Seen::default();
        seen.logs(&[Some(60), Some(40)]);
        seen.stored_at_least(70);
        seen
    }

    fn before(accepted: u32, in_logs: u32) -> Before {
        Before {
            accepted: f64::from(accepted),
            waiting: 5.0,
            in_logs: Some(f64::from(in_logs)),
        }
    }

    const LAGS: [(u32, u32); 2] = [(0, 10), (1, 4)];

    #[test]
    fn what_is_accepted_is_stored_or_not_read_or_waits_and_one_more_is_seen() {
        // Skipped ones are no records: 100 - 3 + 5.
        assert_eq!(look(&LAGS).judge(&mut seen(), &before(102, 100)), Ok(()));
        let fault = look(&LAGS).judge(&mut seen(), &before(103, 100));
        assert!(fault.expect_err("one too many").starts_with("103 accepted"));
    }

    #[test]
    fn every_message_of_the_logs_is_in_the_books_once() {
        let fault = look(&LAGS).judge(&mut seen(), &before(0, 101));
        assert!(
            fault
                .expect_err("one vanished")
                .contains("101 were in the logs")
        );
        let fault = look(&[(0, 10), (1, 5)]).judge(&mut seen(), &before(0, 100));
        assert!(fault.expect_err("one twice").contains("101 in the books"));
    }

    #[test]
    fn a_lag_that_is_not_known_may_be_all_of_its_log_and_no_more() {
        let some = look(&LAGS[..1]);
        assert!(!some.writers.knows_all_lags());
        // 96 - 3 + 40 + 5.
        assert_eq!(some.judge(&mut seen(), &before(138, 100)), Ok(()));
        let fault = some.judge(&mut seen(), &before(139, 100));
        assert!(fault.expect_err("one too many").starts_with("139 accepted"));
        let fault = look(&[(0, 15)]).judge(&mut seen(), &before(0, 100));
        assert!(fault.expect_err("one twice").contains("101 in the books"));
    }

    #[test]
    fn totals_never_go_back_nor_below_what_was_found_unless_chains_are_unread() {
        let mut seen = seen();
        assert_eq!(look(&[]).judge(&mut seen, &before(0, 0)), Ok(()));
        let mut less = look(&[]);
        less.writers.totals[1] = 9.0;
        let fault = less.judge(&mut seen, &before(0, 0));
        assert!(fault.expect_err("one less").contains("duplicate went back"));
        seen.stored_at_least(71);
        let fault = look(&[]).judge(&mut seen, &before(0, 0));
        assert!(fault.expect_err("one less").starts_with("70 stored"));
        less.writers.unread = 1.0;
        assert_eq!(less.judge(&mut seen, &before(0, 0)), Ok(()));
    }

    #[test]
    fn two_writers_may_say_too_much_and_never_too_little() {
        let two = [metrics(&LAGS), metrics(&LAGS[..1])];
        let two = Look {
            writers: Writers::read(&two, 2).expect("all is there"),
        };
        assert_eq!(two.judge(&mut seen(), &before(100, 100)), Ok(()));
        let fault = two.judge(&mut seen(), &before(1_000, 100));
        assert!(fault.expect_err("too many").starts_with("1000 accepted"));
        let none = Writers::read(&[Metrics::default()], 2);
        assert!(
            none.expect_err("nothing")
                .contains("no store_chain_records")
        );
    }
}
