//! The JSON grammar (<https://www.rfc-editor.org/rfc/rfc8259>) over bytes: where a value ends and
//! whether it is one. Builds no tree, allocates nothing for values up to 64 levels deep, never
//! recurses, and says nothing about what a value means or whether its bytes are UTF-8.

use std::fmt;

mod layout;
mod skip;
mod stack;
mod strings;

pub use layout::{append_on_one_line, trimmed};
pub use skip::{Broken, Skipper};
pub use strings::{append_string, special, unescape};

use stack::Stack;

/// What a value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Whether it has escapes.
    String {
        escaped: bool,
    },
    Number,
    True,
    False,
    Null,
    Array,
    Object,
}

/// How strict a scan is where the grammar leaves it open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Strictness {
    /// Deepest nesting; the outermost array or object is level 1.
    pub depth_max: usize,
    /// Refuse a `\u` escape of half a surrogate pair.
    pub whole_surrogates: bool,
}

/// Only the structure: for finding the end of a value that someone else judges.
pub const STRUCTURE: Strictness = Strictness {
    depth_max: usize::MAX,
    whole_surrogates: false,
};

/// Where bytes are no JSON, and what was expected there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    pub at: usize,
    pub kind: FaultKind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    Expected(&'static str),
    RawControl,
    LoneSurrogate,
    TooDeep,
}

/// A place in `bytes` that moves on as it reads.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
    /// Whether blanks passed so far held a line break.
    pub line_break: bool,
}

