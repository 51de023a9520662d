//! Requests with a token that is renewed, or fetched anew, before and after it ends.

use std::{
    path::Path,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use http::{HeaderValue, Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{Mutex, Notify};
use zeroize::{Zeroize, Zeroizing};

use super::{
    config::{Credentials, TransitConfig},
    error::TransitError,
    http::{Answer, Call, Http, secret_header},
};
use crate::private_files;

/// Tokens and secret ids are shorter than this, in bytes.
const MAX_SECRET: u64 = 4096;
/// How often the age of the token is looked at.
const LOOK: (Duration, Duration) = (Duration::from_millis(500), Duration::from_mins(1));

#[derive(Clone)]
struct Token {
    header: HeaderValue,
    renewable: bool,
    fetched: Instant,
    /// `None`: it lasts until revoked.
    lifetime: Option<Duration>,
}

impl Token {
    /// Past two thirds of its life, so that a few failed renewals do no harm.
    fn is_due(&self) -> bool {
        self.lifetime
            .is_some_and(|lifetime| self.fetched.elapsed() >= lifetime / 3 * 2)
    }
}

/// The part of an answer that speaks of a token.
#[derive(Deserialize)]
struct Auth {
    #[serde(default)]
    client_token: Option<String>,
    lease_duration: u64,
    renewable: bool,
}

impl Drop for Auth {
    fn drop(&mut self) {
        self.client_token.zeroize();
    }
}

#[derive(Deserialize)]
struct AuthAnswer {
    auth: Auth,
}

/// A connection pool with a token.
pub(super) struct Session {
    pub(super) http: Http,
    credentials: Credentials,
    namespace: String,
    token: Mutex<Option<Token>>,
    /// Rings when another token is held.
    changed: Arc<Notify>,
}

impl Session {
    /// Connects and logs in later.
    pub(super) fn new(config: &TransitConfig) -> Result<Arc<Self>, TransitError> {
        Ok(Arc::new(Self {
            http: Http::new(&config.url, &config.ca_file, config.deadline)?,
            credentials: config.credentials.clone(),
            namespace: config.credentials_namespace.clone(),
            token: Mutex::new(None),
            changed: Arc::default(),
        }))
    }

    /// Sends with a valid token. `404` comes back as an answer; everything else that is no success is an error.
    pub(super) async fn call(
        &self,
        method: Method,
        namespace: &str,
        path: String,
        body: Option<&serde_json::Value>,
    ) -> Result<Answer, TransitError> {
        let mut token = self.valid_token().await?;
        // A refused token is replaced once. The server did nothing with a request it answered 403.
        for last in [false, true] {
            let call = Call {
                method: method.clone(),
                path: path.clone(),
                namespace,
                token: Some(&token.header),
                body: body.map(|body| body.to_string().into_bytes()),
            };
            let action = call.action();
            let answer = self.http.send(call).await?;
            if answer.status != StatusCode::FORBIDDEN {
                return Ok(answer);
            }
            if last || self.lookup(&token.header).await?.is_some() {
                return Err(self.http.refusal(action, &answer));
            }
            token = self.replace(&token).await?;
        }
        Err(self.expired())
    }

    /// Whether the server takes the token now.
    pub(super) async fn check(&self) -> Result<(), TransitError> {
        let token = self.valid_token().await?;
        match self.lookup(&token.header).await? {
            Some(_) => Ok(()),
            None => self.replace(&token).await.map(|_| ()),
        }
    }

    /// Renews the token while anybody holds the session, also when no request comes. Needs a Tokio runtime.
    pub(super) fn keep_token_fresh(self: &Arc<Self>) {
        tokio::spawn(look_after(Arc::downgrade(self), Arc::clone(&self.changed)));
    }

    async fn valid_token(&self) -> Result<Token, TransitError> {
        let mut held = self.token.lock().await;
        let token = match held.take() {
            Some(token) if token.is_due() => match self.renew(&token).await {
                Ok(renewed) => renewed,
                // While it lasts, an unrenewed token is as good as a renewed one.
                Err(_)
                    if token
                        .lifetime
                        .is_none_or(|all| token.fetched.elapsed() < all) =>
                {
                    token
                }
                Err(_) => self.log_in().await?,
            },
            Some(token) => token,
            None => self.log_in().await?,
        };
        *held = Some(token.clone());
        Ok(token)
    }

    /// Another token than the dead one.
    async fn replace(&self, dead: &Token) -> Result<Token, TransitError> {
        let mut held = self.token.lock().await;
        if let Some(token) = held.as_ref().filter(|held| held.header != dead.header) {
            return Ok(token.clone()); // another task was first
        }
        *held = None;
        let token = self.log_in().await?;
        *held = Some(token.clone());
        Ok(token)
    }

    async fn renew(&self, token: &Token) -> Result<Token, TransitError> {
        if !token.renewable {
            return match &self.credentials {
                Credentials::AppRole { .. } => self.log_in().await,
                Credentials::TokenFile(path) => self.token_in(path).await,
            };
        }
        let path = "auth/token/renew-self";
        let answer = self.auth_call(
            Method::POST,
            path,
            Some(&token.header),
            Some(b"{}".to_vec()),
        );
        let answer = answer.await?;
        if !answer.status.is_success() {
            return Err(self.expired());
        }
        let renewed = answer.json::<AuthAnswer>(path)?.auth;
        Ok(Token {
            header: token.header.clone(),
            renewable: renewed.renewable,
            fetched: Instant::now(),
            lifetime: seconds(renewed.lease_duration),
        })
    }

    async fn log_in(&self) -> Result<Token, TransitError> {
        let token = self.fetch().await?;
        self.changed.notify_one();
        Ok(token)
    }

    async fn fetch(&self) -> Result<Token, TransitError> {
        match &self.credentials {
            Credentials::TokenFile(path) => self.token_in(path).await,
            Credentials::AppRole {
                mount,
                role_id,
                secret_id_file,
            } => {
                let secret = read_secret(secret_id_file)?;
                let secret = std::str::from_utf8(&secret).map_err(|_| TransitError::Settings {
                    reason: format!("{} is not a secret id", secret_id_file.display()),
                })?;
                let mut body = json!({"role_id": role_id, "secret_id": secret});
                let bytes = body.to_string().into_bytes();
                wipe(&mut body);
                let path = format!("auth/{mount}/login");
                let fetched = Instant::now();
                let answer = match self.auth_call(Method::POST, &path, None, Some(bytes)).await {
                    Err(TransitError::Answer { status: 400, .. }) => return Err(self.expired()),
                    answer => answer?,
                };
                if !answer.status.is_success() {
                    return Err(self.expired());
                }
                let mut auth = answer.json::<AuthAnswer>(&path)?.auth;
                let token = auth.client_token.take().unwrap_or_default();
                Ok(Token {
                    header: secret_header(Zeroizing::new(token.into_bytes()))?,
                    renewable: auth.renewable,
                    fetched,
                    lifetime: seconds(auth.lease_duration),
                })
            }
        }
    }

    async fn token_in(&self, path: &Path) -> Result<Token, TransitError> {
        let header = secret_header(read_secret(path)?)?;
        self.lookup(&header).await?.ok_or_else(|| self.expired())
    }

    /// What the server knows of a token; `None`: it is not valid.
    async fn lookup(&self, header: &HeaderValue) -> Result<Option<Token>, TransitError> {
        #[derive(Deserialize)]
        struct Looked {
            ttl: u64,
            #[serde(default)]
            renewable: bool,
        }
        let path = "auth/token/lookup-self";
        let answer = self
            .auth_call(Method::GET, path, Some(header), None)
            .await?;
        if !answer.status.is_success() {
            return Ok(None);
        }
        let looked: Looked = answer.data(path)?;
        Ok(Some(Token {
            header: header.clone(),
            renewable: looked.renewable,
            fetched: Instant::now(),
            lifetime: seconds(looked.ttl),
        }))
    }

    async fn auth_call(
        &self,
        method: Method,
        path: &str,
        token: Option<&HeaderValue>,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, TransitError> {
        let call = Call {
            method,
            path: path.to_owned(),
            namespace: &self.namespace,
            token,
            body,
        };
        self.http.send(call).await
    }

    fn expired(&self) -> TransitError {
        TransitError::TokenExpired {
            remedy: match &self.credentials {
                Credentials::TokenFile(path) => format!(
                    "write a fresh one to {} (it needs the policy `default`, or auth/token/lookup-self)",
                    path.display()
                ),
                Credentials::AppRole { secret_id_file, .. } => format!(
                    "the role does not log in; write a fresh secret id to {}",
                    secret_id_file.display()
                ),
            },
        }
    }
}

async fn look_after(session: Weak<Session>, changed: Arc<Notify>) {
    loop {
        let Some(held) = session.upgrade() else {
            return;
        };
        let token = held.token.lock().await.clone();
        if token.as_ref().is_some_and(Token::is_due)
            && let Err(error) = held.valid_token().await
        {
            tracing::warn!(%error, "the token for the OpenBao server is not renewed");
        }
        drop(held);
        let lifetime = token.and_then(|token| token.lifetime);
        let pause = lifetime.map_or(LOOK.1, |lifetime| (lifetime / 6).clamp(LOOK.0, LOOK.1));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = changed.notified() => {}
        }
    }
}

/// A lease in seconds; zero lasts for ever.
fn seconds(seconds: u64) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// A file of mode 0600 with one word.
fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, TransitError> {
    let bytes = Zeroizing::new(private_files::read_private(path, MAX_SECRET)?);
    let word = bytes.trim_ascii();
    if word.is_empty() {
        return Err(TransitError::Settings {
            reason: format!("{} is empty: write the secret into it", path.display()),
        });
    }
    Ok(Zeroizing::new(word.to_vec()))
}

/// Overwrites the texts of an object.
fn wipe(value: &mut serde_json::Value) {
    if let Some(object) = value.as_object_mut() {
        for (_, field) in object.iter_mut() {
            if let serde_json::Value::String(text) = field {
                text.zeroize();
            }
        }
    }
}
