//! Starting roles: the event log, the surroundings, the listeners, the announcement. `up` starts all roles, `serve` one, a drill all in a sandbox.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use sealwarden_engine::{Board, Role, SystemClock};
use sealwarden_eventlog::{Config as LogConfig, Environment, EventLog};
use sealwarden_pki::{Authority, CallerName, CallerRole, IdentityFiles};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::endpoints::{Endpoint, Endpoints};
use super::installation::{Installation, NewInstallation, private_dir};
use super::key_providers::{InjectedFault, KeySource, ProviderSettings};
use super::listen::Listeners;
use super::purposes::Purposes;
use super::roles::{Shared, announce};
use super::roster::KnownRoster;
use super::settings::Settings;

/// How long clients' certificates last that `up` makes.
const CLIENT_VALIDITY: Duration = Duration::from_hours(90 * 24);
/// How long the roles may take until they serve.
const READY_WITHIN: Duration = Duration::from_mins(1);

/// What to start.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Data folder.
    pub(crate) data: PathBuf,
    /// What to make if the folder is new.
    pub(crate) new: NewInstallation,
    /// NATS server; the embedded log otherwise.
    pub(crate) nats: Option<String>,
    /// Settings file; `settings.yaml` in the data folder otherwise.
    pub(crate) settings: Option<PathBuf>,
    /// Plan folder; the installation's otherwise.
    pub(crate) plan: Option<PathBuf>,
    /// gRPC address.
    pub(crate) listen: SocketAddr,
    /// HTTP address.
    pub(crate) listen_http: SocketAddr,
    /// Further host names for certificates.
    pub(crate) hosts: Vec<String>,
    /// Passphrase for keys at rest.
    pub(crate) passphrase_file: Option<PathBuf>,
    /// The one provider of sealing keys; what the settings name otherwise.
    pub(crate) sealing_keys: Option<ProviderSettings>,
    /// A provider of sealing keys that misbehaves on order; in drills only.
    pub(crate) fault: Option<InjectedFault>,
    /// Roles with their nodes' names.
    pub(crate) roles: Vec<(Role, String)>,
}

/// Running roles.
pub(crate) struct Started {
    /// The installation.
    pub(crate) installation: Installation,
    /// The event log.
    pub(crate) log: Arc<dyn EventLog>,
    /// The live fold of the event log.
    pub(crate) board: Arc<Board>,
    /// Where they listen.
    pub(crate) endpoint: Endpoint,
    /// Everything that runs; the first that ends ends the process.
    tasks: JoinSet<anyhow::Result<()>>,
    follower: tokio::task::JoinHandle<()>,
    shutdown: CancellationToken,
}

/// Starts roles and answers when they serve.
pub(crate) async fn start(options: Options) -> anyhow::Result<Started> {
    let installation = Installation::open_or_create(&options.data, &options.new)?;
    if installation.environment() != options.new.environment {
        bail!(
            "{} holds a {} installation; use another folder for a {}",
            installation.data.display(),
            installation.environment(),
            options.new.environment
        );
    }
    if options.fault.is_some() && installation.environment() != Environment::Drill {
        bail!("faults are injected into drills only");
    }
    let settings = Settings::read(options.settings.as_deref(), &installation.data)?;
    let mut roster = KnownRoster::read(&installation, options.plan.as_deref())?;
    let plan = Arc::new(roster.plan.clone());
    let log = open_log(&installation, options.nats.as_deref()).await?;
    let (board, follower) = Board::follow(Arc::clone(&log));
    board.caught_up().await;
    let executor = |(role, _): &&(Role, String)| *role == Role::RunbookExecutor;
    if let Some((_, name)) = options.roles.iter().find(executor) {
        roster.record(&log, &board, name).await?;
    }
    let known_roster = roster.anchor(&board)?;
    roster.settle(&board, &known_roster);
    let shutdown = CancellationToken::new();
    let shared = Shared {
        installation: installation.clone(),
        log: Arc::clone(&log),
        board: Arc::clone(&board),
        clock: Arc::new(SystemClock),
        plan,
        known_roster: known_roster.clone(),
        plan_dir: roster.dir.clone(),
        shutdown: shutdown.clone(),
        key_source: KeySource {
            passphrase_file: options.passphrase_file.clone(),
            sealing: settings.keys.with(options.sealing_keys.clone())?,
            fault: options.fault.clone(),
        },
        purposes: Purposes::default(),
    };
    issue_clients(&installation).await?;
    let mut started = Started {
        installation,
        log,
        board,
        endpoint: Endpoint {
            grpc: String::new(),
            http: String::new(),
            pid: std::process::id(),
        },
        tasks: JoinSet::new(),
        follower,
        shutdown,
    };
    let keeping = roster.keep(
        Arc::clone(&started.board),
        known_roster,
        started.shutdown.clone(),
    );
    started.tasks.spawn(keeping);
    started.serve(&shared, &options, &settings).await?;
    Ok(started)
}

