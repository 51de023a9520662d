//! Where bundles are made and kept.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sealwarden_domain::approval::snapshot_subject;
use sealwarden_domain::run::RunState;
use sealwarden_engine::{ExecuteError, Node, SignError};
use sealwarden_keys::private_files::FileLock;
use sealwarden_seal::note::VkeyError;

use super::collect::{self, Sources};
use super::export::{self, is_given};
use super::folder::{private_dirs, sync_tree, write_new};
use super::heads::Keeper;
use super::manifest::{Manifest, is_name};
use super::seal::{EVIDENCE, EvidenceLog, Subject};
use super::verify::{Damage, Report, check_files, signed_manifest, verify_bundle};
use super::{MANIFEST, NOTE, SEAL, evidence_origin};
use crate::config::Config;
use crate::environment::rfc3339;
use crate::signer::Signer;

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EvidenceError {
    /// Files.
    #[error("the evidence store cannot be written or read: {0}")]
    Io(#[from] io::Error),
    /// The evidence log.
    #[error("the evidence log cannot be used: {0}")]
    Log(String),
    /// The signing key.
    #[error("the signing key did not sign: {0}")]
    Sign(#[from] SignError),
    /// An id that cannot name a folder.
    #[error("{0:?} cannot name a folder of evidence")]
    Name(String),
    /// A finished bundle that does not hold any more. It is never overwritten.
    #[error(
        "the bundle {bundle} is damaged: {damage}; keep it as it is, and have a person look at it"
    )]
    Damaged {
        /// The bundle.
        bundle: String,
        /// What does not hold.
        damage: Damage,
    },
    /// The event log.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
}

/// Which step a bundle is of: its place in the store follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The incident.
    pub(crate) incident: String,
    /// The run.
    pub(crate) run: String,
    /// The step.
    pub(crate) step: String,
    /// Its iteration.
    pub(crate) iteration: u32,
}

impl Place {
    fn name(&self) -> String {
        match self.iteration {
            0 => format!("{}-{}", self.run, self.step),
            iteration => format!("{}-{}-{iteration}", self.run, self.step),
        }
    }

    /// The bundle's folder below the data folder, as events name it.
    pub(crate) fn bundle(&self) -> String {
        format!("evidence/{}/{}", self.incident, self.name())
    }
}

/// A bundle that is complete and sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// The bundle's folder below the data folder.
    pub(crate) bundle: String,
    /// SHA-256 (hex) of its manifest.
    pub(crate) manifest_sha256: String,
    /// Its files.
    pub(crate) files: u64,
    /// The manifest's seal.
    pub(crate) seal: String,
}

/// The store.
pub(crate) struct EvidenceStore {
    node: Arc<Node>,
    dir: PathBuf,
    signer: Arc<Signer>,
    log: Arc<EvidenceLog>,
    heads: Keeper,
    http: reqwest::Client,
    life: Arc<FileLock>,
}

impl EvidenceStore {
    /// The store in its folder.
    pub(crate) fn new(
        node: &Arc<Node>,
        config: &Config,
        signer: Arc<Signer>,
        life: Arc<FileLock>,
    ) -> anyhow::Result<Self> {
        let vkey = signer
            .vkey_named(&evidence_origin(&node.base))
            .map_err(|error: VkeyError| anyhow::anyhow!(error))?;
        let log_dir = config
            .evidence_log_dir
            .clone()
            .unwrap_or_else(|| node.data.join("evidence-log"));
        let heads_dir = log_dir.join(heads_folder(&node.name));
        let log = EvidenceLog::new(log_dir, vkey, Arc::clone(&signer), Arc::clone(&life));
        let log = Arc::new(log);
        Ok(Self {
            node: Arc::clone(node),
            heads: Keeper::new(
                Arc::clone(node),
                Arc::clone(&log),
                heads_dir,
                Arc::clone(&life),
            ),
            dir: config
                .evidence_dir
                .clone()
                .unwrap_or_else(|| node.data.join("evidence")),
            log,
            signer,
            http: sealwarden_anchors::outside::plain_client()?,
            life,
        })
    }

    /// Keeps the event log's heads.
    pub(crate) fn heads(&self) -> &Keeper {
        &self.heads
    }

