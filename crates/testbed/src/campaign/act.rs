//! Does the steps of a round to a stand, and makes all of it whole again afterwards.

use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::schedule::{Fault, LostAck, Step};
use crate::{
    control::Control,
    disk::SmallDisk,
    http,
    kafka::{self, Cluster, Node},
    proxy::{Ack, Proxies},
    service::{Broker, Service},
    stand::Stand,
};

const GONE_WITHIN: Duration = Duration::from_secs(10);

/// The Kafka under a stand, as far as it may be hit.
#[derive(Debug)]
pub enum Kafka {
    /// The stand's own.
    Embedded,
    /// Real nodes, with a proxy before each that the gateway goes through.
    Apache(Cluster, Proxies),
    /// Somebody else's.
    Foreign,
}

/// What was done and is to be undone.
#[derive(Debug)]
pub struct Actor<'a> {
    pub stand: &'a mut Stand,
    kafka: &'a Kafka,
    disk: Option<&'a SmallDisk>,
    frozen: bool,
    /// SIGTERM was sent.
    ending: bool,
    whole: State,
    /// Single nodes that are hit.
    hit: Vec<(u32, State)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Up,
    Frozen,
    Dead,
}

impl<'a> Actor<'a> {
    pub fn new(stand: &'a mut Stand, kafka: &'a Kafka, disk: Option<&'a SmallDisk>) -> Self {
        Self {
            stand,
            kafka,
            disk,
            frozen: false,
            ending: false,
            whole: State::Up,
            hit: Vec::new(),
        }
    }

    /// One step. What another fault of the round makes impossible (a leader cannot be moved while
    /// Kafka is dead) is left out.
    ///
    /// # Errors
    /// When something does not do as it is told.
    pub fn act(&mut self, step: &Step) -> Result<()> {
        match *step {
            Step::KillGateway => self.kill_gateway(),
            Step::FreezeGateway => self.freeze_gateway(),
            Step::ThawGateway => self.thaw_gateway(),
            Step::EndGateway => self.end_gateway(),
            Step::StartGateway => self.start_gateway(),
            Step::MoveLeader {
                partition_pick,
                node_pick,
            } => self.move_leader(partition_pick, node_pick),
            Step::KillNode { partition_pick } => self.hit_leader(partition_pick, State::Dead),
            Step::FreezeNode { partition_pick } => self.hit_leader(partition_pick, State::Frozen),
            Step::HealNodes => self.heal_nodes(),
            Step::FreezeKafka if self.whole == State::Up => self.whole_kafka(State::Frozen),
            Step::KillKafka if self.whole != State::Dead => self.whole_kafka(State::Dead),
            Step::ThawKafka if self.whole == State::Frozen => self.whole_kafka(State::Up),
            Step::StartKafka if self.whole == State::Dead => self.whole_kafka(State::Up),
            Step::FreezeKafka | Step::KillKafka | Step::ThawKafka | Step::StartKafka => Ok(()),
            Step::Arm(ref fault) => self.arm(fault),
            Step::FillDisk { room_bytes } => self.disk.map_or(Ok(()), |disk| disk.fill(room_bytes)),
            Step::FreeDisk => self.disk.map_or(Ok(()), SmallDisk::free),
            Step::Hold => Ok(()),
        }
    }

    /// Ends every fault and waits until all is ready.
    ///
    /// # Errors
    /// When something does not come back.
    pub fn heal(&mut self) -> Result<()> {
        self.thaw_gateway()?;
        if self.whole != State::Up {
            self.whole_kafka(State::Up)?;
        }
        self.heal_nodes()?;
        match self.kafka {
            Kafka::Embedded => self.control()?.command(&json!({"do": "clear_faults"}))?,
            Kafka::Apache(_, proxies) => proxies.clear(),
            Kafka::Foreign => {}
        }
        if let Some(disk) = self.disk {
            disk.free()?;
        }
        self.start_gateway()?;
        self.gateway().wait_ready()?;
        self.wait_for_nodes()
    }

