//! A proxy before each node of a real Kafka, through which only the gateway goes: so an answer to
//! a produce that the broker has written can be lost or come late there, too. It knows requests
//! from answers by their first bytes, throttled answers by their last, and nothing else of the
//! protocol.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{sleep, spawn},
    time::Duration,
};

use anyhow::{Context, Result};

const PRODUCE: [u8; 2] = [0, 0];
/// The first version of Produce whose messages end with tagged fields.
const FLEXIBLE: i16 = 9;
const FRAME_BYTES_MAX: usize = 128 << 20;
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Version of each produce that waits for its answer, by correlation id.
type Produces = Mutex<HashMap<[u8; 4], i16>>;

/// What becomes of the answer to a produce.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ack {
    /// The connection is closed instead.
    Cut,
    Swallowed,
    /// What comes after it on the connection is as late.
    Late(Duration),
}

/// The proxies of a cluster. They take no more connections when dropped.
#[derive(Debug)]
pub struct Proxies {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
}

#[derive(Debug, Default)]
struct Shared {
    ended: AtomicBool,
    throttled: AtomicU64,
    armed: Mutex<Option<(Ack, u64)>>,
}

impl Proxies {
    /// Listens at each first address and goes on to the second.
    ///
    /// # Errors
    /// When an address is taken.
    pub fn start(routes: &[(SocketAddr, SocketAddr)]) -> Result<Self> {
        let shared = Arc::<Shared>::default();
        let mut addresses = Vec::with_capacity(routes.len());
        for &(address, upstream) in routes {
            let listener = TcpListener::bind(address)
                .with_context(|| format!("the proxy cannot listen on {address}"))?;
            addresses.push(listener.local_addr()?);
            let shared = Arc::clone(&shared);
            spawn(move || accept(&listener, upstream, &shared));
        }
        Ok(Self { shared, addresses })
    }

    /// For the gateway's `kafka.brokers`.
    pub fn bootstrap(&self) -> String {
        let each: Vec<_> = self.addresses.iter().map(SocketAddr::to_string).collect();
        each.join(",")
    }

    /// The next `times` answers to produces; what was asked before is forgotten.
    pub fn hit_produce(&self, ack: Ack, times: u64) {
        *self.shared.armed() = Some((ack, times));
    }

    pub fn clear(&self) {
        *self.shared.armed() = None;
    }

    /// How many answers have told the gateway that it is throttled.
    pub fn throttled(&self) -> u64 {
        self.shared.throttled.load(Ordering::Relaxed)
    }
}

impl Drop for Proxies {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        for address in &self.addresses {
            // Wakes the accept, which sees the end.
            let _ = TcpStream::connect(address);
        }
    }
}

impl Shared {
    fn armed(&self) -> MutexGuard<'_, Option<(Ack, u64)>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Ack> {
        let mut armed = self.armed();
        let (ack, left) = armed.as_mut().filter(|(_, left)| *left > 0)?;
        *left -= 1;
        Some(*ack)
    }
}

fn accept(listener: &TcpListener, upstream: SocketAddr, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.ended.load(Ordering::Relaxed) {
            return;
        }
        let Ok(client) = client else { continue };
        let shared = Arc::clone(shared);
        // A dead broker: the client's connection just ends.
        spawn(move || drop(join(&client, upstream, &shared)));
    }
}

fn join(client: &TcpStream, upstream: SocketAddr, shared: &Arc<Shared>) -> io::Result<()> {
    let broker = TcpStream::connect_timeout(&upstream, CONNECT_WITHIN)?;
    client.set_nodelay(true)?;
    broker.set_nodelay(true)?;
    let produces = Arc::new(Produces::default());
    let (from, to) = (client.try_clone()?, broker.try_clone()?);
    let asked = Arc::clone(&produces);
    spawn(move || {
        let _ = requests(&from, &to, &asked);
        end(&from, &to);
    });
    let answered = answers(&broker, client, &produces, shared);
    end(client, &broker);
    answered
}

fn end(one: &TcpStream, other: &TcpStream) {
    // It may be closed already.
    let _ = one.shutdown(Shutdown::Both);
    let _ = other.shutdown(Shutdown::Both);
}

fn requests(mut from: &TcpStream, mut to: &TcpStream, produces: &Produces) -> io::Result<()> {
    let mut frame = Vec::new();
    loop {
        read_frame(&mut from, &mut frame)?;
        // Size, API key, version, correlation id.
        if frame.get(4..6) == Some(&PRODUCE)
            && let Some(&version) = frame.get(6..).and_then(<[u8]>::first_chunk)
            && let Some(&correlation) = frame.get(8..).and_then(<[u8]>::first_chunk)
        {
            let mut produces = produces.lock().unwrap_or_else(PoisonError::into_inner);
            produces.insert(correlation, i16::from_be_bytes(version));
        }
        to.write_all(&frame)?;
    }
}

