//! The body of a 202, as the contract has it.

use std::borrow::Cow;

use hyper::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderValue},
};
use pipeline_core::BatchId;
use serde::Serialize;

use super::Answer;
use crate::{batch::Kept, decode::IndexedError};

/// What is wrong with one record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RecordFault {
    /// The record's place in what was sent.
    pub index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<Cow<'static, str>>,
    pub code: &'static str,
    pub message: String,
}

/// A batch that is accepted, in part or as a whole.
#[derive(Clone, PartialEq, Debug)]
pub struct Accepted {
    pub batch: BatchId,
    pub accepted: usize,
    pub rejected: u64,
    pub kept: Kept,
    pub errors: Vec<RecordFault>,
    pub errors_omitted: u64,
}

impl From<IndexedError> for RecordFault {
    fn from(indexed: IndexedError) -> Self {
        Self {
            index: indexed.index,
            field: indexed.error.field,
            code: indexed.error.code.as_str(),
            message: indexed.error.message,
        }
    }
}

impl Accepted {
    #[must_use]
    pub fn into_answer(self) -> Answer {
        let mut answer = Response::new(self.to_json().into());
        *answer.status_mut() = StatusCode::ACCEPTED;
        let content_type = HeaderValue::from_static("application/json");
        answer.headers_mut().insert(CONTENT_TYPE, content_type);
        answer
    }

    fn to_json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            batch_id: String,
            accepted: usize,
            rejected: u64,
            kept: &'a str,
            errors: &'a [RecordFault],
            errors_omitted: u64,
        }
        serde_json::to_vec(&Body {
            batch_id: self.batch.to_string(),
            accepted: self.accepted,
            rejected: self.rejected,
            kept: self.kept.as_str(),
            errors: &self.errors,
            errors_omitted: self.errors_omitted,
        })
        .expect("a struct of strings and numbers is JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_is_the_contract() {
        let accepted = Accepted {
            batch: BatchId([0xab; 16]),
            accepted: 998,
            rejected: 2,
            kept: Kept::Dlq,
            errors: vec![RecordFault {
                index: 17,
                field: Some("timestamp".into()),
                code: "missing",
                message: "…".to_owned(),
            }],
            errors_omitted: 1,
        };
        let expected = concat!(
            r#"{"batchId":"abababababababababababababababab","accepted":998,"rejected":2,"#,
            r#""kept":"dlq","errors":[{"index":17,"field":"timestamp","code":"missing","#,
            r#""message":"…"}],"errorsOmitted":1}"#
        );
        assert_eq!(accepted.to_json(), expected.as_bytes());
    }
}
