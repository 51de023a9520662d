//! Directives: judged by this node's own plan, carried out, acknowledged with a note of this node.

use crate::enforce::{Enforced, Obstacle, enforce};
use crate::reseal::newer_stop;
use crate::service::Service;
use anyhow::Context as _;
use sealwarden_domain::approval::{
    DirectiveExpectation, Environment, Order, verify_directive, verify_snapshot,
};
use sealwarden_domain::incident::Incident;
use sealwarden_domain::log_control::{
    Command, DirectiveState, LogControl, acknowledgement_text, kind_name, refusal_text,
};
use sealwarden_engine::ExecuteError;
use sealwarden_runbook::DirectiveKind as PlanKind;
use sealwarden_wire::event::v1::{Directive, DirectiveKind};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Pause before a directive that could not be carried out is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// How long the live fold may take to reach a directive's place before that is tried again.
const CATCH_UP: Duration = Duration::from_secs(2);

/// Answers directives until shutdown.
pub(crate) async fn follow(service: &Arc<Service>) -> anyhow::Result<()> {
    let shutdown = service.node.shutdown.clone();
    let mut changes = service.node.board.changes();
    loop {
        changes.mark_unchanged();
        let pause = match answer_next(service).await {
            Ok(true) => continue,
            Ok(false) => None,
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "a directive waits to be carried out"
                );
                Some(AGAIN)
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = changes.changed(), if pause.is_none() => {}
            () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
        }
    }
}

/// Answers the oldest directive that this node has not answered; `false` if there is none.
async fn answer_next(service: &Arc<Service>) -> anyhow::Result<bool> {
    let node = &service.node.name;
    // The board takes an answer in our name for granted; what was folded here does not.
    let on_board = service.on_board(|log| log.unanswered(node).next().is_some());
    if !on_board.unwrap_or(false) {
        let control = service.control.lock().await;
        if control.state().unanswered(node).next().is_none() {
            return Ok(false);
        }
    }
    let (state, seen) = {
        let mut control = service.control.lock().await;
        control.refresh().await?;
        let Some(state) = control.state().unanswered(node).next().cloned() else {
            return Ok(false);
        };
        let seen = obeyed(control.state(), node, state.directive.epoch);
        (state, seen)
    };
    let DirectiveState {
        directive,
        position,
        ..
    } = state;
    // Everything recorded before the order is known then: the incident's reporters and evidence among it.
    let caught_up = service.node.board.reached(position);
    tokio::time::timeout(CATCH_UP, caught_up)
        .await
        .context("this node has not caught up with the event log")?;
    let (epoch, kind) = (directive.epoch, kind_name(directive.kind()));
    match judge(service, &directive, &seen) {
        Ok(()) => {
            tracing::warn!(
                epoch,
                kind,
                incident = directive.incident,
                "a directive is obeyed"
            );
            match enforce(service, &directive).await {
                Ok(enforced) => acknowledge(service, &directive, enforced).await?,
                Err(Obstacle::Refused(reason)) => refuse(service, epoch, reason).await?,
                Err(Obstacle::Later(error)) => {
                    // What cannot be done now must not stand before an order to stop. An isolation may: while it is open, it
                    // stops signing itself.
                    let newer = service
                        .on_board(|log| newer_stop(log, node, epoch))
                        .flatten();
                    let isolates = directive.kind() == DirectiveKind::IsolateKey;
                    let Some(newer) = newer.filter(|_| !isolates) else {
                        return Err(error);
                    };
                    let reason =
                        format!("directive {newer} came before it could be done: {error:#}");
                    refuse(service, epoch, reason).await?;
                }
            }
        }
        Err(reason) => refuse(service, epoch, reason).await?,
    }
    Ok(true)
}

/// Orders that this node has obeyed under other epochs.
fn obeyed(log: &LogControl, node: &str, epoch: u64) -> BTreeSet<Order> {
    log.directives
        .values()
        .filter(|state| state.directive.epoch != epoch && state.acks.contains_key(node))
        .map(|state| Order::from(&state.directive))
        .collect()
}

