//! The records of a plan, sorted into the files that they are for. Held in memory to a bound and on
//! the disk above it: then one file's are in memory at a time. Reads no segment, writes no file of
//! the archive.

use std::{
    collections::HashMap,
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use pipeline_core::{
    Offset,
    record::{self, Reader, RecordError},
    store::StoredRecord,
};

use super::{
    ChainId, Place,
    pending::PlannedFile,
    spill::Spill,
    table::{Columns, GROUP_BYTES, GROUP_ROWS, Origin, Table},
    tally::{BEFORE, Places},
};

/// Takes in the records of segments, keeps what the files want.
pub struct Gather<'p> {
    files: &'p [PlannedFile],
    /// In order of chain.
    wanted: Vec<Wanted<'p>>,
    places: Places,
    held: Held,
    /// Bytes that `held` may have, about.
    memory_bytes: usize,
    /// Where the rest lies, and where it is to lie.
    spill: Option<Spill>,
    dir: PathBuf,
}

/// Rows with their lines.
#[derive(Default)]
pub struct Held {
    pub lines: Vec<u8>,
    pub rows: Vec<Row>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    pub file: u32,
    pub chain: u32,
    pub offset: i64,
    pub received_ms: i64,
    /// Its line in [`Held::lines`].
    pub at: usize,
    pub len: u32,
}

/// Why a record was not taken.
pub enum Refused {
    NoRecord(RecordError),
    Disk(io::Error),
}

/// Which records of one chain go where.
struct Wanted<'p> {
    chain: &'p ChainId,
    by_place: HashMap<Place, Vec<(Offset, Offset, usize)>>,
}

impl Held {
    fn bytes(&self) -> usize {
        self.lines.len() + self.rows.len() * size_of::<Row>()
    }
}

impl Row {
    #[must_use]
    pub fn line(&self) -> Range<usize> {
        self.at..self.at + self.len as usize
    }
}

impl<'p> Gather<'p> {
    /// For those of `files` that `want` says. Holds so many bytes in memory, about, and the rest
    /// where `dir` is.
    #[must_use]
    pub fn new(
        files: &'p [PlannedFile],
        want: impl Fn(&PlannedFile) -> bool,
        memory_bytes: usize,
        dir: &Path,
    ) -> Self {
        let files_wanted = files.iter().enumerate().filter(|(_, file)| want(file));
        let mut bytes: u64 = 0;
        let parts = files_wanted.flat_map(|(number, file)| {
            let parts = file.parts.iter();
            bytes += parts.clone().map(|part| part.bytes).sum::<u64>();
            parts.map(move |part| (&part.chain, file.place, (part.first, part.next, number)))
        });
        let mut parts: Vec<_> = parts.collect();
        parts.sort_unstable();
        let chains = parts.chunk_by(|(one, ..), (other, ..)| one == other);
        let wanted = chains.map(|parts| {
            let mut by_place: HashMap<Place, Vec<_>> = HashMap::new();
            for (_, place, part) in parts {
                by_place.entry(*place).or_default().push(*part);
            }
            Wanted {
                chain: parts[0].0,
                by_place,
            }
        });
        Self {
            files,
            wanted: wanted.collect(),
            places: Places::default(),
            held: Held {
                lines: Vec::with_capacity(memory_bytes.min(bytes as usize)),
                rows: Vec::new(),
            },
            memory_bytes,
            spill: None,
            dir: dir.to_owned(),
        }
    }

    /// The chains that records are wanted of, each with the offsets that they lie between.
    #[must_use]
    pub fn chains(&self) -> Vec<(ChainId, Vec<(Offset, Offset)>)> {
        let chains = self.wanted.iter().map(|wanted| {
            let parts = wanted.by_place.values().flatten();
            let mut parts: Vec<_> = parts.map(|(first, next, _)| (*first, *next)).collect();
            parts.sort_unstable();
            (wanted.chain.clone(), joined(parts))
        });
        chains.collect()
    }

