//! What was stored, as raw NDJSON, against what every summary says and what the archive holds: by
//! DuckDB, which shares nothing with the aggregator.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use super::looks;
use crate::{clock::Millis, duckdb, store::segments};

const FILES_AT_ONCE: usize = 500;

/// The records of all segments that ever were.
pub struct Records {
    /// All of them, as they were stored.
    all: PathBuf,
    /// Without those that belong to no summary.
    counted: PathBuf,
    read: HashSet<PathBuf>,
    pub count: u64,
    pub strays: u64,
}

impl Records {
    /// None yet.
    ///
    /// # Errors
    /// When the directory takes no file.
    pub fn new(dir: &Path) -> Result<Self> {
        let [all, counted] = ["all.ndjson", "counted.ndjson"].map(|name| dir.join(name));
        for path in [&all, &counted] {
            File::create(path)?;
        }
        Ok(Self {
            all,
            counted,
            read: HashSet::new(),
            count: 0,
            strays: 0,
        })
    }

    /// Reads what is new below `kept`.
    ///
    /// # Errors
    /// When `zstdcat` does not like a segment.
    pub fn refresh(&mut self, kept: &Path) -> Result<()> {
        let mut fresh = segments(kept)?;
        fresh.retain(|path| !self.read.contains(path));
        for files in fresh.chunks(FILES_AT_ONCE) {
            self.append(files)?;
        }
        self.read.extend(fresh);
        Ok(())
    }

    fn append(&mut self, files: &[PathBuf]) -> Result<()> {
        let append = |path: &Path| File::options().append(true).open(path).map(BufWriter::new);
        let (mut all, mut counted) = (append(&self.all)?, append(&self.counted)?);
        let mut child = Command::new("zstdcat")
            .args(files)
            .stdout(Stdio::piped())
            .spawn()
            .context("zstdcat")?;
        let output = child.stdout.take().context("zstdcat has an output")?;
        for line in BufReader::new(output).lines() {
            let line = line?;
            self.count += 1;
            writeln!(all, "{line}")?;
            if is_stray(&line)? {
                self.strays += 1;
            } else {
                writeln!(counted, "{line}")?;
            }
        }
        ensure!(child.wait()?.success(), "zstdcat does not like a segment");
        all.flush()?;
        counted.flush()?;
        Ok(())
    }

    /// Compares every count of every summary with these records; says how much that was.
    ///
    /// # Errors
    /// The first differences.
    pub fn check(&self, analytics: &Path) -> Result<String> {
        if self.count == self.strays {
            bail!("no record to be counted");
        }
        let what = "the stored records and the summaries";
        let counts = duckdb::check(&self.counted, analytics).context(what)?;
        let clients = looks::same_clients(&self.counted, analytics).context(what)?;
        Ok(format!("{counts}, {clients}"))
    }

    /// Compares the archive with these records, and every summary with the archive.
    ///
    /// # Errors
    /// The first differences.
    pub fn check_archive(&self, archive: &Path) -> Result<String> {
        looks::same_rows(archive, &self.all).context("the stored records and the archive")
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        // Large, and made again from the kept segments.
        let _ = fs::remove_file(&self.all);
        let _ = fs::remove_file(&self.counted);
    }
}

/// By its own time, as [`crate::body::Mix::is_stray`] makes them.
fn is_stray(line: &str) -> Result<bool> {
    const FIELD: &str = "\"timestamp\":\"";
    let at = line.find(FIELD).context("a record without a timestamp")? + FIELD.len();
    let end = line[at..].find('"').context("a timestamp without an end")?;
    let time = Millis::parse_utc(&line[at..at + end]);
    let year = time.with_context(|| line.to_owned())?.parts().year;
    Ok(!(2000..2090).contains(&year))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_1970_or_2099_is_a_stray() {
        let of = |time: &str| is_stray(&format!("{{\"timestamp\":\"{time}\",\"path\":\"/\"}}"));
        assert!(of("1970-01-01T00:00:01Z").expect("read"));
        assert!(of("2099-01-01T00:00:01.5Z").expect("read"));
        assert!(!of("2026-01-01T00:00:01Z").expect("read"));
        assert!(is_stray("{}").is_err());
    }
}
