//! `incident list | show | classify | hand-over`, `obligations | told | regime | material`, and `notices | brief | ack | tell`

pub(crate) mod obligations;
pub(crate) mod ownership;
pub(crate) mod told;

use sealwarden_wire::incident::v1 as wire;
use serde_json::{Value, json};

use super::{Answer, client, time_argument};
use crate::cli::{Cli, Incident};
use crate::failure::Ending;
use crate::output::{self, span, time};

pub(crate) async fn run(cli: &Cli, what: &Incident) -> Answer {
    let mut incidents = client(cli)?.incidents().await?;
    match what {
        Incident::List { open } => {
            let list = incidents
                .list(wire::ListRequest { open_only: *open })
                .await?
                .into_inner()
                .incidents;
            if cli.json {
                output::json(
                    &json!({ "incidents": list.iter().map(document).collect::<Vec<_>>() }),
                );
            } else {
                show_list(&list);
            }
        }
        Incident::Show { id } => {
            let incident = incidents
                .show(wire::ShowRequest {
                    incident: id.clone(),
                })
                .await?
                .into_inner();
            show(cli, &incident);
        }
        Incident::Classify {
            id,
            class,
            compromised_since,
            reason,
        } => {
            let since = match compromised_since {
                Some(text) => time_argument("compromised-since", text)?,
                None => 0,
            };
            let request = wire::ClassifyRequest {
                incident: id.clone(),
                class: class.clone(),
                compromised_since_ms: since,
                reason: reason.clone(),
            };
            let incident = incidents.classify(request).await?.into_inner();
            show(cli, &incident);
        }
        Incident::Ownership(what) => return ownership::run(cli, what).await,
        Incident::Duties(what) => return obligations::run(cli, what).await,
        Incident::Told(what) => return told::run(cli, what).await,
    }
    Ok(Ending::Good)
}

fn show_list(list: &[wire::Incident]) {
    if list.is_empty() {
        output::line("no incidents");
        return;
    }
    let head = [
        "INCIDENT",
        "STAGE",
        "CLASS",
        "SEVERITY",
        "OPENED (UTC)",
        "SUBJECT",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for i in list {
        rows.push(vec![
            i.incident.clone(),
            i.stage.clone(),
            if i.class.is_empty() {
                "unclassified".to_owned()
            } else {
                i.class.clone()
            },
            i.severity.clone(),
            time(i.opened_at_ms),
            i.subject.clone(),
        ]);
    }
    output::table(&rows);
}

fn show(cli: &Cli, i: &wire::Incident) {
    if cli.json {
        output::json(&document(i));
        return;
    }
    output::line(&format!("{}  {}", i.incident, i.title));
    let class = if i.class.is_empty() {
        "not classified yet"
    } else {
        &i.class
    };
    output::line(&format!(
        "stage {}, class {class}, severity {}",
        i.stage,
        or_dash(&i.severity)
    ));
    output::line(&format!(
        "opened {} UTC; earliest possible compromise {}",
        time(i.opened_at_ms),
        time(i.compromised_since_ms)
    ));
    if !i.owner.is_empty() {
        let since = time(i.owner_since_ms);
        output::line(&format!("owner {}, since {since} UTC", i.owner));
    }
    for target in &i.targets {
        let state = match target.actual_ms {
            -1 => "running".to_owned(),
            ms if ms <= target.target_ms => format!("{} (met)", span(ms)),
            ms => format!("{} (MISSED)", span(ms)),
        };
        output::line(&format!(
            "  {:<8} target {:<12} actual {state}",
            target.name,
            span(target.target_ms)
        ));
    }
    output::line("signals:");
    for s in &i.signals {
        let word = if s.proven { "proven" } else { "not proven" };
        output::line(&format!("  {} by {} ({word})", s.signal, s.detector));
        output::line(&format!("    seen:     {}", s.seen));
        output::line(&format!("    expected: {}", or_dash(&s.expected)));
    }
    if !i.runs.is_empty() {
        output::line(&format!("runs: {}", i.runs.join(", ")));
    }
    for bundle in &i.evidence {
        output::line(&format!("evidence: {bundle}"));
    }
    output::line("timeline (UTC):");
    for entry in &i.timeline {
        output::line(&format!(
            "  {}  {:<27} {}",
            time(entry.at_ms),
            entry.actor,
            entry.text
        ));
    }
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// An incident as JSON.
pub(crate) fn document(i: &wire::Incident) -> Value {
    json!({
        "incident": i.incident, "title": i.title, "subject": i.subject, "log": i.log, "origin": i.origin,
        "class": i.class, "severity": i.severity, "stage": i.stage,
        "opened_at_ms": i.opened_at_ms, "earliest_at_ms": i.earliest_at_ms, "compromised_since_ms": i.compromised_since_ms,
        "runs": i.runs, "evidence": i.evidence, "owner": i.owner, "owner_since_ms": i.owner_since_ms,
        "targets": i.targets.iter().map(|t| json!({ "name": t.name, "target_ms": t.target_ms, "actual_ms": t.actual_ms })).collect::<Vec<_>>(),
        "signals": i.signals.iter().map(|s| json!({
            "signal": s.signal, "detector": s.detector, "proven": s.proven, "seen": s.seen, "expected": s.expected, "reporter": s.reporter,
        })).collect::<Vec<_>>(),
        "timeline": i.timeline.iter().map(|t| json!({
            "at_ms": t.at_ms, "actor": t.actor, "text": t.text, "stream": t.stream, "position": t.position,
        })).collect::<Vec<_>>(),
    })
}
