//! One JSON record a line (<https://github.com/ndjson/ndjson-spec>). Blank lines are skipped and
//! not counted.

use pipeline_core::record;

use super::{BodyError, Sink, is_blank, lines};

pub(super) fn decode(body: &[u8], sink: &mut Sink<'_>) -> Result<(), BodyError> {
    for line in lines(body) {
        if !is_blank(line) {
            sink.record(line, |rules, out| record::append_json(line, rules, out))?;
        }
    }
    Ok(())
}
