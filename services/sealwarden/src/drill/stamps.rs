//! A time-stamping authority as a vendor runs it: a process of its own, which goes away when it is killed, and comes back at the same address.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// It is ready within this.
const READY: Duration = Duration::from_secs(30);

/// A vendor of time stamps.
pub(super) struct Stamps {
    /// Its name in plan and settings.
    pub(super) name: &'static str,
    dir: PathBuf,
    address: SocketAddr,
    child: Option<Child>,
}

impl Stamps {
    /// Starts one with its key and certificates in a new folder below `base`.
    pub(super) async fn start(name: &'static str, base: &Path) -> anyhow::Result<Self> {
        let dir = base.join(name);
        let (child, address) = run(&dir, SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        Ok(Self {
            name,
            dir,
            address,
            child: Some(child),
        })
    }

    /// Where it is asked.
    pub(super) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// The authority above its certificate.
    pub(super) fn roots(&self) -> PathBuf {
        self.dir.join("root.pem")
    }

    /// It is gone from one moment to the next.
    pub(super) async fn vanish(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().await.context("ending a vendor's process")?;
        }
        Ok(())
    }

    /// The same vendor, at the same address, with the same key.
    pub(super) async fn come_back(&mut self) -> anyhow::Result<()> {
        let (child, _) = run(&self.dir, self.address).await?;
        self.child = Some(child);
        Ok(())
    }
}

async fn run(dir: &Path, listen: SocketAddr) -> anyhow::Result<(Child, SocketAddr)> {
    let program = std::env::current_exe().context("finding this program")?;
    let mut child = Command::new(program)
        .arg("drill-tsa")
        .arg("--dir")
        .arg(dir)
        .args(["--listen", &listen.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("starting a time-stamping authority")?;
    let stdout = child.stdout.take().context("a process without output")?;
    let mut lines = BufReader::new(stdout).lines();
    let line = tokio::time::timeout(READY, lines.next_line()).await;
    let line = line.context("a time-stamping authority was not ready in time")??;
    let line = line.unwrap_or_default();
    let address = line
        .split_whitespace()
        .find_map(|word| word.strip_prefix("tsa=http://"))
        .and_then(|word| word.trim_end_matches('/').parse().ok())
        .with_context(|| format!("a time-stamping authority did not start: {line:?}"))?;
    Ok((child, address))
}
