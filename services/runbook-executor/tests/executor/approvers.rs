//! People who approve what is asked of them, over gRPC and with their own SSH keys.

use std::collections::BTreeSet;

use sealwarden_domain::approval::{Decision, Environment, Statement, sign};
use sealwarden_pki::{Caller, CallerName, CallerRole};
use sealwarden_wire::run::v1::runs_client::RunsClient;
use sealwarden_wire::run::v1::{
    ApproveRequest, ApproveResponse, PrepareRequest, PrepareResponse, Run, ShowRequest,
};
use tonic::service::Routes;
use tonic::{Request, Status};

use super::world::{RUN, World};

/// A request as the TLS layer hands it on.
pub(crate) fn called_by<T>(role: CallerRole, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let caller = Caller {
        name: CallerName::new("somebody").unwrap(),
        role,
        fingerprint: [0; 32],
    };
    request.extensions_mut().insert(caller);
    request
}

pub(crate) async fn show(routes: &Routes) -> Result<Run, Status> {
    let request = called_by(
        CallerRole::Operator,
        ShowRequest {
            run: RUN.to_owned(),
        },
    );
    Ok(RunsClient::new(routes.clone())
        .show(request)
        .await?
        .into_inner())
}

pub(crate) async fn prepare(routes: &Routes, step: &str) -> Result<PrepareResponse, Status> {
    let message = PrepareRequest {
        run: RUN.to_owned(),
        step: step.to_owned(),
        decision: String::new(),
    };
    let request = called_by(CallerRole::Operator, message);
    Ok(RunsClient::new(routes.clone())
        .prepare(request)
        .await?
        .into_inner())
}

pub(crate) async fn submit(
    routes: &Routes,
    statement: String,
    signature: String,
) -> Result<ApproveResponse, Status> {
    let message = ApproveRequest {
        statement,
        signature,
        note: "told on the telephone".to_owned(),
    };
    let request = called_by(CallerRole::Operator, message);
    Ok(RunsClient::new(routes.clone())
        .approve(request)
        .await?
        .into_inner())
}

/// The statement that a person would sign for a prepared step.
pub(crate) fn statement(prepared: &PrepareResponse, person: &str) -> Statement {
    Statement {
        installation: prepared.installation.clone(),
        environment: Environment::parse(&prepared.environment).unwrap(),
        incident: prepared.incident.clone(),
        run: prepared.run.clone(),
        step: prepared.step.clone(),
        iteration: prepared.iteration,
        runbook: prepared.runbook.clone(),
        runbook_digest: prepared.runbook_digest.clone(),
        inputs_digest: prepared.inputs_digest.clone(),
        roster_digest: prepared.roster_digest.clone(),
        decision: if prepared.manual {
            Decision::Confirm
        } else {
            Decision::Approve
        },
        approver: person.to_owned(),
        nonce: uuid::Uuid::new_v4().simple().to_string(),
        expires_s: jiff::Timestamp::now().as_second() + 600,
    }
}

/// One person approves.
pub(crate) async fn approve(
    world: &World,
    routes: &Routes,
    step: &str,
    person: &str,
) -> Result<ApproveResponse, Status> {
    let text = statement(&prepare(routes, step).await?, person).to_string();
    let signature = sign(&text, &world.people[person], Environment::Drill.namespace()).unwrap();
    submit(routes, text, signature).await
}

/// As many people approve as the step asks for, each once, none who asked for the run.
pub(crate) async fn approve_step(world: &World, routes: &Routes, step: &str) -> Result<(), Status> {
    let prepared = prepare(routes, step).await?;
    let mut used: BTreeSet<String> = prepared.requesters.iter().cloned().collect();
    let run = show(routes).await?;
    let counted = run
        .steps
        .iter()
        .find(|it| it.step == step)
        .unwrap()
        .approvals
        .iter()
        .filter(|it| it.refused.is_empty());
    // A life that died may have recorded what it did not answer.
    let mut roles: Vec<String> = counted
        .clone()
        .flat_map(|it| it.roles.iter().take(1).cloned())
        .collect();
    used.extend(counted.map(|it| it.person.clone()));
    for part in prepared.quorum.split(", ").filter(|part| !part.is_empty()) {
        let role = part.split(':').next().unwrap();
        if let Some(at) = roles.iter().position(|it| it == role) {
            roles.remove(at);
            continue;
        }
        let person = prepared
            .approvers
            .iter()
            .find(|it| !used.contains(&it.person) && it.roles.iter().any(|has| has == role))
            .map(|it| it.person.clone())
            .unwrap();
        used.insert(person.clone());
        match approve(world, routes, step, &person).await {
            Ok(answer) => assert!(
                answer.accepted || answer.code == "step-closed",
                "{answer:?}"
            ),
            Err(status) if status.code() == tonic::Code::FailedPrecondition => return Ok(()), // it runs already
            Err(status) => return Err(status),
        }
    }
    Ok(())
}

/// Approves whatever waits for people, until the run has ended.
pub(crate) async fn approve_all(world: &World, routes: &Routes) {
    let mut changes = world.board.changes();
    loop {
        changes.mark_unchanged();
        let run = match show(routes).await {
            Ok(run) => run,
            Err(status) if status.code() == tonic::Code::NotFound => Run::default(),
            Err(status) => panic!("{status}"),
        };
        assert_ne!(run.state, "stuck", "{}", run.reason);
        if run.ended_at_ms != 0 {
            return;
        }
        for step in &run.steps {
            if ["awaiting-approval", "awaiting-person"].contains(&step.state.as_str()) {
                approve_step(world, routes, &step.step).await.unwrap();
            }
        }
        changes.changed().await.unwrap();
    }
}
