//! Every page's `cargo xtask …` is one that there is, with its options.

use clap::{CommandFactory, error::ErrorKind};
use testbed::documents::{calls, is_stand_in, pages};

use crate::Cli;

const PROGRAM: &str = "cargo xtask";

#[test]
fn every_command_that_a_page_names_is_there_with_its_options() {
    let (mut seen, mut wrong) = (0, Vec::new());
    for (name, page) in pages().unwrap() {
        for mut words in calls(&page, PROGRAM) {
            seen += 1;
            let line = words.join(" ");
            words.insert(0, PROGRAM.to_owned());
            // With this at its end a line is read and nothing more.
            words.push("--help".to_owned());
            let error = Cli::command().try_get_matches_from(words).unwrap_err();
            let is_there = match error.kind() {
                ErrorKind::DisplayHelp => true,
                ErrorKind::ValueValidation => is_stand_in(&error.to_string()),
                _ => false,
            };
            if !is_there {
                wrong.push(format!("{name}: {PROGRAM} {line}: {error}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 30, "{seen} commands");
}
