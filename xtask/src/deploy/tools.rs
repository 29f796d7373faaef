//! Programs that are asked: found, run, and named where they are missing.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell::has;

#[derive(Default)]
pub struct Tools(Vec<String>);

impl Tools {
    /// Whether the program is there; where not, that `what` is not checked is noted.
    pub fn have(&mut self, program: &str, what: &str) -> bool {
        let there = has(program);
        if !there {
            self.0.push(format!("{what}: {program} is not installed"));
        }
        there
    }

    pub fn missing(&self) -> &[String] {
        &self.0
    }
}

/// Runs it to its end; gives what it printed (stdout) and what it said (stderr).
pub fn run(command: &mut Command) -> Result<(String, String)> {
    let (code, out, err) = ended(command)?;
    if code != Some(0) {
        bail!("{} ended with {code:?}\n{out}{err}", shown(command));
    }
    Ok((out, err))
}

/// As [`run`], whatever its exit code, which comes first.
pub fn ended(command: &mut Command) -> Result<(Option<i32>, String, String)> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    Ok((output.status.code(), out, err))
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}
