//! Who may send, as what, and how much.
//!
//! [`keys`] finds the key of a request among those of the configuration, [`quota`] counts its
//! records; both are pure. [`Access`] holds the keys that are in force, and [`reload`] puts others
//! in their place. Keys and their hashes are neither logged nor shown.

pub mod keys;
pub mod quota;
pub mod reload;

use std::{sync::Arc, time::Instant};

use pipeline_core::config::Auth;
use tokio::sync::watch;

use self::keys::Keys;

/// The keys in force. A request keeps those that it began with.
#[derive(Debug)]
pub struct Access(watch::Sender<Arc<Keys>>);

impl Access {
    #[must_use]
    pub fn new(auth: &Auth) -> Self {
        let keys = Keys::new(auth, &[], Instant::now());
        Self(watch::Sender::new(Arc::new(keys)))
    }

    #[must_use]
    pub fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.0.borrow())
    }

    /// From the next request on `auth` is in force; a key of the same id goes on with what it has
    /// left of its quota.
    pub fn replace(&self, auth: &Auth) {
        self.0.send_modify(|keys| {
            *keys = Arc::new(Keys::new(auth, keys.clients(), Instant::now()));
        });
    }
}
