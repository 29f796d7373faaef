//! `verify`: the offline proof, for people or as JSON.

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
};

use pipeline_core::{
    lifecycle::exit,
    store::verify::{ChainReport, verify},
};

/// Segments between words on stderr.
const PROGRESS_EVERY: u64 = 10_000;

/// Checks every chain under `root`; gives the exit code: 0 whole, 1 damaged or unreadable.
pub fn run(root: &Path, json: bool, out: &mut dyn Write) -> io::Result<u8> {
    let terminal = io::stderr().is_terminal();
    let reports = verify(root, &mut |done, total| {
        if done % PROGRESS_EVERY == 0 && done > 0 || terminal && done == total && total > 0 {
            eprintln!("checked {done} of {total} segments");
        }
    });
    let reports = match reports {
        Ok(reports) => reports,
        Err(error) => {
            eprintln!("{error}");
            if json {
                let error = error.to_string();
                let chains: [(); 0] = [];
                let answer = serde_json::json!(
                    {"store": root, "whole": false, "error": error, "chains": chains});
                print_answer(&answer, out)?;
            }
            return Ok(exit::FAILED);
        }
    };
    let whole = reports.iter().all(|report| report.damage.is_empty());
    if json {
        print_json(root, &reports, whole, out)?;
    } else {
        print_text(root, &reports, whole, out)?;
    }
    Ok(if whole { exit::OK } else { exit::FAILED })
}

fn print_json(
    root: &Path,
    reports: &[ChainReport],
    whole: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let chains: Vec<_> = reports
        .iter()
        .map(|report| {
            let damage: Vec<_> = report
                .damage
                .iter()
                .map(|damage| serde_json::json!({"path": damage.path, "detail": damage.detail}))
                .collect();
            serde_json::json!({
                "topic": report.topic,
                "partition": report.partition,
                "first": report.first,
                "next": report.next,
                "segments": report.segments,
                "bytes": report.bytes,
                "totals": report.totals,
                "whole": report.damage.is_empty(),
                "damage": damage,
            })
        })
        .collect();
    let answer = serde_json::json!({"store": root, "whole": whole, "chains": chains});
    print_answer(&answer, out)
}

fn print_answer(answer: &serde_json::Value, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, answer)?;
    writeln!(out)
}

fn print_text(
    root: &Path,
    reports: &[ChainReport],
    whole: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (mut segments, mut stored, mut bytes) = (0, 0, 0);
    for report in reports {
        let totals = &report.totals;
        segments += report.segments;
        stored += totals.stored;
        bytes += report.bytes;
        writeln!(
            out,
            "{} p{:05}: offsets {} to {}, {} segments, {} stored, {} duplicate, {} poison, \
             {} undecidable, {} skipped, {} lost: {}",
            report.topic,
            report.partition.0,
            report.first,
            report.next,
            report.segments,
            totals.stored,
            totals.duplicate,
            totals.poison,
            totals.undecidable,
            totals.skipped,
            totals.lost,
            if report.damage.is_empty() {
                "whole"
            } else {
                "DAMAGED"
            }
        )?;
        for damage in &report.damage {
            writeln!(out, "  {}: {}", damage.path.display(), damage.detail)?;
        }
    }
    writeln!(
        out,
        "{}: {} chains, {segments} segments, {stored} records stored, {bytes} bytes: {}",
        root.display(),
        reports.len(),
        if whole { "whole" } else { "DAMAGED" }
    )
}
