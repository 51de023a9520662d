//! Publishing bundles.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sealwarden_anchors::outside::plain_client;
use sealwarden_domain::fold::event;
use sealwarden_domain::installation::Installation;
use sealwarden_domain::{Rejection, RejectionCode};
use sealwarden_engine::{ExecuteError, Node, Role, SignError};
use sealwarden_seal::note::{Vkey, VkeyError};
use sealwarden_seal::trust::{Payload, TrustBundle, TrustError};
use sealwarden_wire::event::v1::{Event, TrustPublished, event::Kind};
use tokio::sync::Mutex;

use super::certificates;
use super::cut;
use super::facts::TrustFacts;
use super::outside::{CountsOnce, Outside};
use super::payload::{self, Terms};
use super::root_key::{RootKey, RootKeyError};
use super::witnesses::{self, Unlisted};
use crate::config::Config;
use crate::environment::of_trust;
use crate::executor::Executor;
use crate::signer::Signer;

/// How long to wait after a failed try.
const RETRY: Duration = Duration::from_millis(250);
/// How soon a witness is asked again that did not tell its keys.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// How often the bundle's expiry and the own witnesses' keys are looked at.
const REVIEW: Duration = Duration::from_hours(1);

/// Why nothing was published or suspended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// No local root.
    #[error("no root key is configured here: sign the bundle offline, or set `root_key`")]
    NoRoot,
    /// No witness is known.
    #[error("no witness has told its key yet; start a verification service")]
    NoWitness,
    /// The policy means another witness than there is.
    #[error(transparent)]
    Policy(#[from] CountsOnce),
    /// The root key.
    #[error(transparent)]
    Root(#[from] RootKeyError),
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] TrustError),
    /// A log's key.
    #[error("a log's verifier key in the event log cannot be read: {0}")]
    Vkey(#[from] VkeyError),
    /// The signing key.
    #[error("the signing key did not sign: {0}")]
    Sign(#[from] SignError),
    /// A time outside the calendar.
    #[error("a time is outside the calendar: {0}")]
    Time(#[from] jiff::Error),
    /// The event log.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
}

/// Publishes trust.
pub(crate) struct Authority {
    pub(super) node: Arc<Node>,
    pub(super) signer: Arc<Signer>,
    root: Option<RootKey>,
    http: reqwest::Client,
    outside: Outside,
    valid: SignedDuration,
    clock_skew_s: u64,
    /// One version at a time.
    publishing: Mutex<()>,
}

impl Authority {
    /// An authority with a local root, or without one.
    pub(crate) fn new(
        node: Arc<Node>,
        config: &Config,
        signer: Arc<Signer>,
        root: Option<RootKey>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            outside: Outside::read(config)?,
            node,
            signer,
            root,
            http: plain_client()?,
            valid: SignedDuration::from_hours(i64::from(config.trust_valid_days) * 24),
            clock_skew_s: config.clock_skew_s,
            publishing: Mutex::new(()),
        })
    }

    /// The trust stream, folded.
    pub(crate) async fn facts(&self) -> Result<TrustFacts, ExecuteError> {
        Ok(self
            .node
            .stream::<TrustFacts>("trust", &self.node.installation)
            .await?
            .state()
            .clone())
    }

    /// Publishes the next version for a reason; a reason that was served before is answered with its version.
    pub(crate) async fn publish(
        &self,
        reason: &str,
        correlation: &str,
    ) -> Result<TrustPublished, PublishError> {
        let _one = self.publishing.lock().await;
        let mut stream = self
            .node
            .stream::<TrustFacts>("trust", &self.node.installation)
            .await?;
        if let Some(done) = stream.state().published_for(reason) {
            return Ok(done.clone());
        }
        let root = self.root.as_ref().ok_or(PublishError::NoRoot)?;
        // What the log says up to here is in the bundle: a rotation that this step waited for, above all.
        self.node
            .board
            .reached(self.node.log.last_position().await.map_err(unavailable)?)
            .await;
        let before = stream
            .state()
            .published
            .last()
            .map(|last| TrustBundle::parse(&last.bundle))
            .transpose()?;
        let witnesses = witnesses::current(&self.node, &self.http, before.as_ref()).await;
        if witnesses.is_empty() {
            return Err(PublishError::NoWitness);
        }
        let witnesses = self.outside.witnesses(witnesses);
        let quorum = self.outside.quorum(&witnesses)?;
        let cuts = cut::of_all(&self.node, &self.outside, &witnesses, self.clock_skew_s).await;
        let issued = Timestamp::from_millisecond(self.node.clock.now().wall_ms)?;
        let roots = root.roots()?;
        let meta = self.node.meta().correlated(correlation);
        let mut failed: Option<PublishError> = None;
        let executed = stream
            .execute(meta, |facts| {
                if facts.published_for(reason).is_some() {
                    return Ok(Vec::new());
                }
                let terms = Terms {
                    installation: &self.node.installation,
                    environment: of_trust(&self.node),
                    previous: facts.previous(),
                    issued,
                    expires: issued.saturating_add(self.valid).unwrap_or(Timestamp::MAX),
                    roots: roots.clone(),
                    signing_key: self.signer.vkey().clone(),
                    quorum: quorum.clone(),
                    witnesses: witnesses.clone(),
                    tsas: self.outside.tsas.clone(),
                    cuts: cuts.clone(),
                    clock_skew_s: self.clock_skew_s,
                };
                let built = self
                    .node
                    .board
                    .read(|installation| build(installation, terms, root, reason));
                built.map(|event| vec![event]).map_err(|error| {
                    let rejection = Rejection::new(RejectionCode::NotNow, error.to_string());
                    failed = Some(error);
                    rejection
                })
            })
            .await;
        let executed = match (executed, failed) {
            (_, Some(error)) => return Err(error),
            (executed, None) => executed?,
        };
        self.node.board.reached(executed.position).await;
        let published = stream.state().published_for(reason).cloned();
        published.ok_or_else(|| {
            PublishError::Execute(ExecuteError::Unknown(
                "the bundle is not in the stream".to_owned(),
            ))
        })
    }

    /// Keys that own witnesses have beside those that the published bundle lists.
    async fn unlisted_witness_keys(&self) -> Unlisted {
        let payload = self.node.board.read(|installation| {
            let published = installation.trust.published.as_ref()?;
            payload_of(&published.bundle)
        });
        match payload {
            Some(payload) => witnesses::unlisted(&self.node, &self.http, &payload).await,
            None => Unlisted::None,
        }
    }

    /// Publishes a bundle if what the last one says of seal certificates is not what was recorded.
    pub(crate) async fn publish_certificates(&self) -> Result<(), PublishError> {
        let due = self.node.board.read(|installation| {
            let published = installation.trust.published.as_ref()?;
            certificates::due(installation, &payload_of(&published.bundle)?)
        });
        match due {
            Some(reason) => self.publish(&reason, "").await.map(drop),
            None => Ok(()),
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn unavailable(error: sealwarden_eventlog::ReadError) -> ExecuteError {
    ExecuteError::Unavailable(error.to_string())
}

fn build(
    installation: &Installation,
    terms: Terms<'_>,
    root: &RootKey,
    reason: &str,
) -> Result<Event, PublishError> {
    let payload = payload::next(installation, terms)?;
    let mut bundle = TrustBundle::new(&payload)?;
    let signature = root.sign(payload.environment.trust_namespace(), bundle.payload_text())?;
    bundle.add_signature(&signature)?;
    // Whatever verifiers would refuse is refused here.
    bundle.open(None)?;
    Ok(event(Kind::TrustPublished(TrustPublished {
        version: payload.version,
        digest: hex::encode(bundle.payload_digest().0),
        bundle: bundle.to_bytes()?.into(),
        reason: reason.to_owned(),
    })))
}

pub(super) fn payload_of(bundle: &[u8]) -> Option<Payload> {
    Payload::parse(TrustBundle::parse(bundle).ok()?.payload_text()).ok()
}

/// Publishes the first bundle as soon as an origin and a witness are known, lists first origins of further logs, and renews a bundle before it expires.
pub(crate) async fn run(executor: Arc<Executor>) -> anyhow::Result<()> {
    let node = &executor.node;
    if executor.trust.root.is_none() {
        tracing::warn!("no root key is configured: this role publishes no trust bundles by itself");
        node.shutdown.cancelled().await;
        return Ok(());
    }
    let mut changes = node.board.changes();
    let mut are_listed = false;
    let mut said = String::new();
    loop {
        let now = Timestamp::from_millisecond(node.clock.now().wall_ms)?;
        let valid = executor.trust.valid;
        let (seen, due) = node.board.read(|installation| {
            (
                circumstances(installation),
                due(installation, now, valid, &executor.trust.outside),
            )
        });
        let mut pause = REVIEW;
        let due = match due {
            None if !are_listed => {
                let unlisted = tokio::select! {
                    () = node.shutdown.cancelled() => return Ok(()),
                    unlisted = executor.trust.unlisted_witness_keys() => unlisted,
                };
                match unlisted {
                    Unlisted::None => are_listed = true,
                    Unlisted::Unknown => pause = ASK_AGAIN,
                    Unlisted::Keys(_) => {}
                }
                unlisted.reason()
            }
            due => due,
        };
        if let Some(reason) = due {
            let publishing = executor.trust.publish(&reason, "");
            let published = tokio::select! {
                () = node.shutdown.cancelled() => return Ok(()),
                published = publishing => published,
            };
            match published {
                Ok(published) => tracing::info!(
                    version = published.version,
                    reason,
                    "a trust bundle is published"
                ),
                Err(error @ PublishError::Policy(_)) => {
                    let error = error.to_string();
                    if error != said {
                        tracing::error!(error, "no trust bundle is published until this is mended");
                    }
                    said = error;
                    pause = RETRY;
                }
                Err(error) => {
                    tracing::debug!(%error, "a trust bundle is due and cannot be published yet");
                    pause = RETRY;
                }
            }
        }
        let changed = async {
            // Most commits change none of it, and a bundle is not read for each of them.
            while node.board.read(circumstances) == seen {
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            () = node.shutdown.cancelled() => return Ok(()),
            // A witness that was started again may have another key.
            () = tokio::time::sleep(pause) => are_listed = false,
            () = changed => {}
        }
    }
}

/// What decides whether a bundle is due, besides the time: logs and their keys, verification nodes, published version, seal certificates.
fn circumstances(installation: &Installation) -> (usize, usize, usize, u64, u64) {
    let witnesses = installation
        .nodes
        .values()
        .filter(|node| is_witness(node))
        .count();
    let origins = installation.logs.values().flat_map(|log| &log.origins);
    (
        installation.logs.len(),
        origins.map(|origin| origin.signers.len()).sum(),
        witnesses,
        installation
            .trust
            .published
            .as_ref()
            .map_or(0, |published| published.version),
        installation.trust.certificates.changes(),
    )
}

fn is_witness(node: &sealwarden_domain::installation::Node) -> bool {
    node.announced
        .as_ref()
        .is_some_and(|announced| announced.role == Role::Verification.as_str())
}

/// A key of a listed origin that the bundle does not list: nobody signs with it before a bundle does. (An origin that is not listed at all waits for the step that
/// publishes it.)
fn unlisted_keys(installation: &Installation, payload: &Payload) -> Option<String> {
    let origins = installation.logs.values().flat_map(|log| &log.origins);
    for origin in origins {
        let Some(entry) = payload.logs.iter().find(|it| it.origin == origin.origin) else {
            continue;
        };
        let is_new = |vkey: &Vkey| !entry.vkeys.contains(vkey);
        let new: Vec<String> = origin
            .vkeys()
            .iter()
            .filter(|vkey| is_new(vkey))
            .map(|vkey| vkey.key_id().to_string())
            .collect();
        if !new.is_empty() {
            return Some(format!(
                "lists the keys {} of {}",
                new.join(", "),
                origin.origin
            ));
        }
    }
    None
}

/// Why a bundle is due without anybody asking, if one is. The same situation gives the same words, so it is served once.
fn due(
    installation: &Installation,
    now: Timestamp,
    valid: SignedDuration,
    outside: &Outside,
) -> Option<String> {
    let firsts: Vec<&str> = installation
        .logs
        .values()
        .filter_map(|log| log.origins.first())
        .map(|origin| origin.origin.as_str())
        .collect();
    if firsts.is_empty() || !installation.nodes.values().any(is_witness) {
        return None;
    }
    let Some(published) = &installation.trust.published else {
        return Some("first bundle of the installation".to_owned());
    };
    let payload = payload_of(&published.bundle)?;
    if let Some(origin) = firsts
        .iter()
        .find(|origin| payload.logs.iter().all(|log| log.origin != **origin))
    {
        return Some(format!("lists the new log {origin}"));
    }
    if let Some(reason) = unlisted_keys(installation, &payload) {
        return Some(reason);
    }
    if let Some(reason) = certificates::due(installation, &payload) {
        return Some(reason);
    }
    if !outside.is_in(&payload) {
        return Some(format!(
            "names outside witnesses and time-stamping authorities as the settings do, in place of version {}",
            payload.version
        ));
    }
    let left = payload.expires.duration_since(now);
    (left < valid / 3).then(|| format!("renews version {} before it expires", payload.version))
}
