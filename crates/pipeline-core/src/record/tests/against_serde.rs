//! The judge against `serde_json`, over generated records and over broken ones.

use serde_json::{Map, Value};

use super::*;

fn random_value(random: &mut fastrand::Rng, depth: usize) -> Value {
    match random.u32(0..if depth == 0 { 5 } else { 7 }) {
        0 => Value::Null,
        1 => Value::Bool(random.bool()),
        2 => Value::from(random.i64(..)),
        3 => Value::from(random.f64() * 10_f64.powi(random.i32(-20..20))),
        4 => Value::from(random_text(random)),
        5 => (0..random.usize(0..4))
            .map(|_| random_value(random, depth - 1))
            .collect(),
        _ => Value::Object(
            (0..random.usize(0..4))
                .map(|_| (random_text(random), random_value(random, depth - 1)))
                .collect(),
        ),
    }
}

fn random_text(random: &mut fastrand::Rng) -> String {
    const PIECES: [&str; 12] = [
        "a",
        "/index.html",
        "\"",
        "\\",
        "\n",
        "\u{1}",
        "é",
        "\u{1F600}",
        " ",
        "\u{2028}",
        "{[",
        "Mozilla/5.0 (X11)",
    ];
    (0..random.usize(0..6))
        .map(|_| PIECES[random.usize(0..PIECES.len())])
        .collect()
}

