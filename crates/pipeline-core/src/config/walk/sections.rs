//! Lists of sections, such as `auth.keys`: each is walked by the same rules as a section of the
//! file, under its own index.

use std::mem;

use super::{
    super::{
        keys::{self, KEYS, Key},
        value::{Item, Value},
        yaml::Node,
    },
    Walker,
};

impl Walker<'_> {
    pub(super) fn sections(&mut self, key: &'static Key, node: &Node) -> Option<Value> {
        let items = match node {
            // All of it stands commented out.
            Node::Null => &[][..],
            Node::List(items) => items,
            other => {
                self.wrong(key.path, other, key.kind.allowed());
                return None;
            }
        };
        let before = self.out.faults.len();
        let mut sections = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let path = format!("{}[{index}]", key.path);
            if let Node::Map(entries) = item {
                sections.push(self.item(key, &path, entries));
            } else {
                let allowed = format!("a section with {}", keys::children(&path).join(", "));
                self.wrong(&path, item, allowed);
            }
        }
        (self.out.faults.len() == before).then_some(Value::Sections(sections))
    }

    fn item(&mut self, list: &Key, path: &str, entries: &[(Node, Node)]) -> Item {
        let around = mem::take(&mut self.out.values);
        self.section(path, entries);
        let inside = format!("{}[].", list.path);
        for key in KEYS {
            let Some(name) = key.path.strip_prefix(&inside) else {
                continue;
            };
            self.fill(key, &format!("{path}.{name}"));
            // The next one of the list begins anew.
            self.touched.remove(key.path);
            self.out.given.remove(key.path);
        }
        mem::replace(&mut self.out.values, around)
    }
}