    /// The step's bundle, if it is there; every file of it is checked.
    pub(crate) async fn find(&self, place: &Place) -> Result<Option<Sealed>, EvidenceError> {
        let (finished, _) = self.folders(place)?;
        let (signing, log) = (self.signer.vkey().clone(), self.log.vkey().clone());
        let bundle = place.bundle();
        self.blocking(move || {
            if !finished.exists() {
                return Ok(None);
            }
            let report = verify_bundle(&finished, &signing, &log).map_err(|damage| {
                EvidenceError::Damaged {
                    bundle: bundle.clone(),
                    damage,
                }
            })?;
            Ok(Some(sealed(
                bundle,
                report,
                fs::read_to_string(finished.join(SEAL))?,
            )))
        })
        .await
    }

    /// Makes the step's bundle, or goes on where an attempt that died stopped. `state` is the run as it was when the step started.
    pub(crate) async fn snapshot(
        &self,
        place: &Place,
        state: &RunState,
        key: &str,
    ) -> Result<Sealed, EvidenceError> {
        if let Some(done) = self.find(place).await? {
            return Ok(done);
        }
        let (finished, partial) = self.folders(place)?;
        if !self.is_collected(&partial).await? {
            self.collect(place, state, partial.clone()).await?;
        }
        self.seal(place, &partial, key).await?;
        self.blocking(move || publish(&partial, &finished)).await?;
        self.find(place)
            .await?
            .ok_or_else(|| EvidenceError::Log("the bundle was written and is not there".to_owned()))
    }

