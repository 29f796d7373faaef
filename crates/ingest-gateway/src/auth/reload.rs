//! Keys read anew while the gateway serves: at each hangup the whole configuration file is read
//! and judged, and of a good one `auth` alone is taken. A bad one changes nothing.

use std::{net::SocketAddr, sync::Arc};

use pipeline_core::{config::ConfigFile, lifecycle::Hangups};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::Access;
use crate::telemetry::{self, Reload};

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
            tokio::select! {
                () = stop.cancelled() => return,
                () = hangups.next() => self.reload().await,
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
        telemetry::reloaded(Reload::Refused);
        tracing::error!("the configuration is not taken, the API keys stay: {refused}");
    }

    fn take(&self, found: &ConfigFile) {
        let auth = &found.config().auth;
        self.access.replace(auth);
        telemetry::reloaded(Reload::Applied);
        tracing::info!(
            enabled = auth.enabled,
            keys = auth.keys.len(),
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
