//! `aggregator export`: the records of a time, from the archive and, where they are not archived
//! yet, from live segments. Changes nothing; what the greatest manifest knows is what is exported.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    path::Path,
};

use anyhow::Context;
use bytes::Bytes;
use clap::ValueEnum;
use pipeline_core::{
    Offset,
    command::{Progress, say, time},
    config::Config,
    lifecycle::exit,
    record::Reader,
    store::Store,
};

use crate::{
    archive::{
        ChainId, Place, files,
        pending::PlannedFile,
        table::{self, Columns, GROUP_ROWS, Origin, Row, Table},
        tally::Places,
    },
    manifest::{Manifest, StateDir},
};

/// Rows of live segments that are held at once.
const LIVE_ROWS: usize = 10_000;

/// Print the records of a time: those of the archive, and those counted and not archived yet
#[derive(clap::Args, Debug)]
pub struct Export {
    /// Only records of this time (RFC 3339) or later, by their own timestamp
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<i64>,
    /// Only records before this time (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<i64>,
    /// Only records of this site
    #[arg(long, value_name = "HOST")]
    site: Option<String>,
    /// csv (with a header), json (one record a line, as the gateway takes it) or parquet (as the
    /// archive has it)
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,
    /// The records that were counted aside (a day and more ahead of their receipt) instead
    #[arg(long)]
    aside: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Format {
    Csv,
    Json,
    Parquet,
}

impl Export {
    /// Prints to stdout; gives the exit code.
    #[must_use]
    pub fn run(&self, config: &Config) -> u8 {
        match self.print(config) {
            Ok(records) => {
                say(&format!("{records} records"));
                exit::OK
            }
            Err(error) if is_closed(&error) => exit::OK,
            Err(error) => {
                say(&format!("{error:#}"));
                exit::FAILED
            }
        }
    }

    fn print(&self, config: &Config) -> anyhow::Result<u64> {
        use io::IsTerminal;
        if let (Some(from), Some(to)) = (self.from, self.to)
            && to < from
        {
            anyhow::bail!("--to is before --from: no record is of that time");
        }
        if self.format == Format::Parquet && io::stdout().is_terminal() {
            anyhow::bail!(
                "Parquet is nothing for a terminal: send it to a file with > NAME.parquet"
            );
        }
        let storage = &config.storage;
        let out = Out::begin(self.format, io::BufWriter::new(io::stdout()))?;
        self.export(
            &storage.logs_dir,
            &storage.analytics_dir,
            &storage.archive_dir,
            out,
        )
    }

    /// All that is wanted to `out`; gives the number of records.
    fn export<W: Write + Send>(
        &self,
        logs: &Path,
        analytics: &Path,
        archive: &Path,
        mut out: Out<W>,
    ) -> anyhow::Result<u64> {
        let progress = Progress::begin();
        let manifest = StateDir::at(analytics).greatest()?;
        let manifest = manifest
            .with_context(|| format!("nothing has been counted yet in {}", analytics.display()))?;
        let mut published = BTreeSet::new();
        for found in files::list(archive, |place| self.wants(place))? {
            // Planned since: its records are still to be archived for this manifest.
            if found.number().is_none_or(|number| number > manifest.number) {
                continue;
            }
            let archived = found.open()?;
            published.insert(archived.about.file.name.clone());
            for columns in archived.groups(&found.path) {
                self.rows(&columns?, &mut out)?;
                progress.show(|| format!("{} records", out.records));
            }
        }
        if let Some(store) = Store::open_existing(logs)? {
            self.live(&store, &manifest, &published, &mut out)?;
        }
        progress.end();
        out.end()
    }

