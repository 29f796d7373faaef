//! DuckDB as a second judge of the analytics: it computes every count of every summary from the
//! records themselves. Called by way of its Python package; knows no product crate.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, bail};

const SCRIPT: &str = include_str!("duckdb_counts.py");
/// As many files as a command line takes.
const FILES_AT_ONCE: usize = 2_000;

/// Whether it can be called.
#[must_use]
pub fn is_there() -> bool {
    let import = Command::new("python3")
        .args(["-c", "import duckdb"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    import.is_ok_and(|status| status.success())
}

/// Puts the records of `segments` into one NDJSON file.
///
/// # Errors
/// Where `zstdcat` cannot.
pub fn unpack(segments: &[PathBuf], to: &Path) -> Result<()> {
    let file = File::create(to).with_context(|| format!("cannot create {}", to.display()))?;
    for part in segments.chunks(FILES_AT_ONCE) {
        let status = Command::new("zstdcat")
            .args(part)
            .stdout(file.try_clone()?)
            .status()
            .context("zstdcat")?;
        if !status.success() {
            bail!("zstdcat does not like a segment");
        }
    }
    Ok(())
}

/// Compares every count of every summary; says how much that was.
///
/// # Errors
/// The first differences.
pub fn check(ndjson: &Path, analytics: &Path) -> Result<String> {
    let output = script("check", &[ndjson, analytics])?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{said}{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(said.trim().to_owned())
}

/// Groups the records by path and by agent, hour by hour, on one core, for measuring.
///
/// # Errors
/// Where it cannot.
pub fn two_group_bys(ndjson: &Path) -> Result<()> {
    let output = script("paths", &[ndjson])?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

fn script(command: &str, paths: &[&Path]) -> Result<Output> {
    Command::new("python3")
        .args(["-c", SCRIPT, command])
        .args(paths)
        .output()
        .context("python3")
}
