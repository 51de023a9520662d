//! The local witness.
//!
//! To C2SP's rules it adds one that only a witness inside the installation can have: a checkpoint that its log never intended is refused, however consistently it extends
//! the tree. That is what a thief of the key would ask for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sealwarden_engine::Node;
use sealwarden_keys::{Purpose, sign_within};
use sealwarden_seal::checkpoint::Checkpoint;
use sealwarden_seal::cosignature::{witness_line, witness_message};
use sealwarden_seal::note::{Note, Vkey};
use sealwarden_seal::witness::{Accept, AddCheckpoint, OriginState, Refusal, RefusalKind, decide};
use tokio::sync::Mutex;

use crate::intents::{Intents, Standing, Unavailable, log_signed, vkeys_of};
use crate::sightings::{Sighting, Sightings};
use crate::witness_keys::{Known, WitnessKey, WitnessKeys};
use crate::witness_store::WitnessStore;

/// Longest the key may take.
const KEY_DEADLINE: Duration = Duration::from_secs(2);
const TEXT: &str = "text/plain; charset=utf-8";

/// An HTTP answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn text(status: u16, body: impl Into<String>) -> Self {
        let mut body = body.into();
        body.push('\n');
        Self {
            status,
            content_type: TEXT,
            body,
        }
    }
}

/// What to do about a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Conclusion {
    /// Store and cosign.
    Cosign(Box<Accept>),
    /// Answer; where there is evidence, keep and report it first.
    Refuse {
        answer: Answer,
        evidence: Option<Box<(Checkpoint, Note, String)>>,
    },
}

/// Joins C2SP's decision with what the log intended. Only a checkpoint that the log signed and never intended is evidence: a proof that fails beside an intended
/// root is somebody's mistake.
pub(crate) fn conclude(
    decision: Result<Accept, Refusal>,
    standing: &Result<Standing, Unavailable>,
) -> Conclusion {
    match (decision, standing) {
        (Ok(accept), Ok(Standing::Intended | Standing::Guest)) => {
            Conclusion::Cosign(Box::new(accept))
        }
        (Ok(accept), Ok(Standing::Foreign | Standing::UnknownOrigin)) => {
            let reason = format!(
                "{} recorded no intent to sign this root for size {}: it is not the log's, although the log's key signed it",
                accept.checkpoint.origin, accept.checkpoint.size
            );
            let answer = Answer::text(403, reason.clone());
            Conclusion::Refuse {
                answer,
                evidence: Some(Box::new((accept.checkpoint, accept.note, reason))),
            }
        }
        (Ok(_), Err(unavailable)) => {
            let body = format!("{unavailable}; try again later");
            Conclusion::Refuse {
                answer: Answer::text(503, body),
                evidence: None,
            }
        }
        (Err(refusal), Err(unavailable)) if refusal.kind == RefusalKind::UnknownOrigin => {
            let body = format!(
                "{}, as far as it knows: {unavailable}; try again later",
                refusal.reason
            );
            Conclusion::Refuse {
                answer: Answer::text(503, body),
                evidence: None,
            }
        }
        (Err(refusal), standing) => {
            let answer = Answer {
                status: refusal.status(),
                content_type: refusal.content_type(),
                body: refusal.body(),
            };
            let keep = match standing {
                Ok(Standing::Foreign) => true,
                Ok(Standing::Intended | Standing::UnknownOrigin) => false,
                // Of a guest what does not extend what was cosigned is all that can be proven; else it is kept now and judged later: the detector compares
                // it with the intents again.
                Ok(Standing::Guest) | Err(_) => refusal.is_evidence(),
            };
            let reason = refusal.reason;
            let signed = refusal.signed.filter(|_| keep);
            let evidence = signed.map(|signed| Box::new((signed.0, signed.1, reason)));
            Conclusion::Refuse { answer, evidence }
        }
    }
}

/// Whose log it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Log {
    /// This installation's: what it intended is known.
    Own,
    /// Another one's, which asked to be witnessed: only its consistency is.
    Guest,
}

/// The witness.
pub(crate) struct Witness {
    node: Arc<Node>,
    keys: WitnessKeys,
    store: Mutex<WitnessStore>,
    intents: Arc<Intents>,
    sightings: Arc<Sightings>,
    /// The keys of other installations' logs, by origin.
    guests: BTreeMap<String, Vec<Vkey>>,
    /// Set once the disk has failed: nothing is cosigned any more, and the process ends.
    failed: tokio::sync::watch::Sender<Option<String>>,
}

