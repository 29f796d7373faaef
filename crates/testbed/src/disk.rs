//! A disk that can be filled: a small tmpfs, mounted for the run. Needs to be root; who is not does
//! without, and says so.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail};

const FILLER: &str = "filler";

/// Mounted until dropped, or until this process ends in whatever way. What lies in it when it is
/// dropped is copied beside it.
#[derive(Debug)]
pub struct SmallDisk {
    dir: PathBuf,
    /// Waits for the end of its input, which is this process's or this value's, and unmounts.
    guard: Child,
}

impl SmallDisk {
    /// `None` where this process may not mount.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn mount(dir: &Path, bytes: u64) -> Result<Option<Self>> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=755")])
            .arg("sluice-chaos")
            .arg(dir)
            .stderr(Stdio::null())
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            return Ok(None);
        }
        let guard = match guard(dir) {
            Ok(guard) => guard,
            Err(error) => {
                unmount(dir).status()?;
                return Err(error);
            }
        };
        Ok(Some(Self {
            dir: dir.to_owned(),
            guard,
        }))
    }

    /// Takes all space but `room_bytes`.
    ///
    /// # Errors
    /// When the file system does not say what is free.
    pub fn fill(&self, room_bytes: u64) -> Result<()> {
        let state = rustix::fs::statvfs(&self.dir)?;
        let free = state.f_bavail * state.f_frsize;
        let mut filler = File::options()
            .create(true)
            .append(true)
            .open(self.dir.join(FILLER))?;
        let zeros = vec![0; usize::try_from(free.saturating_sub(room_bytes))?];
        // Others write, too: full is what was wanted.
        let _ = filler.write_all(&zeros);
        Ok(())
    }

    /// Gives the space back.
    ///
    /// # Errors
    /// When the file system does not.
    pub fn free(&self) -> Result<()> {
        let filler = self.dir.join(FILLER);
        if filler.exists() {
            fs::remove_file(filler)?;
        }
        Ok(())
    }

    /// The files for a person to look at, which the mount's end would take away.
    fn keep(&self) -> Result<()> {
        self.free()?;
        let kept = self.dir.with_extension("kept");
        let status = Command::new("cp")
            .arg("-r")
            .arg(&self.dir)
            .arg(kept)
            .status()?;
        if !status.success() {
            bail!("cp ended with {status}");
        }
        Ok(())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = self.keep() {
            eprintln!("what is in {} is lost: {error:#}", self.dir.display());
        }
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// Of its own group: a Ctrl-C is not for it.
fn guard(dir: &Path) -> Result<Child> {
    let unmount = unmount(dir);
    let mut guard = Command::new("sh");
    guard.args(["-c", "cat > /dev/null; exec \"$@\"", "guard"]);
    guard.arg(unmount.get_program()).args(unmount.get_args());
    let child = guard.stdin(Stdio::piped()).process_group(0).spawn();
    child.context("no guard for the small disk")
}

/// Lazily: whoever still has a file open does not keep the mount.
fn unmount(dir: &Path) -> Command {
    let mut command = Command::new("umount");
    command.arg("-l").arg(dir);
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{process::poll_until, skip};

    #[test]
    fn a_mount_ends_with_whoever_mounted_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let Some(mut disk) = SmallDisk::mount(&dir.path().join("small"), 1 << 20).expect("made")
        else {
            skip::optional("a small disk", "this process may not mount");
            return;
        };
        let name = disk.dir.display().to_string();
        let mounted = || {
            let mounts = fs::read_to_string("/proc/self/mounts").expect("there");
            mounts.contains(&name)
        };
        assert!(mounted());
        // As when this process is killed: no drop, only the pipe's end.
        drop(disk.guard.stdin.take());
        let gone = poll_until(std::time::Duration::from_secs(20), || {
            Ok((!mounted()).then_some(()))
        });
        assert!(gone.expect("asked").is_some(), "{name} is still mounted");
    }
}
