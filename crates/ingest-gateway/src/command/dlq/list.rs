//! `dlq list`: a table for people, or NDJSON.

use std::{
    io::{self, Write},
    path::Path,
};

use pipeline_core::record::timestamp::format_utc;
use serde_json::json;

use super::{
    Look, say,
    survey::{Survey, survey},
};
use crate::{
    dlq::{load::Visited, names::data_name},
    producer::settle::now_ms,
};

const HEAD: [&str; 11] = [
    "FILE",
    "ENTRY",
    "BATCH",
    "RECEIVED",
    "AGE",
    "RECORDS",
    "BYTES",
    "REASON",
    "CLUSTER/TOPIC/PARTITION",
    "SENT",
    "SINCE",
];

pub(super) fn run(look: &Look, json: bool, out: &mut dyn Write) -> io::Result<()> {
    let now = now_ms();
    let mut bytes = 0;
    let mut oldest_ms: Option<i64> = None;
    // Above the first row: a directory that cannot be read has no table.
    let mut head = (!json).then_some(HEAD);
    let survey = survey(&look.dir, &look.filter, &mut |number, entry| {
        bytes += entry.payload.len() as u64;
        let received = entry.head.received_ms;
        oldest_ms = Some(oldest_ms.unwrap_or(received).min(received));
        if json {
            return json_row(out, number, entry, now);
        }
        if let Some(head) = head.take() {
            row(out, head.map(str::to_owned))?;
        }
        row(out, cells(number, entry, now))
    })?;
    if json {
        let totals = json!({"totals": {
            "dir": look.dir,
            "files": survey.files,
            "entries": survey.entries,
            "records": survey.records,
            "bytes": bytes,
            "oldestAgeSeconds": oldest_ms.map_or(0, |oldest| age_seconds(now, oldest)),
            "damage": survey.damage,
        }});
        serde_json::to_writer(&mut *out, &totals)?;
        return writeln!(out);
    }
    print_totals(
        out,
        &look.dir,
        &survey,
        bytes,
        oldest_ms.map(|ms| age_seconds(now, ms)),
    )
}

fn print_totals(
    out: &mut dyn Write,
    dir: &Path,
    survey: &Survey,
    bytes: u64,
    oldest: Option<u64>,
) -> io::Result<()> {
    out.flush()?;
    for line in &survey.damage {
        say(&format!("damage: {line}"));
    }
    let oldest = oldest.map_or_else(String::new, |age| format!(", oldest {} ago", span(age)));
    let damage = match survey.damage.len() {
        0 => String::new(),
        count => format!(", DAMAGED in {count} places"),
    };
    writeln!(
        out,
        "{}: {} entries, {} records, {bytes} bytes in {} files{oldest}{damage}",
        dir.display(),
        survey.entries,
        survey.records,
        survey.files
    )
}

fn cells(number: u64, entry: &Visited<'_>, now: i64) -> [String; 11] {
    let head = entry.head;
    let progress = entry.marks.progress_of(head, entry.position);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let cluster = if head.cluster_id.is_empty() {
        "-"
    } else {
        &head.cluster_id
    };
    let partition = or_dash(progress.partition.map(|partition| partition.to_string()));
    [
        number.to_string(),
        entry.place.to_string(),
        head.batch.to_string(),
        format_utc(head.received_ms),
        span(age_seconds(now, head.received_ms)),
        entry.records.to_string(),
        entry.payload.len().to_string(),
        head.reason.as_str().to_owned(),
        format!("{cluster}/{}/{partition}", head.topic),
        if progress.may_have_been_sent {
            "maybe"
        } else {
            "no"
        }
        .to_owned(),
        or_dash(progress.since.map(|since| since.to_string())),
    ]
}

fn row(out: &mut dyn Write, cells: [String; 11]) -> io::Result<()> {
    let [
        file,
        entry,
        batch,
        received,
        age,
        records,
        bytes,
        reason,
        place,
        sent,
        since,
    ] = cells;
    writeln!(
        out,
        "{file:>6} {entry:>6} {batch:32} {received:24} {age:>7} {records:>8} {bytes:>10} \
         {reason:17} {place:40} {sent:5} {since:>12}"
    )
}

fn json_row(out: &mut dyn Write, number: u64, entry: &Visited<'_>, now: i64) -> io::Result<()> {
    let head = entry.head;
    let progress = entry.marks.progress_of(head, entry.position);
    let cluster = Some(&*head.cluster_id).filter(|id| !id.is_empty());
    let row = json!({
        "file": data_name(number),
        "entry": entry.place,
        "batchId": head.batch.to_string(),
        "received": format_utc(head.received_ms),
        "stored": format_utc(head.stored_ms),
        "ageSeconds": age_seconds(now, head.received_ms),
        "records": entry.records,
        "bytes": entry.payload.len(),
        "reason": head.reason.as_str(),
        "cluster": cluster,
        "topic": &*head.topic,
        "partition": progress.partition,
        "mayHaveBeenSent": progress.may_have_been_sent,
        "since": progress.since,
    });
    serde_json::to_writer(&mut *out, &row)?;
    writeln!(out)
}

fn age_seconds(now_ms: i64, then_ms: i64) -> u64 {
    u64::try_from(now_ms.saturating_sub(then_ms) / 1000).unwrap_or(0)
}

/// `3h12m`: the two largest units.
pub(super) fn span(seconds: u64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let first = units.iter().position(|(unit, _)| seconds >= *unit);
    let Some(at) = first else {
        return "0s".to_owned();
    };
    let (unit, name) = units[at];
    let mut text = format!("{}{name}", seconds / unit);
    if let Some((lower, name)) = units.get(at + 1)
        && seconds % unit >= *lower
    {
        text.push_str(&format!("{}{name}", seconds % unit / lower));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn ages_are_said_in_two_units() {
        let said = [0, 59, 60, 61, 3600, 3720, 86_399, 90_000, 864_000].map(span);
        let expected = [
            "0s", "59s", "1m", "1m1s", "1h", "1h2m", "23h59m", "1d1h", "10d",
        ];
        assert_eq!(said, expected);
    }
}
