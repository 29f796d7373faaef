//! The same grammar for text that comes in pieces: finds where a value ends without keeping any
//! of it. Says what [`Cursor::value`](super::Cursor::value) says of the whole text, of the same
//! places; knows the structure only, as [`STRUCTURE`](super::STRUCTURE).

use super::{Fault, FaultKind, special, stack::Stack};

/// Passes one value, piece by piece.
#[derive(Clone, Debug)]
pub struct Skipper {
    /// How many bytes of the text were passed.
    passed: usize,
    depth_max: usize,
    stack: Stack,
    at: At,
}

/// Where text is no JSON, and the byte that stands there; `None` is the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken {
    /// Counted from where [`Skipper::new`] was told to.
    pub fault: Fault,
    pub found: Option<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    /// Behind an opening bracket or brace and blanks.
    Open,
    /// Before a key.
    Key,
    Colon,
    /// Before a value.
    Value,
    /// Behind a value and blanks.
    After,
    String(Text),
    Escape(Text),
    Hex(Text, u8),
    Number(Number),
    /// So many bytes of it were there.
    Literal(&'static str, usize),
    End,
}

/// What a string is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Text {
    Key,
    Value,
}

/// What of a number was there last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Number {
    Minus,
    Zero,
    Digits,
    Point,
    Fraction,
    E,
    ESign,
    Exponent,
}

impl Number {
    /// Whether a number may end here.
    fn is_whole(self) -> bool {
        matches!(
            self,
            Self::Zero | Self::Digits | Self::Fraction | Self::Exponent
        )
    }

    /// With one byte more; `None` where that is not part of it.
    fn with(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Minus, b'0') => Self::Zero,
            (Self::Minus | Self::Digits, b'0'..=b'9') => Self::Digits,
            (Self::Zero | Self::Digits, b'.') => Self::Point,
            (Self::Point | Self::Fraction, b'0'..=b'9') => Self::Fraction,
            (Self::Zero | Self::Digits | Self::Fraction, b'e' | b'E') => Self::E,
            (Self::E, b'+' | b'-') => Self::ESign,
            (Self::E | Self::ESign | Self::Exponent, b'0'..=b'9') => Self::Exponent,
            _ => return None,
        })
    }
}

impl Skipper {
    /// Before the first byte of a value, which is `place` of the text for what is said of it.
    #[must_use]
    pub fn new(place: usize, depth_max: usize) -> Self {
        Self {
            passed: place,
            depth_max,
            stack: Stack::default(),
            at: At::Value,
        }
    }

