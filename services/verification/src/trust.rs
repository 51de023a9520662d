//! The current trust bundle: what was published, with the suspensions added since, accepted by the rules of any client, and kept on disk.
//!
//! `trust/bundle.json` is the last accepted bundle and `trust/seen.json` what must not be taken back; with them verification goes on while the event log is away.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use sealwarden_engine::Node;
use sealwarden_keys::private_files::{self, PUBLIC_FILE};
use sealwarden_seal::note::Note;
use sealwarden_seal::trust::{
    MAX_BUNDLE_BYTES, Seen, Suspension, TrustBundle, TrustError, VerifiedBundle, accept,
};

const FOLDER: &str = "trust";
const MAX_SEEN_BYTES: u64 = 1 << 20;

/// A bundle that was accepted.
#[derive(Debug)]
pub(crate) struct Current {
    /// The bundle's file.
    pub(crate) file: Bytes,
    pub(crate) bundle: VerifiedBundle,
    seen: Seen,
}

impl Current {
    pub(crate) fn version(&self) -> u64 {
        self.bundle.payload().version
    }
}

/// What a bundle was made of, to notice that there is news.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sources {
    digest: String,
    suspensions: usize,
}

#[derive(Default)]
struct Held {
    current: Option<Arc<Current>>,
    sources: Option<Sources>,
}

/// The holder of the current bundle.
pub(crate) struct Trust {
    node: Arc<Node>,
    dir: PathBuf,
    held: RwLock<Held>,
}

/// Joins a published bundle file with suspensions that it does not know yet. One that does not verify is left out and named: it proves nothing.
pub(crate) fn assemble(
    published: &[u8],
    suspensions: &[String],
) -> Result<(TrustBundle, VerifiedBundle, Vec<String>), TrustError> {
    let mut file = TrustBundle::parse(published)?;
    let mut bundle = file.open(None)?;
    let mut left_out = Vec::new();
    for text in suspensions {
        if !adds(&bundle, text) {
            continue;
        }
        match with_suspension(&file, text) {
            Ok((extended, verified)) => (file, bundle) = (extended, verified),
            Err(reason) => left_out.push(reason),
        }
    }
    Ok((file, bundle, left_out))
}

/// Whether a suspension says more than the bundle: an earlier time, or the first one, and no payload that the roots signed after it says otherwise (that is how an
/// isolation is taken back). Of a single key it is never taken back. What cannot be read is tried, and refused by name.
fn adds(bundle: &VerifiedBundle, text: &str) -> bool {
    let parsed = Note::parse(text.as_bytes())
        .ok()
        .and_then(|note| Suspension::parse(note.text()).ok());
    let Some(suspension) = parsed else {
        return true;
    };
    let log = bundle.log(&suspension.origin);
    if suspension.key.is_some() {
        return !bundle.suspensions().contains(&suspension);
    }
    if suspension.issued < bundle.payload().issued {
        return false;
    }
    let known = log.and_then(|log| log.compromised_since);
    known.is_none_or(|since| suspension.from < since)
}

fn with_suspension(
    file: &TrustBundle,
    text: &str,
) -> Result<(TrustBundle, VerifiedBundle), String> {
    let note = Note::parse(text.as_bytes()).map_err(|error| error.to_string())?;
    let mut file = file.clone();
    file.add_suspension(&note)
        .map_err(|error| error.to_string())?;
    let bundle = file.open(None).map_err(|error| error.to_string())?;
    Ok((file, bundle))
}

