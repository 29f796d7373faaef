//! What a service manager hears of each service (sd_notify), on a socket as systemd has one, and
//! what a health check asks.

use std::{
    io::ErrorKind,
    os::unix::net::UnixDatagram,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use testbed::{
    http::get,
    process::poll_until,
    service::Service,
    stand::{Plan, Stand},
};

use crate::RunDir;

/// As `WatchdogSec=` would be; a sign of life is due at each half of it.
const WATCHDOG: Duration = Duration::from_millis(300);
const WITHIN: Duration = Duration::from_secs(30);

#[test]
fn each_service_tells_its_manager_when_it_is_ready_alive_and_stopping() -> Result<()> {
    let dir = RunDir::new("manager");
    let plan = Plan {
        // Nothing listens there, and readiness does not care.
        kafka: Some(format!("127.0.0.1:{}", testbed::process::free_port())),
        ..Plan::default()
    };
    let mut stand = Stand::prepare(&dir, plan)?;
    std::thread::scope(|scope| {
        let lives: Vec<_> = stand
            .services()
            .map(|service| scope.spawn(|| life_under_a_manager(service)))
            .collect();
        for life in lives {
            life.join().expect("no panic")?;
        }
        dir.passed()
    })
}

fn life_under_a_manager(service: &mut Service) -> Result<()> {
    let manager = Manager::of(service)?;
    ensure!(!says_ready(service)?, "{} is not started", service.name);
    service.start()?;
    manager.hears("READY=1")?;
    let name = service.name.clone();
    ensure!(
        get(service.admin, "/readyz")?.status == 200,
        "{name}: READY=1 too early"
    );
    ensure!(says_ready(service)?, "{name} --ready");
    manager.hears("WATCHDOG=1")?;
    manager.hears("WATCHDOG=1")?;

    let process = service.process()?;
    process.freeze()?;
    let frozen = poll_until(WITHIN, || Ok(process.is_frozen()?.then_some(())))?;
    ensure!(frozen.is_some(), "{name} does not stop");
    manager.hears_nothing_for(WATCHDOG * 2)?;
    process.thaw()?;
    manager.hears("WATCHDOG=1")?;

    service.process()?.terminate()?;
    manager.hears("STOPPING=1")?;
    service.wait_ended()
}

fn says_ready(service: &Service) -> Result<bool> {
    let output = service.command().arg("--ready").output()?;
    match output.status.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => bail!("{} --ready: {output:?}", service.name),
    }
}

struct Manager {
    socket: UnixDatagram,
    // A short path: a socket's has 108 bytes.
    _dir: tempfile::TempDir,
}

impl Manager {
    fn of(service: &mut Service) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path)?;
        let variables = [
            ("NOTIFY_SOCKET", path.display().to_string()),
            ("WATCHDOG_USEC", WATCHDOG.as_micros().to_string()),
        ];
        for (name, value) in variables {
            service.env.push((name.to_owned(), value));
        }
        Ok(Self { socket, _dir: dir })
    }

    fn hears(&self, assignment: &str) -> Result<()> {
        let deadline = Instant::now() + WITHIN;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            self.socket
                .set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            let mut message = [0; 1024];
            let length = self
                .socket
                .recv(&mut message)
                .with_context(|| format!("no {assignment}"))?;
            let message = std::str::from_utf8(&message[..length])?;
            if message.lines().any(|line| line == assignment) {
                return Ok(());
            }
        }
        bail!("no {assignment} within {WITHIN:?}");
    }

    /// Takes what was sent before; then nothing comes for that long.
    fn hears_nothing_for(&self, time: Duration) -> Result<()> {
        let mut message = [0; 1024];
        self.socket.set_nonblocking(true)?;
        while self.socket.recv(&mut message).is_ok() {}
        self.socket.set_nonblocking(false)?;
        self.socket.set_read_timeout(Some(time))?;
        match self.socket.recv(&mut message) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            other => bail!("a frozen process spoke: {other:?}"),
        }
    }
}
