//! One error: what the caller does about it, and what to tell people.

mod table;

pub use table::produce_errors;
pub(crate) use table::{Context, kind_of, name_of};

/// What a caller does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ErrorKind {
    /// Nothing happened; try again after a pause.
    Retry,
    /// Nothing happened; metadata is stale (it has been dropped already); try again.
    RefreshAndRetry,
    /// Nothing happened: TLS or SASL with the broker failed. Someone has to change something, but
    /// files are read anew at the next attempt, so trying again may help.
    Auth,
    /// The message or batch is too large: split it.
    TooLarge,
    /// The broker will never take this data; of a fetch: the data is damaged.
    Poison,
    /// Trying again does not help until someone changes something (authorisation, no such topic…).
    Fatal,
    /// It may have happened (a timeout, a cut connection after the request was written).
    UnknownOutcome,
    /// The group moved on: join again.
    Rejoin,
    /// This member was thrown out: its partitions are lost. It may join again.
    Lost,
    /// Another process has taken this static member's name: it must not join again.
    Fenced,
    /// The offset asked for is not in the log.
    OffsetOutOfRange,
    /// The topic was made anew, or has no such partition: what is known of its offsets is void.
    OtherTopic,
}

impl ErrorKind {
    pub const ALL: [Self; 12] = [
        Self::Retry,
        Self::RefreshAndRetry,
        Self::Auth,
        Self::TooLarge,
        Self::Poison,
        Self::Fatal,
        Self::UnknownOutcome,
        Self::Rejoin,
        Self::Lost,
        Self::Fenced,
        Self::OffsetOutOfRange,
        Self::OtherTopic,
    ];

    /// As a metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::RefreshAndRetry => "refresh",
            Self::Auth => "auth",
            Self::TooLarge => "too_large",
            Self::Poison => "poison",
            Self::Fatal => "fatal",
            Self::UnknownOutcome => "unknown_outcome",
            Self::Rejoin => "rejoin",
            Self::Lost => "lost",
            Self::Fenced => "fenced",
            Self::OffsetOutOfRange => "offset_out_of_range",
            Self::OtherTopic => "other_topic",
        }
    }
}

#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct KafkaError {
    pub kind: ErrorKind,
    /// The protocol's error code, where a broker gave one.
    pub code: Option<i16>,
    /// Lower-case, with call, broker and values.
    pub message: String,
}

impl KafkaError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            code: None,
            message: message.into(),
        }
    }

    /// What a broker answered. `call` says which call, of what, to whom; `detail` is the broker's
    /// own text, where it gave one.
    pub(crate) fn answered(context: Context, code: i16, call: &str, detail: Option<&str>) -> Self {
        let mut message = format!("{call}: {} ({code})", name_of(code));
        if let Some(detail) = detail.filter(|detail| !detail.is_empty()) {
            message.push_str(": ");
            message.push_str(detail);
        }
        Self {
            kind: kind_of(context, code),
            code: Some(code),
            message,
        }
    }

    /// Puts `what` in front of the message.
    pub(crate) fn within(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }
}
