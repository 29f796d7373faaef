//! What an operator does to a consumer group's offsets while nobody is in it; and what a client does
//! to it that has no business there.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::wire::{Rest, ask, put_text};
use crate::process::poll_until;

/// For members to be gone, and the coordinator to be there.
const WITHIN: Duration = Duration::from_secs(30);
/// Of a stranger that says nothing more.
const STRANGER_SESSION_MS: u32 = 6_000;
const JOIN_GROUP: (u16, u16) = (11, 2);
const OFFSET_COMMIT: (u16, u16) = (8, 2);
const OFFSET_FETCH: (u16, u16) = (9, 1);
const DELETE_GROUPS: (u16, u16) = (42, 0);

/// A group of a cluster, by its brokers as `host:port,host:port`.
#[derive(Debug)]
pub struct Group {
    brokers: Vec<SocketAddr>,
    name: String,
}

/// What an answer says: an error, or what was asked for.
type Answer<T> = Result<T, i16>;

impl Group {
    /// # Errors
    /// When an address is none.
    pub fn new(brokers: &str, name: &str) -> Result<Self> {
        let mut found = Vec::new();
        for broker in brokers.split(',') {
            found.extend(broker.to_socket_addrs()?.next());
        }
        Ok(Self {
            brokers: found,
            name: name.to_owned(),
        })
    }

    /// Forgets it with all of its offsets.
    ///
    /// # Errors
    /// When the brokers do not.
    pub fn delete(&self) -> Result<()> {
        let mut body = 1_u32.to_be_bytes().to_vec();
        put_text(&mut body, &self.name)?;
        self.ask(DELETE_GROUPS, &body, |rest| {
            rest.take(4)?; // throttled for
            for _ in 0..rest.count()? {
                rest.text()?;
                if let error @ 1.. = rest.i16()? {
                    return Ok(Err(error));
                }
            }
            Ok(Ok(()))
        })
    }

    /// Sets the offset of each partition from 0 on, as `kafka-consumer-groups --reset-offsets`.
    ///
    /// # Errors
    /// When the brokers do not.
    pub fn set(&self, topic: &str, offsets: &[i64]) -> Result<()> {
        let mut body = Vec::new();
        put_text(&mut body, &self.name)?;
        body.extend((-1_i32).to_be_bytes()); // no generation
        put_text(&mut body, "")?; // no member
        body.extend((-1_i64).to_be_bytes()); // kept for as long as the broker says
        body.extend(1_u32.to_be_bytes());
        put_text(&mut body, topic)?;
        body.extend(u32::try_from(offsets.len())?.to_be_bytes());
        for (partition, offset) in (0_i32..).zip(offsets) {
            body.extend(partition.to_be_bytes());
            body.extend(offset.to_be_bytes());
            put_text(&mut body, "")?; // no metadata
        }
        self.ask(OFFSET_COMMIT, &body, |rest| {
            for _ in 0..rest.count()? {
                rest.text()?;
                for _ in 0..rest.count()? {
                    rest.take(4)?; // partition
                    if let error @ 1.. = rest.i16()? {
                        return Ok(Err(error));
                    }
                }
            }
            Ok(Ok(()))
        })
    }

    /// Offset and metadata of each partition from 0 on; -1 where nothing is committed.
    ///
    /// # Errors
    /// When the brokers do not tell.
    pub fn committed(&self, topic: &str, partitions: u32) -> Result<Vec<(i64, String)>> {
        let mut body = Vec::new();
        put_text(&mut body, &self.name)?;
        body.extend(1_u32.to_be_bytes());
        put_text(&mut body, topic)?;
        body.extend(partitions.to_be_bytes());
        (0..partitions).for_each(|partition| body.extend(partition.to_be_bytes()));
        self.ask(OFFSET_FETCH, &body, |rest| {
            let mut found = Vec::new();
            for _ in 0..rest.count()? {
                rest.text()?;
                for _ in 0..rest.count()? {
                    let partition = rest.i32()?;
                    let committed = (rest.i64()?, rest.text()?);
                    if let error @ 1.. = rest.i16()? {
                        return Ok(Err(error));
                    }
                    found.push((partition, committed));
                }
            }
            found.sort();
            Ok(Ok(found
                .into_iter()
                .map(|(_, committed)| committed)
                .collect()))
        })
    }

    /// Joins as a member that takes part in this protocol and cannot be understood, and says nothing
    /// more: it stays until its session ends. Whether it was let in shows in the group alone.
    ///
    /// # Errors
    /// When a name is too long.
    pub fn intrude(&self, protocol: &str) -> Result<()> {
        let mut body = Vec::new();
        put_text(&mut body, &self.name)?;
        body.extend(STRANGER_SESSION_MS.to_be_bytes());
        body.extend(STRANGER_SESSION_MS.to_be_bytes()); // for a rebalance
        put_text(&mut body, "")?; // a new member
        put_text(&mut body, "consumer")?;
        body.extend(1_u32.to_be_bytes());
        put_text(&mut body, protocol)?;
        body.extend(1_u32.to_be_bytes());
        body.push(b'?'); // its metadata
        for broker in &self.brokers {
            // The answer waits for all other members, so it may come too late; the others refuse.
            let _ = ask(*broker, JOIN_GROUP, &body);
        }
        Ok(())
    }

    /// Asks every broker, as one of them is the coordinator, until that does it.
    fn ask<T>(
        &self,
        what: (u16, u16),
        body: &[u8],
        read: impl Fn(&mut Rest<'_>) -> Result<Answer<T>>,
    ) -> Result<T> {
        let mut why = String::from("no broker is known");
        let done = poll_until(WITHIN, || {
            for broker in &self.brokers {
                let answer = ask(*broker, what, body);
                match answer.and_then(|answer| read(&mut Rest(&answer)).context("odd")) {
                    Ok(Ok(done)) => return Ok(Some(done)),
                    Ok(Err(error)) => why = format!("{broker} answers with error {error}"),
                    Err(error) => why = format!("{broker}: {error:#}"),
                }
            }
            Ok(None)
        })?;
        match done {
            Some(done) => Ok(done),
            None => bail!("request {what:?} about group {}: {why}", self.name),
        }
    }
}
