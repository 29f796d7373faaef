//! The file that a person opens: one template with its style and scripts inside, the data in a
//! block that no browser runs, and a policy that lets nothing else run and nothing be fetched.

use std::sync::LazyLock;

use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};

const TEMPLATE: &str = include_str!("page/page.html");
const STYLE: &str = concat!(
    include_str!("../../vendor/uplot/uPlot.min.css"),
    "\n",
    include_str!("page/page.css"),
);
const SCRIPT: &str = concat!(
    include_str!("../../vendor/uplot/uPlot.iife.min.js"),
    "\n(() => {\n'use strict';\n",
    include_str!("page/data.js"),
    include_str!("page/state.js"),
    include_str!("page/table.js"),
    include_str!("page/chart.js"),
    include_str!("page/app.js"),
    "})();\n",
);

/// The template around what differs from page to page.
struct Frame {
    before_about: String,
    before_data: String,
    after_data: String,
    /// Changes with every byte of the template.
    version: [u8; 32],
}

static FRAME: LazyLock<Frame> = LazyLock::new(|| {
    let hash = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; \
         base-uri 'none'; form-action 'none'",
        hash(SCRIPT),
        hash(STYLE)
    );
    let part = |from: &'static str, mark: &str| from.split_once(mark).expect("the template");
    let (before_about, rest) = part(TEMPLATE, "<!--about-->");
    let (to_policy, rest) = part(rest, "<!--csp-->");
    let (to_style, rest) = part(rest, "<!--css-->");
    let (to_data, rest) = part(rest, "<!--data-->");
    let (to_script, after) = part(rest, "<!--js-->");
    let before_data = [to_policy, &policy, to_style, STYLE, to_data].concat();
    let after_data = [to_script, SCRIPT, after].concat();
    let mut version = Sha256::new();
    for part in [before_about, &before_data, &after_data] {
        version.update(part);
    }
    Frame {
        before_about: before_about.to_owned(),
        before_data,
        after_data,
        version: version.finalize().into(),
    }
});

/// What a page's content is made of besides its data: differs from release to release.
#[must_use]
pub fn version() -> &'static [u8] {
    &FRAME.version
}

/// The page with `data`, which is JSON. `about` stands in its first lines, where
/// [`about`] finds it; hex digits, say.
#[must_use]
pub fn page(about: &str, data: &[u8]) -> Vec<u8> {
    let frame = &*FRAME;
    let mut out = Vec::with_capacity(
        frame.before_data.len() + frame.after_data.len() + data.len() + data.len() / 16 + 100,
    );
    out.extend_from_slice(frame.before_about.as_bytes());
    out.extend_from_slice(format!("<!-- sluice report {about} -->").as_bytes());
    out.extend_from_slice(frame.before_data.as_bytes());
    append_escaped(data, &mut out);
    out.extend_from_slice(frame.after_data.as_bytes());
    out
}

/// How many bytes `json` has in a page: strangers choose what is escaped there.
#[must_use]
pub fn embedded_len(json: &[u8]) -> usize {
    let more = |byte: &u8| match byte {
        b'<' => 5,
        // Perhaps the first byte of one that is escaped.
        0xe2 => 3,
        _ => 0,
    };
    json.len() + json.iter().map(more).sum::<usize>()
}

/// What [`page`] was given as `about`, from the first bytes of a file.
#[must_use]
pub fn about(head: &[u8]) -> Option<&str> {
    let rest = head.strip_prefix(FRAME.before_about.as_bytes())?;
    let rest = rest.strip_prefix(b"<!-- sluice report ")?;
    let end = rest.windows(4).position(|four| four == b" -->")?;
    std::str::from_utf8(&rest[..end]).ok()
}

