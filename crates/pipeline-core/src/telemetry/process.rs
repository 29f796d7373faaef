//! What the kernel says of this process, under the names that every Prometheus client uses.

use metrics::{counter, gauge};

use super::catalog;

/// Sets what `/metrics` is about to say. What cannot be read stays as it was.
#[allow(clippy::cast_precision_loss)]
pub fn refresh() {
    let now = metrics_process::collector::collect();
    if let Some(seconds) = now.cpu_seconds_total {
        // Counters here are whole numbers.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        counter!(catalog::PROCESS_CPU).absolute(seconds as u64);
    }
    let gauges = [
        (catalog::PROCESS_RESIDENT, now.resident_memory_bytes),
        (catalog::PROCESS_VIRTUAL, now.virtual_memory_bytes),
        (catalog::PROCESS_OPEN_FDS, now.open_fds),
        (catalog::PROCESS_MAX_FDS, now.max_fds),
        (catalog::PROCESS_THREADS, now.threads),
        (catalog::PROCESS_START, now.start_time_seconds),
    ];
    for (name, value) in gauges {
        if let Some(value) = value {
            gauge!(name).set(value as f64);
        }
    }
}
