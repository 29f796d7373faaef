//! What a look at Kafka has found, and how a process ends by it. Pure.

use std::fmt;

use pipeline_core::lifecycle::exit;

use crate::{KafkaError, error::ErrorKind};

/// What was found, in order; displayed one finding a line.
#[derive(Debug, Default)]
pub struct Report {
    findings: Vec<(Grade, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Grade {
    Good,
    /// It works, but less well than it should.
    Weak,
    /// Later it may work.
    Away,
    /// Somebody has to change something.
    Missing,
}

impl Report {
    /// 0, or what is to be done about the worst: 75 try again, 78 change something.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.findings.iter().map(|(grade, _)| *grade).max() {
            Some(Grade::Missing) => exit::CONFIG,
            Some(Grade::Away) => exit::TRY_LATER,
            Some(Grade::Good | Grade::Weak) | None => exit::OK,
        }
    }

    pub(super) fn note(&mut self, grade: Grade, what: impl Into<String>) {
        self.findings.push((grade, what.into()));
    }

    /// The error says of what it is, and who said it.
    pub(super) fn failed(&mut self, error: &KafkaError) {
        let grade = match error.kind {
            ErrorKind::Auth | ErrorKind::Fatal => Grade::Missing,
            _ => Grade::Away,
        };
        self.note(grade, error.to_string());
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (grade, what) in &self.findings {
            let grade = match grade {
                Grade::Good => "ok",
                Grade::Weak => "weak",
                Grade::Away => "away",
                Grade::Missing => "missing",
            };
            writeln!(f, "{grade:<8} {what}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_decides_how_it_ends() {
        let mut report = Report::default();
        assert_eq!(report.exit_code(), exit::OK);
        for (grade, code) in [
            (Grade::Good, exit::OK),
            (Grade::Weak, exit::OK),
            (Grade::Away, exit::TRY_LATER),
            (Grade::Missing, exit::CONFIG),
            (Grade::Away, exit::CONFIG),
        ] {
            report.note(grade, "it");
            assert_eq!(report.exit_code(), code);
        }
        let lines = "ok       it\nweak     it\naway     it\nmissing  it\naway     it\n";
        assert_eq!(report.to_string(), lines);
    }
}