/// A record that is valid more often than not, in random order.
fn random_record(random: &mut fastrand::Rng) -> Value {
    let mut fields = vec![
        ("timestamp", Value::from("2015-05-17T10:05:03.5Z")),
        ("path", Value::from(format!("/{}", random_text(random)))),
        (
            "userAgent",
            Value::from(format!("x{}", random_text(random))),
        ),
    ];
    let optional = [
        ("site", Value::from("a.example")),
        ("method", Value::from(random_text(random))),
        ("status", Value::from(random.u32(90..610))),
        ("bytes", Value::from(random.u64(..) >> random.u32(0..64))),
        ("durationMs", Value::from(random.f64())),
        ("remoteAddr", Value::Null),
        ("referer", Value::from(random_text(random))),
        ("protocol", random_value(random, 0)),
        ("x", random_value(random, 4)),
        ("\u{e9}", random_value(random, 3)),
    ];
    fields.extend(optional.into_iter().filter(|_| random.bool()));
    random.shuffle(&mut fields);
    Value::Object(
        fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

/// Whether the record that `serde_json` reads is valid, by the contract's words.
fn valid(record: &Map<String, Value>) -> bool {
    let optional = |name: &str, good: &dyn Fn(&Value) -> bool| {
        record
            .get(name)
            .is_none_or(|value| value.is_null() || good(value))
    };
    let text = |name: &str| record.get(name).and_then(Value::as_str);
    text("timestamp").is_some_and(|time| timestamp::parse(time.as_bytes()).is_ok())
        && text("path").is_some_and(|path| !path.trim().is_empty())
        && text("userAgent").is_some()
        && optional("site", &|site| {
            site.as_str()
                .is_some_and(|site| site.is_empty() || check_site(site).is_ok())
        })
        && ["method", "remoteAddr", "referer", "protocol"]
            .iter()
            .all(|name| optional(name, &Value::is_string))
        && optional("status", &|status| {
            status
                .as_u64()
                .is_some_and(|status| (100..600).contains(&status))
        })
        && optional("bytes", &|bytes| {
            bytes.as_i64().is_some_and(|bytes| bytes >= 0)
        })
        && optional("durationMs", &|duration| {
            duration.as_f64().is_some_and(|duration| duration >= 0.0)
        })
}

fn duplicated(input: &[u8]) -> bool {
    // serde_json keeps the last of equal keys: a visitor that counts them sees both.
    struct Keys(Vec<String>);
    impl<'de> serde::Deserialize<'de> for Keys {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl<'de> serde::de::Visitor<'de> for Visitor {
                type Value = Keys;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(
                    self,
                    mut map: A,
                ) -> Result<Keys, A::Error> {
                    let mut keys = Vec::new();
                    while let Some((key, serde::de::IgnoredAny)) = map.next_entry()? {
                        keys.push(key);
                    }
                    Ok(Keys(keys))
                }
            }
            from.deserialize_map(Visitor)
        }
    }
    let Ok(Keys(mut keys)) = serde_json::from_slice(input) else {
        return false;
    };
    keys.retain(|key| Known::of(key.as_bytes()).is_some());
    let all = keys.len();
    keys.sort();
    keys.dedup();
    keys.len() < all
}

/// Both judge alike; what is accepted means the same.
fn judge_like_serde(input: &[u8]) -> bool {
    let shown = String::from_utf8_lossy(input);
    let theirs: Result<Value, _> = serde_json::from_slice(input);
    let expected = match &theirs {
        Ok(Value::Object(record)) => valid(record) && !duplicated(input),
        Ok(_) => false,
        // serde_json refuses numbers that no f64 holds; the grammar has them.
        Err(error) if error.to_string().contains("number out of range") => return false,
        Err(_) => false,
    };
    let mut out = Vec::new();
    let ours = append_json(input, &rules(), &mut out);
    if ours.as_ref().is_err_and(|error| {
        matches!(
            error.code,
            RecordErrorCode::TooLarge | RecordErrorCode::TooDeep
        )
    }) {
        return false;
    }
    assert_eq!(ours.is_ok(), expected, "{shown}: {ours:?} {theirs:?}");
    let mut element = b"[".to_vec();
    element.extend_from_slice(input);
    let from = 1 + json::trimmed(input).start;
    let mut from_array = Vec::new();
    if expected {
        assert_eq!(
            append_element(&element, from, &rules(), &mut from_array),
            Some(1 + json::trimmed(input).end)
        );
    }
    assert_eq!(from_array, out, "{shown}");
    if expected {
        assert!(!out.contains(&b'\n'), "{shown}");
        let mut before = theirs.expect("valid");
        let after: Value = serde_json::from_slice(&out).expect("we write JSON");
        let agent = before["userAgent"].as_str().expect("a string");
        if agent.trim().is_empty() {
            before["userAgent"] = "-".into();
        }
        let fields = read(&out).expect("what is stored is read");
        assert_eq!(
            timestamp::parse(before["timestamp"].as_str().expect("a string").as_bytes())
                .map(|time| time.to_ms()),
            Ok(fields.timestamp_ms)
        );
        before["timestamp"] = after["timestamp"].clone();
        assert_eq!(before, after, "{shown}");
        assert_eq!(after["path"].as_str(), Some(fields.path.as_ref()));
        assert_eq!(
            after["userAgent"].as_str(),
            Some(fields.user_agent.as_ref())
        );
        assert_eq!(after["status"].as_u64(), fields.status.map(u64::from));
        assert_eq!(after["bytes"].as_u64(), fields.bytes);
        // serde_json's own floats may be off by the last bit.
        let (theirs, ours) = (after["durationMs"].as_f64(), fields.duration_ms);
        assert_eq!(theirs.is_some(), ours.is_some());
        let (theirs, ours) = (theirs.unwrap_or_default(), ours.unwrap_or_default());
        assert!(
            (theirs - ours).abs() <= 1e-12 * ours.abs(),
            "{theirs} {ours}"
        );
        assert_eq!(after["method"].as_str(), fields.method.as_deref());
        assert_eq!(after["referer"].as_str(), fields.referer.as_deref());
        let mut again = Vec::new();
        assert_eq!(append_json(&out, &rules(), &mut again), Ok(()));
        assert_eq!(again, out, "canonical once is canonical");
    }
    expected
}

#[test]
fn generated_records_are_judged_as_serde_json_reads_them() {
    let mut random = fastrand::Rng::with_seed(2);
    let mut accepted = 0;
    for round in 0..4000 {
        let record = random_record(&mut random);
        let text = if round % 3 == 0 {
            serde_json::to_string_pretty(&record)
        } else {
            serde_json::to_string(&record)
        };
        accepted += u32::from(judge_like_serde(text.expect("serializes").as_bytes()));
    }
    assert!(
        (1500..3500).contains(&accepted),
        "both ways are taken: {accepted}"
    );
}

#[test]
fn broken_records_are_judged_as_serde_json_reads_them() {
    const TOKENS: [&str; 22] = [
        "\"",
        "\\",
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        " ",
        "\n",
        "\t",
        "0",
        "-",
        ".",
        "e5",
        "null",
        "\\u00e9",
        "\\ud800",
        "\\udc00",
        "\u{1}",
        "é",
        "\"path\":\"/\",",
    ];
    let mut random = fastrand::Rng::with_seed(3);
    let mut accepted = 0;
    for _ in 0..30_000 {
        let record = random_record(&mut random);
        let mut bytes = serde_json::to_vec(&record).expect("serializes");
        for _ in 0..random.usize(1..4) {
            let at = random.usize(0..bytes.len().max(1)).min(bytes.len());
            match random.u32(0..6) {
                0 => bytes.truncate(at),
                1 => {
                    let end = (at + random.usize(1..4)).min(bytes.len());
                    bytes.drain(at..end);
                }
                2 if at < bytes.len() => bytes[at] ^= 1 << random.u32(0..8),
                3 if at < bytes.len() => bytes[at] = random.u8(..),
                4 => {
                    let to = random.usize(0..=bytes.len());
                    let piece = bytes[at.min(to)..at.max(to).min(at.min(to) + 30)].to_vec();
                    bytes.splice(at..at, piece);
                }
                _ => {
                    let token = TOKENS[random.usize(0..TOKENS.len())];
                    bytes.splice(at..at, token.bytes());
                }
            }
        }
        accepted += u32::from(judge_like_serde(&bytes));
    }
    assert!(accepted > 1000, "both ways are taken: {accepted}");
}
