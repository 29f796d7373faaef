//! A body that comes in pieces, of any size, to the batch that it is: whatever the pieces, the same.
//!
//! Beside the batch only the record is kept that the pieces so far end in, and of one that is too
//! long only its head. A record that stands whole in a piece is read where it stands.

use pipeline_core::record::Rules;

use super::{
    BodyError, DecodedBatch, Limits, Media,
    access_log::AsLogLine,
    csv::Csv,
    json::Json,
    lines::Lines,
    sink::{AsJson, Sink},
};

/// A byte order mark is no part of any of these formats, and Windows tools write it.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Decodes one body.
pub struct Decoder {
    sink: Sink,
    state: State,
    /// The body's length, where that was said.
    len: Option<u64>,
    passed: u64,
}

enum State {
    /// So many bytes of a byte order mark came.
    Start(Media, usize),
    Json(Json),
    Ndjson(Lines),
    Csv(Csv),
    Text(Lines),
}

impl Decoder {
    /// Before the first byte of the body, which has `len` if that is known.
    #[must_use]
    pub fn new(media: Media, rules: Rules, limits: Limits, len: Option<u64>) -> Self {
        Self {
            sink: Sink::new(rules, limits),
            state: State::Start(media, 0),
            len,
            passed: 0,
        }
    }

    /// Takes the next bytes of the body.
    ///
    /// # Errors
    /// Where nothing of the body is accepted, whatever follows.
    pub fn push(&mut self, mut piece: &[u8]) -> Result<(), BodyError> {
        let left = self.len.map(|len| len.saturating_sub(self.passed));
        self.sink.expect(self.passed, piece.len(), left);
        self.passed += piece.len() as u64;
        if let State::Start(media, marked) = self.state {
            let (known, rest) = piece.split_at(piece.len().min(MARK.len() - marked));
            let seen = marked + known.len();
            if MARK[marked..seen] != *known {
                // What looked like a mark is the beginning of the body.
                self.state = State::new(media, 0);
                self.decode(&MARK[..marked])?;
            } else if seen == MARK.len() {
                self.state = State::new(media, seen);
                piece = rest;
            } else {
                self.state = State::Start(media, seen);
                return Ok(());
            }
        }
        self.decode(piece)
    }

    /// The body has ended. That no record of it is valid is no error here:
    /// [`DecodedBatch::records`] is empty then.
    ///
    /// # Errors
    /// Where nothing of the body is accepted.
    pub fn finish(mut self) -> Result<DecodedBatch, BodyError> {
        if let State::Start(media, marked) = self.state {
            self.state = State::new(media, 0);
            self.decode(&MARK[..marked])?;
        }
        let sink = &mut self.sink;
        match &mut self.state {
            State::Start(..) => unreachable!("it has begun"),
            State::Json(json) => json.finish(sink)?,
            State::Ndjson(lines) => lines.finish(sink, &AsJson)?,
            State::Csv(csv) => csv.finish(sink)?,
            State::Text(lines) => lines.finish(sink, &AsLogLine)?,
        }
        Ok(self.sink.finish())
    }

    /// Bytes on the heap: of the batch so far and of what is unfinished.
    #[must_use]
    pub fn memory(&self) -> usize {
        let unfinished = match &self.state {
            State::Start(..) => 0,
            State::Json(json) => json.memory(),
            State::Ndjson(lines) | State::Text(lines) => lines.memory(),
            State::Csv(csv) => csv.memory(),
        };
        self.sink.memory() + unfinished
    }

    /// How many records were rejected so far.
    #[must_use]
    pub fn rejected_count(&self) -> u64 {
        self.sink.rejected_count()
    }

    fn decode(&mut self, piece: &[u8]) -> Result<(), BodyError> {
        let sink = &mut self.sink;
        match &mut self.state {
            State::Start(..) => Ok(()),
            State::Json(json) => json.push(piece, sink),
            State::Ndjson(lines) => lines.push(piece, sink, &AsJson),
            State::Csv(csv) => csv.push(piece, sink),
            State::Text(lines) => lines.push(piece, sink, &AsLogLine),
        }
    }
}

impl State {
    /// Behind a mark of so many bytes.
    fn new(media: Media, marked: usize) -> Self {
        match media {
            Media::Json => Self::Json(Json::new(marked)),
            Media::Ndjson => Self::Ndjson(Lines::default()),
            Media::Csv => Self::Csv(Csv::default()),
            Media::Text => Self::Text(Lines::default()),
        }
    }
}

/// Decodes a body that is there as a whole.
///
/// # Errors
/// As [`Decoder::finish`].
pub fn decode(
    media: Media,
    body: &[u8],
    rules: &Rules,
    limits: Limits,
) -> Result<DecodedBatch, BodyError> {
    let mut decoder = Decoder::new(media, rules.clone(), limits, Some(body.len() as u64));
    decoder.push(body)?;
    decoder.finish()
}
