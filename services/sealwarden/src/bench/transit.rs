//! `seal.transit`: sealing with a key in an OpenBao server, beside that server signing each digest itself with the same key for the same callers.
//!
//! The transit engine is mounted under a name of its own, which is removed afterwards with its key.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sealwarden_anchors::outside::http_client;
use sealwarden_keys::private_files;
use sealwarden_seal::merkle::Hash;
use serde_json::{Value, json};

use super::Setting;
use super::figures::{Figure, Measured, ms};
use super::load::{Loaded, load};
use super::unary::{self, CALLERS};
use crate::failure::Failure;
use crate::host::key_providers::{Kind, ProviderSettings};

/// Digests of one request where they are signed in batches.
const BATCH: u32 = 100;
/// How long one request may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// The longest token, in bytes.
const MAX_TOKEN: u64 = 4096;
/// The name that the key of a new installation has in the server.
const KEY: &str = "sealing-main-1";

/// Where the server is and what it wants to see.
pub(super) struct Server {
    url: String,
    ca_file: PathBuf,
    token_file: PathBuf,
}

impl Server {
    /// The server that the command names, if it does.
    pub(super) fn of(args: &super::Bench) -> Result<Option<Self>, Failure> {
        match (&args.bao, &args.bao_ca, &args.token_file) {
            (None, None, None) => Ok(None),
            (Some(url), Some(ca_file), Some(token_file)) => Ok(Some(Self {
                url: url.trim_end_matches('/').to_owned(),
                ca_file: ca_file.clone(),
                token_file: token_file.clone(),
            })),
            _ => Err(Self::missing()),
        }
    }

    /// What to say where the server is not named.
    pub(super) fn missing() -> Failure {
        Failure::usage(
            "bench transit works with an OpenBao server: give --bao https://HOST:PORT, --bao-ca FILE and --token-file FILE together",
        )
    }
}

/// Asks the server.
#[derive(Clone)]
struct Bao {
    client: reqwest::Client,
    url: Arc<str>,
    token: Arc<str>,
}

impl Bao {
    fn connect(server: &Server) -> anyhow::Result<Self> {
        let ca = std::fs::read(&server.ca_file)
            .with_context(|| format!("reading {}", server.ca_file.display()))?;
        let token = private_files::read_private(&server.token_file, MAX_TOKEN)?;
        let token = std::str::from_utf8(&token).context("the token is not text")?;
        Ok(Self {
            client: http_client(&server.url, DEADLINE, Some(&ca))?,
            url: server.url.as_str().into(),
            token: token.trim().into(),
        })
    }

