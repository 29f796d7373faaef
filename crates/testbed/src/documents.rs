//! The pages for people, and the command lines that they show, for whoever holds them against the
//! programs. Knows no program.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// What is no page of the repository's, or no page for people.
const ELSEWHERE: [&str; 3] = ["target", "fixtures", "node_modules"];

#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every page, by its path in the repository.
///
/// # Errors
/// When the repository cannot be read.
pub fn pages() -> io::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let root = repository();
    let mut dirs = vec![root.clone()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            // A link leads to a page that is found where it is.
            if name.starts_with('.') || entry.file_type()?.is_symlink() {
                continue;
            }
            if entry.file_type()?.is_dir() {
                if !ELSEWHERE.contains(&&*name) {
                    dirs.push(path);
                }
            } else if path.extension().is_some_and(|end| end == "md") {
                let within = path.strip_prefix(&root).expect("it was found there");
                found.insert(within.display().to_string(), fs::read_to_string(&path)?);
            }
        }
    }
    Ok(found)
}

/// The words after `program` (which may be several, as `cargo xtask`) of each command line of the
/// page that calls it: in fences, in indented blocks, and between backticks where more than the
/// program stands there. Of `a|b` comes one for each.
#[must_use]
pub fn calls(page: &str, program: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for line in lines(page) {
        let line = line.split(" #").next().unwrap_or_default();
        let parts = line.split(" | ").flat_map(|part| part.split(" && "));
        for part in parts.flat_map(|part| part.split("; ")) {
            if let Some(words) = called(part, program) {
                found.extend(alternatives(&words));
            }
        }
    }
    found
}

/// Whether a program that was called so refused it only for a name that stands for a value, as
/// `--offset OFFSET`: in the words of clap.
#[must_use]
pub fn is_stand_in(complaint: &str) -> bool {
    let value = complaint.split("invalid value '").nth(1);
    let value = value.and_then(|rest| rest.split('\'').next());
    value.is_some_and(|it| it.bytes().all(|b| b.is_ascii_uppercase() || b == b':'))
}

/// What may be command lines, those that go on in the next one joined.
fn lines(page: &str) -> Vec<String> {
    let (mut found, mut fenced, mut begun) = (Vec::new(), false, String::new());
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced || line.starts_with("    ") {
            begun.push_str(line.trim_end_matches('\\'));
            if !line.ends_with('\\') {
                found.push(std::mem::take(&mut begun));
            }
        } else {
            let quoted = line.split('`').skip(1).step_by(2);
            found.extend(quoted.filter(|it| it.contains(' ')).map(str::to_owned));
        }
    }
    found
}

fn called<'a>(command: &'a str, program: &str) -> Option<Vec<&'a str>> {
    // `runuser -u sluice -- program …`
    let command = command.split_once(" -- ").map_or(command, |(_, rest)| rest);
    let is_variable = |word: &&str| {
        word.split_once('=')
            .is_some_and(|(name, _)| !name.contains('-'))
    };
    let mut words = command.split_whitespace().skip_while(is_variable);
    for (number, name) in program.split(' ').enumerate() {
        let word = words.next()?;
        // `target/release/program`
        let word = if number == 0 {
            word.rsplit('/').next()?
        } else {
            word
        };
        if word != name {
            return None;
        }
    }
    let words = words.take_while(|word| ![">", ">>", "2>", "<", "|"].contains(word));
    let words = words.map(|word| word.trim_matches(['[', ']', '\'', '"']));
    Some(
        words
            .filter(|word| !["", "…", "..."].contains(word))
            .collect(),
    )
}

fn alternatives(words: &[&str]) -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    for word in words {
        let these = word.split('|').flat_map(|one| {
            all.iter().map(move |before: &Vec<String>| {
                let mut words = before.clone();
                words.push(one.to_owned());
                words
            })
        });
        all = these.collect();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_found_where_they_stand_and_as_they_stand() {
        let page = "\
Say `prog a|b --x` or `prog`, or `other prog`.
```
A=1 target/release/prog --config f \\
    run    # not this
runuser -u me -- prog [--json] … | prog last > file
for prog in prog; do
```
    cargo prog in a block
";
        let found = calls(page, "prog");
        let found: Vec<_> = found.iter().map(|words| words.join(" ")).collect();
        let expected = ["a --x", "b --x", "--config f run", "--json", "last"];
        assert_eq!(found, expected);
        assert_eq!(calls(page, "cargo prog")[0].join(" "), "in a block");
    }

    #[test]
    fn a_name_that_stands_for_a_value_is_told_from_a_wrong_value() {
        assert!(is_stand_in(
            "error: invalid value 'HOST:PORT' for '--kafka'"
        ));
        assert!(!is_stand_in("error: invalid value 'xml' for '--format'"));
        assert!(!is_stand_in("error: unexpected argument '--FILE' found"));
    }
}
