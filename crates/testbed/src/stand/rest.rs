//! When a pipeline is at rest, and what is said where it does not come to it.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use super::Stand;
use crate::{aside::Aside, ledger::Ledger, process::poll_until, store::Store};

/// Where nothing is under way any more, nothing that is missing will come.
const QUIET_MAX: Duration = Duration::from_secs(30);

impl Stand {
    /// Until the producer DLQs are empty, every accepted record is stored and no lag is left.
    pub(super) fn wait_at_rest(
        &self,
        ledger: &Ledger,
        store: &mut Store,
        within: Duration,
    ) -> Result<()> {
        let start = Instant::now();
        let accepted = ledger.accepted();
        let (mut waiting, mut lag, mut found) = (None, None, 0);
        let mut quiet_since = None;
        let rest = poll_until(within, || {
            waiting = Self::metric(&self.gateways, "producer_dlq_records");
            if waiting != Some(0.0) {
                return Ok(None);
            }
            lag = self.lag();
            store.refresh()?;
            // Which ones is only worth asking once there are enough.
            let aside = Aside::read(&self.dir)?;
            found = (store.lines() + aside.records()).min(accepted);
            if found >= accepted {
                found = accepted - store.missing(ledger, &aside).count() as u64;
            }
            if lag != Some(0.0) {
                quiet_since = None;
                return Ok(None);
            }
            let quiet = quiet_since.get_or_insert_with(Instant::now).elapsed();
            let all = found >= accepted;
            Ok((all || quiet > QUIET_MAX).then_some(all))
        })?;
        if rest == Some(true) {
            return Ok(());
        }
        let mut why = format!(
            "not at rest after {:.0} s: {found} of {accepted} accepted records stored, {waiting:?} \
             in the producer DLQ, lag {lag:?}; the rest is in {}",
            start.elapsed().as_secs_f64(),
            self.dir.display()
        );
        store.refresh()?;
        for (request, index) in store.missing(ledger, &Aside::read(&self.dir)?).take(10) {
            let batch = ledger
                .batches
                .get(&request)
                .map_or("unknown", String::as_str);
            let at = ledger.at(request);
            let _ = write!(
                why,
                "\n  missing: /t/{request}/{index}, batch {batch}, sequence {index}, first sent in {at}"
            );
        }
        for service in self.gateways.iter().chain(&self.writers) {
            let tail = crate::process::tail(&service.log, 8);
            let _ = write!(why, "\n--- {}\n{tail}", service.name);
        }
        bail!("{why}")
    }
}
