//! Which step is hit in which round, of a writer or of a removal. Pure: functions of seed and number.

use std::{fmt, time::Duration};

use fastrand::Rng;

/// A step, and on which side of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Point {
    pub who: &'static str,
    pub side: &'static str,
    pub what: &'static str,
    /// Of a file, with a `*` at one end, or of a point.
    pub name: &'static str,
}

/// A point, and which time that it comes by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hit {
    pub point: Point,
    pub count: u32,
}

/// One life of the writer.
#[derive(Clone, Debug)]
pub struct Round {
    pub number: u32,
    pub hit: Hit,
    /// How long the step may take to come.
    pub within: Duration,
    /// It does not end there but is stopped, until another has its partitions and has gone on.
    pub freeze: bool,
    /// Before the next writer is started.
    pub away_ms: u64,
    /// Kill the leader of this partition (modulo their number) before.
    pub leader_pick: Option<u32>,
    /// `consumer.dedupMaxBatches`, where it is tiny.
    pub window: Option<u32>,
    /// One of two gateways is stopped in it: what it sends when it is woken has an old *since*, and
    /// may be undecidable before any of it is stored.
    pub gateway_sleeps: bool,
}

/// One removal behind the writers.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// `None`: it is let do all of its work.
    pub hit: Option<Hit>,
    /// Before the next one.
    pub pause_ms: u64,
}

/// What is done to which file (or a point), and how often that is seen in a short time.
type Step = (&'static str, &'static str, u32);

const SIDES: [&str; 2] = ["before", "after"];
/// In the order of a save: made, what is no record put aside, temporary file, link, its removal, the
/// directory; then the commit, which is also the claim of a partition that was just taken.
const OFTEN: [Step; 13] = [
    ("point", "prepare", 30),
    ("create", "records-*", 1),
    ("write", "records-*", 4),
    ("sync", "records-*", 4),
    ("syncdir", "consumer", 1),
    ("point", "publish", 30),
    ("create", ".tmp-*", 30),
    ("write", ".tmp-*", 30),
    ("sync", ".tmp-*", 30),
    ("link", "*.ndjson.zst", 30),
    ("remove", ".tmp-*", 30),
    ("syncdir", "p0*", 30),
    ("point", "commit", 30),
];
/// The snapshots of the window, every few seconds; an old one is taken from its name and removed.
const SELDOM: [Step; 4] = [
    ("link", "*.window-a", 1),
    ("link", "*.window-b", 1),
    ("rename", ".taken-*", 1),
    ("remove", ".taken-*", 1),
];
/// One round in so many is one of these.
const SELDOM_EVERY: u32 = 20;
const ONCE: [Step; 2] = [("link", "START", 1), ("makedir", "p0*", 1)];
/// Chains are begun in the first rounds.
const BEGINNING: u32 = 4;
/// All of them may have been begun.
const BEGUN_WITHIN: Duration = Duration::from_secs(2);
const STEP_WITHIN: Duration = Duration::from_secs(15);
/// One round is for certain, so that a short campaign has one; later one in so many.
const FREEZE_AT: u32 = 6;
const FREEZE_EVERY: u32 = 40;
const AWAY_MS_MAX: u64 = 150;
/// Rounds between two judgements of all that is stored. In every second stretch of so many the
/// duplicate window is tiny.
pub const STRETCH: u32 = 10;
/// What a tiny window may hold; in one campaign always the same.
const TINY: std::ops::RangeInclusive<u32> = 2..=6;
/// One round in so many, where there is a leader to be killed.
const LEADER_EVERY: u32 = 4;
/// In the order of a removal: snapshots, the watermark, older watermarks, segments.
const REMOVAL: [Step; 10] = [
    ("create", ".tmp-*", 9),
    ("sync", ".tmp-*", 9),
    ("link", "*.window-a", 4),
    ("link", "*.window-b", 4),
    ("rename", ".taken-*", 4),
    ("remove", ".taken-*", 4),
    ("syncdir", "p0*", 16),
    ("link", "w*", 4),
    ("remove", "w*", 4),
    ("remove", "*.ndjson.zst", 20),
];
/// One removal in so many is let do all of its work.
const WHOLE_EVERY: u32 = 4;
const PAUSE_MS_MAX: u64 = 1_200;