    /// Keeps a file that a person hands in for a step, under its SHA-256: the path below the data folder, and the digest (hex). What is there already is not written again.
    pub(crate) async fn keep(
        &self,
        place: &Place,
        bytes: Vec<u8>,
    ) -> Result<(String, String), EvidenceError> {
        self.folders(place)?; // its names can name a folder
        let digest = hex::encode(ring::digest::digest(&ring::digest::SHA256, &bytes));
        let folder = place.name() + export::GIVEN;
        let dir = self.dir.join(&place.incident).join(&folder);
        let stored = format!("{}.given/{digest}", place.bundle());
        let (name, mine) = (digest.clone(), format!(".{digest}.{}", self.node.name));
        self.blocking(move || {
            private_dirs(&dir)?;
            let whole = fs::read(dir.join(&name)).is_ok_and(|there| there == bytes);
            if !whole {
                let partial = dir.join(mine);
                match fs::remove_file(&partial) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(error.into());
                    }
                    Ok(()) | Err(_) => {}
                }
                write_new(&partial, &bytes)?;
                fs::rename(&partial, dir.join(&name))?;
            }
            for folder in dir.ancestors().take(2) {
                fs::File::open(folder)?.sync_all()?;
            }
            Ok(())
        })
        .await?;
        Ok((stored, digest))
    }

    /// Where bundles lie.
    pub(crate) fn dir_of(&self, incident: &str) -> Result<PathBuf, EvidenceError> {
        if !is_name(incident) || incident.starts_with('.') {
            return Err(EvidenceError::Name(incident.to_owned()));
        }
        Ok(self.dir.join(incident))
    }

    /// What people handed in for an incident, by folder and SHA-256: the length of each file, checked whole.
    pub(crate) async fn given(
        &self,
        incident: &str,
    ) -> Result<BTreeMap<String, Result<u64, Damage>>, EvidenceError> {
        let dir = self.dir_of(incident)?;
        self.blocking(move || {
            if dir.exists() {
                return Ok(export::given_in(&dir)?);
            }
            Ok(BTreeMap::new())
        })
        .await
    }

    /// All finished bundles of an incident by their names, each checked whole.
    pub(crate) async fn bundles(
        &self,
        incident: &str,
    ) -> Result<BTreeMap<String, Result<Report, Damage>>, EvidenceError> {
        let dir = self.dir_of(incident)?;
        let (signing, log) = (self.signer.vkey().clone(), self.log.vkey().clone());
        self.blocking(move || {
            if !dir.exists() {
                return Ok(BTreeMap::new());
            }
            let names = export::folders(&dir)?;
            let finished = names
                .into_iter()
                .filter(|name| !name.starts_with('.') && !is_given(name));
            let checked = finished.map(|name| {
                let report = verify_bundle(&dir.join(&name), &signing, &log);
                (name, report)
            });
            Ok(checked.collect())
        })
        .await
    }

    fn folders(&self, place: &Place) -> Result<(PathBuf, PathBuf), EvidenceError> {
        for part in [&place.incident, &place.run, &place.step] {
            if !is_name(part) || part.starts_with('.') {
                return Err(EvidenceError::Name(part.clone()));
            }
        }
        let incident = self.dir.join(&place.incident);
        let name = place.name();
        Ok((
            incident.join(&name),
            // Each executor its own: one that was suspended writes into no other's.
            incident.join(format!(".{name}.{}.partial", self.node.name)),
        ))
    }

    /// Whether an earlier attempt collected everything: the signed manifest is the last file that collecting writes.
    async fn is_collected(&self, partial: &Path) -> Result<bool, EvidenceError> {
        let (partial, signing) = (partial.to_path_buf(), self.signer.vkey().clone());
        self.blocking(move || {
            let Ok(bytes) = fs::read(partial.join(MANIFEST)) else {
                return Ok(false);
            };
            let whole = signed_manifest(&partial, &bytes, &signing)
                .and_then(|manifest| check_files(&partial, &manifest));
            Ok(whole.is_ok())
        })
        .await
    }

    async fn collect(
        &self,
        place: &Place,
        state: &RunState,
        partial: PathBuf,
    ) -> Result<(), EvidenceError> {
        let collected = rfc3339(self.node.clock.now().wall_ms);
        // Before anything is read: every stream of the bundle passes through them.
        let heads = self.heads.keep_for_bundle().await;
        let from = Sources {
            node: &self.node,
            http: &self.http,
            heads,
        };
        let files = collect::everything(from, place, state, partial.clone()).await?;
        let manifest = Manifest {
            installation: self.node.installation.clone(),
            environment: self.node.environment.as_str().to_owned(),
            incident: place.incident.clone(),
            run: place.run.clone(),
            step: place.step.clone(),
            iteration: place.iteration,
            collected,
            collector: self.node.name.clone(),
            files,
        };
        let text = manifest.to_string();
        let note = self.signer.sign(&text).await?;
        self.blocking(move || {
            write_new(&partial.join(MANIFEST), text.as_bytes())?;
            write_new(&partial.join(NOTE), note.to_string().as_bytes())?;
            Ok(sync_tree(&partial)?)
        })
        .await
    }

    async fn seal(&self, place: &Place, partial: &Path, key: &str) -> Result<(), EvidenceError> {
        let manifest = partial.join(MANIFEST);
        let bytes = self.blocking(move || Ok(fs::read(manifest)?)).await?;
        let mut digest = [0; 32];
        digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, &bytes).as_ref());
        let subject = Subject {
            digest,
            policy: EVIDENCE,
            words: snapshot_subject(&place.incident, &place.run, &place.step),
            request_id: key.to_owned(),
            now_ms: self.node.clock.now().wall_ms,
        };
        let text = self.log.seal(subject).await?;
        let path = partial.join(SEAL);
        self.blocking(move || {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                Ok(()) | Err(_) => {}
            }
            Ok(write_new(&path, text.as_bytes())?)
        })
        .await
    }

    /// Works on a thread of its own, which may outlast the task that asked for it: no other life begins before it has ended.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, EvidenceError> + Send + 'static,
    ) -> Result<T, EvidenceError> {
        let life = Arc::clone(&self.life);
        let work = move || {
            let _life = life;
            work()
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| EvidenceError::Log(format!("the work was ended: {error}")))?
    }
}

/// Each executor keeps and compares heads of its own. The first one's folder has no name in it: it was there before there were others.
fn heads_folder(node: &str) -> String {
    if node == "runbook-executor-1" {
        "heads".to_owned()
    } else {
        format!("heads-{node}")
    }
}

fn sealed(bundle: String, report: Report, seal: String) -> Sealed {
    Sealed {
        bundle,
        manifest_sha256: report.manifest_sha256,
        files: report.files,
        seal,
    }
}

/// Gives the bundle its name, durably.
fn publish(partial: &Path, finished: &Path) -> Result<(), EvidenceError> {
    sync_tree(partial)?;
    if let Some(parent) = finished.parent() {
        private_dirs(parent)?;
        match fs::rename(partial, finished) {
            // Another executor was first; a bundle is never overwritten.
            Err(_) if finished.join(MANIFEST).exists() => fs::remove_dir_all(partial)?,
            renamed => renamed?,
        }
        fs::File::open(parent)?.sync_all()?;
    }
    Ok(())
}
