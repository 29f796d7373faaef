//! Reads the store as any user could: `zstdcat` over the live segments, one process for many
//! files. Counts how often each record of a load is there; shares no code with the product.

pub mod kept;

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{
    aside::Aside,
    body::Mix,
    clock::Millis,
    ledger::{Fate, Ledger},
};

/// Every so many records one is compared field by field.
const COMPARE_EVERY: u32 = 61;
const FILES_AT_ONCE: usize = 200;
const NOTES_MAX: usize = 20;

/// What has been read so far; segments are immutable, so each is read once.
#[derive(Debug)]
pub struct Store {
    topic: PathBuf,
    /// Where the segments are that are to be kept in `topic`.
    live: Option<PathBuf>,
    mix: Mix,
    read: HashSet<PathBuf>,
    /// How often each record is there, by request and index.
    copies: Vec<Vec<u8>>,
    lines: u64,
    /// Records that are there more than once; the first few.
    twice: Vec<(u32, u32)>,
    /// Records that no load sent, or that do not look as they were sent; the first few.
    notes: Vec<String>,
    strange: u64,
}

/// A stored record; fields that are not compared stay unread.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    timestamp: String,
    path: String,
    user_agent: String,
    site: Option<String>,
    status: Option<u16>,
    bytes: Option<u64>,
}

impl Store {
    /// The store under `logs_dir`, of one topic, filled by a load of this mix.
    pub fn new(logs_dir: &Path, topic: &str, mix: &Mix) -> Self {
        Self {
            topic: logs_dir.join("_live").join(topic),
            live: None,
            mix: mix.clone(),
            read: HashSet::new(),
            copies: Vec::new(),
            lines: 0,
            twice: Vec::new(),
            notes: Vec::new(),
            strange: 0,
        }
    }

    /// As it is, but what is seen of it is kept in `dir`, and so also what is removed later.
    #[must_use]
    pub fn keeping(mut self, dir: &Path) -> Self {
        self.live = Some(std::mem::replace(&mut self.topic, dir.to_owned()));
        self
    }

    /// The directory with the partitions that are read.
    pub fn topic(&self) -> &Path {
        &self.topic
    }

    /// Reads the segments that are new since the last call.
    ///
    /// # Errors
    /// When `zstdcat` cannot be started or does not like a file, or a segment that belongs to a
    /// chain has gone away.
    pub fn refresh(&mut self) -> Result<()> {
        self.keep()?;
        let fresh: Vec<PathBuf> = segments(&self.topic)?
            .into_iter()
            .filter(|path| !self.read.contains(path))
            .collect();
        for chunk in fresh.chunks(FILES_AT_ONCE) {
            self.read_files(chunk)?;
            self.read.extend(chunk.iter().cloned());
        }
        Ok(())
    }

    /// Keeps what is there now, where that is asked for; reads nothing.
    ///
    /// # Errors
    /// As [`kept::keep`].
    pub fn keep(&self) -> Result<()> {
        match &self.live {
            Some(live) => kept::keep(live, &self.topic),
            None => Ok(()),
        }
    }

    /// Lines read, whatever they hold.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// How often a record is there.
    pub fn copies(&self, request: u32, index: u32) -> u8 {
        let request = self.copies.get(request as usize);
        request
            .and_then(|copies| copies.get(index as usize))
            .copied()
            .unwrap_or(0)
    }

    /// Records that are there more than once; the first few.
    pub fn twice(&self) -> &[(u32, u32)] {
        &self.twice
    }

    /// Where a record is, for people: segments, with the line counted from 1. Reads everything.
    ///
    /// # Errors
    /// When a segment cannot be read.
    pub fn find(&self, request: u32, index: u32) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for path in segments(&self.topic)? {
            let lines = BufReader::new(zstd::Decoder::new(File::open(&path)?)?);
            for (line, text) in (1..).zip(lines.split(b'\n')) {
                if place(&text?) == Some((request, index)) {
                    found.push(format!("{} line {line}", path.display()));
                }
            }
        }
        Ok(found)
    }

    /// Records that are there but should not be, or look wrong; how many, and the first few.
    pub fn strange(&self) -> (u64, &[String]) {
        (self.strange, &self.notes)
    }

    /// Records that are there under numbers that the load has not used.
    pub fn beyond(&self, ledger: &Ledger) -> Vec<(u32, u32)> {
        let mut found = Vec::new();
        for (request, copies) in (0..).zip(&self.copies) {
            let sent = ledger
                .entries
                .get(request as usize)
                .map_or(0, |entry| entry.count);
            let there = (0..)
                .zip(copies)
                .skip(sent as usize)
                .filter(|(_, copies)| **copies > 0);
            found.extend(there.map(|(index, _)| (request, index)));
        }
        found
    }

    /// Good records of accepted requests that are neither there nor put aside as undecidable.
    pub fn missing<'a>(
        &'a self,
        ledger: &'a Ledger,
        aside: &'a Aside,
    ) -> impl Iterator<Item = (u32, u32)> + 'a {
        let accepted = (0..)
            .zip(&ledger.entries)
            .filter(|(_, entry)| entry.fate == Fate::Accepted);
        accepted.flat_map(move |(request, entry)| {
            let good = (0..entry.count).filter(|index| entry.broken != Some(*index));
            let lacking = move |index: &u32| {
                self.copies(request, *index) == 0 && aside.copies(request, *index) == 0
            };
            good.filter(lacking).map(move |index| (request, index))
        })
    }

    fn read_files(&mut self, files: &[PathBuf]) -> Result<()> {
        let mut child = Command::new("zstdcat")
            .args(files)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start zstdcat (Debian: apt-get install zstd)")?;
        let output = child.stdout.take().context("zstdcat has an output")?;
        let mut lines = BufReader::with_capacity(1 << 18, output);
        let mut line = Vec::with_capacity(4096);
        loop {
            line.clear();
            if lines.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            self.read_line(&line);
        }
        let mut said = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            stderr.read_to_string(&mut said)?;
        }
        let status = child.wait()?;
        if !status.success() {
            bail!(
                "zstdcat of {} files from {}: {status}: {said}",
                files.len(),
                files[0].display()
            );
        }
        Ok(())
    }

    fn read_line(&mut self, line: &[u8]) {
        self.lines += 1;
        let Some((request, index)) = place(line) else {
            return self.note(|| format!("no record of the load: {}", shown(line)));
        };
        // Far beyond what any load sends: not one of its numbers.
        if request > 50_000_000 || index > 1_000_000 {
            return self.note(|| format!("no record of the load: {}", shown(line)));
        }
        let (row, column) = (request as usize, index as usize);
        if self.copies.len() <= row {
            self.copies.resize_with(row + 1, Vec::new);
        }
        let copies = &mut self.copies[row];
        if copies.len() <= column {
            copies.resize(column + 1, 0);
        }
        copies[column] = copies[column].saturating_add(1);
        if copies[column] > 1 && self.twice.len() < NOTES_MAX {
            self.twice.push((request, index));
        }
        if request.wrapping_add(index).is_multiple_of(COMPARE_EVERY)
            && let Err(difference) = compare(&self.mix, request, index, line)
        {
            self.note(|| format!("{difference}: {}", shown(line)));
        }
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        self.strange += 1;
        if self.notes.len() < NOTES_MAX {
            self.notes.push(text());
        }
    }
}

