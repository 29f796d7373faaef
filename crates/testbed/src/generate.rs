//! Realistic access logs for the demo: several sites, people, search engines, AI crawlers,
//! monitors and feeds over the last two days, and a few lines that are broken in ordinary ways.

mod visits;

use std::fmt::Write;

use fastrand::Rng;

use self::visits::{SITES, Visit, visit};
use crate::clock::{HOUR_MS, Millis};

/// One body for `POST /logs`.
#[derive(Clone, Debug)]
pub struct Piece {
    /// What it is, for messages about its lines.
    pub name: String,
    /// All pieces are of one file, whose line numbers say enough.
    pub in_one_file: bool,
    pub target: String,
    pub content_type: &'static str,
    pub body: Vec<u8>,
    /// Records in it, broken ones included.
    pub records: u64,
    /// Where each record stands, by index, as `line 17`.
    pub places: Vec<String>,
}

/// A log file in bodies of up to `lines` lines, blank ones left out as the gateway does.
pub fn from_file(text: &[u8], lines: usize) -> Vec<Piece> {
    let all: Vec<(usize, &[u8])> = text
        .split_inclusive(|byte| *byte == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.trim_ascii().is_empty())
        .collect();
    let cut = |(number, part): (usize, &[(usize, &[u8])])| Piece {
        name: format!("body {}", number + 1),
        in_one_file: true,
        target: "/logs".to_owned(),
        content_type: "text/plain",
        body: part.iter().flat_map(|(_, line)| *line).copied().collect(),
        records: part.len() as u64,
        places: part
            .iter()
            .map(|(line, _)| format!("line {}", line + 1))
            .collect(),
    };
    all.chunks(lines).enumerate().map(cut).collect()
}

/// About `records` records, the last of them `now`, in bodies of up to 500: log lines of one site,
/// NDJSON and JSON arrays of all sites, CSV with a header.
pub fn generate(seed: u64, records: u32, now: Millis) -> Vec<Piece> {
    let mut rng = Rng::with_seed(seed);
    let mut left = records;
    let mut pieces = Vec::new();
    while left > 0 {
        let count = rng.u32(200..=500).min(left);
        left -= count;
        let number = pieces.len() as u32;
        // The pieces follow each other through the two days, as shippers would send them.
        let done = f64::from(records - left) / f64::from(records);
        let until = now.0 - ((1.0 - done) * 47.0 * HOUR_MS as f64) as i64;
        let visits = |rng: &mut Rng, site: Option<usize>| {
            let mut visits: Vec<Visit> = (0..count)
                .map(|_| {
                    let time = Millis(until - rng.i64(0..HOUR_MS));
                    visit(rng, site, time)
                })
                .collect();
            visits.sort_by_key(|visit| visit.time);
            visits
        };
        pieces.push(match number % 6 {
            0 | 2 | 4 => log_lines(&mut rng, number, visits),
            1 | 3 => ndjson(&mut rng, number, visits),
            _ if number % 12 == 5 => csv(&mut rng, number, visits),
            _ => json_array(&mut rng, number, visits),
        });
    }
    pieces
}

/// One line in about 700 is broken.
fn breaks(rng: &mut Rng) -> bool {
    rng.u32(0..700) == 0
}

fn log_lines(
    rng: &mut Rng,
    number: u32,
    visits: impl Fn(&mut Rng, Option<usize>) -> Vec<Visit>,
) -> Piece {
    let site = number as usize / 2 % SITES.len();
    let mut body = String::new();
    let visits = visits(rng, Some(site));
    for v in &visits {
        let start = body.len();
        let _ = write!(
            body,
            r#"{} - - [{}] "GET {} HTTP/1.1" {} {} "{}" "{}""#,
            v.client,
            v.time.clf(),
            v.path,
            v.status,
            v.bytes,
            v.referer,
            v.agent
        );
        if breaks(rng) {
            // Cut off, as by a full disk or a rotation in the middle of a write.
            body.truncate(start + (body.len() - start) * 2 / 3);
        }
        body.push('\n');
    }
    piece(
        number,
        "log lines",
        format!("/logs?site={}", SITES[site].0),
        "text/plain",
        body,
        &visits,
    )
}

