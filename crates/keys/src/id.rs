//! Names of keys.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The longest key id, in bytes.
const MAX_BYTES: usize = 64;

/// The name of a key within its provider: 1 to 64 bytes of `a-z`, `0-9`, `.` and `-`, beginning with a letter
/// or digit, so that it is a file name and a word on a command line everywhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(String);

/// A text that is no key id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a key id: use 1 to 64 of a-z, 0-9, '.' and '-', beginning with a letter or digit"
)]
pub struct InvalidKeyId(String);

impl KeyId {
    /// Checks `text` and makes a key id of it.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidKeyId> {
        let text = text.into();
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-');
        let begins_well = text
            .bytes()
            .next()
            .is_some_and(|byte| byte != b'.' && byte != b'-');
        if begins_well && text.len() <= MAX_BYTES && text.bytes().all(allowed) {
            Ok(Self(text))
        } else {
            Err(InvalidKeyId(text))
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for KeyId {
    type Err = InvalidKeyId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl TryFrom<String> for KeyId {
    type Error = InvalidKeyId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_outside_the_alphabet_are_refused() {
        for bad in [
            "",
            ".hidden",
            "-flag",
            "Upper",
            "a/b",
            "a b",
            "../up",
            "ü",
            &"a".repeat(65),
        ] {
            assert!(KeyId::new(bad).is_err(), "{bad:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn a_valid_id_survives_json(text in "[a-z0-9][a-z0-9.-]{0,63}") {
            let id = KeyId::new(text).unwrap();
            let json = serde_json::to_string(&id).unwrap();
            prop_assert_eq!(serde_json::from_str::<KeyId>(&json).unwrap(), id);
        }
    }
}
