//! Ends this process as `kill -9` does, or stops it as SIGSTOP does, at one point that the
//! environment names: how campaigns reach every step of a service that runs. Compiled only with the
//! feature `fault-injection`.
//!
//! `SLUICE_KILL_AT=<side>:<what>:<name>:<count>`, as `after:link:*.ndjson.zst:3`: behind the third
//! link of a segment. `side` is `before` or `after`; `what` a [`Step`] in lower case, or `point`;
//! `name` the file's, with a `*` at one end, or that of a point. `SLUICE_FREEZE_AT` likewise, once.

use std::{
    path::Path,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::process::{Signal, getpid, kill_process};

use super::Step;

/// Each names a point, and what is sent to this process there.
pub const ENV: [(&str, Signal); 2] = [
    ("SLUICE_KILL_AT", Signal::KILL),
    ("SLUICE_FREEZE_AT", Signal::STOP),
];

/// A whole process, on a machine with much else to do.
const STOPPED_WITHIN: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Before,
    After,
}

struct Kill {
    signal: Signal,
    side: Side,
    /// `None`: a point.
    step: Option<Step>,
    name: String,
    /// How many matches are let pass, and the one that is meant.
    left: AtomicU64,
}

pub(super) fn at(side: Side, step: Option<Step>, name: &str) {
    static KILLS: OnceLock<Vec<Kill>> = OnceLock::new();
    let kills = KILLS.get_or_init(|| ENV.into_iter().filter_map(named).collect());
    for kill in kills {
        if !kill.hits(side, step, name) {
            continue;
        }
        // As root as well as not: it is our own process. Who is stopped goes on behind it.
        let _ = kill_process(getpid(), kill.signal);
        if kill.signal == Signal::KILL {
            loop {
                std::thread::park();
            }
        }
        // The kernel may give the signal to another thread, and this one runs on until that one has
        // had it: on a busy machine long enough to be past its step.
        std::thread::sleep(STOPPED_WITHIN);
    }
}

fn named((env, signal): (&str, Signal)) -> Option<Kill> {
    let text = std::env::var(env).ok().filter(|text| !text.is_empty())?;
    let kill = Kill::parse(&text, signal);
    Some(kill.unwrap_or_else(|| panic!("{env}={text} is no point")))
}

pub(super) fn at_step(side: Side, step: Step, path: &Path) {
    let name = path.file_name().unwrap_or_default();
    at(side, Some(step), &name.to_string_lossy());
}

impl Kill {
    fn parse(text: &str, signal: Signal) -> Option<Self> {
        let mut parts = text.splitn(4, ':');
        let side = match parts.next()? {
            "before" => Side::Before,
            "after" => Side::After,
            _ => return None,
        };
        let step = match parts.next()? {
            "point" => None,
            name => {
                let named = |step: &Step| format!("{step:?}").to_lowercase() == name;
                Some(Step::ALL.into_iter().find(named)?)
            }
        };
        let name = parts.next()?.to_owned();
        let count: u64 = parts.next()?.parse().ok().filter(|count| *count > 0)?;
        Some(Self {
            signal,
            side,
            step,
            name,
            left: AtomicU64::new(count),
        })
    }

    /// Counts, too; true once.
    fn hits(&self, side: Side, step: Option<Step>, name: &str) -> bool {
        if self.side != side || self.step != step || !fits(&self.name, name) {
            return false;
        }
        let less = |left: u64| left.checked_sub(1);
        let before = self
            .left
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        before == Ok(1)
    }
}

fn fits(pattern: &str, name: &str) -> bool {
    if let Some(suffix) = pattern.strip_prefix('*') {
        name.ends_with(suffix)
    } else if let Some(prefix) = pattern.strip_suffix('*') {
        name.starts_with(prefix)
    } else {
        name == pattern
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_hit_at_its_count_and_at_nothing_else() {
        let parse = |text| Kill::parse(text, Signal::STOP);
        let link = Some(Step::Link);
        let kill = parse("after:link:*.ndjson.zst:2").unwrap();
        let name = "00000000000000000007.ndjson.zst";
        assert!(!kill.hits(Side::Before, link, name));
        assert!(!kill.hits(Side::After, Some(Step::Remove), name));
        assert!(!kill.hits(Side::After, link, "START"));
        assert!(!kill.hits(Side::After, link, name), "the first");
        assert!(kill.hits(Side::After, link, name));
        assert!(!kill.hits(Side::After, link, name), "it goes on");
        let dir = parse("before:syncdir:p0*:1").unwrap();
        assert!(dir.hits(Side::Before, Some(Step::SyncDir), "p00003"));
        let point = parse("before:point:commit:1").unwrap();
        assert!(!point.hits(Side::Before, link, "commit"));
        assert!(point.hits(Side::Before, None, "commit"));
        for bad in [
            "",
            "after",
            "within:link:x:1",
            "after:jump:x:1",
            "after:link:x:0",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
