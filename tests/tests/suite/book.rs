//! Commands of docs/runbook.md and of other pages, run as they stand there.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use testbed::{
    documents::repository,
    drill::{
        self,
        runbook::{Done, Runbook, Shell},
    },
    process::Process,
    stand::Stand,
};

/// Runs the one command of a section that begins so, on the host of the stand's services and in
/// the directory of their logs. `names`: what stands on the page, and what it is here.
pub fn run(stand: &Stand, section: &str, start: &str, names: &[(&str, String)]) -> Result<Done> {
    run_of("docs/runbook.md", stand, section, start, names)
}

/// The same of another page.
pub fn run_of(
    page: &str,
    stand: &Stand,
    section: &str,
    start: &str,
    names: &[(&str, String)],
) -> Result<Done> {
    let line = Runbook::read(&repository().join(page))?.command(section, start)?;
    shell(stand, names)?.run(&line)
}

/// Starts one that goes on.
pub fn spawn(stand: &Stand, section: &str, start: &str, log: &Path) -> Result<Process> {
    let line = page()?.command(section, start)?;
    Process::spawn(shell(stand, &[])?.command(&line)?, &line, log)
}

fn page() -> Result<Runbook> {
    Runbook::read(&repository().join("docs/runbook.md"))
}

fn shell(stand: &Stand, names: &[(&str, String)]) -> Result<Shell> {
    let bins = stand.binary("ingest-gateway");
    let config = stand.writers[0].config.display().to_string();
    let all = [("config.yaml", config)];
    let all = all.iter().chain(names);
    let pid = stand.gateways.first().and_then(|it| it.pid());
    Ok(Shell {
        dir: stand.dir.join("services"),
        bins: bins.parent().context("a directory")?.to_owned(),
        names: all
            .map(|(page, here)| ((*page).to_owned(), here.clone()))
            .collect(),
        pid: pid.unwrap_or(0),
    })
}

#[test]
fn each_command_block_of_the_runbook_is_run_by_a_test_or_the_drill() -> Result<()> {
    let mut sources = Vec::new();
    for dir in [
        "tests/tests/suite",
        "tests/tests/suite/tasks",
        "crates/testbed/src/drill",
    ] {
        for entry in fs::read_dir(repository().join(dir))? {
            let path = entry?.path();
            if path.extension().is_some_and(|it| it == "rs") {
                // What is quoted, and what is between; neither is taken for the other here.
                let text = fs::read_to_string(&path)?.replace("\\\"", "\u{1}");
                let pieces = text.split('"').map(|it| it.replace('\u{1}', "\""));
                sources.push(pieces.collect::<Vec<_>>());
            }
        }
    }
    // Its section and how it begins, with more than the program, stand in the same file.
    let runs = |section: &str, line: &str| {
        sources.iter().any(|pieces| {
            let is_start =
                |it: &String| it.split_whitespace().count() > 1 && line.starts_with(it.as_str());
            pieces.iter().any(|it| it == section) && pieces.iter().any(is_start)
        })
    };
    let page = page()?;
    let confirmed = drill::alerts();
    let (mut blocks, mut not_run) = (0, Vec::new());
    for (section, line) in page.blocks() {
        blocks += 1;
        let by_the_drill = line.confirms && confirmed.contains(section);
        if !by_the_drill && !runs(section, &line.text) {
            not_run.push((section, &line.text));
        }
    }
    ensure!(blocks > 40, "{blocks} lines");
    ensure!(not_run.is_empty(), "nobody runs {not_run:#?}");
    Ok(())
}
