//! What outlives the executor: event log, folders, keys, people, the other nodes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sealwarden_domain::fold::event;
use sealwarden_domain::incident::{self, Incident};
use sealwarden_domain::run::RunState;
use sealwarden_engine::{
    Board, Meta, Node, Role, Stream, StreamName, SystemClock, decode, enrolment_text,
};
use sealwarden_eventlog::{Environment, EventLog, Memory};
use sealwarden_keys::{
    CreateKey, Guard, KeyId, KeyProvider, Purpose, SoftwareConfig, SoftwareProvider,
};
use sealwarden_pki::{Authority, CallerName, CallerRole, Identity};
use sealwarden_runbook::{PlanSet, SHIPPED};
use sealwarden_runbook_executor::{Config, signing_key_name, start};
use sealwarden_seal::note::{UnsignedNote, Vkey};
use sealwarden_wire::event::v1::{
    Event, IncidentClassified, NodeEnrolled, Reporter, ServiceAnnounced, SignalReported,
    event::Kind,
};
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{LineEnding, PrivateKey};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub(crate) const INSTALLATION: &str = "acme";
pub(crate) const BASE: &str = "drill.invalid";
pub(crate) const ORIGIN: &str = "drill.invalid/main/1";
pub(crate) const INCIDENT: &str = "I-0badcafe-1";
pub(crate) const RUN: &str = "R-0badcafe-1";
/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_mins(1);

/// Awaits something that an event brings about, for a bounded time.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("it happens in time")
}

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) board: Arc<Board>,
    pub(crate) plan: Arc<PlanSet>,
    pub(crate) people: BTreeMap<String, PrivateKey>,
    pub(crate) authority: Authority,
    pub(crate) config: Config,
    _follower: JoinHandle<()>,
}

/// The shipped plan, with pauses that a test can wait for and keys that it can sign with.
fn plan(edit: fn(String) -> String) -> (PlanSet, BTreeMap<String, PrivateKey>) {
    let mut files = SHIPPED.map(|(name, text)| (name, text.to_owned()));
    let (_, shipped) = files
        .iter_mut()
        .find(|(name, _)| *name == "key-compromise.yaml")
        .unwrap();
    let mut runbook = shipped.replace("backoff: 1s", "backoff: 1ms");
    for timeout in ["30s", "4h", "1h"] {
        for step in [
            "read-only",
            "isolate-key",
            "find-affected",
            "reverify",
            "resume",
            "close-incident",
        ] {
            let action = format!("action: {step}\n");
            let (before, after) = runbook.split_once(&action).unwrap();
            let line = format!("    timeout: {timeout}\n");
            let is_own = after
                .find(&line)
                .is_some_and(|at| !after[..at].contains("- id:"));
            if is_own {
                let retry = format!("{line}    retry: {{attempts: 3, backoff: 1ms}}\n");
                runbook = format!("{before}{action}{}", after.replacen(&line, &retry, 1));
            }
        }
    }
    *shipped = edit(runbook);
    let shipped = PlanSet::load(&files).unwrap();
    let people: BTreeMap<String, PrivateKey> = shipped
        .roster()
        .people()
        .iter()
        .zip(1..)
        .map(|(person, seed)| (person.id.clone(), ssh_key(seed)))
        .collect();
    let lines = people
        .iter()
        .map(|(id, key)| (id.clone(), vec![key.public_key().to_openssh().unwrap()]));
    let roster = shipped.roster().with_trial_keys(&lines.collect()).unwrap();
    (shipped.with_roster(roster).unwrap(), people)
}

pub(crate) fn ssh_key(seed: u8) -> PrivateKey {
    PrivateKey::new(
        KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32])),
        "",
    )
    .unwrap()
}

impl World {
    /// An installation with an executor that has not started yet.
    pub(crate) fn new() -> Self {
        Self::with_runbook(|text| text)
    }

    /// An installation whose runbook was changed.
    pub(crate) fn with_runbook(edit: fn(String) -> String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log: Arc<dyn EventLog> = Arc::new(Memory::new());
        let (board, follower) = Board::follow(Arc::clone(&log));
        let (plan, people) = plan(edit);
        let root = dir.path().join("root");
        std::fs::write(
            &root,
            ssh_key(99).to_openssh(LineEnding::LF).unwrap().as_bytes(),
        )
        .unwrap();
        private(&root);
        let config = Config {
            permit_lifetime_ms: 400,
            key_deadline_ms: 100,
            drift_ms: 20,
            root_key: Some(root),
            evidence_dir: Some(dir.path().join("evidence")),
            ..Config::default()
        };
        let authority = Authority::open_or_create(&dir.path().join("pki"), INSTALLATION).unwrap();
        Self {
            board,
            _follower: follower,
            plan: Arc::new(plan),
            authority,
            config,
            dir,
            log,
            people,
        }
    }

