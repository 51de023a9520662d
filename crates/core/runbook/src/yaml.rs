//! YAML read into a small tree that knows where each value stands.
//!
//! Strict serde structs stop at the first mistake; the plan's author wants all of them, each with its line.
//! So a file becomes a tree of [`Node`]s first, and [`crate::fields`] walks it.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};
use serde_saphyr::{Location, Spanned};

use crate::finding::{Finding, Place};

/// The largest file of a plan, in bytes.
pub const MAX_FILE_BYTES: usize = 256 * 1024;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) place: Place,
}

/// A key of a mapping and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) place: Place,
}

/// What YAML can say.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    /// A number that no field of a plan takes: it is kept to be named in the finding.
    OtherNumber(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

impl Value {
    /// The text, if it is one.
    pub(crate) fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self {
            Some(text)
        } else {
            None
        }
    }

    /// The items, if it is a list.
    pub(crate) fn as_list(&self) -> Option<&[Node]> {
        if let Self::List(items) = self {
            Some(items)
        } else {
            None
        }
    }

    /// The entries, if it is a mapping.
    pub(crate) fn as_map(&self) -> Option<&[(Key, Node)]> {
        if let Self::Map(entries) = self {
            Some(entries)
        } else {
            None
        }
    }

    /// The whole number, if it is one.
    pub(crate) fn as_int(&self) -> Option<i64> {
        if let Self::Int(number) = self {
            Some(*number)
        } else {
            None
        }
    }

    /// What the value is, in a sentence: "a list".
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Null => "nothing".to_owned(),
            Self::Bool(value) => format!("the truth value {value}"),
            Self::Int(value) => format!("the number {value}"),
            Self::OtherNumber(value) => format!("the number {value}"),
            Self::Text(_) => "a text".to_owned(),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// Reads one file. The limits are far above any real plan and far below what would hurt: aliases in
/// particular can blow a small file up.
pub(crate) fn read(file: &str, text: &str) -> Result<Node, Vec<Finding>> {
    if text.len() > MAX_FILE_BYTES {
        let message = format!(
            "the file has {} bytes; at most {MAX_FILE_BYTES} are read",
            text.len()
        );
        return Err(vec![
            Finding::error(file, Place::default(), "too-large", message)
                .remedy("split the plan into several runbooks"),
        ]);
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 20_000,
            max_nodes: 40_000,
            max_depth: 24,
            max_aliases: 32,
            max_anchors: 32,
            max_recorded_anchor_events: 2_000,
            max_recorded_anchor_bytes: 64 * 1024,
            max_documents: 1,
            max_merge_keys: 0,
            flow_nesting_limit: 16,
            max_total_scalar_bytes: MAX_FILE_BYTES,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 2_000,
            max_replay_stack_depth: 4,
            max_alias_expansions_per_anchor: 16,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        emit_comments: false,
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options::<Node>(text, options).map_err(|error| {
        let place = error.location().map(place_of).unwrap_or_default();
        let message = format!("the file is not readable YAML: {error}");
        let remedy = "check indentation, quotes and brackets at this line";
        vec![Finding::error(file, place, "not-yaml", message).remedy(remedy)]
    })
}

fn place_of(location: Location) -> Place {
    Place {
        line: u32::try_from(location.line()).unwrap_or(0),
        column: u32::try_from(location.column()).unwrap_or(0),
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self {
            value: spanned.value,
            place: place_of(spanned.referenced),
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or_else(|_| Value::OtherNumber(value.to_string()), Value::Int))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::OtherNumber(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(Value::OtherNumber(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::OtherNumber(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Node>()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let key = Key {
                place: place_of(key.referenced),
                text: key.value,
            };
            entries.push((key, map.next_value::<Node>()?));
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn entries(node: &Node) -> &[(Key, Node)] {
        node.value.as_map().unwrap()
    }

    #[test]
    fn keys_and_values_know_their_line_and_column() {
        let node = read("f", "a: 1\nlist:\n  - x\n  - y: true\n    z: 5s\n").unwrap();
        let top = entries(&node);
        let place = |line, column| Place { line, column };
        assert_eq!((top[0].0.place, top[0].1.place), (place(1, 1), place(1, 4)));
        assert_eq!(top[1].0.place, place(2, 1));
        let Value::List(items) = &top[1].1.value else {
            panic!("no list")
        };
        assert_eq!(items[0].place, place(3, 5));
        let inner = entries(&items[1]);
        assert_eq!(
            (inner[1].0.place, inner[1].1.place),
            (place(5, 5), place(5, 8))
        );
        assert!(matches!(&inner[1].1.value, Value::Text(text) if text == "5s"));
    }

    #[test]
    fn a_key_that_stands_twice_is_refused_with_its_line() {
        let findings = read("f", "a: 1\na: 2\n").unwrap_err();
        assert_eq!((findings[0].code, findings[0].place.line), ("not-yaml", 2));
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text = String::from("a: &a [x, x, x, x, x, x, x, x]\n");
        for (name, of) in [("b", "a"), ("c", "b"), ("d", "c"), ("e", "d")] {
            let items = vec![format!("*{of}"); 8].join(", ");
            writeln!(text, "{name}: &{name} [{items}]").unwrap();
        }
        assert_eq!(read("f", &text).unwrap_err()[0].code, "not-yaml");
        assert_eq!(
            read("f", &"[".repeat(10_000)).unwrap_err()[0].code,
            "not-yaml"
        );
        assert_eq!(
            read("f", &" ".repeat(MAX_FILE_BYTES + 1)).unwrap_err()[0].code,
            "too-large"
        );
    }
}
