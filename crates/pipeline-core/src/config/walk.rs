//! From the tree to values by path, with every fault on the way: unknown, duplicate and missing
//! keys, wrong kinds, values out of range.

use std::collections::HashSet;

mod sections;

use super::{
    Fault,
    expand::expand,
    keys::{self, KEYS, Key, OFF, REQUIRED},
    nearest::nearest,
    value::{Item, Kind, Value, is_broker, is_off},
    yaml::{Node, quoted},
};

/// What the file says, and what is wrong with it.
#[derive(Debug, Default)]
pub(super) struct Walked {
    values: Item,
    given: HashSet<&'static str>,
    pub(super) faults: Vec<Fault>,
}

impl Walked {
    /// The value at `path`, from the file or by default; `None` where the file has a fault there.
    pub(super) fn get(&self, path: &str) -> Option<&Value> {
        self.values.get(path)
    }

    pub(super) fn into_values(self) -> Item {
        self.values
    }

    /// Whether the file has a good value at `path`.
    pub(super) fn is_given(&self, path: &str) -> bool {
        self.given.contains(path)
    }

    /// The sections of the list at `path`; none where the file has a fault there.
    pub(super) fn items(&mut self, path: &str) -> &mut [Item] {
        match self.values.get_mut(path) {
            Some(Value::Sections(items)) => items,
            _ => &mut [],
        }
    }

    pub(super) fn fault(
        &mut self,
        path: &str,
        found: impl Into<String>,
        allowed: impl Into<String>,
    ) {
        self.faults.push(Fault {
            path: path.to_owned(),
            found: found.into(),
            allowed: allowed.into(),
        });
    }
}

/// Walks the file; faults come in its order, then missing keys.
pub(super) fn walk(root: &Node, env: &dyn Fn(&str) -> Option<String>) -> Walked {
    let mut walker = Walker {
        env,
        out: Walked::default(),
        touched: HashSet::new(),
    };
    match root {
        Node::Null => {}
        Node::Map(entries) => walker.section("", entries),
        other => {
            let allowed = format!("the keys {}", keys::children("").join(", "));
            walker.out.fault("(top)", kind_of(other), allowed);
            return walker.out;
        }
    }
    walker.fill_in();
    walker.out
}

struct Walker<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    out: Walked,
    /// Keys that stand in the file, good or bad.
    touched: HashSet<&'static str>,
}

