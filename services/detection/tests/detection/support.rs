//! An installation on a memory event log, with a log line whose sealing key the test holds.

use std::sync::Arc;
use std::time::Duration;

use ring::signature::{Ed25519KeyPair, KeyPair as _};
use sealwarden_domain::fold::event;
use sealwarden_domain::incident::Incident;
use sealwarden_domain::{Fold, IllegalEvent};
use sealwarden_engine::{Board, Clock, Meta, Node, Role, SystemClock};
use sealwarden_eventlog::{Environment, EventLog, Filter, Memory};
use sealwarden_keys::{
    CreateKey, Guard, KeyId, KeyProvider, Purpose, SoftwareConfig, SoftwareProvider,
};
use sealwarden_pki::{Authority, Caller, CallerName, CallerRole, Identity};
use sealwarden_runbook::{PlanSet, SHIPPED};
use sealwarden_seal::checkpoint::Checkpoint;
use sealwarden_seal::merkle::Hash;
use sealwarden_seal::note::Vkey;
use sealwarden_wire::event::v1::{
    CheckpointSighted, Commit, Envelope, Event, IntentRecorded, KeyUseObserved, OriginOpened,
    event::Kind,
};
use sealwarden_wire::incident::v1::incidents_client::IncidentsClient;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::service::Routes;

pub(crate) const ORIGIN: &str = "seal.example.com/main/1";
pub(crate) const KEY: &str = "main-1";

/// A stream that a test only appends to.
#[derive(Default)]
struct Unfolded;

impl Fold for Unfolded {
    fn apply(&mut self, _: &Envelope, _: &Event) -> Result<(), IllegalEvent> {
        Ok(())
    }
}

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) key: Ed25519KeyPair,
}

/// A started service.
pub(crate) struct Service {
    pub(crate) node: Arc<Node>,
    pub(crate) client: IncidentsClient<Routes>,
    tasks: JoinSet<anyhow::Result<()>>,
}

pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work)
        .await
        .expect("it did not happen")
}

