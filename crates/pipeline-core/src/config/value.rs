//! Kinds of values: what may stand there, how it is read, what to say where it does not fit.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time,
};

use super::{
    units::{duration, show_duration, show_size, size, whole_number},
    yaml::Node,
};
use crate::record::check_site;

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Addr,
    Bool,
    /// `host:port`, at least one.
    Brokers,
    Choice(&'static [&'static str]),
    Count {
        min: u64,
        max: u64,
    },
    /// In milliseconds.
    Duration {
        min: u64,
        max: u64,
    },
    HeaderName,
    /// A host name, as a record's `site`.
    Host,
    LogFilter,
    /// A short text on one line.
    Name,
    Path,
    Secret,
    /// Has keys of its own, or is off.
    Section,
    /// A list of such.
    Sections,
    /// 64 hexadecimal digits, shown nowhere.
    Sha256,
    /// 0.9, or 90 for the same.
    Share,
    Size {
        min: u64,
        max: u64,
    },
    Topic,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) enum Value {
    Off,
    Addr(SocketAddr),
    Bool(bool),
    Duration(time::Duration),
    List(Vec<String>),
    Number(u64),
    Section,
    Sections(Vec<Item>),
    Share(f64),
    Text(String),
}

/// Values by the path of their key: a whole file, or one section of a list.
pub(super) type Item = HashMap<&'static str, Value>;

const NAME_BYTES_MAX: usize = 249;

impl Kind {
    /// Reads one value; lists and sections are the walker's.
    pub(super) fn read(self, node: &Node) -> Option<Value> {
        match self {
            Self::Addr => text(node).and_then(addr).map(Value::Addr),
            Self::Bool => match (node, expanded(node)) {
                (Node::Bool(value), _) => Some(Value::Bool(*value)),
                (_, Some("true")) => Some(Value::Bool(true)),
                (_, Some("false")) => Some(Value::Bool(false)),
                _ => None,
            },
            Self::Count { min, max } => {
                let number = match node {
                    Node::Int(number) => u64::try_from(*number).ok(),
                    _ => expanded(node).and_then(whole_number),
                };
                number
                    .filter(|number| (min..=max).contains(number))
                    .map(Value::Number)
            }
            Self::Size { min, max } => {
                let bytes = match node {
                    Node::Int(number) => u64::try_from(*number).ok(),
                    _ => text(node).and_then(size),
                };
                bytes
                    .filter(|bytes| (min..=max).contains(bytes))
                    .map(Value::Number)
            }
            Self::Duration { min, max } => {
                // A bare 0 needs no unit, and no other number is taken without one.
                let duration = match node {
                    Node::Int(0) => Some(time::Duration::ZERO),
                    _ => text(node).and_then(duration),
                };
                duration
                    .filter(|found| {
                        let (min, max) = (u128::from(min), u128::from(max));
                        (min..=max).contains(&found.as_millis())
                    })
                    .map(Value::Duration)
            }
            Self::Share => share(node).map(Value::Share),
            Self::Choice(choices) => text(node)
                .filter(|text| choices.contains(text))
                .map(|text| Value::Text(text.to_owned())),
            Self::Path => checked(node, |path| {
                !path.trim().is_empty() && !path.contains('\0') && !path.starts_with('~')
            }),
            Self::Name | Self::Secret => checked(node, is_name),
            Self::Topic => checked(node, is_topic),
            Self::HeaderName => checked(node, is_header_name),
            Self::Host => checked(node, |host| check_site(host).is_ok()),
            Self::Sha256 => checked(node, |digits| sha256(digits).is_some()),
            Self::LogFilter => checked(node, is_log_filter),
            Self::Brokers | Self::Section | Self::Sections => None,
        }
    }

    /// For a fault's `allowed`, and for the reference page.
    pub(super) fn allowed(self) -> String {
        match self {
            Self::Addr => "an address such as 127.0.0.1:8080, port 0 for a free one".to_owned(),
            Self::Bool => "true or false".to_owned(),
            Self::Brokers => "a list of host:port".to_owned(),
            Self::Choice(choices) => {
                let (last, others) = choices.split_last().expect("a choice has choices");
                format!("{} or {last}", others.join(", "))
            }
            Self::Count { min, max } => format!("a whole number from {min} to {max}"),
            Self::Duration { min, max } => format!(
                "a duration from {} to {}, such as 500ms, 10s, 5m, 1h, 7d",
                show_duration(min),
                show_duration(max)
            ),
            Self::HeaderName => "the name of an HTTP header".to_owned(),
            Self::Host => "a host name without a port, such as www.example.com".to_owned(),
            Self::LogFilter => {
                "error, warn, info, debug, trace or off, also for parts, as info,kafka_link=debug"
                    .to_owned()
            }
            Self::Name | Self::Secret => {
                format!("text on one line, 1 to {NAME_BYTES_MAX} bytes")
            }
            Self::Path => "a path (~ is not expanded, ${HOME} is)".to_owned(),
            Self::Section => "a section, or off".to_owned(),
            Self::Sections => "a list of sections".to_owned(),
            Self::Sha256 => "64 hexadecimal digits".to_owned(),
            Self::Share => {
                "a share over 0 and up to 1, as 0.9, or a percentage over 1 and up to 100, as 90"
                    .to_owned()
            }
            Self::Size { min, max } => format!(
                "a size from {} to {}, such as 2000000, 64MiB or 64MB",
                show_size(min),
                show_size(max)
            ),
            Self::Topic => {
                "the name of a topic: 1 to 249 letters, digits, . _ and -, not . or .. alone"
                    .to_owned()
            }
        }
    }
}

