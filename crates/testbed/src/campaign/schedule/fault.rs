//! One fault of a round: what it is called, and the steps that it takes. Pure.

use std::fmt;

use super::Kind;

/// How long faults of single requests may find some; what has found none by then is forgotten.
const ARMED_MS: u64 = 2_000;

/// A fault with all that is chosen about it. A `pick` is taken modulo what there is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    GatewayKilled {
        back_ms: u64,
    },
    GatewayFrozen {
        for_ms: u64,
    },
    GatewayEnded {
        back_ms: u64,
    },
    LeaderMoved {
        partition_pick: u32,
        node_pick: u32,
    },
    NodeKilled {
        partition_pick: u32,
        for_ms: u64,
    },
    NodeFrozen {
        partition_pick: u32,
        for_ms: u64,
    },
    KafkaFrozen {
        for_ms: u64,
    },
    KafkaKilled {
        for_ms: u64,
    },
    AckLost {
        how: LostAck,
        times: u64,
    },
    ProduceLate {
        ms: u64,
        answer_only: bool,
        times: u64,
    },
    Throttled {
        ms: u64,
        times: u64,
    },
    Refused {
        code: i16,
        partition_pick: Option<u32>,
        times: u64,
    },
    /// No room for dead letters while Kafka is away.
    DiskFull {
        for_ms: u64,
        room_bytes: u64,
    },
    /// kill -9 with dead letters on the disk: the next start has to know them.
    KilledWhileAway {
        away_ms: u64,
        kill_at_ms: u64,
        back_ms: u64,
    },
}

/// A produce that was done, and whose answer does not come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LostAck {
    /// The connection is closed instead.
    Cut,
    /// The connection goes on without it.
    Swallowed,
    /// Something else is said.
    ReportedAs(i16),
}

/// One step of a round.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    KillGateway,
    FreezeGateway,
    ThawGateway,
    EndGateway,
    StartGateway,
    MoveLeader {
        partition_pick: u32,
        node_pick: u32,
    },
    /// The node that leads the picked partition.
    KillNode {
        partition_pick: u32,
    },
    FreezeNode {
        partition_pick: u32,
    },
    /// All of them that are hit.
    HealNodes,
    FreezeKafka,
    ThawKafka,
    KillKafka,
    StartKafka,
    /// For produce requests alone.
    Arm(Fault),
    FillDisk {
        room_bytes: u64,
    },
    FreeDisk,
    /// Nothing: what is armed has its time.
    Hold,
}

impl Fault {
    pub fn kind(&self) -> Kind {
        match self {
            Self::GatewayKilled { .. } => Kind::GatewayKilled,
            Self::GatewayFrozen { .. } => Kind::GatewayFrozen,
            Self::GatewayEnded { .. } => Kind::GatewayEnded,
            Self::LeaderMoved { .. } => Kind::LeaderMoved,
            Self::NodeKilled { .. } => Kind::NodeKilled,
            Self::NodeFrozen { .. } => Kind::NodeFrozen,
            Self::KafkaFrozen { .. } => Kind::KafkaFrozen,
            Self::KafkaKilled { .. } => Kind::KafkaKilled,
            Self::AckLost { .. } => Kind::AckLost,
            Self::ProduceLate { .. } => Kind::ProduceLate,
            Self::Throttled { .. } => Kind::Throttled,
            Self::Refused { .. } => Kind::Refused,
            Self::DiskFull { .. } => Kind::DiskFull,
            Self::KilledWhileAway { .. } => Kind::KilledWhileAway,
        }
    }

