//! Every key of the list, made wrong in every way its kind can be.

use super::*;

/// The key that the fault is about; an item of a list stands for the list.
pub fn place(fault: &Fault) -> String {
    let path = fault.path.strip_suffix("[0]").unwrap_or(&fault.path);
    path.replace("[0]", "[]")
}

#[test]
fn a_misspelt_key_is_refused_with_its_path_and_the_one_that_was_meant() {
    for key in usable() {
        let (section, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
        let wrong = format!("{}x", key.path);
        let faults = faults(&with(&wrong, &json!(1)));
        let start = wrong.replace("[]", "[0]") + ": found an unknown key, allowed: ";
        let hint = format!("(did you mean {name}?)");
        let found = faults
            .iter()
            .any(|fault| fault.starts_with(&start) && fault.ends_with(&hint));
        assert!(found, "{section} {name}: {faults:?}");
    }
}

#[test]
fn a_value_of_the_wrong_type_is_refused_with_its_path() {
    for key in usable() {
        for value in wrong::types(key) {
            let fault = only_fault(&with(key.path, &value));
            assert_eq!(place(&fault), key.path, "{value}: {fault}");
            assert!(!fault.allowed.is_empty() && !fault.found.is_empty());
        }
    }
}

#[test]
fn a_value_out_of_range_is_refused_with_its_path_and_the_range() {
    for key in usable() {
        for value in wrong::values(key) {
            let fault = only_fault(&with(key.path, &value));
            assert_eq!(place(&fault), key.path, "{value}: {fault}");
        }
    }
    let fault = only_fault(&with("server.maxConnections", &json!(0)));
    assert_eq!(
        fault.to_string(),
        "server.maxConnections: found 0, allowed: a whole number from 1 to 1000000"
    );
}

#[test]
fn what_is_not_available_yet_is_refused_at_any_value_but_its_default() {
    for path in NOT_YET {
        let key = KEYS.iter().find(|key| key.path == *path).unwrap();
        let other = match key.kind {
            Kind::Bool => json!(true),
            Kind::Count { .. } => json!(7),
            Kind::Size { .. } => json!("32MiB"),
            Kind::Duration { .. } => json!("2h"),
            Kind::Path | Kind::Name | Kind::HeaderName => json!("x"),
            Kind::Section => json!({"mechanism": "PLAIN", "password": "hunter2"}),
            Kind::Sections => json!([{"id": "a", "sha256": "hunter2"}]),
            kind => panic!("{path}: {kind:?}"),
        };
        let fault = only_fault(&with(path, &other));
        assert_eq!(fault.path, *path);
        let allowed = format!("{} (anything else is not available yet)", key.default);
        assert_eq!(fault.allowed, allowed);
    }
}

#[test]
fn secrets_are_never_shown() {
    for (path, value) in [
        ("auth.keys", json!([{"id": "a", "sha256": "hunter2"}])),
        ("auth.keys", json!(["hunter2"])),
        ("auth.keys", json!("hunter2")),
        ("auth.keys[].sha256", json!("${hunter2")),
        ("auth.keys[].site", json!("hunter2:80")),
        ("auth.kezs", json!("hunter2")),
        ("auth", json!("hunter2")),
        ("kafka.sasl", json!({"password": "hunter2"})),
        ("kafka.sasl", json!("hunter2")),
        ("kafka.sazl", json!({"password": "hunter2"})),
        ("kafka.brokers", json!(["user:hunter2@kafka:9092"])),
    ] {
        let faults = faults(&with(path, &value));
        assert!(!faults.is_empty());
        let hidden = !faults.iter().any(|fault| fault.contains("hunter2"));
        assert!(hidden, "{faults:?}");
    }
    let fault = only_fault(&with("auth.keys", &json!("hunter2")));
    assert_eq!(fault.found, "***");
}
