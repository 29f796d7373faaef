//! `/openapi.json`: the HTTP interface described for programs, with the limits of this gateway.
//!
//! The document is written by hand (`openapi.json` beside this file) and not made from the code
//! that answers, so that tests can hold one against the other. Only what is configured is put in,
//! once, at the start: `{{key}}` in a text stands for the value of that key.

use std::fmt::Debug;

use bytes::Bytes;
use hyper::{
    Response,
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
};
use pipeline_core::config::{Config, InvalidRecords};
use serde_json::{Value, json};

use super::Answer;

pub const PATH: &str = "/openapi.json";

const TEMPLATE: &str = include_str!("openapi.json");

/// The document, as it is sent.
#[derive(Clone, Debug)]
pub struct OpenApi(Bytes);

impl OpenApi {
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let mut document = template();
        fill_in(&mut document, &values(config));
        if !config.auth.enabled {
            document["paths"]["/logs"]["post"]["security"] = json!([]);
        }
        let text = serde_json::to_vec_pretty(&document).expect("it was JSON before");
        Self(text.into())
    }

    #[must_use]
    pub fn answer(&self) -> Answer {
        let mut answer = Response::new(self.0.clone().into());
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // Another configuration has another document.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        answer
    }
}

fn template() -> Value {
    serde_json::from_str(TEMPLATE).expect("a test reads it")
}

fn values(config: &Config) -> Vec<(&'static str, String)> {
    let (server, ingestion) = (&config.server, &config.ingestion);
    let invalid_records = match ingestion.invalid_records {
        InvalidRecords::Skip => "skip",
        InvalidRecords::Reject => "reject",
    };
    vec![
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("auth.headerName", config.auth.header_name.clone()),
        ("server.maxBodyBytes", server.max_body_bytes.to_string()),
        (
            "server.maxDecodedBytes",
            server.max_decoded_bytes.to_string(),
        ),
        ("server.bodyTimeout", format!("{:?}", server.body_timeout)),
        (
            "server.requestTimeout",
            format!("{:?}", server.request_timeout),
        ),
        ("ingestion.invalidRecords", invalid_records.to_owned()),
        (
            "ingestion.maxRecordBytes",
            ingestion.max_record_bytes.to_string(),
        ),
        (
            "ingestion.maxBatchRecords",
            ingestion.max_batch_records.to_string(),
        ),
    ]
}

