//! The services' configuration file, as a user would write it.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use anyhow::{Context, Result};

/// Sections, keys and values; written as YAML.
#[derive(Clone, Debug, Default)]
pub struct Config {
    root: BTreeMap<String, Node>,
}

#[derive(Clone, Debug)]
enum Node {
    /// As it stands in the file.
    Value(String),
    Section(BTreeMap<String, Node>),
}

impl Config {
    /// Sets a key by its path, as `kafka.createTopic.partitions`. The value is YAML.
    ///
    /// # Panics
    /// When a part of the path is a value already.
    pub fn set(&mut self, path: &str, value: impl ToString) -> &mut Self {
        let (sections, key) = path
            .rsplit_once('.')
            .map_or((None, path), |(s, k)| (Some(s), k));
        let mut map = &mut self.root;
        for section in sections.iter().flat_map(|sections| sections.split('.')) {
            let node = map
                .entry(section.to_owned())
                .or_insert_with(|| Node::Section(BTreeMap::new()));
            map = match node {
                Node::Section(map) => map,
                Node::Value(value) => panic!("{section} of {path} is {value} already"),
            };
        }
        map.insert(key.to_owned(), Node::Value(value.to_string()));
        self
    }

    /// A value as it was set.
    pub fn get(&self, path: &str) -> Option<&str> {
        let mut map = &self.root;
        let (sections, key) = path
            .rsplit_once('.')
            .map_or((None, path), |(s, k)| (Some(s), k));
        for section in sections.iter().flat_map(|sections| sections.split('.')) {
            let Node::Section(inner) = map.get(section)? else {
                return None;
            };
            map = inner;
        }
        match map.get(key)? {
            Node::Value(value) => Some(value),
            Node::Section(_) => None,
        }
    }

    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, file: &Path, comment: &str) -> Result<()> {
        let mut text = format!("# {comment}\n");
        write_map(&mut text, &self.root, 0);
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }
}

/// A value that YAML would read otherwise (a path with a blank, a colon), in quotes.
pub fn quoted(text: impl std::fmt::Display) -> String {
    serde_json::Value::from(text.to_string()).to_string()
}

fn write_map(out: &mut String, map: &BTreeMap<String, Node>, depth: usize) {
    let indent = "  ".repeat(depth);
    for (key, node) in map {
        // A String takes every write.
        let _ = match node {
            Node::Value(value) => writeln!(out, "{indent}{key}: {value}"),
            Node::Section(inner) => {
                let _ = writeln!(out, "{indent}{key}:");
                write_map(out, inner, depth + 1);
                Ok(())
            }
        };
    }
}