/// Whether the node says that an optional key is not used.
pub(super) fn is_off(node: &Node) -> bool {
    match node {
        Node::Null | Node::Bool(false) => true,
        Node::Text(text) => text == "off",
        Node::Expanded(text) => text.is_empty() || text == "off",
        _ => false,
    }
}

/// 64 hexadecimal digits.
pub(super) fn sha256(digits: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    let pairs = digits.as_bytes().chunks_exact(2);
    if digits.len() != 2 * hash.len() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(pairs) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}

/// `host:port`, with an IPv6 address in brackets.
pub(super) fn is_broker(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let host_is_good = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            (1..=253).contains(&host.len())
                && host
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        }
    };
    host_is_good && whole_number(port).is_some_and(|port| (1..=65_535).contains(&port))
}

fn text(node: &Node) -> Option<&str> {
    match node {
        Node::Text(text) | Node::Expanded(text) => Some(text),
        _ => None,
    }
}

/// What a variable held may be of any kind; text that was written as such may not.
fn expanded(node: &Node) -> Option<&str> {
    match node {
        Node::Expanded(text) => Some(text),
        _ => None,
    }
}

fn checked(node: &Node, check: fn(&str) -> bool) -> Option<Value> {
    text(node)
        .filter(|text| check(text))
        .map(|text| Value::Text(text.to_owned()))
}

fn addr(text: &str) -> Option<SocketAddr> {
    if let Some(port) = text.strip_prefix("localhost:") {
        let port = whole_number(port).and_then(|port| u16::try_from(port).ok())?;
        return Some(SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port));
    }
    text.parse().ok()
}

fn share(node: &Node) -> Option<f64> {
    let number = match node {
        #[allow(clippy::cast_precision_loss, reason = "numbers over 100 are refused")]
        Node::Int(number) => *number as f64,
        Node::Float(number) => *number,
        _ => text(node)?.parse().ok()?,
    };
    if number > 0.0 && number <= 1.0 {
        Some(number)
    } else if number > 1.0 && number <= 100.0 {
        Some(number / 100.0)
    } else {
        None
    }
}

fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.trim() == text
        && !text.chars().any(char::is_control)
}

/// As brokers check it (`org.apache.kafka.common.internals.Topic`).
fn is_topic(text: &str) -> bool {
    (1..=249).contains(&text.len())
        && text != "."
        && text != ".."
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// A token of RFC 9110, section 5.6.2.
fn is_header_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// Stricter than the filter's own parser, which takes a misspelt level for the name of a part.
fn is_log_filter(text: &str) -> bool {
    let is_level =
        |level: &str| ["error", "warn", "info", "debug", "trace", "off"].contains(&level);
    text.split(',').all(|part| match part.split_once('=') {
        None => is_level(part),
        Some((target, level)) => {
            is_level(level)
                && !target.is_empty()
                && target
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_:-".contains(&b))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> Node {
        Node::Text(text.to_owned())
    }

    #[test]
    fn a_share_may_stand_as_a_percentage() {
        for (node, expected) in [
            (Node::Float(0.9), Some(0.9)),
            (Node::Int(90), Some(0.9)),
            (Node::Int(1), Some(1.0)),
            (Node::Int(100), Some(1.0)),
            (Node::Expanded("0.5".to_owned()), Some(0.5)),
            (Node::Int(0), None),
            (Node::Int(101), None),
            (Node::Float(f64::NAN), None),
            (Node::Float(-0.5), None),
            (node("many"), None),
        ] {
            assert_eq!(share(&node), expected, "{node:?}");
        }
    }

    #[test]
    fn names_of_brokers_topics_headers_and_levels_are_checked() {
        for (text, good) in [
            ("localhost:9092", true),
            ("kafka-1.example.com:1", true),
            ("[::1]:9092", true),
            ("::1:9092", false),
            ("kafka", false),
            ("kafka:", false),
            (":9092", false),
            ("kafka:0", false),
            ("kafka:65536", false),
            ("user:pw@kafka:9092", false),
            ("kafka://a:9092", false),
        ] {
            assert_eq!(is_broker(text), good, "{text}");
        }
        for (text, good) in [
            ("logs", true),
            ("a.b_c-1", true),
            ("..", false),
            ("a b", false),
        ] {
            assert_eq!(is_topic(text), good, "{text}");
        }
        for (text, good) in [
            ("X-API-Key", true),
            ("a b", false),
            ("", false),
            ("a:", false),
        ] {
            assert_eq!(is_header_name(text), good, "{text}");
        }
        for (text, good) in [
            ("info", true),
            ("info,kafka_link=debug", true),
            ("infos", false),
            ("info,kafka_link", false),
            ("=debug", false),
        ] {
            assert_eq!(is_log_filter(text), good, "{text}");
        }
        let localhost = Kind::Addr.read(&node("localhost:0"));
        assert_eq!(localhost, Some(Value::Addr("127.0.0.1:0".parse().unwrap())));
    }
}
