//! Every command line of a service that a page shows is one that there is, with its options. What
//! else pages name, pipeline-core's and xtask's own tests hold.

use std::process::Command;

use anyhow::Result;
use testbed::{
    documents::{calls, is_stand_in, pages},
    skip,
    stand::{Plan, Stand},
};

use crate::RunDir;

#[test]
fn every_command_that_a_page_names_is_there_with_its_options() -> Result<()> {
    if Plan::from_env().kafka.is_some() {
        skip::optional("the pages' commands", "they are the same on every broker");
        return Ok(());
    }
    let dir = RunDir::new("documents");
    let stand = Stand::prepare(&dir, Plan::default())?;
    let (mut seen, mut wrong) = (0, Vec::new());
    for (page, text) in pages()? {
        for program in ["ingest-gateway", "kafka-consumer-writer", "aggregator"] {
            for words in calls(&text, program) {
                seen += 1;
                // With this at its end a line is read and nothing more.
                let mut command = Command::new(stand.binary(program));
                let output = command.args(&words).arg("--help").output()?;
                let said = String::from_utf8_lossy(&output.stderr);
                if !output.status.success() && !is_stand_in(&said) {
                    wrong.push(format!("{page}: {program} {}: {said}", words.join(" ")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 100, "{seen} commands");
    dir.passed()
}
