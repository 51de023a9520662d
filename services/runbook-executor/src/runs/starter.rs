//! Starts a run when an incident is classified with a runbook, and links it. Derived from the log, so it is done once whatever happens in between.

use std::collections::{BTreeMap, BTreeSet};

use sealwarden_domain::fold::event;
use sealwarden_domain::incident::{Command as IncidentCommand, Incident};
use sealwarden_domain::run::{Command, RunState, decide};
use sealwarden_engine::ExecuteError;
use sealwarden_telemetry::with_parent;
use sealwarden_wire::event::v1::{RunLinked, RunStarted};
use tracing::Instrument as _;

use super::{pinned_plan, trace_of};
use crate::actions::vendor::NOBODY;
use crate::environment::{of_approvals, rfc3339};
use crate::executor::Executor;

/// Remembers what cannot be started, so that it is reported once.
#[derive(Debug, Default)]
pub(super) struct Starter {
    refused: BTreeSet<(String, String, i64)>,
}

/// The run of an incident.
fn run_id(incident: &str) -> String {
    format!("R-{}", incident.strip_prefix("I-").unwrap_or(incident))
}

impl Starter {
    /// Starts every run that is due; says whether something should be tried again soon.
    pub(super) async fn start_due(&mut self, executor: &Executor) -> bool {
        let due: Vec<(String, Incident)> = executor.node.board.read(|installation| {
            installation
                .open_incidents()
                .filter(|(id, incident)| {
                    let fresh = |key| !self.refused.contains(&key);
                    incident.runs.is_empty() && classification(id, incident).is_some_and(fresh)
                })
                .map(|(id, incident)| (id.clone(), incident.clone()))
                .collect()
        });
        let mut retry = false;
        for (id, incident) in due {
            let span = with_parent(
                trace_of(&executor.node, "incident", &id).await.as_deref(),
                tracing::info_span!("start run", incident = id),
            );
            match start(executor, &id, &incident).instrument(span).await {
                Ok(()) => {}
                Err(ExecuteError::Unavailable(reason) | ExecuteError::Unknown(reason)) => {
                    tracing::warn!(incident = id, reason, "the run cannot be started now");
                    retry = true;
                }
                Err(error) => {
                    tracing::error!(incident = id, %error, "no run is started for the incident; a person must answer it");
                    self.refused.extend(classification(&id, &incident));
                }
            }
        }
        retry
    }
}

/// What a start depends on.
fn classification(id: &str, incident: &Incident) -> Option<(String, String, i64)> {
    let class = incident
        .classified
        .as_ref()
        .filter(|class| !class.runbook.is_empty())?;
    Some((
        id.to_owned(),
        class.runbook.clone(),
        class.compromised_since_ms,
    ))
}

async fn start(executor: &Executor, id: &str, incident: &Incident) -> Result<(), ExecuteError> {
    let run = run_id(id);
    let runbook = incident
        .classified
        .as_ref()
        .map(|class| class.runbook.clone())
        .unwrap_or_default();
    let meta = executor.node.meta().correlated(id);
    let mut stream = executor.node.stream::<RunState>("run", &run).await?;
    if stream.state().pinned().is_none() {
        let started = first_event(executor, &run, id, incident)?;
        let executed = stream
            .execute(meta, |state| {
                if state.pinned().is_some() {
                    return Ok(Vec::new()); // another executor was first
                }
                let command = Command::Start(Box::new(started.clone()));
                Ok(decide(state, command, executor.node.clock.now())?
                    .into_iter()
                    .map(event)
                    .collect())
            })
            .await?;
        if !executed.events.is_empty() {
            tracing::info!(incident = id, run, runbook, "a run is started");
        }
    }
    executor
        .incident(id, IncidentCommand::LinkRun(RunLinked { run, runbook }))
        .await?;
    Ok(())
}

fn first_event(
    executor: &Executor,
    run: &str,
    id: &str,
    incident: &Incident,
) -> Result<RunStarted, ExecuteError> {
    let (plan, class) = (
        &executor.node.plan,
        incident.classified.clone().unwrap_or_default(),
    );
    let unusable = |what: String| {
        ExecuteError::Broken(format!("{what}; correct the plan and restart the executor"))
    };
    let runbook = plan
        .runbook(&class.runbook)
        .ok_or_else(|| unusable(format!("the plan has no runbook {:?}", class.runbook)))?;
    let plan_text = pinned_plan::text(plan.plan(), runbook.class())
        .ok_or_else(|| unusable(format!("the plan has no class {:?}", runbook.class())))?;
    let roster = executor.node.roster();
    Ok(RunStarted {
        run: run.to_owned(),
        incident: id.to_owned(),
        runbook: runbook.name().to_owned(),
        runbook_digest: runbook.digest_hex(),
        runbook_text: runbook.source().to_owned(),
        roster_digest: roster.digest_hex(),
        roster_text: roster.to_yaml(),
        plan_text,
        installation: executor.node.installation.clone(),
        environment: of_approvals(&executor.node).as_str().to_owned(),
        requesters: incident.requesters(),
        facts: with_vendor(executor, facts(id, incident)),
    })
}

/// Adds who stands in for the vendor, and, since a vendor's failure names no log, the log and origin of an installation that has one.
fn with_vendor(
    executor: &Executor,
    mut facts: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let Some(vendor) = facts.get("incident.vendor") else {
        return facts;
    };
    let vendors = executor.node.plan.vendors();
    let fallback = vendors.and_then(|it| it.get(vendor)?.fallback.clone());
    let fallback = fallback.unwrap_or_else(|| NOBODY.to_owned());
    facts.insert("incident.fallback".to_owned(), fallback);
    let only = executor.node.board.read(|all| {
        let (name, log) = all.logs.iter().next().filter(|_| all.logs.len() == 1)?;
        Some((name.clone(), log.current()?.origin.clone()))
    });
    if let Some((log, origin)) = only {
        facts.entry("incident.log".to_owned()).or_insert(log);
        facts.entry("incident.origin".to_owned()).or_insert(origin);
    }
    facts
}

/// What `${incident.…}` stands for. Without a classified time the earliest thing that a signal saw is the earliest possible compromise.
fn facts(id: &str, incident: &Incident) -> BTreeMap<String, String> {
    let opened = incident.opened.clone().unwrap_or_default();
    let class = incident.classified.clone().unwrap_or_default();
    let since = if class.compromised_since_ms == 0 {
        opened.earliest_at_ms
    } else {
        class.compromised_since_ms
    };
    let about = |what: &str| opened.subject.strip_prefix(what).unwrap_or_default();
    let (archive, verifier) = (about("archive "), about("verifier "));
    let vendor = about("vendor ");
    let facts = [
        ("incident.id", id.to_owned()),
        ("incident.archive", archive.to_owned()),
        ("incident.verifier", verifier.to_owned()),
        ("incident.vendor", vendor.to_owned()),
        ("incident.log", opened.log),
        ("incident.origin", opened.origin),
        ("incident.class", class.class),
        ("incident.key", opened.key),
        ("incident.compromised_since", rfc3339(since)),
    ];
    facts
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
