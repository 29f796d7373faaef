//! Tests that mount something run again as a process in a mount namespace of its own, where a user
//! may mount and nothing is left behind.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

const INSIDE: &str = "SLUICE_TEST_NAMESPACE";

/// Whether the caller, the test of this name, is inside. Where it is not, it has been run there
/// now and has come through, or was skipped because this system does not let it.
pub fn entered(test: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount"]);
        command
    };
    let mount = ["sh", "-c", "mount -t tmpfs none /mnt && exec 3<>/dev/fuse"];
    let tried = unshare().args(mount).stderr(Stdio::piped()).output();
    match tried {
        Ok(tried) if tried.status.success() => {}
        Ok(tried) => {
            testbed::skip::skipped(test, String::from_utf8_lossy(&tried.stderr).trim());
            return false;
        }
        Err(error) => {
            testbed::skip::skipped(test, &format!("unshare: {error}"));
            return false;
        }
    }
    let mut again = unshare();
    again
        .arg(env::current_exe().expect("this test"))
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1");
    let status = testbed::process::tied(&again).status().expect("started");
    assert!(status.success(), "inside: {status}");
    false
}

/// An empty file system in memory.
pub struct MemoryMount(PathBuf);

impl MemoryMount {
    pub fn at(path: &Path, bytes: u64) -> Self {
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "none"])
            .arg(path)
            .status();
        assert!(status.expect("mount").success(), "a tmpfs");
        Self(path.to_owned())
    }
}

impl Drop for MemoryMount {
    fn drop(&mut self) {
        unmount(&self.0);
    }
}

/// A file system of which no call comes back before this is dropped; then they fail, and what was
/// there before is there again.
pub struct HungMount {
    at: PathBuf,
    holder: Child,
}

impl HungMount {
    /// Nobody serves this FUSE mount.
    pub fn over(at: &Path) -> Self {
        const SCRIPT: &str = "exec 3<>/dev/fuse && \
            mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 hung \"$1\" && \
            echo up && exec sleep 600";
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "sh"]).arg(at);
        let mut holder = testbed::process::tied(&command)
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let mut said = [0; 3];
        let out = holder.stdout.as_mut().expect("piped");
        std::io::Read::read_exact(out, &mut said).expect("mounted");
        assert_eq!(&said, b"up\n");
        Self {
            at: at.to_owned(),
            holder,
        }
    }
}

impl Drop for HungMount {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        unmount(&self.at);
    }
}

/// Best effort: the namespace ends with the test.
fn unmount(path: &Path) {
    let _ = Command::new("umount").arg("-l").arg(path).status();
}
