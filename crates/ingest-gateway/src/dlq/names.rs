//! Names of the queue's files: which are there, and to which data file they belong.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

const DATA_SUFFIX: &str = ".pdlq";
/// The two copies of a marks file.
const MARKS_SUFFIXES: [&str; 2] = [".pdlm", ".pdlm2"];
const DIGITS: usize = 20;

/// Numbers of the data files in `dir`, oldest first.
///
/// # Errors
/// Where the directory cannot be listed.
pub fn data_numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers: Vec<_> = names(dir)?
        .iter()
        .filter_map(|name| parse_number(name.strip_suffix(DATA_SUFFIX)?))
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Numbers (of the data file, of the marks) of the marks in `dir`, in order, each once.
///
/// # Errors
/// Where the directory cannot be listed.
pub fn marks_numbers(dir: &Path) -> io::Result<Vec<(u64, u64)>> {
    let mut numbers: Vec<_> = names(dir)?
        .iter()
        .filter_map(|name| {
            let stem = MARKS_SUFFIXES
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))?;
            let (data, marks) = stem.split_once('-')?;
            Some((parse_number(data)?, parse_number(marks)?))
        })
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
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

/// Numbers of the marks of one data file, in order.
///
/// # Errors
/// Where the directory cannot be listed.
pub fn marks_of(dir: &Path, number: u64) -> io::Result<Vec<u64>> {
    let all = marks_numbers(dir)?.into_iter();
    Ok(all
        .filter(|(data, _)| *data == number)
        .map(|(_, marks)| marks)
        .collect())
}

fn names(dir: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(dir)?
        .filter_map(|entry| match entry {
            Ok(entry) => entry.file_name().into_string().ok().map(Ok),
            Err(error) => Some(Err(error)),
        })
        .collect()
}

fn parse_number(text: &str) -> Option<u64> {
    (text.len() == DIGITS && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}
