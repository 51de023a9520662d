//! `status`: what runs, in which mode, and what is open.

use sealwarden_wire::control::v1::StatusRequest;
use sealwarden_wire::seal::v1 as seal;
use serde_json::json;

use super::{Answer, client};
use crate::cli::Cli;
use crate::failure::Ending;
use crate::output;

pub(crate) async fn run(cli: &Cli) -> Answer {
    let client = client(cli)?;
    let control = client
        .control()
        .await?
        .status(StatusRequest {})
        .await?
        .into_inner();
    let sealing = match client.sealing().await {
        Ok(mut sealing) => sealing
            .status(seal::StatusRequest {})
            .await
            .map(tonic::Response::into_inner)
            .ok(),
        Err(_) => None,
    };
    if cli.json {
        output::json(&json!({
            "installation": control.installation, "environment": control.environment,
            "trust_version": control.trust_version, "open_incidents": control.open_incidents, "open_runs": control.open_runs,
            "sealing": sealing.as_ref().map(|s| json!({
                "node": s.node, "log": s.log, "origin": s.origin, "size": s.size, "mode": s.mode, "reason": s.reason, "permit": s.permit, "queued": s.queued,
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
        return Ok(Ending::Good);
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
        }
        None => output::line("sealing does not answer"),
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
    Ok(Ending::Good)
}
