//! The canonical line from text that others have split into fields: CSV cells, access logs.

use std::marker::PhantomData;

use super::{Known, RecordErrorCode, Refusal, Rules, check, json, timestamp::Timestamp};

/// Writes one record, field by field, into a caller's buffer.
///
/// Nothing of it stays there unless [`TextRecord::finish`] says that it is valid.
#[must_use = "a record that is not finished is not there"]
pub struct TextRecord<'o, 'r, R> {
    out: &'o mut Vec<u8>,
    rules: &'r Rules,
    start: usize,
    present: u16,
    finished: bool,
    refusal: PhantomData<R>,
}

impl<'o, 'r, R: Refusal> TextRecord<'o, 'r, R> {
    pub fn new(rules: &'r Rules, out: &'o mut Vec<u8>) -> Self {
        let start = out.len();
        out.push(b'{');
        Self {
            out,
            rules,
            start,
            present: 0,
            finished: false,
            refusal: PhantomData,
        }
    }

    /// Adds a known field from its text, by the rules of [`append_json`](super::append_json);
    /// numbers are spelled as JSON has them. Empty text of an optional field is absent.
    ///
    /// # Errors
    /// Where the field may not have that value, or has one already.
    pub fn known(&mut self, field: Known, text: &str) -> Result<(), R> {
        match field {
            Known::Timestamp => return self.time(check::time::<R>(text.as_bytes())?),
            Known::Path => check::path::<R>(text)?,
            Known::UserAgent => {
                self.claim(field)?;
                let text = if check::is_blank(text) { "-" } else { text };
                return self.known_string(field, text);
            }
            _ if text.is_empty() => return Ok(()),
            Known::Site => {
                let text = self.rules.site_for::<R>(text)?.unwrap_or(text);
                self.claim(field)?;
                return self.known_string(field, text);
            }
            Known::Status | Known::Bytes | Known::DurationMs => {
                check::number_text::<R>(field, text)?;
                self.claim(field)?;
                self.room(text.len())?;
                self.known_name(field);
                self.out.extend_from_slice(text.as_bytes());
                return Ok(());
            }
            Known::Method | Known::RemoteAddr | Known::Referer | Known::Protocol => {}
        }
        self.claim(field)?;
        self.known_string(field, text)
    }

    /// Adds the record's time.
    ///
    /// # Errors
    /// Where it has one already.
    pub fn time(&mut self, time: Timestamp<'_>) -> Result<(), R> {
        self.claim(Known::Timestamp)?;
        self.known_name(Known::Timestamp);
        self.out.push(b'"');
        time.append_utc(self.out);
        self.out.push(b'"');
        Ok(())
    }

    /// Adds a field without a meaning, as a string. `name` is not a known one.
    ///
    /// # Errors
    /// Where the record grows too large.
    pub fn extra(&mut self, name: &str, text: &str) -> Result<(), R> {
        self.room(name.len() + text.len())?;
        self.comma();
        json::append_string(name, self.out);
        self.out.push(b':');
        json::append_string(text, self.out);
        Ok(())
    }

    /// Ends the record: it is in the buffer now.
    ///
    /// # Errors
    /// Where a required field is missing, or the record is too large.
    pub fn finish(mut self) -> Result<(), R> {
        for field in [Known::Timestamp, Known::Path, Known::UserAgent] {
            if !self.has(field) {
                let there = Known::ALL.into_iter().filter(|known| self.has(*known));
                let names = || there.map(|known| known.name().as_bytes()).collect();
                return Err(check::missing(field, || (names(), false)));
            }
        }
        if !self.has(Known::Site)
            && let Some(site) = self.rules.site_for::<R>("")?
        {
            self.known_string(Known::Site, site)?;
        }
        self.out.push(b'}');
        let found = self.out.len() - self.start;
        if found > self.rules.record_bytes_max {
            return Err(R::too_large(found, self.rules));
        }
        self.finished = true;
        Ok(())
    }

    fn has(&self, field: Known) -> bool {
        self.present & 1 << field as u16 != 0
    }

    fn claim(&mut self, field: Known) -> Result<(), R> {
        if self.has(field) {
            return Err(check::twice(field));
        }
        self.present |= 1 << field as u16;
        Ok(())
    }

    /// Refuses text that cannot fit before it is escaped, which can make it six times as long.
    fn room(&self, len: usize) -> Result<(), R> {
        let found = self.out.len() - self.start + len;
        if found > self.rules.record_bytes_max {
            return Err(R::new(RecordErrorCode::TooLarge, || {
                format!(
                    "the record has {found} bytes or more, allowed are {}",
                    self.rules.record_bytes_max
                )
            }));
        }
        Ok(())
    }

    fn known_string(&mut self, field: Known, text: &str) -> Result<(), R> {
        self.room(text.len())?;
        self.known_name(field);
        json::append_string(text, self.out);
        Ok(())
    }

    fn known_name(&mut self, field: Known) {
        self.comma();
        self.out.push(b'"');
        self.out.extend_from_slice(field.name().as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn comma(&mut self) {
        if self.out.len() > self.start + 1 {
            self.out.push(b',');
        }
    }
}

impl<R> Drop for TextRecord<'_, '_, R> {
    fn drop(&mut self) {
        if !self.finished {
            self.out.truncate(self.start);
        }
    }
}
