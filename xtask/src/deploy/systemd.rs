//! The units: what systemd says of them, and what they promise the services.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};

use super::{SERVICES, built, scratch, tools, tools::Tools, yaml};
use crate::shell::root;

/// Ten times what `systemd-analyze security` may say at most (0 is a service that can do nothing).
const EXPOSURE_MAX: &str = "12";
/// What stopping may take beyond a service's own `shutdownTimeout`.
const MARGIN_SECONDS: u64 = 10;

pub fn check(tools: &mut Tools) -> Result<()> {
    let dir = root().join("deploy/systemd");
    let example = yaml::file(&root().join("config/examples/config.v2.production.yaml"))?;
    for (service, timeout) in SERVICES {
        let file = dir.join(format!("{service}.service"));
        let unit =
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let drains = yaml::seconds(yaml::text(&example, timeout));
        let drains = drains.with_context(|| format!("the example has no {timeout}"))?;
        promises(&unit, service, drains).with_context(|| format!("{}", file.display()))?;
    }
    println!("units: readiness, watchdog, limits and time to stop are set");
    if tools.have("systemd-analyze", "systemd units") {
        analyze(&dir)?;
    }
    if tools.have("systemd-sysusers", "sysusers.d") {
        let file = dir.join("sluice.sysusers.conf");
        tools::run(Command::new("systemd-sysusers").arg("--dry-run").arg(file))?;
    }
    Ok(())
}

/// What the services count on.
fn promises(unit: &str, service: &str, drains: u64) -> Result<()> {
    let value = |key: &str| {
        let line = unit
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.with_context(|| format!("{key}= is missing"))
    };
    let expected = [
        ("Type", "notify"),
        ("Restart", "always"),
        ("RestartPreventExitStatus", "78"),
        ("LimitCORE", "0"),
        ("User", "sluice"),
        ("StateDirectory", "sluice"),
    ];
    for (key, expected) in expected {
        let found = value(key)?;
        ensure!(found == expected, "{key}={found}, expected {expected}");
    }
    let start = value("ExecStart")?;
    let expected = format!("/usr/bin/{service} --config /etc/sluice/config.yaml");
    ensure!(start == expected, "ExecStart={start}");
    for key in ["WatchdogSec", "TimeoutStartSec"] {
        ensure!(yaml::seconds(value(key)?).is_some(), "{key} is no duration");
    }
    let stops = yaml::seconds(value("TimeoutStopSec")?).context("TimeoutStopSec is no duration")?;
    ensure!(
        stops >= drains + MARGIN_SECONDS,
        "TimeoutStopSec={stops}s is too short for a drain of {drains} s"
    );
    let descriptors: u64 = value("LimitNOFILE")?.parse()?;
    ensure!(descriptors > 4096, "LimitNOFILE={descriptors}");
    let reloads = value("ExecReload").is_ok_and(|reload| reload == "/bin/kill -HUP $MAINPID");
    ensure!(
        reloads == (service == "ingest-gateway"),
        "the gateway alone reads files anew on SIGHUP"
    );
    Ok(())
}

/// As installed, but for the place of the programs, which have to be there.
fn analyze(dir: &Path) -> Result<()> {
    let copies = scratch("systemd")?;
    let mut units = Vec::new();
    for (service, _) in SERVICES {
        let name = format!("{service}.service");
        let unit = fs::read_to_string(dir.join(&name))?;
        let program = built(service);
        let unit = unit.replace(&format!("/usr/bin/{service}"), &program.to_string_lossy());
        fs::write(copies.join(&name), unit)?;
        units.push(copies.join(name));
    }
    let verify = ["verify", "--man=no", "--generators=no"];
    let (out, err) = tools::run(Command::new("systemd-analyze").args(verify).args(&units))?;
    // Most of what it finds changes no exit code.
    ensure!(
        out.is_empty() && err.is_empty(),
        "systemd-analyze verify:\n{out}{err}"
    );
    let mut command = Command::new("systemd-analyze");
    command.args(["security", "--no-pager", "--offline=true"]);
    command.args(["--threshold", EXPOSURE_MAX]).args(&units);
    let (out, _) = tools::run(&mut command)?;
    let levels = out.lines().filter(|line| line.contains("Overall exposure"));
    for level in levels {
        println!("units: {}", level.trim_start_matches(['→', ' ']));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway() -> String {
        let file = root().join("deploy/systemd/ingest-gateway.service");
        fs::read_to_string(file).expect("the unit")
    }

    #[test]
    fn a_unit_that_breaks_a_promise_is_refused() {
        let good = gateway();
        promises(&good, "ingest-gateway", 30).expect("the unit as it stands");
        let breaks = [
            ("Type=notify", "Type=simple"),
            ("TimeoutStopSec=45s", "TimeoutStopSec=35s"),
            ("LimitCORE=0", ""),
            ("WatchdogSec=30s", "WatchdogSec=never"),
            ("LimitNOFILE=65536", "LimitNOFILE=1024"),
            ("ExecReload=", "#ExecReload="),
        ];
        for (from, to) in breaks {
            let bad = good.replace(from, to);
            assert_ne!(bad, good, "{from} is not in the unit");
            assert!(
                promises(&bad, "ingest-gateway", 30).is_err(),
                "{from} -> {to}"
            );
        }
    }
}
