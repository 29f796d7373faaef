//! The embedded broker's control port, as any program could use it: HTTP with JSON.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::http::{Client, Request};

/// A broker that does not answer its control port so long is stopped.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Where faults are asked for.
#[derive(Clone, Debug)]
pub struct Control {
    address: SocketAddr,
}

impl Control {
    pub fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Does a command, as `{"do":"pause"}`.
    ///
    /// # Errors
    /// When the broker does not answer, or refuses; its words are in the error.
    pub fn command(&self, command: &Value) -> Result<()> {
        self.ask("POST", command.to_string().as_bytes())
            .with_context(|| format!("the broker does not do {command}"))
            .map(|_| ())
    }

    /// A fault for produce requests: what happens, to how many of them, to one partition alone.
    ///
    /// # Errors
    /// As [`Control::command`].
    pub fn produce_fault(
        &self,
        then: &Value,
        times: u64,
        partition: Option<(&str, u32)>,
    ) -> Result<()> {
        let mut rule = json!({"do": "fault", "on": "Produce", "times": times, "then": then});
        if let Some((topic, partition)) = partition {
            rule["topic"] = topic.into();
            rule["partition"] = partition.into();
        }
        self.command(&rule)
    }

    /// Partitions of a topic in order, each with the node that leads it.
    ///
    /// # Errors
    /// When the broker does not answer, or has no such topic.
    pub fn leaders(&self, topic: &str) -> Result<Vec<u32>> {
        let leaders = self.of_partitions(topic, "leader")?;
        leaders
            .into_iter()
            .map(|it| Ok(u32::try_from(it)?))
            .collect()
    }

    /// Where the logs of a topic's partitions end, in order.
    ///
    /// # Errors
    /// As [`Control::leaders`].
    pub fn ends(&self, topic: &str) -> Result<Vec<u64>> {
        self.of_partitions(topic, "end")
    }

    fn of_partitions(&self, topic: &str, what: &str) -> Result<Vec<u64>> {
        let state = self.ask("GET", b"")?;
        let topics = state["topics"].as_array().into_iter().flatten();
        let mut found = topics.filter(|found| found["name"] == topic);
        let found = found.next().with_context(|| format!("no topic {topic}"))?;
        let partitions = found["partitions"].as_array().into_iter().flatten();
        let number = |it: &Value| it[what].as_u64().with_context(|| format!("no {what}"));
        partitions.map(number).collect()
    }

    fn ask(&self, method: &str, body: &[u8]) -> Result<Value> {
        let mut client = Client::new(self.address, ANSWER_WITHIN);
        let headers = [("connection", "close")];
        let response = client.send(&Request {
            method,
            target: "/",
            headers: &headers,
            body,
        })?;
        if response.status != 200 {
            bail!("{} {}", response.status, response.text());
        }
        Ok(response.json())
    }
}
