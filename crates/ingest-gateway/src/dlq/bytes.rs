//! Reads integers and text from bytes that may end too early. Pure.

use std::sync::Arc;

/// Takes the version; only `known` is read.
pub fn version(rest: &mut Rest<'_>, known: u8) -> Result<(), String> {
    match rest.u8()? {
        version if version == known => Ok(()),
        other => Err(format!("version {other}, known is {known}")),
    }
}

/// What is left to be read.
pub struct Rest<'a>(pub &'a [u8]);

impl<'a> Rest<'a> {
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        let (head, tail) = self
            .0
            .split_at_checked(n)
            .ok_or_else(|| format!("ends {} bytes too early", n - self.0.len()))?;
        self.0 = tail;
        Ok(head)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub fn u8(&mut self) -> Result<u8, String> {
        self.array().map(u8::from_be_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, String> {
        self.array().map(i32::from_be_bytes)
    }

    pub fn i64(&mut self) -> Result<i64, String> {
        self.array().map(i64::from_be_bytes)
    }

    pub fn text(&mut self) -> Result<Arc<str>, String> {
        let len = self.array().map(u16::from_be_bytes)?;
        let bytes = self.take(usize::from(len))?;
        let text = std::str::from_utf8(bytes).map_err(|_| "text that is not UTF-8".to_owned())?;
        Ok(text.into())
    }
}
