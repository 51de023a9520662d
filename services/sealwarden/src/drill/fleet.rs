//! Verifiers in production, as a customer has them: several processes behind one door, and a deployment system that says which release each of them runs.
//!
//! The processes are real: `sealwarden verifier serve` with the flags of their release. The deployment system answers webhooks under a token, does each call once, and
//! can be asked whether it did.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, RwLock};
use tokio_util::sync::CancellationToken;

use super::sandbox::Scene;
use crate::host::installation::{private_dir, random, write_durably};

/// How many verifiers there are.
pub(super) const PLACES: usize = 3;
/// The verifiers' name in the settings.
pub(super) const VERIFIER: &str = "fleet";
/// The archive whose documents are put to them.
pub(super) const ARCHIVE: &str = "drill";
/// File of the deployment system's token, in the sandbox.
const TOKEN: &str = "deployments-token";
/// A verifier is ready within this.
const READY: Duration = Duration::from_secs(30);
/// The largest call that is read, bytes.
const MAX_CALL: usize = 4 * 1024 * 1024;

/// What a release is: a name and the flags that it was shipped with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Release {
    pub(super) name: &'static str,
    /// How old its configuration lets a trust bundle be.
    pub(super) max_age: &'static str,
}

/// A verifier that runs.
struct Place {
    release: Release,
    url: String,
    child: Child,
}

/// What the deployment system knows.
#[derive(Default)]
struct Deployments {
    folder: PathBuf,
    token: String,
    frozen: bool,
    /// What is everywhere, and is gone back to.
    stable: Option<Release>,
    /// What people put forward to be deployed next.
    next: Option<Release>,
    /// Calls that were done, by their keys.
    done: BTreeSet<String>,
    /// What was done, in words.
    story: Vec<String>,
    /// Numbers the folders of processes.
    started: u32,
}

struct Inner {
    http: reqwest::Client,
    /// One call at a time.
    deployments: Mutex<Deployments>,
    places: RwLock<Vec<Place>>,
    turn: AtomicUsize,
}

/// The door, the deployment system, and the verifiers behind them.
pub(super) struct Fleet {
    address: SocketAddr,
    inner: Arc<Inner>,
    stop: CancellationToken,
}

