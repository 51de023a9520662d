//! Which provider keeps which keys: software keys, and a token for sealing keys if one is named.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use sealwarden_engine::Role;
use sealwarden_keys::pkcs11::{Limits, WorkerCommand};
use sealwarden_keys::{
    Guard, KeyProvider, Pkcs11Config, Pkcs11Provider, RoutedConfig, RoutedProvider, SoftwareConfig,
    SoftwareProvider,
};

use crate::cli::PKCS11_WORKER;

/// A PKCS#11 token for sealing keys.
#[derive(Clone, Debug)]
pub(crate) struct TokenOptions {
    /// The vendor's module.
    pub(crate) module: PathBuf,
    /// The token's label.
    pub(crate) label: String,
    /// File with the PIN.
    pub(crate) pin_file: PathBuf,
}

/// Where a process's keys are kept.
#[derive(Clone, Debug)]
pub(crate) struct KeySource {
    /// Passphrase that guards software keys at rest, if not a generated guard file.
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Token for sealing keys.
    pub(crate) token: Option<TokenOptions>,
}

impl KeySource {
    /// The keys of a role whose folder is `data`.
    pub(crate) async fn of_role(
        &self,
        role: Role,
        data: &Path,
    ) -> anyhow::Result<Arc<dyn KeyProvider>> {
        let software = self.software(data).await?;
        match &self.token {
            Some(token) if role == Role::Sealing => with_token(token, software, data).await,
            Some(_) | None => Ok(software),
        }
    }

    /// The software keys in `data`.
    pub(crate) async fn software(&self, data: &Path) -> anyhow::Result<Arc<dyn KeyProvider>> {
        let guard = match &self.passphrase_file {
            Some(path) => Guard::PassphraseFile(path.clone()),
            None => Guard::File(data.join("guard")),
        };
        let config = SoftwareConfig {
            dir: data.join("keys"),
            guard,
        };
        let provider = SoftwareProvider::open(config)
            .await
            .context("opening the key folder")?;
        Ok(Arc::new(provider))
    }
}

/// Sealing keys in the token, all others as they were.
async fn with_token(
    token: &TokenOptions,
    software: Arc<dyn KeyProvider>,
    data: &Path,
) -> anyhow::Result<Arc<dyn KeyProvider>> {
    let dir = data.join("keys-pkcs11");
    let sealing = Pkcs11Provider::open(Pkcs11Config {
        module: token.module.clone(),
        token: token.label.clone(),
        pin_file: token.pin_file.clone(),
        dir: dir.clone(),
        worker: WorkerCommand::this_program(PKCS11_WORKER),
        limits: Limits::default(),
    })
    .await
    .context("opening the token for sealing keys")?;
    let both = RoutedProvider::open(RoutedConfig {
        sealing: Arc::new(sealing),
        others: software,
        audit_order: dir.join("audit.order"),
    })
    .await
    .context("putting the token and the software keys together")?;
    Ok(Arc::new(both))
}
