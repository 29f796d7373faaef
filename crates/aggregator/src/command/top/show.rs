//! What was found, for people and for scripts. Pure but for the writing.

use std::io::{self, Write};

use pipeline_core::command::plain;
use serde_json::{Value, json};

use super::{
    By,
    summary::{Found, Row},
};

/// A longer text is cut in the table; `--json` has it whole.
const SHOWN_CHARS_MAX: usize = 160;

pub struct Asked<'a> {
    pub by: By,
    pub time: String,
    pub unit: &'static str,
    pub site: Option<&'a str>,
    pub limit: usize,
}

pub fn table(asked: &Asked<'_>, found: &Found, out: &mut dyn Write) -> io::Result<()> {
    let mut head = format!("{}: {} requests", asked.time, found.requests);
    if let Some(site) = asked.site {
        head += &format!(" of {}", short(site));
    }
    let kinds = ["human", "bot", "unknown", "empty"].into_iter();
    let kinds: Vec<String> = kinds
        .filter_map(|kind| Some(format!("{kind} {}", found.clients.get(kind)?)))
        .collect();
    if !kinds.is_empty() {
        head += &format!(" ({})", kinds.join(", "));
    }
    writeln!(out, "{head}\n")?;

    let mut lines = vec![match asked.by {
        By::Bot => ["requests", "share", "purpose", "operator", "bot"].map(str::to_owned),
        by => ["requests", "share", "", "", by.name()].map(str::to_owned),
    }];
    let rows = &found.rows[..found.rows.len().min(asked.limit)];
    for row in rows {
        lines.push([
            row.requests.to_string(),
            percent(row.requests, found.requests),
            short(row.purpose.as_deref().unwrap_or("")),
            short(row.operator.as_deref().unwrap_or("")),
            short(&row.key),
        ]);
    }
    let widths = [0, 1, 2, 3].map(|column| {
        let lengths = lines.iter().map(|line| line[column].chars().count());
        lengths.max().unwrap_or(0)
    });
    for [requests, share, purpose, operator, key] in &lines {
        write!(out, "{requests:>0$}  {share:>1$}", widths[0], widths[1])?;
        for (text, width) in [(purpose, widths[2]), (operator, widths[3])] {
            if width > 0 {
                write!(out, "  {text:<width$}")?;
            }
        }
        writeln!(out, "  {key}")?;
    }
    let more = found.rows.len() - rows.len();
    if more > 0 {
        writeln!(out, "\n{more} more: --limit {}", found.rows.len())?;
    }
    let accuracy = found.accuracy;
    if !accuracy.exact {
        let rest = match asked.by {
            By::Site => "of sites that are not kept apart",
            _ => "under \"other\"",
        };
        writeln!(
            out,
            "\nNot exact: a count may be too low by up to {}; {} of the requests are {rest}.",
            accuracy.error_max, accuracy.other
        )?;
    }
    Ok(())
}

pub fn json(asked: &Asked<'_>, found: &Found, out: &mut dyn Write) -> io::Result<()> {
    let row = |row: &Row| {
        let mut object = json!({ asked.by.name(): row.key, "requests": row.requests });
        if asked.by == By::Bot {
            object["operator"] = row.operator.clone().into();
            object["purpose"] = row.purpose.clone().into();
        }
        object
    };
    let rows: Vec<Value> = found.rows.iter().take(asked.limit).map(row).collect();
    let object = json!({
        asked.unit: asked.time,
        "site": asked.site,
        "by": asked.by.name(),
        "requests": found.requests,
        "requestsPerClient": found.clients,
        "keys": found.rows.len(),
        "exact": found.accuracy.exact,
        "errorMax": found.accuracy.error_max,
        "other": found.accuracy.other,
        "rows": rows,
    });
    writeln!(out, "{object:#}")
}

/// A few names, for an error.
pub fn some_of(names: &[String]) -> String {
    const SHOWN: usize = 10;
    if names.is_empty() {
        return "none with a name".to_owned();
    }
    let mut shown: Vec<String> = names.iter().take(SHOWN).map(|name| short(name)).collect();
    if names.len() > SHOWN {
        shown.push(format!("{} more", names.len() - SHOWN));
    }
    shown.join(", ")
}

fn short(text: &str) -> String {
    let mut shown = plain(text);
    if let Some((end, _)) = shown.char_indices().nth(SHOWN_CHARS_MAX) {
        shown.truncate(end);
        shown.push('…');
    }
    shown
}

fn percent(part: u64, of: u64) -> String {
    format!("{:.1} %", 100.0 * part as f64 / of.max(1) as f64)
}
