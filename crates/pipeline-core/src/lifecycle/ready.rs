//! `--ready`: asks the service that runs with this configuration whether it is ready, for health
//! checks where there is no other program (an image without a shell).

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use super::{CommonArgs, exit};

/// For each of connecting, asking and each piece of the answer.
const STEP_MAX: Duration = Duration::from_secs(2);
/// Far more than any answer of `/readyz`.
const ANSWER_MAX: u64 = 16 * 1024;

impl CommonArgs {
    /// With `--ready` prints what `/readyz` on `admin` says and ends the process: with 0 where the
    /// service is ready, with 1 where it is not or does not answer. Without, does nothing.
    pub fn answer_ready(&self, admin: SocketAddr) {
        if !self.ready {
            return;
        }
        // A closed stderr or stdout changes no exit code.
        match ask(admin) {
            Ok(()) => {
                let _ = writeln!(std::io::stdout(), "ready");
                std::process::exit(exit::OK.into());
            }
            Err(reason) => {
                let _ = writeln!(std::io::stderr(), "not ready: {reason}");
                std::process::exit(exit::FAILED.into());
            }
        }
    }
}

fn ask(admin: SocketAddr) -> Result<(), String> {
    let addr = reachable(admin);
    let answer = exchange(addr).map_err(|error| format!("{addr} does not answer: {error}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status == "200" {
        return Ok(());
    }
    let problem: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let detail = problem
        .as_ref()
        .and_then(|problem| problem["detail"].as_str());
    Err(detail.map_or_else(|| format!("{addr} answers {status:?}"), str::to_owned))
}

fn exchange(addr: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&addr, STEP_MAX)?;
    stream.set_read_timeout(Some(STEP_MAX))?;
    stream.set_write_timeout(Some(STEP_MAX))?;
    stream.write_all(format!("GET /readyz HTTP/1.1\r\nHost: {addr}\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Whoever listens on every address listens on loopback too.
fn reachable(mut addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() {
        addr.set_ip(match addr.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    addr
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lifecycle::{Readiness, admin},
        telemetry::{catalog::Service, start_metrics},
    };

    #[tokio::test]
    async fn the_service_says_itself_whether_it_is_ready() {
        let readiness = Readiness::default();
        readiness.wait_for("listener");
        let metrics = start_metrics(Service::Writer);
        let any = "0.0.0.0:0".parse().unwrap();
        let admin = admin::serve(any, "kafka-consumer-writer", readiness.clone(), metrics);
        let addr = admin.await.unwrap();
        let addr_now = addr.addr();
        let answer = async || {
            tokio::task::spawn_blocking(move || ask(addr_now))
                .await
                .unwrap()
        };
        assert_eq!(answer().await, Err("waiting for listener".to_owned()));
        readiness.met("listener");
        assert_eq!(answer().await, Ok(()));
        readiness.drain();
        assert_eq!(answer().await, Err("draining".to_owned()));
    }

    #[test]
    fn a_service_that_does_not_run_is_not_ready() {
        // Bound and never listened on by std: taken, and let go again.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = free.local_addr().unwrap();
        drop(free);
        let refused = ask(addr).unwrap_err();
        assert!(
            refused.contains(&format!("{addr} does not answer")),
            "{refused}"
        );
    }
}