    async fn ask(
        &self,
        method: reqwest::Method,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<Value> {
        let answer = self
            .client
            .request(method.clone(), format!("{}/v1/{path}", self.url))
            .header("x-vault-token", &*self.token)
            .body(body.to_string())
            .send()
            .await
            .with_context(|| format!("asking {}", self.url))?;
        let status = answer.status();
        let text = answer.bytes().await?;
        if !status.is_success() {
            bail!(
                "{method} {path} is answered {status}: {}",
                String::from_utf8_lossy(&text).trim()
            );
        }
        Ok(serde_json::from_slice(&text).unwrap_or(Value::Null))
    }
}

pub(super) async fn measure(setting: &Setting, server: &Server) -> anyhow::Result<Measured> {
    let bao = Bao::connect(server)?;
    let unique = setting.folder.file_name().unwrap_or_default();
    let unique = Hash::of(unique.as_encoded_bytes()).to_string();
    let letters = unique.chars().filter(char::is_ascii_alphanumeric);
    let mount = format!("sealwarden-bench-{}", letters.take(12).collect::<String>());
    let path = format!("sys/mounts/{mount}");
    let engine = json!({"type": "transit"});
    bao.ask(reqwest::Method::POST, &path, &engine)
        .await
        .context("mounting a transit engine for the measurement")?;
    let measured = on_mount(setting, server, &bao, &mount).await;
    let removed = bao.ask(reqwest::Method::DELETE, &path, &Value::Null).await;
    let measured = measured?;
    removed
        .with_context(|| format!("removing {mount}: do it with `bao secrets disable {mount}`"))?;
    Ok(measured)
}

async fn on_mount(
    setting: &Setting,
    server: &Server,
    bao: &Bao,
    mount: &str,
) -> anyhow::Result<Measured> {
    setting.stage("starting services");
    let provider = ProviderSettings {
        url: Some(server.url.clone()),
        ca_file: Some(std::path::absolute(&server.ca_file)?),
        token_file: Some(std::path::absolute(&server.token_file)?),
        mount: Some(mount.to_owned()),
        ..ProviderSettings::new("transit", Kind::Transit)
    };
    let bench = unary::Bench::start_with(&setting.folder, Some(provider)).await?;
    let result = side_by_side(setting, &bench, bao, mount).await;
    bench.stop().await?;
    result
}

async fn side_by_side(
    setting: &Setting,
    bench: &unary::Bench,
    bao: &Bao,
    mount: &str,
) -> anyhow::Result<Measured> {
    let channels = bench.sealing().await?;
    // `sealing` used the first number.
    let counter = Arc::new(AtomicU64::new(1_000_000));
    setting.stage("256 callers, sealing with the server's key");
    let sealed = unary::seal_load(&channels, &counter, CALLERS, setting.span).await?;
    let path = format!("{mount}/sign/{KEY}");
    setting.stage("256 callers, the server signs each digest");
    let singly = sign_load(bao, &path, &counter, 1, setting.span).await?;
    setting.stage("256 callers, the server signs digests in batches of 100");
    let batched = sign_load(bao, &path, &counter, BATCH, setting.span).await?;
    let figure = |name, value, unit, limit, limit_is| Figure {
        name,
        value,
        unit,
        limit,
        limit_is,
    };
    let each = "the server signs each digest by itself, same key, same callers";
    let hundred = "the server signs digests in batches of 100, same key, same callers";
    let mut measured = Measured {
        figures: vec![
            figure("seal.transit", sealed.rate, "digests/s", singly.rate, each),
            figure(
                "seal.transit.batched",
                sealed.rate,
                "digests/s",
                batched.rate * f64::from(BATCH),
                hundred,
            ),
            figure(
                "seal.transit.p99",
                ms(sealed.p99),
                "ms",
                ms(singly.p99),
                each,
            ),
        ],
        ..Measured::default()
    };
    measured.setting(
        "durability",
        "a seal is answered when leaf, intent and checkpoint are synced; the server's signature of a digest is kept by nobody",
    );
    measured.setting(
        "load",
        format!(
            "{CALLERS} callers, one digest each and one after another; both over TLS on this machine's cores, load generator included"
        ),
    );
    measured.setting(
        "server",
        format!(
            "{}, transit engine, Ed25519, without audit device of ours",
            server_name(bao).await
        ),
    );
    Ok(measured)
}

async fn server_name(bao: &Bao) -> String {
    let health = bao
        .ask(reqwest::Method::GET, "sys/health", &Value::Null)
        .await;
    let version = health
        .ok()
        .and_then(|it| it["version"].as_str().map(str::to_owned));
    format!("OpenBao {}", version.unwrap_or_default())
}

/// Callers that let the server sign `digests` digests a request.
async fn sign_load(
    bao: &Bao,
    path: &str,
    counter: &Arc<AtomicU64>,
    digests: u32,
    span: Duration,
) -> anyhow::Result<Loaded> {
    load(CALLERS, span, |_| {
        let (bao, path, counter) = (bao.clone(), path.to_owned(), Arc::clone(counter));
        move || {
            let (bao, path, counter) = (bao.clone(), path.clone(), Arc::clone(&counter));
            async move {
                let digest = || {
                    let number = counter.fetch_add(1, Ordering::Relaxed);
                    json!({"input": BASE64_STANDARD.encode(Hash::of(&number.to_be_bytes()).0)})
                };
                let body = if digests == 1 {
                    digest()
                } else {
                    let inputs: Vec<Value> = (0..digests).map(|_| digest()).collect();
                    json!({"batch_input": inputs})
                };
                let answer = bao.ask(reqwest::Method::POST, &path, &body).await?;
                let signed = if digests == 1 {
                    usize::from(answer["data"]["signature"].is_string())
                } else {
                    let results = answer["data"]["batch_results"].as_array();
                    let all = results.into_iter().flatten();
                    all.filter(|it| it["signature"].is_string()).count()
                };
                ensure!(
                    u32::try_from(signed) == Ok(digests),
                    "of {digests} digests the server signed {signed}"
                );
                Ok(())
            }
        }
    })
    .await
}
