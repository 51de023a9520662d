//! Changing the key that signs when nothing is wrong: failing back by a person's decision, and planned rotations by age, by count and by command.
//!
//! A planned rotation makes a key in the same provider, waits until a published trust bundle lists it, lets both sign until every cached bundle was renewed, and retires
//! the old one. Where it stands follows from the log line's state, so a restart goes on.

use crate::permits::decider;
use crate::service::Service;
use crate::signers;
use anyhow::Context as _;
use sealwarden_domain::log_control::{Command, LogControl, Origin, Signer, SignerState};
use sealwarden_engine::{ExecuteError, Meta};
use sealwarden_keys::{Algorithm, KeyError};
use sealwarden_wire::event::v1::{ActivationReason, SignerRetired, SignersActivated};
use sealwarden_wire::seal::v1::KeyChangeResponse;
use std::collections::BTreeSet;
use std::time::Duration;
use tonic::Status;

/// How often age and overlap are looked at, if nothing else happens.
const LOOK: Duration = Duration::from_secs(30);
/// Pause after something was away.
const AGAIN: Duration = Duration::from_secs(2);
/// How long a provider may take to show by probes that it is well before it is failed back to.
const PROBE: Duration = Duration::from_secs(5);
const HOUR_MS: i64 = 3_600_000;

/// What a planned rotation needs next.
enum Next {
    /// A key is due: in this provider, for this reason.
    Add { provider: String, why: String },
    /// The bundle lists the new key: both sign.
    Overlap {
        change: SignersActivated,
        seen: Vec<String>,
    },
    /// The old key has done its service.
    Retire(SignerRetired),
}

/// When a key is to be replaced by age, Unix milliseconds.
pub(crate) fn due_at_ms(service: &Service, signer: &Signer) -> Option<i64> {
    let after_ms = service.config.rotate_after_ms()?;
    Some(signer.added_at_ms.saturating_add(after_ms))
}

/// How many uses are left until it is to be replaced.
pub(crate) fn uses_left(service: &Service, signer: &Signer) -> Option<u64> {
    let most = service.config.rotate_after_uses;
    (most > 0).then(|| most.saturating_sub(signer.uses))
}

/// Carries planned rotations on until shutdown.
pub(crate) async fn follow(service: &Service) -> anyhow::Result<()> {
    let shutdown = &service.node.shutdown;
    let mut changes = service.node.board.changes();
    loop {
        changes.mark_unchanged();
        let pause = match step(service).await {
            Ok(true) => continue,
            Ok(false) => None,
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(error, "a planned rotation of a sealing key waits");
                Some(AGAIN)
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = changes.changed(), if pause.is_none() => {}
            () = tokio::time::sleep(pause.unwrap_or(LOOK)) => {}
        }
    }
}

/// Does what is next; `false` if nothing is.
async fn step(service: &Service) -> anyhow::Result<bool> {
    // Most changes of the board are none of ours, and the live fold is good enough to see that.
    let wall_ms = service.node.clock.now().wall_ms;
    let listed = service.listed.keys(&service.node.board);
    let on_board = service.on_board(|log| next(service, log, &listed, wall_ms).is_some());
    if !on_board.unwrap_or(false) {
        return Ok(false);
    }
    let (origin, next) = {
        let mut control = service.control.lock().await;
        control.refresh().await?;
        let next = next(service, control.state(), &listed, wall_ms);
        (control.state().current().cloned(), next)
    };
    let (Some(origin), Some(next)) = (origin, next) else {
        return Ok(false);
    };
    let node = service.node.name.clone();
    let command = match next {
        Next::Add { provider, why } => {
            signers::add(service, &origin, &provider, (&node, &why)).await?;
            return Ok(true);
        }
        Next::Overlap { change, seen } => Command::ActivateSigners { node, seen, change },
        Next::Retire(retired) => Command::RetireSigner { node, retired },
    };
    let executed = service.execute(&command).await?;
    service.node.board.reached(executed.position).await;
    tracing::info!(
        origin = origin.origin,
        "a planned rotation of the sealing key goes on"
    );
    Ok(true)
}

