//! Commands of docs/runbook.md, run as they stand there.

use std::path::Path;

use anyhow::{Context, Result};
use testbed::{
    drill::runbook::{Done, Runbook, Shell},
    stand::Stand,
};

/// Runs the one command of a section that begins so, on the host of the stand's services and in
/// the directory of their logs. `names`: what stands on the page, and what it is here.
pub fn run(stand: &Stand, section: &str, start: &str, names: &[(&str, String)]) -> Result<Done> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/runbook.md");
    let line = Runbook::read(&page)?.command(section, start)?;
    let bins = stand.binary("ingest-gateway");
    let config = stand.writers[0].config.display().to_string();
    let all = [("config.yaml", config)];
    let all = all.iter().chain(names);
    let shell = Shell {
        dir: stand.dir.join("services"),
        bins: bins.parent().context("a directory")?.to_owned(),
        names: all
            .map(|(page, here)| ((*page).to_owned(), here.clone()))
            .collect(),
        pid: 0,
    };
    shell.run(&line)
}
