//! A writer that is stopped in the middle of a step, past its session, until another has its
//! partitions, has gone on, and what it was about to extend is removed. Woken, it extends nothing.

use std::{
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::{FREEZE_AT, books::Books, environment, schedule::Round};
use crate::{
    process::poll_until,
    service::Service,
    stand::Stand,
    store::{kept, newest, segments_of},
};

const WITHIN: Duration = Duration::from_secs(90);
/// Between looks at whether it is stopped.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// The round; says whether it slept at its step, and how it went. Both writers are gone behind it.
/// `check` is asked while others work; the books are those of the writers that are awake.
pub fn freeze(
    stand: &mut Stand,
    round: &Round,
    kept_dir: &Path,
    books: &Books,
    check: &dyn Fn() -> Result<()>,
) -> Result<(bool, String)> {
    let (sleeper, others) = stand.writers.split_at_mut(1);
    let (sleeper, other) = (&mut sleeper[0], &mut others[0]);
    let (one, both) = ([other.admin], [sleeper.admin, other.admin]);
    sleeper.env = environment(round, Some(FREEZE_AT));
    other.env = environment(round, None);
    sleeper.start()?;
    let there = wait_until_stopped(sleeper, round.within)?;
    books.ask(&one, true);
    other.start()?;
    let topic = stand.topic_dir();
    let held = newest(&topic)?;
    let partitions = f64::from(stand.plan.partitions);
    let taken = poll_until(WITHIN, || {
        check()?;
        Ok((assigned(&stand.writers[1]) == Some(partitions)).then_some(()))
    })?;
    taken.context("the partitions of a stopped writer come to no other")?;
    let removed = poll_until(WITHIN, || {
        check()?;
        let mut all = true;
        for (partition, last) in &held {
            let dir = format!("p{partition:05}");
            let last = kept::first_offset(last);
            all &= is_removed(&topic.join(&dir), &kept_dir.join(&dir), last)?;
        }
        Ok(all.then_some(()))
    })?;
    removed.context("what a stopped writer would extend is not removed")?;
    books.ask(&both, true);
    let sleeper = stand.writers[0].process()?;
    sleeper.thaw()?;
    let mut ended = None;
    let settled = poll_until(WITHIN, || {
        check()?;
        ended = stand.writers[0].process()?.ended()?;
        let [woken, other] = [0, 1].map(|at| assigned(&stand.writers[at]));
        let both = woken > Some(0.0) && woken.zip(other).map(|(a, b)| a + b) == Some(partitions);
        Ok((ended.is_some() || both).then_some(()))
    })?;
    ensure!(
        settled.is_some(),
        "a woken writer neither ends nor comes back"
    );
    books.ask(&[], true);
    let sleeper = &mut stand.writers[0];
    let how = match ended {
        // A signal would be no end of its own.
        Some(status) if status.code().is_none() => {
            bail!(
                "woken, it ended with {status}\n{}",
                sleeper.process()?.log_tail(20)
            )
        }
        Some(status) => {
            sleeper.forget_ended();
            format!("it ended with {status}")
        }
        None => {
            sleeper.kill()?;
            "it came back".to_owned()
        }
    };
    stand.writers[1].kill()?;
    let at = if there { "there" } else { "elsewhere" };
    let how = format!("frozen {at}, another went on and removal behind it; woken, {how}");
    Ok((there, how))
}

/// Whether at its point; else wherever it is by then.
pub fn wait_until_stopped(writer: &mut Service, within: Duration) -> Result<bool> {
    let process = writer.process()?;
    let begun = Instant::now();
    while begun.elapsed() < within {
        if let Some(status) = process.ended()? {
            bail!("the writer ended with {status}\n{}", process.log_tail(20));
        }
        if process.is_frozen()? {
            return Ok(true);
        }
        sleep(LOOK_EVERY);
    }
    process.freeze()?;
    Ok(false)
}

/// Whether the name that a writer would take which knows of `last` is below the watermark. `kept`
/// has every name that ever was.
fn is_removed(live: &Path, kept: &Path, last: u64) -> Result<bool> {
    let names = segments_of(kept)?;
    let mut names = names.iter().map(|path| kept::first_offset(path));
    let mark = kept::watermark(live)?;
    Ok(names
        .find(|name| *name > last)
        .is_some_and(|next| next < mark))
}

fn assigned(writer: &Service) -> Option<f64> {
    Stand::metric(std::slice::from_ref(writer), "consumer_partitions_assigned")
}