fn next(
    service: &Service,
    log: &LogControl,
    listed: &BTreeSet<String>,
    wall_ms: i64,
) -> Option<Next> {
    let node = &service.node.name;
    let origin = log
        .current()
        .filter(|it| it.node == *node && it.isolation.is_none())?;
    if let Some(algorithm) = origin.lacking() {
        return replacement(origin, algorithm, listed, node);
    }
    if let Some((new, old)) = origin.planned() {
        return listed.contains(&new.vkey).then(|| Next::Overlap {
            change: overlap(origin, new, old, node),
            seen: origin.signing_keys(),
        });
    }
    if let Some(old) = origin
        .signing()
        .find(|it| it.state == SignerState::Overlapping)
    {
        let began = origin.signing().filter_map(|it| it.activated_at_ms).max()?;
        let hours = i64::from(service.config.rotation_overlap_hours);
        let until = began.saturating_add(hours.saturating_mul(HOUR_MS));
        return (wall_ms >= until).then(|| {
            Next::Retire(SignerRetired {
                origin: origin.origin.clone(),
                key_id: old.key_id.clone(),
                by: node.clone(),
                why: format!("its planned rotation is over: both keys signed for {hours} h"),
            })
        });
    }
    due(service, origin, wall_ms)
}

/// The newest key that may sign where every key of its algorithm was revoked: a person's order took them away, and the origin goes on with the next.
fn replacement(
    origin: &Origin,
    algorithm: &str,
    listed: &BTreeSet<String>,
    node: &str,
) -> Option<Next> {
    let may =
        |it: &&Signer| it.algorithm == algorithm && it.is_ready() && listed.contains(&it.vkey);
    let new = origin.signers.iter().rev().find(may)?;
    let mut active = origin.signing_keys();
    active.push(new.key_id.clone());
    Some(Next::Overlap {
        change: SignersActivated {
            origin: origin.origin.clone(),
            active,
            overlapping: Vec::new(),
            reason: ActivationReason::Ordered.into(),
            by: node.to_owned(),
            why: format!(
                "key {} signs, for orders took every other {algorithm} key away",
                new.key_id
            ),
        },
        seen: origin.signing_keys(),
    })
}

/// An active key that is too old or was used too often. One of another provider than the preferred one stands in for a failure and is not replaced by itself.
fn due(service: &Service, origin: &Origin, wall_ms: i64) -> Option<Next> {
    let preferred = service.node.keys.sealing_providers().into_iter().next()?;
    let signer = active(origin).filter(|it| it.provider == preferred)?;
    let old = due_at_ms(service, signer).is_some_and(|at| wall_ms >= at);
    let used = uses_left(service, signer) == Some(0);
    let why = if old {
        let config = &service.config;
        let age = match config.rotate_after_days {
            0 => format!("{} s", config.rotate_after_s),
            days => format!("{days} days"),
        };
        format!("key {} is older than {age}", signer.key_id)
    } else if used {
        format!(
            "key {} has signed {} checkpoints",
            signer.key_id, signer.uses
        )
    } else {
        return None;
    };
    Some(Next::Add {
        provider: preferred,
        why,
    })
}

/// The Ed25519 key that signs and is not to be retired.
fn active(origin: &Origin) -> Option<&Signer> {
    origin
        .signing()
        .find(|it| it.state == SignerState::Active && it.algorithm == Algorithm::Ed25519.as_str())
}

fn overlap(origin: &Origin, new: &Signer, old: &Signer, node: &str) -> SignersActivated {
    let mut change = instead(origin, new, old);
    change.overlapping.push(old.key_id.clone());
    change.reason = ActivationReason::Rotation.into();
    let by = if new.added_by.is_empty() {
        node
    } else {
        &new.added_by
    };
    by.clone_into(&mut change.by);
    change.why = format!(
        "planned rotation: key {} replaces key {}, which signs beside it until it is retired",
        new.key_id, old.key_id
    );
    change
}

