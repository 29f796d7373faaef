//! Bodies of one record a line. Whole lines are read where they stand; blank ones are skipped and
//! not counted; the last one may end with the body.

use super::{
    BodyError,
    carry::{Carried, Carry},
    sink::{Judge, Sink},
};

#[derive(Default)]
pub(super) struct Lines {
    carry: Carry,
    /// Whether something stands on the line that is carried.
    filled: bool,
}

impl Lines {
    #[inline]
    pub fn push(
        &mut self,
        mut piece: &[u8],
        sink: &mut Sink,
        judge: &impl Judge,
    ) -> Result<(), BodyError> {
        if !self.carry.is_empty() {
            let end = memchr::memchr(b'\n', piece);
            self.carry(&piece[..end.unwrap_or(piece.len())], sink);
            let Some(end) = end else { return Ok(()) };
            self.finish(sink, judge)?;
            piece = &piece[end + 1..];
        }
        while let Some(end) = memchr::memchr(b'\n', piece) {
            let line = &piece[..end];
            if !is_blank(line) {
                sink.record(line, judge)?;
            }
            piece = &piece[end + 1..];
        }
        self.carry(piece, sink);
        Ok(())
    }

    /// The line that is carried has ended.
    pub fn finish(&mut self, sink: &mut Sink, judge: &impl Judge) -> Result<(), BodyError> {
        if self.filled {
            match self.carry.carried(sink.raw_max()) {
                Carried::Whole(line) => {
                    sink.record(line, judge)?;
                }
                Carried::Head(head, len) => sink.too_long(head, len)?,
            }
        }
        self.carry.clear();
        self.filled = false;
        Ok(())
    }

    pub fn memory(&self) -> usize {
        self.carry.memory()
    }

    fn carry(&mut self, piece: &[u8], sink: &Sink) {
        self.filled = self.filled || !is_blank(piece);
        self.carry.push(piece, sink.raw_max(), sink.head_max());
    }
}

pub(super) fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
}
