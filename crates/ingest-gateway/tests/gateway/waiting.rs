//! Waits that have an end: what does not come fails its test by name, and hangs nothing.

use std::time::Duration;

use tokio::time::{sleep, timeout};

/// For what is certain to come, on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(120);
const STEP: Duration = Duration::from_millis(2);

pub async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let wait = async {
        while !holds().await {
            sleep(STEP).await;
        }
    };
    if timeout(PATIENCE, wait).await.is_err() {
        panic!("waited in vain: {what}");
    }
}
