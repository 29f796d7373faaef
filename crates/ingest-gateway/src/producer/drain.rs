//! The end of all attempts once the process drains: one deadline that everyone who sends obeys.

use std::time::Instant;

use tokio::sync::watch;

/// Sets the deadline.
#[derive(Debug)]
pub struct DrainControl(watch::Sender<Option<Instant>>);

/// Sees the deadline; cheap to clone.
#[derive(Clone, Debug)]
pub struct Drain(watch::Receiver<Option<Instant>>);

#[must_use]
pub fn drain() -> (DrainControl, Drain) {
    let (control, seen) = watch::channel(None);
    (DrainControl(control), Drain(seen))
}

impl DrainControl {
    /// From `at` on nothing is sent any more.
    pub fn end_at(&self, at: Instant) {
        self.0.send_replace(Some(at));
    }
}

impl Drain {
    /// `deadline`, or the end of the drain where that comes first.
    #[must_use]
    pub fn cap(&self, deadline: Instant) -> Instant {
        self.0.borrow().map_or(deadline, |end| end.min(deadline))
    }

    /// Whether the drain's deadline has come.
    #[must_use]
    pub fn has_expired(&self) -> bool {
        self.0.borrow().is_some_and(|end| end <= Instant::now())
    }

    /// Ends when the drain's deadline has come.
    pub async fn expired(&self) {
        let mut seen = self.0.clone();
        loop {
            let end = *seen.borrow_and_update();
            let changed = async {
                if seen.changed().await.is_err() {
                    // Who could set it has gone without doing so.
                    std::future::pending::<()>().await;
                }
            };
            match end {
                None => changed.await,
                Some(at) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(at.into()) => return,
                        () = changed => {}
                    }
                }
            }
        }
    }
}