impl Started {
    async fn serve(
        &mut self,
        shared: &Shared,
        options: &Options,
        settings: &Settings,
    ) -> anyhow::Result<()> {
        let listeners = self.bind(options).await?;
        let reachable = options.hosts.first().map(String::as_str);
        self.endpoint.grpc = announced(&listeners.grpc_url()?, reachable)?;
        self.endpoint.http = announced(&listeners.http_url()?, reachable)?;
        let mut hosts = options.hosts.clone();
        hosts.extend([
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
            options.listen.ip().to_string(),
        ]);
        let mut nodes = Vec::new();
        let mut grpc = axum::Router::new();
        let mut http = axum::Router::new();
        for (role, name) in &options.roles {
            let node = shared.node(*role, name, &hosts).await?;
            let parts = super::services::start(*role, &node, &self.installation, settings)
                .await
                .with_context(|| format!("starting the {} service", role.as_str()))?;
            grpc = grpc.merge(parts.grpc.into_axum_router().reset_fallback());
            http = http.merge(parts.http);
            let mut tasks = parts.tasks;
            self.tasks.spawn(async move { first_end(&mut tasks).await });
            nodes.push(node);
        }
        let first = nodes.first().context("no role was named")?;
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(sealwarden_wire::DESCRIPTOR)
            .build_v1()
            .context("preparing gRPC reflection")?;
        let extra = Routes::new(reflection); // its fallback answers UNIMPLEMENTED
        let grpc = Routes::from(grpc.merge(extra.into_axum_router()));
        listeners.serve(grpc, http, &first.identity, &self.shutdown, &mut self.tasks)?;
        for node in &nodes {
            announce(node, &self.endpoint.grpc, &self.endpoint.http).await?;
        }
        self.wait_ready(options).await?;
        let names: Vec<(&str, &str)> = options
            .roles
            .iter()
            .map(|(role, name)| (role.as_str(), name.as_str()))
            .collect();
        Endpoints::add(&self.installation.data, &names, &self.endpoint)
    }

    /// Binds the asked addresses; for port 0 the one that was used last, if it is free, so that addresses survive a restart.
    async fn bind(&self, options: &Options) -> anyhow::Result<Listeners> {
        let known = Endpoints::read(&self.installation.data).unwrap_or_default();
        let last = options
            .roles
            .first()
            .and_then(|(role, name)| known.of_node(role.as_str(), name));
        if options.listen.port() == 0
            && options.listen_http.port() == 0
            && let Some(last) = last
            && let (Some(grpc), Some(http)) = (port(&last.grpc), port(&last.http))
        {
            let at = |address: SocketAddr, port| SocketAddr::new(address.ip(), port);
            if let Ok(listeners) =
                Listeners::bind(at(options.listen, grpc), at(options.listen_http, http)).await
            {
                return Ok(listeners);
            }
        }
        Listeners::bind(options.listen, options.listen_http).await
    }