/// The keys that sign when `new` is active in place of `old`.
fn instead(origin: &Origin, new: &Signer, old: &Signer) -> SignersActivated {
    let of = |state: SignerState| -> Vec<String> {
        let those = origin
            .signing()
            .filter(|it| it.state == state && it.key_id != old.key_id && it.key_id != new.key_id);
        those.map(|it| it.key_id.clone()).collect()
    };
    let mut active = of(SignerState::Active);
    active.push(new.key_id.clone());
    SignersActivated {
        origin: origin.origin.clone(),
        active,
        overlapping: of(SignerState::Overlapping),
        ..SignersActivated::default()
    }
}

/// Begins a planned rotation by a person's word.
pub(crate) async fn rotate(
    service: &Service,
    person: &str,
    why: &str,
) -> Result<KeyChangeResponse, Status> {
    let origin = current(service).await?;
    let preferred = preferred(service)?;
    if let Some((new, old)) = origin.planned() {
        return Ok(answer(
            &origin,
            format!(
                "key {} waits to replace key {} already: until a published trust bundle lists it",
                new.key_id, old.key_id
            ),
        ));
    }
    if let Some(old) = origin
        .signing()
        .find(|it| it.state == SignerState::Overlapping)
    {
        return Err(Status::failed_precondition(format!(
            "key {} of the last rotation still signs beside its successor; rotate again when it is retired",
            old.key_id
        )));
    }
    if active(&origin).is_none_or(|it| it.provider != preferred) {
        return Err(Status::failed_precondition(format!(
            "the {preferred} provider does not sign now, and a rotation happens there: fail back first"
        )));
    }
    let why = if why.is_empty() {
        "planned rotation"
    } else {
        why
    };
    let added = signers::add(service, &origin, &preferred, (person, why)).await;
    let added =
        added.map_err(|error| Status::unavailable(format!("no key was made: {error:#}")))?;
    let origin = current(service).await?;
    Ok(answer(
        &origin,
        format!(
            "key {} was made in the {preferred} provider; it signs as soon as a published trust bundle lists it, the old key beside it for {} h",
            added.key_id, service.config.rotation_overlap_hours
        ),
    ))
}

/// Lets the key of a provider sign again, by a person's word, after the provider answered a probe.
pub(crate) async fn fail_back(
    service: &Service,
    person: &str,
    provider: &str,
    why: &str,
) -> Result<KeyChangeResponse, Status> {
    let providers = service.node.keys.sealing_providers();
    let provider = if provider.is_empty() {
        preferred(service)?
    } else {
        provider.to_owned()
    };
    if !providers.contains(&provider) {
        return Err(Status::invalid_argument(format!(
            "{provider:?} is no provider of the failover set; it has {}",
            providers.join(", ")
        )));
    }
    let origin = current(service).await?;
    if active(&origin).is_some_and(|it| it.provider == provider) {
        return Ok(answer(
            &origin,
            format!("a key of the {provider} provider signs already"),
        ));
    }
    probe(service, &provider).await?;
    let listed = service.listed.keys(&service.node.board);
    let mut refusal = None;
    let outcome = service
        .control
        .lock()
        .await
        .execute(Meta::person(person), |log| {
            let change = log
                .current()
                .ok_or_else(|| "the log has no origin".to_owned())
                .and_then(|origin| {
                    let change = back(origin, &provider, |vkey| listed.contains(vkey))?;
                    Ok((origin.signing_keys(), change))
                });
            let (seen, mut change) = match change {
                Ok(change) => change,
                Err(reason) => {
                    refusal = Some(reason);
                    return Ok(Vec::new());
                }
            };
            person.clone_into(&mut change.by);
            if !why.is_empty() {
                why.clone_into(&mut change.why);
            }
            let node = service.node.name.clone();
            let command = Command::ActivateSigners { node, seen, change };
            decider(&command, service.node.clock.now())(log)
        })
        .await;
    if let Some(reason) = refusal {
        return Err(Status::failed_precondition(reason));
    }
    let executed = outcome.map_err(|error| match error {
        ExecuteError::Rejected(rejection) => Status::failed_precondition(rejection.reason),
        error @ (ExecuteError::Unavailable(_)
        | ExecuteError::Unknown(_)
        | ExecuteError::Illegal(_)
        | ExecuteError::Decode(_)
        | ExecuteError::Broken(_)) => Status::unavailable(format!("not failed back: {error}")),
    })?;
    service.node.board.reached(executed.position).await;
    tracing::warn!(
        origin = origin.origin,
        provider,
        person,
        "a person failed back"
    );
    let origin = current(service).await?;
    Ok(answer(
        &origin,
        format!("a key of the {provider} provider signs from the next batch on"),
    ))
}

