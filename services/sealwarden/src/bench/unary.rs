//! `seal.unary`, `seal.latency`: sealing over gRPC with mutual TLS on loopback, one document a call, load generator included.
//!
//! The services are the installation's own: sealing, and the control authority that grants permits. The limit is an empty
//! call to a server of the same kind under the same load.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use sealwarden_engine::Role;
use sealwarden_eventlog::Environment;
use sealwarden_pki::{Identity, IdentityFiles, connect};
use sealwarden_seal::merkle::Hash;
use sealwarden_seal::seal::Seal;
use sealwarden_wire::seal::v1::SealRequest;
use sealwarden_wire::seal::v1::sealing_client::SealingClient;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::Setting;
use super::figures::{Baseline, Figure, Measured, ms, number};
use super::limits;
use super::load::{Loaded, load};
use super::log::Writer;
use crate::host::installation::NewInstallation;
use crate::host::key_providers::ProviderSettings;
use crate::host::listen::Listeners;
use crate::host::start::{Options, Started, start};

/// Callers at once.
pub(super) const CALLERS: usize = 256;
/// Connections that they share.
const CONNECTIONS: usize = 8;
/// How long the services may take until the first seal.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// Documents that the plain baseline writes before each sync: as many as there are callers.
const BASELINE_BATCH: f64 = 256.0;

/// Both servers and who calls them.
pub(super) struct Bench {
    started: Started,
    identity: Identity,
    empty_url: String,
    empty: JoinSet<anyhow::Result<()>>,
    shutdown: CancellationToken,
}

pub(super) async fn measure(setting: &Setting) -> anyhow::Result<Measured> {
    setting.stage("starting services");
    let bench = Bench::start(&setting.folder).await?;
    let result = bench.measure(setting).await;
    bench.stop().await?;
    result
}

impl Bench {
    pub(super) async fn start(folder: &Path) -> anyhow::Result<Self> {
        Self::start_with(folder, None).await
    }

    /// The services, with their sealing keys there.
    pub(super) async fn start_with(
        folder: &Path,
        sealing_keys: Option<ProviderSettings>,
    ) -> anyhow::Result<Self> {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let data = folder.join("data");
        let options = Options {
            data: data.clone(),
            new: NewInstallation {
                name: Some("bench".to_owned()),
                environment: Environment::Drill,
                base: "drill.invalid".to_owned(),
            },
            nats: None,
            settings: None,
            plan: None,
            listen: loopback,
            listen_http: loopback,
            hosts: Vec::new(),
            passphrase_file: None,
            fault: None,
            sealing_keys,
            roles: [Role::Sealing, Role::RunbookExecutor]
                .map(|role| (role, format!("{}-1", role.as_str())))
                .to_vec(),
        };
        let started = Box::pin(start(options)).await?;
        let certificates = data.join("certificates");
        let identity = IdentityFiles::in_dir(&certificates, "operator").load()?;
        let server = IdentityFiles::in_dir(&certificates, "sealing-1").load()?;
        let (empty, shutdown) = (JoinSet::new(), CancellationToken::new());
        let listeners = Listeners::bind(loopback, loopback).await?;
        let mut bench = Self {
            started,
            identity,
            empty_url: listeners.grpc_url()?,
            empty,
            shutdown,
        };
        let (_, health) = tonic_health::server::health_reporter();
        listeners.serve(
            Routes::new(health),
            axum::Router::new(),
            &server,
            &bench.shutdown,
            &mut bench.empty,
        )?;
        Ok(bench)
    }

    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        while let Some(ended) = self.empty.join_next().await {
            ended.context("the empty server panicked")??;
        }
        self.started.run_until(std::future::ready(())).await
    }

    /// Connections to the sealing service, which has its permit.
    pub(super) async fn sealing(&self) -> anyhow::Result<Vec<Channel>> {
        let channels = self.channels(&self.started.endpoint.grpc).await?;
        ready(&channels, &AtomicU64::new(0)).await?;
        Ok(channels)
    }

    async fn channels(&self, url: &str) -> anyhow::Result<Vec<Channel>> {
        let mut channels = Vec::new();
        for _ in 0..CONNECTIONS {
            channels.push(connect(url, &self.identity).await?);
        }
        Ok(channels)
    }

    async fn measure(&self, setting: &Setting) -> anyhow::Result<Measured> {
        let sealing = self.channels(&self.started.endpoint.grpc).await?;
        let empty = self.channels(&self.empty_url).await?;
        let counter = Arc::new(AtomicU64::new(0));
        let first = ready(&sealing, &counter).await?;
        setting.stage("256 callers, sealing");
        let sealed = seal_load(&sealing, &counter, CALLERS, setting.span).await?;
        setting.stage("256 callers, empty calls");
        let called = empty_load(&empty, CALLERS, setting.span).await?;
        setting.stage("one caller, sealing");
        let span = setting.span.min(Duration::from_secs(3));
        let one_sealed = seal_load(&sealing, &counter, 1, span).await?;
        setting.stage("one caller, empty calls");
        let one_called = empty_load(&empty, 1, span).await?;
        setting.stage("limits: syncs and signatures");
        let folder = setting.folder.clone();
        let alone = tokio::task::spawn_blocking(move || Alone::measure(&folder, span));
        let alone = alone.await.context("measuring limits")??;
        let mut measured = alone.compare(&sealed, &called, &one_sealed, &one_called);
        measured.setting(
            "durability",
            format!(
                "each answer follows {} syncs that its batch shares: staged batch, intent in the event log, the key's audit line, tiles, records, checkpoint",
                alone.syncs
            ),
        );
        measured.setting(
            "load",
            format!(
                "{CALLERS} callers over {CONNECTIONS} connections with mutual TLS, in the same process as the services; seals of {first} bytes come back"
            ),
        );
        measured.setting(
            "processor time",
            format!(
                "{:.1} us a seal, {:.1} us an empty call, callers included ({:.2} of it)",
                micros(sealed.processor),
                micros(called.processor),
                sealed.processor.as_secs_f64() / called.processor.as_secs_f64(),
            ),
        );
        measured.setting(
            "services",
            "sealing and control authority, embedded event log, software key; wait stage sealed",
        );
        Ok(measured)
    }
}

