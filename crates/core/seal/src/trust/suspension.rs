//! Suspensions: what the online signing key may add to a bundle between two versions.

use super::{Environment, FrozenAt, Payload};
use crate::merkle::Hash;
use crate::note::{NoteError, UnsignedNote, Vkey};
use jiff::Timestamp;

const HEADER: &str = "sealwarden suspension v1";
/// Of a single key. Programs that know only the first form refuse the whole bundle rather than passing over it.
const KEY_HEADER: &str = "sealwarden suspension v2";

/// No value is longer, in bytes: a verifier key of type ML-DSA-44 is the longest.
const MAX_VALUE: usize = 4096;

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
///
/// Of one key of the log its first line ends in `v2`, and behind `origin` stand `key: <verifier key>` and `end: <size> <root in hexadecimal>`: what no other key of the
/// log signed counts up to that checkpoint at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspension {
    /// The installation whose bundle it belongs to.
    pub installation: String,
    /// That bundle's environment.
    pub environment: Environment,
    /// The suspended log.
    pub origin: String,
    /// The one key of it that is; all of them where none is named.
    pub key: Option<RevokedKey>,
    /// The earliest possible compromise.
    pub from: Timestamp,
    /// The incident's id.
    pub incident: String,
    /// When it was signed.
    pub issued: Timestamp,
}

/// The key that a suspension takes out, while the log's other keys go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedKey {
    /// Its verifier key.
    pub vkey: Vkey,
    /// The last checkpoint that it may have signed as the log's.
    pub end: FrozenAt,
}

impl Suspension {
    /// The note's text.
    pub fn to_text(&self) -> String {
        let (header, key) = match &self.key {
            None => (HEADER, String::new()),
            Some(RevokedKey { vkey, end }) => (
                KEY_HEADER,
                format!("key: {vkey}\nend: {} {}\n", end.size, end.root),
            ),
        };
        format!(
            "{header}\ninstallation: {}\nenvironment: {}\norigin: {}\n{key}from: {}\nincident: {}\nissued: {}\n",
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
        let of_key = match lines.next() {
            Some(HEADER) => false,
            Some(KEY_HEADER) => true,
            Some(_) | None => {
                return Err(format!(
                    "its first line is neither {HEADER:?} nor {KEY_HEADER:?}"
                ));
            }
        };
        let mut field = |name: &str| {
            lines
                .next()
                .and_then(|line| line.strip_prefix(name)?.strip_prefix(": "))
                .filter(|value| !value.is_empty() && value.len() <= MAX_VALUE)
                .map(str::to_owned)
                .ok_or_else(|| format!("its line \"{name}: …\" is missing or too long"))
        };
        let suspension = Self {
            installation: field("installation")?,
            environment: Environment::parse(&field("environment")?)?,
            origin: field("origin")?,
            key: if of_key {
                Some(revoked_key(&field("key")?, &field("end")?)?)
            } else {
                None
            },
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
        let log = payload.logs.iter().find(|log| log.origin == self.origin);
        let log = log.ok_or_else(|| format!("the bundle has no log {}", self.origin))?;
        match &self.key {
            Some(key) if !log.vkeys.contains(&key.vkey) => Err(format!(
                "the bundle lists no key {} of {}",
                key.vkey.key_id(),
                self.origin
            )),
            Some(_) | None => Ok(()),
        }
    }
}

fn revoked_key(vkey: &str, end: &str) -> Result<RevokedKey, String> {
    let vkey = vkey.parse().map_err(|error| format!("{error}"))?;
    let (size, root) = end
        .split_once(' ')
        .ok_or_else(|| format!("{end:?} is not a size and a root"))?;
    let size = size
        .parse()
        .map_err(|error| format!("{size:?} is not a size ({error})"))?;
    let root = Hash::from_hex(root).map_err(|error| format!("{root:?} is not a root ({error})"))?;
    Ok(RevokedKey {
        vkey,
        end: FrozenAt { size, root },
    })
}

fn timestamp(text: &str) -> Result<Timestamp, String> {
    text.parse()
        .map_err(|error| format!("{text:?} is not an RFC 3339 time ({error})"))
}
