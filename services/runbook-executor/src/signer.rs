//! The installation's signing key: suspensions, evidence manifests, the evidence log. Never a sealing key.

use std::sync::Arc;

use sealwarden_engine::SignError;
use sealwarden_keys::{CreateKey, KeyError, KeyId, KeyProvider, Purpose};
use sealwarden_seal::note::{Note, UnsignedNote, Vkey, VkeyError};

/// The key's id at the executor's provider.
const KEY: &str = "signing";

/// The name of an installation's signing key in notes: `<installation>.signing`.
pub fn signing_key_name(installation: &str) -> String {
    format!("{installation}.signing")
}

/// Why the signing key cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignerError {
    /// The provider.
    #[error("the signing key cannot be used: {0}")]
    Key(#[from] KeyError),
    /// Its id.
    #[error(transparent)]
    Id(#[from] sealwarden_keys::InvalidKeyId),
    /// Its name.
    #[error("the signing key cannot have this name: {0}")]
    Name(#[from] VkeyError),
}

/// Signs notes with the signing key.
pub(crate) struct Signer {
    keys: Arc<dyn KeyProvider>,
    key: KeyId,
    vkey: Vkey,
}

impl Signer {
    /// Finds the key, or makes it on first use.
    pub(crate) async fn open(
        keys: Arc<dyn KeyProvider>,
        installation: &str,
    ) -> Result<Self, SignerError> {
        let key = KeyId::new(KEY)?;
        let info = match keys.info(&key).await {
            Err(KeyError::NotFound { .. }) => match keys
                .create(&CreateKey::ed25519(&key, Purpose::Signing))
                .await
            {
                Err(KeyError::AlreadyExists { .. }) => keys.info(&key).await?, // another process was first
                answer => answer?,
            },
            answer => answer?,
        };
        let vkey = Vkey::ed25519(&signing_key_name(installation), info.ed25519()?)?;
        Ok(Self { keys, key, vkey })
    }

    /// The verifier key.
    pub(crate) fn vkey(&self) -> &Vkey {
        &self.vkey
    }

    /// The same key under another name, as a log's checkpoints need it.
    pub(crate) fn vkey_named(&self, name: &str) -> Result<Vkey, VkeyError> {
        Vkey::new(name, self.vkey.key().clone())
    }

    /// Signs a text under the key's own name.
    pub(crate) async fn sign(&self, text: &str) -> Result<Note, SignError> {
        self.sign_as(&self.vkey, text).await
    }

    /// Signs a text under another name of the key.
    pub(crate) async fn sign_as(&self, vkey: &Vkey, text: &str) -> Result<Note, SignError> {
        let note = UnsignedNote::new(text)?;
        let signature = self
            .keys
            .sign(&self.key, Purpose::Signing, note.text().as_bytes())
            .await?;
        Ok(note.attach(vkey.name(), vkey.key_id(), signature.as_bytes())?)
    }
}
