//! DuckDB reads the archive on and on while it grows: no error, no row twice, never fewer than
//! before, and never more than were planned; files stay as they are.

use std::{
    fmt,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{JoinHandle, spawn},
};

use anyhow::{Context, Result, bail};

use crate::process::tied;

const SCRIPT: &str = include_str!("archive.py");

/// What was seen so far.
#[derive(Clone, Copy, Default, Debug)]
pub struct Seen {
    pub looks: u64,
    /// Of these, with more rows than the one before.
    pub grown: u64,
    pub rows: u64,
    pub files: u64,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "DuckDB looked {} times, {} times at more than before: {} rows in {} files",
            self.looks, self.grown, self.rows, self.files
        )
    }
}

/// A process that looks. Ends with its value.
pub struct Looks {
    child: Child,
    input: Option<ChildStdin>,
    seen: Arc<Mutex<(Seen, Option<String>)>>,
    reader: Option<JoinHandle<()>>,
}

impl Looks {
    /// # Errors
    /// When Python cannot be started.
    pub fn start(archive: &Path, analytics: &Path) -> Result<Self> {
        let mut command = Command::new("python3");
        command.args(["-c", SCRIPT, "look"]);
        command.arg(archive).arg(analytics);
        let mut child = tied(&command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("python3")?;
        let input = child.stdin.take();
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let seen = Arc::<Mutex<(Seen, Option<String>)>>::default();
        let into = Arc::clone(&seen);
        let reader = spawn(move || {
            let lines = output.map(|output| BufReader::new(output).lines());
            for line in lines.into_iter().flatten().map_while(Result::ok) {
                let mut numbers = line.split(' ').filter_map(|number| number.parse().ok());
                let [rows, files] = [(); 2].map(|()| numbers.next().unwrap_or_default());
                let seen = &mut lock(&into).0;
                seen.looks += 1;
                seen.grown += u64::from(rows > seen.rows);
                (seen.rows, seen.files) = (rows, files);
            }
            let mut said = String::new();
            if let Some(mut errors) = errors {
                let _ = errors.read_to_string(&mut said);
            }
            if !said.is_empty() {
                lock(&into).1 = Some(said);
            }
        });
        Ok(Self {
            child,
            input,
            seen,
            reader: Some(reader),
        })
    }

    /// # Errors
    /// What DuckDB did not like.
    pub fn check(&self) -> Result<Seen> {
        match &*lock(&self.seen) {
            (seen, None) => Ok(*seen),
            (seen, Some(fault)) => bail!("DuckDB on the archive, after {seen:?}: {fault}"),
        }
    }

    /// Lets it look once more.
    ///
    /// # Errors
    /// As [`Looks::check`].
    pub fn end(mut self) -> Result<Seen> {
        let status = self.stop();
        let seen = self.check()?;
        match status {
            Some(status) if status.success() => Ok(seen),
            status => bail!("the one who looks ended with {status:?}, after {seen:?}"),
        }
    }

    fn stop(&mut self) -> Option<std::process::ExitStatus> {
        drop(self.input.take());
        let status = self.child.wait().ok();
        if let Some(reader) = self.reader.take() {
            // Its own panic has its own message.
            let _ = reader.join();
        }
        status
    }
}

impl Drop for Looks {
    fn drop(&mut self) {
        if self.reader.is_some() {
            let _ = self.child.kill();
            self.stop();
        }
    }
}

/// That the archive holds what `ndjson` does, field by field; says how much that was.
///
/// # Errors
/// The first differences.
pub fn same_rows(archive: &Path, ndjson: &Path) -> Result<String> {
    script("rows", [archive, ndjson])
}

/// That each summary knows who sent what `ndjson` holds; says how much that was.
///
/// # Errors
/// The first difference.
pub fn same_clients(ndjson: &Path, analytics: &Path) -> Result<String> {
    script("clients", [ndjson, analytics])
}

fn script(command: &str, paths: [&Path; 2]) -> Result<String> {
    let output = Command::new("python3")
        .args(["-c", SCRIPT, command])
        .args(paths)
        .output()
        .context("python3")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
