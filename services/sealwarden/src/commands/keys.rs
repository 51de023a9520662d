//! `keys …`: the sealing log's keys, failing back to a provider, planned rotation, and asking for orders about one.

use sealwarden_wire::incident::v1::{ClassifyRequest, ReportRequest, ShowRequest};
use sealwarden_wire::seal::v1::{
    FailBackRequest, KeyChangeResponse, KeyStatus, RotateKeyRequest, StatusRequest,
};
use serde_json::{Value, json};

pub(crate) mod certificate;
pub(super) mod certified;
pub(crate) mod held;

use super::{Answer, client, time_argument};
use crate::cli::{Cli, KeyOrder, Keys};
use crate::failure::{Ending, Failure};
use crate::output::{self, time};

const DAY_MS: i64 = 24 * 3_600_000;

pub(crate) async fn run(cli: &Cli, what: &Keys) -> Answer {
    match what {
        Keys::List => list(cli).await,
        Keys::Certificate(what) => certificate::run(cli, what).await,
        Keys::Failback { log, to, why } => {
            let request = FailBackRequest {
                log: log.clone().unwrap_or_default(),
                provider: to.clone().unwrap_or_default(),
                why: why.clone(),
            };
            let mut sealing = client(cli)?.sealing().await?;
            tell(cli, &sealing.fail_back(request).await?.into_inner());
            Ok(Ending::Good)
        }
        Keys::Rotate { log, why } => {
            let request = RotateKeyRequest {
                log: log.clone().unwrap_or_default(),
                why: why.clone(),
            };
            let mut sealing = client(cli)?.sealing().await?;
            tell(cli, &sealing.rotate_key(request).await?.into_inner());
            Ok(Ending::Good)
        }
        Keys::Revoke { order, since } => {
            let since_ms = match since {
                Some(text) => time_argument("since", text)?,
                None => jiff::Timestamp::now().as_millisecond(),
            };
            ask(cli, order, "key-revocation", "revoke", since_ms).await
        }
        Keys::Destroy { order } => ask(cli, order, "key-destruction", "destroy", 0).await,
        Keys::Restore { order } => ask(cli, order, "key-restoration", "restore", 0).await,
    }
}

/// Reports and classifies an incident about the key, which begins the class's runbook. Whoever asks cannot approve.
async fn ask(cli: &Cli, order: &KeyOrder, class: &str, step: &str, since_ms: i64) -> Answer {
    let mut incidents = client(cli)?.incidents().await?;
    let request = ReportRequest {
        class: class.to_owned(),
        log: String::new(),
        origin: order.origin.clone().unwrap_or_default(),
        seen: order.why.clone(),
        expected: String::new(),
        earliest_at_ms: since_ms,
        checkpoint: Vec::new().into(),
        request_id: uuid::Uuid::new_v4().to_string(),
        key: order.key.clone(),
    };
    let reported = incidents.report(request).await?.into_inner();
    let incident = reported.incident.clone();
    let known = incidents.show(ShowRequest { incident }).await?.into_inner();
    if let Some(run) = known.runs.first() {
        return Err(Failure::refused(format!(
            "run {run} about this key is open since before: `sealwarden run show {run}` says what it waits for; retry or abort it, then ask again"
        )));
    }
    let request = ClassifyRequest {
        incident: reported.incident.clone(),
        class: class.to_owned(),
        compromised_since_ms: since_ms,
        reason: order.why.clone(),
    };
    incidents.classify(request).await?;
    let run = format!("R-{}", reported.incident.trim_start_matches("I-"));
    if cli.json {
        output::json(&json!({ "incident": reported.incident, "run": run, "step": step }));
        return Ok(Ending::Good);
    }
    output::line(&format!(
        "asked to {step} key {}: incident {}, run {run}; nothing is done before others approve",
        order.key, reported.incident
    ));
    output::line(&format!(
        "next: sealwarden approve {run} {step}   (by those whom `sealwarden run show {run}` names, and not by you)"
    ));
    Ok(Ending::Good)
}

fn tell(cli: &Cli, answer: &KeyChangeResponse) {
    if cli.json {
        output::json(&json!({
            "origin": answer.origin, "active": answer.active, "overlapping": answer.overlapping, "text": answer.text,
        }));
        return;
    }
    output::line(&answer.text);
    output::line(&format!(
        "{} is signed by {}",
        answer.origin,
        [answer.active.as_slice(), answer.overlapping.as_slice()]
            .concat()
            .join(" and ")
    ));
}

async fn list(cli: &Cli) -> Answer {
    let status = client(cli)?
        .sealing()
        .await?
        .status(StatusRequest {})
        .await?
        .into_inner();
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let certified = certified::Certified::ask(&client(cli)?).await;
    if cli.json {
        let keys: Vec<_> = status
            .keys
            .iter()
            .map(|key| {
                let mut value = as_json(key, now_ms);
                value["certificate"] = certified.of_key(key);
                value
            })
            .collect();
        output::json(&json!({ "keys": keys }));
        return Ok(Ending::Good);
    }
    let mut rows = vec![
        [
            "KEY",
            "PURPOSE",
            "DUTY",
            "STATE",
            "PROVIDER",
            "ALGORITHM",
            "CREATED (UTC)",
            "AGE",
            "USES",
            "ROTATION",
            "ATTESTATION",
            "CERTIFICATE",
            "VERIFIER KEY",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    rows.extend(
        status
            .keys
            .iter()
            .map(|key| row(key, certified.words(key), now_ms)),
    );
    output::table(&rows);
    Ok(Ending::Good)
}

fn as_json(key: &KeyStatus, now_ms: i64) -> Value {
    let rotation = json!({
        "due_at_ms": Some(key.rotation_due_at_ms).filter(|at| *at > 0),
        "uses_left": Some(key.rotation_uses_left).filter(|left| *left >= 0),
    });
    json!({
        "key_id": key.key_id, "purpose": key.purpose, "state": key.state, "origin": key.origin, "provider": key.provider, "vkey": key.vkey,
        "created_at_ms": key.created_at_ms, "age_ms": now_ms.saturating_sub(key.created_at_ms), "algorithm": key.algorithm, "duty": key.duty, "life": key.life,
        "uses": key.uses, "attestation": key.attestation, "listed": key.listed, "rotation": rotation,
    })
}

fn row(key: &KeyStatus, certificate: String, now_ms: i64) -> Vec<String> {
    let days = now_ms.saturating_sub(key.created_at_ms).max(0) / DAY_MS;
    let is_sealing = !key.origin.is_empty();
    let state = if is_sealing && key.life != "usable" {
        &key.life
    } else {
        &key.state
    };
    let or_dash = |text: &str| {
        if text.is_empty() {
            "-".to_owned()
        } else {
            text.to_owned()
        }
    };
    vec![
        key.key_id.clone(),
        key.purpose.clone(),
        or_dash(&key.duty),
        state.clone(),
        key.provider.clone(),
        key.algorithm.clone(),
        time(key.created_at_ms),
        format!("{days} d"),
        if is_sealing {
            key.uses.to_string()
        } else {
            "-".to_owned()
        },
        rotation(key),
        key.attestation.clone(),
        certificate,
        or_dash(&key.vkey),
    ]
}

fn rotation(key: &KeyStatus) -> String {
    let mut parts = Vec::new();
    if key.rotation_due_at_ms > 0 {
        parts.push(format!("by {}", time(key.rotation_due_at_ms)));
    }
    if key.rotation_uses_left >= 0 {
        parts.push(format!("in {} uses", key.rotation_uses_left));
    }
    if parts.is_empty() {
        return "-".to_owned();
    }
    parts.join(" or ")
}
