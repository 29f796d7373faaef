//! The document of a gateway, and every answer held against it; a second judge for each verdict.

use std::{
    collections::BTreeSet,
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use super::{JSON, PATH, schema};
use crate::harness::{Heard, Running};

/// Headers that say something of the answer and so are documented with it.
const TELLING: [&str; 5] = [
    "retry-after",
    "allow",
    "accept-post",
    "accept-encoding",
    "www-authenticate",
];

/// The document, and what was heard and judged by it.
pub struct Described {
    pub document: Value,
    /// (status, code) of problems.
    pub seen: BTreeSet<(u16, String)>,
    pub verdicts: Vec<Value>,
}

impl Described {
    pub async fn by(gateway: &Running) -> Self {
        let heard = gateway.ask("GET", PATH, &[], b"").await;
        assert_eq!(heard.status, 200);
        let mut described = Self {
            document: heard.json(),
            seen: BTreeSet::new(),
            verdicts: Vec::new(),
        };
        described.check("get", PATH, &heard);
        described
    }

    /// Whether `value` is as the schema at `place` says.
    pub fn judge(&mut self, place: &str, value: &Value) -> Result<(), String> {
        let schema = json!({"$ref": format!("#{place}")});
        let verdict = schema::check(&self.document, &schema, value);
        self.verdicts
            .push(json!({"schema": schema, "value": value, "valid": verdict.is_ok()}));
        verdict
    }

    /// The answer is one that is documented, and is as documented.
    pub fn check(&mut self, method: &str, path: &str, heard: &Heard) {
        let place = self.place_of(method, path, heard.status);
        let described = self.document.pointer(&place).unwrap().clone();
        let what = format!("{method} {path}: {heard:?}");
        if let Some(headers) = described["headers"].as_object() {
            for (name, header) in headers {
                let header = schema::resolve(&self.document, header).clone();
                let found = heard.headers.get(&name.to_ascii_lowercase());
                if header["required"] == true {
                    assert!(found.is_some(), "no {name}: {what}");
                }
                // A header is text: a number is one that reads as it.
                let value = found.map(|text| text.parse().map_or(json!(text), |n: u64| json!(n)));
                if let Some(value) = value {
                    let verdict = schema::check(&self.document, &header["schema"], &value);
                    assert_eq!(verdict, Ok(()), "{name}: {what}");
                }
            }
        }
        for name in TELLING {
            let documented = described["headers"].as_object().is_some_and(|headers| {
                let mut names = headers.keys();
                names.any(|documented| documented.eq_ignore_ascii_case(name))
            });
            let said = heard.headers.contains_key(name);
            assert!(documented || !said, "{name} is not documented: {what}");
        }
        let media = &heard.headers["content-type"];
        let media = media.split(';').next().unwrap();
        let value = if media.ends_with("json") {
            heard.json()
        } else {
            json!(String::from_utf8_lossy(&heard.body))
        };
        let content = &described["content"][media];
        assert!(content.is_object(), "{media} is not documented: {what}");
        let escaped = media.replace('/', "~1");
        let place = format!("{place}/content/{escaped}/schema");
        assert_eq!(self.judge(&place, &value), Ok(()), "{what}");
        if media == "application/problem+json" {
            self.seen.insert(heard.problem());
        }
    }

    /// Where the answer is documented.
    pub fn place_of(&self, method: &str, path: &str, status: u16) -> String {
        let path = path.split('?').next().unwrap();
        let item = &self.document["paths"][path];
        let answer = match (item.is_object(), item[method].is_object()) {
            // There is no such path, no such method: what every path and method answers.
            (false, _) => json!({"$ref": "#/components/responses/NotFound"}),
            (true, false) => json!({"$ref": "#/components/responses/MethodNotAllowed"}),
            (true, true) => item[method]["responses"][status.to_string()].clone(),
        };
        match answer["$ref"].as_str() {
            Some(reference) => reference.trim_start_matches('#').to_owned(),
            None => {
                assert!(answer.is_object(), "{status} to {method} {path}");
                let path = path.replace('/', "~1");
                format!("/paths/{path}/{method}/responses/{status}")
            }
        }
    }

    /// Asks and checks what is heard.
    pub async fn ask(
        &mut self,
        gateway: &Running,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Heard {
        let heard = gateway.ask(method, target, headers, body).await;
        self.check(&method.to_ascii_lowercase(), target, &heard);
        heard
    }

    pub async fn post(&mut self, gateway: &Running, body: &str) -> Heard {
        self.ask(gateway, "POST", "/logs", &[JSON], body.as_bytes())
            .await
    }
}

/// What answers are documented to be.
pub fn documented(document: &Value) -> BTreeSet<(u16, String)> {
    let answers = document["components"]["responses"].as_object().unwrap();
    let schemas = answers
        .values()
        .map(|answer| &answer["content"]["application/problem+json"]["schema"]["properties"])
        .filter(|properties| properties.is_object());
    schemas
        .flat_map(|properties| {
            let status = properties["status"]["const"].as_u64().unwrap() as u16;
            let codes = properties["code"]["enum"].as_array().unwrap();
            codes
                .iter()
                .map(move |code| (status, code.as_str().unwrap().to_owned()))
        })
        .collect()
}

/// Another program's word for the document and for each verdict of ours.
pub fn second_judge(described: &Described) {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/gateway/openapi/validate.py"
    );
    let there = Command::new("python3")
        .args([
            "-c",
            "import openapi_spec_validator, openapi_schema_validator",
        ])
        .stderr(Stdio::null())
        .status();
    if !there.is_ok_and(|status| status.success()) {
        let why = "no python3 with openapi-spec-validator";
        return testbed::skip::skipped("the second judge of /openapi.json", why);
    }
    let mut judge = Command::new("python3")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let given = json!({"document": described.document, "verdicts": described.verdicts});
    let mut stdin = judge.stdin.take().unwrap();
    stdin.write_all(given.to_string().as_bytes()).unwrap();
    drop(stdin);
    let output = judge.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{failed}");
    let all = format!("{} verdicts agree", described.verdicts.len());
    assert_eq!(said.trim(), all);
}