    /// Takes the record if it is wanted; `chain` is the place of its chain in [`Self::chains`].
    ///
    /// # Errors
    /// Where its line is no record, or there is no room on the disk.
    pub fn take(&mut self, chain: usize, stored: &StoredRecord<'_>) -> Result<(), Refused> {
        let place = self.places.of(stored.line, stored.received_ms);
        let place = place.map_err(Refused::NoRecord)?;
        let parts = self.wanted[chain].by_place.get(&place);
        let part = parts.and_then(|parts| {
            let mut parts = parts.iter();
            parts.find(|(first, next, _)| (*first..*next).contains(&stored.offset))
        });
        let Some((_, _, file)) = part else {
            return Ok(());
        };
        let row = Row {
            file: *file as u32,
            chain: chain as u32,
            offset: stored.offset.0,
            received_ms: stored.received_ms,
            at: self.held.lines.len(),
            len: stored.line.len() as u32,
        };
        self.held.rows.push(row);
        self.held.lines.extend_from_slice(stored.line);
        if self.held.bytes() > self.memory_bytes {
            self.spill().map_err(Refused::Disk)?;
        }
        Ok(())
    }

    /// All that was taken.
    ///
    /// # Errors
    /// Where there is no room on the disk.
    pub fn end(mut self) -> io::Result<Gathered<'p>> {
        if self.spill.is_some() {
            self.spill()?;
        }
        let mut held = self.held;
        held.rows.sort_by_key(|row| row.file);
        Ok(Gathered {
            files: self.files,
            chains: self.wanted.iter().map(|it| it.chain).collect(),
            rows: match self.spill {
                Some(spill) => Rows::OnDisk(spill),
                None => Rows::Held(held.lines.into(), held.rows),
            },
        })
    }

    fn spill(&mut self) -> io::Result<()> {
        let spill = match &mut self.spill {
            Some(spill) => spill,
            none => none.insert(Spill::create(&self.dir, self.files.len())?),
        };
        spill.put(&mut self.held)
    }
}

/// All rows of a plan.
pub struct Gathered<'p> {
    files: &'p [PlannedFile],
    chains: Vec<&'p ChainId>,
    rows: Rows,
}

enum Rows {
    /// In order of file.
    Held(Bytes, Vec<Row>),
    OnDisk(Spill),
}

impl Gathered<'_> {
    /// The rows of the file of that number, sorted.
    ///
    /// # Errors
    /// Where one is no record, or cannot be read.
    pub fn file(&self, number: usize) -> Result<Sorted<'_>, String> {
        let name = &self.files[number].name;
        let (lines, rows) = match &self.rows {
            Rows::Held(lines, rows) => {
                let begin = rows.partition_point(|row| (row.file as usize) < number);
                let end = rows.partition_point(|row| row.file as usize <= number);
                (lines.clone(), rows[begin..end].to_vec())
            }
            Rows::OnDisk(spill) => {
                let held = spill.of(number);
                let held = held.map_err(|error| format!("{name}: {error}"))?;
                (held.lines.into(), held.rows)
            }
        };
        let sorted = sort(&lines, rows).map_err(|error| format!("{name}: {error}"))?;
        Ok(Sorted {
            name,
            chains: &self.chains,
            lines,
            rows: sorted,
        })
    }
}

/// By site and time.
fn sort(lines: &[u8], rows: Vec<Row>) -> Result<Vec<Row>, RecordError> {
    let mut sites = Sites::default();
    let mut reader = Reader::default();
    let mut rest = Vec::new();
    let mut keyed = Vec::with_capacity(rows.len());
    for row in rows {
        let line = &lines[row.line()];
        let fields = reader.read(line)?;
        let time_us = match is_of_ms(line) {
            true => fields.timestamp_ms * 1000,
            false => {
                rest.clear();
                record::append_rest(line, &mut rest)?.timestamp_us
            }
        };
        let site = sites.number(fields.site.as_deref().unwrap_or_default());
        keyed.push((site, time_us, row));
    }
    let ranks = sites.ranks();
    for (site, ..) in &mut keyed {
        *site = ranks[*site as usize];
    }
    keyed.sort_unstable_by_key(|(site, time_us, row)| (*site, *time_us, row.chain, row.offset));
    Ok(keyed.into_iter().map(|(.., row)| row).collect())
}

