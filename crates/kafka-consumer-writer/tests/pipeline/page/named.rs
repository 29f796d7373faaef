//! The tests that the pages name are tests.

use std::{collections::HashSet, fs, path::Path};

#[test]
fn every_test_that_the_pages_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut tests = HashSet::new();
    for dir in ["crates", "tests/tests"] {
        collect_tests(&root.join(dir), &mut tests);
    }
    // On the other pages names stand behind the suite they are in, or behind another of it.
    for (page, least) in [("store.md", 20), ("groups.md", 10)] {
        let text = fs::read_to_string(root.join("docs").join(page)).unwrap();
        let rows = text.lines().filter(|line| line.starts_with("| "));
        let last = rows.filter_map(|row| row.strip_suffix(" |")?.rsplit_once(" | "));
        let named: Vec<&str> = last
            .flat_map(|(_, last)| last.split('`').skip(1).step_by(2))
            .map(|name| name.rsplit_once(": ").map_or(name, |(_, name)| name))
            .filter(|name| name.split('_').count() > 4 && !name.contains(' '))
            .collect();
        assert!(named.len() > least, "{page}: {named:?}");
        for name in named {
            assert!(tests.contains(name), "{page}: no test {name}");
        }
    }
}

/// The names of functions that stand behind an attribute `test`.
fn collect_tests(dir: &Path, tests: &mut HashSet<String>) {
    for item in fs::read_dir(dir).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            collect_tests(&path, tests);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let mut is_test = false;
            for line in text.lines().map(str::trim_start) {
                let line = line.strip_prefix("async ").unwrap_or(line);
                if let Some(name) = line.strip_prefix("fn ") {
                    if is_test {
                        tests.extend(name.split_once('(').map(|(name, _)| name.to_owned()));
                    }
                    is_test = false;
                } else {
                    is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                }
            }
        }
    }
}
