//! Who is away: taken in, and what follows for whom a step waits for and for the plan's quorums.

use sealwarden_domain::fold::event;
use sealwarden_domain::roster::absent;
use sealwarden_engine::{Meta, Node};
use sealwarden_wire::event::v1::PersonAway;
use sealwarden_wire::run::v1::{Run, SayAwayRequest, SayAwayResponse};
use tonic::Status;

use super::roster::line_of;
use super::status::of_error;
use crate::executor::Executor;

/// Records that somebody is away, or back.
pub(super) async fn said(
    executor: &Executor,
    caller: &str,
    request: SayAwayRequest,
) -> Result<SayAwayResponse, Status> {
    let node = &executor.node;
    let away = PersonAway {
        person: request.person,
        from_ms: request.from_ms,
        until_ms: request.until_ms,
        said_ms: request.said_ms,
        reason: request.reason,
        by: request.by,
        signature: request.signature,
    };
    let mut stream = line_of(node).await?;
    let executed = stream
        .execute(Meta::person(caller), |line| {
            let events = absent(line, away.clone(), node.clock.now().wall_ms)?;
            Ok(events.into_iter().map(event).collect())
        })
        .await
        .map_err(|error| of_error(&error))?;
    node.board.reached(executed.position).await;
    tracing::info!(
        person = away.person,
        until_ms = away.until_ms,
        by = away.by,
        caller,
        "an absence"
    );
    let unmet = if away.until_ms > away.from_ms {
        unmet(node, away.from_ms)
    } else {
        Vec::new()
    };
    Ok(SayAwayResponse { unmet })
}

/// Which quorums of the plan nobody can meet while those are away who are away then.
pub(super) fn unmet(node: &Node, at_ms: i64) -> Vec<String> {
    let (names, present) = node.board.read(|it| {
        let line = &it.trust.rosters;
        let away = line.away_at(at_ms);
        let names: Vec<String> = away.map(|it| it.person.clone()).collect();
        (names.join(", "), line.present(at_ms))
    });
    if names.is_empty() {
        return Vec::new();
    }
    let said = |what: &str| format!("while {names} is away: {what}");
    let Some(present) = present else {
        return vec![said("nobody of the roster is left")];
    };
    match (*node.plan).clone().with_roster(present) {
        Ok(_) => Vec::new(),
        Err(findings) => {
            let unmet = findings.iter().filter(|it| it.code == "quorum-unmet");
            unmet.map(|it| said(&it.message)).collect()
        }
    }
}

/// A run as people are told it: whom a step waits for is whom one can reach.
pub(super) fn without_absent(node: &Node, mut run: Run) -> Run {
    let now_ms = node.clock.now().wall_ms;
    let away: Vec<String> = node.board.read(|it| {
        let away = it.trust.rosters.away_at(now_ms);
        away.map(|it| it.person.clone()).collect()
    });
    for step in &mut run.steps {
        step.can_sign.retain(|person| !away.contains(person));
    }
    run
}
