//! The Dockerfile. It is linted and held against the built services; nothing here builds an image.

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};

use super::{SERVICES, built, tools, tools::Tools};
use crate::shell::root;

/// What `gcr.io/distroless/cc` has for programs to load.
const LIBRARIES: [&str; 5] = [
    "linux-vdso.so.1",
    "libgcc_s.so.1",
    "libm.so.6",
    "libc.so.6",
    "/lib64/ld-linux-x86-64.so.2",
];

pub fn check(tools: &mut Tools) -> Result<()> {
    let path = root().join("deploy/docker/Dockerfile");
    let text = fs::read_to_string(&path).context("deploy/docker/Dockerfile")?;
    for (service, _) in SERVICES {
        ensure!(
            text.contains(&format!("FROM base AS {service}\n"))
                && text.contains(&format!("ENTRYPOINT [\"/usr/bin/{service}\"]"))
                && text.contains(&format!("--package {service}")),
            "the Dockerfile makes no image of {service}"
        );
    }
    let minimum = fs::read_to_string(root().join("Cargo.toml"))?;
    let minimum = minimum
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = \""))
        .and_then(|rest| rest.strip_suffix('"'))
        .context("Cargo.toml names no rust-version")?;
    ensure!(
        text.contains(&format!("ARG RUST_VERSION={minimum}")),
        "the Dockerfile builds with another Rust than {minimum}"
    );
    if tools.have("hadolint", "Dockerfile") {
        tools::run(Command::new("hadolint").arg(&path))?;
        println!("images: hadolint finds nothing");
    }
    if tools.have("ldd", "libraries of the images") {
        for (service, _) in SERVICES {
            let (loads, _) = tools::run(Command::new("ldd").arg(built(service)))?;
            for line in loads.lines() {
                let library = line.split_whitespace().next().unwrap_or_default();
                let known = LIBRARIES.contains(&library) || library.starts_with("/lib/ld-linux-");
                ensure!(
                    known,
                    "{service} needs {library}, which its image does not have"
                );
            }
        }
        println!("images: the services load nothing that is not there");
    }
    Ok(())
}