impl Walker<'_> {
    fn section(&mut self, path: &str, entries: &[(Node, Node)]) {
        let allowed = keys::children(path);
        let mut seen = HashSet::new();
        for (key, node) in entries {
            let name = match key {
                Node::Text(name) => name.clone(),
                other => other.found(),
            };
            let path = match path {
                "" => name.clone(),
                _ => format!("{path}.{name}"),
            };
            if !allowed.contains(&name.as_str()) {
                let place = path_on_one_line(&path);
                let allowed = allowed.join(", ");
                let hint = nearest(&path, &name)
                    .map(|near| format!(" (did you mean {near}?)"))
                    .unwrap_or_default();
                self.out
                    .fault(&place, "an unknown key", format!("{allowed}{hint}"));
            } else if !seen.insert(name) {
                self.out
                    .fault(&path, "the key a second time", "each key once");
            } else {
                self.entry(&path, node);
            }
        }
    }

    fn entry(&mut self, path: &str, node: &Node) {
        match (keys::find(path), node) {
            (Some(key), _) => {
                self.touched.insert(key.path);
                if let Some(value) = self.leaf(key, path, node) {
                    self.out.given.insert(key.path);
                    self.out.values.insert(key.path, value);
                }
            }
            (None, Node::Map(entries)) => self.section(path, entries),
            // All of its keys stand commented out.
            (None, Node::Null) => {}
            (None, other) => {
                let allowed = format!("a section with {}", keys::children(path).join(", "));
                self.out.fault(path, kind_of(other), allowed);
            }
        }
    }

    /// The value of `key`, which stands at `path`.
    fn leaf(&mut self, key: &'static Key, path: &str, node: &Node) -> Option<Value> {
        let node = self.expanded(path, node)?;
        if key.default == OFF && is_off(&node) {
            return Some(Value::Off);
        }
        let value = match (key.kind, &node) {
            (Kind::Brokers, node) => return self.brokers(key, node),
            (Kind::Sections, node) => return self.sections(key, node),
            (Kind::Section, Node::Map(entries)) => {
                self.section(path, entries);
                Some(Value::Section)
            }
            (kind, node) => kind.read(node),
        };
        if value.is_none() {
            let allowed = match key.kind {
                Kind::Section => {
                    let inside = keys::children(key.path).join(", ");
                    format!("off, or a section with {inside}")
                }
                kind if key.default == OFF => format!("off, or {}", kind.allowed()),
                kind => kind.allowed(),
            };
            self.wrong(path, &node, allowed);
        }
        value
    }

    fn brokers(&mut self, key: &'static Key, node: &Node) -> Option<Value> {
        // One variable may hold them all.
        let split;
        let items = match node {
            Node::List(items) if !items.is_empty() => items,
            Node::Expanded(text) => {
                split = text
                    .split(',')
                    .map(|item| Node::Expanded(item.trim().to_owned()))
                    .collect();
                &split
            }
            other => {
                let found = match other {
                    Node::List(_) => "an empty list".to_owned(),
                    other => other.found(),
                };
                self.out.fault(key.path, found, key.kind.allowed());
                return None;
            }
        };
        let mut brokers = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let path = format!("{}[{index}]", key.path);
            match self.expanded(&path, item) {
                Some(Node::Text(text) | Node::Expanded(text)) if is_broker(&text) => {
                    brokers.push(text);
                }
                Some(other) => self.wrong(&path, &other, "host:port"),
                None => {}
            }
        }
        (brokers.len() == items.len()).then_some(Value::List(brokers))
    }

    fn expanded(&mut self, path: &str, node: &Node) -> Option<Node> {
        let Node::Text(text) = node else {
            return Some(node.clone());
        };
        match expand(text, self.env) {
            Ok(Some(text)) => Some(Node::Expanded(text)),
            Ok(None) => Some(node.clone()),
            Err(error) if keys::is_secret(path) => {
                self.out.fault(path, "***", error.allowed);
                None
            }
            Err(error) => {
                self.out.fault(path, error.found, error.allowed);
                None
            }
        }
    }

    fn wrong(&mut self, path: &str, node: &Node, allowed: impl Into<String>) {
        let found = if keys::is_secret(path) {
            "***".to_owned()
        } else {
            without_password(&node.found())
        };
        self.out.fault(path, found, allowed);
    }

    /// Absent keys get their defaults; those that have none are faults.
    fn fill_in(&mut self) {
        for key in KEYS {
            // What stands in the sections of a list is checked where the list is.
            if key.path.contains("[]") {
                continue;
            }
            let section = key.path.rsplit_once('.').map_or("", |(section, _)| section);
            let section_is_optional = keys::find(section).is_some();
            if section_is_optional && self.out.get(section) != Some(&Value::Section) {
                continue;
            }
            self.fill(key, key.path);
        }
    }

    /// What `key` is where the file does not say it at `path`.
    fn fill(&mut self, key: &'static Key, path: &str) {
        if self.touched.contains(key.path) {
            return;
        }
        let file = format!("{}File", key.path);
        if key.default != REQUIRED {
            self.out.values.insert(key.path, default(key));
        } else if !self.touched.contains(file.as_str()) {
            self.out.fault(path, "nothing", key.kind.allowed());
        }
    }
}

fn default(key: &Key) -> Value {
    match key.default {
        OFF => return Value::Off,
        "[]" => return Value::Sections(Vec::new()),
        _ => {}
    }
    // Defaults are written as in the file, so they are read as a variable's text would be.
    key.kind
        .read(&Node::Expanded(key.default.to_owned()))
        .expect("each default is allowed: a test reads them all")
}

/// What stands where a section belongs; its text may be anything, so it is not shown.
fn kind_of(node: &Node) -> String {
    match node {
        Node::Text(_) | Node::Expanded(_) => "text".to_owned(),
        other => other.found(),
    }
}

fn path_on_one_line(path: &str) -> String {
    if path.chars().any(char::is_control) || path.len() > 100 {
        quoted(path)
    } else {
        path.to_owned()
    }
}

/// `"user:secret@host"` may stand by mistake in any value.
fn without_password(found: &str) -> String {
    match found.rsplit_once('@') {
        Some((_, host)) if found.contains(':') => format!("\"***@{host}"),
        _ => found.to_owned(),
    }
}
