//! What an answer means for its request, and what is wrong with it. Pure.

use std::time::Duration;

use crate::{
    body::Shape,
    http::{Failure, Response},
};

/// What an answer means for the request.
pub enum Outcome {
    Accepted,
    /// Nothing was kept; the wait that was asked for.
    Refused(Duration),
    Unknown,
    NotSent,
    /// An answer that sending again will not change.
    Final,
}

/// The answer's name, what it means, and what is wrong with it.
pub fn judge(
    shape: &Shape,
    answer: &Result<Response, Failure>,
) -> (String, Outcome, Option<String>) {
    let response = match answer {
        Ok(response) => response,
        Err(Failure::NotSent(_)) => return ("not sent".to_owned(), Outcome::NotSent, None),
        Err(Failure::NoAnswer(_)) => return ("no answer".to_owned(), Outcome::Unknown, None),
    };
    let said = response.json();
    let code = said["code"].as_str().unwrap_or("without code");
    match response.status {
        202 => {
            let kept = said["kept"].as_str().unwrap_or("without kept");
            (
                format!("202 {kept}"),
                Outcome::Accepted,
                wrong_202(shape, &said),
            )
        }
        503 if code == "unknown_outcome" => (format!("503 {code}"), Outcome::Unknown, None),
        status @ (429 | 503) => {
            let asked = response
                .header("retry-after")
                .and_then(|value| value.parse::<u64>().ok());
            let fault = asked
                .is_none()
                .then(|| format!("{status} {code} without Retry-After"));
            // The longer waits are for real shippers; the test looks again sooner.
            let pause = Duration::from_millis((asked.unwrap_or(1) * 1000).clamp(50, 500));
            (format!("{status} {code}"), Outcome::Refused(pause), fault)
        }
        status => {
            let fault = format!("{status} {}", response.text());
            (format!("{status} {code}"), Outcome::Final, Some(fault))
        }
    }
}

/// A 202 must count every record of the body, and name the broken one by its index.
fn wrong_202(shape: &Shape, said: &serde_json::Value) -> Option<String> {
    let rejected = u64::from(shape.broken.is_some());
    let right = said["accepted"] == u64::from(shape.good())
        && said["rejected"] == rejected
        && shape
            .broken
            .is_none_or(|index| said["errors"][0]["index"] == u64::from(index));
    (!right).then(|| format!("sent {shape:?}, answered {said}"))
}
