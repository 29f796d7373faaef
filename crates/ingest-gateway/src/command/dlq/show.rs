//! `dlq show`: the records, pure, for whatever reads NDJSON.

use std::io::{self, Write};

use super::{Look, say, survey::survey};
use crate::dlq::entry::decode;

pub(super) fn run(look: &Look, out: &mut dyn Write) -> io::Result<()> {
    let survey = survey(&look.dir, &look.filter, &mut |number, entry| {
        match decode(entry.payload) {
            Ok((_, records)) => {
                for (_, line) in records.iter() {
                    out.write_all(line)?;
                    out.write_all(b"\n")?;
                }
            }
            Err(why) => say(&format!("file {number}, entry {}: {why}", entry.place)),
        }
        Ok(())
    })?;
    for line in &survey.damage {
        say(&format!("damage: {line}"));
    }
    say(&format!(
        "{} records of {} entries in {} files",
        survey.records, survey.entries, survey.files
    ));
    Ok(())
}