impl Trust {
    /// Begins with what was kept.
    pub(crate) async fn open(node: Arc<Node>) -> anyhow::Result<Self> {
        let dir = node.data.join(FOLDER);
        let folder = dir.clone();
        let kept = tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(&folder)?;
            anyhow::Ok(read_kept(&folder))
        })
        .await??;
        let held = Held {
            current: kept.map(Arc::new),
            sources: None,
        };
        Ok(Self {
            node,
            dir,
            held: RwLock::new(held),
        })
    }

    /// The current bundle: the newest that the event log is known to hold, if it is acceptable.
    pub(crate) async fn current(&self) -> Option<Arc<Current>> {
        let sources = self.node.board.read(|installation| {
            let published = installation.trust.published.as_ref()?;
            let suspensions = installation.trust.suspensions.len();
            Some(Sources {
                digest: format!("{} {}", published.version, published.digest),
                suspensions,
            })
        });
        if let Some(sources) = sources
            && self.read(|held| held.sources.as_ref() != Some(&sources))
        {
            self.renew(sources).await;
        }
        self.read(|held| held.current.clone())
    }

    /// Keeps the bundle on disk up to date, until shutdown.
    pub(crate) async fn follow(self: Arc<Self>) -> anyhow::Result<()> {
        let mut changes = self.node.board.changes();
        loop {
            changes.mark_unchanged();
            let _newest = self.current().await;
            tokio::select! {
                () = self.node.shutdown.cancelled() => return Ok(()),
                changed = changes.changed() => changed?,
            }
        }
    }

    fn read<T>(&self, look: impl FnOnce(&Held) -> T) -> T {
        look(&self.held.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn renew(&self, sources: Sources) {
        let (published, suspensions) = self.node.board.read(|installation| {
            let trust = &installation.trust;
            let published = trust
                .published
                .as_ref()
                .map(|p| p.bundle.clone())
                .unwrap_or_default();
            let notes: Vec<String> = trust.suspensions.iter().map(|s| s.note.clone()).collect();
            (published, notes)
        });
        let seen = self.read(|held| held.current.as_ref().map(|current| current.seen.clone()));
        let accepted = self.accept(&published, &suspensions, seen.as_ref());
        let current = match accepted {
            Ok(current) => Arc::new(current),
            Err(error) => {
                tracing::error!(%error, version = %sources.digest, "a published trust bundle is not accepted; the last good one stays");
                let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
                held.sources = Some(sources);
                return;
            }
        };
        {
            let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
            // Two callers may renew at once; the one that saw more stays.
            let newer = held.current.as_ref().is_none_or(|old| {
                (old.version(), old.bundle.suspensions().len())
                    <= (current.version(), current.bundle.suspensions().len())
            });
            if newer {
                held.current = Some(Arc::clone(&current));
                held.sources = Some(sources);
            }
        }
        tracing::info!(version = current.version(), "trust bundle accepted");
        let dir = self.dir.clone();
        let kept = tokio::task::spawn_blocking(move || keep(&dir, &current)).await;
        if let Err(error) = kept.map_err(anyhow::Error::from).and_then(|kept| kept) {
            tracing::error!(%error, "the trust bundle could not be kept on disk");
        }
    }

    fn accept(
        &self,
        published: &[u8],
        suspensions: &[String],
        seen: Option<&Seen>,
    ) -> Result<Current, TrustError> {
        let (file, bundle, left_out) = assemble(published, suspensions)?;
        for reason in left_out {
            tracing::error!(%reason, "a suspension in the event log does not verify and is left out");
        }
        let payload = bundle.payload();
        let environment = payload.environment.as_str();
        let expected = (
            self.node.installation.as_str(),
            self.node.environment.as_str(),
        );
        if (payload.installation.as_str(), environment) != expected {
            return Err(TrustError::OtherInstallation {
                found: format!("{} ({environment})", payload.installation),
                expected: format!("{} ({})", expected.0, expected.1),
            });
        }
        let seen = accept(seen, &bundle)?;
        Ok(Current {
            file: file.to_bytes()?.into(),
            bundle,
            seen,
        })
    }
}

/// The bundle first: the memory of it must not be ahead.
fn keep(dir: &Path, current: &Current) -> anyhow::Result<()> {
    private_files::replace(&dir.join("bundle.json"), &current.file, PUBLIC_FILE)?;
    let seen = serde_json::to_vec_pretty(&current.seen)?;
    private_files::replace(&dir.join("seen.json"), &seen, PUBLIC_FILE)?;
    Ok(())
}

fn read_kept(dir: &Path) -> Option<Current> {
    let limit = u64::try_from(MAX_BUNDLE_BYTES).unwrap_or(u64::MAX);
    let file = match private_files::read_public(&dir.join("bundle.json"), limit) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return None,
        Err(error) => {
            tracing::error!(%error, "the kept trust bundle cannot be read");
            return None;
        }
    };
    let seen = private_files::read_public(&dir.join("seen.json"), MAX_SEEN_BYTES).ok();
    let seen: Option<Seen> = seen.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let opened = TrustBundle::parse(&file)
        .and_then(|bundle| bundle.open(None))
        .and_then(|bundle| {
            let seen = accept(seen.as_ref(), &bundle)?;
            Ok(Current {
                file: file.into(),
                bundle,
                seen,
            })
        });
    opened
        .inspect_err(|error| tracing::error!(%error, "the kept trust bundle is not accepted"))
        .ok()
}
