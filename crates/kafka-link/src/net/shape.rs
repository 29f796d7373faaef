//! How answers are laid out, and whether their bytes hold what their lengths claim.
//!
//! `kafka-protocol` makes room for as many elements as a length on the wire says before it reads
//! the first: a few wrong bytes would cost more memory than there is, and with it the process. So
//! each answer is walked by its [`Layout`] before it is decoded, and only one whose every length
//! is covered by bytes is. Knows no values.

#[cfg(test)]
mod tests;

/// Most elements of all arrays, and tagged fields, of one answer.
const ELEMENTS_MAX: usize = 1 << 20;

/// The fields of a message in all the versions that we speak, in their order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// The first version with compact lengths and tagged fields (KIP-482).
    pub flexible: i16,
    pub fields: &'static [Field],
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    since: i16,
    until: i16,
    /// Not in order, but among the tagged fields at the end.
    tag: Option<u32>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// So many bytes.
    Fixed(usize),
    Text,
    Bytes,
    /// An array of values of so many bytes.
    Values(usize),
    /// An array of structs.
    Each(&'static [Field]),
    Struct(&'static [Field]),
}

pub(crate) const I8: Field = Field::of(Kind::Fixed(1));
pub(crate) const I16: Field = Field::of(Kind::Fixed(2));
pub(crate) const I32: Field = Field::of(Kind::Fixed(4));
pub(crate) const I64: Field = Field::of(Kind::Fixed(8));
pub(crate) const UUID: Field = Field::of(Kind::Fixed(16));
pub(crate) const TEXT: Field = Field::of(Kind::Text);
pub(crate) const BYTES: Field = Field::of(Kind::Bytes);
pub(crate) const I32S: Field = Field::of(Kind::Values(4));

pub(crate) const fn each(fields: &'static [Field]) -> Field {
    Field::of(Kind::Each(fields))
}

pub(crate) const fn structure(fields: &'static [Field]) -> Field {
    Field::of(Kind::Struct(fields))
}

impl Field {
    const fn of(kind: Kind) -> Self {
        Self {
            since: 0,
            until: i16::MAX,
            tag: None,
            kind,
        }
    }

    pub(crate) const fn since(mut self, version: i16) -> Self {
        self.since = version;
        self
    }

    pub(crate) const fn until(mut self, version: i16) -> Self {
        self.until = version;
        self
    }

    pub(crate) const fn tagged(mut self, tag: u32) -> Self {
        self.tag = Some(tag);
        self
    }

    fn is_in(&self, version: i16) -> bool {
        (self.since..=self.until).contains(&version)
    }
}

impl Layout {
    /// Whether `bytes` begin with a message of this layout, as far as lengths go.
    pub(crate) fn check(&self, bytes: &[u8], version: i16) -> Result<(), String> {
        let mut walk = Walk {
            bytes,
            version,
            flexible: version >= self.flexible,
            elements: 0,
        };
        walk.message(self.fields)
    }
}

struct Walk<'a> {
    /// What is left.
    bytes: &'a [u8],
    version: i16,
    flexible: bool,
    elements: usize,
}

impl Walk<'_> {
    fn message(&mut self, fields: &[Field]) -> Result<(), String> {
        for field in fields {
            if field.tag.is_none() && field.is_in(self.version) {
                self.value(field.kind)?;
            }
        }
        if self.flexible {
            self.tagged(fields)?;
        }
        Ok(())
    }

    fn value(&mut self, kind: Kind) -> Result<(), String> {
        match kind {
            Kind::Fixed(len) => self.skip(len),
            Kind::Text => {
                let len = self.length(2)?;
                self.skip(len)
            }
            Kind::Bytes => {
                let len = self.length(4)?;
                self.skip(len)
            }
            Kind::Values(size) => {
                let count = self.count()?;
                self.skip(count * size)
            }
            Kind::Each(fields) => (0..self.count()?).try_for_each(|_| self.message(fields)),
            Kind::Struct(fields) => self.message(fields),
        }
    }

    fn tagged(&mut self, fields: &[Field]) -> Result<(), String> {
        let count = self.varint()?;
        self.add_elements(count)?;
        for _ in 0..count {
            let (tag, size) = (self.varint()?, self.varint()?);
            let known = fields
                .iter()
                .find(|field| field.tag.is_some_and(|known| known as usize == tag));
            match known.filter(|field| field.is_in(self.version)) {
                // Read without a look at its size.
                Some(field) => {
                    let before = self.bytes.len();
                    self.value(field.kind)?;
                    let read = before - self.bytes.len();
                    if read != size {
                        return Err(format!("tagged field {tag} has {read} bytes, not {size}"));
                    }
                }
                None => self.skip(size)?,
            }
        }
        Ok(())
    }

    /// The elements of an array; none of null.
    fn count(&mut self) -> Result<usize, String> {
        let count = self.length(4)?;
        self.add_elements(count)?;
        Ok(count)
    }

    fn add_elements(&mut self, count: usize) -> Result<(), String> {
        self.elements = self.elements.saturating_add(count);
        if count > self.bytes.len() || self.elements > ELEMENTS_MAX {
            return Err(format!(
                "{count} elements in {} bytes (of {ELEMENTS_MAX} in all)",
                self.bytes.len()
            ));
        }
        Ok(())
    }

    /// A length of `width` bytes, or a compact one; 0 of null.
    fn length(&mut self, width: usize) -> Result<usize, String> {
        if self.flexible {
            return Ok(self.varint()?.saturating_sub(1));
        }
        let bytes = self.take(width)?;
        let negative = bytes[0] & 0x80 != 0;
        if negative && bytes.iter().all(|byte| *byte == 0xff) {
            return Ok(0);
        }
        if negative {
            return Err("a negative length".to_owned());
        }
        Ok(bytes.iter().fold(0, |len, b| len << 8 | usize::from(*b)))
    }

    /// As it is read later: of at most five bytes, without a look at what is left of the fifth.
    fn varint(&mut self) -> Result<usize, String> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = u32::from(self.take(1)?[0]);
            value |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        Ok(value as usize)
    }

    fn skip(&mut self, len: usize) -> Result<(), String> {
        self.take(len).map(|_| ())
    }

    fn take(&mut self, len: usize) -> Result<&[u8], String> {
        let (taken, left) = self
            .bytes
            .split_at_checked(len)
            .ok_or_else(|| format!("{len} bytes of {} left", self.bytes.len()))?;
        self.bytes = left;
        Ok(taken)
    }
}