    /// A process that seals is ready when its origin is open and the trust bundle lists it.
    async fn wait_ready(&mut self, options: &Options) -> anyhow::Result<()> {
        let all = options.roles.len() == Role::ALL.len();
        if !all {
            return Ok(());
        }
        let board = Arc::clone(&self.board);
        let ready = board.wait_until(|i| {
            let open = i.logs.values().any(|log| log.current().is_some());
            (open && i.trust.published.is_some()).then_some(())
        });
        tokio::select! {
            () = ready => Ok(()),
            end = first_end(&mut self.tasks) => {
                end?;
                bail!("a service ended before it was ready")
            }
            () = tokio::time::sleep(READY_WITHIN) => {
                bail!("the services were not ready within {} s; the log lines above say why", READY_WITHIN.as_secs())
            }
        }
    }

    /// Waits until a service fails or `stop` completes, then ends everything cleanly.
    pub(crate) async fn run_until(mut self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let failed = tokio::select! {
            end = first_end(&mut self.tasks) => Some(end),
            () = stop => None,
        };
        self.shutdown.cancel();
        let mut result = match failed {
            Some(Ok(())) => Err(anyhow::anyhow!("a service ended by itself")),
            Some(error) => error,
            None => Ok(()),
        };
        while let Some(end) = self.tasks.join_next().await {
            let end = end.context("a service panicked").and_then(|end| end);
            result = result.and(end);
        }
        self.follower.abort();
        result
    }
}

/// The address that others are told: a listener on all addresses has none of its own.
fn announced(url: &str, reachable: Option<&str>) -> anyhow::Result<String> {
    let any = ["://0.0.0.0:", "://[::]:"]
        .into_iter()
        .find(|any| url.contains(any));
    match (any, reachable) {
        (None, _) => Ok(url.to_owned()),
        (Some(any), Some(host)) => Ok(url.replace(any, &format!("://{host}:"))),
        (Some(_), None) => {
            bail!(
                "{url} is every address of this machine; say by --host NAME under which one others reach it"
            )
        }
    }
}

fn port(url: &str) -> Option<u16> {
    url.rsplit(':').next()?.parse().ok()
}

/// The first task that ends, with its error. A task that ends without error while others run is not the end.
async fn first_end(tasks: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    while let Some(end) = tasks.join_next().await {
        end.context("a service panicked")??;
    }
    Ok(())
}

async fn open_log(
    installation: &Installation,
    nats: Option<&str>,
) -> anyhow::Result<Arc<dyn EventLog>> {
    let config = match nats {
        Some(url) => LogConfig::JetStream {
            url: url.to_owned(),
            credentials: None,
            prefix: installation.settings.installation.clone(),
            environment: installation.environment(),
        },
        None => LogConfig::Embedded {
            dir: installation.data.join("events"),
        },
    };
    sealwarden_eventlog::open(config)
        .await
        .context("opening the event log")
}

/// Certificates of the callers that this machine has by default: `operator`, and each person of a trial roster.
async fn issue_clients(installation: &Installation) -> anyhow::Result<()> {
    let data = installation.data.clone();
    let name = installation.settings.installation.clone();
    tokio::task::spawn_blocking(move || -> anyhow::Result<()> {
        let authority = Authority::open_or_create(&data.join("pki"), &name)?;
        let folder = data.join("certificates");
        private_dir(&folder)?;
        let mut names = vec!["operator".to_owned()];
        names.extend(trial_people(&data));
        for name in names {
            let caller = CallerName::new(name.as_str())?;
            IdentityFiles::in_dir(&folder, &name).load_or_issue(
                &authority,
                &caller,
                CallerRole::Operator,
                &[],
                CLIENT_VALIDITY,
            )?;
        }
        Ok(())
    })
    .await?
    .context("making client certificates")
}

/// People whose trial keys lie in the data folder.
pub(crate) fn trial_people(data: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(data.join("people")) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|e| e.path().join("id_ed25519").exists())
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// What a role's start gives to the host.
pub(crate) struct Parts {
    /// gRPC services.
    pub(crate) grpc: Routes,
    /// HTTP routes.
    pub(crate) http: axum::Router,
    /// Background tasks.
    pub(crate) tasks: JoinSet<anyhow::Result<()>>,
}