impl Witness {
    /// Opens the witness's state and key, making both on first use.
    pub(crate) async fn open(
        node: Arc<Node>,
        intents: Arc<Intents>,
        sightings: Arc<Sightings>,
        guests: BTreeMap<String, Vec<Vkey>>,
        post_quantum: bool,
    ) -> anyhow::Result<Self> {
        let known = Known::look(&node).await?;
        let (dir, id, exists) = (node.data.clone(), known.id.to_string(), known.exists());
        let mut store =
            tokio::task::spawn_blocking(move || WitnessStore::open(&dir, &id, exists)).await??;
        // The state stands before the key does: a key without state means that the state was lost.
        let keys = known.or_made(&node, post_quantum).await?;
        let text = keys.first.vkey.to_string();
        let store =
            tokio::task::spawn_blocking(move || store.bind(&text).map(|()| store)).await??;
        let failed = tokio::sync::watch::Sender::new(None);
        Ok(Self {
            node,
            keys,
            store: Mutex::new(store),
            intents,
            sightings,
            guests,
            failed,
        })
    }

    /// The witness's verifier keys, the Ed25519 one first.
    pub(crate) fn vkeys(&self) -> impl Iterator<Item = &Vkey> {
        self.keys.all().map(|key| &key.vkey)
    }

    /// Ends with an error once the disk has failed, else at shutdown.
    pub(crate) async fn watch_disk(self: Arc<Self>) -> anyhow::Result<()> {
        let mut failed = self.failed.subscribe();
        tokio::select! {
            () = self.node.shutdown.cancelled() => Ok(()),
            reason = failed.wait_for(Option::is_some) => {
                let reason = reason.ok().and_then(|reason| reason.clone()).unwrap_or_default();
                anyhow::bail!("the witness cannot store what it cosigns: {reason}")
            }
        }
    }

    /// `add-checkpoint`.
    pub(crate) async fn add_checkpoint(&self, body: &[u8]) -> Answer {
        if self.failed.borrow().is_some() {
            return Answer::text(
                503,
                "the witness's disk has failed; it cosigns nothing any more",
            );
        }
        let standing = self.standing(body).await;
        // Deciding, storing and signing are one: requests go one after another.
        let mut store = self.store.lock().await;
        let trusted = self.trusted(body);
        let conclusion = conclude(decide(store.state(), body, &trusted), &standing);
        match conclusion {
            Conclusion::Cosign(accept) => self.cosign(&mut store, &accept).await,
            Conclusion::Refuse { answer, evidence } => {
                drop(store);
                if let Some(evidence) = evidence {
                    self.keep(*evidence).await;
                }
                answer
            }
        }
    }

    /// How the request's checkpoint stands. What its log's key did not sign is not worth a look into the event log.
    async fn standing(&self, body: &[u8]) -> Result<Standing, Unavailable> {
        let Some((checkpoint, note)) = read(body) else {
            return Ok(Standing::UnknownOrigin);
        };
        match self.vkeys_of(&checkpoint.origin) {
            Some((_, vkeys)) if log_signed(&note, &vkeys).is_none() => Ok(Standing::UnknownOrigin),
            Some((Log::Guest, _)) => Ok(Standing::Guest),
            Some((Log::Own, _)) | None => self.intents.standing(&checkpoint).await,
        }
    }

    /// The keys of the request's origin.
    fn trusted(&self, body: &[u8]) -> BTreeMap<String, Vec<Vkey>> {
        let key = read(body).and_then(|(checkpoint, _)| {
            let (_, vkeys) = self.vkeys_of(&checkpoint.origin)?;
            Some((checkpoint.origin, vkeys))
        });
        key.into_iter().collect()
    }

    /// Whose an origin is, and its keys. An origin of this installation is never a guest's.
    fn vkeys_of(&self, origin: &str) -> Option<(Log, Vec<Vkey>)> {
        let own = self
            .node
            .board
            .read(|installation| vkeys_of(installation, origin));
        let guest = || Some((Log::Guest, self.guests.get(origin)?.clone()));
        own.map(|vkeys| (Log::Own, vkeys)).or_else(guest)
    }

