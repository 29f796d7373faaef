//! What a request that is not accepted is told: `application/problem+json` (RFC 9457).
//!
//! One closed list of codes with their statuses. A 4xx says that the request is at fault and will
//! never be taken as it is; 429 and 503 say that it may come again, and when.

use std::borrow::Cow;

use hyper::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER},
};
use serde::Serialize;

use super::{Answer, reply::RecordFault};

/// Why a request was not accepted; as `code` in the answer and as a metric label.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Code {
    /// The query or a header is not as it must be.
    BadRequest,
    /// The body cannot be read: a broken encoding, or an array that does not parse to its end.
    UnreadableBody,
    /// The body could be read, and no record of it is valid.
    NoValidRecord,
    /// `ingestion.invalidRecords: reject`, and a record is not valid.
    InvalidRecords,
    /// No API key that is known.
    Unauthorized,
    /// Each record claims a site other than the one that the API key is bound to.
    ForeignSite,
    NotFound,
    MethodNotAllowed,
    BodyTimeout,
    TooLarge,
    /// Of the body's kind or of its compression.
    UnsupportedMediaType,
    QueueFull,
    /// The API key has sent its share of records.
    Quota,
    /// No room in `server.memoryBudget`.
    Memory,
    Draining,
    /// Kafka did not take the batch and the dead letter queue refused it.
    NowhereToKeep,
    /// As before, and some of it may have reached Kafka.
    UnknownOutcome,
}

impl Code {
    pub const ALL: [Self; 17] = [
        Self::BadRequest,
        Self::UnreadableBody,
        Self::NoValidRecord,
        Self::InvalidRecords,
        Self::Unauthorized,
        Self::ForeignSite,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::BodyTimeout,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::QueueFull,
        Self::Quota,
        Self::Memory,
        Self::Draining,
        Self::NowhereToKeep,
        Self::UnknownOutcome,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::UnreadableBody => "unreadable_body",
            Self::NoValidRecord => "no_valid_record",
            Self::InvalidRecords => "invalid_records",
            Self::Unauthorized => "unauthorized",
            Self::ForeignSite => "foreign_site",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::BodyTimeout => "body_timeout",
            Self::TooLarge => "too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::QueueFull => "queue_full",
            Self::Quota => "quota",
            Self::Memory => "memory",
            Self::Draining => "draining",
            Self::NowhereToKeep => "nowhere_to_keep",
            Self::UnknownOutcome => "unknown_outcome",
        }
    }

    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadRequest
            | Self::UnreadableBody
            | Self::NoValidRecord
            | Self::InvalidRecords => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::ForeignSite => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::QueueFull | Self::Quota => StatusCode::TOO_MANY_REQUESTS,
            Self::Memory | Self::Draining | Self::NowhereToKeep | Self::UnknownOutcome => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// The trouble is ours: the same request may be taken later.
    #[must_use]
    pub fn is_ours(self) -> bool {
        let status = self.status();
        status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE
    }

    fn title(self) -> &'static str {
        match self {
            Self::BadRequest => "The request is not understood",
            Self::UnreadableBody => "The body cannot be read",
            Self::NoValidRecord => "The body holds no valid record",
            Self::InvalidRecords => "The body holds an invalid record",
            Self::Unauthorized => "An API key is needed",
            Self::ForeignSite => "The records are of a site that is not this key's",
            Self::NotFound => "There is nothing here",
            Self::MethodNotAllowed => "The method is not allowed here",
            Self::BodyTimeout => "The body did not arrive in time",
            Self::TooLarge => "The body is too large",
            Self::UnsupportedMediaType => "The kind of body is not supported",
            Self::QueueFull => "The gateway is busy",
            Self::Quota => "The key's share of records is used up",
            Self::Memory => "The gateway has no memory free",
            Self::Draining => "The gateway is shutting down",
            Self::NowhereToKeep => "The batch can be kept nowhere now",
            Self::UnknownOutcome => "It is not known whether the batch was kept",
        }
    }
}

