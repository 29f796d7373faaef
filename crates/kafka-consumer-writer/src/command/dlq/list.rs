//! `dlq list`: a table for people, or NDJSON.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::Path,
};

use pipeline_core::{record::shown, record::timestamp::format_utc};
use serde_json::json;

use super::{Which, envelope, received_ms, say_damage, state};
use crate::dead_letters::Seen;

pub(super) fn run(which: &Which, dir: &Path, json: bool, out: &mut dyn Write) -> io::Result<()> {
    // Before a table begins that nothing stands in.
    std::fs::read_dir(dir)?;
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    if !json {
        writeln!(
            out,
            "{:24} {:>12} {:11} {:24} {:>8} {:16} {:43} REASON",
            "TOPIC/PARTITION", "OFFSET", "KIND", "RECEIVED", "BYTES", "STATE", "BATCH/SEQUENCE"
        )?;
    }
    let survey = which.survey(dir, &mut |seen| {
        *counts.entry(seen.entry.kind.as_str()).or_default() += 1;
        if json {
            json_row(out, seen)
        } else {
            row(out, seen)
        }
    })?;
    if json {
        let totals = json!({"totals": {
            "dir": dir,
            "messages": counts.values().sum::<u64>(),
            "kinds": counts,
            "files": survey.files,
            "bytes": survey.bytes,
            "damage": survey.damage,
        }});
        return writeln!(out, "{totals}");
    }
    out.flush()?;
    say_damage(&survey);
    let kinds: Vec<String> = counts
        .iter()
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    let kinds = if kinds.is_empty() {
        "nothing".to_owned()
    } else {
        kinds.join(", ")
    };
    let damage = match survey.damage.len() {
        0 => String::new(),
        count => format!(", DAMAGED in {count} places"),
    };
    writeln!(
        out,
        "{}: {kinds}; {} bytes in {} files{damage}",
        dir.display(),
        survey.bytes,
        survey.files
    )
}

fn row(out: &mut dyn Write, seen: &Seen<'_>) -> io::Result<()> {
    let (place, entry) = (seen.place, seen.entry);
    let batch = envelope(entry).map_or_else(
        || "-".to_owned(),
        |envelope| format!("{}/{}", envelope.batch, envelope.sequence),
    );
    writeln!(
        out,
        "{:24} {:>12} {:11} {:24} {:>8} {:16} {batch:43} {}",
        format!("{}/p{:05}", place.topic, place.partition.0),
        entry.offset.0,
        entry.kind.as_str(),
        format_utc(received_ms(entry)),
        entry.value.map_or(0, <[u8]>::len),
        state(seen),
        shown(entry.detail.as_bytes())
    )
}

fn json_row(out: &mut dyn Write, seen: &Seen<'_>) -> io::Result<()> {
    let row = super::show::described(seen);
    writeln!(out, "{row}")
}
