//! What the pages say, held against the code: links and anchors lead somewhere, and configuration
//! keys, metrics, exit codes and versions of formats that they name are there. Commands and their
//! options are held by the integration suite and by xtask (`documents`, both).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use crate::{
    config::{is_key_or_section, reference::file},
    lifecycle::exit,
    telemetry::catalog::{ALL, Kind},
};

fn pages() -> BTreeMap<String, String> {
    let found = testbed::documents::pages().unwrap();
    for name in [
        "README.md",
        "SECURITY.md",
        "docs/production.md",
        "deploy/observability/README.md",
    ] {
        assert!(found.contains_key(name), "{name}");
    }
    found
}

/// The anchors of a page, as GitHub makes them.
pub(crate) fn anchors(page: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in prose(page) {
        let Some(heading) = line.strip_prefix('#') else {
            continue;
        };
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = words
            .chars()
            .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        let anchor = kept.collect::<String>().replace(' ', "-");
        let again = (1..).map(|n| format!("{anchor}-{n}"));
        let free = std::iter::once(anchor.clone()).chain(again);
        let anchor = free.into_iter().find(|it| !found.contains(it)).unwrap();
        found.insert(anchor);
    }
    found
}

/// Lines outside of fences.
fn prose(page: &str) -> Vec<&str> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            lines.push(line);
        }
    }
    lines
}

/// What stands between backticks, outside of fences.
fn quoted(page: &str) -> Vec<&str> {
    let lines = prose(page);
    let quoted = lines
        .iter()
        .flat_map(|line| line.split('`').skip(1).step_by(2));
    quoted.collect()
}

/// Link targets, those of pages elsewhere left out.
fn links(page: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for line in prose(page) {
        for rest in line.split("](").skip(1) {
            // One within a link's name, as [`a(b)`](c).
            let target = rest.split(')').next().unwrap();
            if !target.contains("://") && !target.starts_with("mailto:") {
                found.push(target);
            }
        }
    }
    found
}

#[test]
fn every_link_within_the_repository_leads_to_a_file_and_a_heading() {
    let pages = pages();
    let mut seen = 0;
    for (name, text) in &pages {
        for link in links(text) {
            seen += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let to = match path {
                "" => file(name),
                path => file(name).parent().unwrap().join(path),
            };
            assert!(to.exists(), "{name}: {link} leads nowhere");
            if !anchor.is_empty() {
                let there = anchors(&fs::read_to_string(&to).unwrap());
                assert!(there.contains(anchor), "{name}: {link}: no such heading");
            }
        }
    }
    assert!(seen > 100, "{seen} links");
}

/// Files are named as sections are: `server.crt`.
const ENDINGS: [&str; 5] = ["crt", "key", "yaml", "md", "rs"];

const SECTIONS: [&str; 8] = [
    "server",
    "auth",
    "ingestion",
    "kafka",
    "consumer",
    "storage",
    "aggregation",
    "telemetry",
];

#[test]
fn every_configuration_key_that_a_page_names_is_there() {
    let mut seen = BTreeSet::new();
    let mut missing = BTreeSet::new();
    let pages = pages();
    for (name, text) in &pages {
        for words in quoted(text) {
            for word in words.split_whitespace() {
                let word = word.trim_matches(|c: char| !c.is_alphanumeric() && c != ']');
                let Some((section, rest)) = word.split_once('.') else {
                    continue;
                };
                let plain = |c: char| c.is_ascii_alphanumeric() || ".[]".contains(c);
                let is_path = SECTIONS.contains(&section) && rest.chars().all(plain);
                if !is_path || ENDINGS.contains(&rest) {
                    continue;
                }
                seen.insert(word.to_owned());
                if !is_key_or_section(word) {
                    missing.insert((name, word));
                }
            }
        }
    }
    assert_eq!(missing, BTreeSet::new(), "there is no such key");
    assert!(seen.len() > 45, "{} keys", seen.len());
}

#[test]
fn every_key_of_a_configuration_that_a_page_shows_is_there() {
    let mut seen = 0;
    for (name, text) in &pages() {
        for block in text.split("```yaml\n").skip(1) {
            let block = block.split("```").next().unwrap();
            let block: serde_yaml::Value = serde_yaml::from_str(block).expect(name);
            // A chart's values have ours under `config`.
            let ours = block.get("config").unwrap_or(&block);
            for (section, keys) in ours.as_mapping().expect(name) {
                let section = section.as_str().unwrap();
                assert!(SECTIONS.contains(&section), "{name}: {section}");
                for (key, value) in keys.as_mapping().expect(name) {
                    let path = format!("{section}.{}", key.as_str().unwrap());
                    let items = value.as_sequence().into_iter().flatten();
                    let within = items.filter_map(|item| item.as_mapping()).flatten();
                    let within =
                        within.map(|(key, _)| format!("{path}[].{}", key.as_str().unwrap()));
                    for path in std::iter::once(path.clone()).chain(within) {
                        assert!(is_key_or_section(&path), "{name}: {path}");
                        seen += 1;
                    }
                }
            }
        }
    }
    assert!(seen >= 10, "{seen} keys");
}

