//! The signatures under a checkpoint: of every key that signs for the origin now, and what happens when one of them does not.
//!
//! A key that does not sign is replaced by a standby key of the same algorithm, for the same staged batch and under the same intent: the change of keys is
//! recorded first, decided on the stream's newest state. A standby key is used only once a published trust bundle lists it, so verifiers need nothing new. Nobody goes back
//! to the first key by himself: that is a person's decision.

use crate::batch::{on_writer, recheck};
use crate::pace::note_call;
use crate::permits::{Permit, decider};
use crate::service::Service;
use crate::stop::Failure;
use crate::tree::Tree;
use sealwarden_domain::log_control::{Command, Origin, Signer, SignerState};
use sealwarden_engine::ExecuteError;
use sealwarden_keys::{KeyId, Purpose, sign_within};
use sealwarden_seal::checkpoint::Checkpoint;
use sealwarden_seal::cosignature::{SigningError, log_line, log_message};
use sealwarden_seal::note::{Note, Signature, UnsignedNote, Vkey};
use sealwarden_seallog::Staged;
use sealwarden_wire::event::v1::{ActivationReason, SignersActivated};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A key that owes its signature.
struct Missing {
    signer: Signer,
    reason: String,
    /// It gave a signature, which does not verify.
    is_wrong: bool,
}

/// Why there is no note.
enum Trouble {
    /// One key did not sign; another one may.
    Missing(Box<Missing>),
    /// Another key would not help.
    Final(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Final(failure)
    }
}

/// Signs the staged batch with every key that signs for its origin, failing over where one of them does not. Its intent is recorded.
pub(crate) async fn sign(
    service: &Service,
    tree: &Arc<Tree>,
    staged: &Staged,
    permit: Permit,
    reseal: Option<u64>,
) -> Result<Note, Failure> {
    let mut permit = permit;
    let mut failed = BTreeSet::new();
    loop {
        let missing = match sign_with_all(service, tree, staged, &permit).await {
            Ok(note) => return Ok(note),
            Err(Trouble::Final(failure)) => return Err(failure),
            Err(Trouble::Missing(missing)) => missing,
        };
        failed.insert(missing.signer.key_id.clone());
        fail_over(service, tree, &missing, &failed).await?;
        // A call that hung may have used up the permit; a newer one may have come meanwhile.
        permit = recheck(service, tree, reseal)
            .await
            .map_err(|failure| Failure::Unknown(failure.to_string()))?;
    }
}

async fn sign_with_all(
    service: &Service,
    tree: &Arc<Tree>,
    staged: &Staged,
    permit: &Permit,
) -> Result<Note, Trouble> {
    let signers: Vec<Signer> = {
        let control = service.control.lock().await;
        let origin = control.state().origin(&tree.origin);
        origin.map_or_else(Vec::new, |it| it.signing().cloned().collect())
    };
    let unsigned = UnsignedNote::new(staged.checkpoint_text.as_str())
        .map_err(|error| service.stop_for_good(&error.to_string(), false))?;
    let mut note: Option<Note> = None;
    let mut vkeys = Vec::new();
    for signer in &signers {
        let (vkey, line) = signature(service, signer, unsigned.text(), permit).await?;
        vkeys.push(vkey);
        let attached = match &mut note {
            Some(note) => note.push(line),
            None => unsigned
                .clone()
                .attach(line.name(), line.key_id(), line.blob())
                .map(|first| note = Some(first)),
        };
        attached.map_err(|error| service.stop_for_good(&error.to_string(), false))?;
    }
    let note = note.ok_or_else(|| {
        Failure::Unknown(format!(
            "no key signs for {}: each one is revoked or retired; restore one, or rotate the origin",
            tree.origin
        ))
    })?;
    // The tree's files name the keys before a checkpoint of theirs stands there.
    on_writer(service, tree, move |log| log.trust_keys(&vkeys)).await?;
    Ok(note)
}