fn answers(
    mut from: &TcpStream,
    mut to: &TcpStream,
    produces: &Produces,
    shared: &Shared,
) -> io::Result<()> {
    let mut frame = Vec::new();
    loop {
        read_frame(&mut from, &mut frame)?;
        let correlation = frame.get(4..).and_then(<[u8]>::first_chunk);
        let produced = correlation.and_then(|correlation| {
            let mut produces = produces.lock().unwrap_or_else(PoisonError::into_inner);
            produces.remove(correlation)
        });
        if produced.is_some_and(|version| throttled(&frame, version)) {
            shared.throttled.fetch_add(1, Ordering::Relaxed);
        }
        match produced.and_then(|_| shared.take()) {
            Some(Ack::Cut) => return Ok(()),
            Some(Ack::Swallowed) => continue,
            Some(Ack::Late(time)) => sleep(time),
            None => {}
        }
        to.write_all(&frame)?;
    }
}

/// The milliseconds of throttling are the last field of an answer to Produce; behind them a newer
/// version has no tagged fields, but where a leader has moved.
fn throttled(frame: &[u8], version: i16) -> bool {
    let fields = match version {
        FLEXIBLE.. => frame.strip_suffix(&[0]),
        _ => Some(frame),
    };
    let time = fields.and_then(<[u8]>::last_chunk::<4>);
    time.is_some_and(|time| i32::from_be_bytes(*time) > 0)
}

/// One frame with its size in front.
fn read_frame(from: &mut impl Read, frame: &mut Vec<u8>) -> io::Result<()> {
    frame.resize(4, 0);
    from.read_exact(frame)?;
    let size = frame
        .first_chunk()
        .map_or(0, |size| u32::from_be_bytes(*size)) as usize;
    if size > FRAME_BYTES_MAX {
        return Err(io::Error::other("a frame of an impossible size"));
    }
    frame.resize(4 + size, 0);
    from.read_exact(&mut frame[4..])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A broker that answers each request with its correlation id alone.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                spawn(move || {
                    let mut frame = Vec::new();
                    while read_frame(&mut stream, &mut frame).is_ok() {
                        let answer = [&[0, 0, 0, 4], &frame[8..12]].concat();
                        stream.write_all(&answer).expect("the proxy reads");
                    }
                });
            }
        });
        address
    }

    fn ask(stream: &mut TcpStream, api: u8, correlation: u8) -> io::Result<u8> {
        let request = [0, 0, 0, 8, 0, api, 0, 0, 0, 0, 0, correlation];
        stream.write_all(&request)?;
        let mut frame = Vec::new();
        read_frame(stream, &mut frame)?;
        Ok(frame[7])
    }

    #[test]
    fn a_throttled_answer_is_known_by_its_end() {
        let frame = |end: &[u8]| [&[0, 0, 0, 9, 1, 1, 1, 1, 9], end].concat();
        assert!(throttled(&frame(&[0, 0, 0, 5]), 8));
        assert!(!throttled(&frame(&[0, 0, 0, 0]), 8));
        assert!(throttled(&frame(&[0, 0, 1, 0, 0]), 9));
        assert!(!throttled(&frame(&[0, 0, 0, 0, 0]), 12));
        assert!(!throttled(&frame(&[0, 0, 0, 5, 1, 7]), 12), "tagged fields");
    }

    #[test]
    fn only_answers_to_produces_are_hit_and_only_so_many() {
        let any = "127.0.0.1:0".parse().expect("an address");
        let proxies = Proxies::start(&[(any, echo())]).expect("a port");
        let connect = || TcpStream::connect(proxies.bootstrap()).expect("the proxy listens");
        let mut stream = connect();
        proxies.hit_produce(Ack::Swallowed, 1);
        assert_eq!(ask(&mut stream, 3, 1).expect("not a produce"), 1);
        let produce = [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 2];
        stream.write_all(&produce).expect("the proxy reads");
        // The answer that comes is the next one's.
        assert_eq!(ask(&mut stream, 0, 3).expect("an answer"), 3);

        proxies.hit_produce(Ack::Cut, 1);
        assert!(ask(&mut stream, 0, 4).is_err(), "the connection is closed");
        assert_eq!(ask(&mut connect(), 0, 5).expect("a new one"), 5);
        proxies.hit_produce(Ack::Cut, 1);
        proxies.clear();
        assert_eq!(ask(&mut connect(), 0, 6).expect("nothing armed"), 6);
    }
}
