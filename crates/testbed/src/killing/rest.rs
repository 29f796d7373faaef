//! Between two stretches of rounds: the load pauses, a writer works off what is there, and what is
//! stored must be exactly what was accepted. Only then does the duplicate window change, so that no
//! copy that a client may still send is measured by the wrong one.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Campaign, accounts, environment, lock, schedule::Round};
use crate::{aside::Aside, kafka::logs::Logs, load::Load, stand::Stand};

impl Campaign {
    /// Judges after `round`, and gets all ready for `next`; says what was found. No writer runs
    /// before, and none behind it.
    ///
    /// # Errors
    /// When it does not come to rest, or anything is not as it should be.
    pub fn rest(
        &mut self,
        round: &Round,
        next: &Round,
        load: &Load,
        stand: &mut Stand,
        within: Duration,
    ) -> Result<String> {
        self.stop_gateway(stand, false)?;
        let ledger = load.pause();
        self.pause_beside(true);
        let writer = &mut stand.writers[0];
        writer.env = environment(round, None);
        self.books.ask(&[writer.admin], false);
        writer.start()?;
        writer.wait_ready()?;
        let mut store = lock(&self.store);
        let verdict = stand.judge_stored(&ledger, &mut store, within)?;
        stand.writers[0].kill()?;
        ensure!(verdict.holds(), "{verdict}");
        let aside = Aside::read(&stand.dir)?;
        accounts::compare(&stand.verify()?, &verdict, &aside, None)?;
        drop(store);
        // A gateway that was stopped may send with what it knew before the window was wide again.
        let needless = aside.undecidable_from(&self.judged_to).next();
        ensure!(
            round.window.is_some() || needless.is_none(),
            "(partition, offset) {needless:?} is undecidable, with a window that holds all"
        );
        let logs = Logs::new(&stand.kafka(), &stand.plan.topic, stand.plan.partitions)?;
        let ends = logs.ends().into_iter().collect::<Option<_>>();
        self.judged_to = ends.context("a log has no leader")?;
        self.outcome.judged += 1;
        // No window would know what a client sends again for longer than the tiny one holds.
        load.repeat(next.window.is_none());
        self.pause_beside(false);
        load.resume();
        Ok(format!(
            "at rest: {} records accepted, {} stored and {} undecidable, no other there",
            verdict.accepted,
            verdict.stored - verdict.unknown_there,
            verdict.undecidable
        ))
    }

    /// What comes past the gateway: while a writer is ended it may lie in the consumer DLQ, and in
    /// no segment yet.
    fn pause_beside(&self, paused: bool) {
        for sends in self.poison.iter().chain([&self.echo]) {
            sends.pause(paused);
        }
    }
}
