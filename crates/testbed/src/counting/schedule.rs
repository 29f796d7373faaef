//! What is done in which round: at which step an aggregator or a rebuild ends or is stopped, and
//! what its writer meets meanwhile. Pure: functions of seed and number.

use std::{fmt, time::Duration};

use fastrand::Rng;

use crate::killing::schedule::{Hit, Point, rng};

/// One life of the aggregator.
#[derive(Clone, Debug)]
pub struct Round {
    pub number: u32,
    pub what: What,
    pub hit: Hit,
    /// How long the step may take to come.
    pub within: Duration,
    /// Bytes of a portion, where these are not as they are.
    pub portion: Option<u64>,
    /// Before the next one is started.
    pub away_ms: u64,
    /// What happens to the writer when the aggregator has begun.
    pub writer: Option<Blow>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// It ends at its step.
    Kill,
    /// It is stopped there, another goes on in its place; then it is woken.
    Freeze,
    /// A `rebuild` ends at its step, and one behind it does all of its work.
    Rebuild {
        /// The whole state is lost before.
        lost: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blow {
    Kill { away_ms: u64 },
    Freeze { for_ms: u64 },
}

/// On which side, what, of which file; and how often that is seen in a short time.
type Step = (&'static str, &'static str, &'static str, u32);

/// Of files both sides are steps, of what the aggregator itself names only the moment before.
const BEFORE: &str = "before";
const AFTER: &str = "after";
const STATE_DIR: &str = "_state";
/// Counts of a portion are held until more are worth a commit: only where portions are small.
const HOLD: &str = "hold-portion";
/// As `examples/to_be_killed` reads it.
const PORTION_BYTES: &str = "SLUICE_PORTION_BYTES";
const SMALL_PORTION_BYTES: u64 = 4_096;

/// In the order of a run: counted, committed, rendered, archived, removed.
const RUN: [Step; 56] = [
    (BEFORE, "point", "fold-segment", 20),
    (BEFORE, "point", HOLD, 4),
    (BEFORE, "point", "write-state", 12),
    (BEFORE, "create", ".tmp-*", 30),
    (AFTER, "create", ".tmp-*", 30),
    (BEFORE, "write", ".tmp-*", 30),
    (AFTER, "write", ".tmp-*", 30),
    (BEFORE, "sync", ".tmp-*", 30),
    (AFTER, "sync", ".tmp-*", 30),
    (BEFORE, "link", "2*", 12),
    (AFTER, "link", "2*", 12),
    (BEFORE, "point", "sync-states", 4),
    (BEFORE, "syncdir", "counts", 4),
    (AFTER, "syncdir", "counts", 4),
    (BEFORE, "point", "sync-chain", 8),
    (BEFORE, "syncdir", "p0*", 8),
    (AFTER, "syncdir", "p0*", 8),
    (BEFORE, "point", "put-manifest", 6),
    (BEFORE, "link", "m0*", 6),
    (AFTER, "link", "m0*", 6),
    (BEFORE, "syncdir", STATE_DIR, 6),
    (AFTER, "syncdir", STATE_DIR, 6),
    (BEFORE, "point", "look-for-greater", 6),
    (BEFORE, "point", "remove-old", 20),
    (BEFORE, "remove", "m0*", 4),
    (AFTER, "remove", "m0*", 4),
    (BEFORE, "remove", "2*", 12),
    (AFTER, "remove", "2*", 12),
    (BEFORE, "point", "rename-summary", 10),
    (BEFORE, "rename", "summary*", 8),
    (AFTER, "rename", "summary*", 8),
    (BEFORE, "point", "sync-summaries", 4),
    (BEFORE, "rename", "2*", 2),
    (AFTER, "rename", "2*", 2),
    (BEFORE, "rename", "*.html", 4),
    (AFTER, "rename", "*.html", 4),
    (BEFORE, "point", "archive-commit", 3),
    (AFTER, "point", "archive-commit", 3),
    (BEFORE, "point", "read-for-archive", 20),
    (BEFORE, "makedir", "hour=*", 2),
    (AFTER, "makedir", "hour=*", 2),
    (BEFORE, "point", "publish-file", 3),
    (BEFORE, "link", "*.parquet", 3),
    (AFTER, "link", "*.parquet", 3),
    (BEFORE, "point", "sync-archive", 3),
    (BEFORE, "syncdir", "hour=*", 3),
    (AFTER, "syncdir", "hour=*", 3),
    (BEFORE, "point", "remove-segment", 12),
    (BEFORE, "link", "w0*", 3),
    (AFTER, "link", "w0*", 3),
    (BEFORE, "remove", "w0*", 2),
    (AFTER, "remove", "w0*", 2),
    (BEFORE, "remove", "*.ndjson.zst", 12),
    (AFTER, "remove", "*.ndjson.zst", 12),
    (BEFORE, "point", "remove-day", 3),
    (BEFORE, "remove", "*.parquet", 1),
];
/// Of a rebuild: the archive read, then the chains, then all as in a run.
const REBUILD: [Step; 15] = [
    (BEFORE, "point", "read-for-archive", 12),
    (BEFORE, "point", "fold-segment", 12),
    (BEFORE, "point", HOLD, 4),
    (BEFORE, "point", "write-state", 12),
    (BEFORE, "link", "2*", 12),
    (BEFORE, "point", "put-manifest", 1),
    (BEFORE, "point", "sync-chain", 2),
    (BEFORE, "point", "sync-states", 1),
    (BEFORE, "link", "m0*", 1),
    (AFTER, "link", "m0*", 1),
    (BEFORE, "point", "look-for-greater", 1),
    (BEFORE, "point", "rename-summary", 12),
    (AFTER, "rename", "summary*", 12),
    (BEFORE, "rename", "*.html", 2),
    (AFTER, "syncdir", STATE_DIR, 1),
];
/// The first manifest is put in the first rounds, in this order.
const FIRST: [Step; 3] = [
    (BEFORE, "point", "put-first-manifest", 1),
    (BEFORE, "link", "m0*", 1),
    (AFTER, "link", "m0*", 1),
];
const STEP_WITHIN: Duration = Duration::from_secs(15);
/// One round in so many, and the first of them for certain, so that a short campaign has each.
const FREEZE_EVERY: u32 = 12;
const FREEZE_FIRST: u32 = 6;
const REBUILD_EVERY: u32 = 8;
const AWAY_MS_MAX: u64 = 150;
const BLOW_EVERY: u32 = 6;

impl Round {
    /// What the aggregator or rebuild of this round is told; `at`: what happens at its step.
    pub fn environment(&self, at: &str) -> Vec<(String, String)> {
        let portion = self.portion.map(|bytes| (PORTION_BYTES, bytes.to_string()));
        let told = [(at, self.hit.at())].into_iter().chain(portion);
        told.map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// The round with this number, from 1 on.
pub fn round(seed: u64, number: u32) -> Round {
    let mut rng = rng(seed, number);
    let rebuilds = number / REBUILD_EVERY;
    let first = FIRST.get(number as usize - 1);
    let (who, steps, turn, what) = if number.is_multiple_of(REBUILD_EVERY) {
        let lost = rebuilds.is_multiple_of(2);
        ("rebuild", &REBUILD[..], rebuilds, What::Rebuild { lost })
    } else if let Some(step) = first {
        ("aggregator", std::slice::from_ref(step), 0, What::Kill)
    } else {
        let freeze = number % FREEZE_EVERY == FREEZE_FIRST;
        let what = if freeze { What::Freeze } else { What::Kill };
        ("aggregator", &RUN[..], number - rebuilds, what)
    };
    let mut hit = hit(who, steps, seed, turn, &mut rng);
    if what == What::Freeze && hit.point.name == STATE_DIR {
        // The first time it has only opened the directory: it knows nothing yet that could be old.
        hit.count += 1;
    }
    let away_ms = rng.u64(0..=AWAY_MS_MAX);
    let blow = first.is_none() && what == What::Kill && rng.u32(..BLOW_EVERY) == 0;
    let writer = blow.then(|| {
        let ms = rng.u64(0..=1_500);
        match rng.bool() {
            true => Blow::Kill { away_ms: ms },
            false => Blow::Freeze { for_ms: ms },
        }
    });
    let small = hit.point.name == HOLD || number % 2 == 1;
    Round {
        number,
        what,
        portion: small.then_some(SMALL_PORTION_BYTES),
        hit,
        within: STEP_WITHIN,
        away_ms,
        writer,
    }
}

/// Every point that a long campaign has to reach.
pub fn all() -> Vec<Point> {
    let run = RUN.iter().chain(&FIRST[..1]);
    let run = run.map(|step| point("aggregator", step));
    run.chain(REBUILD.iter().map(|step| point("rebuild", step)))
        .collect()
}

fn point(who: &'static str, (side, what, name, _): &Step) -> Point {
    Point {
        who,
        side,
        what,
        name,
    }
}

/// Dealt from a deck that holds each step once, shuffled anew when it has come to its end.
fn hit(who: &'static str, steps: &[Step], seed: u64, turn: u32, random: &mut Rng) -> Hit {
    let mut deck: Vec<&Step> = steps.iter().collect();
    let size = deck.len() as u32;
    rng(seed, !(turn / size)).shuffle(&mut deck);
    let step = deck[(turn % size) as usize];
    Hit {
        point: point(who, step),
        count: random.u32(1..=step.3),
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hit { point, count } = self.hit;
        write!(f, "round {:>4}: {point} ({count})", self.number)?;
        match self.what {
            What::Kill => {}
            What::Freeze => write!(f, ", frozen there")?,
            What::Rebuild { lost: true } => write!(f, ", all state lost before")?,
            What::Rebuild { lost: false } => {}
        }
        match self.writer {
            None => Ok(()),
            Some(Blow::Kill { away_ms }) => write!(f, ", its writer killed for {away_ms} ms"),
            Some(Blow::Freeze { for_ms }) => write!(f, ", its writer frozen for {for_ms} ms"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn rounds_are_the_same_again_and_spread_evenly_over_every_step() {
        let mut seen: BTreeMap<Point, u32> = BTreeMap::new();
        let (mut frozen, mut lost, mut blows) = (0, 0, 0);
        for number in 1..=480 {
            let one = round(7, number);
            assert_eq!(one.hit, round(7, number).hit);
            *seen.entry(one.hit.point).or_default() += 1;
            frozen += u32::from(one.what == What::Freeze);
            lost += u32::from(one.what == What::Rebuild { lost: true });
            blows += u32::from(one.writer.is_some());
        }
        for point in all() {
            let count = seen.get(&point).copied().unwrap_or(0);
            assert!((1..=16).contains(&count), "{point}: {seen:?}");
        }
        assert!((30..60).contains(&frozen), "{frozen} frozen");
        assert!((20..40).contains(&lost), "{lost} lost");
        assert!((30..100).contains(&blows), "{blows} blows");
        assert_ne!(round(7, 9).hit.at(), round(8, 9).hit.at());
    }
}