fn micros(span: Duration) -> f64 {
    ms(span) * 1000.0
}

fn request(counter: &AtomicU64) -> SealRequest {
    let number = counter.fetch_add(1, Ordering::Relaxed);
    SealRequest {
        digest_algorithm: "sha-256".to_owned(),
        digest: Hash::of(&number.to_be_bytes()).0.to_vec().into(),
        ..SealRequest::default()
    }
}

/// Waits for the permit, and answers how long a seal is. A seal that does not read is no measurement.
async fn ready(channels: &[Channel], counter: &AtomicU64) -> anyhow::Result<usize> {
    let channel = channels.first().context("no connection")?.clone();
    let mut client = SealingClient::new(channel);
    let begun = Instant::now();
    loop {
        match client.seal(request(counter)).await {
            Ok(answer) => {
                let seal = answer.into_inner().seal;
                Seal::parse(&seal)?;
                return Ok(seal.len());
            }
            Err(status) if begun.elapsed() > READY_WITHIN => {
                bail!("sealing is not ready: {}", status.message())
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

fn pick(channels: &[Channel], number: usize) -> Option<Channel> {
    channels.get(number % channels.len().max(1)).cloned()
}

/// Callers that seal one document after another.
pub(super) async fn seal_load(
    channels: &[Channel],
    counter: &Arc<AtomicU64>,
    callers: usize,
    span: Duration,
) -> anyhow::Result<Loaded> {
    load(callers, span, |number| {
        let client = pick(channels, number).map(SealingClient::new);
        let counter = Arc::clone(counter);
        move || {
            let (client, request) = (client.clone(), request(&counter));
            async move {
                let mut client = client.context("no connection")?;
                client.seal(request).await.context("sealing")?;
                Ok(())
            }
        }
    })
    .await
}

async fn empty_load(
    channels: &[Channel],
    callers: usize,
    span: Duration,
) -> anyhow::Result<Loaded> {
    load(callers, span, |number| {
        let client = pick(channels, number).map(HealthClient::new);
        move || {
            let client = client.clone();
            async move {
                let mut client = client.context("no connection")?;
                let request = HealthCheckRequest::default();
                client.check(request).await.context("calling")?;
                Ok(())
            }
        }
    })
    .await
}

/// What syncs and signatures cost without any service.
struct Alone {
    sync_s: f64,
    sign_s: f64,
    /// Syncs before one seal is answered.
    syncs: u64,
}

impl Alone {
    fn measure(folder: &Path, span: Duration) -> anyhow::Result<Self> {
        let mut writer = Writer::create(&folder.join("scratch"))?;
        // The first batch makes folders; the second is like those after it.
        for _ in 0..2 {
            writer.syncs.take();
            let leaves = writer.leaves(1)?;
            writer.publish(leaves)?;
        }
        Ok(Self {
            // The intent and the key's audit line are written by others.
            syncs: writer.syncs.take() + 2,
            sync_s: 1.0 / limits::appends(folder, 4096, span)?,
            sign_s: limits::sign_s(Duration::from_secs(1))?,
        })
    }

    fn compare(
        &self,
        sealed: &Loaded,
        called: &Loaded,
        one_sealed: &Loaded,
        one_called: &Loaded,
    ) -> Measured {
        let latency_s =
            number(self.syncs) * self.sync_s + self.sign_s + one_called.p50.as_secs_f64();
        let figure = |name, value, unit, limit, limit_is| Figure {
            name,
            value,
            unit,
            limit,
            limit_is,
        };
        Measured {
            figures: vec![
                figure(
                    "seal.unary",
                    sealed.rate,
                    "seals/s",
                    called.rate,
                    "empty calls under the same load",
                ),
                figure(
                    "seal.unary.p99",
                    ms(sealed.p99),
                    "ms",
                    ms(called.p99),
                    "empty calls under the same load",
                ),
                figure(
                    "seal.latency",
                    ms(one_sealed.p50),
                    "ms",
                    latency_s * 1000.0,
                    "the same syncs, one signature, one empty call (median, one caller)",
                ),
            ],
            baselines: vec![Baseline {
                figure: "seal.unary",
                value: 1.0 / (1.0 / called.rate + self.sign_s + self.sync_s / BASELINE_BATCH),
                is: "an empty call, one signature a document, one sync for 256 documents",
            }],
            settings: Vec::new(),
        }
    }
}
