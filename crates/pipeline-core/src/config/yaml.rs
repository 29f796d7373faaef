//! The file as a tree: what YAML says, with duplicate keys kept so that they can be refused.

use std::fmt;

use super::Fault;
use serde::de::{
    Deserialize, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
};

/// Reads one YAML document; an empty one is [`Node::Null`].
pub(super) fn parse(yaml: &str) -> Result<Node, Fault> {
    serde_yaml::from_str(yaml).map_err(|error| {
        let path = match error.location() {
            Some(at) => format!("line {} column {}", at.line(), at.column()),
            None => "(top)".to_owned(),
        };
        Fault {
            path,
            found: format!("broken YAML ({})", error.to_string().replace('\n', " ")),
            allowed: "one YAML document".to_owned(),
        }
    })
}

#[derive(Clone, PartialEq, Debug)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    /// Text in which a `${NAME}` was expanded: it may stand for a value of any kind.
    Expanded(String),
    List(Vec<Node>),
    /// In the order of the file; a key may stand twice.
    Map(Vec<(Node, Node)>),
    /// `!name`: nothing in the file has one.
    Tagged(String),
}

impl Node {
    /// For a fault's `found`; long text is cut.
    pub(super) fn found(&self) -> String {
        match self {
            Self::Null => "nothing".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::Text(text) | Self::Expanded(text) => quoted(text),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a section".to_owned(),
            Self::Tagged(tag) => format!("the YAML tag {}", quoted(tag)),
        }
    }
}

/// `text` in quotes, on one line, cut where it is long.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN_MAX: usize = 80;
    match text.char_indices().nth(SHOWN_MAX) {
        Some((at, _)) => format!("{:?}…", &text[..at]),
        None => format!("{text:?}"),
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    /// An empty document.
    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Int(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Int(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Int(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Node, E> {
        Ok(Node::Int(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Map(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Node, A::Error> {
        let (tag, value): (String, _) = tagged.variant()?;
        value.newtype_variant::<Node>()?;
        Ok(Node::Tagged(tag))
    }
}
