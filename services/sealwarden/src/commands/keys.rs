//! `keys list`: the sealing log's keys.

use sealwarden_wire::seal::v1::StatusRequest;
use serde_json::json;

use super::{Answer, client};
use crate::cli::{Cli, Keys};
use crate::failure::Ending;
use crate::output::{self, time};

pub(crate) async fn run(cli: &Cli, what: &Keys) -> Answer {
    match what {
        Keys::List => list(cli).await,
    }
}

async fn list(cli: &Cli) -> Answer {
    let status = client(cli)?
        .sealing()
        .await?
        .status(StatusRequest {})
        .await?
        .into_inner();
    if cli.json {
        let keys: Vec<_> = status
            .keys
            .iter()
            .map(|k| json!({
                "key_id": k.key_id, "purpose": k.purpose, "state": k.state, "origin": k.origin, "provider": k.provider, "vkey": k.vkey, "created_at_ms": k.created_at_ms,
            }))
            .collect();
        output::json(&json!({ "keys": keys }));
        return Ok(Ending::Good);
    }
    let mut rows = vec![
        [
            "KEY",
            "PURPOSE",
            "STATE",
            "PROVIDER",
            "CREATED (UTC)",
            "VERIFIER KEY",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    rows.extend(status.keys.iter().map(|k| {
        vec![
            k.key_id.clone(),
            k.purpose.clone(),
            k.state.clone(),
            k.provider.clone(),
            time(k.created_at_ms),
            k.vkey.clone(),
        ]
    }));
    output::table(&rows);
    Ok(Ending::Good)
}
