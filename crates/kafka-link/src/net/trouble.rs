//! Why a call has no answer, and whether it may have been heard.

use crate::error::{Context, ErrorKind, KafkaError};

/// Why a call has no answer.
#[derive(Clone, Debug)]
pub(crate) struct CallError {
    /// Whether (part of) the request was written.
    pub sent: bool,
    pub trouble: Trouble,
    pub message: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Trouble {
    /// Connecting, writing, reading, time.
    Network,
    /// The broker does not speak the call as we need it.
    Unsupported,
    /// TLS or SASL: one of the two sides does not want the other.
    Refused,
}

impl CallError {
    pub(crate) fn unsent(message: impl Into<String>) -> Self {
        Self {
            sent: false,
            trouble: Trouble::Network,
            message: message.into(),
        }
    }

    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self {
            sent: false,
            trouble: Trouble::Refused,
            message: message.into(),
        }
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self {
            sent: false,
            trouble: Trouble::Unsupported,
            message: message.into(),
        }
    }

    pub(crate) fn in_context(self, context: Context) -> KafkaError {
        let kind = match self.trouble {
            Trouble::Unsupported => ErrorKind::Fatal,
            Trouble::Refused => ErrorKind::Auth,
            Trouble::Network if self.sent => context.unanswered(),
            Trouble::Network => ErrorKind::Retry,
        };
        KafkaError::new(kind, self.message)
    }
}
