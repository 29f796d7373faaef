//! Reads what is kept, also beside a gateway that writes; changes nothing.

use std::{io, path::Path};

use pipeline_core::{dlq::read_frames, record::timestamp};

use super::{
    entry::Line,
    files::{KIND, paths},
};

/// Each part that is there must match; without any, every line does.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// First receipt, ms since 1970: from here on.
    pub from_ms: Option<i64>,
    /// First receipt: before this.
    pub to_ms: Option<i64>,
    pub site: Option<String>,
    pub client: Option<String>,
    pub code: Option<String>,
}

impl Filter {
    #[must_use]
    pub fn wants(&self, line: &Line<'_>) -> bool {
        let time = || timestamp::parse(line.time.as_bytes()).map(|time| time.to_ms());
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == found)
        };
        // Host names differ in no more than their case.
        let of_site = |wanted: &String| {
            let site = line.site.as_deref();
            site.is_some_and(|site| site.eq_ignore_ascii_case(wanted))
        };
        is(&self.client, &line.client)
            && is(&self.code, &line.code)
            && self.site.as_ref().is_none_or(of_site)
            && self
                .from_ms
                .is_none_or(|from| time().is_ok_and(|ms| ms >= from))
            && self.to_ms.is_none_or(|to| time().is_ok_and(|ms| ms < to))
    }
}

/// Visits every line that is wanted and whole, oldest first, with its text; gives what is damaged,
/// a line for each place.
///
/// # Errors
/// Where the directory cannot be read.
pub fn read(
    dir: &Path,
    filter: &Filter,
    visit: &mut dyn FnMut(&Line<'_>, &str) -> io::Result<()>,
) -> io::Result<Vec<String>> {
    let mut damage = Vec::new();
    let mut visited = Ok(());
    // One that is not there is an error, not an empty one.
    std::fs::metadata(dir)?;
    for path in paths(dir)?.values() {
        let read = read_frames(path, KIND, &mut |at, payload| {
            for text in payload
                .split(|byte| *byte == b'\n')
                .filter(|text| !text.is_empty())
            {
                let text = std::str::from_utf8(text).ok();
                let line = text.and_then(|text| serde_json::from_str(text).ok());
                let Some((text, line)) = text.zip(line) else {
                    damage.push(format!("{}: no line at byte {at}", path.display()));
                    continue;
                };
                if visited.is_ok() && filter.wants(&line) {
                    visited = visit(&line, text);
                }
            }
        });
        std::mem::replace(&mut visited, Ok(()))?;
        match read {
            Ok(report) => {
                // What is torn is being written, or was when its gateway was killed.
                let ranges = report.damage().iter();
                damage.extend(ranges.map(|at| format!("{}: bytes {at:?}", path.display())));
            }
            // It was the oldest, and has left.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => damage.push(format!("{}: {error}", path.display())),
        }
    }
    Ok(damage)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line<'_> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn each_part_that_is_there_must_match() {
        let line = line(
            r#"{"time":"1970-01-01T00:00:01.000Z","client":"c","site":"a.example","contentType":"text/csv","code":"missing","message":"m"}"#,
        );
        let ok = Filter {
            from_ms: Some(1000),
            to_ms: Some(1001),
            site: Some("A.example".to_owned()),
            client: Some("c".to_owned()),
            code: Some("missing".to_owned()),
        };
        assert!(Filter::default().wants(&line) && ok.wants(&line));
        let other = || Some("other".to_owned());
        let unwanted = [
            Filter {
                from_ms: Some(1001),
                ..ok.clone()
            },
            Filter {
                to_ms: Some(1000),
                ..ok.clone()
            },
            Filter {
                site: other(),
                ..ok.clone()
            },
            Filter {
                client: other(),
                ..ok.clone()
            },
            Filter {
                code: other(),
                ..ok
            },
        ];
        for filter in unwanted {
            assert!(!filter.wants(&line), "{filter:?}");
        }
    }
}