impl<'a> Cursor<'a> {
    #[must_use]
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Self {
            bytes,
            at,
            line_break: false,
        }
    }

    #[inline]
    #[must_use]
    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Passes insignificant blanks.
    #[inline]
    pub fn blanks(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' => {}
                b'\n' | b'\r' => self.line_break = true,
                _ => return,
            }
            self.at += 1;
        }
    }

    /// Passes `byte`.
    ///
    /// # Errors
    /// Where something else stands.
    #[inline]
    pub fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), Fault> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(self.expected(what))
        }
    }

    /// Passes a value.
    ///
    /// # Errors
    /// Where it is not one.
    #[inline]
    pub fn value(&mut self, strictness: Strictness) -> Result<Kind, Fault> {
        match self.peek() {
            Some(b'{') => self.container(strictness).map(|()| Kind::Object),
            Some(b'[') => self.container(strictness).map(|()| Kind::Array),
            _ => self.scalar(strictness),
        }
    }

    /// Passes a string with its quotes; says whether it has escapes.
    ///
    /// # Errors
    /// Where it is not one.
    #[inline]
    pub fn string(&mut self, what: &'static str, strictness: Strictness) -> Result<bool, Fault> {
        self.expect(b'"', what)?;
        self.at = special(self.bytes, self.at);
        if self.peek() == Some(b'"') {
            self.at += 1;
            return Ok(false);
        }
        self.string_with_escapes(strictness)
    }

    #[must_use]
    pub fn fault(&self, kind: FaultKind) -> Fault {
        Fault { at: self.at, kind }
    }

    #[must_use]
    pub fn expected(&self, what: &'static str) -> Fault {
        self.fault(FaultKind::Expected(what))
    }

    #[inline]
    fn scalar(&mut self, strictness: Strictness) -> Result<Kind, Fault> {
        match self.peek() {
            Some(b'"') => self
                .string("a string", strictness)
                .map(|escaped| Kind::String { escaped }),
            Some(b'-' | b'0'..=b'9') => self.number().map(|()| Kind::Number),
            Some(b't') => self.literal(b"true", "true").map(|()| Kind::True),
            Some(b'f') => self.literal(b"false", "false").map(|()| Kind::False),
            Some(b'n') => self.literal(b"null", "null").map(|()| Kind::Null),
            _ => Err(self.expected("a value")),
        }
    }

    fn literal(&mut self, text: &[u8], what: &'static str) -> Result<(), Fault> {
        if self.bytes[self.at..].starts_with(text) {
            self.at += text.len();
            Ok(())
        } else {
            Err(self.expected(what))
        }
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start {
            return Err(self.expected("a digit"));
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), Fault> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        // No digit may follow a leading zero: what comes next refuses it.
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// From the first byte of a string that is special and not its end.
    #[cold]
    fn string_with_escapes(&mut self, strictness: Strictness) -> Result<bool, Fault> {
        let mut escaped = false;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape(strictness)?;
                }
                Some(_) => return Err(self.fault(FaultKind::RawControl)),
                None => return Err(self.expected("the closing quote of a string")),
            }
            self.at = special(self.bytes, self.at);
        }
    }

    fn escape(&mut self, strictness: Strictness) -> Result<(), Fault> {
        let start = self.at;
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                return Ok(());
            }
            Some(b'u') => self.at += 1,
            _ => return Err(self.expected("one of \"\\/bfnrtu after a backslash")),
        }
        let unit = self.hex4()?;
        if !strictness.whole_surrogates || !(0xD800..0xE000).contains(&unit) {
            return Ok(());
        }
        let lone = Fault {
            at: start,
            kind: FaultKind::LoneSurrogate,
        };
        if unit >= 0xDC00 || !self.bytes[self.at..].starts_with(b"\\u") {
            return Err(lone);
        }
        self.at += 2;
        if (0xDC00..0xE000).contains(&self.hex4()?) {
            Ok(())
        } else {
            Err(lone)
        }
    }

    fn hex4(&mut self) -> Result<u32, Fault> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            let Some(digit) = digit else {
                return Err(self.expected("four hex digits"));
            };
            unit = unit * 16 + digit;
            self.at += 1;
        }
        Ok(unit)
    }

    /// Passes an array or object, iteratively: its depth is the sender's choice.
    fn container(&mut self, strictness: Strictness) -> Result<(), Fault> {
        enum Next {
            Open,
            Member,
            After,
        }
        let mut stack = Stack::default();
        let mut next = Next::Open;
        loop {
            match next {
                Next::Open => {
                    if stack.depth >= strictness.depth_max {
                        return Err(self.fault(FaultKind::TooDeep));
                    }
                    let object = self.peek() == Some(b'{');
                    self.at += 1;
                    stack.push(object);
                    self.blanks();
                    let close = if object { b'}' } else { b']' };
                    next = if self.peek() == Some(close) {
                        Next::After
                    } else {
                        Next::Member
                    };
                }
                Next::Member => {
                    if stack.top_is_object() {
                        self.string("a key in quotes", strictness)?;
                        self.blanks();
                        self.expect(b':', "`:` after a key")?;
                        self.blanks();
                    }
                    if matches!(self.peek(), Some(b'{' | b'[')) {
                        next = Next::Open;
                    } else {
                        self.scalar(strictness)?;
                        next = Next::After;
                    }
                }
                Next::After => {
                    self.blanks();
                    match (self.peek(), stack.top_is_object()) {
                        (Some(b','), _) => {
                            self.at += 1;
                            self.blanks();
                            next = Next::Member;
                        }
                        (Some(b'}'), true) | (Some(b']'), false) => {
                            self.at += 1;
                            stack.pop();
                            if stack.depth == 0 {
                                return Ok(());
                            }
                        }
                        (_, true) => return Err(self.expected("`,` or `}` after a value")),
                        (_, false) => return Err(self.expected("`,` or `]` after a value")),
                    }
                }
            }
        }
    }
}

impl Fault {
    /// Says it with what stands in `bytes`; positions are counted from `base`.
    #[must_use]
    pub fn describe(&self, bytes: &[u8], base: usize) -> String {
        let place = self.at.saturating_sub(base);
        self.describe_found(place, bytes.get(self.at).copied())
    }

    /// Says it where `found` stands at `place`; `None` is the end.
    #[must_use]
    pub fn describe_found(&self, place: usize, found: Option<u8>) -> String {
        let found = Found(found);
        match self.kind {
            FaultKind::Expected(what) => format!("at byte {place}: expected {what}, found {found}"),
            FaultKind::RawControl => {
                format!(
                    "at byte {place}: a control character in a string must be escaped, found {found}"
                )
            }
            FaultKind::LoneSurrogate => {
                format!("at byte {place}: an escape of half a surrogate pair is no character")
            }
            FaultKind::TooDeep => format!("at byte {place}: nested too deep"),
        }
    }
}

struct Found(Option<u8>);

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("the end"),
            Some(byte @ b' '..=b'~') => write!(f, "`{}`", char::from(byte)),
            Some(byte) => write!(f, "byte 0x{byte:02x}"),
        }
    }
}