    /// Until the nodes of a real Kafka know each other again.
    ///
    /// # Errors
    /// When they do not.
    pub fn wait_for_nodes(&self) -> Result<()> {
        if let Kafka::Apache(cluster, _) = self.kafka {
            for node in cluster.nodes() {
                node.wait_until_it_knows(cluster.nodes().len())?;
            }
        }
        Ok(())
    }
}

impl Actor<'_> {
    /// A real Kafka outlives a campaign that fails.
    pub fn leave_kafka_up(&self) {
        if let Kafka::Apache(cluster, _) = self.kafka {
            for node in cluster.nodes() {
                // The failure has its own message.
                let _ = bring(node, State::Up);
            }
        }
    }
}

/// The gateway.
impl Actor<'_> {
    fn gateway(&mut self) -> &mut Service {
        &mut self.stand.gateways[0]
    }

    fn kill_gateway(&mut self) -> Result<()> {
        if self.ending {
            // It may have ended by itself, properly; then there is nothing to kill.
            let ended = self.gateway().process()?.ended()?;
            if ended.is_some() {
                return self.wait_ended();
            }
        }
        if self.gateway().is_running() {
            self.gateway().kill()?;
        }
        (self.frozen, self.ending) = (false, false);
        Ok(())
    }

    fn freeze_gateway(&mut self) -> Result<()> {
        if self.gateway().is_running() && !self.ending {
            self.gateway().process()?.freeze()?;
            self.frozen = true;
        }
        Ok(())
    }

    fn thaw_gateway(&mut self) -> Result<()> {
        if std::mem::take(&mut self.frozen) {
            self.gateway().process()?.thaw()?;
        }
        Ok(())
    }

    fn end_gateway(&mut self) -> Result<()> {
        if self.ending {
            return Ok(());
        }
        // Started a moment ago, it does not listen for the signal yet, and for nothing else.
        if !self.frozen && http::get(self.gateway().admin, "/livez").is_err() {
            return self.kill_gateway();
        }
        if self.gateway().is_running() {
            self.gateway().process()?.terminate()?;
            self.ending = true;
        }
        Ok(())
    }

    fn start_gateway(&mut self) -> Result<()> {
        if self.ending {
            self.thaw_gateway()?;
            self.wait_ended()?;
        }
        if !self.gateway().is_running() {
            self.gateway().start()?;
        }
        Ok(())
    }

    fn wait_ended(&mut self) -> Result<()> {
        self.ending = false;
        self.gateway().wait_ended()
    }
}