/// The name of a site's file. Two sites never have the same one, it names no other directory, and
/// nothing in it has a meaning to a shell, a browser or a file system. `site` is empty for records
/// without one.
#[must_use]
pub fn file_name(site: &str) -> String {
    /// What file systems take, less `.html` and the digits behind a long name.
    const BYTES_MAX: usize = 200;
    if site.is_empty() {
        // No host name begins like this.
        return "-.html".to_owned();
    }
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let plain = site.bytes().all(safe) && !site.starts_with(['.', '-']);
    if plain && site.len() <= BYTES_MAX {
        return format!("{site}.html");
    }
    let kept: String = site
        .bytes()
        .filter(|byte| safe(*byte))
        .take(BYTES_MAX / 2)
        .map(char::from)
        .collect();
    let hash = Sha256::digest(site);
    let hex: String = hash[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    // A tilde is in no host name.
    format!("{}~{hex}.html", kept.trim_start_matches(['.', '-']))
}

/// JSON that no parser of HTML takes for anything but text, and no script for a line's end.
fn append_escaped(json: &[u8], out: &mut Vec<u8>) {
    let mut rest = json;
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'<' | 0xe2)) {
        out.extend_from_slice(&rest[..at]);
        let (escaped, len) = match &rest[at..] {
            [b'<', ..] => ("\\u003c", 1),
            [0xe2, 0x80, 0xa8, ..] => ("\\u2028", 3),
            [0xe2, 0x80, 0xa9, ..] => ("\\u2029", 3),
            _ => ("", 0),
        };
        if len == 0 {
            out.push(rest[at]);
        } else {
            out.extend_from_slice(escaped.as_bytes());
        }
        rest = &rest[at + len.max(1)..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_inside_the_data() {
        let hostile = "</script><img src=x onerror=alert(1)><!--\u{2028}\u{2029}\u{20ac}";
        let json = serde_json::to_vec(&[hostile]).unwrap();
        let page = String::from_utf8(page("00", &json)).unwrap();
        assert_eq!(page.matches("<img").count(), 0);
        assert_eq!(page.matches("</script>").count(), 2);
        assert!(!page.contains(['\u{2028}', '\u{2029}']));
        let (_, rest) = page.split_once("id=\"data\">").unwrap();
        let (data, _) = rest.split_once("</script>").unwrap();
        let back: Vec<String> = serde_json::from_str(data).unwrap();
        assert_eq!(back, [hostile]);
    }

    #[test]
    fn a_page_tells_what_it_shows() {
        let page = page("0123abc", b"{}");
        assert_eq!(about(&page), Some("0123abc"));
        assert_eq!(about(&page[..10]), None);
        assert_eq!(about(b"<!doctype html>\n<html>"), None);
    }

    #[test]
    fn the_template_is_small_and_asks_for_nothing() {
        let page = String::from_utf8(page("", b"")).unwrap();
        assert!(page.len() < 500_000, "{}", page.len());
        let own = page.replace("https://github.com/leeoniya/uPlot", "");
        let own = own.replace("http://www.w3.org/2000/svg", "");
        assert!(!own.contains("http:") && !own.contains("https:") && !own.contains("unsafe"));
        // Each would end a block early, or be a second way for text to become markup.
        assert!(!STYLE.contains("</") && !SCRIPT.contains("</script") && !SCRIPT.contains("<!--"));
        for way in [
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
        ] {
            let ours = SCRIPT.split_once("(() => {\n'use strict';\n").unwrap().1;
            assert!(!ours.contains(way), "{way}");
        }
    }

    #[test]
    fn file_names_are_safe_and_never_the_same() {
        assert_eq!(file_name("shop.example"), "shop.example.html");
        assert_eq!(file_name(""), "-.html");
        let long = vec!["a".repeat(60); 4].join(".");
        let hostile = [
            "../../x", "a/b", ".", "..", "a\0b", "-rf", &long, "a b", "\u{e9}", "a~b",
        ];
        let names: std::collections::BTreeSet<String> =
            hostile.iter().map(|site| file_name(site)).collect();
        assert_eq!(names.len(), hostile.len());
        for name in names {
            assert!(name.len() < 255 && name.contains('~'), "{name}");
            assert!(
                !name.contains(['/', '\0', ' ']) && !name.starts_with(['.', '-']),
                "{name}"
            );
        }
    }

    #[test]
    fn the_vendored_files_are_those_of_the_package() {
        let readme = include_str!("../../vendor/uplot/README.md");
        for file in [
            include_str!("../../vendor/uplot/uPlot.iife.min.js"),
            include_str!("../../vendor/uplot/uPlot.min.css"),
        ] {
            let hash = Sha256::digest(file);
            let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(readme.contains(&hex), "{hex}");
        }
    }
}