    pub(crate) fn evidence_dir(&self) -> PathBuf {
        self.dir.path().join("evidence")
    }

    pub(crate) fn identity(&self, name: &str, role: CallerRole) -> Identity {
        let hosts = ["127.0.0.1".to_owned()];
        self.authority
            .issue(
                &CallerName::new(name).unwrap(),
                role,
                &hosts,
                Duration::from_hours(24),
            )
            .unwrap()
    }

    /// The executor's key provider.
    pub(crate) async fn executor_keys(&self) -> SoftwareProvider {
        let dir = self.dir.path().join("executor");
        std::fs::create_dir_all(&dir).unwrap();
        let config = SoftwareConfig {
            dir: dir.join("keys"),
            guard: Guard::File(dir.join("guard")),
        };
        SoftwareProvider::open(config).await.unwrap()
    }

    /// The installation's signing key.
    pub(crate) async fn signing_vkey(&self) -> Vkey {
        let keys = self.executor_keys().await;
        let id = KeyId::new("signing").unwrap();
        let info = match keys.info(&id).await {
            Ok(info) => info,
            Err(_) => keys
                .create(&CreateKey::ed25519(&id, Purpose::Signing))
                .await
                .unwrap(),
        };
        Vkey::ed25519(&signing_key_name(INSTALLATION), info.ed25519().unwrap()).unwrap()
    }

    /// Appends events as anybody who may write to the log could.
    pub(crate) async fn append(&self, stream: &str, events: Vec<Event>) -> u64 {
        let name: StreamName = stream.parse().unwrap();
        let mut stream = Stream::load(Arc::clone(&self.log), name, Anything)
            .await
            .unwrap();
        stream
            .execute(Meta::node("test"), |_| Ok(events.clone()))
            .await
            .unwrap()
            .position
    }

    /// Enrols a node with the installation's signature, and announces it.
    pub(crate) async fn enrol(
        &self,
        node: &str,
        role: Role,
        vkey: &Vkey,
        grpc_url: &str,
        http_url: &str,
    ) {
        let signing = self.signing_vkey().await;
        let note = UnsignedNote::new(enrolment_text(INSTALLATION, node, role, vkey)).unwrap();
        let keys = self.executor_keys().await;
        let id = KeyId::new("signing").unwrap();
        let signature = keys
            .sign(&id, Purpose::Signing, note.text().as_bytes())
            .await
            .unwrap();
        let note = note
            .attach(signing.name(), signing.key_id(), signature.as_bytes())
            .unwrap();
        let enrolled = NodeEnrolled {
            node: node.to_owned(),
            role: role.as_str().to_owned(),
            vkey: vkey.to_string(),
            enrolment: note.to_string(),
        };
        let announced = ServiceAnnounced {
            node: node.to_owned(),
            role: role.as_str().to_owned(),
            grpc_url: grpc_url.to_owned(),
            http_url: http_url.to_owned(),
        };
        let events = vec![
            event(Kind::NodeEnrolled(enrolled)),
            event(Kind::ServiceAnnounced(announced)),
        ];
        self.append(&format!("node/{node}"), events).await;
    }

    /// A proven signal, its incident, and the classification that starts the runbook.
    pub(crate) async fn compromise(&self, reporter: &str) {
        let signal = SignalReported {
            key: String::new(),
            signal: "S-1".to_owned(),
            detector: "foreign-checkpoint".to_owned(),
            class: "key-compromise".to_owned(),
            subject: format!("origin {ORIGIN}"),
            log: "main".to_owned(),
            origin: ORIGIN.to_owned(),
            proven: true,
            seen: "a checkpoint that nobody intended".to_owned(),
            expected: "an intent".to_owned(),
            earliest_at_ms: jiff::Timestamp::now().as_millisecond() - 1_000,
            reporter: Some(Reporter {
                person: true,
                name: reporter.to_owned(),
            }),
            ..SignalReported::default()
        };
        self.append(
            "signal/S-1",
            vec![event(Kind::SignalReported(signal.clone()))],
        )
        .await;
        let since = signal.earliest_at_ms;
        self.incident(incident::Command::Open {
            incident: INCIDENT.to_owned(),
            signal,
        })
        .await;
        let classified = IncidentClassified {
            class: "key-compromise".to_owned(),
            severity: "critical".to_owned(),
            compromised_since_ms: since,
            by: "detector foreign-checkpoint".to_owned(),
            reason: "proven".to_owned(),
            runbook: "key-compromise".to_owned(),
            ..IncidentClassified::default()
        };
        self.incident(incident::Command::Classify(classified)).await;
    }

