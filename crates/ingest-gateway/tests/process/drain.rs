//! What SIGTERM leaves time for.

use std::thread;

use crate::place::{Place, post, wait_for};

/// Kafka stands still, so the drain takes all the time it has; were the delay not a part of that,
/// the deadline would end the process, and not with 0.
#[test]
fn the_drains_delay_is_a_part_of_the_shutdowns_time() {
    let place = Place::new();
    place.configure_server("  shutdownTimeout: 12s\n  drainDelay: 6s\n", "");
    let serving = place.serve();
    place.broker().pause();
    let mut client = serving.client();
    let in_work = thread::spawn(move || post(&mut client, "-"));
    wait_for("the batch", || {
        serving.metrics().sum("log_batches_received_total") == Some(1.0)
    });
    serving.terminate();
    let answer = in_work.join().unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert_eq!(answer.json()["kept"], "dlq");
}