/// Kafka.
impl Actor<'_> {
    fn broker(&mut self) -> Result<&mut Broker> {
        self.stand.broker.as_mut().context("an embedded broker")
    }

    fn control(&mut self) -> Result<Control> {
        Ok(self.broker()?.control.clone())
    }

    fn whole_kafka(&mut self, wanted: State) -> Result<()> {
        let was = std::mem::replace(&mut self.whole, wanted);
        if let Kafka::Apache(cluster, _) = self.kafka {
            for node in cluster.nodes() {
                bring(node, wanted)?;
            }
        } else {
            let broker = self.broker()?;
            match (was, wanted) {
                (_, State::Frozen) => broker.process()?.freeze()?,
                (_, State::Dead) => broker.kill()?,
                (State::Dead, State::Up) => broker.start()?,
                (_, State::Up) => broker.process()?.thaw()?,
            }
        }
        let all_anew = match self.kafka {
            Kafka::Apache(..) => wanted != State::Frozen,
            _ => wanted == State::Dead,
        };
        if all_anew {
            self.hit.clear();
        }
        Ok(())
    }

    fn move_leader(&mut self, partition_pick: u32, node_pick: u32) -> Result<()> {
        if self.whole != State::Up {
            return Ok(());
        }
        let topic = self.stand.plan.topic.clone();
        let partition = partition_pick % self.stand.plan.partitions;
        let node = node_pick % u32::from(self.broker()?.nodes) + 1;
        self.control()?.command(&json!({
            "do": "move_leader", "topic": topic, "partition": partition, "node": node,
        }))
    }

    fn hit_leader(&mut self, partition_pick: u32, wanted: State) -> Result<()> {
        // One node at a time: two of three away is all of Kafka away, which is a fault of its own.
        if self.whole != State::Up || !self.hit.is_empty() {
            return Ok(());
        }
        let topic = self.stand.plan.topic.clone();
        let leaders = match self.kafka {
            Kafka::Apache(cluster, _) => match kafka::leaders(cluster, &topic) {
                Ok(leaders) => leaders,
                // It has been killed a moment ago and is not there yet.
                Err(_) => return Ok(()),
            },
            _ => self.control()?.leaders(&topic)?,
        };
        let leader = leaders[partition_pick as usize % leaders.len()];
        if let Kafka::Apache(cluster, _) = self.kafka {
            let mut nodes = cluster.nodes().iter();
            let node = nodes.find(|node| u32::from(node.id()) == leader);
            bring(node.context("the leader is a node")?, wanted)?;
        } else {
            let how = if wanted == State::Dead {
                "stop_node"
            } else {
                "pause"
            };
            self.control()?
                .command(&json!({"do": how, "node": leader}))?;
        }
        self.hit.push((leader, wanted));
        Ok(())
    }

    fn heal_nodes(&mut self) -> Result<()> {
        if self.whole != State::Up {
            return Ok(());
        }
        for (id, state) in std::mem::take(&mut self.hit) {
            if let Kafka::Apache(cluster, _) = self.kafka {
                let mut nodes = cluster.nodes().iter();
                let node = nodes.find(|node| u32::from(node.id()) == id);
                bring(node.context("it was hit")?, State::Up)?;
            } else {
                let how = if state == State::Dead {
                    "start_node"
                } else {
                    "resume"
                };
                self.control()?.command(&json!({"do": how, "node": id}))?;
            }
        }
        Ok(())
    }

    fn arm(&mut self, fault: &Fault) -> Result<()> {
        if let Kafka::Apache(_, proxies) = self.kafka {
            let (ack, times) = match *fault {
                Fault::AckLost {
                    how: LostAck::Cut,
                    times,
                } => (Ack::Cut, times),
                Fault::AckLost { times, .. } => (Ack::Swallowed, times),
                Fault::ProduceLate { ms, times, .. } => {
                    (Ack::Late(Duration::from_millis(ms)), times)
                }
                _ => return Ok(()),
            };
            proxies.hit_produce(ack, times);
            return Ok(());
        }
        if self.whole != State::Up {
            return Ok(());
        }
        let topic = self.stand.plan.topic.clone();
        let partitions = self.stand.plan.partitions;
        let (then, times, pick) = rule(fault);
        let partition = pick.map(|pick| (topic.as_str(), pick % partitions));
        self.control()?.produce_fault(&then, times, partition)
    }
}

/// As the embedded broker names it.
fn rule(fault: &Fault) -> (Value, u64, Option<u32>) {
    match *fault {
        Fault::AckLost { how, times } => {
            let then = match how {
                LostAck::Cut => json!("cut_answer"),
                LostAck::Swallowed => json!("drop_answer"),
                LostAck::ReportedAs(code) => json!({"done_but_error": code}),
            };
            (then, times, None)
        }
        Fault::ProduceLate {
            ms,
            answer_only,
            times,
        } => {
            let how = if answer_only { "delay_answer" } else { "delay" };
            (json!({ how: ms }), times, None)
        }
        Fault::Throttled { ms, times } => (json!({"throttle": ms}), times, None),
        Fault::Refused {
            code,
            partition_pick,
            times,
        } => (json!({"answer_error": code}), times, partition_pick),
        ref other => unreachable!("{other} is no fault of single requests"),
    }
}

/// Whatever state the node is in now.
fn bring(node: &Node, wanted: State) -> Result<()> {
    match wanted {
        State::Frozen if node.runs() => node.signal(Signal::STOP),
        State::Up if node.runs() => node.signal(Signal::CONT),
        State::Up => node.start(),
        State::Dead if node.runs() => {
            node.signal(Signal::KILL)?;
            let gone = node.wait_until_gone(GONE_WITHIN)?;
            gone.then_some(()).context("a node outlives a kill -9")
        }
        State::Frozen | State::Dead => Ok(()),
    }
}
