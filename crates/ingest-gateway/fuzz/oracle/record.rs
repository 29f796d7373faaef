//! One record.

use pipeline_core::record::{RecordErrorCode, append_element, append_json, judge_json};

use super::{Options, batch};

pub fn record(data: &[u8]) {
    let Some((options, input)) = Options::of(data) else {
        return;
    };
    let rules = &options.rules;
    let before = b"what is there stays".to_vec();
    let mut out = before.clone();
    let result = append_json(input, rules, &mut out);
    assert!(out.starts_with(&before));
    let line = &out[before.len()..];
    let mut quick = Vec::new();
    let code: Result<(), RecordErrorCode> = judge_json(input, rules, &mut quick);
    assert_eq!(code, result.clone().map_err(|error| error.code));
    assert_eq!(quick, line);
    match &result {
        Ok(()) => {
            batch::check_line(line, rules);
            let theirs: Result<serde_json::Map<_, _>, _> = serde_json::from_slice(input);
            if let Ok(theirs) = theirs {
                changed_in_its_place_only(&theirs, line);
            }
        }
        Err(error) => {
            assert!(line.is_empty());
            assert!(!error.message.is_empty());
        }
    }

    // The same in the middle of a longer text.
    let trimmed = input.trim_ascii();
    let mut text = b"[1,".to_vec();
    text.extend_from_slice(trimmed);
    text.extend_from_slice(b" ,");
    let mut element = Vec::new();
    let end = append_element(&text, 3, rules, &mut element);
    if result.is_ok() && trimmed.first() == Some(&b'{') {
        assert_eq!(end, Some(3 + trimmed.len()));
        assert_eq!(element, line);
    } else if end.is_none() {
        assert!(element.is_empty());
    } else {
        batch::check_line(&element, rules);
    }
}

/// Only time, agent and site may differ; no field is lost and none is new but the site.
fn changed_in_its_place_only(input: &serde_json::Map<String, serde_json::Value>, line: &[u8]) {
    let line: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(line).expect("the same numbers as before");
    for (name, value) in input {
        let now = line.get(name).unwrap_or_else(|| panic!("{name} is lost"));
        let may_differ = ["timestamp", "userAgent", "site"].contains(&name.as_str());
        assert!(may_differ || value == now, "{name}: {value} became {now}");
    }
    let new = line.keys().find(|name| !input.contains_key(*name));
    assert!(new.is_none_or(|name| name == "site"), "{new:?} is new");
}
