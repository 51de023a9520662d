//! The witness's keys: an Ed25519 one, and where the settings want it an ML-DSA-44 one, both of the node's key provider.

use anyhow::Context as _;
use sealwarden_engine::Node;
use sealwarden_keys::{Algorithm, CreateKey, KeyError, KeyId, KeyInfo, PublicKey, Purpose};
use sealwarden_seal::note::Vkey;

/// A key that cosigns.
#[derive(Clone, Debug)]
pub(crate) struct WitnessKey {
    pub(crate) id: KeyId,
    pub(crate) vkey: Vkey,
}

/// All keys that cosign.
#[derive(Clone, Debug)]
pub(crate) struct WitnessKeys {
    /// The Ed25519 key, which the witness's state is bound to.
    pub(crate) first: WitnessKey,
    quantum: Option<WitnessKey>,
}

impl WitnessKeys {
    /// The Ed25519 key first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &WitnessKey> {
        std::iter::once(&self.first).chain(&self.quantum)
    }
}

/// The keys that a provider has of a node's witness.
pub(crate) struct Known {
    pub(crate) id: KeyId,
    first: Option<KeyInfo>,
    quantum_id: KeyId,
    quantum: Option<KeyInfo>,
}

impl Known {
    /// Looks for them.
    pub(crate) async fn look(node: &Node) -> anyhow::Result<Self> {
        let named = |end: &str| {
            KeyId::new(format!("{}.witness{end}", node.name)).context("naming the witness's key")
        };
        let (id, quantum_id) = (named("")?, named("-pq")?);
        Ok(Self {
            first: find(node, &id).await?,
            quantum: find(node, &quantum_id).await?,
            id,
            quantum_id,
        })
    }

    /// Whether this witness has ever had a key.
    pub(crate) fn exists(&self) -> bool {
        self.first.is_some() || self.quantum.is_some()
    }

    /// These keys, and those made that are missing. A post-quantum key that is there signs whatever the settings say by now: a trust bundle may require it.
    pub(crate) async fn or_made(
        self,
        node: &Node,
        post_quantum: bool,
    ) -> anyhow::Result<WitnessKeys> {
        let name = format!("{}.witness.{}", node.name, node.installation);
        let first = match self.first {
            Some(info) => info,
            None => make(node, &self.id, Algorithm::Ed25519).await?,
        };
        let quantum = match self.quantum {
            None if post_quantum => {
                let made = make(node, &self.quantum_id, Algorithm::MlDsa44).await;
                let why = "making the witness's ML-DSA-44 key, which the setting verification.post_quantum asks for";
                Some(made.context(why)?)
            }
            known => known,
        };
        let quantum = quantum.map(|info| match &info.public_key {
            PublicKey::MlDsa44(key) => Ok(WitnessKey {
                vkey: Vkey::ml_dsa_44(&name, **key)?,
                id: self.quantum_id,
            }),
            PublicKey::Ed25519(_) => anyhow::bail!(
                "the key {} is an Ed25519 key; the witness's second key is an ML-DSA-44 one, so rename that key",
                self.quantum_id
            ),
        });
        Ok(WitnessKeys {
            first: WitnessKey {
                vkey: Vkey::cosignature_v1(&name, first.ed25519()?)?,
                id: self.id,
            },
            quantum: quantum.transpose()?,
        })
    }
}

async fn find(node: &Node, id: &KeyId) -> anyhow::Result<Option<KeyInfo>> {
    match node.keys.info(id).await {
        Ok(info) => Ok(Some(info)),
        Err(KeyError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn make(node: &Node, id: &KeyId, algorithm: Algorithm) -> Result<KeyInfo, KeyError> {
    let key = CreateKey {
        algorithm,
        ..CreateKey::ed25519(id, Purpose::Witness)
    };
    node.keys.create(&key).await
}
