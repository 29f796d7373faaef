//! One JSON text: an array of records, or one record.
//!
//! A valid record that stands whole in a piece is found, judged and copied in one pass. For any
//! other element the grammar alone says where it ends; if it does not, the whole text is
//! unreadable.

use pipeline_core::record::{
    SHOWN_BYTES_MAX,
    json::{Broken, Cursor, Fault, FaultKind, Skipper},
    shown_head,
};

use super::{
    BodyError,
    carry::{Carried, Carry},
    sink::{AsJson, Sink},
};

/// Deepest nesting of a text that is passed: a bit of memory a level. A record is far below.
const DEPTH_MAX: usize = 1 << 20;
const ALLOWED: &str = "allowed is an array of records or one record";

#[derive(Default)]
pub(super) struct Json {
    place: Place,
    /// How many bytes of the body came before the piece in work.
    passed: usize,
    /// The value that the pieces so far end in.
    unfinished: Option<Skipper>,
    carry: Carry,
}

/// Before what the next byte that is not blank stands.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Place {
    #[default]
    Text,
    /// The first element, or the end of an empty array.
    First,
    /// An element behind a comma.
    Element,
    /// A comma, or the end of the array.
    Comma,
    /// The end of the text.
    End,
    /// The end of a value that is no record and no array.
    Other,
}

impl Json {
    /// A text that begins behind so many bytes of its body.
    pub fn new(passed: usize) -> Self {
        Self {
            passed,
            ..Self::default()
        }
    }

    pub fn push(&mut self, piece: &[u8], sink: &mut Sink) -> Result<(), BodyError> {
        let mut at = 0;
        if let Some(skipper) = &mut self.unfinished {
            let end = skipper.pass(piece).map_err(not_json)?;
            let (max, head_max) = self.bounds(sink);
            self.carry
                .push(&piece[..end.unwrap_or(piece.len())], max, head_max);
            let Some(end) = end else {
                self.passed += piece.len();
                return Ok(());
            };
            self.unfinished = None;
            self.carried(sink)?;
            at = end;
        }
        self.read(piece, at, sink)?;
        self.passed += piece.len();
        Ok(())
    }

    pub fn finish(&mut self, sink: &mut Sink) -> Result<(), BodyError> {
        if let Some(skipper) = self.unfinished.take() {
            skipper.end().map_err(not_json)?;
            // A number ends with the text.
            self.carried(sink)?;
        }
        let what = match self.place {
            Place::End => return Ok(()),
            Place::Text => {
                return Err(BodyError::unreadable(format!(
                    "the body is empty, {ALLOWED}"
                )));
            }
            Place::First | Place::Element | Place::Other => "a value",
            Place::Comma => AFTER_ELEMENT,
        };
        Err(not_json(Broken {
            fault: Fault {
                at: self.passed,
                kind: FaultKind::Expected(what),
            },
            found: None,
        }))
    }

    pub fn memory(&self) -> usize {
        self.carry.memory() + self.unfinished.as_ref().map_or(0, Skipper::memory)
    }

