//! `keys …`: the sealing log's keys, failing back to a provider, planned rotation.

use sealwarden_wire::seal::v1::{
    FailBackRequest, KeyChangeResponse, KeyStatus, RotateKeyRequest, StatusRequest,
};
use serde_json::{Value, json};

pub(crate) mod certificate;
pub(super) mod certified;
pub(crate) mod held;

use super::{Answer, client};
use crate::cli::{Cli, Keys};
use crate::failure::Ending;
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
    }
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
