//! The roster: who may approve with which keys, changing that, and revoking a key.

use sealwarden_domain::approval::{RevokedKeys, revoke};
use sealwarden_domain::fold::event;
use sealwarden_domain::roster::{Proposal, RosterLine, propose, sign};
use sealwarden_engine::{Meta, Node, ROSTER_FILE, RosterFile, Stream};
use sealwarden_runbook::{ApproverKey, Touch};
use sealwarden_wire::event::v1::{ApproverKeyRevoked, RosterDecided, RosterSignature};
use sealwarden_wire::run::v1::{
    DecideRosterRequest, DecideRosterResponse, ProposeRosterRequest, RevokeKeyRequest,
    RevokeKeyResponse, Roster, RosterKey, RosterPerson, RosterProposal,
};
use tonic::Status;

use super::absence;
use super::status::of_error;
use crate::environment::of_approvals;
use crate::executor::Executor;
use crate::revoking::tell_open_runs;

/// The roster of the installation's plan, and which of its keys count no more.
pub(super) fn shown(executor: &Executor) -> Roster {
    let node = &executor.node;
    let judged = node.judged_roster();
    let roster = &judged.roster;
    let (revoked, line) = node
        .board
        .read(|it| (it.trust.revoked_keys.clone(), it.trust.rosters.clone()));
    let now_ms = node.clock.now().wall_ms;
    let waiting = line.proposals().filter(|it| !it.is_over(now_ms));
    let text = line.in_force().filter(|it| it.number == judged.number);
    let away = |id: &str| line.away_at(now_ms).find(|it| it.person == id);
    let people = roster.people().iter().map(|person| RosterPerson {
        away_until_ms: away(&person.id).map_or(0, |it| it.until_ms),
        away_reason: away(&person.id).map_or_else(String::new, |it| it.reason.clone()),
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
        number: judged.number,
        text: text.map_or_else(|| roster.to_yaml(), |it| it.text.clone()),
        change_rule: roster.change_rule(),
        proposals: waiting.map(|it| of_proposal(&line, it, now_ms)).collect(),
        findings: findings(node),
    }
}

/// What does not fit around the roster now, in words: an event log that tells another story, a file that is not the roster in force.
pub(super) fn misfits(node: &Node) -> Vec<String> {
    let judged = node.judged_roster();
    let file = node
        .board
        .read(|it| RosterFile::look(&node.plan_dir, &judged, &it.trust.rosters));
    let unmet = absence::unmet(node, node.clock.now().wall_ms);
    let story = judged.finding.into_iter();
    story.chain(file.finding()).chain(unmet).collect()
}

/// The same, with the last thing that ever was written and counts for nothing.
fn findings(node: &Node) -> Vec<String> {
    let passed_over = node
        .board
        .read(|it| it.trust.rosters.passed_over().map(str::to_owned));
    let forged = passed_over.map(|what| {
        format!("the event log holds something of the roster that its people did not sign so; it counts for nothing: {what}")
    });
    misfits(node).into_iter().chain(forged).collect()
}

fn of_proposal(line: &RosterLine, it: &Proposal, now_ms: i64) -> RosterProposal {
    let proposed = it.proposed.clone();
    let now = line.in_force();
    let differences = now.map(|now| now.roster.differences(&it.roster));
    RosterProposal {
        number: proposed.number,
        from_digest: proposed.from_digest,
        digest: proposed.digest,
        text: proposed.text,
        reason: proposed.reason,
        proposed_by: proposed.proposed_by,
        expires_ms: proposed.expires_ms,
        differences: differences.unwrap_or_default(),
        approved_by: it.counted(line).map(|it| it.person.clone()).collect(),
        missing: it.missing(line).unwrap_or_default(),
        can_sign: it
            .can_sign(line)
            .into_iter()
            .filter(|person| line.away_at(now_ms).all(|it| it.person != *person))
            .collect(),
    }
}

/// The trust stream, as the roster's line. Nothing is decided on one that is not believed.
pub(super) async fn line_of(node: &Node) -> Result<Stream<RosterLine>, Status> {
    let stream = node
        .stream::<RosterLine>("trust", &node.installation)
        .await
        .map_err(|error| of_error(&error))?;
    match node.known_roster.judge(stream.state()).finding {
        Some(finding) => Err(Status::failed_precondition(finding)),
        None => Ok(stream),
    }
}

/// Records a proposal.
pub(super) async fn proposed(
    executor: &Executor,
    caller: &str,
    request: ProposeRosterRequest,
) -> Result<RosterProposal, Status> {
    let node = &executor.node;
    let mut stream = line_of(node).await?;
    let said = (request.text.as_str(), request.reason.as_str(), caller);
    stream
        .execute(Meta::person(caller), |line| {
            let events = propose(line, &node.plan, said, node.clock.now().wall_ms)?;
            Ok(events.into_iter().map(event).collect())
        })
        .await
        .map_err(|error| of_error(&error))?;
    let line = stream.state();
    let roster = sealwarden_runbook::Roster::parse(ROSTER_FILE, &request.text);
    let digest = roster.map(|it| it.digest()).unwrap_or_default();
    let now_ms = node.clock.now().wall_ms;
    let mut waiting = line.proposals().filter(|it| !it.is_over(now_ms));
    let found = waiting.find(|it| it.roster.digest() == digest);
    let found =
        found.ok_or_else(|| Status::aborted("the roster changed meanwhile; propose again"))?;
    tracing::warn!(
        digest = found.proposed.digest,
        caller,
        "a change of the roster is proposed"
    );
    Ok(of_proposal(line, found, now_ms))
}

/// Records a signed decision; with the last one the proposed roster is in force, and open runs are told which keys count no more.
pub(super) async fn decided(
    executor: &Executor,
    caller: &str,
    request: DecideRosterRequest,
) -> Result<DecideRosterResponse, Status> {
    let node = &executor.node;
    let mut stream = line_of(node).await?;
    let decided = RosterDecided {
        number: request.number,
        digest: request.digest.clone(),
        expires_ms: request.expires_ms,
        decision: request.decision,
        signed: Some(RosterSignature {
            person: request.person.clone(),
            key_fingerprint: String::new(),
            signature: request.signature,
        }),
    };
    let executed = stream
        .execute(Meta::person(caller), |line| {
            let events = sign(line, decided.clone(), node.clock.now().wall_ms)?;
            Ok(events.into_iter().map(event).collect())
        })
        .await
        .map_err(|error| of_error(&error))?;
    node.board.reached(executed.position).await;
    let line = stream.state();
    let in_force = line
        .at(request.number)
        .is_some_and(|it| it.roster.digest_hex() == request.digest);
    let proposal = line.find(request.number, &request.digest, request.expires_ms);
    tracing::warn!(
        digest = request.digest,
        person = request.person,
        in_force,
        caller,
        "a change of the roster is decided"
    );
    if in_force {
        tell_open_runs(executor, "").await;
    }
    Ok(DecideRosterResponse {
        in_force,
        denied: proposal.is_some_and(|it| it.is_over(node.clock.now().wall_ms)),
        missing: proposal.and_then(|it| it.missing(line)).unwrap_or_default(),
    })
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
            let events = revoke(known, &node.roster(), place, revoked.clone())?;
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
