//! Verdicts. The offline verdict is that of any client; what the log intended is added where it can be known.

use std::sync::Arc;

use sealwarden_anchors::file::{Anchors, verified_by_any};
use sealwarden_anchors::roots::Roots;
use sealwarden_engine::{Measuring, Node};
use sealwarden_runbook::Measure;
use sealwarden_seal::checkpoint::Checkpoint;
use sealwarden_seal::note::Note;
use sealwarden_seal::seal::Seal;
use sealwarden_seal::trust::VerifiedBundle;
use sealwarden_seal::verdict::{self, Verdict, Verification, VerifiedAnchor};
use sealwarden_wire::verify::v1::{Anchor, VerifyRequest, VerifyResponse, Witness};

use crate::intents::{Intents, Standing, Unavailable, log_signed, vkeys_of};
use crate::sightings::{Sighting, Sightings};
use crate::trust::Trust;

/// A request that cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// The digest is no SHA-256.
    #[error(
        "digest has {0} bytes; send the 32 bytes of the document's SHA-256, or none to check the seal alone"
    )]
    Digest(usize),
    /// There is nothing to verify by.
    #[error(
        "no trust bundle was published yet; `sealwarden up` publishes the first one when its log and witness are ready"
    )]
    NoTrust,
}

/// Verifies seals.
pub(crate) struct Verifying {
    node: Arc<Node>,
    pub(crate) trust: Arc<Trust>,
    intents: Arc<Intents>,
    sightings: Arc<Sightings>,
    /// Verdicts, for the plan's detectors.
    pub(crate) measuring: Arc<Measuring>,
}

/// Adds to an offline verdict how the seal's checkpoint stands to the log's intents. What is worse than suspect stays.
pub(crate) fn with_intents(
    mut verification: Verification,
    checkpoint: &Checkpoint,
    standing: &Result<Standing, Unavailable>,
) -> Verification {
    match standing {
        Ok(Standing::Intended | Standing::UnknownOrigin | Standing::Guest) => {}
        Ok(Standing::Foreign) => {
            let foreign = format!(
                "The log's key signed this checkpoint of {} with size {}, but the log never intended its root: the key was used by somebody else",
                checkpoint.origin, checkpoint.size
            );
            verification.reason = format!("{foreign}. {}", verification.reason);
            verification.verdict = match verification.verdict {
                Verdict::Valid
                | Verdict::ValidBeforeCompromise
                | Verdict::Unwitnessed
                | Verdict::Suspect => Verdict::Suspect,
                worse @ (Verdict::DocumentMismatch
                | Verdict::BadProof
                | Verdict::BadSignature
                | Verdict::UnknownLog
                | Verdict::Malformed) => worse,
            };
        }
        Err(unavailable) => {
            verification.reason = format!("{} ({unavailable}.)", verification.reason);
        }
    }
    verification
}

impl Verifying {
    pub(crate) fn new(
        node: Arc<Node>,
        trust: Arc<Trust>,
        intents: Arc<Intents>,
        sightings: Arc<Sightings>,
    ) -> Self {
        Self {
            node,
            trust,
            intents,
            sightings,
            measuring: Arc::default(),
        }
    }

    /// The verdict over one seal.
    pub(crate) async fn verify(&self, request: &VerifyRequest) -> Result<VerifyResponse, Refused> {
        let digest = match request.digest.len() {
            0 => None,
            bytes => Some(
                <[u8; 32]>::try_from(&request.digest[..]).map_err(|_| Refused::Digest(bytes))?,
            ),
        };
        let trust = self.trust.current().await.ok_or(Refused::NoTrust)?;
        let now_ms = self.node.clock.now().wall_ms;
        let dated = dated(&request.anchors, &trust.bundle);
        let mut verification =
            verdict::verify_anchored(&request.seal, digest, &trust.bundle, &dated, now_ms);
        if let Some((checkpoint, note)) = self.signed_checkpoint(&request.seal) {
            let standing = self.intents.standing(&checkpoint).await;
            verification = with_intents(verification, &checkpoint, &standing);
            if standing == Ok(Standing::Foreign) {
                let reason = format!(
                    "{} recorded no intent to sign this root for size {}",
                    checkpoint.origin, checkpoint.size
                );
                self.sightings
                    .keep(Sighting::new(
                        "verify",
                        checkpoint.origin,
                        &note,
                        reason,
                        now_ms,
                    ))
                    .await;
            }
        }
        self.count(verification.verdict);
        let mut answer = response(verification);
        answer.anchors = told(&request.seal, &dated);
        Ok(answer)
    }

    fn count(&self, verdict: Verdict) {
        let name = &self.node.name;
        self.measuring.add(Measure::Verdicts, name, 1);
        let good = match verdict {
            Verdict::Valid | Verdict::ValidBeforeCompromise => true,
            Verdict::Unwitnessed
            | Verdict::Suspect
            | Verdict::DocumentMismatch
            | Verdict::BadProof
            | Verdict::BadSignature
            | Verdict::UnknownLog
            | Verdict::Malformed => false,
        };
        if !good {
            self.measuring.add(Measure::NegativeVerdicts, name, 1);
        }
    }

