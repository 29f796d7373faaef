//! The section `auth`: keys as types, and every way in which a list of them can be wrong.

use super::*;

const ZERO: &str = "0000000000000000000000000000000000000000000000000000000000000000";

fn hash(digit: char) -> String {
    digit.to_string().repeat(64)
}

fn auth(auth: Json) -> String {
    let mut root = minimal();
    root["auth"] = auth;
    root.to_string()
}

/// Paths of all faults; none of them shows what it found.
fn fault_paths(yaml: &str) -> Vec<String> {
    let faults = Config::parse(yaml, &no_env).expect_err(yaml);
    for fault in &faults {
        assert!(matches!(&*fault.found, "***" | "nothing"), "{fault}");
    }
    faults.into_iter().map(|fault| fault.path).collect()
}

#[test]
fn keys_are_read_with_all_that_binds_them() {
    let yaml = auth(json!({"enabled": true, "headerName": "X-Key", "keys": [
        {"id": "shop", "sha256": hash('A'), "site": "shop.example", "recordsPerSecond": 7},
        {"id": "Shop", "sha256": ZERO, "site": "off"},
    ]}));
    let auth = Config::parse(&yaml, &no_env).unwrap().auth;
    assert!(auth.enabled && !auth.allow_anonymous);
    assert_eq!(auth.header_name, "X-Key");
    let expected = [
        ApiKey {
            id: "shop".to_owned(),
            sha256: KeyHash([0xaa; 32]),
            site: Some("shop.example".to_owned()),
            records_per_second: Some(7),
        },
        ApiKey {
            id: "Shop".to_owned(),
            sha256: KeyHash([0; 32]),
            site: None,
            records_per_second: None,
        },
    ];
    assert_eq!(auth.keys, expected);
    let shown = format!("{auth:?}");
    assert!(!shown.contains("170") && !shown.contains("aaaa"), "{shown}");
}

#[test]
fn each_fault_of_a_key_has_its_place_and_shows_nothing() {
    let good = json!({"id": "a", "sha256": hash('1')});
    for (keys, paths) in [
        (json!([]), vec!["auth.keys"]),
        (json!(null), vec!["auth.keys"]),
        (json!("slk_1"), vec!["auth.keys"]),
        (json!([good, "slk_1"]), vec!["auth.keys[1]"]),
        (json!([{}]), vec!["auth.keys[0].id", "auth.keys[0].sha256"]),
        (
            json!([good, good]),
            vec!["auth.keys[1].id", "auth.keys[1].sha256"],
        ),
        (
            json!([good, {"id": "b", "sha256": hash('b')}, {"id": "c", "sha256": hash('B')}]),
            vec!["auth.keys[2].sha256"],
        ),
        (
            json!([good, {"id": "", "sha256": "slk_1"}, {"id": "c", "sha256": hash('g')}]),
            vec![
                "auth.keys[1].id",
                "auth.keys[1].sha256",
                "auth.keys[2].sha256",
            ],
        ),
        (
            json!([{"id": "a", "sha256": hash('1'), "site": "a b", "recordsPerSecond": 0}]),
            vec!["auth.keys[0].recordsPerSecond", "auth.keys[0].site"],
        ),
        (
            json!([{"id": "a", "sha256": "${NONE}", "site": "${hunter"}]),
            vec!["auth.keys[0].sha256", "auth.keys[0].site"],
        ),
    ] {
        let yaml = auth(json!({"enabled": true, "keys": keys}));
        assert_eq!(fault_paths(&yaml), paths, "{yaml}");
    }
    // Without a key nobody could send; where none is needed, none need be there.
    assert_eq!(fault_paths(&auth(json!({"enabled": true}))), ["auth.keys"]);
    assert!(Config::parse(&auth(json!({"enabled": false})), &no_env).is_ok());
}

#[test]
fn a_hash_may_stand_in_a_file_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let write = |text: &[u8]| fs::write(dir.path().join("key"), text).unwrap();
    let yaml = |key: Json| {
        let mut root = minimal();
        root["dataDir"] = json!(dir.path());
        root["auth"] = json!({"enabled": true, "keys": [key, {"id": "z", "sha256": ZERO}]});
        root.to_string()
    };
    let from_file = yaml(json!({"id": "a", "sha256File": "key"}));
    assert_eq!(fault_paths(&from_file), ["auth.keys[0].sha256File"]);
    write(format!("{}\n", hash('c')).as_bytes());
    let config = Config::parse(&from_file, &no_env).unwrap();
    assert_eq!(config.auth.keys[0].sha256, KeyHash([0xcc; 32]));
    for bad in [b"slk_1".as_slice(), b"\xff", &[b'0'; 100_000]] {
        write(bad);
        assert_eq!(fault_paths(&from_file), ["auth.keys[0].sha256File"]);
    }
    // The same key as the other's, though one stands in a file.
    write(ZERO.as_bytes());
    assert_eq!(fault_paths(&from_file), ["auth.keys[1].sha256"]);
    let both = json!({"id": "a", "sha256": hash('1'), "sha256File": "key"});
    assert_eq!(fault_paths(&yaml(both)), ["auth.keys[0].sha256File"]);
}

#[test]
fn a_listener_for_all_needs_keys_or_a_word() {
    let anywhere = "0.0.0.0:80".parse().unwrap();
    let of = |auth_section| Config::parse(&auth(auth_section), &no_env).unwrap().auth;
    assert!(!of(json!({})).allows(anywhere));
    assert!(of(json!({})).allows("127.0.0.1:80".parse().unwrap()));
    assert!(of(json!({"allowAnonymous": true})).allows(anywhere));
    let keys = json!([{"id": "a", "sha256": ZERO}]);
    assert!(of(json!({"enabled": true, "keys": keys})).allows(anywhere));
}
