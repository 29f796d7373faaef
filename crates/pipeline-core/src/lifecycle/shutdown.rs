//! From the first signal to the end of the process.
//!
//! A thread of its own watches signals and the deadline, so that neither depends on a runtime
//! whose workers may all be stuck in a disk that hangs.

use std::{io::Write, sync::mpsc, thread, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Readiness, exit, manager};
use crate::telemetry::catalog;

/// Longest wait for the last words on a stderr that nobody reads.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Drain on SIGTERM or SIGINT; a second signal or the deadline ends the process at once.
#[derive(Clone, Debug)]
pub struct Shutdown {
    token: CancellationToken,
    readiness: Readiness,
}

impl Shutdown {
    /// Installs the signal handlers. From the first signal (or [`Self::request`]) on `readiness`
    /// says draining, [`Self::requested`] resolves, and after `timeout` the process exits with 1.
    ///
    /// # Panics
    /// Where the process may not have another thread or handle signals.
    #[must_use]
    pub fn install(readiness: Readiness, timeout: Duration) -> Self {
        let token = CancellationToken::new();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a process that cannot watch for signals cannot start");
        // Handlers are in place when this function returns, not when the thread gets to run.
        let mut signals = {
            let _entered = runtime.enter();
            Signals::install()
        };
        let shutdown = Self { token, readiness };
        let watched = shutdown.clone();
        thread::Builder::new()
            .name("shutdown".to_owned())
            .spawn(move || {
                let why = runtime.block_on(watch(async || signals.next().await, &watched, timeout));
                end_now(&why);
            })
            .expect("a process that cannot start a thread cannot start");
        shutdown
    }

    /// For tests and commands: a shutdown that comes only by [`Self::request`].
    #[must_use]
    pub fn manual() -> Self {
        Self {
            token: CancellationToken::new(),
            readiness: Readiness::default(),
        }
    }

    /// As a first signal would.
    pub fn request(&self) {
        // Not ready before anything else notices, so that no new work is sent here.
        self.readiness.drain();
        self.token.cancel();
    }

    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn install() -> Self {
        let install = |kind| signal(kind).expect("SIGTERM and SIGINT can be handled");
        Self {
            terminate: install(SignalKind::terminate()),
            interrupt: install(SignalKind::interrupt()),
        }
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Starts the drain at the first signal or request; resolves, with the reason, when it has to end.
/// A request is no signal: the first signal behind it does not end the process yet.
async fn watch(
    mut next_signal: impl AsyncFnMut() -> &'static str,
    shutdown: &Shutdown,
    timeout: Duration,
) -> String {
    let mut signals = 0;
    let why = tokio::select! {
        name = next_signal() => {
            signals += 1;
            name
        }
        () = shutdown.requested() => "a request from within",
    };
    // First, as the process may end as soon as it is asked to.
    manager::stopping();
    shutdown.request();
    metrics::gauge!(catalog::PROCESS_DRAINING).set(1.0);
    // From a thread, as stderr may block and the deadline must not.
    let said = format!("draining after {why}, for at most {timeout:?}");
    thread::spawn(move || tracing::info!("{said}"));
    let deadline = tokio::time::sleep(timeout);
    tokio::pin!(deadline);
    loop {
        tokio::select! {
            name = next_signal() => {
                signals += 1;
                if signals > 1 {
                    return format!("ending at once: {name} while draining");
                }
            }
            () = &mut deadline => return format!("ending at once: not drained within {timeout:?}"),
        }
    }
}

fn end_now(why: &str) -> ! {
    let (said, heard) = mpsc::channel::<()>();
    let why = why.to_owned();
    thread::spawn(move || {
        // Not through tracing: this has to come out whatever the log level is.
        let _ = writeln!(std::io::stderr(), "{why}");
        drop(said);
    });
    let _ = heard.recv_timeout(LAST_WORDS);
    std::process::exit(exit::FAILED.into());
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Read},
        process::{Child, Command, Stdio},
    };

