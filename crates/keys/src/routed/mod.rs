//! Two providers as one: new sealing keys go into the first, everything else stays in the second.
//!
//! A node's own key and the installation's signing key are software keys in every installation. A sealing key that
//! was made in the second provider before the first one was chosen goes on there until the log is rotated, so
//! that choosing a token needs no new trust; new ones are made in the first only.

mod merge;

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;

use self::merge::Merge;
use crate::{
    algorithm::Signature,
    error::KeyError,
    id::KeyId,
    provider::{
        AuditGap, AuditLine, Capabilities, CreateKey, DisableOutcome, KeyInfo, KeyProvider, Purpose,
    },
};

/// Which provider does what.
#[derive(Clone)]
pub struct RoutedConfig {
    /// Makes and keeps sealing keys.
    pub sealing: Arc<dyn KeyProvider>,
    /// Makes and keeps all others.
    pub others: Arc<dyn KeyProvider>,
    /// The file that keeps the order of the merged audit, in a folder that exists.
    pub audit_order: PathBuf,
}

/// Two providers as one; see the module's description.
///
/// Its name and capabilities are those of the provider of sealing keys. Each [`KeyInfo`] names the provider that keeps
/// the key.
pub struct RoutedProvider {
    sealing: Arc<dyn KeyProvider>,
    others: Arc<dyn KeyProvider>,
    merge: Merge,
}

impl RoutedProvider {
    /// Puts the two together.
    pub async fn open(config: RoutedConfig) -> Result<Self, KeyError> {
        let RoutedConfig {
            sealing,
            others,
            audit_order,
        } = config;
        let merge = Merge::open(audit_order, others.as_ref()).await?;
        Ok(Self {
            sealing,
            others,
            merge,
        })
    }

    /// The provider that has the key, and what it is.
    async fn find(&self, id: &KeyId) -> Result<(&dyn KeyProvider, KeyInfo), KeyError> {
        // The local provider first: a node's own key has to work while the sealing keys' provider is away.
        match self.others.info(id).await {
            Ok(info) => return Ok((self.others.as_ref(), info)),
            Err(KeyError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        let info = self.sealing.info(id).await?;
        Ok((self.sealing.as_ref(), info))
    }
}

#[async_trait]
impl KeyProvider for RoutedProvider {
    fn name(&self) -> &str {
        self.sealing.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.sealing.capabilities()
    }

    async fn create(&self, key: &CreateKey) -> Result<KeyInfo, KeyError> {
        let (id, purpose) = (&key.id, key.purpose);
        let (here, there) = if purpose == Purpose::Sealing {
            (&self.sealing, &self.others)
        } else {
            (&self.others, &self.sealing)
        };
        match there.info(id).await {
            Err(KeyError::NotFound { .. }) => here.create(key).await,
            Err(error) => Err(error),
            // Not `AlreadyExists`: whoever then uses the existing key would take it for one of the other provider.
            Ok(info) => Err(KeyError::Refused {
                id: id.clone(),
                reason: format!(
                    "a {} key of this name is in the {} provider, and new {purpose} keys are made in {}: start once without the token to use it, or choose another name",
                    info.purpose,
                    there.name(),
                    here.name()
                ),
            }),
        }
    }

    async fn info(&self, id: &KeyId) -> Result<KeyInfo, KeyError> {
        self.find(id).await.map(|(_, info)| info)
    }

    async fn list(&self) -> Result<Vec<KeyInfo>, KeyError> {
        let mut keys = self.sealing.list().await?;
        keys.extend(self.others.list().await?);
        keys.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(keys)
    }

    async fn sign(
        &self,
        id: &KeyId,
        purpose: Purpose,
        message: &[u8],
    ) -> Result<Signature, KeyError> {
        let (provider, _) = self.find(id).await?;
        provider.sign(id, purpose, message).await
    }

    async fn disable(&self, id: &KeyId) -> Result<DisableOutcome, KeyError> {
        self.find(id).await?.0.disable(id).await
    }

    async fn destroy(&self, id: &KeyId) -> Result<DisableOutcome, KeyError> {
        self.find(id).await?.0.destroy(id).await
    }

    async fn audit_after(&self, cursor: u64, limit: usize) -> Result<Vec<AuditLine>, KeyError> {
        self.merge
            .read_after(self.sealing.as_ref(), self.others.as_ref(), cursor, limit)
            .await
    }

    async fn audit_gaps(&self, patience: Duration) -> Result<Vec<AuditGap>, KeyError> {
        let mut gaps = self.sealing.audit_gaps(patience).await?;
        gaps.extend(self.others.audit_gaps(patience).await?);
        Ok(gaps)
    }
}

#[cfg(test)]
mod tests;
