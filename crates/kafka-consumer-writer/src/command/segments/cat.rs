//! `segments cat`: the records as they are stored, or each with where it comes from. Holds one
//! segment in memory at a time.

use std::{
    io::{self, Write},
    path::Path,
};

use pipeline_core::{
    record::timestamp::format_utc,
    store::{Chain, StoredRecord},
};
use serde_json::json;

use super::Which;

pub(super) fn run(
    which: &Which,
    root: &Path,
    with_offsets: bool,
    out: &mut dyn Write,
) -> io::Result<u8> {
    let offsets = which.offsets();
    let found = which.chains(root)?;
    which.each(found, &mut |chain, name| {
        // The trailer says whether there is anything to decompress.
        let Some(visited) = chain.look(name)? else {
            return Ok(None);
        };
        let next = Some(visited.trailer.next);
        if !which.wants(&visited) {
            return Ok(next);
        }
        let Some((visited, ndjson)) = chain.read(name)? else {
            return Ok(None);
        };
        for record in visited.trailer.records(&ndjson) {
            if !offsets.contains(&record.offset) || !which.received.has(record.received_ms) {
                continue;
            }
            if with_offsets {
                framed(out, chain, &record)?;
            } else {
                out.write_all(record.line)?;
                out.write_all(b"\n")?;
            }
        }
        Ok(next)
    })
}

/// The record's own bytes stand in it as they are stored.
fn framed(out: &mut dyn Write, chain: &Chain, record: &StoredRecord<'_>) -> io::Result<()> {
    write!(
        out,
        "{{\"topic\":{},\"partition\":{},\"offset\":{},\"received\":\"{}\",",
        json!(chain.topic()),
        chain.partition(),
        record.offset,
        format_utc(record.received_ms)
    )?;
    match record.batch {
        Some(batch) => write!(
            out,
            "\"batchId\":\"{batch}\",\"sequence\":{},",
            record.sequence
        )?,
        None => out.write_all(b"\"batchId\":null,\"sequence\":null,")?,
    }
    out.write_all(b"\"record\":")?;
    out.write_all(record.line)?;
    out.write_all(b"}\n")
}
