//! The listening socket and how many may wait on it. Accepts nothing itself.

use std::{io, net::SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

/// Connections that may wait to be taken, whatever `server.maxConnections` is.
const BACKLOG_MIN: u32 = 1024;

/// As many as may be served may come at once, too: one that finds no place in the backlog takes
/// its handshake for done, and its first bytes come again after 1, 2, 4, … seconds (the kernel
/// may allow fewer: `net.core.somaxconn`).
pub(super) fn bind(addr: SocketAddr, connections_max: usize) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    let most = u32::try_from(connections_max).unwrap_or(u32::MAX);
    socket.listen(most.clamp(BACKLOG_MIN, i32::MAX.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use std::{fs, net::TcpStream, time::Duration};

    use pipeline_core::lifecycle::raise_descriptor_limit;
    use testbed::skip::skipped;

    use super::*;

    /// More than `BACKLOG_MIN`, and as many again that the limits must leave room for.
    const AT_ONCE: usize = 2_000;

    #[tokio::test]
    async fn as_many_as_may_be_served_can_connect_before_the_first_is_taken() {
        let kernel = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap_or_default();
        let kernel: usize = kernel.trim().parse().unwrap_or(0);
        if kernel < AT_ONCE {
            let why = format!("net.core.somaxconn is {kernel}");
            return skipped("a backlog of 2,000 connections", &why);
        }
        let files = raise_descriptor_limit();
        if files.is_some_and(|most| most < 2 * AT_ONCE as u64) {
            let why = format!("at most {files:?} files may be open");
            return skipped("a backlog of 2,000 connections", &why);
        }
        let listener = bind("127.0.0.1:0".parse().unwrap(), AT_ONCE).unwrap();
        let addr = listener.local_addr().unwrap();

        let mut waiting = Vec::new();
        for nth in 0..AT_ONCE {
            // One that finds no place waits for its handshake; the time only ends a failed test.
            match TcpStream::connect_timeout(&addr, Duration::from_secs(5)) {
                Ok(stream) => waiting.push(stream),
                Err(error) => panic!("of {AT_ONCE} connections, {nth} found a place: {error}"),
            }
        }
    }
}
