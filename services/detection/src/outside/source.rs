//! Who may report over HTTP: a token and a rate each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use ring::digest::{SHA256, digest};
use sealwarden_keys::private_files::read_private;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The most sources of an installation.
const MAX_SOURCES: usize = 64;
/// Bounds of a token, in bytes.
const TOKEN: std::ops::RangeInclusive<usize> = 16..=4096;

/// An outside source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutsideSource {
    /// A file with the bearer token that it sends, 16 to 4096 bytes; read when the service starts. Nobody else may be able to read it.
    pub token_file: PathBuf,
    /// The class of what no rule of the plan (`outside` in `detectors.yaml`) knows better.
    pub class: String,
    /// Requests a minute, 1 to 60000; more are answered with 429.
    #[serde(default = "per_minute")]
    pub requests_per_minute: u32,
}

fn per_minute() -> u32 {
    600
}

/// A source that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSource {
    /// Too many.
    #[error("detection.outside has {0} sources; use at most {MAX_SOURCES}")]
    TooMany(usize),
    /// A name that is none.
    #[error(
        "detection.outside: {0:?} cannot be a source's name; use small letters, digits and `-`, a letter first"
    )]
    Name(String),
    /// The rate is out of bounds.
    #[error("detection.outside.{0}.requests_per_minute is {1}; use 1 to 60000")]
    Rate(String, u32),
    /// The token cannot be read.
    #[error("detection.outside.{name}.token_file {path}: {reason}")]
    Token {
        /// Source.
        name: String,
        /// File.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Two sources have one token, so nobody could tell them apart.
    #[error("detection.outside.{0} and .{1} have the same token; give each its own")]
    SameToken(String, String),
}

/// Checks what can be checked without reading files.
pub(crate) fn validate(sources: &BTreeMap<String, OutsideSource>) -> Result<(), BadSource> {
    if sources.len() > MAX_SOURCES {
        return Err(BadSource::TooMany(sources.len()));
    }
    for (name, source) in sources {
        if !sealwarden_runbook::is_name(name) {
            return Err(BadSource::Name(name.clone()));
        }
        if !(1..=60_000).contains(&source.requests_per_minute) {
            return Err(BadSource::Rate(name.clone(), source.requests_per_minute));
        }
    }
    Ok(())
}

/// A source that may report.
pub(crate) struct Known {
    pub(crate) name: String,
    pub(crate) class: String,
    /// SHA-256 of its token.
    token: [u8; 32],
    rate: f64,
    bucket: Mutex<(f64, Instant)>,
}

/// All sources.
pub(crate) struct Sources(Vec<Known>);

impl Sources {
    /// Reads the tokens.
    pub(crate) async fn open(sources: &BTreeMap<String, OutsideSource>) -> Result<Self, BadSource> {
        let mut known: Vec<Known> = Vec::new();
        for (name, source) in sources {
            let bad = |reason: String| BadSource::Token {
                name: name.clone(),
                path: source.token_file.display().to_string(),
                reason,
            };
            let token = read_token(&source.token_file).await.map_err(bad)?;
            if let Some(other) = known.iter().find(|it| it.token == token) {
                return Err(BadSource::SameToken(other.name.clone(), name.clone()));
            }
            let per_minute = f64::from(source.requests_per_minute);
            known.push(Known {
                name: name.clone(),
                class: source.class.clone(),
                token,
                rate: per_minute / 60.0,
                // A sixth of a minute's requests may come at once.
                bucket: Mutex::new(((per_minute / 6.0).max(1.0), Instant::now())),
            });
        }
        Ok(Self(known))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The classes that they name.
    pub(crate) fn classes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|it| (it.name.as_str(), it.class.as_str()))
    }

    /// The source of this name.
    pub(crate) fn named(&self, name: &str) -> Option<&Known> {
        self.0.iter().find(|it| it.name == name)
    }

    /// The source with this token. Hashes are compared, so that time tells nothing of a token.
    pub(crate) fn with_token(&self, token: &[u8]) -> Option<&Known> {
        let token = sha256(token);
        self.0.iter().find(|it| it.token == token)
    }
}

impl Known {
    /// Takes a request's place, if there is one.
    pub(crate) fn admit(&self, now: Instant) -> bool {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let most = (self.rate * 10.0).max(1.0);
        let (left, at) = *bucket;
        let left = (left + now.duration_since(at).as_secs_f64() * self.rate).min(most);
        let admitted = left >= 1.0;
        *bucket = (if admitted { left - 1.0 } else { left }, now);
        admitted
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

async fn read_token(path: &Path) -> Result<[u8; 32], String> {
    let path = path.to_path_buf();
    let most = u64::try_from(*TOKEN.end()).unwrap_or(u64::MAX);
    let read = tokio::task::spawn_blocking(move || read_private(&path, most)).await;
    let read = read.map_err(|e| e.to_string())?;
    let text = Zeroizing::new(read.map_err(|e| e.to_string())?);
    let token = text.trim_ascii();
    if !TOKEN.contains(&token.len()) || !token.iter().all(u8::is_ascii_graphic) {
        return Err(format!(
            "it holds {} bytes; write 16 to 4096 printable characters",
            token.len()
        ));
    }
    Ok(sha256(token))
}
