//! A small load balancer before gateways, as one that is set up well behaves: it asks `/readyz`,
//! sends to those that are ready in turn, and gives a request to another one only where nothing of
//! it can have been taken: no connection, or 503 `draining`.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{JoinHandle, sleep, spawn},
    time::Duration,
};

use anyhow::Result;

use crate::http::{Client, Failure, Request, Response, get};

/// Well under any `server.drainDelay`.
const LOOK_EVERY: Duration = Duration::from_millis(25);
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
const BODY_BYTES_MAX: usize = 64 << 20;

/// It takes no more connections when dropped.
#[derive(Debug)]
pub struct Balancer {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    looks: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    backends: Vec<Backend>,
    next: AtomicUsize,
    ended: AtomicBool,
}

#[derive(Debug)]
struct Backend {
    address: SocketAddr,
    ready: AtomicBool,
    requests: AtomicUsize,
}

impl Balancer {
    /// Listens on loopback, before these gateways.
    ///
    /// # Errors
    /// When there is no port.
    pub fn start(gateways: &[SocketAddr]) -> Result<Self> {
        let backend = |address: &SocketAddr| Backend {
            address: *address,
            ready: AtomicBool::new(is_ready(*address)),
            requests: AtomicUsize::new(0),
        };
        let shared = Arc::new(Shared {
            backends: gateways.iter().map(backend).collect(),
            next: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        });
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let looking = Arc::clone(&shared);
        let looks = spawn(move || {
            while !looking.ended.load(Ordering::Relaxed) {
                for backend in &looking.backends {
                    let ready = is_ready(backend.address);
                    backend.ready.store(ready, Ordering::Relaxed);
                }
                sleep(LOOK_EVERY);
            }
        });
        let accepting = Arc::clone(&shared);
        spawn(move || {
            for client in listener.incoming() {
                if accepting.ended.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(client) = client else { continue };
                let shared = Arc::clone(&accepting);
                // A client that goes away ends its connection.
                spawn(move || drop(shared.serve(&client)));
            }
        });
        Ok(Self {
            address,
            shared,
            looks: Some(looks),
        })
    }

    /// Whether it sends to this one.
    pub fn sends_to(&self, gateway: usize) -> bool {
        self.shared.backends[gateway].ready.load(Ordering::Relaxed)
    }

    /// How many requests this one was given.
    pub fn requests(&self, gateway: usize) -> usize {
        self.shared.backends[gateway]
            .requests
            .load(Ordering::Relaxed)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // Wakes the accept, which sees the end.
        let _ = TcpStream::connect(self.address);
        if let Some(looks) = self.looks.take() {
            let _ = looks.join();
        }
    }
}

impl Shared {
    fn serve(&self, client: &TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let mut reader = BufReader::new(client);
        while let Some(request) = Taken::read(&mut reader)? {
            let response = self.forward(&request);
            let mut client = client;
            let Some(response) = response else {
                let none = "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n";
                client.write_all(none.as_bytes())?;
                continue;
            };
            let mut head = format!("HTTP/1.1 {} Passed\r\n", response.status);
            let own = ["content-length", "connection", "transfer-encoding"];
            for (name, value) in &response.headers {
                if !own.contains(&name.as_str()) {
                    head.push_str(&format!("{name}: {value}\r\n"));
                }
            }
            head.push_str(&format!("content-length: {}\r\n\r\n", response.body.len()));
            client.write_all(head.as_bytes())?;
            client.write_all(&response.body)?;
        }
        Ok(())
    }

    /// `None` where nobody takes it, or where nobody knows whether somebody has.
    fn forward(&self, request: &Taken) -> Option<Response> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let count = self.backends.len();
        let in_turn = (0..count).map(|nth| &self.backends[(first + nth) % count]);
        let (ready, others): (Vec<_>, Vec<_>) =
            in_turn.partition(|backend| backend.ready.load(Ordering::Relaxed));
        let mut last = None;
        for backend in ready.into_iter().chain(others) {
            backend.requests.fetch_add(1, Ordering::Relaxed);
            match request.send(backend.address) {
                Ok(response) if is_draining(&response) => last = Some(response),
                Ok(response) => return Some(response),
                Err(Failure::NotSent(_)) => {}
                Err(Failure::NoAnswer(_)) => return None,
            }
        }
        last
    }
}

fn is_ready(gateway: SocketAddr) -> bool {
    get(gateway, "/readyz").is_ok_and(|response| response.status == 200)
}

fn is_draining(response: &Response) -> bool {
    response.status == 503 && response.json()["code"] == "draining"
}

/// A request of a client.
#[derive(Debug)]
struct Taken {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Taken {
    /// `None` at the end of the connection.
    fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        let (method, target) = words.next().zip(words.next()).ok_or_else(odd)?;
        let (mut headers, mut length) = (Vec::new(), 0);
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            let (name, value) = (name.to_ascii_lowercase(), value.trim().to_owned());
            match name.as_str() {
                "content-length" => length = value.parse().map_err(|_| odd())?,
                "host" | "connection" => {}
                _ => headers.push((name, value)),
            }
        }
        if length > BODY_BYTES_MAX {
            return Err(odd());
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        Ok(Some(Self {
            method,
            target,
            headers,
            body,
        }))
    }

    fn send(&self, gateway: SocketAddr) -> Result<Response, Failure> {
        let mut headers: Vec<(&str, &str)> = Vec::with_capacity(self.headers.len() + 1);
        headers.extend(self.headers.iter().map(|(name, value)| (&**name, &**value)));
        // Of a connection that is kept nobody can tell whether the next request was seen.
        headers.push(("connection", "close"));
        Client::new(gateway, ANSWER_WITHIN).send(&Request {
            method: &self.method,
            target: &self.target,
            headers: &headers,
            body: &self.body,
        })
    }
}

fn odd() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a request of ours")
}
