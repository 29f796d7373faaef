//! Topics made and removed, for runs that must not leave a full disk behind: Kafka's CreateTopics,
//! version 2, and DeleteTopics, version 1.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, Result, bail};

use super::{
    metadata,
    wire::{self, Rest},
};
use crate::stand::is_of_dead_run;

const CREATE: (u16, u16) = (19, 2);
const DELETE: (u16, u16) = (20, 1);
const PATIENCE_MS: u32 = 1_500;
/// Of the log, and so the least that retention can remove at once.
const SEGMENT_BYTES: u64 = 64 << 20;

/// A topic of one run on a Kafka that outlives it: bounded on disk while the run lasts, removed
/// when this is dropped; what killed runs have left there goes first.
#[derive(Debug)]
pub struct Bounded {
    address: SocketAddr,
    name: String,
}

impl Bounded {
    /// Makes it; a partition keeps about so many bytes (of [`super::Cluster`], which looks every
    /// few seconds), older ones go.
    ///
    /// # Errors
    /// When Kafka does not make it.
    pub fn make(kafka: &str, name: &str, partitions: u32, bytes: u64) -> Result<Self> {
        let mut addresses = kafka.to_socket_addrs()?;
        let address = addresses.next().context("no such host")?;
        // Elsewhere nobody knows which processes live.
        if address.ip().is_loopback() {
            for left in metadata::ask_all(address)?
                .topics()
                .filter(|name| is_of_dead_run(name))
            {
                remove(address, left).with_context(|| format!("topic {left} stays"))?;
            }
        }
        let mut body = 1_u32.to_be_bytes().to_vec();
        wire::put_text(&mut body, name)?;
        body.extend(partitions.to_be_bytes());
        body.extend(1_u16.to_be_bytes()); // replication
        body.extend(0_u32.to_be_bytes()); // no assignments
        let settings = [
            ("retention.bytes", bytes.max(SEGMENT_BYTES)),
            ("segment.bytes", SEGMENT_BYTES),
            ("file.delete.delay.ms", 1_000),
        ];
        body.extend(u32::try_from(settings.len())?.to_be_bytes());
        for (key, value) in settings {
            wire::put_text(&mut body, key)?;
            wire::put_text(&mut body, &value.to_string())?;
        }
        body.extend(PATIENCE_MS.to_be_bytes());
        body.push(0); // not only validated
        let answer = wire::ask(address, CREATE, &body)?;
        let (code, why) = read(&answer, true).context("no answer to CreateTopics")?;
        if code != 0 {
            bail!("Kafka does not make topic {name}: error {code} {why}");
        }
        Ok(Self {
            address,
            name: name.to_owned(),
        })
    }
}

impl Drop for Bounded {
    fn drop(&mut self) {
        if let Err(error) = remove(self.address, &self.name) {
            eprintln!("topic {} stays in Kafka: {error:#}", self.name);
        }
    }
}

fn remove(address: SocketAddr, name: &str) -> Result<()> {
    let mut body = 1_u32.to_be_bytes().to_vec();
    wire::put_text(&mut body, name)?;
    body.extend(PATIENCE_MS.to_be_bytes());
    let answer = wire::ask(address, DELETE, &body)?;
    match read(&answer, false).context("no answer to DeleteTopics")? {
        (0, _) => Ok(()),
        (code, _) => bail!("error {code}"),
    }
}

/// The error of the one topic that was asked for, and its words.
fn read(answer: &[u8], with_words: bool) -> Result<(i16, String)> {
    let mut rest = Rest(answer);
    rest.take(4)?; // throttled
    if rest.count()? != 1 {
        bail!("not one topic");
    }
    rest.text()?;
    let code = rest.i16()?;
    let words = if with_words {
        rest.text()?
    } else {
        String::new()
    };
    Ok((code, words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_read_and_a_cut_answer_is_one() {
        let mut answer = vec![0, 0, 0, 0, 0, 0, 0, 1, 0, 1, b't', 0, 36];
        assert_eq!(read(&answer, false).expect("whole"), (36, String::new()));
        answer.extend([0, 4]);
        answer.extend(b"here");
        let said = read(&answer, true).expect("whole");
        assert_eq!(said, (36, "here".to_owned()));
        for len in 0..answer.len() {
            assert!(read(&answer[..len], true).is_err(), "cut at {len}");
        }
    }
}
