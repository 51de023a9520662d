//! The roster: who may approve with which keys, and revoking one.

use sealwarden_domain::approval::{RevokedKeys, revoke};
use sealwarden_domain::fold::event;
use sealwarden_engine::Meta;
use sealwarden_runbook::{ApproverKey, Touch};
use sealwarden_wire::event::v1::ApproverKeyRevoked;
use sealwarden_wire::run::v1::{
    RevokeKeyRequest, RevokeKeyResponse, Roster, RosterKey, RosterPerson,
};
use tonic::Status;

use super::status::of_error;
use crate::environment::of_approvals;
use crate::executor::Executor;
use crate::revoking::tell_open_runs;

/// The roster of the installation's plan, and which of its keys count no more.
pub(super) fn shown(executor: &Executor) -> Roster {
    let node = &executor.node;
    let roster = node.plan.roster();
    let revoked = node.board.read(|it| it.trust.revoked_keys.clone());
    let people = roster.people().iter().map(|person| RosterPerson {
        person: person.id.clone(),
        name: person.name.clone(),
        roles: person.roles.iter().map(ToString::to_string).collect(),
        keys: person.keys.iter().map(|it| of_key(it, &revoked)).collect(),
    });
    Roster {
        installation: node.installation.clone(),
        environment: of_approvals(node).as_str().to_owned(),
        digest: roster.digest_hex(),
        people: people.collect(),
    }
}

fn of_key(key: &ApproverKey, revoked: &RevokedKeys) -> RosterKey {
    let revoked = revoked.get(&key.fingerprint).cloned().unwrap_or_default();
    let touch = match key.touch {
        Touch::Proven => "proven",
        Touch::Unproven => "unproven",
        Touch::Waived => "waived",
    };
    RosterKey {
        fingerprint: key.fingerprint.clone(),
        algorithm: key.public.algorithm().as_str().to_owned(),
        touch: touch.to_owned(),
        revoked_by: revoked.by,
        revoked_reason: revoked.reason,
    }
}

/// Records a revocation, and tells every open run.
pub(super) async fn revoked(
    executor: &Executor,
    caller: &str,
    request: RevokeKeyRequest,
) -> Result<RevokeKeyResponse, Status> {
    let node = &executor.node;
    let revoked = ApproverKeyRevoked {
        key_fingerprint: request.key_fingerprint,
        person: request.person,
        by: request.by,
        reason: request.reason,
        signature: request.signature,
    };
    let key = revoked.key_fingerprint.clone();
    let place = (node.installation.as_str(), of_approvals(node));
    let mut stream = node
        .stream::<RevokedKeys>("trust", &node.installation)
        .await
        .map_err(|error| of_error(&error))?;
    let executed = stream
        .execute(Meta::person(caller), |known| {
            let events = revoke(known, node.plan.roster(), place, revoked.clone())?;
            Ok(events.into_iter().map(event).collect())
        })
        .await
        .map_err(|error| of_error(&error))?;
    tracing::warn!(
        key,
        person = revoked.person,
        by = revoked.by,
        caller,
        "a key is revoked"
    );
    node.board.reached(executed.position).await;
    Ok(RevokeKeyResponse {
        runs: tell_open_runs(executor, &key).await,
    })
}