    async fn incident(&self, command: incident::Command) {
        let name = StreamName::new("incident", INCIDENT).unwrap();
        let mut stream = Stream::load(Arc::clone(&self.log), name, Incident::default())
            .await
            .unwrap();
        stream
            .execute(Meta::node("test"), |state| {
                incident::decide(state, command.clone())
            })
            .await
            .unwrap();
    }

    /// The run as its stream has it.
    pub(crate) async fn run(&self) -> RunState {
        let name = StreamName::new("run", RUN).unwrap();
        Stream::load(Arc::clone(&self.log), name, RunState::default())
            .await
            .unwrap()
            .state()
            .clone()
    }

    /// Every event of a stream, in order.
    pub(crate) async fn events(&self, stream: &str) -> Vec<Kind> {
        let name: StreamName = stream.parse().unwrap();
        let recorded = self.log.read(&name, 0, 100_000).await.unwrap();
        recorded
            .iter()
            .flat_map(|it| decode(it).unwrap().events)
            .filter_map(|it| it.kind)
            .collect()
    }

    /// Starts the executor on this log, which may be one that dies.
    pub(crate) async fn live(&self, log: Arc<dyn EventLog>) -> Life {
        self.live_with(log, self.config.clone()).await
    }

    pub(crate) async fn live_with(&self, log: Arc<dyn EventLog>, config: Config) -> Life {
        let (board, follower) = Board::follow(Arc::clone(&log));
        let keys: Arc<dyn KeyProvider> = Arc::new(self.executor_keys().await);
        let key = KeyId::new("node").unwrap();
        let info = match keys.info(&key).await {
            Ok(info) => info,
            Err(_) => keys
                .create(&CreateKey::ed25519(&key, Purpose::Node))
                .await
                .unwrap(),
        };
        let shutdown = CancellationToken::new();
        let node = Arc::new(Node {
            name: "runbook-executor-1".to_owned(),
            role: Role::RunbookExecutor,
            installation: INSTALLATION.to_owned(),
            environment: Environment::Drill,
            base: BASE.to_owned(),
            log,
            board,
            clock: Arc::new(SystemClock),
            vkey: Vkey::ed25519("runbook-executor-1", info.ed25519().unwrap()).unwrap(),
            key,
            keys,
            plan: Arc::clone(&self.plan),
            known_roster: sealwarden_domain::roster::RosterAnchor::new(
                0,
                Arc::new(self.plan.roster().clone()),
            ),
            plan_dir: self.dir.path().join("plan"),
            identity: self.identity("runbook-executor-1", CallerRole::Node),
            data: self.dir.path().join("executor"),
            shutdown: shutdown.clone(),
        });
        let mounts = soon(start(config, node)).await.unwrap();
        Life {
            routes: mounts.grpc,
            tasks: mounts.tasks,
            follower,
            shutdown,
        }
    }
}

/// One life of the executor.
pub(crate) struct Life {
    pub(crate) routes: Routes,
    tasks: JoinSet<anyhow::Result<()>>,
    follower: JoinHandle<()>,
    shutdown: CancellationToken,
}

impl Life {
    /// Dies where it stands.
    pub(crate) async fn die(mut self) {
        self.follower.abort();
        soon(self.tasks.shutdown()).await;
    }

    /// Ends as on SIGTERM.
    pub(crate) async fn end(mut self) {
        self.shutdown.cancel();
        while let Some(ended) = soon(self.tasks.join_next()).await {
            ended.unwrap().unwrap();
        }
        self.follower.abort();
    }
}

/// A stream that anything may stand in.
pub(crate) struct Anything;

impl sealwarden_domain::Fold for Anything {
    fn apply(
        &mut self,
        _envelope: &sealwarden_wire::event::v1::Envelope,
        _event: &Event,
    ) -> Result<(), sealwarden_domain::IllegalEvent> {
        Ok(())
    }
}

fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}