impl Fleet {
    /// Opens the door; nobody is behind it yet.
    pub(super) async fn open() -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let inner = Arc::new(Inner {
            http: sealwarden_anchors::outside::plain_client()?,
            deployments: Mutex::default(),
            places: RwLock::default(),
            turn: AtomicUsize::new(0),
        });
        let app = Router::new()
            .route("/verify", post(verify))
            .route("/releases", post(called).get(asked))
            .with_state(Arc::clone(&inner));
        let stop = CancellationToken::new();
        let ended = stop.clone().cancelled_owned();
        // It ends with `stop`, and what it serves is the drill's own.
        drop(tokio::spawn(async move {
            drop(
                axum::serve(listener, app)
                    .with_graceful_shutdown(ended)
                    .await,
            );
        }));
        Ok(Self {
            address,
            inner,
            stop,
        })
    }

    /// The address under `path`.
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What the sandbox must be set to, so that the verifiers are watched and the deployment system can be called.
    pub(super) fn scene(&self) -> Scene {
        let (door, releases) = (self.url(""), self.url("/releases"));
        let settings = format!(
            "verification:\n  archives:\n    - {{name: {ARCHIVE}, url: archive, backup: backup, every_h: 0}}\n  verifiers:\n    - {{name: {VERIFIER}, url: \"{door}\", archive: {ARCHIVE}, every_s: 1, sample: 100}}\n\
             runbook-executor:\n  webhooks:\n    releases: {{url: \"{releases}\", observe_url: \"{releases}\", token_file: {TOKEN}, timeout_ms: 60000}}\n"
        );
        Scene {
            settings: settings.into(),
            misbehaves: None,
        }
    }

    /// Makes the token, and the folder that releases are made in.
    pub(super) async fn settle(&self, sandbox: &Path, bundle: &[u8]) -> anyhow::Result<()> {
        let folder = sandbox.join("fleet");
        private_dir(&folder)?;
        std::fs::write(folder.join("trust.json"), bundle).context("packing the trust bundle")?;
        let token = hex::encode(random::<16>()?);
        write_durably(&sandbox.join(TOKEN), token.as_bytes())?;
        let mut deployments = self.inner.deployments.lock().await;
        deployments.folder = folder;
        deployments.token = token;
        Ok(())
    }

    /// A release as the pipeline lets it out: everywhere at once, unless releases are frozen.
    pub(super) async fn release(&self, release: Release) -> anyhow::Result<bool> {
        let mut deployments = self.inner.deployments.lock().await;
        if deployments.frozen {
            return Ok(false);
        }
        self.inner.everywhere(&mut deployments, release).await?;
        // What runs first is what is gone back to, until another one proved itself.
        deployments.stable.get_or_insert(release);
        let words = format!("the pipeline released {} everywhere", release.name);
        deployments.story.push(words);
        Ok(true)
    }

    /// People put a release forward.
    pub(super) async fn put_forward(&self, release: Release) {
        self.inner.deployments.lock().await.next = Some(release);
    }

    /// Which release runs in each place.
    pub(super) async fn running(&self) -> Vec<&'static str> {
        let places = self.inner.places.read().await;
        places.iter().map(|it| it.release.name).collect()
    }

    /// What the deployment system did.
    pub(super) async fn story(&self) -> Vec<String> {
        self.inner.deployments.lock().await.story.clone()
    }

    /// Ends all of it.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        for mut place in std::mem::take(&mut *self.inner.places.write().await) {
            // It may have ended by itself.
            drop(place.child.kill().await);
        }
    }
}

impl Inner {
    async fn everywhere(&self, d: &mut Deployments, release: Release) -> anyhow::Result<()> {
        for place in 0..PLACES {
            self.put(d, place, release).await?;
        }
        Ok(())
    }

    /// Starts the release's process, lets it answer in place of the one before, and ends that.
    async fn put(&self, d: &mut Deployments, place: usize, release: Release) -> anyhow::Result<()> {
        let is_there = self
            .places
            .read()
            .await
            .get(place)
            .is_some_and(|it| it.release == release);
        if is_there {
            return Ok(());
        }
        d.started += 1;
        // As in a container: what an earlier process remembered of trust bundles is not there.
        let home = d.folder.join(format!("process-{}", d.started));
        private_dir(&home)?;
        let new = start(&d.folder.join("trust.json"), &home, release).await?;
        let mut places = self.places.write().await;
        let old = if let Some(old) = places.get_mut(place) {
            Some(std::mem::replace(old, new))
        } else {
            places.push(new);
            None
        };
        drop(places);
        if let Some(mut old) = old {
            old.child.kill().await.context("ending a verifier")?;
        }
        Ok(())
    }

    /// Does what a webhook asks for; an error is the target's refusal.
    async fn act(&self, d: &mut Deployments, what: &Value) -> anyhow::Result<String> {
        let text = |name: &str| what[name].as_str().unwrap_or_default();
        let next = || d.next.context("nobody put a release forward");
        match (text("do"), text("stage")) {
            ("freeze", _) => {
                d.frozen = true;
                Ok("no further release goes out".to_owned())
            }
            ("thaw", _) => {
                d.frozen = false;
                Ok("releases go out again".to_owned())
            }
            ("roll-back", _) => {
                let stable = d.stable.context("there is no release to go back to")?;
                if stable.name != text("to") {
                    bail!(
                        "the stable release is {}, not {:?}",
                        stable.name,
                        text("to")
                    );
                }
                self.everywhere(d, stable).await?;
                Ok(format!("release {} is everywhere again", stable.name))
            }
            ("deploy", "first") => {
                let next = next()?;
                self.put(d, 0, next).await?;
                Ok(format!("release {} is in the first place", next.name))
            }
            ("deploy", "all") => {
                let next = next()?;
                self.everywhere(d, next).await?;
                d.stable = Some(next);
                Ok(format!("release {} is everywhere", next.name))
            }
            (other, stage) => bail!("{other:?} (stage {stage:?}) is nothing that is done here"),
        }
    }
}

