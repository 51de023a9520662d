//! Names of streams: a category and an id, both narrow enough for every adapter and every shell.

use std::fmt;
use std::str::FromStr;

/// Longest category, in bytes.
const MAX_CATEGORY_BYTES: usize = 32;
/// Longest id, in bytes.
const MAX_ID_BYTES: usize = 128;

/// The name of a stream, written `category/id`, for instance `incident/2026-0007`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamName {
    category: String,
    id: String,
}

/// Why a text is not the name of a stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The category is empty, too long or has a character outside `a-z` and `-`.
    #[error("`{0}` is no stream category: use 1 to 32 of a-z and -")]
    Category(String),
    /// The id is empty, too long or has a character outside `A-Za-z0-9._-`.
    #[error("`{0}` is no stream id: use 1 to 128 of A-Z, a-z, 0-9, dot, underscore and hyphen")]
    Id(String),
    /// There is no `/` between category and id.
    #[error("`{0}` is no stream name: write category/id")]
    Separator(String),
}

impl StreamName {
    /// Names the stream `category/id`.
    pub fn new(category: impl Into<String>, id: impl Into<String>) -> Result<Self, NameError> {
        let (category, id) = (category.into(), id.into());
        check_category(&category)?;
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if id.is_empty() || id.len() > MAX_ID_BYTES || !id.bytes().all(letters) {
            return Err(NameError::Id(id));
        }
        Ok(Self { category, id })
    }

    /// What kind of thing the stream tells of.
    pub fn category(&self) -> &str {
        &self.category
    }

    /// Which one of its kind.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// Refuses a text that cannot be the category of a stream.
pub(crate) fn check_category(category: &str) -> Result<(), NameError> {
    let letters = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
    if category.is_empty() || category.len() > MAX_CATEGORY_BYTES || !category.bytes().all(letters)
    {
        return Err(NameError::Category(category.to_owned()));
    }
    Ok(())
}

impl fmt::Display for StreamName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.category, self.id)
    }
}

impl FromStr for StreamName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (category, id) = text
            .split_once('/')
            .ok_or_else(|| NameError::Separator(text.to_owned()))?;
        Self::new(category, id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_as_it_was_written() {
        let name = StreamName::new("log", "Main_1.x-2").unwrap();
        assert_eq!(name.to_string(), "log/Main_1.x-2");
        assert_eq!(name.to_string().parse::<StreamName>(), Ok(name));
    }

    #[test]
    fn names_outside_the_alphabet_are_refused() {
        for category in ["", "Log", "log1", "log.x", "a".repeat(33).as_str()] {
            assert!(matches!(
                StreamName::new(category, "x"),
                Err(NameError::Category(_))
            ));
        }
        for id in [
            "",
            "a b",
            "a/b",
            "a*",
            "a>",
            "a=b",
            "ä",
            "a".repeat(129).as_str(),
        ] {
            assert!(
                matches!(StreamName::new("log", id), Err(NameError::Id(_))),
                "{id}"
            );
        }
        assert!(matches!(
            "log".parse::<StreamName>(),
            Err(NameError::Separator(_))
        ));
    }
}
