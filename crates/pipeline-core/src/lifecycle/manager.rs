//! What the service manager hears (sd_notify(3)): ready, alive, stopping, and in words what the
//! service waits for. Nothing where there is no manager (`NOTIFY_SOCKET` is unset); never what
//! becomes of the process, that is the manager's business.
//!
//! The signs of life come from a task of the service's own runtime: as long as they come, `/livez`
//! is answered too, and a runtime that is wedged gives none. Messages are sent from threads of
//! their own, as a manager that reads nothing must hold up neither the runtime nor a shutdown.

use std::{
    env,
    sync::mpsc::{self, SyncSender},
    thread,
    time::Duration,
};

use sd_notify::NotifyState;
use tokio::time::{self, Interval, MissedTickBehavior};

use super::Readiness;

/// Messages that a manager may be behind; what is above is lost.
const BEHIND_MAX: usize = 8;
/// Longest wait for a manager that reads nothing when the process ends.
const STOPPING_MAX: Duration = Duration::from_millis(200);

/// From now on until the process ends the manager is told that the service is ready, once it is,
/// and from then on that it lives, at half of the time that the manager allows. To be called once,
/// on the service's runtime, when `readiness` has all that it waits for.
///
/// # Panics
/// Outside of a runtime, or where the process may not have another thread.
pub fn keep_told(readiness: &Readiness) {
    if !is_there() {
        return;
    }
    let (say, said) = mpsc::sync_channel(BEHIND_MAX);
    thread::Builder::new()
        .name("manager".to_owned())
        .spawn(move || {
            let mut heard = true;
            for message in said {
                heard = send(&message, heard);
            }
        })
        .expect("a process that cannot start a thread cannot start");
    tokio::spawn(tell(readiness.clone(), signs_of_life(), say));
}

/// Says that the process is about to end; comes back soon, heard or not.
pub(super) fn stopping() {
    if !is_there() {
        return;
    }
    let (said, heard) = mpsc::channel::<()>();
    thread::spawn(move || {
        send(&Message::Stopping, true);
        drop(said);
    });
    let _ = heard.recv_timeout(STOPPING_MAX);
}

enum Message {
    Status(String),
    Ready,
    Alive,
    Stopping,
}

/// Ready is the first that waits in the channel but for the words before it, so nothing crowds it
/// out while the manager reads.
async fn tell(readiness: Readiness, mut signs: Option<Interval>, say: SyncSender<Message>) {
    let mut states = readiness.watch();
    let mut was_ready = false;
    loop {
        match readiness.check() {
            Ok(()) if !was_ready => {
                was_ready = true;
                let _ = say.try_send(Message::Ready);
            }
            Ok(()) => {}
            Err(waits) => {
                let _ = say.try_send(Message::Status(waits));
            }
        }
        loop {
            tokio::select! {
                // The sender is in `readiness`.
                _ = states.changed() => break,
                () = next(&mut signs), if was_ready => {
                    let _ = say.try_send(Message::Alive);
                }
            }
        }
    }
}

async fn next(signs: &mut Option<Interval>) {
    match signs {
        Some(signs) => {
            signs.tick().await;
        }
        None => std::future::pending().await,
    }
}

fn signs_of_life() -> Option<Interval> {
    let allowed = sd_notify::watchdog_enabled()?;
    let mut signs = time::interval((allowed / 2).max(Duration::from_millis(1)));
    // One says all that those which were missed would have said.
    signs.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Some(signs)
}

fn is_there() -> bool {
    env::var_os("NOTIFY_SOCKET").is_some()
}