    /// Passes the next bytes: `Some` says how many of them belong to the value, where it ends with
    /// them or is seen to have ended before.
    ///
    /// # Errors
    /// Where it is no value.
    pub fn pass(&mut self, bytes: &[u8]) -> Result<Option<usize>, Broken> {
        let base = self.passed;
        let mut place = 0;
        while let Some(&byte) = bytes.get(place) {
            // The arms that do not take `byte` along go on with it in their next state.
            match self.at {
                At::String(text) => {
                    place = special(bytes, place);
                    match bytes.get(place) {
                        None => break,
                        Some(b'"') => self.at = self.after(text),
                        Some(b'\\') => self.at = At::Escape(text),
                        Some(_) => {
                            return Err(broken(base + place, FaultKind::RawControl, bytes[place]));
                        }
                    }
                    place += 1;
                }
                At::Escape(text) => {
                    self.at = match byte {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => At::String(text),
                        b'u' => At::Hex(text, 0),
                        _ => return Err(expected(base + place, ESCAPES, byte)),
                    };
                    place += 1;
                }
                At::Hex(text, digits) => {
                    if !byte.is_ascii_hexdigit() {
                        return Err(expected(base + place, HEX, byte));
                    }
                    self.at = match digits {
                        3 => At::String(text),
                        _ => At::Hex(text, digits + 1),
                    };
                    place += 1;
                }
                At::Number(number) => match number.with(byte) {
                    Some(number) => {
                        self.at = At::Number(number);
                        place += 1;
                    }
                    None if number.is_whole() => self.at = self.after(Text::Value),
                    None => return Err(expected(base + place, DIGIT, byte)),
                },
                At::Literal(literal, done) => {
                    if literal.as_bytes()[done] != byte {
                        // The literal as a whole is not there.
                        let start = base + place - done;
                        return Err(expected(start, literal, literal.as_bytes()[0]));
                    }
                    place += 1;
                    self.at = if done + 1 == literal.len() {
                        self.after(Text::Value)
                    } else {
                        At::Literal(literal, done + 1)
                    };
                }
                At::End => break,
                At::Value if self.stack.depth == 0 => self.value(base + place, byte, &mut place)?,
                _ if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') => place += 1,
                At::Open => {
                    let object = self.stack.top_is_object();
                    self.at = match (object, byte) {
                        (true, b'}') | (false, b']') => At::After,
                        (true, _) => At::Key,
                        (false, _) => At::Value,
                    };
                }
                At::Key => {
                    if byte != b'"' {
                        return Err(expected(base + place, KEY, byte));
                    }
                    self.at = At::String(Text::Key);
                    place += 1;
                }
                At::Colon => {
                    if byte != b':' {
                        return Err(expected(base + place, COLON, byte));
                    }
                    self.at = At::Value;
                    place += 1;
                }
                At::Value => self.value(base + place, byte, &mut place)?,
                At::After => {
                    let object = self.stack.top_is_object();
                    match (byte, object) {
                        (b',', true) => self.at = At::Key,
                        (b',', false) => self.at = At::Value,
                        (b'}', true) | (b']', false) => {
                            self.stack.pop();
                            self.at = self.after(Text::Value);
                        }
                        _ => return Err(expected(base + place, after_value(object), byte)),
                    }
                    place += 1;
                }
            }
        }
        self.passed = base + place;
        Ok((self.at == At::End).then_some(place))
    }

    /// The text ends here.
    ///
    /// # Errors
    /// Where the value has not.
    pub fn end(&self) -> Result<(), Broken> {
        let what = match self.at {
            At::End => return Ok(()),
            At::Number(number) if number.is_whole() && self.stack.depth == 0 => return Ok(()),
            At::Number(number) if number.is_whole() => after_value(self.stack.top_is_object()),
            At::Number(_) => DIGIT,
            At::Literal(literal, done) => {
                let first = literal.as_bytes()[0];
                return Err(expected(self.passed - done, literal, first));
            }
            At::Open if self.stack.top_is_object() => KEY,
            At::Open | At::Value => VALUE,
            At::Key => KEY,
            At::Colon => COLON,
            At::After => after_value(self.stack.top_is_object()),
            At::String(_) => "the closing quote of a string",
            At::Escape(_) => ESCAPES,
            At::Hex(..) => HEX,
        };
        Err(Broken {
            fault: Fault {
                at: self.passed,
                kind: FaultKind::Expected(what),
            },
            found: None,
        })
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.stack.memory()
    }

    /// A value begins with `byte`, `at` in the text and `place` in the piece.
    fn value(&mut self, at: usize, byte: u8, place: &mut usize) -> Result<(), Broken> {
        self.at = match byte {
            b'{' | b'[' => {
                if self.stack.depth >= self.depth_max {
                    return Err(broken(at, FaultKind::TooDeep, byte));
                }
                self.stack.push(byte == b'{');
                At::Open
            }
            b'"' => At::String(Text::Value),
            b'-' => At::Number(Number::Minus),
            b'0' => At::Number(Number::Zero),
            b'1'..=b'9' => At::Number(Number::Digits),
            b't' => At::Literal("true", 1),
            b'f' => At::Literal("false", 1),
            b'n' => At::Literal("null", 1),
            _ => return Err(expected(at, VALUE, byte)),
        };
        *place += 1;
        Ok(())
    }

    fn after(&self, text: Text) -> At {
        match text {
            Text::Key => At::Colon,
            Text::Value if self.stack.depth == 0 => At::End,
            Text::Value => At::After,
        }
    }
}

