//! `verifier serve`: verdicts over HTTP from a trust bundle alone.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sealwarden_seal::seal::MAX_SEAL_BYTES;
use sealwarden_seal::trust::VerifiedBundle;
use sealwarden_seal::verdict;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use crate::cli::Cli;
use crate::commands::{Answer, trust, verify};
use crate::failure::{Ending, Failure};
use crate::{output, trust_seen};

/// Questions that are worked on at once; more are answered 429.
const AT_ONCE: usize = 256;
/// The largest question: a seal in base64, its digest, and room.
const MAX_QUESTION: usize = MAX_SEAL_BYTES * 4 / 3 + 4096;

/// Arguments of `verifier serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// The trust bundle that it judges by, read once at the start
    #[arg(long, value_name = "FILE")]
    trust: PathBuf,
    /// Root keys that the bundle must be signed by (default: those in the bundle, compared with what was seen before)
    #[arg(long, value_name = "FILE")]
    roots: Option<PathBuf>,
    /// The oldest that the bundle may be, such as 7d or 12h; an older one makes a good seal `suspect`
    #[arg(long, value_name = "AGE", value_parser = sealwarden_runbook::parse_duration)]
    max_age: Option<Duration>,
    /// What this release of your verifier is called: it stands in every answer. Letters, digits and -._+
    #[arg(long, value_name = "NAME", default_value = env!("CARGO_PKG_VERSION"))]
    release: String,
    /// Address to listen on; put TLS in front of it before others reach it
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

struct Judge {
    bundle: VerifiedBundle,
    release: String,
    places: Semaphore,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    /// The seal file, base64.
    seal: String,
    /// The document's SHA-256, hex; without it only the seal is judged.
    sha256: Option<String>,
}

pub(crate) async fn run(cli: &Cli, args: &Serve) -> Answer {
    let named = |b: u8| b.is_ascii_alphanumeric() || b"-._+".contains(&b);
    if args.release.is_empty() || args.release.len() > 64 || !args.release.bytes().all(named) {
        return Err(Failure::usage(format!(
            "--release {:?}; use 1 to 64 letters, digits and -._+",
            args.release
        )));
    }
    let bytes = trust::read_limited(&args.trust, trust::MAX_BUNDLE)?;
    let roots = args.roots.as_deref().map(verify::read_roots).transpose()?;
    let mut bundle = trust_seen::open(&bytes, &cli.data, roots.as_ref())?;
    if let Some(age) = args.max_age {
        bundle = bundle.with_max_age_s(age.as_secs());
    }
    let listener = tokio::net::TcpListener::bind(args.listen)
        .await
        .map_err(|e| Failure::usage(format!("cannot listen on {}: {e}", args.listen)))?;
    let address = listener.local_addr().context("asking the address")?;
    let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("waiting for Ctrl-C")?;
    let version = bundle.payload().version;
    let judge = Arc::new(Judge {
        bundle,
        release: args.release.clone(),
        places: Semaphore::new(AT_ONCE),
    });
    let app = Router::new()
        .route("/verify", post(answer))
        .route("/about", get(about))
        .with_state(judge);
    output::line(&format!(
        "ready verifier=http://{address} release={} trust={version}",
        args.release
    ));
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    axum::serve(listener, app)
        .with_graceful_shutdown(stop)
        .await
        .context("serving")?;
    Ok(Ending::Good)
}

async fn about(State(judge): State<Arc<Judge>>) -> Response {
    let payload = judge.bundle.payload();
    told(
        StatusCode::OK,
        &json!({
            "release": judge.release, "program": env!("CARGO_PKG_VERSION"), "installation": payload.installation,
            "trust_version": payload.version, "trust_issued": payload.issued.to_string(),
        }),
    )
}

async fn answer(State(judge): State<Arc<Judge>>, body: Body) -> Response {
    let refused = |code, reason: String| told(code, &json!({ "error": reason }));
    let Ok(_place) = judge.places.try_acquire() else {
        return refused(
            StatusCode::TOO_MANY_REQUESTS,
            "too many questions at once; try again".to_owned(),
        );
    };
    let Ok(body) = to_bytes(body, MAX_QUESTION).await else {
        return refused(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the question has more than {MAX_QUESTION} bytes, or broke off"),
        );
    };
    match judge.judge(&body) {
        Ok(document) => told(StatusCode::OK, &document),
        Err(reason) => refused(StatusCode::BAD_REQUEST, reason),
    }
}

impl Judge {
    fn judge(&self, body: &[u8]) -> Result<Value, String> {
        let question: Question = serde_json::from_slice(body).map_err(|e| {
            format!("the question is not {{\"seal\": BASE64, \"sha256\": HEX}}: {e}")
        })?;
        let seal = STANDARD
            .decode(&question.seal)
            .map_err(|e| format!("seal is no base64: {e}"))?;
        let digest = question.sha256.as_deref().map(digest).transpose()?;
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let verification = verdict::verify(&seal, digest, &self.bundle, now_ms);
        let mut document = verify::from_answer(&verification);
        document["release"] = json!(self.release);
        Ok(document)
    }
}

fn digest(text: &str) -> Result<[u8; 32], String> {
    hex::decode(text)
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| "sha256 is not 64 hexadecimal digits".to_owned())
}

fn told(code: StatusCode, document: &Value) -> Response {
    let kind = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (code, kind, document.to_string()).into_response()
}
