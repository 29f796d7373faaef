//! Kafka's Metadata, version 1, by hand, as this crate shares no protocol code with the product:
//! who is there, and who leads what.
//! <https://kafka.apache.org/protocol.html#The_Messages_Metadata>

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, bail};

const CORRELATION: [u8; 4] = [0, 0, 0, 7];
const TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_BYTES_MAX: usize = 1 << 20;

#[derive(Debug)]
pub struct Known {
    /// How many of them.
    pub brokers: usize,
    topics: Vec<Topic>,
}

#[derive(Debug)]
struct Topic {
    name: String,
    /// Partition and leader; -1 where there is none now.
    leaders: Vec<(i32, i32)>,
}

/// # Errors
/// When there is no answer, or none that can be read.
pub fn ask(address: SocketAddr, topics: &[&str]) -> Result<Known> {
    let mut request = vec![0, 3, 0, 1]; // Metadata, version 1
    request.extend(CORRELATION);
    request.extend([0xff, 0xff]); // no client id
    request.extend(u32::try_from(topics.len())?.to_be_bytes());
    for topic in topics {
        request.extend(u16::try_from(topic.len())?.to_be_bytes());
        request.extend(topic.as_bytes());
    }
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(&u32::try_from(request.len())?.to_be_bytes())?;
    stream.write_all(&request)?;
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let size = u32::from_be_bytes(size) as usize;
    if size > ANSWER_BYTES_MAX {
        bail!("an answer of {size} bytes");
    }
    let mut answer = vec![0; size];
    stream.read_exact(&mut answer)?;
    read(&answer).with_context(|| format!("{address} answers what is no Metadata"))
}

impl Known {
    /// By partition.
    ///
    /// # Errors
    /// When the topic is not there, or a partition has no leader now.
    pub fn leaders(&self, topic: &str) -> Result<Vec<u32>> {
        let mut topics = self.topics.iter();
        let topic = topics
            .find(|known| known.name == topic)
            .context("no such topic")?;
        let mut leaders = topic.leaders.clone();
        leaders.sort_unstable();
        let led = leaders.into_iter().map(|(partition, leader)| {
            u32::try_from(leader).with_context(|| format!("nobody leads partition {partition}"))
        });
        led.collect()
    }
}

fn read(answer: &[u8]) -> Result<Known> {
    let mut rest = Rest(answer);
    if rest.take(4)? != CORRELATION {
        bail!("an answer to another question");
    }
    let brokers = rest.count()?;
    for _ in 0..brokers {
        rest.take(4)?; // id
        rest.text()?; // host
        rest.take(4)?; // port
        rest.text()?; // rack
    }
    rest.take(4)?; // controller
    let mut topics = Vec::new();
    for _ in 0..rest.count()? {
        rest.take(2)?; // error
        let name = rest.text()?;
        rest.take(1)?; // internal
        let mut leaders = Vec::new();
        for _ in 0..rest.count()? {
            rest.take(2)?; // error
            leaders.push((rest.i32()?, rest.i32()?));
            for _ in 0..2 {
                let nodes = rest.count()?; // replicas, those in sync
                rest.take(4 * nodes)?;
            }
        }
        topics.push(Topic { name, leaders });
    }
    Ok(Known { brokers, topics })
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len).context("it ends early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.take(4)?.try_into()?))
    }

    fn count(&mut self) -> Result<usize> {
        usize::try_from(self.i32()?).context("a length below 0")
    }

    /// A null is empty.
    fn text(&mut self) -> Result<String> {
        let len = i16::from_be_bytes(self.take(2)?.try_into()?);
        let bytes = self.take(usize::try_from(len).unwrap_or(0))?;
        Ok(String::from_utf8(bytes.to_vec())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Broker 1 at `a:9`, topic `t` whose partition 1 is led by 1 and 0 by nobody.
    fn answer() -> Vec<u8> {
        let mut bytes = CORRELATION.to_vec();
        bytes.extend([0, 0, 0, 1, 0, 0, 0, 1, 0, 1, b'a', 0, 0, 0, 9, 0xff, 0xff]);
        bytes.extend([0, 0, 0, 1]);
        bytes.extend([0, 0, 0, 1, 0, 0, 0, 1, b't', 0, 0, 0, 0, 2]);
        for (partition, leader) in [(1_i32, 1_i32), (0, -1)] {
            bytes.extend([0, 0]);
            bytes.extend(partition.to_be_bytes());
            bytes.extend(leader.to_be_bytes());
            bytes.extend([0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0]);
        }
        bytes
    }

    #[test]
    fn leaders_are_read_and_a_cut_answer_is_an_error() {
        let whole = answer();
        let known = read(&whole).expect("whole");
        assert_eq!(known.brokers, 1);
        assert_eq!(known.topics[0].leaders, [(1, 1), (0, -1)]);
        assert!(known.leaders("t").is_err(), "partition 0 has none");
        assert!(known.leaders("u").is_err());
        for len in 0..whole.len() {
            assert!(read(&whole[..len]).is_err(), "cut at {len}");
        }
    }
}
