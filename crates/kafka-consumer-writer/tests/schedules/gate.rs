//! A save that runs on its own thread, but only from one step to the next when it is told to: so it
//! sleeps at any step while others act, and a schedule is the same each time.

use std::{
    panic::resume_unwind,
    sync::{
        Mutex,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

/// What the save has of it.
pub struct Gate {
    arrived: SyncSender<()>,
    go_on: Mutex<Receiver<()>>,
}

impl Gate {
    /// Until it is told to go on; for good where nobody is there any more who could.
    pub fn wait(&self) {
        if self.arrived.send(()).is_ok() {
            let go_on = self.go_on.lock().expect("one waits at a time");
            let _ = go_on.recv();
        }
    }
}

/// What the schedule has of it.
pub struct Stepped<T> {
    go_on: SyncSender<()>,
    arrived: Receiver<()>,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Stepped<T> {
    /// Begins, and waits until the first step is reached.
    pub fn begin(run: impl FnOnce(Gate) -> T + Send + 'static) -> Result<Self, T> {
        let (arrived_sender, arrived) = sync_channel(0);
        let (go_on, go_on_receiver) = sync_channel(0);
        let gate = Gate {
            arrived: arrived_sender,
            go_on: Mutex::new(go_on_receiver),
        };
        let thread = thread::spawn(|| run(gate));
        Self {
            go_on,
            arrived,
            thread,
        }
        .arrive()
    }

    /// Lets it take one step.
    pub fn step(self) -> Result<Self, T> {
        let _ = self.go_on.send(());
        self.arrive()
    }

    fn arrive(self) -> Result<Self, T> {
        match self.arrived.recv() {
            Ok(()) => Ok(self),
            Err(_) => Err(self
                .thread
                .join()
                .unwrap_or_else(|panic| resume_unwind(panic))),
        }
    }
}
