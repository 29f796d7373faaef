//! How much of a backlog is folded at once.

/// When a portion is large enough. Bounds memory, and what a crash makes be done again.
#[derive(Clone, Copy, Debug)]
pub struct Portion {
    /// NDJSON read: a second or two of work.
    pub plain_bytes_max: u64,
    /// Memory of its counts, about; the last segment may go over it.
    pub counts_bytes_max: usize,
}

impl Default for Portion {
    fn default() -> Self {
        Self {
            plain_bytes_max: 1 << 30,
            counts_bytes_max: 64 << 20,
        }
    }
}
