//! Names of the queue's files: which are there, and to which data file they belong.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use pipeline_core::fsx;

const DATA_SUFFIX: &str = ".pdlq";
/// The two copies of a marks file.
const MARKS_SUFFIXES: [&str; 2] = [".pdlm", ".pdlm2"];
const DIGITS: usize = 20;

/// A data file, and the marks that speak of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DataFile {
    pub number: u64,
    /// Numbers of its marks, in order, each once.
    pub marks: Vec<u64>,
}

/// What is in a directory, by one look at it: however many files there are, nobody has to look
/// again for each.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Listing {
    /// Oldest first.
    pub files: Vec<DataFile>,
    /// Marks of data files that are not there.
    pub widowed: Vec<DataFile>,
}

impl Listing {
    /// # Errors
    /// Where the directory cannot be listed.
    pub fn read(dir: &Path) -> io::Result<Self> {
        let names = fsx::list_dir(dir)?;
        Ok(Self::of(names.iter().map(String::as_str)))
    }

    fn of<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        // Whether the data is there, and its marks.
        let mut files = BTreeMap::<u64, (bool, Vec<u64>)>::new();
        for name in names {
            if let Some(number) = name.strip_suffix(DATA_SUFFIX).and_then(parse_number) {
                files.entry(number).or_default().0 = true;
            } else if let Some((number, marks)) = parse_marks(name) {
                files.entry(number).or_default().1.push(marks);
            }
        }
        let mut listing = Self::default();
        for (number, (there, mut marks)) in files {
            marks.sort_unstable();
            // Both copies.
            marks.dedup();
            let of = if there {
                &mut listing.files
            } else {
                &mut listing.widowed
            };
            of.push(DataFile { number, marks });
        }
        listing
    }
}

impl DataFile {
    #[must_use]
    pub fn path(&self, dir: &Path) -> PathBuf {
        data_path(dir, self.number)
    }

    /// Paths of all copies of its marks.
    pub fn marks_paths(&self, dir: &Path) -> impl Iterator<Item = PathBuf> {
        let pairs = self.marks.iter();
        pairs.flat_map(move |marks| marks_paths(dir, self.number, *marks))
    }
}

#[must_use]
pub fn data_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(data_name(number))
}

#[must_use]
pub fn data_name(number: u64) -> String {
    format!("{number:0DIGITS$}{DATA_SUFFIX}")
}

/// Paths of both copies of one marks file.
#[must_use]
pub fn marks_paths(dir: &Path, number: u64, marks: u64) -> [PathBuf; 2] {
    MARKS_SUFFIXES.map(|suffix| dir.join(format!("{number:0DIGITS$}-{marks:0DIGITS$}{suffix}")))
}

/// Numbers of the data file and of the marks.
fn parse_marks(name: &str) -> Option<(u64, u64)> {
    let mut suffixes = MARKS_SUFFIXES.iter();
    let stem = suffixes.find_map(|suffix| name.strip_suffix(suffix))?;
    let (data, marks) = stem.split_once('-')?;
    Some((parse_number(data)?, parse_number(marks)?))
}

fn parse_number(text: &str) -> Option<u64> {
    (text.len() == DIGITS && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_with_the_data_that_they_speak_of() {
        let dir = Path::new("");
        let text = |path: &PathBuf| path.to_str().unwrap().to_owned();
        let mut names = vec![data_name(9), data_name(2), data_name(3)];
        for (data, marks) in [(2, 7), (2, 5), (4, 6)] {
            names.extend(marks_paths(dir, data, marks).iter().map(text));
        }
        let others = ["LOCK", "1.pdlq", "2-5.pdlm", ".tmp-1", "damaged"];
        names.extend(others.map(str::to_owned));
        let file = |number, marks: &[u64]| DataFile {
            number,
            marks: marks.to_vec(),
        };
        let expected = Listing {
            files: vec![file(2, &[5, 7]), file(3, &[]), file(9, &[])],
            widowed: vec![file(4, &[6])],
        };
        assert_eq!(Listing::of(names.iter().map(String::as_str)), expected);
    }
}
