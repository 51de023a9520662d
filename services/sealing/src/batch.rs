//! One batch, from staging to publication. Recovery finishes a staged batch through the same function.
//!
//! Order: right edge checked and batch durable (seal log) -> intent durable (event log) -> keys used, within the permit and the
//! key deadline -> own signature verified -> permit and orders checked again -> tiles, checkpoint and folder durable -> answer.

use crate::permits::{Permit, decider};
use crate::quantum;
use crate::service::Service;
use crate::signing::sign;
use crate::stop::Failure;
use crate::tree::{Tree, with_writer};
use crate::writer::note_successors;
use sealwarden_domain::RejectionCode;
use sealwarden_domain::log_control::{Command, SignerLife};
use sealwarden_engine::ExecuteError;
use sealwarden_seal::merkle::Hash;
use sealwarden_seal::note::{Note, Vkey};
use sealwarden_seallog::{Intent, Leaves, LogError, Published, Staged};
use sealwarden_wire::event::v1::{IntentRecorded, SignatureWithheld};
use std::sync::Arc;

/// Makes a batch of `leaves`. The caller holds [`Service::batching`].
pub(crate) async fn seal(
    service: &Service,
    tree: &Arc<Tree>,
    leaves: Leaves,
    reseal: Option<u64>,
) -> Result<Published, Failure> {
    check_before(service, tree, reseal).await?;
    let mut leaves = leaves;
    loop {
        let staged = on_writer(service, tree, move |log| match log.staged() {
            Some(earlier) => Ok(Err((earlier.clone(), leaves))),
            None => log.stage(leaves).map(Ok),
        });
        let earlier = match staged.await? {
            Ok(staged) => return finish(service, tree, staged, reseal).await,
            Err((earlier, back)) => {
                leaves = back;
                earlier
            }
        };
        // Another task left it: of ours nothing is staged yet.
        let finished = finish(service, tree, earlier, reseal).await;
        let published = finished.map_err(|failure| {
            if let Failure::Unknown(reason) = failure {
                return Failure::Away(format!("an earlier batch waits: {reason}"));
            }
            failure
        })?;
        note_successors(service, tree, &published);
    }
}

/// Whether a batch is worth staging. What the writer knows may lag, so only the newest state refuses.
async fn check_before(service: &Service, tree: &Tree, reseal: Option<u64>) -> Result<(), Failure> {
    let mut control = service.control.lock().await;
    if service
        .may_sign(control.state(), &tree.origin, reseal)
        .is_ok()
    {
        return Ok(());
    }
    control
        .refresh()
        .await
        .map_err(|error| Failure::Away(error.to_string()))?;
    service
        .may_sign(control.state(), &tree.origin, reseal)
        .map(drop)
}

/// Takes a staged batch to its publication. The caller holds [`Service::batching`].
pub(crate) async fn finish(
    service: &Service,
    tree: &Arc<Tree>,
    staged: Staged,
    reseal: Option<u64>,
) -> Result<Published, Failure> {
    if let Err(failure) = quantum::before_first_intent(service, tree).await {
        return Err(give_up(service, tree, &staged, failure).await);
    }
    let permit = match record_intent(service, tree, &staged, reseal).await {
        Ok(permit) => permit,
        Err(failure) => return Err(give_up(service, tree, &staged, failure).await),
    };
    let note = sign(service, tree, &staged, permit, reseal).await?;
    let released = service.release.lock().await;
    let permit = match recheck(service, tree, reseal).await {
        Ok(permit) => permit,
        Err(failure) => return Err(withhold(service, tree, &staged, &failure).await),
    };
    if let Some(failure) = disowned(service, tree, &note).await {
        return Err(withhold(service, tree, &staged, &failure).await);
    }
    // Writing tiles takes time, and a suspended process wakes in the middle of it: the permit is looked at again when only the rename is left.
    let clock = Arc::clone(&service.node.clock);
    let (batch, until_ms) = (staged.clone(), permit.until_boot_ms);
    let published = on_writer(service, tree, move |log| {
        log.publish_if(&batch, &note, || clock.now().boot_ms < until_ms)
    })
    .await?;
    let Some(published) = published else {
        return Err(withhold(service, tree, &staged, &Failure::NoPermit).await);
    };
    drop(released);
    let records = published.leaves().iter().map(|leaf| leaf.record);
    service
        .requests
        .note(tree.number, published.first_index, records);
    service.tickets.published(tree.number, &published).await;
    service.published.send_modify(|count| *count += 1);
    Ok(published)
}

