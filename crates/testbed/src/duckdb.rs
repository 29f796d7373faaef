//! DuckDB as a second judge of the analytics: it computes every count of every summary from the
//! records themselves, as they were stored or as they are archived. Called by way of its Python
//! package; knows no product crate.

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

/// What is compared.
#[derive(Clone, Copy, Debug)]
pub struct Check<'a> {
    /// A file of NDJSON, or the directory of an archive.
    pub records: &'a Path,
    pub analytics: &'a Path,
    /// What each user agent is, as NDJSON with `agent`, `class`, `name`, `operator`, `purpose`.
    /// Without it, clients and bots are only added up.
    pub classes: Option<&'a Path>,
    /// Says on stderr how far it is.
    pub progress: bool,
}

impl Check<'_> {
    /// Compares every count of every summary; says how much that was.
    ///
    /// # Errors
    /// The first differences.
    pub fn run(&self) -> Result<String> {
        let mut paths = vec![self.records, self.analytics];
        paths.extend(self.classes);
        let mut script = script("check", &paths);
        if self.progress {
            script.stderr(Stdio::inherit());
        }
        let output = script.output().context("python3")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!("{said}{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(said.trim().to_owned())
    }
}

/// [`Check::run`] without classes.
///
/// # Errors
/// The first differences.
pub fn check(records: &Path, analytics: &Path) -> Result<String> {
    let check = Check {
        records,
        analytics,
        classes: None,
        progress: false,
    };
    check.run()
}

/// All user agents of the records, in order.
///
/// # Errors
/// Where it cannot.
pub fn agents(records: &Path) -> Result<Vec<String>> {
    let output = done(script("agents", &[records]))?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Groups the records by path and by agent, hour by hour, on one core, for measuring.
///
/// # Errors
/// Where it cannot.
pub fn two_group_bys(ndjson: &Path) -> Result<()> {
    done(script("paths", &[ndjson])).map(drop)
}

fn done(mut script: Command) -> Result<Output> {
    let output = script.output().context("python3")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(output)
}

fn script(command: &str, paths: &[&Path]) -> Command {
    let mut python = Command::new("python3");
    python.args(["-c", SCRIPT, command]).args(paths);
    python
}
