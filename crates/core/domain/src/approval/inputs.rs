//! The canonical text of a step's resolved inputs: `action: <name>`, then one `name: value` line an input, sorted by name.
//!
//! Its SHA-256 is what approvals bind, and nodes compute it again from the text that a directive carries.

use std::collections::BTreeMap;
use std::fmt;

use ring::digest::{SHA256, digest};

/// The longest canonical text, in bytes.
pub const MAX_INPUTS_BYTES: usize = 64 * 1024;

/// The resolved inputs of one step. `Display` gives the canonical text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    action: String,
    values: BTreeMap<String, String>,
}

/// Inputs that have no canonical text, or a text that is not canonical.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputsError {
    /// A value that would break the line structure.
    #[error(
        "input {name} has a line break or control character in its value {value:?}; inputs are single-line"
    )]
    NotOneLine {
        /// The input.
        name: String,
        /// Its value.
        value: String,
    },
    /// A name that cannot stand in a line.
    #[error("input name {name:?} is not a word of lower-case letters, digits, '-', '_' and '.'")]
    BadName {
        /// The name.
        name: String,
    },
    /// The text is too long.
    #[error(
        "the inputs have {bytes} bytes; at most {MAX_INPUTS_BYTES} are allowed: pass a reference instead of the content"
    )]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A line is not as the canonical text has it.
    #[error("line {line} of the inputs: {problem}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
}

impl Inputs {
    /// Inputs of `action`; refused if a value is not a single line.
    pub fn new(action: &str, values: BTreeMap<String, String>) -> Result<Self, InputsError> {
        check_name(action)?;
        for (name, value) in &values {
            check_name(name)?;
            if name == "action" {
                return Err(InputsError::BadName { name: name.clone() });
            }
            check_value(name, value)?;
        }
        let inputs = Self {
            action: action.to_owned(),
            values,
        };
        let bytes = inputs.to_string().len();
        if bytes > MAX_INPUTS_BYTES {
            return Err(InputsError::TooLong { bytes });
        }
        Ok(inputs)
    }

    /// Reads a canonical text back; refused unless writing it again gives the same bytes.
    pub fn parse(text: &str) -> Result<Self, InputsError> {
        if text.len() > MAX_INPUTS_BYTES {
            return Err(InputsError::TooLong { bytes: text.len() });
        }
        let problem = |line: usize, problem: &str| InputsError::Line {
            line,
            problem: problem.to_owned(),
        };
        let body = text
            .strip_suffix('\n')
            .ok_or_else(|| problem(text.lines().count().max(1), "no line feed at its end"))?;
        let mut lines = body.split('\n').enumerate();
        let action = lines
            .next()
            .and_then(|(_, line)| line.strip_prefix("action: "))
            .ok_or_else(|| problem(1, "expected \"action: <name>\""))?;
        let mut values: BTreeMap<String, String> = BTreeMap::new();
        for (index, line) in lines {
            let (name, value) = line
                .split_once(": ")
                .ok_or_else(|| problem(index + 1, "expected \"name: value\""))?;
            if values
                .last_key_value()
                .is_some_and(|(last, _)| last.as_str() >= name)
            {
                return Err(problem(index + 1, "names must be sorted and stand once"));
            }
            values.insert(name.to_owned(), value.to_owned());
        }
        Self::new(action, values)
    }

    /// The action's name.
    pub fn action(&self) -> &str {
        &self.action
    }

    /// The value of an input.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// All inputs by name.
    pub fn values(&self) -> &BTreeMap<String, String> {
        &self.values
    }

    /// SHA-256 (64 hex digits) of the canonical text.
    pub fn digest(&self) -> String {
        sha256_hex(self.to_string().as_bytes())
    }
}

impl fmt::Display for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "action: {}", self.action)?;
        for (name, value) in &self.values {
            writeln!(f, "{name}: {value}")?;
        }
        Ok(())
    }
}

fn check_name(name: &str) -> Result<(), InputsError> {
    let fits = (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'));
    if fits {
        Ok(())
    } else {
        Err(InputsError::BadName {
            name: name.to_owned(),
        })
    }
}

fn check_value(name: &str, value: &str) -> Result<(), InputsError> {
    if value.chars().any(is_line_breaking) {
        return Err(InputsError::NotOneLine {
            name: name.to_owned(),
            value: value.to_owned(),
        });
    }
    Ok(())
}

/// Characters that would let a value look like more lines than it is.
pub fn is_line_breaking(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// SHA-256 as 64 lower-case hex digits.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}
