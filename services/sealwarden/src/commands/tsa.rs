//! `tsa`: the small time-stamping authority for drills and tests. Not for real documents: whoever owns the machine can stamp any time.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use sealwarden_anchors::authority::{Authority, Clock, issue, router};
use sealwarden_anchors::signer::Signer;

use super::Answer;
use crate::failure::{Ending, Failure};
use crate::host::installation::{private_dir, write_durably, write_public};
use crate::output;

/// How long its certificate is valid, seconds.
const VALID_S: i64 = 365 * 86_400;

/// Arguments of `tsa`.
#[derive(Debug, clap::Args)]
pub(crate) struct DrillTsa {
    /// Folder of its key and certificates, made on first use; `root.pem` in it is what verifiers trust
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Where it listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// Lie: stamp a time so many seconds from now
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 0,
        allow_hyphen_values = true
    )]
    pub(crate) offset_s: i64,
}

pub(crate) async fn run(args: &DrillTsa) -> Answer {
    let signer = signer(args)?;
    let offset_ms = args.offset_s.saturating_mul(1000);
    let clock: Clock = Arc::new(move || {
        jiff::Timestamp::now()
            .as_millisecond()
            .saturating_add(offset_ms)
    });
    let listener = tokio::net::TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("listening on {}", args.listen))?;
    let address = listener.local_addr().context("reading its own address")?;
    output::line(&format!(
        "ready tsa=http://{address}/ root={}",
        args.dir.join("root.pem").display()
    ));
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .context("waiting for SIGTERM")?;
    let stop = async move {
        let _ = terminate.recv().await;
    };
    axum::serve(listener, router(Arc::new(Authority::new(signer)), clock))
        .with_graceful_shutdown(stop)
        .await
        .context("serving")?;
    Ok(Ending::Good)
}

fn signer(args: &DrillTsa) -> Result<Signer, Failure> {
    let (chain, key) = (args.dir.join("tsa.pem"), args.dir.join("tsa.key"));
    if !chain.exists() {
        private_dir(&args.dir)?;
        let now_s = jiff::Timestamp::now().as_second();
        let issued = issue("Drill TSA", now_s - VALID_S, now_s + VALID_S)
            .map_err(|e| Failure::refused(e.to_string()))?;
        write_durably(&key, issued.key.as_bytes())?;
        write_public(&args.dir.join("root.pem"), issued.root.as_bytes())?;
        write_public(&chain, issued.certificate.as_bytes())?;
    }
    let read = |path: &PathBuf| {
        fs::read(path).map_err(|e| Failure::usage(format!("cannot read {}: {e}", path.display())))
    };
    Signer::from_pem(&read(&chain)?, &zeroize::Zeroizing::new(read(&key)?))
        .map_err(|e| Failure::usage(e.to_string()))
}
