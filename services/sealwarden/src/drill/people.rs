//! The people of a drill, played: each reads what a step will do, signs it with their own key, and sends it under their own certificate.

use std::collections::BTreeSet;

use anyhow::Context as _;
use sealwarden_domain::approval;
use sealwarden_wire::run::v1 as wire;
use ssh_key::PrivateKey;

use super::sandbox::Sandbox;
use crate::commands::approve::statement;
use crate::failure::Failure;

/// The run as it is now.
pub(crate) async fn look(sandbox: &Sandbox, run: &str) -> Result<wire::Run, Failure> {
    let mut runs = sandbox.client("operator")?.runs().await?;
    let request = wire::ShowRequest {
        run: run.to_owned(),
    };
    Ok(runs.show(request).await?.into_inner())
}

/// Plays everybody who is asked in the run as it was shown, once. Answers why the run is stuck, if it is.
pub(crate) async fn answer_all(
    sandbox: &Sandbox,
    shown: &wire::Run,
) -> Result<Option<String>, Failure> {
    let mut runs = sandbox.client("operator")?.runs().await?;
    if shown.state == "stuck" || shown.state == "failed" {
        let failed = shown.steps.iter().find(|s| !s.error.is_empty());
        return Ok(Some(failed.map_or(shown.reason.clone(), |s| {
            format!("step {}: {}", s.step, s.error)
        })));
    }
    for step in shown.steps.iter().filter(|s| asks(s)) {
        let request = wire::PrepareRequest {
            run: shown.run.clone(),
            step: step.step.clone(),
            decision: String::new(),
        };
        let prepared = match runs.prepare(request).await {
            Ok(prepared) => prepared.into_inner(),
            Err(status) if status.code() == tonic::Code::FailedPrecondition => continue, // it moved on meanwhile
            Err(status) => return Err(status.into()),
        };
        for person in chosen(&prepared, step) {
            // A refusal is on record and told by the timeline; the next look asks again.
            decide(sandbox, &prepared, &person).await?;
        }
    }
    Ok(None)
}

fn asks(step: &wire::Step) -> bool {
    step.state == "awaiting-approval" || step.state == "awaiting-person"
}

/// One person for each place of the quorum that is still open; nobody twice, nobody who asked for it.
fn chosen(prepared: &wire::PrepareResponse, step: &wire::Step) -> Vec<String> {
    let mut taken: BTreeSet<&str> = prepared.requesters.iter().map(String::as_str).collect();
    taken.extend(
        step.approvals
            .iter()
            .filter(|a| a.refused.is_empty())
            .map(|a| a.person.as_str()),
    );
    let mut people = Vec::new();
    for (role, count) in places(&prepared.missing) {
        for _ in 0..count {
            let free = prepared.approvers.iter().find(|a| {
                a.roles.iter().any(|r| r == role)
                    && !a.key_fingerprints.is_empty()
                    && !taken.contains(a.person.as_str())
            });
            if let Some(approver) = free {
                taken.insert(&approver.person);
                people.push(approver.person.clone());
            }
        }
    }
    people
}

/// `security-lead: 1, on-call-sre: 1` (or `role 1`) as pairs.
fn places(missing: &str) -> impl Iterator<Item = (&str, usize)> {
    missing.split(',').filter_map(|place| {
        let (role, count) = place.trim().rsplit_once(' ')?;
        Some((role.trim_end_matches(':'), count.parse().ok()?))
    })
}

async fn decide(
    sandbox: &Sandbox,
    prepared: &wire::PrepareResponse,
    person: &str,
) -> Result<bool, Failure> {
    let path = sandbox
        .data()
        .join("people")
        .join(person)
        .join("id_ed25519");
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let key = PrivateKey::from_openssh(text).context("reading a trial key")?;
    let statement = statement(prepared, false, person)?;
    let text = statement.to_string();
    let signature =
        approval::sign(&text, &key, statement.environment.namespace()).context("signing")?;
    let note = if prepared.manual {
        "done, as the instructions say (drill)".to_owned()
    } else {
        String::new()
    };
    let request = wire::ApproveRequest {
        statement: text,
        signature,
        note,
    };
    let answer = sandbox
        .client(person)?
        .runs()
        .await?
        .approve(request)
        .await?
        .into_inner();
    Ok(answer.accepted)
}

/// A cheat: the same person approves the step a second time. Answers the refusal.
pub(crate) async fn approve_twice(
    sandbox: &Sandbox,
    run: &str,
    step: &str,
) -> Result<Option<String>, Failure> {
    let mut runs = sandbox.client("operator")?.runs().await?;
    let request = wire::PrepareRequest {
        run: run.to_owned(),
        step: step.to_owned(),
        decision: String::new(),
    };
    let Ok(prepared) = runs.prepare(request).await else {
        return Ok(None);
    };
    let prepared = prepared.into_inner();
    let shown = look(sandbox, run).await?;
    let Some(step) = shown.steps.into_iter().find(|s| s.step == step && asks(s)) else {
        return Ok(None);
    };
    let Some(person) = chosen(&prepared, &step).into_iter().next() else {
        return Ok(None);
    };
    if !decide(sandbox, &prepared, &person).await? {
        return Ok(None);
    }
    if decide(sandbox, &prepared, &person).await? {
        return Err(Failure::refused(format!(
            "{person} was counted twice for step {}",
            step.step
        )));
    }
    Ok(Some(person))
}