pub(crate) fn plan() -> Arc<PlanSet> {
    Arc::new(PlanSet::load(&SHIPPED).unwrap())
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::on(Arc::new(Memory::new())).await
    }

    /// A world with an opened origin.
    pub(crate) async fn on(log: Arc<dyn EventLog>) -> Self {
        let world = Self {
            dir: tempfile::tempdir().unwrap(),
            log,
            key: Ed25519KeyPair::from_seed_unchecked(&[3; 32]).unwrap(),
        };
        let opened = OriginOpened {
            origin: ORIGIN.to_owned(),
            vkey: world.vkey().to_string(),
            key_id: KEY.to_owned(),
            provider: "software".to_owned(),
            node: "sealing-1".to_owned(),
            ..OriginOpened::default()
        };
        // A report that names no log is about the only one there is, so there is another.
        let second = OriginOpened {
            origin: ORIGIN.replace("main", "second"),
            ..opened.clone()
        };
        world.write("log", "main", Kind::OriginOpened(opened)).await;
        world
            .write("log", "second", Kind::OriginOpened(second))
            .await;
        world
    }

    pub(crate) fn vkey(&self) -> Vkey {
        Vkey::ed25519(ORIGIN, self.key.public_key().as_ref().try_into().unwrap()).unwrap()
    }

    pub(crate) async fn node(&self) -> Arc<Node> {
        let config = SoftwareConfig {
            dir: self.dir.path().join("keys"),
            guard: Guard::File(self.dir.path().join("guard")),
        };
        let keys = SoftwareProvider::open(config).await.unwrap();
        let key = KeyId::new("node.detection-1").unwrap();
        let info = match keys.info(&key).await {
            Ok(info) => info,
            Err(_) => keys
                .create(&CreateKey::ed25519(&key, Purpose::Node))
                .await
                .unwrap(),
        };
        let (board, _task) = Board::follow(Arc::clone(&self.log));
        Arc::new(Node {
            name: "detection-1".to_owned(),
            role: Role::Detection,
            installation: "test".to_owned(),
            environment: Environment::Production,
            base: "seal.example.com".to_owned(),
            log: Arc::clone(&self.log),
            board,
            clock: Arc::new(SystemClock),
            keys: Arc::new(keys),
            key,
            vkey: Vkey::ed25519("detection-1", info.ed25519().unwrap()).unwrap(),
            plan: plan(),
            known_roster: sealwarden_domain::roster::RosterAnchor::new(
                0,
                Arc::new(plan().roster().clone()),
            ),
            plan_dir: std::path::PathBuf::new(),
            identity: self.identity(),
            data: self.dir.path().join("detection-1"),
            shutdown: CancellationToken::new(),
        })
    }

    fn identity(&self) -> Identity {
        let authority = Authority::open_or_create(&self.dir.path().join("ca"), "test").unwrap();
        let name = CallerName::new("detection-1").unwrap();
        authority
            .issue(&name, CallerRole::Node, &[], Duration::from_hours(1))
            .unwrap()
    }

    pub(crate) async fn start(&self) -> Service {
        let node = self.node().await;
        let config = sealwarden_detection::Config::default();
        let mounts = sealwarden_detection::start(config, Arc::clone(&node))
            .await
            .unwrap();
        Service {
            node,
            client: IncidentsClient::new(mounts.grpc),
            tasks: mounts.tasks,
        }
    }

    pub(crate) async fn write(&self, category: &str, id: &str, kind: Kind) -> u64 {
        let name = sealwarden_engine::StreamName::new(category, id).unwrap();
        let mut stream = sealwarden_engine::Stream::load(Arc::clone(&self.log), name, Unfolded)
            .await
            .unwrap();
        let events = [event(kind)];
        soon(stream.execute(Meta::node("test"), |_| Ok(events.to_vec())))
            .await
            .unwrap()
            .position
    }

    pub(crate) fn checkpoint(size: u64, root: [u8; 32]) -> Checkpoint {
        Checkpoint {
            origin: ORIGIN.to_owned(),
            size,
            root: Hash(root),
        }
    }

    pub(crate) async fn intend(&self, size: u64, root: [u8; 32]) -> [u8; 32] {
        let text = Self::checkpoint(size, root).to_text();
        let message = *Hash::of(text.as_bytes()).as_bytes();
        let intent = IntentRecorded {
            origin: ORIGIN.to_owned(),
            size,
            root: root.to_vec().into(),
            message_sha256: message.to_vec().into(),
            node: "sealing-1".to_owned(),
            ..IntentRecorded::default()
        };
        self.write("log", "main", Kind::IntentRecorded(intent))
            .await;
        message
    }

    /// A checkpoint signed with the log's key.
    pub(crate) fn signed(&self, size: u64, root: [u8; 32]) -> String {
        let note = Self::checkpoint(size, root).to_note().unwrap();
        let signature = self.key.sign(note.text().as_bytes());
        let vkey = self.vkey();
        note.attach(vkey.name(), vkey.key_id(), signature.as_ref())
            .unwrap()
            .to_string()
    }

    /// Somebody saw a checkpoint.
    pub(crate) async fn sight(&self, note: String) -> u64 {
        let id = Hash::of(note.as_bytes()).to_string();
        let sighted = CheckpointSighted {
            note: note.into(),
            origin: ORIGIN.to_owned(),
            source: "witness".to_owned(),
            seen_by: "verification-1".to_owned(),
            reason: "no intent".to_owned(),
            seen_at_ms: SystemClock.now().wall_ms,
        };
        self.write("sighting", &id, Kind::CheckpointSighted(sighted))
            .await
    }

    /// The provider's audit has a line.
    pub(crate) async fn key_use(&self, message: &[u8], line: &str) -> u64 {
        let used = KeyUseObserved {
            provider: "software".to_owned(),
            node: "sealing-1".to_owned(),
            key_id: KEY.to_owned(),
            message_sha256: message.to_vec().into(),
            at_ms: SystemClock.now().wall_ms,
            line: line.to_owned(),
            cursor: 100,
            log: "main".to_owned(),
        };
        self.write("keyuse", "sealing-1", Kind::KeyUseObserved(used))
            .await
    }

    /// All events of the log that `pick` wants.
    pub(crate) async fn events<T>(&self, pick: impl Fn(&Kind) -> Option<T>) -> Vec<T> {
        let edge = self.log.last_position().await.unwrap();
        let mut subscription = self.log.subscribe(Filter::All, 0).await.unwrap();
        let mut found = Vec::new();
        loop {
            let recorded = soon(subscription.next_commit()).await.unwrap().unwrap();
            let commit: Commit = sealwarden_engine::decode(&recorded).unwrap();
            found.extend(commit.events.iter().filter_map(|e| pick(e.kind.as_ref()?)));
            if recorded.position >= edge {
                return found;
            }
        }
    }
}

impl Service {
    pub(crate) async fn stop(mut self) {
        self.node.shutdown.cancel();
        while let Some(ended) = soon(self.tasks.join_next()).await {
            ended.unwrap().unwrap();
        }
    }

    /// Waits until an incident looks as wanted.
    pub(crate) async fn incident(&self, wanted: impl Fn(&Incident) -> bool) -> (String, Incident) {
        soon(self.node.board.wait_until(|installation| {
            let found = installation
                .incidents
                .iter()
                .find(|(_, incident)| wanted(incident));
            found.map(|(id, incident)| (id.clone(), incident.clone()))
        }))
        .await
    }
}

pub(crate) fn by<T>(message: T, name: &str, role: CallerRole) -> Request<T> {
    let mut request = Request::new(message);
    let caller = Caller {
        name: CallerName::new(name).unwrap(),
        role,
        fingerprint: [0; 32],
    };
    request.extensions_mut().insert(caller);
    request
}
