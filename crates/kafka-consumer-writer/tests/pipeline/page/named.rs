//! The tests that the pages name are tests: what stands in a table's last column, where that is
//! headed `test`.

use std::{collections::HashSet, fs, path::Path};

/// A test, and the file that it is in.
type Test = (String, String);

#[test]
fn every_test_that_the_pages_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut tests = HashSet::new();
    for dir in ["crates", "tests/tests"] {
        collect_tests(&root.join(dir), &mut tests);
    }
    let mut named = HashSet::new();
    let pages = fs::read_dir(root.join("docs")).unwrap();
    let pages = pages.map(|item| item.unwrap().path());
    for path in pages.chain([root.join("SECURITY.md")]) {
        if path.extension().is_none_or(|end| end != "md") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for name in names(&text) {
            let exists = tests.iter().any(|test| is_meant(name, test));
            assert!(exists, "{}: no test {name}", path.display());
            named.insert((path.file_stem().unwrap().to_owned(), name.to_owned()));
        }
    }
    for (page, least) in [
        ("store", 20),
        ("groups", 10),
        ("disk", 8),
        ("guarantees", 20),
        ("SECURITY", 15),
    ] {
        let count = named.iter().filter(|(of, _)| of == page).count();
        assert!(count > least, "{page}: {count} names");
    }
}

#[test]
fn a_name_means_a_test_the_tests_of_a_file_or_those_that_begin_so() {
    let test = ("hangs".to_owned(), "a_save_that_hangs_holds_up".to_owned());
    for name in [
        "a_save_that_hangs_holds_up",
        "hangs::a_save_that…",
        "hangs::*",
        "pipeline::hangs",
    ] {
        assert!(is_meant(name, &test), "{name}");
    }
    for name in ["a_save_that_hangs_holds", "disk::a_save_that…", "disk::*"] {
        assert!(!is_meant(name, &test), "{name}");
    }
    let page = "| what | test |\n|---|---|\n| `no_test_of_this_one` | suite: `x`, `a: y_1_2_3_4` |\n\n\
                | what | how |\n|---|---|\n| a | `not_a_test_at_all_here` |\n";
    assert_eq!(names(page), ["y_1_2_3_4"]);
}

/// `name`: a test, `file::start…`: one of that file, `file::*` or `path::file`: any of it.
fn is_meant(name: &str, (file, test): &Test) -> bool {
    let Some((path, name)) = name.rsplit_once("::") else {
        return name == test;
    };
    let of_path = path.rsplit("::").next() == Some(file);
    match name.strip_suffix('…') {
        Some(start) => of_path && test.starts_with(start),
        None => name == file || of_path && (name == "*" || name == test),
    }
}

/// Those of a page. Other words in such a column are suites and commands.
fn names(page: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut of_tests = None;
    for line in page.lines() {
        let row = line.strip_prefix("| ").and_then(|it| it.strip_suffix(" |"));
        let Some(row) = row else {
            of_tests = of_tests.filter(|_| line.starts_with("|--"));
            continue;
        };
        let (_, last) = row.rsplit_once(" | ").unwrap_or(("", row));
        if *of_tests.get_or_insert(last == "test") {
            let quoted = last.split('`').skip(1).step_by(2);
            let bare = quoted.map(|name| name.rsplit_once(": ").map_or(name, |(_, name)| name));
            names.extend(bare.filter(|name| {
                !name.contains(' ') && (name.contains("::") || name.split('_').count() > 4)
            }));
        }
    }
    names
}

/// The functions that stand behind an attribute `test`.
fn collect_tests(dir: &Path, tests: &mut HashSet<Test>) {
    for item in fs::read_dir(dir).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            collect_tests(&path, tests);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let file = path.file_stem().unwrap().to_string_lossy();
            let text = fs::read_to_string(&path).unwrap();
            let mut is_test = false;
            for line in text.lines().map(str::trim_start) {
                let line = line.strip_prefix("async ").unwrap_or(line);
                if let Some(name) = line.strip_prefix("fn ") {
                    if let Some((name, _)) = name.split_once('(').filter(|_| is_test) {
                        tests.insert((file.clone().into_owned(), name.to_owned()));
                    }
                    is_test = false;
                } else {
                    is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                }
            }
        }
    }
}
