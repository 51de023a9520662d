//! `status`: what runs, in which mode, and what is open.

use std::time::Duration;

use sealwarden_wire::control::v1::{StatusRequest, StatusResponse};
use sealwarden_wire::seal::v1 as seal;
use serde_json::json;

use super::keys::certified::Certified;
use super::{Answer, client};
use crate::cli::Cli;
use crate::client::Client;
use crate::failure::Ending;
use crate::output;

/// How long a sealing node may take to answer; a suspended one never does.
const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) async fn run(cli: &Cli) -> Answer {
    let client = client(cli)?;
    let control = client
        .control()
        .await?
        .status(StatusRequest {})
        .await?
        .into_inner();
    let sealing = tokio::time::timeout(PATIENCE, sealing_status(&client))
        .await
        .ok()
        .flatten();
    let certified = Certified::ask(&client).await;
    if cli.json {
        output::json(&json!({
            "seal_certificates": certified.as_json(),
            "installation": control.installation, "environment": control.environment,
            "set_aside": control.set_aside.iter().map(|it| json!({ "stream": it.stream, "reason": it.reason })).collect::<Vec<_>>(),
            "roster_findings": control.roster_findings,
            "trust_version": control.trust_version, "open_incidents": control.open_incidents, "open_runs": control.open_runs,
            "sealing": sealing.as_ref().map(|s| json!({
                "node": s.node, "log": s.log, "origin": s.origin, "size": s.size, "mode": s.mode, "reason": s.reason, "permit": s.permit, "queued": s.queued, "tickets": s.tickets, "ticket_bytes": s.ticket_bytes,
                "providers": s.providers.iter().map(|p| json!({
                    "provider": p.provider, "breaker": p.breaker, "reason": p.reason, "since_ms": p.since_ms, "latency_ms": Some(p.latency_ms).filter(|ms| *ms >= 0), "last_failure": p.last_failure,
                })).collect::<Vec<_>>(),
                "anchors": s.anchors.iter().map(|a| json!({ "name": a.name, "url": a.url, "size": a.size, "time_ms": a.time_ms, "failing": a.failing, "failures": a.failures, "next_ms": a.next_ms })).collect::<Vec<_>>(),
                "witnesses": s.witnesses.iter().map(|w| json!({ "name": w.name, "operator": w.operator, "local": w.local, "url": w.url, "size": w.size, "time_ms": w.time_ms, "failing": w.failing })).collect::<Vec<_>>(),
            })),
            "logs": control.logs.iter().map(|l| json!({
                "log": l.log, "origin": l.origin, "size": l.size, "mode": l.mode, "epoch": l.epoch, "permit_holder": l.permit_holder,
                "origins": l.origins.iter().map(|o| json!({
                    "origin": o.origin, "vkey": o.vkey, "key_id": o.key_id, "provider": o.provider, "node": o.node, "state": o.state,
                    "opened_at_ms": o.opened_at_ms, "compromised_since_ms": o.compromised_since_ms,
                })).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
            "nodes": control.nodes.iter().map(|n| json!({
                "node": n.node, "role": n.role, "grpc": n.grpc_url, "http": n.http_url, "vkey": n.vkey,
            })).collect::<Vec<_>>(),
        }));
        return Ok(ending(&control));
    }
    output::line(&format!(
        "installation {} ({}), trust bundle version {}",
        control.installation, control.environment, control.trust_version
    ));
    match &sealing {
        Some(s) => {
            let reason = if s.reason.is_empty() {
                String::new()
            } else {
                format!(": {}", s.reason)
            };
            output::line(&format!(
                "sealing {} into {} ({} seals), mode {}{reason}",
                s.node, s.origin, s.size, s.mode
            ));
            providers(s);
            if s.tickets > 0 {
                output::line(&format!(
                    "{} requests wait in the durable queue; they are sealed in order when signing returns",
                    s.tickets
                ));
            }
            outside(s);
        }
        None => {
            output::line("sealing does not answer; its node is down, suspended or not reachable");
        }
    }
    for line in certified.lines() {
        output::line(&line);
    }
    output::line(&format!(
        "{} open incidents, {} open runs",
        control.open_incidents, control.open_runs
    ));
    let mut rows = vec![["NODE", "ROLE", "GRPC", "HTTP"].map(str::to_owned).to_vec()];
    rows.extend(control.nodes.iter().map(|n| {
        vec![
            n.node.clone(),
            n.role.clone(),
            n.grpc_url.clone(),
            n.http_url.clone(),
        ]
    }));
    output::table(&rows);
    for it in &control.set_aside {
        output::line(&format!(
            "SET ASIDE {}: {}; nothing is decided on it any more, everything else goes on",
            it.stream, it.reason
        ));
    }
    for finding in &control.roster_findings {
        output::line(&format!("ROSTER {finding}"));
    }
    Ok(ending(&control))
}

/// A stream that cannot be used is something to look at, and so is a roster that is not the one in force.
fn ending(control: &StatusResponse) -> Ending {
    if control.set_aside.is_empty() && control.roster_findings.is_empty() {
        Ending::Good
    } else {
        Ending::Negative
    }
}

/// The failover set: only where there is one, or something is wrong with the only provider.
fn providers(sealing: &seal::StatusResponse) {
    let is_well = |it: &seal::ProviderStatus| it.breaker == "closed" && it.reason.is_empty();
    if sealing.providers.len() < 2 && sealing.providers.iter().all(is_well) {
        return;
    }
    for it in &sealing.providers {
        let signs = |key: &&seal::KeyStatus| {
            key.origin == sealing.origin
                && key.provider == it.provider
                && (key.duty == "active" || key.duty == "overlapping")
        };
        let signing = sealing.keys.iter().filter(signs);
        let names: Vec<_> = signing.map(|key| key.key_id.as_str()).collect();
        let duty = if names.is_empty() {
            "stands by".to_owned()
        } else {
            format!("signs with {}", names.join(", "))
        };
        let latency = if it.latency_ms >= 0 {
            format!(", last call {} ms", it.latency_ms)
        } else {
            String::new()
        };
        let reason = if it.reason.is_empty() {
            String::new()
        } else {
            format!(": {}", it.reason)
        };
        output::line(&format!(
            "key provider {} {duty}, breaker {}{latency}{reason}",
            it.provider, it.breaker
        ));
    }
}

/// The sealing node's own word; none if it is away.
async fn sealing_status(client: &Client) -> Option<seal::StatusResponse> {
    let mut sealing = client.sealing().await.ok()?;
    let answer = sealing.status(seal::StatusRequest {}).await.ok()?;
    Some(answer.into_inner())
}

/// How those are doing who date the log from outside.
fn outside(s: &seal::StatusResponse) {
    for it in &s.anchors {
        let dated = if it.size == 0 {
            "has dated nothing yet".to_owned()
        } else {
            format!("dated size {} at {}", it.size, output::time(it.time_ms))
        };
        let trouble = if it.failing.is_empty() {
            String::new()
        } else {
            format!(
                "; FAILS ({} times): {}; asked again at {}",
                it.failures,
                it.failing,
                output::time(it.next_ms)
            )
        };
        output::line(&format!("anchors by {}: {dated}{trouble}", it.name));
    }
    for it in &s.witnesses {
        let whose = if it.local { "local" } else { "outside" };
        let trouble = if it.failing.is_empty() {
            String::new()
        } else {
            format!("; FAILS: {}", it.failing)
        };
        output::line(&format!(
            "witness {} of {} ({whose}): cosigned size {}{trouble}",
            it.name, it.operator, it.size
        ));
    }
}
