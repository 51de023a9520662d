//! Suspensions: what the online signing key may add to a bundle between two versions.

use super::{Environment, Payload};
use crate::note::{NoteError, UnsignedNote};
use jiff::Timestamp;

const HEADER: &str = "sealwarden suspension v1";

/// "Do not trust what this log signed from then on": the text of a note signed by the bundle's signing key.
///
/// ```text
/// sealwarden suspension v1
/// installation: <name>
/// environment: production
/// origin: <log>
/// from: <RFC 3339>
/// incident: <id>
/// issued: <RFC 3339>
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspension {
    /// The installation whose bundle it belongs to.
    pub installation: String,
    /// That bundle's environment.
    pub environment: Environment,
    /// The suspended log.
    pub origin: String,
    /// The earliest possible compromise.
    pub from: Timestamp,
    /// The incident's id.
    pub incident: String,
    /// When it was signed.
    pub issued: Timestamp,
}

impl Suspension {
    /// The note's text.
    pub fn to_text(&self) -> String {
        format!(
            "{HEADER}\ninstallation: {}\nenvironment: {}\norigin: {}\nfrom: {}\nincident: {}\nissued: {}\n",
            self.installation,
            self.environment.as_str(),
            self.origin,
            self.from,
            self.incident,
            self.issued
        )
    }

    /// The note to sign with the bundle's signing key.
    pub fn to_note(&self) -> Result<UnsignedNote, NoteError> {
        UnsignedNote::new(self.to_text())
    }

    /// Reads exactly what [`Suspension::to_text`] writes; the error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        if lines.next() != Some(HEADER) {
            return Err(format!("its first line is not {HEADER:?}"));
        }
        let mut field = |name: &str| {
            lines
                .next()
                .and_then(|line| line.strip_prefix(name)?.strip_prefix(": "))
                .filter(|value| !value.is_empty() && value.len() <= 255)
                .map(str::to_owned)
                .ok_or_else(|| format!("its line \"{name}: …\" is missing or too long"))
        };
        let suspension = Self {
            installation: field("installation")?,
            environment: Environment::parse(&field("environment")?)?,
            origin: field("origin")?,
            from: timestamp(&field("from")?)?,
            incident: field("incident")?,
            issued: timestamp(&field("issued")?)?,
        };
        if suspension.to_text() != text {
            return Err("it is not in its canonical spelling".to_owned());
        }
        Ok(suspension)
    }

    pub(super) fn check_against(&self, payload: &Payload) -> Result<(), String> {
        if self.installation != payload.installation || self.environment != payload.environment {
            return Err(format!(
                "it is for {} ({})",
                self.installation,
                self.environment.as_str()
            ));
        }
        if !payload.logs.iter().any(|log| log.origin == self.origin) {
            return Err(format!("the bundle has no log {}", self.origin));
        }
        Ok(())
    }
}

fn timestamp(text: &str) -> Result<Timestamp, String> {
    text.parse()
        .map_err(|error| format!("{text:?} is not an RFC 3339 time ({error})"))
}
