//! SIGTERM under load: each service ends with 0 within its `shutdownTimeout`, and nothing is lost.

use std::time::Duration;

use anyhow::Result;
use testbed::{
    http::get,
    load::Load,
    stand::{Plan, Stand},
};

use crate::{RunDir, assert_holds, load};

#[test]
fn sigterm_under_load_ends_each_service_in_time_and_loses_nothing() -> Result<()> {
    let dir = RunDir::new("sigterm");
    let mut stand = Stand::up(&dir, Plan::from_env())?;
    let load = Load::start(&stand.addresses, load(51));
    for _ in 0..2 {
        for service in 0..3 {
            let before = load.accepted();
            assert!(
                load.wait_accepted(before + 5_000, Duration::from_secs(60)),
                "{}",
                load.stop()
            );
            let service = match service {
                0 => &mut stand.gateways[0],
                1 => &mut stand.writers[0],
                _ => &mut stand.aggregator,
            };
            // An exit code other than 0, or one too late, is an error.
            service.terminate()?;
            assert!(
                get(service.admin, "/livez").is_err(),
                "{} still answers",
                service.name
            );
            service.start()?;
            service.wait_ready()?;
        }
    }
    let ledger = load.stop();
    assert_eq!(ledger.answered("503 unknown_outcome"), 0, "{ledger}");
    let verdict = stand.settle(&ledger, Duration::from_secs(120))?;
    println!("{ledger}\n{verdict}");
    assert_holds(&verdict);
    dir.passed()
}
