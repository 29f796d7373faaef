//! One JSON text: an array of records, or one record.
//!
//! A valid record is found, judged and copied in one pass. For any other element the grammar alone
//! says where it ends; if it does not, the whole text is unreadable.

use pipeline_core::record::{
    self,
    json::{Cursor, Fault, STRUCTURE},
    shown,
};

use super::{BodyError, Sink};

pub(super) fn decode(body: &[u8], start: usize, sink: &mut Sink<'_>) -> Result<(), BodyError> {
    let broken = |fault: Fault| {
        BodyError::unreadable(format!("the body is not JSON: {}", fault.describe(body, 0)))
    };
    let mut cursor = Cursor::new(body, start);
    cursor.blanks();
    match cursor.peek() {
        Some(b'{') => element(&mut cursor, sink, broken)?,
        Some(b'[') => {
            cursor.at += 1;
            cursor.blanks();
            if cursor.peek() == Some(b']') {
                cursor.at += 1;
            } else {
                loop {
                    element(&mut cursor, sink, broken)?;
                    cursor.blanks();
                    match cursor.peek() {
                        Some(b',') => cursor.at += 1,
                        Some(b']') => {
                            cursor.at += 1;
                            break;
                        }
                        _ => return Err(broken(cursor.expected("`,` or `]` after an element"))),
                    }
                    cursor.blanks();
                }
            }
        }
        None => {
            return Err(BodyError::unreadable(
                "the body is empty, allowed is an array of records or one record".to_owned(),
            ));
        }
        Some(_) => {
            cursor.value(STRUCTURE).map_err(broken)?;
            let found = shown(&body[start..cursor.at]);
            return Err(BodyError::unreadable(format!(
                "the body is {found}, allowed is an array of records or one record"
            )));
        }
    }
    cursor.blanks();
    match cursor.peek() {
        None => Ok(()),
        Some(b'{') => Err(BodyError::unreadable(format!(
            "the body is not JSON: at byte {}: found a second value; one record a line is application/x-ndjson",
            cursor.at
        ))),
        Some(_) => Err(broken(cursor.expected("nothing behind the value"))),
    }
}

fn element(
    cursor: &mut Cursor<'_>,
    sink: &mut Sink<'_>,
    broken: impl Fn(Fault) -> BodyError,
) -> Result<(), BodyError> {
    let (rules, start) = (sink.rules, cursor.at);
    let lines = &mut sink.decoded.records.lines;
    if let Some(end) = record::append_element(cursor.bytes, start, rules, lines) {
        cursor.at = end;
        return sink.accepted();
    }
    cursor.value(STRUCTURE).map_err(broken)?;
    let element = &cursor.bytes[start..cursor.at];
    sink.record(element, |rules, out| {
        record::append_json(element, rules, out)
    })
}