#[test]
fn every_metric_that_a_page_names_is_there() {
    // By their endings they are told from codes and reasons, which look alike.
    let endings = [
        "_total",
        "_seconds",
        "_bytes",
        "_ratio",
        "_records",
        "_depth",
        "_capacity",
        "_halted",
    ];
    let is_metric = |name: &str| {
        ALL.iter().any(|metric| match metric.kind {
            Kind::Histogram(_) => name
                .strip_prefix(metric.name)
                .is_some_and(|rest| ["", "_bucket", "_count", "_sum"].contains(&rest)),
            _ => metric.name == name,
        })
    };
    let mut seen = BTreeSet::new();
    let mut missing = BTreeSet::new();
    let pages = pages();
    for (name, text) in &pages {
        for word in quoted(text) {
            let word = word.split('{').next().unwrap();
            let is_name = word
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            // A code of the HTTP answers.
            let is_code = word == "invalid_records";
            if is_name && !is_code && endings.iter().any(|end| word.ends_with(end)) {
                seen.insert(word.to_owned());
                if !is_metric(word) {
                    missing.insert((name, word));
                }
            }
        }
    }
    assert_eq!(missing, BTreeSet::new(), "there is no such metric");
    assert!(seen.len() > 60, "{} metrics", seen.len());
}

#[test]
fn the_page_of_exit_codes_has_those_that_there_are() {
    let page = fs::read_to_string(file("docs/exit-codes.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| "));
    let found: BTreeSet<u8> = rows
        .filter_map(|row| row.split(" |").next()?.parse().ok())
        .collect();
    let known = [
        exit::OK,
        exit::FAILED,
        exit::USAGE,
        exit::TRY_LATER,
        exit::CONFIG,
    ];
    assert_eq!(found, BTreeSet::from(known));
}

/// The fixture of the last released version whose name ends so.
fn fixture(ending: &str) -> PathBuf {
    fn look(dir: &Path, ending: &str) -> Option<PathBuf> {
        let entries = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut paths: Vec<_> = entries.collect();
        paths.sort();
        paths.into_iter().find_map(|path| match path.is_dir() {
            true => look(&path, ending),
            false => path.to_str()?.ends_with(ending).then_some(path),
        })
    }
    look(&file("tests/fixtures"), ending).unwrap_or_else(|| panic!("no fixture {ending}"))
}

#[test]
fn the_page_of_formats_has_the_versions_that_are_written() {
    let page = fs::read_to_string(file("docs/formats.md")).unwrap();
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|row| row.split(" | ").collect())
        .collect();
    let said = |what: &str| -> u64 {
        let mut rows = rows
            .iter()
            .filter(|row| row[0].contains(what) && row.len() == 6);
        let row = rows.next().unwrap_or_else(|| panic!("no row {what}"));
        let number = row[2].split([' ', ',']).next().unwrap();
        number
            .parse()
            .unwrap_or_else(|_| panic!("{what}: {number}"))
    };
    let behind = |ending: &str, magic: &str| -> u64 {
        let bytes = fs::read(fixture(ending)).unwrap();
        let at = bytes
            .windows(magic.len())
            .position(|it| it == magic.as_bytes());
        let from = at.unwrap_or_else(|| panic!("{ending}: no {magic}")) + magic.len();
        u64::from(u16::from_le_bytes([bytes[from], bytes[from + 1]]))
    };
    let json = |ending: &str| -> u64 {
        let text = fs::read(fixture(ending)).unwrap();
        let text = String::from_utf8_lossy(&text);
        let (_, rest) = text.split_once("\"format\":").unwrap();
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
        digits.unwrap().parse().unwrap()
    };
    // The frames' own version, and that of their first payload.
    let frames = |ending: &str, kind: &str| -> (u64, u64) {
        let bytes = fs::read(fixture(ending)).unwrap();
        assert_eq!(&bytes[16..20], kind.as_bytes(), "{ending}");
        let own = u32::from_be_bytes(bytes[20..24].try_into().unwrap());
        let mut payload = None;
        let path = fixture(ending);
        let kind = kind.as_bytes().try_into().unwrap();
        crate::dlq::read_frames(&path, kind, &mut |_, found| {
            payload.get_or_insert(found[0]);
        })
        .unwrap();
        (own.into(), payload.unwrap().into())
    };
    assert_eq!(said("`OWNER`"), json("store/OWNER"));
    assert_eq!(said("`START`"), json("p00003/START"));
    assert_eq!(said("`SLTR`"), behind("1004.ndjson.zst", "SLTR"));
    assert_eq!(said("`SLWINDOW`"), behind(".window-a", "SLWINDOW"));
    assert_eq!(said("manifest"), json("7.json"));
    let state = fixture("2fa5e42fc6930b6bceaae8136a3b146a");
    assert_eq!(said("`SLST`"), behind(state.to_str().unwrap(), "SLST"));
    assert_eq!(said("what a day"), json("_state/reports/2015-05-17"));
    assert_eq!(said("archive"), json(".parquet"));
    for (kind, ending) in [
        ("cdlq", "2222-000000.dlq"),
        ("cdlm", "marks-cfc3bce5f2eef6a4.dlq"),
        ("pdlq", "1.pdlq"),
        ("pdlm", ".pdlm"),
    ] {
        let row = said(&format!("`{kind}`"));
        assert_eq!((said("`sluicefr`"), row), frames(ending, kind), "{kind}");
    }
    let (own, _) = frames("rejects/00000000000000000001.ndjson.zst", "reje");
    assert_eq!(said("`sluicefr`"), own);
}
