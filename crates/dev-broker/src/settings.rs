//! Topic settings: which are known, their defaults, and those that the broker itself obeys
//! (sizes, timestamps, replicas in sync, retention by bytes). Time retention and compaction are
//! reported and never done: a test moves the log start itself.

use std::collections::BTreeMap;

/// Kind of a value, as DescribeConfigs numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Boolean = 1,
    Text = 2,
    Int = 3,
    Long = 5,
    List = 7,
}

pub(crate) const KNOWN: [(&str, Kind, &str); 16] = [
    ("cleanup.policy", Kind::List, "delete"),
    ("compression.type", Kind::Text, "producer"),
    ("delete.retention.ms", Kind::Long, "86400000"),
    ("flush.messages", Kind::Long, "9223372036854775807"),
    ("flush.ms", Kind::Long, "9223372036854775807"),
    (MAX_MESSAGE_BYTES, Kind::Int, "1048588"),
    ("message.timestamp.after.max.ms", Kind::Long, "3600000"),
    (
        "message.timestamp.before.max.ms",
        Kind::Long,
        "9223372036854775807",
    ),
    ("message.timestamp.type", Kind::Text, "CreateTime"),
    ("min.compaction.lag.ms", Kind::Long, "0"),
    ("min.insync.replicas", Kind::Int, "1"),
    ("retention.bytes", Kind::Long, "-1"),
    ("retention.ms", Kind::Long, "604800000"),
    ("segment.bytes", Kind::Int, "1073741824"),
    ("segment.ms", Kind::Long, "604800000"),
    ("unclean.leader.election.enable", Kind::Boolean, "false"),
];

const MAX_MESSAGE_BYTES: &str = "max.message.bytes";

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    overrides: BTreeMap<String, String>,
    broker_max_message_bytes: usize,
    pub max_message_bytes: usize,
    pub min_insync_replicas: usize,
    /// `None`: unbounded.
    pub retention_bytes: Option<u64>,
    pub timestamp_after_max_ms: i64,
    pub timestamp_before_max_ms: i64,
}

impl Settings {
    /// Refuses unknown names and values that do not parse.
    pub(crate) fn new(
        overrides: BTreeMap<String, String>,
        broker_max_message_bytes: usize,
    ) -> Result<Self, String> {
        for (name, value) in &overrides {
            check(name, value)?;
        }
        let mut settings = Self {
            overrides,
            broker_max_message_bytes,
            max_message_bytes: 0,
            min_insync_replicas: 1,
            retention_bytes: None,
            timestamp_after_max_ms: 0,
            timestamp_before_max_ms: 0,
        };
        settings.max_message_bytes = settings.number(MAX_MESSAGE_BYTES).max(0) as usize;
        settings.min_insync_replicas = settings.number("min.insync.replicas").max(1) as usize;
        settings.retention_bytes = u64::try_from(settings.number("retention.bytes")).ok();
        settings.timestamp_after_max_ms = settings.number("message.timestamp.after.max.ms");
        settings.timestamp_before_max_ms = settings.number("message.timestamp.before.max.ms");
        Ok(settings)
    }

    pub(crate) fn overrides(&self) -> &BTreeMap<String, String> {
        &self.overrides
    }

    /// The value in force, and whether it is the topic's own.
    pub(crate) fn get(&self, name: &str) -> Option<(String, bool)> {
        if let Some(value) = self.overrides.get(name) {
            return Some((value.clone(), true));
        }
        if name == MAX_MESSAGE_BYTES {
            return Some((self.broker_max_message_bytes.to_string(), false));
        }
        let known = KNOWN.iter().find(|(known, ..)| *known == name)?;
        Some((known.2.to_owned(), false))
    }

    fn number(&self, name: &str) -> i64 {
        let value = self.get(name).map(|(value, _)| value).unwrap_or_default();
        value.parse().unwrap_or_default()
    }
}

fn check(name: &str, value: &str) -> Result<(), String> {
    let Some((_, kind, _)) = KNOWN.iter().find(|(known, ..)| *known == name) else {
        return Err(format!("unknown topic config name: {name}"));
    };
    let fits = match kind {
        Kind::Boolean => value.parse::<bool>().is_ok(),
        Kind::Int => value.parse::<i32>().is_ok(),
        Kind::Long => value.parse::<i64>().is_ok(),
        Kind::Text => !value.is_empty(),
        Kind::List => value
            .split(',')
            .all(|part| matches!(part, "delete" | "compact")),
    };
    if fits {
        Ok(())
    } else {
        Err(format!("invalid value {value} for configuration {name}"))
    }
}