/// Whether its time begins the line, is none of a leap second and no finer than a millisecond.
fn is_of_ms(line: &[u8]) -> bool {
    const FINEST: usize = "2015-05-17T10:05:03.250Z".len();
    const SECOND: Range<usize> = 17..19;
    let time = line.strip_prefix(BEFORE).unwrap_or_default();
    let end = time.iter().take(FINEST + 1).position(|byte| *byte == b'"');
    end.is_some_and(|end| time[..end].get(SECOND).is_some_and(|it| it != b"60"))
}

/// The sorted rows of one file.
pub struct Sorted<'g> {
    name: &'g str,
    chains: &'g [&'g ChainId],
    lines: Bytes,
    rows: Vec<Row>,
}

impl Sorted<'_> {
    #[must_use]
    pub fn count(&self) -> u64 {
        self.rows.len() as u64
    }

    /// The file, as Parquet.
    ///
    /// # Errors
    /// Where a row is no record, or cannot be written.
    pub fn encode(&self, about: String) -> Result<Vec<u8>, String> {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", self.name);
        let mut table = Table::begin(Vec::new(), Some(about)).map_err(|error| failed(&error))?;
        let mut reader = Reader::default();
        let mut rest = &self.rows[..];
        while !rest.is_empty() {
            let mut columns = Columns::default();
            let mut bytes = 0;
            while let Some((row, behind)) = rest.split_first()
                && columns.count() < GROUP_ROWS
                && bytes < GROUP_BYTES
            {
                rest = behind;
                bytes += row.len as usize;
                let line = &self.lines[row.line()];
                let origin = Origin {
                    chain: self.chains[row.chain as usize],
                    offset: row.offset,
                    received_ms: row.received_ms,
                };
                let pushed = columns.push(&mut reader, &self.lines, line, origin);
                pushed.map_err(|error| failed(&error))?;
            }
            table.group(&columns).map_err(|error| failed(&error))?;
        }
        table.end().map_err(|error| failed(&error))
    }
}

/// Sites by number.
#[derive(Default)]
struct Sites {
    numbers: HashMap<Box<str>, u32>,
    last: Option<(Box<str>, u32)>,
}

impl Sites {
    fn number(&mut self, site: &str) -> u32 {
        if let Some((last, number)) = &self.last
            && **last == *site
        {
            return *number;
        }
        let next = self.numbers.len() as u32;
        let number = match self.numbers.get(site) {
            Some(number) => *number,
            None => {
                self.numbers.insert(site.into(), next);
                next
            }
        };
        self.last = Some((site.into(), number));
        number
    }

    /// Each number's place in the order of the names.
    fn ranks(&self) -> Vec<u32> {
        let mut names: Vec<_> = self.numbers.iter().collect();
        names.sort_unstable();
        let mut ranks = vec![0; names.len()];
        for (rank, (_, number)) in names.into_iter().enumerate() {
            ranks[*number as usize] = rank as u32;
        }
        ranks
    }
}

/// Sorted ranges without those that touch each other.
fn joined(sorted: Vec<(Offset, Offset)>) -> Vec<(Offset, Offset)> {
    let mut joined: Vec<(Offset, Offset)> = Vec::new();
    for (first, next) in sorted {
        match joined.last_mut() {
            Some(last) if first <= last.1 => last.1 = last.1.max(next),
            _ => joined.push((first, next)),
        }
    }
    joined
}
