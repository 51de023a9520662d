//! Keys in the transit engine of an OpenBao server, over HTTPS.
//!
//! **What stops a key for everybody** (tried on OpenBao 2.7.2): soft deletion. `DELETE <mount>/keys/<name>/soft-delete` makes
//! the server refuse `sign`, `rotate`, `hmac`, `backup` and `export` for every token, the root token included, until
//! `soft-delete-restore`. `min_encryption_version` alone does not (it cannot pass the latest version), and a policy binds only
//! the tokens that have it. One use is left: `keys/<name>/csr` still signs certificate requests with a soft-deleted key. Such a
//! message begins with the bytes `30 .. 02 01 00` and is never the text of a signed note; the audit reports it. Vault
//! has no soft deletion: there [`KeyProvider::disable`] answers [`DisableOutcome::LocalOnly`].
//!
//! **No copy outside.** A key that is exportable, allows plaintext backups or was imported is not used at all; the engine
//! never takes the first two back, so their absence proves that no copy was given out. Whoever administers the server can
//! still restore a storage snapshot there.
//!
//! **The audit** is the server's file audit device, where its file is readable here. See [`TransitProvider::explain`] for uses
//! made elsewhere. The server does not sync that file: a power cut there may lose its last lines. The file is followed through rotation (renamed, then
//! SIGHUP); any other change, missing lines of our own uses and an audit without new lines are told as gaps. While the server says that it has no such
//! audit device, no key is used: nobody could tell our uses from a stranger's.
//!
//! Secrets are files of mode 0600, never logged, and zeroized here; hyper's and rustls' buffers are beyond reach.

mod audit;
mod config;
mod error;
mod follow;
mod http;
mod keys;
mod memory;
mod records;
mod session;
mod shape;
mod trail;
mod uses;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ::http::Method;
use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::json;

pub use self::{
    config::{AuditSource, Credentials, DEFAULT_DEADLINE, TransitConfig},
    error::TransitError,
};
use self::{
    http::Call,
    records::Records,
    session::Session,
    shape::{VERSION, server_name},
    trail::{Trail, TransitOrKey},
};
use crate::{
    algorithm::Signature,
    error::KeyError,
    id::KeyId,
    private_files,
    provider::{
        AuditGap, AuditLine, Capabilities, CreateKey, DisableOutcome, KeyInfo, KeyProvider,
        KeyState, Purpose, known,
    },
};

/// The provider's name in configurations and reports.
const NAME: &str = "transit";

/// Keys in a transit engine.
pub struct TransitProvider {
    session: Arc<Session>,
    mount: String,
    namespace: String,
    deadline: Duration,
    records: Records,
    trail: Option<Trail>,
    /// Keys found usable; what changes on the server afterwards shows in its answers.
    usable: Mutex<HashMap<KeyId, KeyInfo>>,
}

impl TransitProvider {
    /// Checks the settings and opens the state folder. It connects at the first use, so that it starts also while the server is
    /// down. Needs a Tokio runtime; blocks its thread for the files.
    pub fn open(config: &TransitConfig) -> Result<Self, KeyError> {
        check(config).map_err(|reason| KeyError::Unsafe { reason })?;
        private_files::private_dir(&config.state_dir)?;
        let session = Session::new(config).map_err(TransitError::without_key)?;
        let trail = match &config.audit {
            Some(source) => Some(Trail::open(config, source, &config.state_dir)?),
            None => None,
        };
        session.keep_token_fresh();
        Ok(Self {
            session,
            mount: config.mount.clone(),
            namespace: config.namespace.clone(),
            deadline: config.deadline,
            records: Records::open(&config.state_dir)?,
            trail,
            usable: Mutex::default(),
        })
    }

    /// Whether the server is there, unsealed and active. Uses no token.
    pub async fn health(&self) -> Result<(), TransitError> {
        let call = Call {
            method: Method::GET,
            path: "sys/health?standbycode=472".to_owned(),
            namespace: "",
            token: None,
            body: None,
        };
        let action = call.action();
        let answer = self.session.http.send(call).await?;
        if answer.status.is_success() {
            return Ok(());
        }
        Err(self.session.http.refusal(action, &answer))
    }