    async fn cosign(&self, store: &mut WitnessStore, accept: &Accept) -> Answer {
        let Checkpoint { origin, size, root } = &accept.checkpoint;
        let new = OriginState {
            size: *size,
            root: *root,
            frozen: None,
        };
        if new != accept.previous
            && let Err(error) = self.set(store, origin, new).await
        {
            return Answer::text(
                500,
                format!("the witness could not store the checkpoint: {error}"),
            );
        }
        match self.sign(accept.note.text()).await {
            Ok(line) => {
                tracing::debug!(%origin, size, "cosigned");
                Answer {
                    status: 200,
                    content_type: TEXT,
                    body: line,
                }
            }
            Err(error) => {
                tracing::error!(%origin, size, %error, "the checkpoint is stored and could not be cosigned");
                Answer::text(
                    503,
                    format!("the witness could not sign: {error}; try again"),
                )
            }
        }
    }

    /// A line of each key with the same time, or nothing: half of them is no cosignature where a bundle requires both types.
    async fn sign(&self, text: &str) -> anyhow::Result<String> {
        let now_ms = self.node.clock.now().wall_ms;
        let time_s = u64::try_from(now_ms / 1000).context("the clock stands before 1970")?;
        let mut lines = String::new();
        for WitnessKey { id, vkey } in self.keys.all() {
            let message = witness_message(vkey, text, time_s)?;
            let provider = &*self.node.keys;
            let signed = sign_within(provider, id, Purpose::Witness, &message, KEY_DEADLINE);
            let line = witness_line(vkey, time_s, signed.await?.as_bytes())?;
            lines.push_str(&line.to_string());
            lines.push('\n');
        }
        Ok(lines)
    }

    /// Stores an origin's state. After a failed write nobody knows what is durable: the witness stops for good.
    async fn set(
        &self,
        store: &mut WitnessStore,
        origin: &str,
        new: OriginState,
    ) -> anyhow::Result<()> {
        let (mut changed, name) = (store.clone(), origin.to_owned());
        let written =
            tokio::task::spawn_blocking(move || changed.set(&name, new).map(|()| changed)).await;
        match written
            .map_err(anyhow::Error::from)
            .and_then(|written| Ok(written?))
        {
            Ok(changed) => {
                *store = changed;
                Ok(())
            }
            Err(error) => {
                self.failed.send_replace(Some(error.to_string()));
                Err(error)
            }
        }
    }

    async fn keep(&self, (checkpoint, note, reason): (Checkpoint, Note, String)) {
        let vkeys = self.vkeys_of(&checkpoint.origin);
        let Some(note) = vkeys.and_then(|(_, vkeys)| log_signed(&note, &vkeys)) else {
            return;
        };
        tracing::error!(origin = %checkpoint.origin, size = checkpoint.size, %reason, "a checkpoint with the log's signature is refused");
        let sighting = Sighting::new(
            "witness",
            checkpoint.origin,
            &note,
            reason,
            self.node.clock.now().wall_ms,
        );
        self.sightings.keep(sighting).await;
    }

    /// Cosigns nothing more of an origin. Gives the size and root last cosigned. Doing it twice changes nothing.
    pub(crate) async fn freeze(&self, origin: &str, reason: String) -> anyhow::Result<OriginState> {
        let mut store = self.store.lock().await;
        let known = store
            .state()
            .origins
            .get(origin)
            .cloned()
            .unwrap_or_default();
        if known.frozen.is_some() {
            return Ok(known);
        }
        let frozen = OriginState {
            frozen: Some(reason),
            ..known
        };
        self.set(&mut store, origin, frozen.clone()).await?;
        Ok(frozen)
    }

    /// Cosigns an origin again that was frozen, from the size and root last cosigned on, which it gives. Doing it twice changes nothing.
    pub(crate) async fn thaw(&self, origin: &str) -> anyhow::Result<OriginState> {
        let mut store = self.store.lock().await;
        let known = store.state().origins.get(origin).cloned();
        let known = known.unwrap_or_default();
        if known.frozen.is_none() {
            return Ok(known);
        }
        let thawed = OriginState {
            frozen: None,
            ..known
        };
        self.set(&mut store, origin, thawed.clone()).await?;
        Ok(thawed)
    }
}

fn read(body: &[u8]) -> Option<(Checkpoint, Note)> {
    let request = AddCheckpoint::parse(body).ok()?;
    let checkpoint = Checkpoint::parse(request.note.text()).ok()?;
    Some((checkpoint, request.note))
}

#[cfg(test)]
mod tests;