/// Whether this node obeys, by its own plan, roster and clock.
fn judge(service: &Service, directive: &Directive, seen: &BTreeSet<Order>) -> Result<(), String> {
    let node = &service.node;
    let kind = plan_kind(directive.kind())
        .ok_or_else(|| "the directive is of a kind that this node does not know".to_owned())?;
    let required = node.plan.plan().containment(kind).ok_or_else(|| {
        format!("this node's plan has no quorum for {kind}, so nobody can order it")
    })?;
    let requesters = node.board.read(|installation| {
        installation
            .incidents
            .get(&directive.incident)
            .map(Incident::requesters)
    });
    let validity = node.plan.plan().approval_validity().as_millis();
    let expected = DirectiveExpectation {
        installation: &node.installation,
        environment: match node.environment {
            sealwarden_eventlog::Environment::Production => Environment::Production,
            sealwarden_eventlog::Environment::Drill => Environment::Drill,
        },
        log: &service.config.log,
        roster: &node.roster_of(directive),
        required,
        max_validity_ms: i64::try_from(validity).unwrap_or(i64::MAX),
        now_ms: node.clock.now().wall_ms,
        max_skew_ms: service.config.directive_max_skew_ms,
        max_age_ms: service.config.directive_max_age_ms,
        seen,
        revoked: &node.board.read(|it| it.trust.revoked_keys.fingerprints()),
        requesters: &requesters.unwrap_or_default(),
    };
    verify_directive(directive, &expected).map_err(|refusal| refusal.to_string())?;
    match kind {
        PlanKind::RevokeKey | PlanKind::DestroyKey | PlanKind::RestoreKey => {
            snapshot(service, directive)
        }
        PlanKind::IsolateKey
        | PlanKind::ReadOnly
        | PlanKind::RotateOrigin
        | PlanKind::Reseal
        | PlanKind::Open
        | PlanKind::Queue
        | PlanKind::QueueNoncritical => Ok(()),
    }
}

/// Whether the evidence was sealed before a key's life is changed: by what the incident's stream holds and the installation's signing key signed.
fn snapshot(service: &Service, directive: &Directive) -> Result<(), String> {
    let board = &service.node.board;
    let signing = service.listed.signing(board);
    let signing = signing
        .ok_or("no trust bundle names the installation's signing key yet, so no evidence counts")?;
    let evidence = board.read(|installation| {
        let incident = installation.incidents.get(&directive.incident);
        incident.map(|it| it.evidence.clone()).unwrap_or_default()
    });
    verify_snapshot(directive, &evidence, &signing)
}

fn plan_kind(kind: DirectiveKind) -> Option<PlanKind> {
    match kind {
        DirectiveKind::Unspecified => None,
        DirectiveKind::IsolateKey => Some(PlanKind::IsolateKey),
        DirectiveKind::ReadOnly => Some(PlanKind::ReadOnly),
        DirectiveKind::RotateOrigin => Some(PlanKind::RotateOrigin),
        DirectiveKind::Reseal => Some(PlanKind::Reseal),
        DirectiveKind::Open => Some(PlanKind::Open),
        DirectiveKind::Queue => Some(PlanKind::Queue),
        DirectiveKind::QueueNoncritical => Some(PlanKind::QueueNoncritical),
        DirectiveKind::RevokeKey => Some(PlanKind::RevokeKey),
        DirectiveKind::DestroyKey => Some(PlanKind::DestroyKey),
        DirectiveKind::RestoreKey => Some(PlanKind::RestoreKey),
    }
}

async fn refuse(service: &Service, epoch: u64, reason: String) -> anyhow::Result<()> {
    tracing::warn!(epoch, reason, "a directive is refused");
    let node = service.node.name.clone();
    let directive = {
        let control = service.control.lock().await;
        control
            .state()
            .directives
            .get(&epoch)
            .map(|it| it.directive.clone())
    };
    let directive = directive.with_context(|| format!("directive {epoch} is not known"))?;
    let text = refusal_text(&service.node.installation, &node, &directive, &reason);
    let note = service.node.sign_note(&text).await?.to_string();
    let executed = service
        .execute(&Command::Refuse {
            epoch,
            node,
            reason,
            note,
        })
        .await?;
    service.node.board.reached(executed.position).await;
    Ok(())
}

/// Acknowledges with a note over the directive, the newest head, and what was done. For a stop the caller still holds the
/// release lock inside `enforced`, so the acknowledgement comes after the last signature.
async fn acknowledge(
    service: &Service,
    directive: &Directive,
    enforced: Enforced<'_>,
) -> anyhow::Result<()> {
    let node = &service.node;
    let head = {
        let mut control = service.control.lock().await;
        control.refresh().await?;
        control.head()
    };
    let text = acknowledgement_text(
        &node.installation,
        &node.name,
        directive,
        (head.position, &head.hash),
        &enforced.results,
    );
    let note = node
        .sign_note(&text)
        .await
        .context("signing the acknowledgement")?;
    let command = Command::Acknowledge {
        epoch: directive.epoch,
        node: node.name.clone(),
        note: note.to_string(),
        opened: enforced.opened,
        keys: enforced.keys,
    };
    let executed = match service.execute(&command).await {
        Err(ExecuteError::Rejected(rejection)) => {
            return refuse(service, directive.epoch, rejection.reason).await;
        }
        outcome => outcome.context("recording the acknowledgement")?,
    };
    drop(enforced.released);
    node.board.reached(executed.position).await;
    service.permit_wanted.notify_one();
    Ok(())
}
