//! SIGHUP: read anew what the configuration names in files of their own. Never ends the process,
//! and never says what is to be read: who cares listens.

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Where hangups come from; copies are the same source.
#[derive(Clone, Debug)]
pub struct Hangup(watch::Sender<u64>);

/// One listener's view. Hangups that come while it is at work are one when it listens again.
#[derive(Debug)]
pub struct Hangups(watch::Receiver<u64>);

impl Hangup {
    /// Installs the signal handler, on the current runtime. From then on SIGHUP no longer ends
    /// the process, whether anybody listens or not.
    ///
    /// # Panics
    /// Outside of a runtime, or where the process may not handle signals.
    #[must_use]
    pub fn install() -> Self {
        let mut signals = signal(SignalKind::hangup()).expect("SIGHUP can be handled");
        let hangup = Self::manual();
        let source = hangup.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                tracing::info!("SIGHUP: reading files anew");
                source.request();
            }
        });
        hangup
    }

    /// For tests and commands: hangups that come only by [`Self::request`].
    #[must_use]
    pub fn manual() -> Self {
        Self(watch::Sender::new(0))
    }

    /// As a signal would.
    pub fn request(&self) {
        self.0.send_modify(|count| *count += 1);
    }

    /// Hears what comes from now on.
    #[must_use]
    pub fn listen(&self) -> Hangups {
        Hangups(self.0.subscribe())
    }
}

impl Hangups {
    /// Resolves at the next hangup; never again once the source is gone. Nothing is lost by
    /// dropping the future.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::{Pin, pin},
        task::{Context, Waker},
    };

    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    fn is_ready(future: Pin<&mut impl Future>) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        future.poll(&mut context).is_ready()
    }

    #[tokio::test]
    async fn the_signal_is_heard_by_all_who_listen_and_ends_nothing() {
        let hangup = Hangup::install();
        let (mut one, mut other) = (hangup.listen(), hangup.listen());
        for _ in 0..2 {
            kill_process(getpid(), Signal::HUP).unwrap();
            one.next().await;
            other.next().await;
        }
    }

    #[tokio::test]
    async fn what_comes_while_nobody_looks_is_heard_once() {
        let hangup = Hangup::manual();
        hangup.request();
        let mut listener = hangup.listen();
        assert!(!is_ready(pin!(listener.next())), "older than the listener");
        hangup.request();
        hangup.request();
        assert!(is_ready(pin!(listener.next())));
        assert!(!is_ready(pin!(listener.next())));
        drop(hangup);
        assert!(!is_ready(pin!(listener.next())));
    }
}
