//! The example files as people edit them: each key removed, misspelt, of another type, out of its
//! range. As they stand, and with all that they hold commented out.

use std::collections::HashSet;

use super::{
    examples::{EXAMPLES, with_comments_taken_away},
    refused::place,
    *,
};
use crate::config::{keys::REQUIRED, reference::file};

/// One place in a file that a key of the table stands at: its path there, and the key.
type Place = (String, &'static Key);

/// Both examples as they are, and whole: once with secrets by value, once from files.
fn files(secrets: &Path) -> Vec<(String, Json)> {
    let mut all = Vec::new();
    for name in EXAMPLES {
        let text = fs::read_to_string(file(name)).unwrap();
        let as_it_is: Json = serde_yaml::from_str(&text).unwrap();
        let mut whole: Json = serde_yaml::from_str(&with_comments_taken_away(&text)).unwrap();
        let mut from_files = whole.clone();
        for (path, key) in places(&whole) {
            let secret = path.strip_suffix("File").and_then(|secret| {
                let found = KEYS.iter().find(|k| k.path == any_index(secret))?;
                Some((secret.to_owned(), found))
            });
            let Some((by_value, secret)) = secret else {
                continue;
            };
            assert!(matches!(key.kind, Kind::Path), "{path}");
            take(&mut whole, &path);
            take(&mut from_files, &by_value);
            let content = match secret.kind {
                Kind::Sha256 => "0".repeat(64),
                _ => "hunter2".to_owned(),
            };
            let at = secrets.join(by_value.replace(['[', ']', '.'], "-"));
            fs::write(&at, content).unwrap();
            put(&mut from_files, &path, json!(at));
        }
        all.push((format!("{name}, as it is"), as_it_is));
        all.push((format!("{name}, whole"), whole));
        all.push((format!("{name}, secrets from files"), from_files));
    }
    all
}

fn env(name: &str) -> Option<String> {
    ["HOSTNAME", "KAFKA_PASSWORD"]
        .contains(&name)
        .then(|| "hunter2".to_owned())
}

fn parsed(root: &Json) -> Result<Config, Vec<Fault>> {
    Config::parse(&root.to_string(), &env)
}

fn refused(root: &Json) -> Vec<String> {
    parsed(root).err().map_or_else(Vec::new, |faults| {
        faults.iter().map(Fault::to_string).collect()
    })
}

/// A configuration, or its faults, as one text to compare.
fn outcome(root: &Json) -> String {
    format!("{:#?}", parsed(root))
}

fn each_place(mut look: impl FnMut(&str, &Json, &str, &'static Key)) {
    let secrets = tempfile::tempdir().unwrap();
    let mut seen = HashSet::new();
    for (name, root) in files(secrets.path()) {
        assert_eq!(refused(&root), [""; 0], "{name}");
        for (path, key) in places(&root) {
            seen.insert(key.path);
            look(&name, &root, &path, key);
        }
    }
    // A new key that no example holds would be tried by nobody.
    let missed: Vec<_> = KEYS.iter().filter(|key| !seen.contains(key.path)).collect();
    assert!(missed.is_empty(), "{missed:?}");
}

#[test]
fn a_key_taken_out_of_an_example_is_missing_or_stands_at_its_default() {
    each_place(|name, root, path, key| {
        let mut without = root.clone();
        take(&mut without, path);
        if key.default == REQUIRED {
            let faults = parsed(&without).expect_err(path);
            // A secret is asked for where its file is named by nobody either.
            let missing = (path, "nothing".to_owned(), key.kind.allowed());
            let found = &faults[0];
            let found = (&*found.path, found.found.clone(), found.allowed.clone());
            assert_eq!((faults.len(), found), (1, missing), "{name}: {faults:?}");
            return;
        }
        let secret = path.strip_suffix("File").map(any_index);
        if let Some(secret) = secret.filter(|s| KEYS.iter().any(|key| key.path == *s)) {
            let faults = refused(&without);
            let by_value = format!("{}: found nothing", path.strip_suffix("File").unwrap());
            assert!(faults[0].starts_with(&by_value), "{secret}: {faults:?}");
            return;
        }
        let mut by_default = root.clone();
        put(
            &mut by_default,
            path,
            serde_yaml::from_str(key.default).unwrap(),
        );
        assert_eq!(outcome(&without), outcome(&by_default), "{name}: {path}");
    });
}

#[test]
fn a_key_misspelt_in_an_example_is_refused_beside_what_its_absence_does() {
    each_place(|name, root, path, key| {
        let mut without = root.clone();
        let value = take(&mut without, path);
        let also = refused(&without);
        let last = path.rsplit('.').next().unwrap();
        let mut swapped: Vec<char> = last.chars().collect();
        if let Some(at) = (0..swapped.len() - 1).rfind(|at| swapped[*at] != swapped[at + 1]) {
            swapped.swap(at, at + 1);
        }
        let swapped: String = swapped.into_iter().collect();
        for wrong in [format!("{last}x"), swapped, last.to_uppercase()] {
            let place = path.strip_suffix(last).unwrap().to_owned() + &wrong;
            let mut misspelt = without.clone();
            put(&mut misspelt, &place, value.clone());
            let faults = refused(&misspelt);
            let (unknown, rest): (Vec<_>, Vec<_>) = faults
                .into_iter()
                .partition(|fault| fault.contains(": found an unknown key, allowed: "));
            assert_eq!(unknown.len(), 1, "{name}: {place}: {unknown:?}");
            assert!(unknown[0].starts_with(&format!("{place}: ")), "{unknown:?}");
            assert!(unknown[0].contains(last), "{} {unknown:?}", key.path);
            assert_eq!(rest, also, "{name}: {place}");
        }
    });
}

#[test]
fn a_value_of_another_type_or_out_of_range_in_an_example_is_refused_with_its_path() {
    each_place(|name, root, path, key| {
        for value in wrong::types(key).into_iter().chain(wrong::values(key)) {
            let mut wrong = root.clone();
            put(&mut wrong, path, value.clone());
            let faults = parsed(&wrong).expect_err(path);
            // Then what the value would have allowed is not there either; that comes behind it.
            let fault = &faults[0];
            assert_eq!(place(fault), any_index(path), "{name}: {value}: {fault}");
            assert!(!fault.found.is_empty() && !fault.allowed.is_empty());
            let shown = faults
                .iter()
                .any(|fault| fault.to_string().contains("hunter2"));
            assert!(!shown, "{name}: {faults:?}");
            assert_eq!(faults.len(), 1, "{name}: {path}: {value}: {faults:?}");
        }
    });
}

/// Every key of the table that stands in the file, with its path there.
fn places(root: &Json) -> Vec<Place> {
    fn look(node: &Json, at: &str, found: &mut Vec<Place>) {
        if let Some(key) = KEYS.iter().find(|key| key.path == any_index(at)) {
            found.push((at.to_owned(), key));
        }
        match node {
            Json::Object(entries) => {
                for (name, node) in entries {
                    let dot = if at.is_empty() { "" } else { "." };
                    look(node, &format!("{at}{dot}{name}"), found);
                }
            }
            Json::Array(items) => {
                for (index, node) in items.iter().enumerate().filter(|(_, n)| n.is_object()) {
                    look(node, &format!("{at}[{index}]"), found);
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    look(root, "", &mut found);
    found
}

/// `a[0].b` as the table has it: `a[].b`.
fn any_index(path: &str) -> String {
    path.replace("[0]", "[]")
}

/// `a.b[0].c` as JSON has it: the section around the key, and the key.
fn pointer(path: &str) -> (String, &str) {
    let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
    let section = section.replace("[0]", ".0").replace('.', "/");
    let slash = if section.is_empty() { "" } else { "/" };
    (format!("{slash}{section}"), name)
}

fn put(root: &mut Json, path: &str, value: Json) {
    let (section, name) = pointer(path);
    root.pointer_mut(&section).unwrap()[name] = value;
}

/// Takes the key out; the value that it had.
fn take(root: &mut Json, path: &str) -> Json {
    let (section, name) = pointer(path);
    let section = root.pointer_mut(&section).unwrap().as_object_mut();
    section.unwrap().remove(name).unwrap()
}