    /// Reads on at `at`, between values.
    fn read(&mut self, piece: &[u8], at: usize, sink: &mut Sink) -> Result<(), BodyError> {
        let mut cursor = Cursor::new(piece, at);
        'read: loop {
            cursor.blanks();
            let Some(byte) = cursor.peek() else {
                return Ok(());
            };
            match (self.place, byte) {
                (Place::First | Place::Element, b'{') => {
                    self.place = Place::Comma;
                    // Nearly always one valid record follows another.
                    while let Some(end) = sink.element(piece, cursor.at)? {
                        cursor.at = end;
                        cursor.blanks();
                        if cursor.peek() != Some(b',') {
                            continue 'read;
                        }
                        cursor.at += 1;
                        cursor.blanks();
                        if cursor.peek() != Some(b'{') {
                            self.place = Place::Element;
                            continue 'read;
                        }
                    }
                    self.value(&mut cursor, sink)?;
                }
                (Place::Comma, b',') => {
                    self.place = Place::Element;
                    cursor.at += 1;
                }
                (Place::Comma | Place::First, b']') => {
                    self.place = Place::End;
                    cursor.at += 1;
                }
                (Place::First | Place::Element, _) => {
                    self.place = Place::Comma;
                    self.value(&mut cursor, sink)?;
                }
                (Place::Text, b'[') => {
                    self.place = Place::First;
                    cursor.at += 1;
                }
                (Place::Text, b'{') => {
                    self.place = Place::End;
                    match sink.element(piece, cursor.at)? {
                        Some(end) => cursor.at = end,
                        None => self.value(&mut cursor, sink)?,
                    }
                }
                (Place::Text, _) => {
                    self.place = Place::Other;
                    self.value(&mut cursor, sink)?;
                }
                (Place::Comma, _) => return Err(self.expected(&cursor, AFTER_ELEMENT)),
                (Place::End | Place::Other, b'{') => {
                    return Err(BodyError::unreadable(format!(
                        "the body is not JSON: at byte {}: found a second value; one record a line is application/x-ndjson",
                        self.passed + cursor.at
                    )));
                }
                (Place::End | Place::Other, _) => {
                    return Err(self.expected(&cursor, "nothing behind the value"));
                }
            }
        }
    }

    /// The value at `cursor`, or as much of it as is there.
    fn value(&mut self, cursor: &mut Cursor<'_>, sink: &mut Sink) -> Result<(), BodyError> {
        let rest = &cursor.bytes[cursor.at..];
        let mut skipper = Skipper::new(self.passed + cursor.at, DEPTH_MAX);
        let end = skipper.pass(rest).map_err(not_json)?;
        cursor.at += end.unwrap_or(rest.len());
        match end {
            Some(end) if self.place != Place::Other => {
                let value = &rest[..end];
                sink.record(value, &AsJson)
            }
            _ => {
                let (max, head_max) = self.bounds(sink);
                self.carry
                    .push(&rest[..end.unwrap_or(rest.len())], max, head_max);
                match end {
                    Some(_) => self.carried(sink),
                    None => {
                        self.unfinished = Some(skipper);
                        Ok(())
                    }
                }
            }
        }
    }

    /// The value that is carried has ended.
    fn carried(&mut self, sink: &mut Sink) -> Result<(), BodyError> {
        let (max, _) = self.bounds(sink);
        match self.carry.carried(max) {
            Carried::Whole(value) if self.place == Place::Other => {
                return Err(no_records(value, value.len()));
            }
            Carried::Head(head, len) if self.place == Place::Other => {
                return Err(no_records(head, len));
            }
            Carried::Whole(value) => {
                sink.record(value, &AsJson)?;
            }
            Carried::Head(head, len) => sink.too_long(head, len)?,
        }
        self.carry.clear();
        Ok(())
    }

    /// Most bytes that are carried, and those of what is longer.
    fn bounds(&self, sink: &Sink) -> (usize, usize) {
        if self.place == Place::Other {
            (SHOWN_BYTES_MAX, SHOWN_BYTES_MAX)
        } else {
            (sink.raw_max(), sink.head_max())
        }
    }

    fn expected(&self, cursor: &Cursor<'_>, what: &'static str) -> BodyError {
        let mut fault = cursor.expected(what);
        fault.at += self.passed;
        not_json(Broken {
            fault,
            found: cursor.peek(),
        })
    }
}

const AFTER_ELEMENT: &str = "`,` or `]` after an element";

fn not_json(broken: Broken) -> BodyError {
    BodyError::unreadable(format!("the body is not JSON: {}", broken.describe()))
}

fn no_records(head: &[u8], len: usize) -> BodyError {
    BodyError::unreadable(format!("the body is {}, {ALLOWED}", shown_head(head, len)))
}
