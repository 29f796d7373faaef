//! Both example files are good, whole, and honest about what is off.

use std::collections::BTreeSet;

use super::*;
use crate::config::{
    reference::file,
    yaml::{self, Node},
};

pub const EXAMPLES: [&str; 2] = [
    "config/examples/config.v2.local.yaml",
    "config/examples/config.v2.production.yaml",
];

#[test]
fn both_examples_are_good_as_they_are() {
    for path in EXAMPLES {
        let yaml = fs::read_to_string(file(path)).unwrap();
        assert_eq!(faults(&yaml), [""; 0], "{path}");
    }
    let yaml = fs::read_to_string(file(EXAMPLES[1])).unwrap();
    let config = Config::parse(&yaml, &no_env).unwrap();
    assert!(config.auth.enabled);
    assert_eq!(config.auth.keys[0].sha256, KeyHash([0; 32]));
    assert_eq!(config.server.addr, "0.0.0.0:8080".parse().unwrap());
}

/// A key behind `#` without a blank is commented out, words stand behind `# `.
pub fn with_comments_taken_away(yaml: &str) -> String {
    let lines: Vec<String> = yaml
        .lines()
        .map(|line| {
            let bare = line.trim_start();
            let indent = &line[..line.len() - bare.len()];
            match bare.strip_prefix('#') {
                Some(rest) if !rest.starts_with(' ') => format!("{indent}{rest}"),
                _ => line.to_owned(),
            }
        })
        .collect();
    lines.join("\n")
}

#[test]
fn every_key_stands_in_both_examples() {
    let known: BTreeSet<String> = KEYS.iter().map(|key| key.path.to_owned()).collect();
    for path in EXAMPLES {
        let yaml = fs::read_to_string(file(path)).unwrap();
        let yaml = with_comments_taken_away(&yaml);
        let mut found = BTreeSet::new();
        paths(&yaml::parse(&yaml).unwrap(), "", &mut found);
        assert_eq!(found, known, "{path}");
        // What was commented out is off; nothing else is wrong with it.
        for fault in faults(&yaml) {
            assert!(
                fault.ends_with("not both")
                    || fault.contains("${HOSTNAME")
                    || fault.contains("${KAFKA_PASSWORD"),
                "{path}: {fault}"
            );
        }
    }
}

/// Paths of all keys that are no plain sections.
fn paths(node: &Node, at: &str, found: &mut BTreeSet<String>) {
    let is_key = KEYS.iter().any(|key| key.path == at);
    if is_key {
        found.insert(at.to_owned());
    }
    match node {
        Node::Map(entries) => {
            for (key, node) in entries {
                let Node::Text(key) = key else {
                    panic!("{key:?} at {at}");
                };
                let path = match at {
                    "" => key.clone(),
                    _ => format!("{at}.{key}"),
                };
                paths(node, &path, found);
            }
        }
        Node::List(items) if matches!(items[..], [Node::Map(_)]) => {
            paths(&items[0], &format!("{at}[]"), found);
        }
        _ => assert!(is_key, "{at} is no key"),
    }
}
