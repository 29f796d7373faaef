//! What a campaign sends past the gateway, every now and then, on a thread of its own, which can be
//! told to pause.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{JoinHandle, sleep, spawn},
    time::Duration,
};

use anyhow::{Result, ensure};

/// A thread that sends. Ends with its value.
pub struct Beside {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    ended: AtomicBool,
    paused: AtomicBool,
    /// Nothing is being sent now.
    still: AtomicBool,
    sent: AtomicU32,
}

impl Beside {
    /// `send` says whether all of it came to the logs. What fails, as a node is away, may be there
    /// or not.
    pub fn start(every: Duration, mut send: impl FnMut() -> Result<bool> + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let thread = spawn(move || {
            while !own.ended.load(Ordering::Relaxed) {
                own.still.store(true, Ordering::SeqCst);
                sleep(every);
                own.still.store(false, Ordering::SeqCst);
                if own.paused.load(Ordering::SeqCst) {
                    continue;
                }
                if send().is_ok_and(|sent| sent) {
                    own.sent.fetch_add(1, Ordering::Relaxed);
                }
            }
            own.still.store(true, Ordering::SeqCst);
        });
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// Sends nothing until it is told to go on; returns when nothing is under way.
    pub fn pause(&self, paused: bool) {
        self.shared.paused.store(paused, Ordering::SeqCst);
        while paused && !self.shared.still.load(Ordering::SeqCst) {
            sleep(Duration::from_millis(2));
        }
    }

    /// Sends no more.
    ///
    /// # Errors
    /// When nothing at all could be sent.
    pub fn end(mut self) -> Result<()> {
        self.stop();
        ensure!(
            self.shared.sent.load(Ordering::Relaxed) > 0,
            "nothing at all could be sent"
        );
        Ok(())
    }

    fn stop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its own panic has its own message.
            let _ = thread.join();
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn nothing_is_sent_while_it_pauses_and_sending_nothing_is_an_error() {
        let (tell, told) = mpsc::channel();
        let sends = Beside::start(Duration::from_millis(1), move || {
            tell.send(()).map(|()| true).map_err(Into::into)
        });
        told.recv().expect("it sends");
        sends.pause(true);
        told.try_iter().for_each(drop);
        sleep(Duration::from_millis(20));
        assert!(told.try_recv().is_err());
        sends.pause(false);
        told.recv().expect("it goes on");
        sends.end().expect("it has sent");
        let never = Beside::start(Duration::from_millis(1), || Ok(false));
        assert!(never.end().is_err());
    }
}