const KEY: &str = "a key in quotes";
const COLON: &str = "`:` after a key";
const VALUE: &str = "a value";
const DIGIT: &str = "a digit";
const HEX: &str = "four hex digits";
const ESCAPES: &str = "one of \"\\/bfnrtu after a backslash";

fn after_value(object: bool) -> &'static str {
    if object {
        "`,` or `}` after a value"
    } else {
        "`,` or `]` after a value"
    }
}

fn expected(at: usize, what: &'static str, found: u8) -> Broken {
    broken(at, FaultKind::Expected(what), found)
}

fn broken(at: usize, kind: FaultKind, found: u8) -> Broken {
    Broken {
        fault: Fault { at, kind },
        found: Some(found),
    }
}

impl Broken {
    #[must_use]
    pub fn describe(&self) -> String {
        self.fault.describe_found(self.fault.at, self.found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::json::{Cursor, STRUCTURE, Strictness};

    /// Where the value ends, or what is wrong; pieces of the lengths that `cut` gives.
    fn skipped(
        text: &[u8],
        depth_max: usize,
        mut cut: impl FnMut() -> usize,
    ) -> Result<usize, String> {
        let mut skipper = Skipper::new(0, depth_max);
        let mut at = 0;
        let result = loop {
            let piece = &text[at..(at + cut()).min(text.len())];
            match skipper.pass(piece) {
                Ok(Some(len)) => break Ok(at + len),
                Ok(None) => at += piece.len(),
                Err(broken) => break Err(broken),
            }
            if at == text.len() {
                break skipper.end().map(|()| at);
            }
        };
        result.map_err(|broken| broken.describe())
    }

    #[test]
    fn pieces_say_what_the_whole_says() {
        let seed = br#"{"a":[1,-0.5e+7,"x\u00e9\n\"",{}, [ ] ,null],"b" : true,"c":{"d":false,"":"\\"},"e":[[[12]]]} ,"#;
        let mut random = fastrand::Rng::with_seed(8);
        let (mut good, mut bad) = (0, 0);
        for round in 0..60_000 {
            let mut text = seed.to_vec();
            if round % 3 == 0 {
                // A value within: also scalars stand at the top.
                text.drain(..random.usize(0..text.len()));
            }
            for _ in 0..random.usize(0..3) {
                let at = random.usize(0..text.len());
                match random.u32(0..4) {
                    0 => text.truncate(at.max(1)),
                    1 => text[at] = random.u8(..),
                    2 => text.insert(at, br#""\,: []{}0eE.-+tn"#[random.usize(0..17)]),
                    _ => drop(text.remove(at)),
                }
                if text.is_empty() {
                    text.push(b'1');
                }
            }
            let depth_max = [2, usize::MAX][round % 2];
            let strictness = Strictness {
                depth_max,
                ..STRUCTURE
            };
            let mut cursor = Cursor::new(&text, 0);
            let whole = match cursor.value(strictness) {
                Ok(_) => Ok(cursor.at),
                Err(fault) => Err(fault.describe(&text, 0)),
            };
            let longest = [1, 3, 200][round % 3];
            let pieces = skipped(&text, depth_max, || random.usize(1..=longest));
            assert_eq!(pieces, whole, "{}", String::from_utf8_lossy(&text));
            if whole.is_ok() {
                good += 1;
            } else {
                bad += 1;
            }
        }
        assert!(good > 10_000 && bad > 10_000, "{good} {bad}");
    }

    #[test]
    fn depth_costs_one_bit_a_level() {
        let mut skipper = Skipper::new(0, 1 << 20);
        assert_eq!(skipper.pass(&b"[".repeat(1 << 20)), Ok(None));
        assert!(skipper.memory() <= 1 << 18, "{}", skipper.memory());
        let broken = skipper.pass(b"[").unwrap_err();
        assert_eq!(broken.fault.kind, FaultKind::TooDeep);
    }
}
