//! What goes into a group and what comes out of it.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;

/// Names a request that waits for its answer.
pub(crate) type Token = u64;

/// An answer to a request that may have waited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Join(Token, Joined),
    Sync(Token, Synced),
}

#[derive(Clone, Debug)]
pub(crate) struct Join {
    pub token: Token,
    pub member_id: String,
    /// Of a static member.
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    pub protocol_type: String,
    /// In order of preference, with the metadata for the leader.
    pub protocols: Vec<(String, Bytes)>,
    /// The client must come back with the id that it is given (since version 4).
    pub id_required: bool,
    /// The client knows that a leader may have nothing to assign (since version 9).
    pub can_skip_assignment: bool,
    /// The id that a member without one gets.
    pub fresh_id: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Joined {
    pub error: i16,
    pub generation: i32,
    pub protocol_type: String,
    pub protocol: String,
    pub leader: String,
    pub member_id: String,
    pub skip_assignment: bool,
    /// For the leader: id, instance, metadata.
    pub members: Vec<(String, Option<String>, Bytes)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Synced {
    pub error: i16,
    pub protocol_type: String,
    pub protocol: String,
    pub assignment: Bytes,
}

/// Who a request says that it is from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who<'a> {
    pub member_id: &'a str,
    pub instance_id: Option<&'a str>,
    pub generation: i32,
}

#[derive(Clone, Debug)]
pub(crate) struct Sync {
    pub token: Token,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    /// From the leader.
    pub assignments: HashMap<String, Bytes>,
}

impl Join {
    pub(super) fn error(&self, error: i16) -> Joined {
        Joined {
            error,
            generation: -1,
            member_id: self.member_id.clone(),
            ..Joined::default()
        }
    }

    pub(super) fn refused(&self, error: i16) -> Answer {
        Answer::Join(self.token, self.error(error))
    }
}

impl Synced {
    pub(super) fn error(error: i16) -> Self {
        Self {
            error,
            ..Self::default()
        }
    }
}
