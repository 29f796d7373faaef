//! Kafka's Metadata, version 1: who is there, and who leads what.
//! <https://kafka.apache.org/protocol.html#The_Messages_Metadata>

use std::net::SocketAddr;

use anyhow::{Context, Result};

use super::wire::{self, Rest};

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
    let mut body = u32::try_from(topics.len())?.to_be_bytes().to_vec();
    for topic in topics {
        wire::put_text(&mut body, topic)?;
    }
    asked(address, &body)
}

/// The same of all topics.
///
/// # Errors
/// As [`ask`].
pub fn ask_all(address: SocketAddr) -> Result<Known> {
    asked(address, &(-1_i32).to_be_bytes())
}

fn asked(address: SocketAddr, body: &[u8]) -> Result<Known> {
    let answer = wire::ask(address, (3, 1), body)?;
    read(&answer).with_context(|| format!("{address} answers what is no Metadata"))
}

impl Known {
    /// Names of the topics that were asked for.
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.topics.iter().map(|topic| &*topic.name)
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    /// Broker 1 at `a:9`, topic `t` whose partition 1 is led by 1 and 0 by nobody.
    fn answer() -> Vec<u8> {
        let mut bytes = vec![0, 0, 0, 1, 0, 0, 0, 1, 0, 1, b'a', 0, 0, 0, 9, 0xff, 0xff];
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
        assert_eq!(known.topics().collect::<Vec<_>>(), ["t"]);
        assert!(known.leaders("t").is_err(), "partition 0 has none");
        assert!(known.leaders("u").is_err());
        for len in 0..whole.len() {
            assert!(read(&whole[..len]).is_err(), "cut at {len}");
        }
    }
}
