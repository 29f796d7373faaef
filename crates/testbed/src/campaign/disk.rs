//! A disk for the dead letters that can be filled: a small tmpfs, mounted for the run. Needs to be
//! root; who is not bounds the queue in bytes instead.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

const BYTES: u64 = 48 << 20;
const FILLER: &str = "filler";

/// Mounted until dropped. What lies in it then is copied beside it.
#[derive(Debug)]
pub struct SmallDisk {
    dir: PathBuf,
}

impl SmallDisk {
    /// `None` where this process may not mount.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn mount(dir: &Path) -> Result<Option<Self>> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={BYTES},mode=755")])
            .arg("sluice-chaos")
            .arg(dir)
            .stderr(Stdio::null())
            .status();
        let done = mounted.is_ok_and(|status| status.success());
        Ok(done.then(|| Self {
            dir: dir.to_owned(),
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
        // The gateway writes, too: full is what was wanted.
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
        // Lazily: whoever still has a file open does not keep the mount.
        let _ = Command::new("umount").arg("-l").arg(&self.dir).status();
    }
}
