//! Names of archived objects.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest name, bytes.
const MAX_BYTES: usize = 512;
/// Longest part between slashes, bytes: what is appended must still be a file name.
const MAX_PART_BYTES: usize = 200;
/// Endings of what stands beside a document.
const ENDINGS: [&str; 2] = [".seal", ".seal.anchors"];

/// The name of an archived document: parts between slashes, which no store reads as anything else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectName(String);

/// A name that no object can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty or too long.
    #[error("an object's name has {0} bytes; use 1 to {MAX_BYTES}")]
    Length(usize),
    /// A part that is empty, too long, or means a folder.
    #[error(
        "the part {part:?} of the object's name {name:?} is not allowed; parts between slashes have 1 to {MAX_PART_BYTES} bytes, are not `.` or `..`, and do not begin with `@`"
    )]
    Part {
        /// The name.
        name: String,
        /// The part.
        part: String,
    },
    /// A character that a store could read as something else.
    #[error(
        "the object's name {name:?} holds {character:?}; control characters, `\\` and `#` are not allowed"
    )]
    Character {
        /// The name.
        name: String,
        /// The character.
        character: char,
    },
    /// The name of a seal.
    #[error(
        "the object's name {name:?} ends in {ending}; that is the place of another document's seal or anchors"
    )]
    Ending {
        /// The name.
        name: String,
        /// The ending.
        ending: &'static str,
    },
}

impl ObjectName {
    /// Checks a name.
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        let name = name.into();
        if name.is_empty() || name.len() > MAX_BYTES {
            return Err(NameError::Length(name.len()));
        }
        if let Some(character) = name
            .chars()
            .find(|c| c.is_control() || matches!(c, '\\' | '#'))
        {
            return Err(NameError::Character { name, character });
        }
        for part in name.split('/') {
            let bad = part.is_empty()
                || part.len() > MAX_PART_BYTES
                || part == "."
                || part == ".."
                || part.starts_with('@');
            if bad {
                let part = part.to_owned();
                return Err(NameError::Part { name, part });
            }
        }
        match ENDINGS.into_iter().find(|ending| name.ends_with(ending)) {
            Some(ending) => Err(NameError::Ending { name, ending }),
            None => Ok(Self(name)),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where the document lies.
    pub fn document(&self) -> String {
        format!("documents/{}", self.0)
    }

    /// Where its seal lies.
    pub fn seal(&self) -> String {
        format!("documents/{}.seal", self.0)
    }

    /// Where its marker lies while it is quarantined.
    pub fn marker(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, self.0.as_bytes());
        format!("quarantine/{}.json", hex::encode(digest))
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<ObjectName> for String {
    fn from(name: ObjectName) -> Self {
        name.0
    }
}

impl TryFrom<String> for ObjectName {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_archive_or_stand_for_something_else_are_refused() {
        for good in ["a", "a/b.pdf", "2026/Rechnung März.pdf", ".hidden", "a..b"] {
            assert_eq!(ObjectName::new(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "/a",
            "a/",
            "a//b",
            "..",
            "a/../b",
            "./a",
            "a\\b",
            "a\nb",
            "a\0",
            "@v/a",
            "a#1",
            "x.seal",
            "x.seal.anchors",
        ] {
            assert!(ObjectName::new(bad).is_err(), "{bad:?}");
        }
        assert!(ObjectName::new("x".repeat(201)).is_err());
        assert!(ObjectName::new(["x".repeat(199).as_str(); 3].join("/")).is_err());
    }
}