    /// Why the log never intended a signed checkpoint, if that can be known; it is then kept as a sighting.
    pub(crate) async fn foreign(&self, note: &[u8]) -> Option<String> {
        let note = Note::parse(note).ok()?;
        let checkpoint = Checkpoint::parse(note.text()).ok()?;
        let vkeys = self
            .node
            .board
            .read(|installation| vkeys_of(installation, &checkpoint.origin))?;
        let note = log_signed(&note, &vkeys)?;
        if self.intents.standing(&checkpoint).await != Ok(Standing::Foreign) {
            return None;
        }
        let reason = format!(
            "{} recorded no intent to sign this root for size {}",
            checkpoint.origin, checkpoint.size
        );
        let now_ms = self.node.clock.now().wall_ms;
        let sighting = Sighting::new("archive", checkpoint.origin, &note, reason.clone(), now_ms);
        self.sightings.keep(sighting).await;
        Some(reason)
    }

    /// The seal's checkpoint with its log's signatures, if a log of this installation did sign it.
    fn signed_checkpoint(&self, seal: &[u8]) -> Option<(Checkpoint, Note)> {
        let seal = Seal::parse(seal).ok()?;
        let checkpoint = seal.checkpoint().ok()?;
        let vkeys = self
            .node
            .board
            .read(|installation| vkeys_of(installation, &checkpoint.origin))?;
        let note = log_signed(&seal.note, &vkeys)?;
        Some((checkpoint, note))
    }
}

/// Those that date the seal's checkpoint, for the answer: the earliest first, which is the one that counts.
fn told(seal: &[u8], dated: &[VerifiedAnchor]) -> Vec<Anchor> {
    let Ok(seal) = Seal::parse(seal) else {
        return Vec::new();
    };
    let own = seal.checkpoint().ok().map(|it| it.size);
    let anchor = |it: &VerifiedAnchor| {
        let size = it.size_over(&seal.note)?;
        let anchor = Anchor {
            tsa: it.tsa.clone(),
            time: jiff::Timestamp::from_millisecond(it.time_ms)
                .map(|time| time.to_string())
                .unwrap_or_default(),
            size,
            later: own != Some(size),
        };
        Some((it.time_ms, anchor))
    };
    let mut told: Vec<_> = dated.iter().filter_map(anchor).collect();
    told.sort_by_key(|(time_ms, _)| *time_ms);
    told.into_iter().map(|(_, anchor)| anchor).collect()
}

/// The anchors of a request that an authority of the bundle vouches for. The others prove nothing, and make nothing worse.
fn dated(anchors: &[u8], bundle: &VerifiedBundle) -> Vec<VerifiedAnchor> {
    if anchors.is_empty() {
        return Vec::new();
    }
    let Ok(anchors) = Anchors::parse(anchors) else {
        return Vec::new();
    };
    let roots = bundle.payload().tsas.iter();
    let roots = roots.filter_map(|tsa| Roots::from_pem(tsa.roots.as_bytes()).ok());
    verified_by_any(&anchors, &roots.collect::<Vec<_>>())
}

fn response(verification: Verification) -> VerifyResponse {
    let witnesses = verification.witnesses.into_iter().map(|witness| Witness {
        name: witness.name,
        operator: witness.operator,
        time: witness.time.unwrap_or_default(),
        local: witness.local,
    });
    VerifyResponse {
        verdict: verification.verdict.as_str().to_owned(),
        reason: verification.reason,
        origin: verification.origin.unwrap_or_default(),
        index: verification.index.unwrap_or_default(),
        sealed_at: verification.sealed_at.unwrap_or_default(),
        witnesses: witnesses.collect(),
        trust_version: verification.bundle_version,
        trust_issued: verification.bundle_issued,
        anchors: Vec::new(),
        signed: verification
            .signed
            .iter()
            .map(|it| it.as_str().to_owned())
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verification(verdict: Verdict) -> Verification {
        Verification {
            verdict,
            reason: "Offline.".to_owned(),
            origin: None,
            index: None,
            tree_size: None,
            sealed_at: None,
            claimed_at: None,
            signed: Vec::new(),
            witnesses: Vec::new(),
            bundle_version: 1,
            bundle_issued: String::new(),
            record: None,
        }
    }

    fn judged(verdict: Verdict, standing: &Result<Standing, Unavailable>) -> (Verdict, String) {
        let checkpoint = Checkpoint {
            origin: "seal.example.com/main/1".to_owned(),
            size: 4,
            root: sealwarden_seal::merkle::Hash([1; 32]),
        };
        let judged = with_intents(verification(verdict), &checkpoint, standing);
        (judged.verdict, judged.reason)
    }

    #[test]
    fn an_intended_checkpoint_changes_nothing() {
        let (verdict, reason) = judged(Verdict::Valid, &Ok(Standing::Intended));
        assert_eq!((verdict, reason.as_str()), (Verdict::Valid, "Offline."));
    }

    #[test]
    fn a_root_that_was_never_intended_is_suspect_at_best() {
        for verdict in [
            Verdict::Valid,
            Verdict::ValidBeforeCompromise,
            Verdict::Unwitnessed,
            Verdict::Suspect,
        ] {
            let (now, reason) = judged(verdict, &Ok(Standing::Foreign));
            assert_eq!(now, Verdict::Suspect);
            assert!(
                reason.contains("never intended") && reason.ends_with("Offline."),
                "{reason}"
            );
        }
        for verdict in [
            Verdict::DocumentMismatch,
            Verdict::BadProof,
            Verdict::BadSignature,
            Verdict::UnknownLog,
            Verdict::Malformed,
        ] {
            assert_eq!(judged(verdict, &Ok(Standing::Foreign)).0, verdict);
        }
    }

    #[test]
    fn without_the_event_log_the_offline_verdict_stands_and_says_so() {
        let (verdict, reason) = judged(Verdict::Valid, &Err(Unavailable("down".to_owned())));
        assert_eq!(verdict, Verdict::Valid);
        assert!(reason.contains("cannot be consulted"), "{reason}");
    }
}
