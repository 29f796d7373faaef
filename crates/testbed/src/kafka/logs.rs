//! A topic's logs as bytes: where they end, a batch as it stands there, and one put at the end.
//! Kafka's ListOffsets, version 1, Fetch, version 4, and Produce, version 3.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, Result, ensure};

use super::wire::{Rest, ask, put_text};

const LIST_OFFSETS: (u16, u16) = (2, 1);
const FETCH: (u16, u16) = (1, 4);
const PRODUCE: (u16, u16) = (0, 3);
/// Of a batch, its first field.
const BASE_OFFSET: usize = 8;
const LATEST: i64 = -1;
/// Of a batch, before it: its first offset and the length of what follows.
const BATCH_HEAD: usize = 12;
const FETCH_BYTES: u32 = 1 << 18;
const PRODUCE_WITHIN_MS: u32 = 1_500;

/// The logs of one topic, by its brokers.
#[derive(Clone, Debug)]
pub struct Logs {
    brokers: Vec<SocketAddr>,
    topic: String,
    partitions: u32,
}

impl Logs {
    /// Of brokers given as `host:port,host:port`.
    ///
    /// # Errors
    /// When an address is none.
    pub fn new(brokers: &str, topic: &str, partitions: u32) -> Result<Self> {
        let mut found = Vec::new();
        for broker in brokers.split(',') {
            found.extend(broker.to_socket_addrs()?.next());
        }
        Ok(Self {
            brokers: found,
            topic: topic.to_owned(),
            partitions,
        })
    }

    /// Where each partition's log ends; `None` where nobody who leads it answers.
    #[must_use]
    pub fn ends(&self) -> Vec<Option<i64>> {
        let mut ends = vec![None; self.partitions as usize];
        let Ok(body) = self.body_of_ends() else {
            return ends;
        };
        for broker in &self.brokers {
            let answer = ask(*broker, LIST_OFFSETS, &body);
            let told = answer
                .and_then(|answer| read_ends(&answer))
                .unwrap_or_default();
            for (partition, end) in told {
                if let Some(known) = ends.get_mut(partition as usize) {
                    *known = (*known).max(Some(end));
                }
            }
        }
        ends
    }

    /// The batch that holds this offset, or the first behind it.
    ///
    /// # Errors
    /// When nobody gives it.
    pub fn batch_at(&self, partition: u32, offset: i64) -> Result<Vec<u8>> {
        let mut body = (-1_i32).to_be_bytes().to_vec(); // no replica
        body.extend(100_u32.to_be_bytes()); // longest wait, ms
        body.extend(1_u32.to_be_bytes()); // bytes, at least
        body.extend(FETCH_BYTES.to_be_bytes());
        body.push(0); // what is not committed too
        body.extend(1_u32.to_be_bytes());
        put_text(&mut body, &self.topic)?;
        body.extend(1_u32.to_be_bytes());
        body.extend(partition.to_be_bytes());
        body.extend(offset.to_be_bytes());
        body.extend(FETCH_BYTES.to_be_bytes());
        self.ask_leader(FETCH, &body, read_batch)
    }

    /// Puts a batch at the end, once; after an error it may be there.
    ///
    /// # Errors
    /// When nobody says that it is there.
    pub fn append(&self, partition: u32, batch: &[u8]) -> Result<()> {
        let mut body = vec![0xff, 0xff]; // no transaction
        body.extend((-1_i16).to_be_bytes()); // all replicas
        body.extend(PRODUCE_WITHIN_MS.to_be_bytes());
        body.extend(1_u32.to_be_bytes());
        put_text(&mut body, &self.topic)?;
        body.extend(1_u32.to_be_bytes());
        body.extend(partition.to_be_bytes());
        body.extend(u32::try_from(batch.len())?.to_be_bytes());
        // What a producer sends begins at 0, and Apache Kafka insists; no checksum covers that.
        let (_, behind) = batch.split_at_checked(BASE_OFFSET).context("no batch")?;
        body.extend([0; BASE_OFFSET]);
        body.extend(behind);
        self.ask_leader(PRODUCE, &body, |answer| {
            let mut rest = one_partition(answer)?;
            let error = rest.i16()?;
            ensure!(error == 0, "error {error}");
            Ok(())
        })
    }

