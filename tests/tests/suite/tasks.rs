//! The runbook's tasks, done as they stand there with the page's own commands. Those that others do:
//! "Follow one request" `follow`, "Upgrade and roll back" and the volume of a gateway that is gone
//! `rolling`, "Why resetting the group's offsets has no effect" `groups`, "Rotate a certificate" the
//! drill.

mod access;
mod letters;
mod partitions;
mod store;

use testbed::body::Mix;

/// Many batches soon: they are what is spread over partitions, and waited for.
fn small_bodies(seed: u64) -> Mix {
    Mix {
        seed,
        records: (1, 60),
        ..Mix::default()
    }
}
