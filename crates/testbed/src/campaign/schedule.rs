//! What happens in each round of a campaign. Pure: a round follows from the seed, its number and
//! the ground alone, so that one that failed is run again by itself.

mod fault;

use std::fmt;

use fastrand::Rng;

pub use self::fault::{Fault, LostAck, Step};

/// What can be reached into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ground {
    /// Kafka nodes that may be hit; 0: the broker is not ours.
    pub nodes: u32,
    pub wire: Wire,
}

/// How single requests between gateway and Kafka are hit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wire {
    /// By the embedded broker's own rules: every kind of fault.
    Rules,
    /// By a proxy in front of a real Kafka: answers held back or lost.
    Proxy,
    None,
}

/// The kinds of fault, for counting.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    GatewayKilled,
    GatewayFrozen,
    GatewayEnded,
    LeaderMoved,
    NodeKilled,
    NodeFrozen,
    KafkaFrozen,
    KafkaKilled,
    AckLost,
    ProduceLate,
    Throttled,
    Refused,
    DiskFull,
    KilledWhileAway,
}

/// One round.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Round {
    pub number: u32,
    pub seed: u64,
    /// How long the load runs undisturbed before.
    pub wait_ms: u64,
    /// What begins when, after the wait.
    pub faults: Vec<(u64, Fault)>,
    /// Whether the dead letters are all replayed before the next round begins; if not, faults
    /// meet a replay.
    pub rest: bool,
}

const KINDS: [Kind; 14] = [
    Kind::GatewayKilled,
    Kind::GatewayFrozen,
    Kind::GatewayEnded,
    Kind::LeaderMoved,
    Kind::NodeKilled,
    Kind::NodeFrozen,
    Kind::KafkaFrozen,
    Kind::KafkaKilled,
    Kind::AckLost,
    Kind::ProduceLate,
    Kind::Throttled,
    Kind::Refused,
    Kind::DiskFull,
    Kind::KilledWhileAway,
];

/// Error codes of produce with which nothing was done; the protocol guide's numbers. Not those that
/// blame the data: what is refused so waits minutes for its next try, by design.
const NOT_DONE: [i16; 9] = [
    3,  // UNKNOWN_TOPIC_OR_PARTITION
    5,  // LEADER_NOT_AVAILABLE
    6,  // NOT_LEADER_OR_FOLLOWER
    7,  // REQUEST_TIMED_OUT, and it was not done
    13, // NETWORK_EXCEPTION
    19, // NOT_ENOUGH_REPLICAS
    29, // TOPIC_AUTHORIZATION_FAILED
    56, // KAFKA_STORAGE_ERROR
    89, // THROTTLING_QUOTA_EXCEEDED
];
/// Those that a real broker answers to what it has appended, too.
const DONE: [i16; 5] = [
    -1, // UNKNOWN_SERVER_ERROR
    7,  // REQUEST_TIMED_OUT
    13, // NETWORK_EXCEPTION
    20, // NOT_ENOUGH_REPLICAS_AFTER_APPEND
    56, // KAFKA_STORAGE_ERROR
];

impl Ground {
    /// A broker that is not ours.
    pub const FOREIGN: Self = Self {
        nodes: 0,
        wire: Wire::None,
    };

    pub fn embedded(nodes: u32) -> Self {
        Self {
            nodes,
            wire: Wire::Rules,
        }
    }

    pub fn apache(nodes: u32) -> Self {
        Self {
            nodes,
            wire: Wire::Proxy,
        }
    }

    /// What can happen here, in the order of [`Kind`].
    pub fn kinds(self) -> Vec<Kind> {
        let possible = |kind: &Kind| match kind {
            Kind::GatewayKilled | Kind::GatewayFrozen | Kind::GatewayEnded => true,
            Kind::KafkaFrozen | Kind::KafkaKilled | Kind::DiskFull | Kind::KilledWhileAway => {
                self.nodes > 0
            }
            Kind::NodeKilled | Kind::NodeFrozen => self.nodes > 1,
            Kind::LeaderMoved => self.nodes > 1 && self.wire == Wire::Rules,
            Kind::Throttled | Kind::Refused => self.wire == Wire::Rules,
            Kind::AckLost | Kind::ProduceLate => self.wire != Wire::None,
        };
        KINDS.into_iter().filter(possible).collect()
    }
}

/// The round with this number, counted from 1. So many rounds in a row as there are kinds have each
/// of them once; a third of the rounds have a second fault at the same time, some a third.
pub fn round(seed: u64, number: u32, ground: Ground) -> Round {
    let mut kinds = ground.kinds();
    let count = kinds.len() as u32;
    let place = number.saturating_sub(1);
    rng(seed, 0, place / count).shuffle(&mut kinds);
    let mut rng = rng(seed, 1, number);
    let wait_ms = rng.u64(50..700);
    let mut faults = vec![(0, fault(kinds[(place % count) as usize], ground, &mut rng))];
    while faults.len() < 3 && rng.u32(0..3) == 0 {
        let more = kinds[rng.usize(0..kinds.len())];
        faults.push((rng.u64(0..1_500), fault(more, ground, &mut rng)));
    }
    Round {
        number,
        seed,
        wait_ms,
        faults,
        rest: rng.u32(0..4) == 0,
    }
}