/// Starts a verifier and waits for its `ready` line.
async fn start(trust: &Path, home: &Path, release: Release) -> anyhow::Result<Place> {
    let program = std::env::current_exe().context("finding this program")?;
    let mut child = Command::new(program)
        .args(["verifier", "serve", "--release", release.name])
        .args(["--max-age", release.max_age, "--trust"])
        .arg(trust)
        .arg("--data")
        .arg(home)
        .env("XDG_STATE_HOME", home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("starting a verifier")?;
    let stdout = child.stdout.take().context("a verifier without output")?;
    let mut lines = BufReader::new(stdout).lines();
    let line = tokio::time::timeout(READY, lines.next_line()).await;
    let line = line
        .context("a verifier was not ready in time")??
        .unwrap_or_default();
    let mut words = line.split_whitespace();
    let url = words
        .find_map(|word| word.strip_prefix("verifier="))
        .with_context(|| format!("release {} did not start: {line:?}", release.name))?;
    Ok(Place {
        release,
        url: url.to_owned(),
        child,
    })
}

/// The door: one verifier after another answers.
async fn verify(State(inner): State<Arc<Inner>>, body: Body) -> Response {
    let Ok(body) = to_bytes(body, MAX_CALL).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let turn = inner.turn.fetch_add(1, Ordering::Relaxed);
    let url = {
        let places = inner.places.read().await;
        let count = places.len().max(1);
        places
            .get(turn % count)
            .map(|it| format!("{}/verify", it.url))
    };
    let Some(url) = url else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let Ok(answer) = inner.http.post(url).timeout(READY).body(body).send().await else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let status = answer.status();
    match answer.bytes().await {
        Ok(bytes) => (status, bytes).into_response(),
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .and_then(|it| it.to_str().ok())
        .unwrap_or_default()
}

/// A webhook's call: done once a key.
async fn called(State(inner): State<Arc<Inner>>, headers: HeaderMap, body: Body) -> Response {
    let refused = |code: StatusCode, why: String| (code, why).into_response();
    let mut deployments = inner.deployments.lock().await;
    let bearer = format!("Bearer {}", deployments.token);
    if deployments.token.is_empty() || header(&headers, "authorization") != bearer {
        return refused(StatusCode::UNAUTHORIZED, "who are you?".to_owned());
    }
    let key = header(&headers, "idempotency-key").to_owned();
    if deployments.done.contains(&key) {
        return (StatusCode::OK, "it was done before").into_response();
    }
    let body = to_bytes(body, MAX_CALL).await.unwrap_or_default();
    let what: Value = serde_json::from_slice(&body).unwrap_or_default();
    match inner.act(&mut deployments, &what).await {
        Ok(words) => {
            deployments.done.insert(key);
            deployments.story.push(words.clone());
            (StatusCode::OK, words).into_response()
        }
        Err(error) => refused(StatusCode::UNPROCESSABLE_ENTITY, format!("{error:#}")),
    }
}

/// Whether a call was done.
async fn asked(State(inner): State<Arc<Inner>>, headers: HeaderMap) -> Response {
    let deployments = inner.deployments.lock().await;
    let known = deployments
        .done
        .contains(header(&headers, "idempotency-key"));
    if known {
        (StatusCode::OK, "it was done").into_response()
    } else {
        (StatusCode::NOT_FOUND, "it was not").into_response()
    }
}