/// Counts the records in a store without any other program, for machines that have none.
#[derive(Debug)]
pub struct Counter {
    topic: PathBuf,
    read: HashSet<PathBuf>,
    records: u64,
}

impl Counter {
    pub fn new(logs_dir: &Path, topic: &str) -> Self {
        Self {
            topic: logs_dir.join("_live").join(topic),
            read: HashSet::new(),
            records: 0,
        }
    }

    /// Records there are now.
    ///
    /// # Errors
    /// When a segment cannot be read.
    pub fn records(&mut self) -> Result<u64> {
        for path in segments(&self.topic)? {
            if self.read.contains(&path) {
                continue;
            }
            let lines = count_lines(&path).with_context(|| format!("in {}", path.display()))?;
            self.records += lines;
            self.read.insert(path);
        }
        Ok(self.records)
    }
}

fn count_lines(path: &Path) -> Result<u64> {
    let mut decoder = zstd::Decoder::new(File::open(path)?)?;
    let mut buffer = vec![0; 1 << 16];
    let mut lines = 0;
    loop {
        let read = decoder.read(&mut buffer)?;
        if read == 0 {
            return Ok(lines);
        }
        lines += buffer[..read].iter().filter(|byte| **byte == b'\n').count() as u64;
    }
}

/// The segments of every partition, each partition's in order of their offsets.
///
/// # Errors
/// When a directory cannot be listed; one that is not there yet is empty.
pub fn segments(topic: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for partition in list(topic)? {
        if partition
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('p'))
        {
            found.extend(segments_of(&partition)?);
        }
    }
    Ok(found)
}

/// The segments of one partition's directory, in order of their offsets.
///
/// # Errors
/// When it cannot be listed; one that is not there yet is empty.
pub fn segments_of(partition: &Path) -> Result<Vec<PathBuf>> {
    let mut files = list(partition)?;
    files.retain(|file| {
        file.file_name()
            .is_some_and(|name| name.to_string_lossy().ends_with(".ndjson.zst"))
    });
    Ok(files)
}

/// Of each partition that has one: its number, and its segment with the greatest name.
///
/// # Errors
/// When a directory cannot be listed.
pub fn newest(topic: &Path) -> Result<Vec<(u32, PathBuf)>> {
    let mut found = Vec::new();
    for partition in list(topic)? {
        let name = partition.file_name().unwrap_or_default().to_string_lossy();
        let number = name.strip_prefix('p').and_then(|name| name.parse().ok());
        if let (Some(number), Some(last)) = (number, segments_of(&partition)?.pop()) {
            found.push((number, last));
        }
    }
    Ok(found)
}

fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Request and index from the record's path, `"/t/<request>/<index>"`.
pub fn place(line: &[u8]) -> Option<(u32, u32)> {
    const START: &[u8] = b"\"/t/";
    let at = line
        .windows(START.len())
        .position(|window| window == START)?;
    let rest = &line[at + START.len()..];
    let end = rest.iter().position(|byte| *byte == b'"')?;
    let (request, index) = std::str::from_utf8(&rest[..end]).ok()?.split_once('/')?;
    Some((request.parse().ok()?, index.parse().ok()?))
}

fn compare(mix: &Mix, request: u32, index: u32, line: &[u8]) -> Result<(), String> {
    let shape = mix.shape(request);
    if index >= shape.count {
        return Err("an index that was never sent".to_owned());
    }
    let expected = mix.record(&shape, index);
    let stored: Stored = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    // A log line has whole seconds.
    let time = Millis::parse_utc(&stored.timestamp);
    let same = time == Some(expected.time)
        && stored.path == expected.path
        && stored.user_agent == expected.agent
        && stored.site.as_deref() == expected.site
        && stored.status == expected.status
        && stored.bytes == expected.bytes;
    if same {
        Ok(())
    } else {
        Err(format!("differs from {expected:?}"))
    }
}

fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end();
    text.chars().take(300).collect()
}
