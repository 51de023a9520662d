//! A provider on a mount of its own.

use std::{path::PathBuf, sync::Arc, time::Duration};

use sealwarden_keys::{
    CreateKey, KeyError, KeyId, KeyProvider, Purpose, Signature, TransitProvider,
    transit::{AuditSource, Credentials, TransitConfig},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::server::{Bao, DEVICE};

/// Deadline of operations that are expected to succeed.
pub(crate) const PATIENT: Duration = Duration::from_secs(20);

/// A server with a transit mount, and settings for a provider on it.
pub(crate) struct World {
    pub(crate) bao: Bao,
    pub(crate) config: TransitConfig,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::on(Bao::start().await).await
    }

    pub(crate) async fn on(bao: Bao) -> Self {
        bao.admin("POST", "sys/mounts/transit", json!({"type": "transit"}))
            .await;
        bao.admin(
            "POST",
            "sys/policies/acl/seals",
            json!({"policy": policy()}),
        )
        .await;
        let token = bao
            .token_file("token", json!({"policies": ["seals"], "ttl": "1h"}))
            .await;
        let config = TransitConfig {
            url: bao.url(),
            ca_file: bao.ca(),
            credentials: Credentials::TokenFile(token),
            credentials_namespace: String::new(),
            namespace: String::new(),
            mount: "transit".to_owned(),
            state_dir: bao.dir.path().join("state"),
            audit: Some(AuditSource {
                file: bao.audit(),
                device: DEVICE.to_owned(),
            }),
            deadline: PATIENT,
        };
        Self { bao, config }
    }

    pub(crate) fn provider(&self) -> TransitProvider {
        TransitProvider::open(&self.config).unwrap()
    }

    /// The same provider on another machine: it shares nothing but the server.
    pub(crate) fn elsewhere(&self, name: &str) -> TransitProvider {
        let state_dir = self.bao.dir.path().join(name);
        let config = TransitConfig {
            state_dir,
            ..self.config.clone()
        };
        TransitProvider::open(&config).unwrap()
    }

    pub(crate) fn token_path(&self) -> PathBuf {
        self.bao.dir.path().join("token")
    }

    /// Signs with root's token, past every provider.
    pub(crate) async fn rogue(&self, name: &str, input: &[u8]) -> u16 {
        use base64::{Engine, prelude::BASE64_STANDARD};
        let body = json!({"input": BASE64_STANDARD.encode(input)});
        let path = format!("transit/sign/{name}");
        let (root, bao) = (&self.bao.root, &self.bao);
        bao.request(root, "", "POST", &path, body).await.0
    }
}

/// What a node needs that also manages its keys.
fn policy() -> String {
    let all = "capabilities = [\"create\", \"read\", \"update\", \"delete\", \"list\"]";
    format!(
        "path \"transit/keys\" {{ {all} }}\npath \"transit/keys/*\" {{ {all} }}\npath \"transit/sign/*\" {{ {all} }}\npath \"sys/audit-hash/{DEVICE}\" {{ {all} }}\n"
    )
}

pub(crate) fn id(text: &str) -> KeyId {
    KeyId::new(text).unwrap()
}

pub(crate) async fn sealing_key(provider: &TransitProvider) -> KeyId {
    let id = id("main-1");
    provider
        .create(&CreateKey::ed25519(&id, Purpose::Sealing))
        .await
        .unwrap();
    id
}

pub(crate) async fn sign(
    provider: &TransitProvider,
    id: &KeyId,
    message: &[u8],
) -> Result<Signature, KeyError> {
    provider.sign(id, Purpose::Sealing, message).await
}

/// A TCP proxy before the server that stops passing bytes on when told.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    stalled: Arc<watch::Sender<bool>>,
}

impl Proxy {
    pub(crate) async fn before(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let stalled = Arc::new(watch::Sender::new(false));
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            stalled: Arc::clone(&stalled),
        };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(pass(from_client, to_server, stalled.subscribe()));
                tokio::spawn(pass(from_server, to_client, stalled.subscribe()));
            }
        });
        proxy
    }

    pub(crate) fn stall(&self, stalled: bool) {
        self.stalled.send_replace(stalled);
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut stalled: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read) = from.read(&mut buffer).await {
        if stalled.wait_for(|stalled| !stalled).await.is_err()
            || read == 0
            || to.write_all(&buffer[..read]).await.is_err()
        {
            return;
        }
    }
}
