//! One rejected record, or one body that cannot be read: what is kept of it, as one line of JSON.
//!
//! ```text
//! {"time":"2026-01-02T03:04:05.678Z","batchId":"…","client":"","site":"shop.example",
//!  "contentType":"application/json","index":17,"code":"missing","field":"timestamp",
//!  "message":"…","rejected":2,"raw":"{\"path\":\"/\"}"}
//! ```
//! `index` and `rejected` are missing where the body could not be read; `field` where none is at
//! fault. `raw` is what came, at most [`RAW_BYTES_MAX`] of it (`rawTruncated` where there was
//! more); in `rawBase64` where it is not UTF-8. `site` is that of `?site=`, else the one that the
//! record names, where that can be read. Pure.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use pipeline_core::{BatchId, record::timestamp::format_utc};
use serde::{Deserialize, Serialize};

use crate::decode::Media;

/// Kept of a record, and of the beginning of a body that cannot be read.
pub const RAW_BYTES_MAX: usize = 4096;
/// What a decoder or reader is asked to keep: one more shows that there was more.
pub const RAW_BYTES_ASKED: usize = RAW_BYTES_MAX + 1;

/// What was refused of one body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    pub received_ms: i64,
    pub batch: Option<BatchId>,
    /// The API key's id; empty without authentication.
    pub client: String,
    /// Of `?site=`, or of the API key.
    pub site: Option<String>,
    pub media: Media,
    /// How many records were; `None` where the body could not be read.
    pub rejected: Option<u64>,
    /// The first of them, or the one body.
    pub parts: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    pub index: Option<u32>,
    pub code: &'static str,
    pub field: Option<Cow<'static, str>>,
    pub message: String,
    /// At most [`RAW_BYTES_ASKED`].
    pub raw: Vec<u8>,
}

/// One line of a file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line<'a> {
    pub time: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_id: Option<Cow<'a, str>>,
    pub client: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<Cow<'a, str>>,
    pub content_type: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    pub code: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<Cow<'a, str>>,
    pub message: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_base64: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub raw_truncated: bool,
}

impl Refused {
    /// Memory that it holds while it waits.
    #[must_use]
    pub fn memory(&self) -> u64 {
        const FIXED: usize = 256;
        let texts = self.client.len() + self.site.as_ref().map_or(0, String::len);
        let parts = self.parts.iter().map(Part::memory).sum::<usize>();
        (FIXED + texts + parts) as u64
    }

    /// Appends one line for each part.
    pub fn append_lines(&self, out: &mut Vec<u8>) {
        let time = format_utc(self.received_ms);
        let batch = self.batch.map(|batch| batch.to_string());
        for part in &self.parts {
            let (raw, raw_truncated) = part.shown();
            let text = std::str::from_utf8(raw).ok();
            let site = self.site.as_deref().map(Cow::Borrowed);
            let line = Line {
                time: time.as_str().into(),
                batch_id: batch.as_deref().map(Cow::Borrowed),
                client: self.client.as_str().into(),
                site: site.or_else(|| self.site_in(raw).map(Cow::Owned)),
                content_type: self.media.name().into(),
                index: part.index,
                code: part.code.into(),
                field: part.field.as_deref().map(Cow::Borrowed),
                message: part.message.as_str().into(),
                rejected: self.rejected,
                raw: text.map(Cow::Borrowed),
                raw_base64: text.is_none().then(|| STANDARD.encode(raw).into()),
                raw_truncated,
            };
            serde_json::to_writer(&mut *out, &line).expect("writes to memory");
            out.push(b'\n');
        }
    }

    /// The site that a JSON record names.
    fn site_in(&self, raw: &[u8]) -> Option<String> {
        #[derive(Deserialize)]
        struct Named {
            site: String,
        }
        let json = matches!(self.media, Media::Json | Media::Ndjson) && self.rejected.is_some();
        let named = json.then(|| serde_json::from_slice::<Named>(raw).ok());
        named.flatten().map(|named| named.site)
    }
}

impl Part {
    fn memory(&self) -> usize {
        let field = self.field.as_ref().map_or(0, |field| field.len());
        size_of::<Self>() + field + self.message.capacity() + self.raw.capacity()
    }

    /// What is kept of the record, and whether there was more.
    fn shown(&self) -> (&[u8], bool) {
        if self.raw.len() <= RAW_BYTES_MAX {
            return (&self.raw, false);
        }
        let cut = &self.raw[..RAW_BYTES_MAX];
        // A character that the cut has split would make binary of text.
        let end = match std::str::from_utf8(cut) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => cut.len(),
        };
        (&cut[..end], true)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
pub mod tests {
    use serde_json::{Value, json};

