//! Which time-stamping authorities are asked, and how often.

use anyhow::{Context as _, ensure};
use sealwarden_anchors::client::Client;
use sealwarden_anchors::roots::Roots;
use sealwarden_anchors::timestamp::Policy;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// No file of certificates is larger, in bytes.
const MAX_PEM_BYTES: u64 = 256 * 1024;
/// More authorities are of no use.
const MAX_TSAS: usize = 16;

/// Anchors of the log's checkpoints. Every field has a default; without `tsas` nothing is anchored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Anchors {
    /// How often each authority is asked if the log has grown, seconds.
    pub interval_s: u64,
    /// How long an authority may take for one answer, connecting included, milliseconds.
    pub timeout_ms: u64,
    /// How far the time of an answer may be from this node's clock, seconds. What is further off is refused: one of both is wrong.
    pub max_skew_s: u64,
    /// The authorities.
    pub tsas: Vec<Tsa>,
}

/// One time-stamping authority (RFC 3161).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tsa {
    /// What people call it: 1 to 64 characters.
    pub name: String,
    /// `http://…` or `https://…`.
    pub url: String,
    /// PEM file with the authorities above its certificate that are trusted to name time-stamping authorities.
    pub roots: PathBuf,
    /// PEM file with the authorities above its HTTPS server; the system's if absent.
    #[serde(default)]
    pub tls_roots: Option<PathBuf>,
    /// The policy that is asked for, as an object identifier; any if absent.
    #[serde(default)]
    pub policy: Option<String>,
    /// The authority of these settings that this one stands in for: it is asked only while a run has set that one aside.
    #[serde(default)]
    pub stands_in_for: Option<String>,
}

impl Default for Anchors {
    fn default() -> Self {
        Self {
            interval_s: 3_600,
            timeout_ms: 15_000,
            max_skew_s: 300,
            tsas: Vec::new(),
        }
    }
}

impl Anchors {
    /// Refuses settings that cannot work.
    pub fn validate(&self) -> anyhow::Result<()> {
        ensure!(
            (1..=2_592_000).contains(&self.interval_s),
            "anchors.interval_s {} is not from 1 to 2592000",
            self.interval_s
        );
        ensure!(
            (100..=120_000).contains(&self.timeout_ms),
            "anchors.timeout_ms {} is not from 100 to 120000",
            self.timeout_ms
        );
        ensure!(
            (1..=86_400).contains(&self.max_skew_s),
            "anchors.max_skew_s {} is not from 1 to 86400",
            self.max_skew_s
        );
        ensure!(
            self.tsas.len() <= MAX_TSAS,
            "anchors.tsas has {} authorities; name at most {MAX_TSAS}",
            self.tsas.len()
        );
        let mut names = BTreeSet::new();
        for tsa in &self.tsas {
            let printable = !tsa.name.chars().any(char::is_control);
            ensure!(
                printable && (1..=64).contains(&tsa.name.chars().count()),
                "anchors.tsas: {:?} is not a name; use 1 to 64 characters",
                tsa.name
            );
            ensure!(
                names.insert(&tsa.name),
                "anchors.tsas names {:?} twice",
                tsa.name
            );
            ensure!(
                tsa.url.starts_with("http://") || tsa.url.starts_with("https://"),
                "anchors.tsas: the url {:?} of {} does not begin with http:// or https://",
                tsa.url,
                tsa.name
            );
            let policy = tsa.policy.as_deref();
            ensure!(
                policy.is_none_or(|policy| Policy::parse(policy).is_some()),
                "anchors.tsas: the policy {:?} of {} is not an object identifier such as 1.3.6.1.4.1.32473.1.1",
                policy.unwrap_or_default(),
                tsa.name
            );
        }
        for tsa in &self.tsas {
            let Some(other) = &tsa.stands_in_for else {
                continue;
            };
            ensure!(
                *other != tsa.name && names.contains(other),
                "anchors.tsas: {} stands in for {other:?}, which is no other authority of these settings",
                tsa.name
            );
        }
        Ok(())
    }

    /// Every path that the section holds.
    pub fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        self.tsas
            .iter_mut()
            .flat_map(|tsa| std::iter::once(&mut tsa.roots).chain(tsa.tls_roots.as_mut()))
    }

    pub(crate) fn interval(&self) -> Duration {
        Duration::from_secs(self.interval_s)
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    pub(crate) fn max_skew_ms(&self) -> i64 {
        i64::try_from(self.max_skew_s)
            .unwrap_or(i64::MAX)
            .saturating_mul(1000)
    }
}

impl Tsa {
    /// Reads its roots, which every answer is verified against.
    pub(crate) fn read_roots(&self) -> anyhow::Result<Roots> {
        let pem = read_pem(&self.roots)
            .with_context(|| format!("the roots of the time-stamping authority {}", self.name))?;
        Roots::from_pem(&pem).with_context(|| format!("{}", self.roots.display()))
    }

    pub(crate) fn client(&self, timeout: Duration) -> anyhow::Result<Client> {
        let tls_roots = self.tls_roots.as_deref().map(read_pem).transpose()?;
        let client = Client::new(&self.url, timeout, tls_roots.as_deref())
            .with_context(|| format!("the time-stamping authority {}", self.name))?;
        Ok(match self.policy.as_deref().and_then(Policy::parse) {
            Some(policy) => client.with_policy(policy),
            None => client,
        })
    }
}

fn read_pem(path: &Path) -> anyhow::Result<Vec<u8>> {
    let size = fs::metadata(path)
        .with_context(|| format!("reading {}", path.display()))?
        .len();
    ensure!(
        size <= MAX_PEM_BYTES,
        "{} has {size} bytes; a file of certificates has at most {MAX_PEM_BYTES}",
        path.display()
    );
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}
