//! What schedules came across: a case that none has met is not shown.

/// How often a case was met.
#[derive(Clone, Copy, Default, Debug)]
pub struct Met {
    pub removed: u64,
    pub name_taken: u64,
    /// Linked below the watermark, seen and taken back.
    pub taken_back: u64,
    /// Linked, and reported as failed.
    pub landed_unheard: u64,
    /// The chain went on while its writer slept behind its link.
    pub overtaken: u64,
}

impl Met {
    pub fn add(&mut self, other: &Self) {
        self.removed += other.removed;
        self.name_taken += other.name_taken;
        self.taken_back += other.taken_back;
        self.landed_unheard += other.landed_unheard;
        self.overtaken += other.overtaken;
    }

    /// Of the rarest case.
    pub fn least(&self) -> u64 {
        let all = [self.removed, self.name_taken, self.taken_back];
        let all = all.into_iter().chain([self.landed_unheard, self.overtaken]);
        all.min().expect("there are some")
    }
}
