//! A step's inputs with all references resolved: exactly what an approval approves.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::digest::{hex, sha256};
use crate::runbook::Step;
use crate::template::Reference;

/// The longest resolved input, in bytes.
pub const MAX_INPUT_BYTES: usize = 64 * 1024;

/// The inputs of one step of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedInputs(BTreeMap<String, String>);

/// Inputs that cannot be resolved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// A value is not known yet.
    #[error("input `{input}` waits for ${{{reference}}}")]
    Waiting {
        /// The input.
        input: String,
        /// What is missing.
        reference: Reference,
    },
    /// A value is known and is not of the input's type.
    #[error("input `{input}` takes a {expected} and got `{value}`")]
    WrongType {
        /// The input.
        input: String,
        /// The type it takes.
        expected: &'static str,
        /// What it got.
        value: String,
    },
    /// A value is longer than [`MAX_INPUT_BYTES`].
    #[error("input `{input}` has {bytes} bytes; at most {MAX_INPUT_BYTES} are taken")]
    TooLong {
        /// The input.
        input: String,
        /// How long it is.
        bytes: usize,
    },
}

impl ResolvedInputs {
    /// The value of an input.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// All of them, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// What the digest covers: `sealwarden-inputs/v1`, then a line `<name> <JSON string>` for each input,
    /// sorted by name; every line ends in `\n`.
    pub fn canonical_text(&self) -> String {
        let mut text = String::from("sealwarden-inputs/v1\n");
        for (name, value) in &self.0 {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name} {}", serde_json::Value::from(value.as_str()));
        }
        text
    }

    /// SHA-256 of [`Self::canonical_text`].
    pub fn digest(&self) -> [u8; 32] {
        sha256(self.canonical_text().as_bytes())
    }

    /// The digest in hexadecimal.
    pub fn digest_hex(&self) -> String {
        hex(&self.digest())
    }
}

/// Inputs that were resolved and recorded before.
impl From<BTreeMap<String, String>> for ResolvedInputs {
    fn from(inputs: BTreeMap<String, String>) -> Self {
        Self(inputs)
    }
}

impl Step {
    /// Resolves the step's inputs. `lookup` says what a reference stands for, or that it is not known yet.
    pub fn resolve(
        &self,
        lookup: &dyn Fn(&Reference) -> Option<String>,
    ) -> Result<ResolvedInputs, Unresolved> {
        let mut resolved = BTreeMap::new();
        for (name, template) in &self.inputs {
            let input = || name.clone();
            let value = template
                .render(lookup)
                .map_err(|reference| Unresolved::Waiting {
                    input: input(),
                    reference,
                })?;
            if value.len() > MAX_INPUT_BYTES {
                return Err(Unresolved::TooLong {
                    input: input(),
                    bytes: value.len(),
                });
            }
            if let Some(field) = self.action.spec().input(name)
                && !field.kind.accepts(&value)
            {
                let expected = field.kind.as_str();
                return Err(Unresolved::WrongType {
                    input: input(),
                    expected,
                    value,
                });
            }
            resolved.insert(name.clone(), value);
        }
        Ok(ResolvedInputs(resolved))
    }
}
