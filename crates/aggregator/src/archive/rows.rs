//! The records of a plan in memory, sorted into the files that they are for. Bounded by the plan;
//! reads and writes no file.

use std::{cmp::Ordering, collections::HashMap};

use bytes::Bytes;
use pipeline_core::{
    Offset,
    record::{self, Reader, RecordError},
    store::StoredRecord,
};

use super::{
    ChainId, Place,
    pending::PlannedFile,
    table::{Columns, GROUP_BYTES, GROUP_ROWS, Origin, Table},
    tally::Places,
};

/// Takes in the records of segments, keeps what the files want.
pub struct Gather<'p> {
    files: &'p [PlannedFile],
    /// In order of chain.
    wanted: Vec<Wanted<'p>>,
    lines: Vec<u8>,
    rows: Vec<Row>,
    sites: Sites,
    places: Places,
    reader: Reader,
    /// Room for what is looked at and not kept.
    rest: Vec<u8>,
}

/// Which records of one chain go where.
struct Wanted<'p> {
    chain: &'p ChainId,
    by_place: HashMap<Place, Vec<(Offset, Offset, usize)>>,
}

struct Row {
    file: u32,
    /// Sites by their names' order once all are known.
    site: u32,
    time_us: i64,
    chain: u32,
    offset: i64,
    received_ms: i64,
    at: usize,
    len: u32,
}

impl<'p> Gather<'p> {
    /// For those of `files` that `want` says.
    #[must_use]
    pub fn new(files: &'p [PlannedFile], want: impl Fn(&PlannedFile) -> bool) -> Self {
        let files_wanted = files.iter().enumerate().filter(|(_, file)| want(file));
        let (mut bytes, mut records) = (0, 0);
        let parts = files_wanted.flat_map(|(number, file)| {
            records += file.records as usize;
            bytes += file
                .parts
                .iter()
                .map(|part| part.bytes as usize)
                .sum::<usize>();
            let parts = file.parts.iter();
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
            lines: Vec::with_capacity(bytes),
            rows: Vec::with_capacity(records),
            sites: Sites::default(),
            places: Places::default(),
            reader: Reader::default(),
            rest: Vec::new(),
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
    /// Where its line is no record.
    pub fn take(&mut self, chain: usize, stored: &StoredRecord<'_>) -> Result<(), RecordError> {
        let place = self.places.of(stored.line, stored.received_ms)?;
        let parts = self.wanted[chain].by_place.get(&place);
        let part = parts.and_then(|parts| {
            let mut parts = parts.iter();
            parts.find(|(first, next, _)| (*first..*next).contains(&stored.offset))
        });
        let Some((_, _, file)) = part else {
            return Ok(());
        };
        let site = self.reader.read(stored.line)?.site;
        self.rest.clear();
        let rest = record::append_rest(stored.line, &mut self.rest)?;
        self.rows.push(Row {
            file: *file as u32,
            site: self.sites.number(site.as_deref().unwrap_or_default()),
            time_us: rest.timestamp_us,
            chain: chain as u32,
            offset: stored.offset.0,
            received_ms: stored.received_ms,
            at: self.lines.len(),
            len: stored.line.len() as u32,
        });
        self.lines.extend_from_slice(stored.line);
        Ok(())
    }

    /// All that was taken, in the order of the files and in each by site and time.
    #[must_use]
    pub fn sorted(self) -> Sorted {
        let ranks = self.sites.ranks();
        let mut rows = self.rows;
        for row in &mut rows {
            row.site = ranks[row.site as usize];
        }
        rows.sort_unstable_by_key(|row| (row.file, row.site, row.time_us, row.chain, row.offset));
        Sorted {
            lines: self.lines.into(),
            rows,
            chains: self.wanted.iter().map(|it| it.chain.clone()).collect(),
            names: self.files.iter().map(|file| file.name.clone()).collect(),
        }
    }
}

/// Sorted rows, file by file.
pub struct Sorted {
    lines: Bytes,
    rows: Vec<Row>,
    chains: Vec<ChainId>,
    names: Vec<String>,
}

impl Sorted {
    /// Rows of the file of that number.
    #[must_use]
    pub fn count(&self, file: usize) -> u64 {
        self.of(file).len() as u64
    }

    /// The file of that number, as Parquet.
    ///
    /// # Errors
    /// Where a row is no record, or cannot be written.
    pub fn encode(&self, file: usize, about: String) -> Result<Vec<u8>, String> {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", self.names[file]);
        let mut table = Table::begin(Vec::new(), Some(about)).map_err(|error| failed(&error))?;
        let mut reader = Reader::default();
        let mut rest = self.of(file);
        while !rest.is_empty() {
            let mut columns = Columns::default();
            let mut bytes = 0;
            while let Some((row, behind)) = rest.split_first()
                && columns.count() < GROUP_ROWS
                && bytes < GROUP_BYTES
            {
                rest = behind;
                bytes += row.len as usize;
                let line = &self.lines[row.at..][..row.len as usize];
                let origin = Origin {
                    chain: &self.chains[row.chain as usize],
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

    fn of(&self, file: usize) -> &[Row] {
        let place = |order: Ordering| {
            self.rows.partition_point(|row| {
                let found = (row.file as usize).cmp(&file);
                found == Ordering::Less || found == order
            })
        };
        &self.rows[place(Ordering::Less)..place(Ordering::Equal)]
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