fn fill_in(value: &mut Value, values: &[(&'static str, String)]) {
    match value {
        Value::String(text) => {
            for (key, value) in values {
                let place = format!("{{{{{key}}}}}");
                if text.contains(&place) {
                    *text = text.replace(&place, value);
                }
            }
        }
        Value::Array(elements) => elements.iter_mut().for_each(|e| fill_in(e, values)),
        Value::Object(members) => members.values_mut().for_each(|m| fill_in(m, values)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use pipeline_core::record::RecordErrorCode;

    use super::*;
    use crate::{
        decode::{Encoding, Limits, Media},
        http::problem::Code,
    };

    fn config(more: &str) -> Config {
        let yaml = format!("kafka: {{brokers: ['a:1'], groupID: g}}\n{more}");
        Config::parse(&yaml, &|_| None).unwrap()
    }

    fn document(config: &Config) -> Value {
        serde_json::from_slice(&OpenApi::new(config).0).unwrap()
    }

    fn texts(list: &Value) -> BTreeSet<&str> {
        let list = list.as_array().unwrap();
        list.iter().map(|text| text.as_str().unwrap()).collect()
    }

    /// (status, code) of each problem that some answer is documented to be.
    fn documented() -> BTreeSet<(u16, String)> {
        let document = template();
        let answers = document["components"]["responses"].as_object().unwrap();
        let mut documented = BTreeSet::new();
        for answer in answers.values() {
            let properties = &answer["content"]["application/problem+json"]["schema"]["properties"];
            if properties.is_null() {
                continue;
            }
            let status = properties["status"]["const"].as_u64().unwrap();
            for code in texts(&properties["code"]["enum"]) {
                let described = answer["description"].as_str().unwrap();
                assert!(described.contains(&format!("`{code}`")), "{described}");
                documented.insert((u16::try_from(status).unwrap(), code.to_owned()));
            }
        }
        documented
    }

    #[test]
    fn each_code_is_documented_with_its_status_and_no_other_is() {
        let mut there_are: BTreeSet<_> = Code::ALL
            .iter()
            .map(|code| (code.status().as_u16(), code.as_str().to_owned()))
            .collect();
        // Of the probes.
        there_are.insert((503, "not_ready".to_owned()));
        assert_eq!(documented(), there_are, "src/http/openapi.json");
    }

    #[test]
    fn the_page_for_people_has_the_same_codes_and_names_keys_that_there_are() {
        let page = include_str!("../../../../docs/http.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| "));
        let cells = rows.filter_map(|row| row.split_once(" | `"));
        let codes: BTreeSet<_> = cells
            .filter_map(|(status, rest)| Some((status.parse().ok()?, rest.split_once('`')?.0)))
            .collect();
        let there_are = Code::ALL.map(|code| (code.status().as_u16(), code.as_str()));
        assert_eq!(codes, there_are.into(), "docs/http.md");
        let reference = include_str!("../../../../docs/configuration.md");
        let sections = ["server.", "auth.", "ingestion.", "kafka.", "consumer."];
        let quoted = page.split('`').skip(1).step_by(2);
        let keys = quoted.filter(|name| sections.iter().any(|s| name.starts_with(s)));
        let mut seen = 0;
        for key in keys {
            let key = key.split(':').next().unwrap();
            let (_, name) = key.split_once('.').unwrap();
            let known = reference.contains(&format!("| `{name}` |"));
            assert!(known, "{key} in docs/http.md");
            seen += 1;
        }
        assert!(seen > 10, "{seen} keys");
    }

    #[test]
    fn each_status_of_a_code_is_an_answer_to_a_post() {
        let document = template();
        let answers = &document["paths"]["/logs"]["post"]["responses"];
        for code in Code::ALL {
            let status = code.status().as_str().to_owned();
            assert!(answers[&status].is_object(), "{status} for {code:?}");
        }
    }

    #[test]
    fn record_errors_and_places_are_those_there_are() {
        let document = template();
        let schemas = &document["components"]["schemas"];
        let codes = &schemas["RecordError"]["properties"]["code"]["enum"];
        assert_eq!(
            texts(codes),
            RecordErrorCode::ALL
                .map(RecordErrorCode::as_str)
                .into_iter()
                .collect()
        );
        assert_eq!(schemas["Errors"]["maxItems"], Limits::default().errors_max);
    }

    #[test]
    fn bodies_and_encodings_are_those_that_are_understood() {
        let document = template();
        let post = &document["paths"]["/logs"]["post"];
        let media = post["requestBody"]["content"].as_object().unwrap();
        assert!(media.keys().all(|name| Media::parse(Some(name)).is_ok()));
        for name in Media::ACCEPT_POST.split(", ") {
            assert!(media.contains_key(name), "{name}");
        }
        let encodings = post["parameters"].as_array().unwrap().iter();
        let mut encodings = encodings.filter(|p| p["name"] == "Content-Encoding");
        assert_eq!(
            texts(&encodings.next().unwrap()["schema"]["enum"]),
            Encoding::ACCEPT_ENCODING.split(", ").collect()
        );
    }

    #[test]
    fn what_is_configured_stands_in_the_document() {
        let yaml = "server: {maxBodyBytes: 12345, maxDecodedBytes: 23456, bodyTimeout: 7s, \
                    requestTimeout: 21s}\n\
                    ingestion: {maxRecordBytes: 3456, maxBatchRecords: 777, invalidRecords: reject}";
        let mut config = config(yaml);
        config.auth.header_name = "X-Shop-Key".to_owned();
        let open = document(&config);
        let post = &open["paths"]["/logs"]["post"];
        assert_eq!(post["security"], json!([]));
        let described = post["description"].as_str().unwrap();
        for value in ["12345", "23456", "3456", "777", "7s", "21s", "`reject`"] {
            assert!(described.contains(value), "{value}: {described}");
        }
        config.auth.enabled = true;
        let closed = document(&config);
        let post = &closed["paths"]["/logs"]["post"];
        assert_eq!(post["security"], json!([{"apiKey": []}, {"bearer": []}]));
        let schemes = &closed["components"]["securitySchemes"];
        assert_eq!(schemes["apiKey"]["name"], "X-Shop-Key");
        assert!(!closed.to_string().contains("{{"), "{closed}");
    }
}
