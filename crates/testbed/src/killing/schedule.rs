//! Which step of the writer's is hit in which round. Pure: a function of seed and number.

use std::fmt;

use fastrand::Rng;

/// A step, and on which side of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Point {
    pub side: &'static str,
    pub what: &'static str,
    /// Of a file, with a `*` at one end, or of a point.
    pub name: &'static str,
}

#[derive(Clone, Debug)]
pub struct Round {
    pub number: u32,
    pub point: Point,
    /// The how manieth.
    pub count: u32,
    /// Before the next writer is started.
    pub away_ms: u64,
    /// Kill the leader of this partition (modulo their number) before.
    pub leader_pick: Option<u32>,
}

const SIDES: [&str; 2] = ["before", "after"];
/// In the order of a save: made, temporary file, link, its removal, the directory; then the commit,
/// which is also the claim of a partition that was just taken.
const OFTEN: [(&str, &str); 9] = [
    ("point", "prepare"),
    ("point", "publish"),
    ("create", ".tmp-*"),
    ("write", ".tmp-*"),
    ("sync", ".tmp-*"),
    ("link", "*.ndjson.zst"),
    ("remove", ".tmp-*"),
    ("syncdir", "p0*"),
    ("point", "commit"),
];
/// The snapshots of the window: every few seconds.
const SELDOM: [(&str, &str); 3] = [
    ("rename", "*.window-a"),
    ("rename", "*.window-b"),
    ("remove", "*.window-b"),
];
/// One round in so many is one of these.
const SELDOM_EVERY: u32 = 8;
const ONCE: [(&str, &str); 2] = [("link", "START"), ("makedir", "p0*")];
/// Chains are begun in the first rounds.
const BEGINNING: u32 = 4;
const COUNT_MAX: u32 = 30;
const AWAY_MS_MAX: u64 = 150;
/// One round in so many, where there is a leader to be killed.
const LEADER_EVERY: u32 = 4;

/// The round with this number, from 1 on.
pub fn round(seed: u64, number: u32) -> Round {
    let mut rng = Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(number));
    let often = number > BEGINNING && rng.u32(..SELDOM_EVERY) > 0;
    let (what, name) = if number <= BEGINNING {
        ONCE[(number as usize / 2) % ONCE.len()]
    } else if often {
        // Each as often as any other, in a seeded order.
        OFTEN[rng.usize(..OFTEN.len())]
    } else {
        SELDOM[rng.usize(..SELDOM.len())]
    };
    Round {
        number,
        point: Point {
            side: SIDES[rng.usize(..SIDES.len())],
            what,
            name,
        },
        count: if often { rng.u32(1..=COUNT_MAX) } else { 1 },
        away_ms: rng.u64(0..=AWAY_MS_MAX),
        leader_pick: (rng.u32(..LEADER_EVERY) == 0).then(|| rng.u32(..)),
    }
}

impl Round {
    /// As the writer reads it.
    pub fn kill_at(&self) -> String {
        let Point { side, what, name } = self.point;
        format!("{side}:{what}:{name}:{}", self.count)
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.side, self.what, self.name)
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "round {:>4}: {} ({})",
            self.number, self.point, self.count
        )?;
        if self.leader_pick.is_some() {
            write!(f, ", a leader killed before")?;
        }
        Ok(())
    }
}

/// Every point that a long campaign has to reach.
pub fn all() -> Vec<Point> {
    let steps = OFTEN.iter().chain(&SELDOM);
    let points = steps.flat_map(|(what, name)| SIDES.map(|side| Point { side, what, name }));
    points.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_thousand_rounds_are_the_same_again_and_spread_over_every_step() {
        let mut seen: BTreeMap<Point, u32> = BTreeMap::new();
        for number in 1..=1_000 {
            let one = round(7, number);
            assert_eq!(one.kill_at(), round(7, number).kill_at());
            *seen.entry(one.point).or_default() += 1;
        }
        for point in all() {
            assert!(
                seen.get(&point).is_some_and(|count| *count >= 10),
                "{point}: {seen:?}"
            );
        }
        assert_ne!(round(7, 9).kill_at(), round(8, 9).kill_at());
    }
}
