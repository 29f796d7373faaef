//! Running other programs: each step is shown before it runs and named when it fails.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use testbed::kafka::Access;

/// The workspace's root, whatever the working directory.
pub fn root() -> PathBuf {
    // Cargo sets it for `cargo run`; the path at compile time is right for everything else.
    let manifest =
        env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let manifest = PathBuf::from(manifest);
    manifest
        .parent()
        .map_or_else(|| manifest.clone(), Path::to_path_buf)
}

/// A cargo command in the workspace.
pub fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    // Set for xtask itself; a cargo below it would build anew whatever looks at them.
    testbed::process::forget_package(&mut command);
    command
}

/// The release of the aggregator and examples of it. Apart: an example is built with what tests
/// need (`fault-injection`), and in one command the program would be, too.
pub fn build_aggregator(examples: &[&str]) -> Result<()> {
    for what in [examples, &["--bins"]] {
        let package = [
            "build",
            "--release",
            "--quiet",
            "--locked",
            "--package",
            "aggregator",
        ];
        step(of_this_commit(cargo(&package).args(what)))?;
    }
    Ok(())
}

/// Builds the services and the embedded broker. These alone: a build of the whole workspace
/// would put another xtask in the place of the running one.
pub fn build_services(release: bool) -> Result<Duration> {
    let mut command = cargo(&["build", "--bins", "--locked"]);
    for name in [
        "ingest-gateway",
        "kafka-consumer-writer",
        "aggregator",
        "dev-broker",
    ] {
        command.args(["--package", name]);
    }
    if release {
        of_this_commit(command.arg("--release"));
    }
    step(&mut command)
}

/// CI's releases say of which commit they are. Nobody else's: each commit would build them anew.
fn of_this_commit(command: &mut Command) -> &mut Command {
    let told = env::var_os("SLUICE_COMMIT").is_some();
    let git = || {
        let mut git = Command::new("git");
        let asked = git.args(["rev-parse", "HEAD"]).current_dir(root()).output();
        let output = asked.ok().filter(|it| it.status.success())?;
        String::from_utf8(output.stdout).ok()
    };
    if let Some(commit) = (strict() && !told).then(git).flatten() {
        command.env("SLUICE_COMMIT", commit.trim());
    }
    command
}

/// Shows the command, runs it, and fails with its words and exit status.
pub fn step(command: &mut Command) -> Result<Duration> {
    let shown = words(command);
    println!("\n▸ {shown}");
    let start = Instant::now();
    let status = command
        .status()
        .with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(start.elapsed())
}

/// Whether a program is on the `PATH`.
pub fn has(program: &str) -> bool {
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

/// Fails with advice when nothing answers there as Kafka does.
pub fn require_broker(address: &str) -> Result<()> {
    require_broker_by(address, None)
}

/// The same, with what its clients need besides.
pub fn require_broker_by(address: &str, access: Option<&Access>) -> Result<()> {
    testbed::kafka::answers(address, access).with_context(|| {
        format!("no Kafka answers on {address} (`cargo xtask kafka up` starts one)")
    })
}

/// Under CI a thing that cannot run is a failure, not a note.
pub fn strict() -> bool {
    env::var("CI").is_ok_and(|ci| ci == "true" || ci == "1")
}

fn words(command: &Command) -> String {
    let mut shown = Vec::new();
    for (name, value) in command.get_envs() {
        let name = name.to_string_lossy();
        if let Some(value) = value
            && name.starts_with("SLUICE_")
        {
            shown.push(format!("{name}={}", value.to_string_lossy()));
        }
    }
    let program = Path::new(command.get_program());
    shown.push(
        program
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
    );
    shown.extend(
        command
            .get_args()
            .map(|arg| arg.to_string_lossy().into_owned()),
    );
    shown.join(" ")
}