/// The newest key of the provider that may sign and that verifiers know, in place of the one that does.
fn back(
    origin: &Origin,
    provider: &str,
    is_listed: impl Fn(&str) -> bool,
) -> Result<SignersActivated, String> {
    let of_provider = |it: &&Signer| {
        it.provider == provider && it.algorithm == Algorithm::Ed25519.as_str() && it.is_ready()
    };
    let keys: Vec<&Signer> = origin.signers.iter().filter(of_provider).collect();
    let newest = keys.last().ok_or_else(|| {
        format!(
            "the {provider} provider has no key that may sign for {}",
            origin.origin
        )
    })?;
    let listed = keys.iter().rev().find(|it| is_listed(&it.vkey));
    let key = listed.ok_or_else(|| {
        format!(
            "no published trust bundle lists key {} yet, so its signatures could not be verified",
            newest.key_id
        )
    })?;
    let mut change = match active(origin) {
        Some(old) => instead(origin, key, old),
        None => instead(origin, key, key),
    };
    // A planned rotation that the outage cut short goes on: whoever has a bundle from before it knows only the older key.
    for older in keys.iter().filter(|it| it.activated_at_ms.is_some()) {
        let signs = change.active.contains(&older.key_id);
        if !signs && !change.overlapping.contains(&older.key_id) {
            change.overlapping.push(older.key_id.clone());
        }
    }
    change.reason = ActivationReason::Failback.into();
    change.why = format!("the {provider} provider is preferred and answered a probe");
    Ok(change)
}

/// Probes until calls go to the provider again: where its breaker still kept them from it, the next batch would fail over at once.
async fn probe(service: &Service, provider: &str) -> Result<(), Status> {
    let keys = service.node.keys.as_ref();
    let probing = async {
        loop {
            keys.probe(provider).await?;
            if service.is_asked(provider) {
                return Ok::<(), KeyError>(());
            }
        }
    };
    let probed = tokio::time::timeout(PROBE, probing).await;
    let refused = |reason: String| {
        Err(Status::failed_precondition(format!(
            "the {provider} provider does not answer a probe, so nothing is changed: {reason}"
        )))
    };
    match probed {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => refused(error.to_string()),
        Err(_elapsed) => refused(format!(
            "it was not well within {} s; `sealwarden keys list` shows its breaker",
            PROBE.as_secs()
        )),
    }
}

fn preferred(service: &Service) -> Result<String, Status> {
    let providers = service.node.keys.sealing_providers();
    let first = providers.into_iter().next();
    first.ok_or_else(|| Status::internal("no provider of sealing keys is configured"))
}

async fn current(service: &Service) -> Result<Origin, Status> {
    let mut control = service.control.lock().await;
    let refreshed = control.refresh().await.context("reading the log line");
    refreshed.map_err(|error| Status::unavailable(format!("{error:#}")))?;
    let current = control.state().current().cloned();
    current.ok_or_else(|| Status::unavailable("the log is starting"))
}

fn answer(origin: &Origin, text: String) -> KeyChangeResponse {
    let of = |state: SignerState| -> Vec<String> {
        let those = origin.signing().filter(|it| it.state == state);
        those.map(|it| it.key_id.clone()).collect()
    };
    KeyChangeResponse {
        origin: origin.origin.clone(),
        active: of(SignerState::Active),
        overlapping: of(SignerState::Overlapping),
        text,
    }
}