    use rustix::process::{Pid, Signal as Sig, kill_process};

    use super::*;

    const ROLE: &str = "SLUICE_TEST_SHUTDOWN";

    /// Not a claim: the process that the tests below start and send signals to.
    #[test]
    fn child() {
        let Ok(role) = std::env::var(ROLE) else {
            return;
        };
        let timeout = match role.as_str() {
            "short" => Duration::from_millis(20),
            _ => Duration::from_secs(60),
        };
        let readiness = Readiness::default();
        let shutdown = Shutdown::install(readiness.clone(), timeout);
        println!("\nup");
        if role == "request" {
            shutdown.request();
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(shutdown.requested());
        println!("\nready: {:?}", readiness.check());
        if role == "drains" {
            std::process::exit(0);
        }
        loop {
            thread::park();
        }
    }

    struct Started {
        child: Child,
        out: BufReader<std::process::ChildStdout>,
    }

    impl Started {
        fn new(role: &str) -> Self {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "lifecycle::shutdown::tests::child"])
                .args(["--nocapture", "--test-threads=1"])
                .env(ROLE, role)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let out = BufReader::new(child.stdout.take().unwrap());
            let mut started = Self { child, out };
            started.says("up");
            started
        }

        fn says(&mut self, expected: &str) {
            let mut line = String::new();
            while line.trim_end() != expected {
                line.clear();
                let read = self.out.read_line(&mut line).unwrap();
                assert_ne!(read, 0, "ended before it said {expected:?}");
            }
        }

        fn signal(&self, signal: Sig) {
            kill_process(Pid::from_child(&self.child), signal).unwrap();
        }

        fn ends(mut self) -> (Option<i32>, String) {
            let mut err = String::new();
            let mut stderr = self.child.stderr.take().unwrap();
            stderr.read_to_string(&mut err).unwrap();
            (self.child.wait().unwrap().code(), err)
        }
    }

    impl Drop for Started {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    #[test]
    fn the_first_signal_drains_and_the_service_ends_by_itself() {
        for signal in [Sig::TERM, Sig::INT] {
            let mut child = Started::new("drains");
            child.signal(signal);
            child.says("ready: Err(\"draining\")");
            assert_eq!(child.ends().0, Some(0));
        }
    }

    #[test]
    fn the_second_signal_ends_at_once() {
        let mut child = Started::new("hangs");
        child.signal(Sig::TERM);
        child.says("ready: Err(\"draining\")");
        child.signal(Sig::INT);
        let (code, err) = child.ends();
        assert_eq!(code, Some(1));
        assert!(err.contains("SIGINT while draining"), "{err}");
    }

    #[test]
    fn the_deadline_ends_a_drain_that_hangs() {
        let child = Started::new("short");
        child.signal(Sig::TERM);
        let (code, err) = child.ends();
        assert_eq!(code, Some(1));
        assert!(err.contains("not drained within 20ms"), "{err}");
    }

    #[test]
    fn a_request_from_within_drains_like_a_signal() {
        let mut child = Started::new("request");
        child.says("ready: Err(\"draining\")");
        child.signal(Sig::TERM);
        child.signal(Sig::INT);
        assert_eq!(child.ends().0, Some(1));
    }

    #[tokio::test]
    async fn the_first_signal_behind_a_request_lets_the_drain_go_on() {
        let shutdown = Shutdown::manual();
        shutdown.request();
        let (send, mut signals) = tokio::sync::mpsc::unbounded_channel();
        let next = async || signals.recv().await.expect("the sender lives");
        let watch = watch(next, &shutdown, Duration::from_secs(600));
        tokio::pin!(watch);
        send.send("SIGTERM").unwrap();
        for _ in 0..10 {
            tokio::select! {
                biased;
                why = &mut watch => panic!("{why}"),
                () = tokio::task::yield_now() => {}
            }
        }
        assert!(send.send("SIGINT").is_ok());
        assert_eq!(watch.await, "ending at once: SIGINT while draining");
    }
}
