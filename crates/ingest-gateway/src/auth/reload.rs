//! Keys read anew while the gateway serves: at each hangup the whole configuration file is read
//! and judged, and of a good one `auth` alone is taken. A bad one changes nothing.

use std::{collections::HashSet, net::SocketAddr, sync::Arc};

use pipeline_core::{config::ConfigFile, lifecycle::Hangups};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::Access;
use crate::telemetry::{self, Reload};

/// Ids that one line of the log names.
const IDS_SHOWN_MAX: usize = 20;

#[derive(Debug)]
pub struct Reloader {
    pub access: Arc<Access>,
    /// What the gateway was started with.
    pub started: Arc<ConfigFile>,
    /// Where it listens, whatever the file says by now.
    pub listening: SocketAddr,
}

impl Reloader {
    /// Reloads at each of `hangups` until `stop`.
    pub async fn run(self, mut hangups: Hangups, stop: CancellationToken) {
        loop {
            let reload = async {
                hangups.next().await;
                self.reload().await;
            };
            tokio::select! {
                // A disk that hangs holds no shutdown up.
                () = stop.cancelled() => return,
                () = reload => {}
            }
        }
    }

    /// Reads the file anew; says in the log and counts what came of it.
    pub async fn reload(&self) {
        let started = Arc::clone(&self.started);
        let read = spawn_blocking(move || started.read_again()).await;
        let file = self.started.path().display();
        let refused = match read {
            Ok(Ok(found)) if found.config().auth.allows(self.listening) => {
                self.take(&found);
                return;
            }
            Ok(Ok(_)) => format!(
                "{file}: auth.enabled: found false, but the gateway listens on {}; a restart is \
                 needed for another server.addr",
                self.listening
            ),
            Ok(Err(error)) => error.to_string(),
            Err(error) => format!("{file}: reading it ended: {error}"),
        };
        tracing::error!("the configuration is not taken, the API keys stay: {refused}");
        telemetry::reloaded(Reload::Refused);
    }

    fn take(&self, found: &ConfigFile) {
        let auth = &found.config().auth;
        let before = self.access.keys();
        self.access.replace(auth);
        telemetry::reloaded(Reload::Applied);
        let before: Vec<_> = before.clients().iter().map(|key| key.id.as_str()).collect();
        let now: Vec<_> = auth.keys.iter().map(|key| key.id.as_str()).collect();
        tracing::info!(
            enabled = auth.enabled,
            keys = now.len(),
            added = those_not_in(&before, &now),
            removed = those_not_in(&now, &before),
            "API keys are read anew"
        );
        let differing: Vec<_> = found
            .differing(&self.started)
            .into_iter()
            .filter(|path| !path.starts_with("auth."))
            .collect();
        if !differing.is_empty() {
            let keys = differing.join(", ");
            tracing::warn!(keys, "what else has changed in the file needs a restart");
        }
    }
}

/// Those of `ids` that are not among `others`; of many the first.
fn those_not_in(others: &[&str], ids: &[&str]) -> String {
    let others: HashSet<_> = others.iter().collect();
    let mut missing = ids.iter().copied().filter(|id| !others.contains(id));
    let mut names: Vec<_> = missing.by_ref().take(IDS_SHOWN_MAX).collect();
    let more = missing.count();
    let rest = format!("and {more} more");
    if more > 0 {
        names.push(&rest);
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_differ_are_named_and_many_are_counted() {
        assert_eq!(those_not_in(&["a", "b"], &["b", "c", "a"]), "c");
        assert_eq!(those_not_in(&["a"], &["a"]), "");
        let many: Vec<_> = (0..50).map(|n| n.to_string()).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let shown = those_not_in(&[], &many);
        assert!(shown.starts_with("0, 1, 2"), "{shown}");
        assert!(shown.ends_with("19, and 30 more"), "{shown}");
    }
}