    /// What is in no file yet, chain by chain and segment by segment.
    fn live<W: Write + Send>(
        &self,
        store: &Store,
        manifest: &Manifest,
        published: &BTreeSet<String>,
        out: &mut Out<W>,
    ) -> anyhow::Result<()> {
        let not_there = |file: &&PlannedFile| !published.contains(&file.name);
        let planned = manifest.archive.plan.iter().filter(not_there);
        let planned = planned.map(|file| (file.place, &file.parts));
        let pending = manifest.archive.pending.iter();
        let pending = pending.map(|(place, pending)| (*place, &pending.parts));
        // By chain, so that each segment is read once.
        let mut chains: BTreeMap<&ChainId, Vec<(Offset, Offset, Place)>> = BTreeMap::new();
        for (place, parts) in planned
            .chain(pending)
            .filter(|(place, _)| self.wants(*place))
        {
            for part in parts {
                let parts = chains.entry(&part.chain).or_default();
                parts.push((part.first, part.next, place));
            }
        }
        let mut reader = Reader::default();
        for (id, parts) in chains {
            let chain = store.chain(&id.topic, id.partition);
            let begin = parts.iter().map(|part| part.0).min().unwrap_or(Offset(0));
            let end = parts.iter().map(|part| part.1).max().unwrap_or(Offset(0));
            for name in chain.names(&(begin..end))? {
                if !parts
                    .iter()
                    .any(|(first, next, _)| (*first..*next).contains(&name))
                {
                    continue;
                }
                let removed = || {
                    let path = chain.segment_path(name);
                    anyhow::anyhow!(
                        "{} was archived and removed meanwhile: try again",
                        path.display()
                    )
                };
                let visited = chain.look(name)?.ok_or_else(removed)?;
                let mut records = chain.records(&visited)?.ok_or_else(removed)?;
                let mut columns = Columns::default();
                let mut places = Places::default();
                while let Some(stored) = records.next()? {
                    let place = places.of(stored.line, stored.received_ms)?;
                    let wanted = parts.iter().any(|(first, next, of)| {
                        *of == place && (*first..*next).contains(&stored.offset)
                    });
                    if !wanted {
                        continue;
                    }
                    let origin = Origin {
                        chain: id,
                        offset: stored.offset.0,
                        received_ms: stored.received_ms,
                    };
                    let line = Bytes::copy_from_slice(stored.line);
                    columns.push(&mut reader, &line, &line, origin)?;
                    if columns.count() == LIVE_ROWS {
                        self.rows(&std::mem::take(&mut columns), out)?;
                    }
                }
                self.rows(&columns, out)?;
            }
        }
        Ok(())
    }

    fn rows<W: Write + Send>(&self, columns: &Columns, out: &mut Out<W>) -> anyhow::Result<()> {
        let mut rows = columns.rows().filter(|row| self.wants_row(*row));
        rows.try_for_each(|row| out.row(row))
    }

    /// Whether a place may hold what is wanted.
    fn wants(&self, place: Place) -> bool {
        let (begin, end) = (place.hour.begin_ms(), place.hour.end_ms());
        place.aside == self.aside
            && self.from.is_none_or(|from| from < end)
            && self.to.is_none_or(|to| begin < to)
    }

    fn wants_row(&self, row: Row<'_>) -> bool {
        let ms = row.timestamp_us().div_euclid(1000);
        self.from.is_none_or(|from| from <= ms)
            && self.to.is_none_or(|to| ms < to)
            && self
                .site
                .as_deref()
                .is_none_or(|site| row.site() == Some(site))
    }
}

fn is_closed(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>();
        io.is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe)
            || cause.to_string().contains("Broken pipe")
    })
}

/// Where records go, in their format.
struct Out<W: Write + Send> {
    to: To<W>,
    line: Vec<u8>,
    records: u64,
}

enum To<W: Write + Send> {
    Csv(Box<csv::Writer<W>>),
    Json(W),
    Parquet(Box<Table<W>>, Box<Columns>),
}

impl<W: Write + Send> Out<W> {
    fn begin(format: Format, to: W) -> anyhow::Result<Self> {
        let to = match format {
            Format::Csv => {
                let mut csv = csv::Writer::from_writer(to);
                csv.write_record(table::names())?;
                To::Csv(Box::new(csv))
            }
            Format::Json => To::Json(to),
            Format::Parquet => To::Parquet(Box::new(Table::begin(to, None)?), Box::default()),
        };
        Ok(Self {
            to,
            line: Vec::new(),
            records: 0,
        })
    }

    fn row(&mut self, row: Row<'_>) -> anyhow::Result<()> {
        self.records += 1;
        match &mut self.to {
            To::Csv(csv) => {
                let cells = row.cells();
                let cells = cells.iter().map(|cell| cell.as_deref().unwrap_or_default());
                csv.write_record(cells)?;
            }
            To::Json(to) => {
                self.line.clear();
                row.append_json(&mut self.line);
                self.line.push(b'\n');
                to.write_all(&self.line)?;
            }
            To::Parquet(table, columns) => {
                columns.push_row(row);
                if columns.count() == GROUP_ROWS {
                    table.group(&std::mem::take(columns))?;
                }
            }
        }
        Ok(())
    }

    fn end(self) -> anyhow::Result<u64> {
        match self.to {
            To::Csv(mut csv) => csv.flush()?,
            To::Json(mut to) => to.flush()?,
            To::Parquet(mut table, columns) => {
                if columns.count() > 0 {
                    table.group(&columns)?;
                }
                table.end()?.flush()?;
            }
        }
        Ok(self.records)
    }
}