    /// Tells the reader of the audit about `messages` that were signed elsewhere with good reason: on another machine, or with a
    /// state folder that is lost. Call it before [`KeyProvider::audit_after`] reaches those uses.
    pub async fn explain(&self, messages: &[&[u8]]) -> Result<(), KeyError> {
        let Some(trail) = &self.trail else {
            return Ok(());
        };
        for message in messages {
            match trail.tell(&self.session, message).await {
                Ok(_) => {}
                Err(TransitOrKey::Transit(error)) => return Err(error.without_key()),
                Err(TransitOrKey::Key(error)) => return Err(error),
            }
        }
        Ok(())
    }

    async fn sign_now(
        &self,
        id: &KeyId,
        purpose: Purpose,
        message: &[u8],
    ) -> Result<Signature, KeyError> {
        let key = self.usable(id).await?;
        if key.purpose != purpose {
            return Err(KeyError::WrongPurpose {
                id: id.clone(),
                expected: purpose,
                actual: key.purpose,
            });
        }
        let announced = match &self.trail {
            Some(trail) => {
                let announced = trail.announce(&self.session, id, purpose, message).await;
                Some((trail, announced.map_err(|error| key_error(error, id))?))
            }
            None => None,
        };
        let signature = self.signature(&key, message).await?;
        if let Some((trail, announced)) = announced {
            trail.made(&announced);
        }
        let verified = UnparsedPublicKey::new(&ED25519, key.ed25519()?).verify(message, &signature);
        verified.map_err(|_| KeyError::Corrupt {
            what: format!("the signature of key {id}"),
            reason: "it does not verify with the key's public key".to_owned(),
        })?;
        Ok(Signature::Ed25519(signature))
    }

    async fn signature(&self, key: &KeyInfo, message: &[u8]) -> Result<[u8; 64], KeyError> {
        #[derive(Deserialize)]
        struct Signed {
            signature: String,
            key_version: u64,
        }
        let path = format!("{}/sign/{}", self.mount, server_name(key.purpose, &key.id));
        let body = json!({"input": BASE64_STANDARD.encode(message), "key_version": VERSION});
        let action = format!("POST {path}");
        let answer = self
            .session
            .call(Method::POST, &self.namespace, path, Some(&body))
            .await
            .and_then(|answer| {
                if answer.status.is_success() {
                    Ok(answer)
                } else {
                    Err(self.session.http.refusal(action.clone(), &answer))
                }
            })
            .map_err(|error| self.refused(&key.id, error))?;
        let malformed = |reason: &str| {
            let error = TransitError::Malformed {
                action: action.clone(),
                reason: reason.to_owned(),
            };
            error.into_key_error(&key.id)
        };
        let signed: Signed = answer
            .data(&action)
            .map_err(|error| error.into_key_error(&key.id))?;
        if signed.key_version != VERSION {
            return Err(malformed("another version of the key has signed"));
        }
        signed
            .signature
            .rsplit_once(":v1:")
            .and_then(|(_, text)| BASE64_STANDARD.decode(text).ok())
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| malformed("its signature is not 64 bytes in base64 after `vault:v1:`"))
    }

    /// What a failed use means: the server's own refusals of this key will not pass by themselves.
    fn refused(&self, id: &KeyId, error: TransitError) -> KeyError {
        let reason = if error.says("soft-deleted") {
            "it is disabled (soft-deleted) on the OpenBao server"
        } else if error.says("signing key not found") {
            "the OpenBao server has it no more: somebody has deleted it"
        } else if error.says("requested version for signing") {
            "the OpenBao server does not sign with its first version any more: somebody has rotated it"
        } else {
            return error.into_key_error(id);
        };
        self.forget(id);
        KeyError::Refused {
            id: id.clone(),
            reason: reason.to_owned(),
        }
    }

    fn forget(&self, id: &KeyId) {
        let mut usable = self.usable.lock().unwrap_or_else(PoisonError::into_inner);
        usable.remove(id);
    }
}