    /// Milliseconds after its beginning.
    pub fn steps(&self) -> Vec<(u64, Step)> {
        match *self {
            Self::GatewayKilled { back_ms } => {
                vec![(0, Step::KillGateway), (back_ms, Step::StartGateway)]
            }
            Self::GatewayFrozen { for_ms } => {
                vec![(0, Step::FreezeGateway), (for_ms, Step::ThawGateway)]
            }
            Self::GatewayEnded { back_ms } => {
                vec![(0, Step::EndGateway), (back_ms, Step::StartGateway)]
            }
            Self::LeaderMoved {
                partition_pick,
                node_pick,
            } => vec![(
                0,
                Step::MoveLeader {
                    partition_pick,
                    node_pick,
                },
            )],
            Self::NodeKilled {
                partition_pick,
                for_ms,
            } => vec![
                (0, Step::KillNode { partition_pick }),
                (for_ms, Step::HealNodes),
            ],
            Self::NodeFrozen {
                partition_pick,
                for_ms,
            } => vec![
                (0, Step::FreezeNode { partition_pick }),
                (for_ms, Step::HealNodes),
            ],
            Self::KafkaFrozen { for_ms } => vec![(0, Step::FreezeKafka), (for_ms, Step::ThawKafka)],
            Self::KafkaKilled { for_ms } => vec![(0, Step::KillKafka), (for_ms, Step::StartKafka)],
            Self::DiskFull { for_ms, room_bytes } => vec![
                (0, Step::FreezeKafka),
                (0, Step::FillDisk { room_bytes }),
                // Not at once: replay begins on a full disk.
                (for_ms, Step::ThawKafka),
                (for_ms + 300, Step::FreeDisk),
            ],
            Self::KilledWhileAway {
                away_ms,
                kill_at_ms,
                back_ms,
            } => vec![
                (0, Step::FreezeKafka),
                (kill_at_ms, Step::KillGateway),
                (kill_at_ms + back_ms, Step::StartGateway),
                (away_ms, Step::ThawKafka),
            ],
            Self::AckLost { .. }
            | Self::ProduceLate { .. }
            | Self::Throttled { .. }
            | Self::Refused { .. } => {
                vec![(0, Step::Arm(self.clone())), (ARMED_MS, Step::Hold)]
            }
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GatewayKilled { back_ms } => {
                write!(f, "gateway killed, started {back_ms} ms later")
            }
            Self::GatewayFrozen { for_ms } => write!(f, "gateway frozen for {for_ms} ms"),
            Self::GatewayEnded { back_ms } => {
                write!(f, "gateway ended by SIGTERM, started {back_ms} ms later")
            }
            Self::LeaderMoved { .. } => write!(f, "a leader moved"),
            Self::NodeKilled { for_ms, .. } => write!(f, "a leading node killed for {for_ms} ms"),
            Self::NodeFrozen { for_ms, .. } => write!(f, "a leading node frozen for {for_ms} ms"),
            Self::KafkaFrozen { for_ms } => write!(f, "Kafka frozen for {for_ms} ms"),
            Self::KafkaKilled { for_ms } => write!(f, "Kafka killed for {for_ms} ms"),
            Self::AckLost { how, times } => match how {
                LostAck::Cut => write!(f, "{times} acks lost with their connection"),
                LostAck::Swallowed => write!(f, "{times} acks swallowed"),
                LostAck::ReportedAs(code) => {
                    write!(f, "{times} produces done and reported as error {code}")
                }
            },
            Self::ProduceLate {
                ms,
                answer_only,
                times,
            } => {
                let what = if *answer_only { "acks" } else { "produces" };
                write!(f, "{times} {what} late by {ms} ms")
            }
            Self::Throttled { ms, times } => write!(f, "{times} produces throttled for {ms} ms"),
            Self::Refused {
                code,
                partition_pick,
                times,
            } => {
                let of = if partition_pick.is_some() {
                    " of one partition"
                } else {
                    ""
                };
                write!(f, "{times} produces{of} refused with error {code}")
            }
            Self::DiskFull { for_ms, room_bytes } => write!(
                f,
                "Kafka frozen for {for_ms} ms and the disk full but for {room_bytes} bytes"
            ),
            Self::KilledWhileAway {
                away_ms,
                kill_at_ms,
                back_ms,
            } => write!(
                f,
                "Kafka frozen for {away_ms} ms, gateway killed after {kill_at_ms} ms, started \
                 {back_ms} ms later"
            ),
        }
    }
}