    fn body_of_ends(&self) -> Result<Vec<u8>> {
        let mut body = (-1_i32).to_be_bytes().to_vec(); // no replica
        body.extend(1_u32.to_be_bytes());
        put_text(&mut body, &self.topic)?;
        body.extend(self.partitions.to_be_bytes());
        for partition in 0..self.partitions {
            body.extend(partition.to_be_bytes());
            body.extend(LATEST.to_be_bytes());
        }
        Ok(body)
    }

    /// Each broker in turn: those that do not lead the partition refuse.
    fn ask_leader<T>(
        &self,
        what: (u16, u16),
        body: &[u8],
        read: impl Fn(&[u8]) -> Result<T>,
    ) -> Result<T> {
        let mut last = None;
        for broker in &self.brokers {
            match ask(*broker, what, body).and_then(|answer| read(&answer)) {
                Ok(done) => return Ok(done),
                Err(error) => last = Some(error.context(format!("{broker}"))),
            }
        }
        Err(last.context("no broker is known")?)
    }
}

fn read_ends(answer: &[u8]) -> Result<Vec<(u32, i64)>> {
    let mut rest = Rest(answer);
    let mut ends = Vec::new();
    for _ in 0..rest.count()? {
        rest.text()?;
        for _ in 0..rest.count()? {
            let partition = u32::try_from(rest.i32()?)?;
            let error = rest.i16()?;
            rest.take(8)?; // timestamp
            let end = rest.i64()?;
            if error == 0 {
                ends.push((partition, end));
            }
        }
    }
    Ok(ends)
}

/// Up to the error of the one partition that was asked for.
fn one_partition(answer: &[u8]) -> Result<Rest<'_>> {
    let mut rest = Rest(answer);
    ensure!(rest.count()? == 1, "not one topic");
    rest.text()?;
    ensure!(rest.count()? == 1, "not one partition");
    rest.take(4)?; // partition
    Ok(rest)
}

fn read_batch(answer: &[u8]) -> Result<Vec<u8>> {
    let throttled_for = 4;
    let mut rest = one_partition(answer.get(throttled_for..).context("it ends early")?)?;
    let error = rest.i16()?;
    ensure!(error == 0, "error {error}");
    rest.take(16)?; // end, stable end
    let aborted = usize::try_from(rest.i32()?).unwrap_or(0);
    rest.take(16 * aborted)?;
    let len = rest.count().context("no records")?;
    let records = rest.take(len)?;
    let length = records.get(8..BATCH_HEAD).context("no batch")?;
    let length = u32::from_be_bytes(length.try_into()?) as usize;
    let batch = records.get(..BATCH_HEAD + length);
    Ok(batch.context("no whole batch")?.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_and_batches_are_read_and_a_cut_answer_is_an_error() {
        let mut ends = vec![0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 2];
        for (partition, error, end) in [(0_i32, 0_i16, 7_i64), (1, 6, -1)] {
            ends.extend(partition.to_be_bytes());
            ends.extend(error.to_be_bytes());
            ends.extend((-1_i64).to_be_bytes());
            ends.extend(end.to_be_bytes());
        }
        assert_eq!(read_ends(&ends).expect("whole"), [(0, 7)]);

        let batch = [&[0; 8][..], &3_u32.to_be_bytes(), b"abc"].concat();
        let mut fetched = vec![0, 0, 0, 0, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1];
        fetched.extend([0; 4 + 2 + 16]);
        fetched.extend((-1_i32).to_be_bytes());
        fetched.extend((batch.len() as u32 + 5).to_be_bytes());
        fetched.extend(&batch);
        fetched.extend(b"more.");
        assert_eq!(read_batch(&fetched).expect("whole"), batch);
        for len in 0..ends.len() {
            assert!(read_ends(&ends[..len]).is_err(), "cut at {len}");
        }
        for len in 0..fetched.len() {
            assert!(read_batch(&fetched[..len]).is_err(), "cut at {len}");
        }
    }
}
