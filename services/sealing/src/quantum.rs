//! A key that outlives quantum computers: an ML-DSA-44 key that signs each checkpoint of an origin beside its other keys, from the first one on.
//!
//! It is made and activated before the origin's first intent, so that the trust bundle can require its signature of every checkpoint: an origin never has
//! good seals without it. An origin that is older than the setting stays as it is; the next one has the key. No provider but the software one makes such keys yet.

use crate::service::Service;
use crate::stop::Failure;
use crate::tree::Tree;
use anyhow::{Context as _, ensure};
use sealwarden_domain::log_control::{Command, Origin, Signer};
use sealwarden_keys::{
    Algorithm, CreateKey, KeyError, KeyId, KeyInfo, KeyState, PublicKey, Purpose,
};
use sealwarden_seal::note::Vkey;
use sealwarden_wire::event::v1::{ActivationReason, SignerAdded, SignersActivated};

/// The provider that makes ML-DSA-44 keys.
const PROVIDER: &str = "software";

/// Gives the origin its ML-DSA-44 key, where the settings want one and nothing was signed in it yet. A key that was recorded is activated whatever the settings
/// say by now, since a trust bundle may require it already.
pub(crate) async fn before_first_intent(service: &Service, tree: &Tree) -> Result<(), Failure> {
    let origin = {
        let control = service.control.lock().await;
        control.state().origin(&tree.origin).cloned()
    };
    let Some(origin) = origin.filter(|it| it.intents.is_empty()) else {
        return Ok(());
    };
    let quantum = |it: &&Signer| it.algorithm == Algorithm::MlDsa44.as_str();
    let is_known = origin.signers.iter().any(|it| quantum(&it));
    if origin.signing().any(|it| quantum(&it)) || !(is_known || service.config.post_quantum) {
        return Ok(());
    }
    join(service, tree, &origin).await.map_err(|error| {
        Failure::Away(format!(
            "{} has no ML-DSA-44 key yet, which the setting sealing.post_quantum asks for: {error:#}",
            tree.origin
        ))
    })
}

async fn join(service: &Service, tree: &Tree, origin: &Origin) -> anyhow::Result<()> {
    let node = &service.node;
    let id = KeyId::new(format!("{}-pq", tree.key))?;
    let info = key_or_new(service, &id).await?;
    ensure!(
        info.state == KeyState::Active && info.purpose == Purpose::Sealing,
        "key {id} is {} and for {}",
        info.state,
        info.purpose
    );
    let vkey = match info.public_key {
        PublicKey::MlDsa44(key) => Vkey::ml_dsa_44(&tree.origin, *key)?,
        PublicKey::Ed25519(_) => anyhow::bail!("key {id} is an Ed25519 key"),
    };
    let can = node.keys.capabilities_of(&info.provider)?;
    let added = SignerAdded {
        origin: tree.origin.clone(),
        vkey: vkey.to_string(),
        key_id: id.to_string(),
        provider: info.provider,
        algorithm: Algorithm::MlDsa44.as_str().to_owned(),
        provider_can_disable: can.can_disable,
        attestation: info.attestation.format().to_owned(),
        node: node.name.clone(),
        by: node.name.clone(),
        why: "the setting sealing.post_quantum".to_owned(),
    };
    service.execute(&Command::AddSigner(added)).await?;
    let mut active = origin.signing_keys();
    let seen = active.clone();
    active.push(id.to_string());
    let change = SignersActivated {
        origin: tree.origin.clone(),
        active,
        overlapping: Vec::new(),
        reason: ActivationReason::Quantum.into(),
        by: node.name.clone(),
        why: "the setting sealing.post_quantum".to_owned(),
    };
    let node = node.name.clone();
    service
        .execute(&Command::ActivateSigners { node, seen, change })
        .await?;
    tracing::info!(origin = tree.origin, key = %id, "an ML-DSA-44 key signs beside the others");
    Ok(())
}

async fn key_or_new(service: &Service, id: &KeyId) -> anyhow::Result<KeyInfo> {
    let keys = &service.node.keys;
    let key = CreateKey {
        id: id.clone(),
        purpose: Purpose::Sealing,
        algorithm: Algorithm::MlDsa44,
        provider: Some(PROVIDER.to_owned()),
    };
    let made = match keys.create(&key).await {
        Err(KeyError::AlreadyExists { .. }) => keys.info(id).await,
        answer => answer,
    };
    made.with_context(|| format!("making key {id} in the {PROVIDER} provider"))
}
