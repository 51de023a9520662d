//! Writes JSON values as YAML that people read: mappings and lists in blocks, texts in double quotes where needed.

use std::fmt::Write as _;

use sealwarden_runbook::is_name;
use serde_json::Value;

/// The value as a YAML document.
pub(crate) fn write(value: &Value) -> String {
    let mut out = String::new();
    block(&mut out, value, 0);
    out
}

fn block(out: &mut String, value: &Value, indent: usize) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                out.push_str(&pad);
                entry(out, key, value, indent);
            }
        }
        Value::Array(items) => {
            for item in items {
                out.push_str(&pad);
                out.push_str("- ");
                let mut inner = String::new();
                if is_inline(item) {
                    let _ = writeln!(out, "{}", inline(item));
                    continue;
                }
                block(&mut inner, item, indent + 2);
                out.push_str(inner.trim_start());
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let _ = writeln!(out, "{pad}{}", inline(value));
        }
    }
}

fn entry(out: &mut String, key: &str, value: &Value, indent: usize) {
    // Writing to a String cannot fail.
    if is_inline(value) {
        let _ = writeln!(out, "{}: {}", plain(key), inline(value));
    } else {
        let _ = writeln!(out, "{}:", plain(key));
        block(out, value, indent + 2);
    }
}

/// Scalars stand on their line, and so do lists and mappings of a few short scalars.
fn is_inline(value: &Value) -> bool {
    let scalar = |value: &Value| !value.is_array() && !value.is_object();
    match value {
        Value::Array(items) => items.iter().all(scalar) && inline(value).chars().count() <= 80,
        Value::Object(entries) => {
            entries.is_empty()
                || (entries.values().all(scalar)
                    && entries.len() <= 4
                    && inline(value).chars().count() <= 60)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(inline).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(entries) => {
            let entries: Vec<String> = entries
                .iter()
                .map(|(k, v)| format!("{}: {}", plain(k), inline(v)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::String(text) => plain(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// A text without quotes where it cannot be taken for anything else; all others as JSON strings, which YAML reads.
fn plain(text: &str) -> String {
    let reserved = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"].contains(&text);
    if (is_name(text) && !reserved) || is_key(text) {
        return text.to_owned();
    }
    // YAML forbids C1 controls and these two in any scalar, quoted or not.
    let mut quoted = String::new();
    for c in Value::from(text).to_string().chars() {
        if matches!(
            c,
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
        ) {
            let _ = write!(quoted, "\\u{:04x}", u32::from(c));
        } else {
            quoted.push(c);
        }
    }
    quoted
}

fn is_key(text: &str) -> bool {
    text.contains('_') && is_name(&text.replace('_', "-"))
}
