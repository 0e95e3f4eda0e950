//! Where in a YAML text a field stands.

use serde::Deserialize;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A place in a text; both count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) line: u64,
    pub(super) column: u64,
}

/// A field's path in a spec: `ranking.order_by[1]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct FieldPath(Vec<Step>);

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Key(String),
    Index(usize),
}

impl FieldPath {
    pub(super) fn key(&self, name: &str) -> Self {
        let mut path = self.clone();
        path.0.push(Step::Key(name.to_owned()));
        path
    }

    pub(super) fn index(&self, index: usize) -> Self {
        let mut path = self.clone();
        path.0.push(Step::Index(index));
        path
    }
}

impl std::fmt::Display for FieldPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(name) if i == 0 => write!(f, "{name}")?,
                Step::Key(name) => write!(f, ".{name}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// The place of a field, or of the nearest field around it that is there.
pub(super) fn locate(yaml: &str, path: &FieldPath) -> Option<Position> {
    let mut node: Spanned<Node> = serde_saphyr::from_str(yaml).ok()?;
    let position = |node: &Spanned<Node>| Position {
        line: node.referenced.line(),
        column: node.referenced.column(),
    };
    let mut found = position(&node);
    for step in &path.0 {
        let child = match (step, node.value) {
            (Step::Key(name), Node::Map(entries)) => entries
                .into_iter()
                .find(|(key, _)| key == name)
                .map(|e| e.1),
            (Step::Index(index), Node::Seq(items)) => items.into_iter().nth(*index),
            _ => None,
        };
        match child {
            Some(child) => node = child,
            None => break,
        }
        found = position(&node);
    }
    Some(found)
}

/// A YAML value of which only the structure matters.
enum Node {
    Scalar,
    Seq(Vec<Spanned<Node>>),
    Map(Vec<(String, Spanned<Node>)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_str<E>(self, _: &str) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Node::Seq(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_lines() {
        let yaml = "version: 1\nranking:\n  item: x\n  order_by:\n    - a desc\n    - b\n";
        let root = FieldPath::default();
        let order = root.key("ranking").key("order_by");
        let line = |path: &FieldPath| locate(yaml, path).unwrap().line;
        assert_eq!(line(&root.key("version")), 1);
        assert_eq!(line(&order.index(1)), 6);
        assert_eq!(order.index(1).to_string(), "ranking.order_by[1]");
        // A field that is missing: the place of the one around it.
        assert_eq!(line(&root.key("ranking").key("top")), 3);
    }
}