fn ndjson(
    rng: &mut Rng,
    number: u32,
    visits: impl Fn(&mut Rng, Option<usize>) -> Vec<Visit>,
) -> Piece {
    let visits = visits(rng, None);
    let mut body = String::new();
    for visit in &visits {
        let mut record = json(visit);
        if breaks(rng) {
            spoil(rng, &mut record);
        }
        let _ = writeln!(body, "{record}");
    }
    piece(
        number,
        "NDJSON",
        "/logs".to_owned(),
        "application/x-ndjson",
        body,
        &visits,
    )
}

fn json_array(
    rng: &mut Rng,
    number: u32,
    visits: impl Fn(&mut Rng, Option<usize>) -> Vec<Visit>,
) -> Piece {
    let visits = visits(rng, None);
    let mut records: Vec<serde_json::Value> = visits.iter().map(json).collect();
    for record in &mut records {
        if breaks(rng) {
            spoil(rng, record);
        }
    }
    let body = serde_json::Value::from(records).to_string();
    piece(
        number,
        "JSON array",
        "/logs".to_owned(),
        "application/json",
        body,
        &visits,
    )
}

fn csv(
    rng: &mut Rng,
    number: u32,
    visits: impl Fn(&mut Rng, Option<usize>) -> Vec<Visit>,
) -> Piece {
    let visits = visits(rng, None);
    let mut body = "timestamp,site,method,path,status,bytes,durationMs,userAgent\n".to_owned();
    for v in &visits {
        let time = if breaks(rng) {
            "yesterday".to_owned()
        } else {
            v.time.to_string()
        };
        let _ = writeln!(
            body,
            r#"{time},{},GET,"{}",{},{},{},"{}""#,
            v.site, v.path, v.status, v.bytes, v.duration_ms, v.agent
        );
    }
    piece(number, "CSV", "/logs".to_owned(), "text/csv", body, &visits)
}

fn piece(
    number: u32,
    kind: &str,
    target: String,
    content_type: &'static str,
    body: String,
    visits: &[Visit],
) -> Piece {
    let place = |index: usize| match content_type {
        "application/json" => format!("element {index}"),
        // Behind the header.
        "text/csv" => format!("line {}", index + 2),
        _ => format!("line {}", index + 1),
    };
    Piece {
        name: format!("body {} ({kind})", number + 1),
        in_one_file: false,
        target,
        content_type,
        body: body.into_bytes(),
        records: visits.len() as u64,
        places: (0..visits.len()).map(place).collect(),
    }
}

fn json(v: &Visit) -> serde_json::Value {
    serde_json::json!({
        "timestamp": v.time.to_string(),
        "site": v.site,
        "method": "GET",
        "path": v.path,
        "status": v.status,
        "bytes": v.bytes,
        "durationMs": v.duration_ms,
        "remoteAddr": v.client,
        "referer": v.referer,
        "userAgent": v.agent,
    })
}

/// As shippers get it wrong.
fn spoil(rng: &mut Rng, record: &mut serde_json::Value) {
    match rng.u8(0..4) {
        0 => record["timestamp"] = "17/May/2015".into(),
        1 => record["status"] = "OK".into(),
        2 => record["path"] = " ".into(),
        _ => {
            if let Some(fields) = record.as_object_mut() {
                let agent = fields.remove("userAgent").unwrap_or_default();
                fields.insert("user_agent".to_owned(), agent);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_logs() {
        let now = Millis(1_750_000_000_000);
        let (one, two) = (generate(7, 5_000, now), generate(7, 5_000, now));
        assert_eq!(one.iter().map(|piece| piece.records).sum::<u64>(), 5_000);
        assert!(one.iter().zip(&two).all(|(one, two)| one.body == two.body));
        let kinds: std::collections::HashSet<_> = one.iter().map(|p| p.content_type).collect();
        assert_eq!(kinds.len(), 4, "{kinds:?}");
    }

    #[test]
    fn a_file_is_cut_at_lines_and_keeps_their_numbers() {
        let pieces = from_file(b"a\n\nb\r\n \nc", 2);
        let bodies: Vec<_> = pieces.iter().map(|piece| piece.body.as_slice()).collect();
        assert_eq!(bodies, [b"a\nb\r\n".as_slice(), b"c"]);
        assert_eq!(pieces[0].places, ["line 1", "line 3"]);
        assert_eq!(pieces[1].places, ["line 5"]);
    }
}
