//! Which provider keeps which keys: software keys, and a token or an OpenBao server for sealing keys if one is named.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use sealwarden_engine::Role;
use sealwarden_keys::pkcs11::{Limits, WorkerCommand};
use sealwarden_keys::transit::{AuditSource, Credentials, DEFAULT_DEADLINE};
use sealwarden_keys::{
    Guard, KeyProvider, Pkcs11Config, Pkcs11Provider, RoutedConfig, RoutedProvider, SoftwareConfig,
    SoftwareProvider, TransitConfig, TransitProvider,
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

/// The transit engine of an OpenBao server for sealing keys.
#[derive(Clone, Debug)]
pub(crate) struct TransitOptions {
    /// `https://host:port`.
    pub(crate) url: String,
    /// Authorities that vouch for the server.
    pub(crate) ca: PathBuf,
    /// File with a token.
    pub(crate) token_file: PathBuf,
    /// Where the engine is mounted.
    pub(crate) mount: String,
    /// The server's file audit device: its file here, its name there.
    pub(crate) audit: Option<(PathBuf, String)>,
}

/// Where sealing keys are kept, if not among the software keys.
#[derive(Clone, Debug)]
pub(crate) enum SealingKeys {
    /// In a token.
    Pkcs11(TokenOptions),
    /// With a server.
    Transit(TransitOptions),
}

/// Where a process's keys are kept.
#[derive(Clone, Debug)]
pub(crate) struct KeySource {
    /// Passphrase that guards software keys at rest, if not a generated guard file.
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Provider of sealing keys.
    pub(crate) token: Option<SealingKeys>,
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
            Some(sealing) if role == Role::Sealing => with(sealing, software, data).await,
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

/// Sealing keys in their own provider, all others as they were.
async fn with(
    sealing: &SealingKeys,
    software: Arc<dyn KeyProvider>,
    data: &Path,
) -> anyhow::Result<Arc<dyn KeyProvider>> {
    let (dir, sealing) = match sealing {
        SealingKeys::Pkcs11(token) => {
            let dir = data.join("keys-pkcs11");
            (dir.clone(), in_token(token, dir).await?)
        }
        SealingKeys::Transit(server) => {
            let dir = data.join("keys-transit");
            (dir.clone(), with_server(server, dir)?)
        }
    };
    let both = RoutedProvider::open(RoutedConfig {
        sealing,
        others: software,
        audit_order: dir.join("audit.order"),
    })
    .await
    .context("putting the providers of sealing keys and of all others together")?;
    Ok(Arc::new(both))
}

async fn in_token(token: &TokenOptions, dir: PathBuf) -> anyhow::Result<Arc<dyn KeyProvider>> {
    let sealing = Pkcs11Provider::open(Pkcs11Config {
        module: token.module.clone(),
        token: token.label.clone(),
        pin_file: token.pin_file.clone(),
        dir,
        worker: WorkerCommand::this_program(PKCS11_WORKER),
        limits: Limits::default(),
    })
    .await
    .context("opening the token for sealing keys")?;
    Ok(Arc::new(sealing))
}

fn with_server(server: &TransitOptions, dir: PathBuf) -> anyhow::Result<Arc<dyn KeyProvider>> {
    let audit = server.audit.clone();
    let sealing = TransitProvider::open(&TransitConfig {
        url: server.url.clone(),
        ca_file: server.ca.clone(),
        credentials: Credentials::TokenFile(server.token_file.clone()),
        credentials_namespace: String::new(),
        namespace: String::new(),
        mount: server.mount.clone(),
        state_dir: dir,
        audit: audit.map(|(file, device)| AuditSource { file, device }),
        deadline: DEFAULT_DEADLINE,
    })
    .context("opening the transit engine for sealing keys")?;
    Ok(Arc::new(sealing))
}
