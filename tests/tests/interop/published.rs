//! A log with some hundred seals, as anybody on the network sees it: a checkpoint, tiles, seals, verifier keys.

use sealwarden_tests::{Installation, Process};
use sealwarden_wire::seal::v1::{SealRequest, Stage, sealing_client::SealingClient};
use serde_json::Value;
use tokio::task::JoinSet;

/// More than one full tile of 256, and a partial one.
pub(crate) const SEALS: u64 = 300;

pub(crate) struct Published {
    pub(crate) here: Installation,
    /// Prefix of checkpoint and tiles.
    pub(crate) url: String,
    /// Verifier key of the log.
    pub(crate) log: String,
    /// Verifier key of the witness.
    pub(crate) witness: String,
    /// Some seals, by index.
    pub(crate) seals: Vec<(u64, Vec<u8>)>,
    _up: Process,
}

impl Published {
    pub(crate) async fn start() -> Self {
        let here = Installation::new();
        let up = here.up();
        let mut seals = seal_many(&here).await;
        seals.sort_by_key(|(index, _)| *index);
        let indexes: Vec<u64> = seals.iter().map(|(index, _)| *index).collect();
        assert_eq!(
            indexes,
            (0..SEALS).collect::<Vec<_>>(),
            "each place in the tree is taken once"
        );
        let bundle = here.call(&["trust", "show"]).good();
        let text = |value: &Value| value.as_str().expect("a verifier key").to_owned();
        Self {
            url: format!("{}/main/1", here.address("sealing", "http")),
            log: text(&bundle["payload"]["logs"][0]["vkeys"][0]),
            witness: text(&bundle["payload"]["witnesses"][0]["vkey"]),
            seals,
            here,
            _up: up,
        }
    }

    /// A file below the log's prefix, with its content type.
    pub(crate) async fn get(&self, path: &str) -> (String, Vec<u8>) {
        sealwarden_pki::install_ring();
        let answer = reqwest::get(format!("{}/{path}", self.url))
            .await
            .expect("an answer");
        assert_eq!(answer.status().as_u16(), 200, "{path}");
        let content = answer
            .headers()
            .get("content-type")
            .expect("a content type");
        let content = content.to_str().expect("text").to_owned();
        (content, answer.bytes().await.expect("a body").to_vec())
    }
}

async fn seal_many(here: &Installation) -> Vec<(u64, Vec<u8>)> {
    let client = SealingClient::new(here.connect("sealing", "operator").await);
    let mut calls = JoinSet::new();
    for n in 0..SEALS {
        let mut client = client.clone();
        calls.spawn(async move {
            let mut digest = [0; 32];
            digest.split_at_mut(8).0.copy_from_slice(&n.to_be_bytes());
            let request = SealRequest {
                digest_algorithm: "sha-256".to_owned(),
                digest: digest.to_vec().into(),
                wait: Stage::Witnessed.into(),
                ..SealRequest::default()
            };
            let answer = client.seal(request).await.expect("a seal").into_inner();
            (answer.index, answer.seal.to_vec())
        });
    }
    calls.join_all().await
}
