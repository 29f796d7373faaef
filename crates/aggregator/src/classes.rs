//! Agent → kind of client, as small numbers for counting. Decides nothing itself.

use crate::client::{Bot, Client};

/// Of what tells clients apart. Counts say which versions have been at work on them.
pub const VERSION: &str = "0";

/// A kind of client.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ClientId(pub u16);

impl ClientId {
    const UNKNOWN: Self = Self(1);
    const EMPTY: Self = Self(2);

    #[must_use]
    pub fn of(agent: &str) -> Self {
        if agent == "-" {
            Self::EMPTY
        } else {
            Self::UNKNOWN
        }
    }

    #[must_use]
    pub fn client(self) -> Client<'static> {
        match self.0 {
            0 => Client::Human,
            1 => Client::Unknown,
            _ => Client::Empty,
        }
    }

    #[must_use]
    pub fn bot(self) -> Option<Bot<'static>> {
        None
    }
}
