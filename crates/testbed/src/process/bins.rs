//! The product's binaries: built at most once a process, and found.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context, Result, bail};

const WRITER: &str = "kafka-consumer-writer";
const AGGREGATOR: &str = "aggregator";
const REMOVER: &str = "remover";

/// How the binaries are built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    Dev,
    Release,
}

/// Where the built binaries are.
#[derive(Clone, Debug)]
pub struct Bins {
    dir: PathBuf,
}

/// Binaries whose every step a campaign can reach.
#[derive(Clone, Debug)]
pub struct ToBeKilled {
    pub writer: PathBuf,
    /// Removes what may be removed of the chains, once.
    pub remover: PathBuf,
}

impl Bins {
    /// The product's binaries of a profile, built if they are not up to date. At most one build a
    /// process and profile, however many tests ask.
    ///
    /// # Errors
    /// When cargo cannot be started or the build fails; its last words are in the error.
    pub fn built(profile: Profile) -> Result<Self> {
        static DEV: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        static RELEASE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let once = match profile {
            Profile::Dev => &DEV,
            Profile::Release => &RELEASE,
        };
        match once.get_or_init(|| build(profile).map_err(|error| format!("{error:#}"))) {
            Ok(dir) => Ok(Self { dir: dir.clone() }),
            Err(error) => bail!("{error}"),
        }
    }

    /// What can be told to end at any of its steps: no products, and not where those are.
    ///
    /// # Errors
    /// As [`Bins::built`].
    pub fn to_be_killed(profile: Profile) -> Result<ToBeKilled> {
        build_to_be_killed(profile)
    }

    /// The aggregator, likewise.
    ///
    /// # Errors
    /// As [`Bins::built`].
    pub fn aggregator_to_be_killed(profile: Profile) -> Result<PathBuf> {
        let name = "to_be_killed";
        cargo_build(profile, &["--package", AGGREGATOR, "--example", name])?;
        Ok(built_dir(profile)?.join("examples").join(name))
    }

    /// A binary by its name.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// Cargo tells each program that it runs of which package that is. A cargo below it must not hear
/// that: it would build anew whatever looks at it (ring does), each time it is started otherwise.
pub fn forget_package(cargo: &mut Command) {
    for (name, _) in env::vars_os() {
        let shown = name.to_string_lossy();
        if shown.starts_with("CARGO_PKG_") || shown.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(name);
        }
    }
}

/// The workspace, for builds: where this crate was compiled.
fn workspace() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .nth(2)
        .map(Path::to_path_buf)
        .context("the crate is not under crates/")
}

fn build(profile: Profile) -> Result<PathBuf> {
    const BINARIES: [&str; 4] = ["ingest-gateway", WRITER, AGGREGATOR, "dev-broker"];
    let mut words = vec!["--bins"];
    for name in BINARIES {
        words.extend(["--package", name]);
    }
    cargo_build(profile, &words)?;
    let dir = built_dir(profile)?;
    for name in BINARIES {
        let path = dir.join(name);
        File::open(&path).with_context(|| format!("no binary at {}", path.display()))?;
    }
    Ok(dir)
}

/// Into the same directory as the product's, so that all but three crates are there already; then
/// out of its way, as the next ordinary build puts its own writer there.
fn build_to_be_killed(profile: Profile) -> Result<ToBeKilled> {
    let product = ["--bins", "--package", WRITER];
    let faulty = ["--features", "kafka-consumer-writer/fault-injection"];
    cargo_build(profile, &[product.as_slice(), &faulty].concat())?;
    let dir = built_dir(profile)?;
    let writer = dir.join(format!("{WRITER}-to-be-killed"));
    let built = dir.join(WRITER);
    // A new file: another process may run the old one.
    let _ = fs::remove_file(&writer);
    fs::copy(&built, &writer).with_context(|| format!("cannot copy {}", built.display()))?;
    // The product's own, again.
    cargo_build(profile, &product)?;
    // What only tests depend on, examples have by themselves.
    cargo_build(profile, &["--package", WRITER, "--example", REMOVER])?;
    let remover = dir.join("examples").join(REMOVER);
    Ok(ToBeKilled { writer, remover })
}

fn cargo_build(profile: Profile, words: &[&str]) -> Result<()> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(workspace()?)
        .args(["build", "--quiet"])
        .args(words);
    if profile == Profile::Release {
        command.arg("--release");
    }
    forget_package(&mut command);
    let output = command.output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!(
            "the services do not build:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

fn built_dir(profile: Profile) -> Result<PathBuf> {
    Ok(target_dir()?.join(match profile {
        Profile::Dev => "debug",
        Profile::Release => "release",
    }))
}

/// `target/` as cargo uses it here: two above the running program, one more for a test.
fn target_dir() -> Result<PathBuf> {
    let exe = env::current_exe()?;
    let mut dir = exe.parent().context("the program has no directory")?;
    if dir
        .file_name()
        .is_some_and(|name| name == "deps" || name == "examples")
    {
        dir = dir.parent().context("deps/ has no parent")?;
    }
    dir.parent()
        .map(Path::to_path_buf)
        .context("the program is not in a target directory")
}