#[async_trait]
impl KeyProvider for TransitProvider {
    fn name(&self) -> &str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            can_disable: true,
            keeps_audit: self.trail.is_some(),
            attests_origin: false,
        }
    }

    async fn create(&self, key: &CreateKey) -> Result<KeyInfo, KeyError> {
        self.make(key).await
    }

    async fn info(&self, id: &KeyId) -> Result<KeyInfo, KeyError> {
        self.described(id).await.map(|found| found.info)
    }

    async fn list(&self) -> Result<Vec<KeyInfo>, KeyError> {
        self.all().await
    }

    async fn sign(
        &self,
        id: &KeyId,
        purpose: Purpose,
        message: &[u8],
    ) -> Result<Signature, KeyError> {
        tokio::time::timeout(self.deadline, self.sign_now(id, purpose, message))
            .await
            .unwrap_or_else(|_elapsed| {
                Err(KeyError::Timeout {
                    id: id.clone(),
                    deadline_ms: u64::try_from(self.deadline.as_millis()).unwrap_or(u64::MAX),
                })
            })
    }

    async fn disable(&self, id: &KeyId) -> Result<DisableOutcome, KeyError> {
        self.soft_delete(id).await
    }

    async fn destroy(&self, id: &KeyId) -> Result<DisableOutcome, KeyError> {
        self.delete(id).await
    }

    async fn restore(&self, id: &KeyId) -> Result<KeyInfo, KeyError> {
        self.take_back(id).await
    }

    async fn audit_after(&self, cursor: u64, limit: usize) -> Result<Vec<AuditLine>, KeyError> {
        match &self.trail {
            Some(trail) => trail.lines_after(cursor, limit).await,
            None => Ok(Vec::new()),
        }
    }

    async fn audit_gaps(&self, patience: Duration) -> Result<Vec<AuditGap>, KeyError> {
        match &self.trail {
            Some(trail) => trail.gaps(&self.session, patience).await,
            None => Ok(Vec::new()),
        }
    }

    /// Whether the server is unsealed and takes our token. A server whose audit devices do not write answers no such question.
    async fn probe(&self, provider: &str) -> Result<(), KeyError> {
        known(NAME, provider)?;
        self.health().await.map_err(TransitError::without_key)?;
        self.session
            .check()
            .await
            .map_err(TransitError::without_key)
    }
}

fn key_error(error: TransitOrKey, id: &KeyId) -> KeyError {
    match error {
        TransitOrKey::Transit(error) => error.into_key_error(id),
        TransitOrKey::Key(error) => error,
    }
}

/// The settings that no other part checks.
fn check(config: &TransitConfig) -> Result<(), String> {
    let is_path = |text: &str| {
        text.split('/').all(|word| {
            let plain =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            !matches!(word, "" | "." | "..") && word.bytes().all(plain)
        })
    };
    let mut paths = vec![("mount", config.mount.as_str())];
    for (name, namespace) in [
        ("namespace", &config.namespace),
        (
            "namespace of the credentials",
            &config.credentials_namespace,
        ),
    ] {
        paths.extend((!namespace.is_empty()).then_some((name, namespace.as_str())));
    }
    if let Some(audit) = &config.audit {
        paths.push(("audit device", &audit.device));
        if !config.credentials_namespace.is_empty() {
            return Err(
                "reading the audit needs credentials of the root namespace: only there is sys/audit-hash"
                    .to_owned(),
            );
        }
    }
    if let Credentials::AppRole { mount, .. } = &config.credentials {
        paths.push(("AppRole mount", mount));
    }
    match paths.into_iter().find(|(_, path)| !is_path(path)) {
        Some((name, path)) => Err(format!(
            "{path:?} is not the {name} of an OpenBao server: give words of letters, digits, '-', '_' and '.', with '/' between them"
        )),
        None => Ok(()),
    }
}

impl TransitProvider {
    /// The key, if it may be used.
    async fn usable(&self, id: &KeyId) -> Result<KeyInfo, KeyError> {
        let known = {
            let usable = self.usable.lock().unwrap_or_else(PoisonError::into_inner);
            usable.get(id).cloned()
        };
        let refused = |reason: &str| {
            Err(KeyError::Refused {
                id: id.clone(),
                reason: reason.to_owned(),
            })
        };
        let found = match known {
            // Another process on this folder may have disabled it meanwhile.
            Some(info)
                if self
                    .recorded(id)
                    .await?
                    .is_some_and(|record| record.state == KeyState::Active) =>
            {
                return Ok(info);
            }
            Some(_) | None => self.described(id).await?,
        };
        match found.info.state {
            KeyState::Active => {}
            KeyState::Disabled => return refused("it is disabled; create a new key and use that"),
            KeyState::Destroyed => {
                return refused("it is destroyed; create a new key and use that");
            }
        }
        if let Some(why) = found.may_be_copied {
            return refused(&format!(
                "{why}, and a copy of it could sign unseen: create a new one"
            ));
        }
        let mut usable = self.usable.lock().unwrap_or_else(PoisonError::into_inner);
        usable.insert(id.clone(), found.info.clone());
        Ok(found.info)
    }
}
