//! Checks a JSON value against the tables of [`crate::shape`] and collects every mistake, each with its pointer.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sealwarden_runbook::nearest_word;
use serde_json::{Map, Value};

use crate::condition::Condition;
use crate::finding::{Finding, below, shown};
use crate::names::{id_type, is_time, is_variable};
use crate::shape::{self, Key, Kind, Shape};

/// The most entries of one list or object.
const MAX_ENTRIES: usize = 2_000;

/// The longest key of a map, in bytes (the specification's bound for dictionary keys).
const MAX_KEY_BYTES: usize = 250;

/// The most findings that are collected: a damaged file can have one for each of its values.
const MAX_FINDINGS: usize = 200;

/// Collects findings.
#[derive(Default)]
pub(crate) struct Check {
    pub(crate) findings: Vec<Finding>,
}

impl Check {
    pub(crate) fn push(&mut self, finding: Finding) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        }
    }

    pub(crate) fn error(
        &mut self,
        pointer: &str,
        code: &'static str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.push(Finding::error(pointer, code, message, remedy));
    }

    /// Whether the value is an object of this shape.
    pub(crate) fn object(&mut self, pointer: &str, value: &Value, shape: &Shape) {
        let Some(object) = self.as_object(pointer, value, shape.what) else {
            return;
        };
        for property in shape.all() {
            match object.get(property.name) {
                Some(value) => self.kind(&below(pointer, property.name), value, property.kind),
                None if property.required => self.error(
                    pointer,
                    "missing-property",
                    format!("{} has no `{}`", shape.what, property.name),
                    format!("add `{}`", property.name),
                ),
                None => {}
            }
        }
        if !shape.open {
            self.unknown(pointer, object, shape);
        }
    }

    fn unknown(&mut self, pointer: &str, object: &Map<String, Value>, shape: &Shape) {
        for key in object.keys() {
            if shape.all().any(|property| property.name == key) {
                continue;
            }
            let near = nearest_word(key, shape.all().map(|property| property.name))
                .filter(|near| !object.contains_key(*near));
            let message = format!("{} has no property `{}`", shape.what, shown(key));
            let place = below(pointer, key);
            match near {
                Some(near) => {
                    let remedy = format!("did you mean `{near}`?");
                    self.error(&place, "unknown-property", message, remedy);
                }
                None => self.push(
                    Finding::error(place, "unknown-property", message, "it is ignored")
                        .as_warning(),
                ),
            }
        }
    }

    fn as_object<'v>(
        &mut self,
        pointer: &str,
        value: &'v Value,
        what: &str,
    ) -> Option<&'v Map<String, Value>> {
        let Some(object) = value.as_object() else {
            self.wrong(pointer, what, value);
            return None;
        };
        if object.len() > MAX_ENTRIES {
            let message = format!("here are {} entries", object.len());
            let remedy = format!("at most {MAX_ENTRIES} are read");
            self.error(pointer, "too-many", message, remedy);
            return None;
        }
        Some(object)
    }

    fn wrong(&mut self, pointer: &str, expected: &str, value: &Value) {
        let found = match value {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Number(number) => format!("the number {number}"),
            Value::String(text) => format!("the text `{}`", shown(text)),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "an object".to_owned(),
        };
        let message = format!("here should be {expected}, and here is {found}");
        self.error(pointer, "wrong-type", message, format!("write {expected}"));
    }

    fn kind(&mut self, pointer: &str, value: &Value, kind: Kind) {
        match kind {
            Kind::Text => self.text(pointer, value, "a text", |_| true),
            Kind::TextOrNull => {
                if !value.is_null() {
                    self.text(pointer, value, "a text or null", |_| true);
                }
            }
            Kind::OneOf(words) => {
                let expected = words.join("`, `");
                self.text(pointer, value, &format!("`{expected}`"), |text| {
                    words.contains(&text)
                });
            }
            Kind::Id => {
                let form = "an identifier `type--UUID`";
                self.text(pointer, value, form, |text| id_type(text).is_some());
            }
            Kind::Time => {
                let form = "a time such as 2026-11-02T10:00:00.000Z";
                self.text(pointer, value, form, is_time);
            }
            Kind::Base64 => {
                self.text(pointer, value, "base64", |text| {
                    BASE64_STANDARD.decode(text).is_ok()
                });
            }
            Kind::Bool => {
                if !value.is_boolean() {
                    self.wrong(pointer, "true or false", value);
                }
            }
            Kind::Whole { min, max } => {
                if !value.as_u64().is_some_and(|n| (min..=max).contains(&n)) {
                    self.wrong(
                        pointer,
                        &format!("a whole number from {min} to {max}"),
                        value,
                    );
                }
            }
            Kind::List { of, min } => self.list(pointer, value, *of, min),
            Kind::Map { key, of } => self.map(pointer, value, key, *of),
            Kind::Object(shape) => self.object(pointer, value, shape),
            Kind::AnyObject => {
                self.as_object(pointer, value, "an object");
            }
            Kind::Step => self.step(pointer, value),
            Kind::Condition => self.condition(pointer, value),
        }
    }

    fn text(
        &mut self,
        pointer: &str,
        value: &Value,
        expected: &str,
        accepts: impl Fn(&str) -> bool,
    ) {
        if !value.as_str().is_some_and(accepts) {
            self.wrong(pointer, expected, value);
        }
    }

    fn list(&mut self, pointer: &str, value: &Value, of: Kind, min: usize) {
        let Some(items) = value.as_array() else {
            self.wrong(pointer, "a list", value);
            return;
        };
        if items.len() < min || items.len() > MAX_ENTRIES {
            let message = format!("the list has {} entries", items.len());
            let remedy = format!("write {min} to {MAX_ENTRIES}, or leave it out");
            self.error(pointer, "wrong-length", message, remedy);
            return;
        }
        for (index, item) in items.iter().enumerate() {
            self.kind(&below(pointer, index), item, of);
        }
    }

    fn map(&mut self, pointer: &str, value: &Value, key: Key, of: Kind) {
        let Some(object) = self.as_object(pointer, value, "an object") else {
            return;
        };
        for (name, value) in object {
            let place = below(pointer, name);
            self.key(&place, name, key, value);
            self.kind(&place, value, of);
        }
    }

    fn key(&mut self, pointer: &str, name: &str, key: Key, value: &Value) {
        let (good, form) = match key {
            Key::Variable => (
                is_variable(name),
                "a variable's name `__name__`, a letter after the underscores",
            ),
            Key::OwnId => (id_type(name).is_some(), "an identifier `type--UUID`"),
            Key::Extension => (
                id_type(name) == Some("extension-definition"),
                "an identifier `extension-definition--UUID`",
            ),
            Key::Any => (name.len() <= MAX_KEY_BYTES, "a key of at most 250 bytes"),
        };
        if !good {
            let message = format!("`{}` is not {form}", shown(name));
            self.error(
                pointer,
                "bad-key",
                message,
                "correct the key and what refers to it",
            );
            return;
        }
        let stated = value.get("type").and_then(Value::as_str);
        if let (Key::OwnId, Some(named), Some(stated)) = (key, id_type(name), stated)
            && named != stated
        {
            let message = format!(
                "the identifier says `{named}`, and its `type` is `{}`",
                shown(stated)
            );
            // Engines name own agents freely, and nothing is executed by an agent's type here.
            let finding = Finding::error(pointer, "type-differs", message, "make both the same");
            let harmless = !shape::STEP_TYPES.contains(&named);
            self.push(if harmless {
                finding.as_warning()
            } else {
                finding
            });
        }
    }

    fn step(&mut self, pointer: &str, value: &Value) {
        let Some(kind) = value.get("type").and_then(Value::as_str) else {
            let message = "the step has no `type`";
            self.error(pointer, "missing-property", message, "add `type`");
            return;
        };
        if let Some(shape) = shape::step(kind) {
            self.object(pointer, value, shape);
        } else {
            let near = nearest_word(kind, shape::STEP_TYPES);
            let remedy = near.map_or_else(
                || format!("the types are: {}", shape::STEP_TYPES.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            let message = format!("there is no step type `{}`", shown(kind));
            self.error(
                &below(pointer, "type"),
                "unknown-step-type",
                message,
                remedy,
            );
        }
    }

    fn condition(&mut self, pointer: &str, value: &Value) {
        let Some(text) = value.as_str() else {
            self.wrong(pointer, "a condition such as __x__:value = '5'", value);
            return;
        };
        if let Err(bad) = Condition::parse(text) {
            let remedy = "write comparisons such as __x__:value = '5', joined by AND, OR, NOT and parentheses";
            self.error(pointer, "bad-condition", bad.to_string(), remedy);
        }
    }
}