fn rng(seed: u64, what: u64, number: u32) -> Rng {
    let mixed = seed
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(what << 32)
        .wrapping_add(u64::from(number));
    Rng::with_seed(mixed)
}

fn fault(kind: Kind, ground: Ground, rng: &mut Rng) -> Fault {
    // A real node is given up by the others after three seconds of silence.
    let real = ground.wire != Wire::Rules;
    let silence_ms = if real { 6_000 } else { 2_500 };
    match kind {
        Kind::GatewayKilled => Fault::GatewayKilled {
            back_ms: rng.u64(0..600),
        },
        Kind::GatewayFrozen => Fault::GatewayFrozen {
            for_ms: rng.u64(200..3_000),
        },
        Kind::GatewayEnded => Fault::GatewayEnded {
            back_ms: rng.u64(0..300),
        },
        Kind::LeaderMoved => Fault::LeaderMoved {
            partition_pick: rng.u32(0..1_000),
            node_pick: rng.u32(0..1_000),
        },
        Kind::NodeKilled => Fault::NodeKilled {
            partition_pick: rng.u32(0..1_000),
            for_ms: rng.u64(100..silence_ms),
        },
        Kind::NodeFrozen => Fault::NodeFrozen {
            partition_pick: rng.u32(0..1_000),
            for_ms: rng.u64(200..silence_ms),
        },
        Kind::KafkaFrozen => Fault::KafkaFrozen {
            for_ms: rng.u64(200..7_000),
        },
        Kind::KafkaKilled => Fault::KafkaKilled {
            for_ms: rng.u64(0..2_000),
        },
        Kind::AckLost => Fault::AckLost {
            how: match rng.u32(0..if real { 2 } else { 4 }) {
                0 => LostAck::Cut,
                1 => LostAck::Swallowed,
                _ => LostAck::ReportedAs(DONE[rng.usize(0..DONE.len())]),
            },
            times: rng.u64(1..8),
        },
        Kind::ProduceLate => Fault::ProduceLate {
            ms: rng.u64(500..3_000),
            answer_only: real || rng.bool(),
            times: rng.u64(1..6),
        },
        Kind::Throttled => Fault::Throttled {
            ms: rng.u64(100..1_500),
            times: rng.u64(1..10),
        },
        Kind::Refused => Fault::Refused {
            code: NOT_DONE[rng.usize(0..NOT_DONE.len())],
            partition_pick: rng.bool().then(|| rng.u32(0..1_000)),
            times: rng.u64(1..=40),
        },
        Kind::DiskFull => Fault::DiskFull {
            for_ms: rng.u64(4_000..8_000),
            room_bytes: rng.u64(0..30_000),
        },
        Kind::KilledWhileAway => {
            let away_ms = rng.u64(2_000..6_000);
            Fault::KilledWhileAway {
                away_ms,
                // Some come back before Kafka does, some after.
                kill_at_ms: rng.u64(away_ms / 4..away_ms),
                back_ms: rng.u64(0..1_500),
            }
        }
    }
}

impl Round {
    /// What to do when, in order; milliseconds after [`Round::wait_ms`].
    pub fn steps(&self) -> Vec<(u64, Step)> {
        let mut steps = Vec::new();
        for (at, fault) in &self.faults {
            steps.extend(
                fault
                    .steps()
                    .into_iter()
                    .map(|(after, step)| (at + after, step)),
            );
        }
        steps.sort_by_key(|(at, _)| *at);
        steps
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "round {:>3} (seed {}): ", self.number, self.seed)?;
        for (index, (at, fault)) in self.faults.iter().enumerate() {
            match index {
                0 => write!(f, "{fault}")?,
                _ => write!(f, "; {at} ms later {fault}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn embedded() -> Ground {
        Ground::embedded(3)
    }

    #[test]
    fn a_round_is_the_same_whichever_ran_before_it() {
        let all: Vec<_> = (1..=60)
            .map(|number| round(7, number, embedded()))
            .collect();
        assert_eq!(all[41], round(7, 42, embedded()));
        let other: Vec<_> = (1..=60)
            .map(|number| round(8, number, embedded()))
            .collect();
        assert_ne!(all, other);
        assert!(all[41].to_string().starts_with("round  42 (seed 7): "));
    }

    #[test]
    fn as_many_rounds_as_kinds_have_each_kind() {
        for (ground, kinds) in [
            (embedded(), 14),
            (Ground::apache(3), 11),
            (Ground::FOREIGN, 3),
        ] {
            assert_eq!(ground.kinds().len(), kinds, "{ground:?}");
            for block in 0..5 {
                let numbers = block * kinds as u32 + 1..=(block + 1) * kinds as u32;
                let first: BTreeSet<_> = numbers
                    .map(|number| round(3, number, ground).faults[0].1.kind())
                    .collect();
                assert_eq!(first.len(), kinds, "{ground:?}: {first:?}");
            }
        }
    }

    #[test]
    fn several_faults_come_at_once_and_steps_are_in_order() {
        let several = (1..=100).filter(|number| round(1, *number, embedded()).faults.len() > 1);
        assert!((15..60).contains(&several.count()));
        for number in 1..=200 {
            let steps = round(1, number, embedded()).steps();
            assert!(steps.is_sorted_by_key(|(at, _)| *at), "{steps:?}");
            assert!(
                steps.last().is_some_and(|(at, _)| *at < 15_000),
                "{steps:?}"
            );
        }
    }
}
