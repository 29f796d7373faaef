//! The drill's short form: alerts seen firing and over in a real Prometheus, mended by the runbook's
//! own commands. All of them: `cargo xtask drill`.

use std::{path::Path, process::Command};

use anyhow::Result;
use testbed::{
    drill::{self, Plan},
    process::Profile,
    prometheus, skip, stand,
};

use crate::RunDir;

#[test]
fn alerts_fire_and_the_runbooks_commands_end_them() -> Result<()> {
    if stand::Plan::from_env().kafka.is_some() {
        skip::optional("the drill", "this broker is not ours to stop");
        return Ok(());
    }
    for (there, program) in [
        (prometheus::has("prometheus"), "prometheus"),
        (Command::new("kcat").arg("-V").output().is_ok(), "kcat"),
    ] {
        if !there {
            skip::skipped("the drill", &format!("{program} is not installed"));
            return Ok(());
        }
    }
    let dir = RunDir::new("drill");
    let plan = Plan {
        seed: 1,
        profile: Profile::Dev,
        quick: true,
        only: None,
        repository: Path::new(env!("CARGO_MANIFEST_DIR")).join(".."),
    };
    let report = drill::run(&dir, &plan, &mut |line| println!("{line}"))?;
    println!("{report}");
    assert!(report.holds(), "{report}");
    dir.passed()
}