/// The writer's round with this number, from 1 on.
pub fn round(seed: u64, number: u32) -> Round {
    let mut rng = rng(seed, number);
    let freeze = number == FREEZE_AT || number > FREEZE_AT && rng.u32(..FREEZE_EVERY) == 0;
    let (steps, turn) = if number <= BEGINNING {
        (&ONCE[..], number)
    } else if number.is_multiple_of(SELDOM_EVERY) && !freeze {
        (&SELDOM[..], number / SELDOM_EVERY)
    } else {
        (&OFTEN[..], number - number / SELDOM_EVERY)
    };
    let window = (number > STRETCH && (number - 1) / STRETCH % 2 == 1).then(|| tiny_window(seed));
    Round {
        number,
        hit: hit("writer", steps, seed, turn, &mut rng),
        within: if number <= BEGINNING {
            BEGUN_WITHIN
        } else {
            STEP_WITHIN
        },
        freeze,
        away_ms: rng.u64(0..=AWAY_MS_MAX),
        leader_pick: (!freeze && rng.u32(..LEADER_EVERY) == 0).then(|| rng.u32(..)),
        window,
        gateway_sleeps: window.is_some() && number.is_multiple_of(2),
    }
}

/// What `consumer.dedupMaxBatches` is in the rounds in which it is tiny.
pub fn tiny_window(seed: u64) -> u32 {
    rng(seed, 0).u32(TINY)
}

/// The removal with this number, from 1 on.
pub fn pass(seed: u64, number: u32) -> Pass {
    let mut rng = rng(!seed, number);
    let whole = number.is_multiple_of(WHOLE_EVERY);
    let turn = number - number / WHOLE_EVERY;
    Pass {
        hit: (!whole).then(|| hit("removal", &REMOVAL, !seed, turn, &mut rng)),
        pause_ms: rng.u64(0..=PAUSE_MS_MAX),
    }
}

/// Every point that a long campaign has to reach.
pub fn all() -> Vec<Point> {
    let writer = OFTEN.iter().chain(&SELDOM).map(|step| ("writer", step));
    let steps = writer.chain(REMOVAL.iter().map(|step| ("removal", step)));
    let points = steps.flat_map(|(who, (what, name, _))| {
        SIDES.map(|side| Point {
            who,
            side,
            what,
            name,
        })
    });
    points.collect()
}

/// Dealt from a deck that holds each side of each step once, shuffled anew when it has come to its
/// end: none is left out for long.
fn hit(who: &'static str, steps: &[Step], seed: u64, turn: u32, rng: &mut Rng) -> Hit {
    let sides = |step: &Step| SIDES.map(|side| (side, *step));
    let mut deck: Vec<_> = steps.iter().flat_map(sides).collect();
    let size = deck.len() as u32;
    self::rng(seed, !(turn / size)).shuffle(&mut deck);
    let (side, (what, name, most)) = deck[(turn % size) as usize];
    let point = Point {
        who,
        side,
        what,
        name,
    };
    Hit {
        point,
        count: rng.u32(1..=most),
    }
}

pub fn rng(seed: u64, number: u32) -> Rng {
    Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(number))
}

impl Hit {
    /// As the processes read it.
    pub fn at(&self) -> String {
        let Point {
            side, what, name, ..
        } = self.point;
        format!("{side}:{what}:{name}:{}", self.count)
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            who,
            side,
            what,
            name,
        } = self;
        write!(f, "{who} {side} {what} {name}")
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hit { point, count } = self.hit;
        write!(f, "round {:>4}: {point} ({count})", self.number)?;
        if self.freeze {
            write!(f, ", frozen there")?;
        }
        if self.leader_pick.is_some() {
            write!(f, ", a leader killed before")?;
        }
        if let Some(window) = self.window {
            write!(f, ", a window of {window}")?;
        }
        if self.gateway_sleeps {
            write!(f, ", a gateway stopped")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn rounds_are_the_same_again_and_spread_evenly_over_every_step() {
        let mut seen: BTreeMap<Point, u32> = BTreeMap::new();
        let (mut frozen, mut tiny) = (0, 0);
        for number in 1..=480 {
            let one = round(7, number);
            assert_eq!(one.hit, round(7, number).hit);
            *seen.entry(one.hit.point).or_default() += 1;
            frozen += u32::from(one.freeze);
            tiny += u32::from(one.window.is_some());
            if let Some(hit) = pass(7, number).hit {
                *seen.entry(hit.point).or_default() += 1;
            }
        }
        for point in all() {
            let count = seen.get(&point).copied().unwrap_or(0);
            assert!((2..=24).contains(&count), "{point}: {seen:?}");
        }
        assert!((5..40).contains(&frozen), "{frozen} frozen");
        assert_eq!((tiny, round(7, STRETCH).window), (240, None));
        assert_ne!(round(7, 9).hit.at(), round(8, 9).hit.at());
    }
}
