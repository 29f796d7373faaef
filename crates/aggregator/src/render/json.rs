//! JSON as people read it: two blanks for each level, fields in the order they are given. Knows
//! nothing of what it says.

use pipeline_core::record::json;

/// JSON with two blanks for each level, fields in the order they are given.
#[derive(Default)]
pub struct Json {
    out: Vec<u8>,
    depth: usize,
    /// Whether the object that is open has a field already.
    begun: bool,
}

impl Json {
    pub fn object(&mut self, fields: impl FnOnce(&mut Self)) {
        self.out.push(b'{');
        self.depth += 1;
        self.begun = false;
        fields(self);
        self.depth -= 1;
        if self.begun {
            self.line();
        }
        self.out.push(b'}');
        self.begun = true;
    }

    pub fn field(&mut self, name: &str) {
        if self.begun {
            self.out.push(b',');
        }
        self.begun = true;
        self.line();
        json::append_string(name, &mut self.out);
        self.out.extend_from_slice(b": ");
    }

    pub fn number(&mut self, name: &str, number: u128) {
        self.field(name);
        self.out.extend_from_slice(number.to_string().as_bytes());
    }

    pub fn text(&mut self, name: &str, text: &str) {
        self.field(name);
        json::append_string(text, &mut self.out);
    }

    pub fn null(&mut self, name: &str) {
        self.field(name);
        self.out.extend_from_slice(b"null");
    }

    pub fn flag(&mut self, name: &str, flag: bool) {
        self.field(name);
        self.out
            .extend_from_slice(if flag { b"true" } else { b"false" });
    }

    /// A finite one, by the shortest digits that mean it.
    pub fn float(&mut self, name: &str, number: f64) {
        self.field(name);
        self.out.extend_from_slice(number.to_string().as_bytes());
    }

    /// A list of strings, as the value of a field that was just begun.
    pub fn list(&mut self, texts: &[&str]) {
        self.out.push(b'[');
        for (number, text) in texts.iter().enumerate() {
            if number > 0 {
                self.out.extend_from_slice(b", ");
            }
            json::append_string(text, &mut self.out);
        }
        self.out.push(b']');
    }

    /// The whole text.
    #[must_use]
    pub fn end(mut self) -> Vec<u8> {
        self.out.push(b'\n');
        self.out
    }

    fn line(&mut self) {
        self.out.push(b'\n');
        self.out.resize(self.out.len() + 2 * self.depth, b' ');
    }
}