/// One key's signature line, verified.
async fn signature(
    service: &Service,
    signer: &Signer,
    text: &str,
    permit: &Permit,
) -> Result<(Vkey, Signature), Trouble> {
    let missing = |reason: String, is_wrong: bool| {
        Trouble::Missing(Box::new(Missing {
            signer: signer.clone(),
            reason,
            is_wrong,
        }))
    };
    let vkey: Vkey = signer
        .vkey
        .parse()
        .map_err(|error| missing(format!("{error}"), false))?;
    let key =
        KeyId::new(signer.key_id.as_str()).map_err(|error| missing(format!("{error}"), false))?;
    let now = service.node.clock.now().boot_ms;
    let left_ms = permit
        .until_boot_ms
        .saturating_sub(now)
        .min(permit.key_deadline_ms);
    if left_ms == 0 {
        let reason = "the permit ran out before the key was used".to_owned();
        return Err(Failure::Unknown(reason).into());
    }
    let keys = service.node.keys.as_ref();
    let deadline = Duration::from_millis(left_ms);
    // What is signed depends on the key's type; that it is this intent's checkpoint does not.
    let message = Checkpoint::parse(text)
        .map_err(SigningError::from)
        .and_then(|checkpoint| log_message(&vkey, &checkpoint))
        .map_err(|error| missing(error.to_string(), false))?;
    let began = Instant::now();
    let signed = sign_within(keys, &key, Purpose::Sealing, &message, deadline).await;
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let took_ms = signed.is_ok().then_some(took_ms);
    note_call(service, &signer.provider, took_ms);
    let signature = signed.map_err(|error| missing(error.to_string(), false))?;
    let line = log_line(&vkey, signature.as_bytes())
        .and_then(|line| {
            let note = UnsignedNote::new(text)?.attach(line.name(), line.key_id(), line.blob())?;
            note.verify(std::slice::from_ref(&vkey))?;
            Ok(line)
        })
        .map_err(|error| {
            let reason = format!("the key {key} gave a signature that does not verify: {error}");
            missing(reason, true)
        })?;
    Ok((vkey, line))
}

/// Lets another key sign instead, if there is one that verifiers know.
async fn fail_over(
    service: &Service,
    tree: &Tree,
    missing: &Missing,
    failed: &BTreeSet<String>,
) -> Result<(), Failure> {
    let node = &service.node;
    let mut is_left = true;
    let outcome = service
        .control
        .lock()
        .await
        .execute(node.meta(), |log| {
            let Some(origin) = log.origin(&tree.origin) else {
                return Ok(Vec::new());
            };
            let why = format!(
                "key {} of the {} provider did not sign: {}",
                missing.signer.key_id, missing.signer.provider, missing.reason
            );
            let Some(change) = in_its_place(service, origin, &missing.signer, failed, why) else {
                is_left = false;
                return Ok(Vec::new());
            };
            let command = Command::ActivateSigners {
                node: node.name.clone(),
                seen: origin.signing_keys(),
                change,
            };
            decider(&command, node.clock.now())(log)
        })
        .await;
    if !is_left {
        return Err(if missing.is_wrong {
            service.stop_for_good(&missing.reason, false)
        } else {
            Failure::Unknown(format!("the sealing key did not sign: {}", missing.reason))
        });
    }
    match outcome {
        Ok(executed) => {
            if !executed.events.is_empty() {
                tracing::error!(
                    origin = tree.origin,
                    key = missing.signer.key_id,
                    provider = missing.signer.provider,
                    reason = missing.reason,
                    "a sealing key did not sign; another one signs in its place until somebody fails back"
                );
            }
            Ok(())
        }
        Err(ExecuteError::Rejected(rejection)) => Err(Failure::Unknown(format!(
            "the sealing key did not sign ({}), and no other one may: {}",
            missing.reason, rejection.reason
        ))),
        Err(error) => Err(Failure::Unknown(format!(
            "the sealing key did not sign ({}), and no other one can be activated: {error}",
            missing.reason
        ))),
    }
}

/// Who signs when this key does not: the most preferred of the standby keys of its algorithm that a published bundle lists, in its place; or the others alone where one
/// of them has the same algorithm. `None` if nobody is left.
pub(crate) fn in_its_place(
    service: &Service,
    origin: &Origin,
    gone: &Signer,
    failed: &BTreeSet<String>,
    why: String,
) -> Option<SignersActivated> {
    let listed = service.listed.keys(&service.node.board);
    let may = |signer: &Signer| !failed.contains(&signer.key_id) && listed.contains(&signer.vkey);
    // What failed with one key of a provider likely fails with another.
    let order = |signer: &Signer| {
        let same = signer.provider == gone.provider;
        let out = !service.is_asked(&signer.provider);
        (same, out, service.preference(signer))
    };
    let key = &gone.key_id;
    let same = |it: &&Signer| it.algorithm == gone.algorithm && it.key_id != *key;
    let of = |state: SignerState| -> Vec<String> {
        let those = origin
            .signing()
            .filter(|it| it.state == state && it.key_id != *key);
        those.map(|it| it.key_id.clone()).collect()
    };
    let (mut active, mut overlapping) = (of(SignerState::Active), of(SignerState::Overlapping));
    let standby = origin
        .signers
        .iter()
        .filter(same)
        .filter(|it| it.is_ready() && !it.signs() && may(it))
        .min_by_key(|it| order(it));
    if origin.signing().any(|it| same(&it)) {
        if active.is_empty() {
            active = std::mem::take(&mut overlapping);
        }
    } else {
        active.push(standby?.key_id.clone());
    }
    Some(SignersActivated {
        origin: origin.origin.clone(),
        active,
        overlapping,
        reason: ActivationReason::Failover.into(),
        by: service.node.name.clone(),
        why,
    })
}
