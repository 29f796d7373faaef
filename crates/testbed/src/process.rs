//! The built binaries as processes: found, started with their output in a file, signalled,
//! waited for with a deadline, and never left behind.

mod bins;
mod proc;

use std::{
    fs::{self, OpenOptions},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio, id},
    sync::{
        OnceLock,
        atomic::{AtomicU16, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
pub use rustix::process::Signal;

use self::proc::stat_of;
pub use self::{
    bins::{Bins, Profile, ToBeKilled, forget_package},
    proc::{cpu_of, signal_pid},
};

/// A child process whose output goes to a file. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Memory {
    /// Resident now.
    pub resident_bytes: u64,
    /// The most that was resident since its start.
    pub peak_bytes: u64,
}

impl Process {
    /// Starts it; stdout and stderr are appended to `log`.
    ///
    /// # Errors
    /// When the log cannot be opened or the program cannot be started.
    pub fn spawn(command: Command, name: &str, log: &Path) -> Result<Self> {
        let out = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot open {}", log.display()))?;
        let child = tied(&command)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
            ended: None,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The end of its output, for error messages.
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }

    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        signal_pid(self.id(), signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// kill -9, and waits until it is gone.
    ///
    /// # Errors
    /// When it had ended by itself before: then something else is wrong.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(status) = self.ended()? {
            bail!(
                "{} had ended by itself: {status}\n{}",
                self.name,
                self.log_tail(20)
            );
        }
        self.child.kill()?;
        self.ended = Some(self.child.wait()?);
        Ok(())
    }

    /// SIGSTOP: nothing of it runs until [`Process::thaw`].
    ///
    /// # Errors
    /// When the process is gone.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Whether it is stopped, by whomever.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn is_frozen(&self) -> Result<bool> {
        Ok(stat_of(self.id())?.starts_with('T'))
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// SIGTERM.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it still runs after `within`.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let ended = poll_until(within, || self.ended())?;
        ended.with_context(|| {
            format!(
                "{} still runs after {within:?}\n{}",
                self.name,
                self.log_tail(20)
            )
        })
    }

    /// User and system CPU time so far, of all its threads.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn cpu(&self) -> Result<Duration> {
        cpu_of(self.id())
    }

    /// [`Memory::peak_bytes`] begins anew at what is resident now.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn forget_peak(&self) -> Result<()> {
        // 5: the peak of what is resident, proc_pid_clear_refs(5).
        fs::write(format!("/proc/{}/clear_refs", self.id()), "5")
            .with_context(|| format!("{} is gone", self.name))
    }

    /// # Errors
    /// When the process is gone.
    pub fn memory(&self) -> Result<Memory> {
        let pid = self.id();
        let status = fs::read_to_string(format!("/proc/{pid}/status"))
            .with_context(|| format!("{} is gone", self.name))?;
        // In KiB, proc(5); a process that has ended and was not waited for has none.
        let bytes = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|rest| rest.split_whitespace().next());
            let number = number.with_context(|| format!("{} has no {name}", self.name))?;
            Ok(number.parse::<u64>()? * 1024)
        };
        Ok(Memory {
            resident_bytes: bytes("VmRSS:")?,
            peak_bytes: bytes("VmHWM:")?,
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Errors mean that it is gone already.
        if !matches!(self.ended(), Ok(Some(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The same command, to be killed by the kernel when the thread that starts it ends: a test or a
/// campaign that is itself killed with -9 leaves nothing behind. `setpriv` (util-linux) sets that
/// and becomes the program, under the same id; without it, only a drop ends the child.
pub fn tied(command: &Command) -> Command {
    static SETPRIV: OnceLock<bool> = OnceLock::new();
    let has_setpriv = *SETPRIV.get_or_init(|| {
        let asked = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "true"])
            .stderr(Stdio::null())
            .status();
        asked.is_ok_and(|status| status.success())
    });
    let mut tied = if has_setpriv {
        let mut tied = Command::new("setpriv");
        tied.args(["--pdeathsig", "KILL", "--"])
            .arg(command.get_program());
        tied
    } else {
        Command::new(command.get_program())
    };
    tied.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => tied.env(name, value),
            None => tied.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        tied.current_dir(dir);
    }
    tied
}

/// A loopback port that nothing listens on now, and that no other call here has had.
///
/// From below the ephemeral range, so that no outgoing connection takes it in between.
///
/// # Panics
/// When every port is taken.
pub fn free_port() -> u16 {
    free_ports(1)
}

/// The first of `count` such ports in a row.
///
/// # Panics
/// When there are none.
pub fn free_ports(count: u16) -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes side by side begin at different places.
    let start = (id().wrapping_mul(2_654_435_761) >> 16) as u16;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(count, Ordering::Relaxed);
        let port = FIRST + start.wrapping_add(step) % COUNT;
        let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if (port..port + count).all(free) {
            return port;
        }
    }
    panic!("no free port on loopback");
}

/// Asks again until there is an answer or the time is over.
///
/// # Errors
/// What asking gives.
pub fn poll_until<T>(
    within: Duration,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<Option<T>> {
    let deadline = Instant::now() + within;
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(found) = ask()? {
            return Ok(Some(found));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// The last lines of a text file; empty when there is none.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> (tempfile::TempDir, Process) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let process = Process::spawn(command, "sh", &dir.path().join("log")).expect("sh starts");
        (dir, process)
    }

    #[test]
    fn a_process_is_waited_for_and_its_output_kept() {
        let (_dir, mut process) = shell("echo one; echo two >&2; exit 7");
        let status = process.wait(Duration::from_secs(20)).expect("it ends");
        assert_eq!(status.code(), Some(7));
        assert_eq!(process.log_tail(1), "two");
        assert!(
            process.kill().is_err(),
            "a kill of what ended by itself is an error"
        );
    }

    #[test]
    fn a_drop_leaves_nothing_behind() {
        let (_dir, process) = shell("exec sleep 1000");
        let pid = process.id();
        drop(process);
        assert!(cpu_of(pid).is_err(), "process {pid} is still there");
    }

    #[test]
    fn a_process_ends_with_the_thread_that_started_it() {
        let starts = || {
            let (dir, process) = shell("echo up; exec sleep 1000");
            // Before that it is not tied yet.
            let up = poll_until(Duration::from_secs(20), || {
                Ok((process.log_tail(1) == "up").then_some(()))
            });
            assert!(up.expect("asked").is_some(), "sh does not start");
            (dir, process)
        };
        let (_dir, process) = std::thread::spawn(starts).join().expect("no panic");
        let pid = process.id();
        // No drop: as when this program is killed.
        std::mem::forget(process);
        let gone = poll_until(Duration::from_secs(20), || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let dead = stat
                .rsplit_once(')')
                .is_none_or(|(_, rest)| rest.starts_with(" Z"));
            Ok(dead.then_some(()))
        });
        assert!(gone.expect("asked").is_some(), "process {pid} lives on");
    }

    #[test]
    fn ports_are_handed_out_once() {
        let mut ports: Vec<u16> = (0..50).map(|_| free_port()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 50);
    }
}
