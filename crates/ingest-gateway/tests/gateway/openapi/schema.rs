//! As much of JSON Schema 2020-12 as `/openapi.json` uses. A keyword that is not known here is a
//! panic, so that none goes unchecked; `validate.py` holds every verdict against another judge.

use regex::Regex;
use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// What says nothing of a value.
const NOTES: [&str; 3] = ["description", "default", "examples"];

/// Whether `value` is as `schema` says, with what is wrong and where.
pub fn check(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let schema = resolve(document, schema);
    let rules = schema.as_object().expect("a schema is an object");
    for (keyword, rule) in rules {
        obeys(document, rules, keyword, rule, value)
            .map_err(|why| format!("{keyword} {rule}: {why}: {value}"))?;
    }
    Ok(())
}

/// What a `$ref` stands for.
pub fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let Some(reference) = value.get("$ref") else {
        return value;
    };
    assert_eq!(value.as_object().unwrap().len(), 1, "beside $ref: {value}");
    let place = reference.as_str().unwrap().strip_prefix('#').unwrap();
    let target = document.pointer(place);
    resolve(
        document,
        target.unwrap_or_else(|| panic!("{place} is not there")),
    )
}

fn obeys(
    document: &Value,
    rules: &Map<String, Value>,
    keyword: &str,
    rule: &Value,
    value: &Value,
) -> Result<(), String> {
    let check = |schema, value| check(document, schema, value);
    let (object, array) = (value.as_object(), value.as_array());
    let (text, number) = (value.as_str(), value.as_f64());
    match keyword {
        "type" => {
            let one = std::slice::from_ref(rule);
            let allowed = rule.as_array().map_or(one, Vec::as_slice);
            require(allowed.iter().any(|name| is(name, value)), "another type")
        }
        "enum" => require(list(rule).contains(value), "none of them"),
        "const" => require(rule == value, "another value"),
        "required" => object.map_or(Ok(()), |object| {
            let missing = list(rule)
                .iter()
                .find(|name| !object.contains_key(name.as_str().unwrap()));
            missing.map_or(Ok(()), |name| Err(format!("{name} is missing")))
        }),
        "properties" => rule
            .as_object()
            .unwrap()
            .iter()
            .try_for_each(|(name, rule)| {
                let member = object.and_then(|object| object.get(name));
                member.map_or(Ok(()), |member| check(rule, member))
            }),
        "additionalProperties" if *rule == Value::Bool(true) => Ok(()),
        "additionalProperties" if *rule == Value::Bool(false) => {
            let known = rules["properties"].as_object().unwrap();
            let mut names = object.into_iter().flat_map(Map::keys);
            let other = names.find(|name| !known.contains_key(*name));
            other.map_or(Ok(()), |name| Err(format!("{name} is not known")))
        }
        "items" => array
            .into_iter()
            .flatten()
            .try_for_each(|item| check(rule, item)),
        "maxItems" => require(array.is_none_or(|a| a.len() as u64 <= whole(rule)), "more"),
        "minimum" => require(number.is_none_or(|n| n >= rule.as_f64().unwrap()), "less"),
        "maximum" => require(number.is_none_or(|n| n <= rule.as_f64().unwrap()), "more"),
        "minLength" => require(text.is_none_or(|t| chars(t) >= whole(rule)), "shorter"),
        "maxLength" => require(text.is_none_or(|t| chars(t) <= whole(rule)), "longer"),
        "pattern" => {
            let pattern = Regex::new(rule.as_str().unwrap()).unwrap();
            require(text.is_none_or(|text| pattern.is_match(text)), "no match")
        }
        "format" => {
            assert_eq!(rule, "date-time");
            let parsed = |text| OffsetDateTime::parse(text, &Rfc3339).is_ok();
            require(text.is_none_or(parsed), "no time")
        }
        "allOf" => list(rule).iter().try_for_each(|rule| check(rule, value)),
        "anyOf" => require(list(rule).iter().any(|r| check(r, value).is_ok()), "none"),
        "oneOf" => {
            let obeyed = list(rule).iter().filter(|r| check(r, value).is_ok());
            require(obeyed.count() == 1, "none or several")
        }
        "if" if check(rule, value).is_ok() => check(&rules["then"], value),
        "if" | "then" => Ok(()),
        note if NOTES.contains(&note) => Ok(()),
        other => panic!("this judge does not know the keyword {other}"),
    }
}

fn is(name: &Value, value: &Value) -> bool {
    match name.as_str().unwrap() {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("this judge does not know the type {other}"),
    }
}

fn require(obeyed: bool, otherwise: &str) -> Result<(), String> {
    obeyed.then_some(()).ok_or_else(|| otherwise.to_owned())
}

fn list(rule: &Value) -> &[Value] {
    rule.as_array().unwrap()
}

fn whole(rule: &Value) -> u64 {
    rule.as_u64().unwrap()
}

fn chars(text: &str) -> u64 {
    text.chars().count() as u64
}
