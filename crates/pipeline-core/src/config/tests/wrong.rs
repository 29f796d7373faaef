//! Values that no file may hold, for each kind of key: what the tests of `refused` and `mutated`
//! put in the place of a good one. A key of the table is covered by being in it.

use super::*;

/// Of another type than the key's.
pub fn types(key: &Key) -> Vec<Json> {
    let mut wrong = vec![json!([[1]])];
    match key.kind {
        Kind::Section => wrong.extend([json!([{"a": 1}]), json!("words")]),
        Kind::Sections => wrong.extend([json!({"a": 1}), json!("words")]),
        _ => wrong.extend([json!([{"a": 1}]), json!({"a": 1})]),
    }
    if matches!(
        key.kind,
        Kind::Name | Kind::Path | Kind::Topic | Kind::Brokers | Kind::Choice(_)
    ) {
        wrong.push(json!(17));
    }
    if matches!(key.kind, Kind::Count { .. } | Kind::Bool) {
        // In quotes it is text, and nobody meant text.
        wrong.extend([json!("1"), json!("true"), json!(1.5)]);
    }
    if key.default != OFF && key.default != "[]" {
        wrong.push(json!(null));
    }
    wrong
}

/// Of the right type, and not allowed.
pub fn values(key: &Key) -> Vec<Json> {
    match key.kind {
        Kind::Count { min, max } | Kind::Size { min, max } => {
            vec![json!(i128::from(min) - 1), json!(u128::from(max) + 1)]
        }
        Kind::Duration { min, max } => match min {
            0 => vec![json!("-1ms"), json!(format!("{}ms", max + 1))],
            _ => vec![
                json!(format!("{}ms", min - 1)),
                json!(format!("{}ms", max + 1)),
            ],
        },
        Kind::Share => vec![json!(0), json!(-0.5), json!(100.5)],
        Kind::Addr => vec![
            json!("127.0.0.1"),
            json!("127.0.0.1:65536"),
            json!("host:1"),
        ],
        Kind::Choice(_) => vec![json!("other"), json!("")],
        Kind::Brokers => vec![json!([]), json!(["kafka"]), json!([""])],
        Kind::Topic => vec![json!("a/b"), json!(""), json!("x".repeat(250))],
        Kind::Name => vec![json!(" "), json!("x".repeat(250)), json!("a\nb")],
        Kind::HeaderName => vec![json!("a b"), json!("")],
        Kind::LogFilter => vec![json!("loud"), json!("")],
        Kind::Path => vec![json!(""), json!("~/sluice")],
        Kind::Bool => vec![json!("yes"), json!(1)],
        Kind::Section => vec![json!("on"), json!(true)],
        Kind::Host => vec![json!("a b"), json!("a.example:80"), json!(".")],
        Kind::Sha256 => vec![json!("0".repeat(63)), json!("g".repeat(64))],
        Kind::Secret | Kind::Sections => vec![json!(["x"])],
    }
}
