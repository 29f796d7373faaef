//! What waits for someone's decision, in sum: how much, and since when.

/// The sum of them.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Waiting {
    pub records: u64,
    /// The time in Kafka of the oldest of them.
    pub oldest_ms: Option<i64>,
}

impl Waiting {
    /// So many more; their oldest is of this time.
    pub fn add(&mut self, records: u64, oldest_ms: i64) {
        if records > 0 {
            self.records += records;
            let known = self.oldest_ms.unwrap_or(oldest_ms);
            self.oldest_ms = Some(known.min(oldest_ms));
        }
    }

    /// Both together.
    pub fn with(mut self, others: Self) -> Self {
        self.add(others.records, others.oldest_ms.unwrap_or_default());
        self
    }
}