/// One refusal.
#[derive(Clone, PartialEq, Debug)]
pub struct Problem {
    pub code: Code,
    /// Names place, found and allowed.
    pub detail: Cow<'static, str>,
    /// Seconds; always there for 429 and 503.
    pub retry_after: Option<u32>,
    /// As `Allow` or `Accept-Post`.
    pub header: Option<(HeaderName, &'static str)>,
    /// What is wrong with which record, where records are the reason.
    pub records: Option<Box<RecordFaults>>,
    /// Nothing more is read from this connection.
    pub close: bool,
}

/// The records at fault; the list is cut off at a bound.
#[derive(Clone, PartialEq, Debug)]
pub struct RecordFaults {
    pub errors: Vec<RecordFault>,
    pub omitted: u64,
    pub rejected: u64,
}

impl RecordFaults {
    /// Bytes of memory that the list holds.
    #[must_use]
    pub fn memory(&self) -> u64 {
        let texts = self.errors.iter().map(|fault| fault.message.len());
        (self.errors.len() * size_of::<RecordFault>() + texts.sum::<usize>()) as u64
    }
}

impl Problem {
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            retry_after: code.is_ours().then_some(1),
            header: None,
            records: None,
            close: false,
        }
    }

    /// The batch cannot be kept in time.
    #[must_use]
    pub fn late() -> Self {
        let why = "too little of server.requestTimeout is left to keep the batch";
        Self::new(Code::NowhereToKeep, why).retry_after(5)
    }

    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds.max(1));
        self
    }

    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.header = Some((name, value));
        self
    }

    #[must_use]
    pub fn with_records(mut self, records: RecordFaults) -> Self {
        self.records = Some(Box::new(records));
        self
    }

    #[must_use]
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    #[must_use]
    pub fn into_answer(self) -> Answer {
        let mut answer = Response::new(self.to_json().into());
        *answer.status_mut() = self.code.status();
        let headers = answer.headers_mut();
        let content_type = HeaderValue::from_static("application/problem+json");
        headers.insert(CONTENT_TYPE, content_type);
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if let Some((name, value)) = self.header {
            headers.insert(name, HeaderValue::from_static(value));
        }
        answer
    }

    fn to_json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            r#type: String,
            title: &'a str,
            status: u16,
            detail: &'a str,
            code: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            rejected: Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            errors: Option<&'a [RecordFault]>,
            #[serde(skip_serializing_if = "Option::is_none")]
            errors_omitted: Option<u64>,
        }
        let records = self.records.as_deref();
        serde_json::to_vec(&Body {
            r#type: format!("urn:sluice:problem:{}", self.code.as_str()),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            detail: &self.detail,
            code: self.code.as_str(),
            rejected: records.map(|r| r.rejected),
            errors: records.map(|r| r.errors.as_slice()),
            errors_omitted: records.map(|r| r.omitted),
        })
        .expect("a struct of strings and numbers is JSON")
    }
}

#[cfg(test)]
mod tests {
    use pipeline_core::telemetry::catalog;

    use super::*;

    #[test]
    fn each_code_is_a_label_and_only_ours_ask_to_come_again() {
        for code in Code::ALL {
            let labels = if code.is_ours() {
                &catalog::REFUSED_REQUEST_CODES[..]
            } else {
                &catalog::INVALID_REQUEST_CODES[..]
            };
            assert!(labels.contains(&code.as_str()), "{code:?}");
            let problem = Problem::new(code, "");
            assert_eq!(problem.retry_after.is_some(), code.is_ours(), "{code:?}");
            let answer = problem.into_answer();
            assert_eq!(answer.headers().contains_key(RETRY_AFTER), code.is_ours());
        }
    }

    #[test]
    fn body_has_the_members_of_rfc_9457_and_the_code() {
        let problem = Problem::new(Code::BadRequest, "site `a b` is not a host name");
        let json: serde_json::Value = serde_json::from_slice(&problem.to_json()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "type": "urn:sluice:problem:bad_request",
                "title": "The request is not understood",
                "status": 400,
                "detail": "site `a b` is not a host name",
                "code": "bad_request",
            })
        );
    }
}
