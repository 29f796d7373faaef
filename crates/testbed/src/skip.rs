//! A test that cannot run here says so, and under CI that is a failure.

use std::{env, fs::OpenOptions, io::Write};

/// A program or file without which a test proves nothing: noted in the summary of
/// `cargo xtask test`; with CI=true the test fails.
///
/// # Panics
/// With CI=true, as a missing proof is a failed one there.
pub fn skipped(what: &str, why: &str) {
    note(&format!("{what}: {why}"));
    assert!(
        env::var("CI").is_err(),
        "{what} cannot run ({why}), and CI allows no gap"
    );
}

/// Something that only some machines have (a sample too large or too foreign for the repository).
pub fn optional(what: &str, why: &str) {
    note(&format!("optional {what}: {why}"));
}

fn note(line: &str) {
    eprintln!("SKIPPED {line}");
    if let Some(path) = env::var_os("SLUICE_SKIPPED")
        && let Ok(mut file) = OpenOptions::new().create(true).append(true).open(path)
    {
        // The note is for people; a test does not fail because it cannot be written.
        let _ = writeln!(file, "{line}");
    }
}