    use super::*;

    pub fn part(code: &'static str, raw: &[u8]) -> Part {
        Part {
            index: Some(17),
            code,
            field: Some("timestamp".into()),
            message: "timestamp: found nothing".to_owned(),
            raw: raw.to_vec(),
        }
    }

    pub fn refused(client: &str, parts: Vec<Part>) -> Refused {
        Refused {
            received_ms: 1_767_323_045_678,
            batch: Some(BatchId([0xab; 16])),
            client: client.to_owned(),
            site: None,
            media: Media::Json,
            rejected: Some(2),
            parts,
        }
    }

    fn lines(refused: &Refused) -> Vec<Value> {
        let mut out = Vec::new();
        refused.append_lines(&mut out);
        let lines = out.split_inclusive(|byte| *byte == b'\n');
        lines
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }

    fn raw_line(raw: &[u8]) -> Value {
        lines(&refused("", vec![part("missing", raw)])).remove(0)
    }

    #[test]
    fn a_record_is_one_line_with_all_that_is_known_of_it() {
        let parts = vec![part("missing", br#"{"path":"/"}"#), part("invalid", b"7")];
        let mut refused = refused("shop-1", parts);
        refused.site = Some("shop.example".to_owned());
        let lines = lines(&refused);
        assert_eq!(
            lines[0],
            json!({
                "time": "2026-01-02T03:04:05.678Z",
                "batchId": "ab".repeat(16),
                "client": "shop-1",
                "site": "shop.example",
                "contentType": "application/json",
                "index": 17,
                "code": "missing",
                "field": "timestamp",
                "message": "timestamp: found nothing",
                "rejected": 2,
                "raw": r#"{"path":"/"}"#,
            })
        );
        assert_eq!(
            (&lines[1]["code"], &lines[1]["raw"]),
            (&json!("invalid"), &json!("7"))
        );
        let read: Line<'_> = serde_json::from_value(lines[0].clone()).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), lines[0]);
    }

    #[test]
    fn a_long_record_is_cut_between_characters_and_says_so() {
        let whole = raw_line(&[b'x'; RAW_BYTES_MAX]);
        assert_eq!(whole["raw"].as_str().unwrap().len(), RAW_BYTES_MAX);
        assert_eq!(whole.get("rawTruncated"), None);
        let cut = raw_line(&[b'x'; RAW_BYTES_ASKED]);
        assert_eq!(cut["raw"].as_str().unwrap().len(), RAW_BYTES_MAX);
        assert_eq!(cut["rawTruncated"], true);
        let euros = "€".repeat(RAW_BYTES_ASKED / 3 + 1);
        let cut = raw_line(&euros.as_bytes()[..RAW_BYTES_ASKED]);
        assert_eq!(cut["raw"], "€".repeat(RAW_BYTES_MAX / 3));
    }

    #[test]
    fn what_is_not_text_is_kept_as_base64() {
        let line = raw_line(b"{\xff}");
        assert_eq!(
            (&line["rawBase64"], line.get("raw")),
            (&json!("e/99"), None)
        );
        // One that ends inside of a character, and was not cut, is no text either.
        assert_eq!(raw_line(b"a\xe2\x82")["rawBase64"], "YeKC");
    }

    #[test]
    fn the_site_is_that_of_the_request_or_else_the_records_own() {
        let named = br#"{"path":1,"site":"named.example","x":[]}"#;
        assert_eq!(raw_line(named)["site"], "named.example");
        for other in [&br#"{"site":7}"#[..], b"[1]", b"{", b"site"] {
            assert_eq!(raw_line(other).get("site"), None);
        }
        let mut asked = refused("", vec![part("missing", named)]);
        asked.site = Some("asked.example".to_owned());
        assert_eq!(lines(&asked)[0]["site"], "asked.example");
    }

    #[test]
    fn an_unreadable_body_has_no_index_and_no_count() {
        let mut body = part("unreadable_body", b"[{");
        (body.index, body.field) = (None, None);
        let mut refused = refused("", vec![body]);
        (refused.batch, refused.rejected) = (None, None);
        assert_eq!(
            lines(&refused),
            [json!({
                "time": "2026-01-02T03:04:05.678Z",
                "client": "",
                "contentType": "application/json",
                "code": "unreadable_body",
                "message": "timestamp: found nothing",
                "raw": "[{",
            })]
        );
    }
}