/// Records the intent, unless it stands there already. The permit's request is read from the state that the intent is
/// decided on, so a permit that was renewed meanwhile does not count as lost.
async fn record_intent(
    service: &Service,
    tree: &Tree,
    staged: &Staged,
    reseal: Option<u64>,
) -> Result<Permit, Failure> {
    let node = &service.node;
    let mut held = None;
    let mut stop = None;
    let mut control = service.control.lock().await;
    let outcome = control
        .execute(node.meta(), |log| {
            let permit = service
                .may_sign(log, &tree.origin, reseal)
                .map_err(|failure| {
                    let refused = sealwarden_domain::Rejection::new(
                        RejectionCode::NotNow,
                        failure.to_string(),
                    );
                    stop = Some(failure);
                    refused
                })?;
            let intent = IntentRecorded {
                origin: tree.origin.clone(),
                old_size: staged.old_size,
                size: staged.size,
                root: staged.root.0.to_vec().into(),
                message_sha256: Hash::of(staged.checkpoint_text.as_bytes())
                    .0
                    .to_vec()
                    .into(),
                epoch: log.acknowledged_epoch(&node.name),
                node: node.name.clone(),
                request_id: permit.request_id.clone(),
            };
            held = Some(permit);
            decider(&Command::RecordIntent { intent, reseal }, node.clock.now())(log)
        })
        .await;
    match outcome {
        Ok(_) => held.ok_or(Failure::NoPermit),
        Err(ExecuteError::Rejected(rejection)) => match rejection.code {
            RejectionCode::NotNow => Err(stop.unwrap_or(Failure::Away(rejection.reason))),
            RejectionCode::NotFound | RejectionCode::Invalid | RejectionCode::Refused => {
                Err(service.stop_for_good(&rejection.reason, false))
            }
        },
        Err(ExecuteError::Unavailable(reason)) => Err(Failure::Away(format!(
            "the event log is unavailable: {reason}"
        ))),
        Err(error @ ExecuteError::Unknown(_)) => Err(Failure::Unknown(error.to_string())),
        Err(
            error @ (ExecuteError::Illegal(_) | ExecuteError::Decode(_) | ExecuteError::Broken(_)),
        ) => Err(service.stop_for_good(&error.to_string(), false)),
    }
}

/// Throws a batch away that was staged and whose intent was not recorded. Where the stream holds the intent, or cannot be
/// read, the batch stays and is rolled forward later.
async fn give_up(
    service: &Service,
    tree: &Arc<Tree>,
    staged: &Staged,
    failure: Failure,
) -> Failure {
    if matches!(failure, Failure::Unknown(_) | Failure::Broken(_)) {
        return failure;
    }
    let intended = {
        let mut control = service.control.lock().await;
        match control.refresh().await {
            Ok(()) => control
                .state()
                .origin(&tree.origin)
                .is_none_or(|origin| origin.intents.contains(staged.size)),
            Err(_) => true,
        }
    };
    if intended {
        return Failure::Unknown(failure.to_string());
    }
    match on_writer(service, tree, |log| log.discard_staged(Intent::NotRecorded)).await {
        Ok(()) => failure,
        Err(broken) => broken,
    }
}

/// The last look before a signature leaves: the newest orders, and the permit by the clock.
pub(crate) async fn recheck(
    service: &Service,
    tree: &Tree,
    reseal: Option<u64>,
) -> Result<Permit, Failure> {
    let mut control = service.control.lock().await;
    control
        .refresh()
        .await
        .map_err(|error| Failure::Away(error.to_string()))?;
    service.may_sign(control.state(), &tree.origin, reseal)
}

/// A signature of a key that an order took away since it was made is not released. The batch is signed again by those that sign now.
async fn disowned(service: &Service, tree: &Tree, note: &Note) -> Option<Failure> {
    let control = service.control.lock().await;
    let origin = control.state().origin(&tree.origin)?;
    let gone = origin.signers.iter().find(|signer| {
        let Ok(vkey) = signer.vkey.parse::<Vkey>() else {
            return false;
        };
        let mut lines = note.signatures().iter();
        signer.life != SignerLife::Usable
            && lines.any(|it| it.name() == vkey.name() && it.key_id() == vkey.key_id())
    })?;
    Some(Failure::Away(format!(
        "key {} was {} while it signed",
        gone.key_id,
        gone.life.as_str()
    )))
}

/// Records that a signature is thrown away, and gives what its callers are told.
async fn withhold(service: &Service, tree: &Tree, staged: &Staged, failure: &Failure) -> Failure {
    let withheld = SignatureWithheld {
        origin: tree.origin.clone(),
        size: staged.size,
        root: staged.root.0.to_vec().into(),
        node: service.node.name.clone(),
        reason: failure.to_string(),
    };
    tracing::warn!(origin = tree.origin, size = staged.size, %failure, "a signature is withheld");
    if let Err(error) = service.execute(&Command::WithholdSignature(withheld)).await {
        tracing::warn!(%error, "the withheld signature is not recorded");
    }
    Failure::Unknown(format!("its signature came too late ({failure})"))
}

/// Runs work on the seal log. A log that lost a write ends the process, so that the next one reads what is really there.
pub(crate) async fn on_writer<T: Send + 'static>(
    service: &Service,
    tree: &Arc<Tree>,
    work: impl FnOnce(&mut sealwarden_seallog::SealLog) -> Result<T, LogError> + Send + 'static,
) -> Result<T, Failure> {
    match with_writer(tree, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            let end = matches!(error, LogError::Io { .. } | LogError::Poisoned { .. });
            Err(service.stop_for_good(&error.to_string(), end))
        }
        Err(error) => Err(service.stop_for_good(&format!("{error:#}"), true)),
    }
}