/// Gives whether it was heard; only the first of messages that are not is worth a word.
fn send(message: &Message, heard_before: bool) -> bool {
    let sent = match message {
        Message::Status(words) => sd_notify::notify(&[NotifyState::Status(words)]),
        Message::Ready => sd_notify::notify(&[NotifyState::Ready, NotifyState::Status("ready")]),
        Message::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
        Message::Stopping => {
            sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status("draining")])
        }
    };
    match &sent {
        Err(error) if heard_before => tracing::warn!("the service manager hears nothing: {error}"),
        _ => {}
    }
    sent.is_ok()
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, ErrorKind, Write},
        os::unix::net::UnixDatagram,
        path::Path,
        process::{Child, ChildStdin, ChildStdout, Command, Stdio},
        sync::mpsc::Receiver,
    };

    use super::*;

    const ROLE: &str = "SLUICE_TEST_MANAGER";
    /// For what must come, on however busy a machine.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// Not a claim: the process that the tests below start and talk with.
    #[test]
    fn child() {
        if env::var_os(ROLE).is_none() {
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let readiness = Readiness::default();
            readiness.wait_for("one");
            readiness.wait_for("other");
            keep_told(&readiness);
            let (to, mut words) = tokio::sync::mpsc::unbounded_channel();
            let (free, freed): (_, Receiver<()>) = mpsc::channel();
            thread::spawn(move || {
                for word in std::io::stdin().lines() {
                    let word = word.unwrap();
                    if word == "free" {
                        free.send(()).unwrap();
                    } else {
                        to.send(word).unwrap();
                    }
                }
            });
            while let Some(word) = words.recv().await {
                match word.as_str() {
                    "one" => readiness.met("one"),
                    "other" => readiness.met("other"),
                    "stop" => stopping(),
                    "wedge" => {
                        println!("\nwedged");
                        freed.recv().unwrap();
                    }
                    word => panic!("{word}"),
                }
            }
        });
        std::process::exit(0);
    }

    struct Told {
        child: Child,
        words: ChildStdin,
        out: BufReader<ChildStdout>,
        socket: UnixDatagram,
    }

    impl Told {
        fn new(dir: &Path, watchdog: Option<Duration>) -> Self {
            let path = dir.join("notify");
            let socket = UnixDatagram::bind(&path).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut command = Command::new(env::current_exe().unwrap());
            command
                .args(["--exact", "lifecycle::manager::tests::child"])
                .args(["--nocapture", "--test-threads=1"])
                .env(ROLE, "")
                .env("NOTIFY_SOCKET", &path)
                .env_remove("WATCHDOG_PID")
                .env_remove("WATCHDOG_USEC")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped());
            if let Some(watchdog) = watchdog {
                command.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
            }
            let mut child = command.spawn().unwrap();
            Self {
                words: child.stdin.take().unwrap(),
                out: BufReader::new(child.stdout.take().unwrap()),
                child,
                socket,
            }
        }

        fn do_now(&mut self, word: &str) {
            writeln!(self.words, "{word}").unwrap();
        }

        fn hears(&self) -> String {
            let mut message = [0; 512];
            let length = self.socket.recv(&mut message).unwrap();
            String::from_utf8(message[..length].to_vec()).unwrap()
        }

        fn hears_until(&self, message: &str) {
            while self.hears() != message {}
        }

        /// Takes what was on its way; then nothing comes for that long.
        fn hears_nothing_for(&self, time: Duration) {
            self.socket.set_read_timeout(Some(time)).unwrap();
            let silence = (0..=BEHIND_MAX + 1).find_map(|_| self.socket.recv(&mut [0; 512]).err());
            let error = silence.expect("it goes on");
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        }
    }

    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    #[test]
    fn ready_is_said_once_all_conditions_are_met_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut told = Told::new(dir.path(), None);
        assert_eq!(told.hears(), "STATUS=waiting for one, other\n");
        told.do_now("one");
        assert_eq!(told.hears(), "STATUS=waiting for other\n");
        told.do_now("other");
        assert_eq!(told.hears(), "READY=1\nSTATUS=ready\n");
        told.do_now("stop");
        // No manager asked for signs of life, so none came in between.
        assert_eq!(told.hears(), "STOPPING=1\nSTATUS=draining\n");
    }

    #[test]
    fn a_wedged_runtime_gives_no_signs_of_life() {
        let dir = tempfile::tempdir().unwrap();
        let mut told = Told::new(dir.path(), Some(Duration::from_millis(20)));
        told.do_now("one");
        told.do_now("other");
        told.hears_until("READY=1\nSTATUS=ready\n");
        assert_eq!(told.hears(), "WATCHDOG=1\n");
        assert_eq!(told.hears(), "WATCHDOG=1\n");
        told.do_now("wedge");
        let mut line = String::new();
        while line.trim_end() != "wedged" {
            line.clear();
            assert_ne!(told.out.read_line(&mut line).unwrap(), 0);
        }
        told.hears_nothing_for(Duration::from_millis(200));
        told.do_now("free");
        assert_eq!(told.hears(), "WATCHDOG=1\n");
    }
}
