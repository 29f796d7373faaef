//! What a broker says we may do (KIP-430), against what we need.

use super::{Look, report::Grade};

/// What stands for rights that are not told.
pub(super) const NOT_TOLD: i32 = i32::MIN;

/// An operation of Kafka's rights: its name, and its bit.
pub(super) type Operation = (&'static str, u32);
pub(super) const READ: Operation = ("Read", 3);
pub(super) const WRITE: Operation = ("Write", 4);
pub(super) const CREATE: Operation = ("Create", 5);
pub(super) const DESCRIBE: Operation = ("Describe", 8);
pub(super) const DESCRIBE_CONFIGS: Operation = ("DescribeConfigs", 10);

impl Look<'_> {
    /// Compares what the broker says we may do with what we need.
    pub(super) fn rights(&mut self, kind: &str, name: &str, told: i32, needed: &[Operation]) {
        let names = |operations: &[Operation]| {
            let names: Vec<_> = operations.iter().map(|(name, _)| *name).collect();
            names.join(", ")
        };
        if told == NOT_TOLD {
            let what = format!(
                "rights on {kind} {name}: the broker does not tell; needed are {}",
                names(needed)
            );
            self.report.note(Grade::Weak, what);
            return;
        }
        let lacks = |(_, bit): &Operation| told & (1 << bit) == 0;
        let missing: Vec<Operation> = needed.iter().copied().filter(lacks).collect();
        if missing.is_empty() {
            let what = format!("rights on {kind} {name}: {}", names(needed));
            self.report.note(Grade::Good, what);
        }
        let principal = self.purpose.principal.as_deref().unwrap_or("PRINCIPAL");
        for (operation, _) in missing {
            let what = format!(
                "right {operation} on {kind} {name}: kafka-acls.sh --bootstrap-server BROKER --add \
                 --allow-principal '{principal}' --operation {operation} --{kind} '{name}'"
            );
            self.report.note(Grade::Missing, what);
        }
    }
}
