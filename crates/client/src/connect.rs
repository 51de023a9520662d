//! From addresses and certificates to a connection. Always mutual TLS.

use crate::{Client, ClientError};
use sealwarden_pki::{Identity, IdentityFiles, connect};
use sealwarden_wire::seal::v1::sealing_client::SealingClient;
use std::path::Path;
use std::time::Duration;
use tonic::transport::Channel;

/// Largest answer that is accepted, bytes.
const MAX_ANSWER: usize = 16 * 1024 * 1024;
/// How long refused calls are repeated if nothing else is said.
const PATIENCE: Duration = Duration::from_secs(30);

impl Client {
    /// Connects to `https://host:port`.
    pub async fn connect(url: &str, identity: &Identity) -> Result<Self, ClientError> {
        Ok(Self::over(connect(url, identity).await?))
    }

    /// Connects with certificate, key and authority from files (PEM).
    pub async fn with_files(url: &str, files: &IdentityFiles) -> Result<Self, ClientError> {
        Self::connect(url, &load(files).await?).await
    }

    /// Connects to the installation of a data folder on this machine, with the certificate of `caller` there.
    pub async fn of_installation(data: &Path, caller: &str) -> Result<Self, ClientError> {
        let path = data.join("endpoints.json");
        let wrong = |reason: String| ClientError::Installation {
            path: path.clone(),
            reason,
        };
        let text = tokio::fs::read(&path)
            .await
            .map_err(|error| wrong(error.to_string()))?;
        let endpoints: serde_json::Value =
            serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        let url = endpoints["sealing"]["grpc"]
            .as_str()
            .ok_or_else(|| wrong("it has no sealing service".to_owned()))?;
        let files = IdentityFiles::in_dir(&data.join("certificates"), caller);
        Self::with_files(url, &files).await
    }

    /// Over a connection that stands already.
    pub fn over(channel: Channel) -> Self {
        Self {
            sealing: SealingClient::new(channel).max_decoding_message_size(MAX_ANSWER),
            patience: PATIENCE,
        }
    }
}

async fn load(files: &IdentityFiles) -> Result<Identity, ClientError> {
    let files = files.clone();
    let loaded = tokio::task::spawn_blocking(move || files.load()).await;
    match loaded {
        Ok(identity) => Ok(identity?),
        // The thread is only lost with the runtime.
        Err(error) => Err(tonic::Status::internal(error.to_string()).into()),
    }
}
