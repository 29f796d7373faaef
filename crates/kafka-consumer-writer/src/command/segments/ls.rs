//! `segments ls`: a table for people, or NDJSON. Reads trailers only.

use std::{
    io::{self, Write},
    path::Path,
    time::UNIX_EPOCH,
};

use pipeline_core::{
    record::timestamp::format_utc,
    store::{Chain, Totals, Visited},
};
use serde_json::json;

use super::Which;

pub(super) fn run(which: &Which, root: &Path, json: bool, out: &mut dyn Write) -> io::Result<u8> {
    let mut sums = Sums::default();
    let found = which.chains(root)?;
    if !json {
        let head = [
            "TOPIC/PARTITION",
            "FIRST",
            "NEXT",
            "STORED",
            "DUPLICATE",
            "POISON",
            "UNDECIDABLE",
            "SKIPPED",
            "LOST",
            "BYTES",
            "RECEIVED FROM",
            "RECEIVED TO",
            "WRITTEN",
            "NAME",
        ];
        row(out, &head.map(str::to_owned))?;
    }
    let code = which.each(found, &mut |chain, name| {
        let Some(visited) = chain.look(name)? else {
            return Ok(None);
        };
        let next = Some(visited.trailer.next);
        if !which.wants(&visited) {
            return Ok(next);
        }
        sums.add(&visited);
        if json {
            json_row(out, chain, &visited)?;
        } else {
            row(out, &cells(chain, &visited))?;
        }
        Ok(next)
    })?;
    if json {
        let totals = json!({"totals": {
            "dir": root,
            "segments": sums.segments,
            "bytes": sums.bytes,
            "offsets": sums.fates,
        }});
        writeln!(out, "{totals}")?;
    } else {
        writeln!(
            out,
            "{}: {} segments, {} bytes, {} records stored",
            root.display(),
            sums.segments,
            sums.bytes,
            sums.fates.stored
        )?;
    }
    Ok(code)
}

#[derive(Default)]
struct Sums {
    segments: u64,
    bytes: u64,
    fates: Totals,
}

impl Sums {
    fn add(&mut self, visited: &Visited) {
        self.segments += 1;
        self.bytes += visited.file_len;
        for run in &visited.trailer.fates {
            self.fates.add(run.fate, run.count);
        }
    }
}

/// Of the stored records: the earliest and the latest time of first receipt.
fn received(visited: &Visited) -> Option<(i64, i64)> {
    let times = || visited.trailer.stored.iter().map(|run| run.received_ms);
    Some((times().min()?, times().max()?))
}

fn written(visited: &Visited) -> String {
    let since = visited.modified.duration_since(UNIX_EPOCH);
    let millis = since.map_or(0, |since| since.as_millis());
    format_utc(i64::try_from(millis).unwrap_or(i64::MAX))
}

fn name(visited: &Visited) -> String {
    let name = visited.path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn cells(chain: &Chain, visited: &Visited) -> [String; 14] {
    let trailer = &visited.trailer;
    let own = trailer.own_totals();
    let times = received(visited);
    let time = |ms: Option<i64>| ms.map_or_else(|| "-".to_owned(), format_utc);
    [
        format!("{}/p{:05}", chain.topic(), chain.partition().0),
        trailer.first.to_string(),
        trailer.next.to_string(),
        own.stored.to_string(),
        own.duplicate.to_string(),
        own.poison.to_string(),
        own.undecidable.to_string(),
        own.skipped.to_string(),
        own.lost.to_string(),
        visited.file_len.to_string(),
        time(times.map(|(first, _)| first)),
        time(times.map(|(_, last)| last)),
        written(visited),
        name(visited),
    ]
}

fn row(out: &mut dyn Write, cells: &[String; 14]) -> io::Result<()> {
    let [
        place,
        first,
        next,
        stored,
        duplicate,
        poison,
        undecidable,
        skipped,
        lost,
        bytes,
        from,
        to,
        written,
        name,
    ] = cells;
    writeln!(
        out,
        "{place:24} {first:>12} {next:>12} {stored:>8} {duplicate:>9} {poison:>6} \
         {undecidable:>11} {skipped:>8} {lost:>8} {bytes:>10} {from:24} {to:24} {written:24} {name}"
    )
}

fn json_row(out: &mut dyn Write, chain: &Chain, visited: &Visited) -> io::Result<()> {
    let trailer = &visited.trailer;
    let times = received(visited);
    let row = json!({
        "topic": chain.topic(),
        "partition": chain.partition(),
        "path": visited.path,
        "first": trailer.first,
        "next": trailer.next,
        "offsets": trailer.own_totals(),
        "bytes": visited.file_len,
        "plainBytes": trailer.plain_len,
        "receivedFrom": times.map(|(first, _)| format_utc(first)),
        "receivedTo": times.map(|(_, last)| format_utc(last)),
        "written": written(visited),
        "writer": hex(&trailer.writer),
        "hash": visited.hash.to_string(),
        "previous": trailer.previous.map(|link| link.first),
        "runningTotals": trailer.totals,
    });
    writeln!(out, "{row}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
