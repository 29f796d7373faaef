//! What a body says it is: `Content-Type` and `Content-Encoding`.

/// The kinds of body (RFC 9110, section 8.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Media {
    Json,
    Ndjson,
    Csv,
    Text,
}

/// How a body is compressed (RFC 9110, section 8.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Encoding {
    Identity,
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// A body that is not understood: 415, with [`Media::ACCEPT_POST`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MediaError {
    #[error("there is no content type, allowed are {}", Media::ACCEPT_POST)]
    Absent,
    #[error("found content type `{found}`, allowed are {}", Media::ACCEPT_POST)]
    Unknown { found: String },
    #[error("found charset `{found}`, allowed is utf-8")]
    Charset { found: String },
}

/// A compression that is not understood: 415, with [`Encoding::ACCEPT_ENCODING`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EncodingError {
    #[error(
        "found content encoding `{found}`, allowed are {}",
        Encoding::ACCEPT_ENCODING
    )]
    Unknown { found: String },
    #[error("found content encodings `{found}`, allowed is one")]
    Stacked { found: String },
}

impl Media {
    /// For the header `Accept-Post`: each kind by its canonical name.
    pub const ACCEPT_POST: &'static str =
        "application/json, application/x-ndjson, text/csv, text/plain";

    /// Reads a `Content-Type`.
    ///
    /// # Errors
    /// Where it is absent, unknown, or of a charset other than UTF-8.
    pub fn parse(content_type: Option<&str>) -> Result<Self, MediaError> {
        let content_type = content_type.unwrap_or_default();
        let mut parts = content_type.split(';');
        let name = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
        let media = match name.as_str() {
            "" => return Err(MediaError::Absent),
            "application/json" => Self::Json,
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Self::Ndjson,
            "text/csv" => Self::Csv,
            "text/plain" => Self::Text,
            _ => {
                return Err(MediaError::Unknown {
                    found: short(&name),
                });
            }
        };
        for parameter in parts {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            if !name.trim().eq_ignore_ascii_case("charset") {
                continue;
            }
            let value = value.trim();
            let value = value
                .strip_prefix('"')
                .and_then(|value| value.strip_suffix('"'))
                .unwrap_or(value);
            // ASCII is UTF-8.
            if !["utf-8", "utf8", "us-ascii"]
                .iter()
                .any(|good| value.eq_ignore_ascii_case(good))
            {
                return Err(MediaError::Charset {
                    found: short(value),
                });
            }
        }
        Ok(media)
    }

    /// The name that stands for all others of its kind, also in a batch's identity.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv",
            Self::Text => "text/plain",
        }
    }
}

impl Encoding {
    /// For the header `Accept-Encoding` of a 415 (RFC 9110, section 12.5.3).
    pub const ACCEPT_ENCODING: &'static str = "gzip, deflate, br, zstd, identity";

    /// Reads a `Content-Encoding`; several headers are one, joined by commas.
    ///
    /// # Errors
    /// Where it is unknown, or more than one: a body in a body multiplies what a bomb can do.
    pub fn parse(content_encoding: Option<&str>) -> Result<Self, EncodingError> {
        let all = content_encoding.unwrap_or_default();
        let mut names = all
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty());
        let Some(name) = names.next() else {
            return Ok(Self::Identity);
        };
        if names.next().is_some() {
            return Err(EncodingError::Stacked { found: short(all) });
        }
        Ok(match name.to_ascii_lowercase().as_str() {
            "identity" | "none" => Self::Identity,
            "gzip" | "x-gzip" => Self::Gzip,
            "deflate" => Self::Deflate,
            "br" => Self::Brotli,
            "zstd" => Self::Zstd,
            _ => return Err(EncodingError::Unknown { found: short(name) }),
        })
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }
}

fn short(found: &str) -> String {
    pipeline_core::record::shown(found.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parameters_and_case_are_understood() {
        for (text, media) in [
            ("application/json", Media::Json),
            ("Application/JSON ; Charset=\"UTF-8\"", Media::Json),
            ("application/x-ndjson", Media::Ndjson),
            ("application/ndjson;charset=utf8", Media::Ndjson),
            ("application/jsonl", Media::Ndjson),
            ("text/csv; header=present", Media::Csv),
            ("text/plain;charset=us-ascii", Media::Text),
            ("text/plain;", Media::Text),
        ] {
            assert_eq!(Media::parse(Some(text)), Ok(media), "{text}");
            assert_eq!(Media::parse(Some(media.name())), Ok(media));
            assert!(
                Media::ACCEPT_POST
                    .split(", ")
                    .any(|name| name == media.name())
            );
        }
    }

    #[test]
    fn other_media_are_refused_with_what_is_allowed() {
        assert_eq!(Media::parse(None), Err(MediaError::Absent));
        assert_eq!(Media::parse(Some(" ")), Err(MediaError::Absent));
        let found = "text/html".to_owned();
        let error = Media::parse(Some("text/HTML")).expect_err("unknown");
        assert_eq!(error, MediaError::Unknown { found });
        assert!(
            error.to_string().contains("application/x-ndjson"),
            "{error}"
        );
        assert!(matches!(
            Media::parse(Some("text/plain; charset=iso-8859-1")),
            Err(MediaError::Charset { .. })
        ));
        for bad in [
            "application/json, text/csv",
            "application/json+x",
            "json",
            "application/problem+json",
        ] {
            assert!(Media::parse(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn one_encoding_is_understood_and_no_stack() {
        for (text, encoding) in [
            ("", Encoding::Identity),
            ("identity", Encoding::Identity),
            ("GZIP", Encoding::Gzip),
            (" x-gzip ", Encoding::Gzip),
            ("deflate", Encoding::Deflate),
            ("br", Encoding::Brotli),
            ("zstd,", Encoding::Zstd),
        ] {
            assert_eq!(Encoding::parse(Some(text)), Ok(encoding), "{text}");
            assert_eq!(Encoding::parse(Some(encoding.name())), Ok(encoding));
            let known = Encoding::ACCEPT_ENCODING
                .split(", ")
                .any(|name| name == encoding.name());
            assert!(known, "{text}");
        }
        assert_eq!(Encoding::parse(None), Ok(Encoding::Identity));
        assert!(matches!(
            Encoding::parse(Some("gzip, gzip")),
            Err(EncodingError::Stacked { .. })
        ));
        assert!(matches!(
            Encoding::parse(Some("lzma")),
            Err(EncodingError::Unknown { .. })
        ));
    }
}
