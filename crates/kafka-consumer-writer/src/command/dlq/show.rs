//! `dlq show`: the messages with their values, as `replay --corrected` takes them back.

use std::{
    io::{self, Write},
    path::Path,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use pipeline_core::{command::say, record::timestamp::format_utc};
use serde_json::{Value, json};

use super::{Which, envelope, received_ms, say_damage, state};
use crate::dead_letters::{EntryHeader, Seen};

pub(super) fn run(which: &Which, dir: &Path, values: bool, out: &mut dyn Write) -> io::Result<()> {
    let mut shown = 0_u64;
    let survey = which.survey(dir, &mut |seen| {
        shown += 1;
        if values {
            out.write_all(seen.entry.value.unwrap_or_default())?;
            return out.write_all(b"\n");
        }
        let mut object = described(seen);
        match seen
            .entry
            .value
            .map(|value| (value, std::str::from_utf8(value)))
        {
            None => object["value"] = Value::Null,
            Some((_, Ok(text))) => object["value"] = json!(text),
            Some((bytes, Err(_))) => object["valueBase64"] = json!(STANDARD.encode(bytes)),
        }
        if let EntryHeader::Bytes(bytes) = seen.entry.header {
            object["headerBase64"] = json!(STANDARD.encode(bytes));
        }
        writeln!(out, "{object}")
    })?;
    out.flush()?;
    say_damage(&survey);
    say(&format!("{shown} messages in {} files", survey.files));
    Ok(())
}

/// All but its value.
pub(super) fn described(seen: &Seen<'_>) -> Value {
    let (place, entry) = (seen.place, seen.entry);
    let envelope = envelope(entry);
    let topic_id = Some(&place.topic_id).filter(|id| !id.is_empty());
    json!({
        "topic": place.topic,
        "topicId": topic_id,
        "partition": place.partition,
        "offset": entry.offset,
        "kind": entry.kind.as_str(),
        "state": state(seen),
        "timestamp": format_utc(entry.timestamp_ms),
        "received": format_utc(received_ms(entry)),
        "batchId": envelope.map(|envelope| envelope.batch.to_string()),
        "sequence": envelope.map(|envelope| envelope.sequence),
        "since": envelope.map(|envelope| envelope.since),
        "bytes": entry.value.map(<[u8]>::len),
        "reason": entry.detail,
    })
}
