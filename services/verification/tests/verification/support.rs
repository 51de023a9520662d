//! An installation with one log line whose tree and key the test holds.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ring::signature::{Ed25519KeyPair, KeyPair as _};
use sealwarden_domain::fold::event;
use sealwarden_domain::installation::Installation;
use sealwarden_domain::{Fold, IllegalEvent};
use sealwarden_engine::{
    Board, Clock as _, Meta, Node, Role, Stream, StreamName, SystemClock, decode,
};
use sealwarden_eventlog::{Environment, EventLog, Faulty, Filter, Memory};
use sealwarden_keys::{
    CreateKey, Guard, KeyId, KeyProvider, Purpose, SoftwareConfig, SoftwareProvider,
};
use sealwarden_pki::{Authority, Caller, CallerName, CallerRole, Identity};
use sealwarden_runbook::{PlanSet, SHIPPED};
use sealwarden_seal::checkpoint::Checkpoint;
use sealwarden_seal::merkle::{Hash, MemoryTree};
use sealwarden_seal::note::{Note, Vkey};
use sealwarden_seal::record::{DigestAlgorithm, Record, entry_leaf_hash};
use sealwarden_seal::seal::Seal;
use sealwarden_seal::witness::AddCheckpoint;
use sealwarden_verification::Config;
use sealwarden_wire::event::v1::{Envelope, Event, IntentRecorded, OriginOpened, event::Kind};
use sealwarden_wire::verify::v1::verification_client::VerificationClient;
use ssh_key::PrivateKey;
use ssh_key::private::Ed25519Keypair;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::service::Routes;

pub(crate) const ORIGIN: &str = "seal.example.com/main/1";
const NONCE: [u8; 16] = [4; 16];

#[derive(Default)]
struct Unfolded;

impl Fold for Unfolded {
    fn apply(&mut self, _: &Envelope, _: &Event) -> Result<(), IllegalEvent> {
        Ok(())
    }
}

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) log: Arc<Faulty<Memory>>,
    pub(crate) key: Ed25519KeyPair,
    pub(crate) tree: MemoryTree,
}

pub(crate) struct Service {
    pub(crate) node: Arc<Node>,
    pub(crate) client: VerificationClient<Routes>,
    pub(crate) url: String,
    tasks: JoinSet<anyhow::Result<()>>,
}

/// What the witness answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) body: String,
}

pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work)
        .await
        .expect("it did not happen")
}

/// A person's approval key.
pub(crate) fn person_key(person: &str) -> PrivateKey {
    let mut seed = [9; 32];
    seed.iter_mut()
        .zip(person.bytes())
        .for_each(|(byte, letter)| *byte = letter);
    PrivateKey::from(Ed25519Keypair::from_seed(&seed))
}

/// The shipped plan with keys for two people.
pub(crate) fn plan() -> Arc<PlanSet> {
    let plan = PlanSet::load(&SHIPPED).unwrap();
    let keys: BTreeMap<String, Vec<String>> = ["mara.lindqvist", "ines.duarte"]
        .into_iter()
        .map(|person| {
            (
                person.to_owned(),
                vec![person_key(person).public_key().to_openssh().unwrap()],
            )
        })
        .collect();
    let roster = plan.roster().with_trial_keys(&keys).unwrap();
    Arc::new(plan.with_roster(roster).unwrap())
}

pub(crate) fn now_ms() -> i64 {
    SystemClock.now().wall_ms
}

impl World {
    /// A log with an opened origin and `leaves` records, none of them intended yet.
    pub(crate) async fn with_leaves(leaves: u8) -> Self {
        let mut world = Self {
            dir: tempfile::tempdir().unwrap(),
            log: Arc::new(Faulty::new(Memory::new())),
            key: Ed25519KeyPair::from_seed_unchecked(&[3; 32]).unwrap(),
            tree: MemoryTree::new(),
        };
        (0..leaves).for_each(|n| world.push(n));
        let opened = OriginOpened {
            origin: ORIGIN.to_owned(),
            vkey: world.vkey().to_string(),
            key_id: "main-1".to_owned(),
            provider: "software".to_owned(),
            node: "sealing-1".to_owned(),
            ..OriginOpened::default()
        };
        world.write("log", "main", Kind::OriginOpened(opened)).await;
        world
    }

    pub(crate) fn vkey(&self) -> Vkey {
        Vkey::ed25519(ORIGIN, self.key.public_key().as_ref().try_into().unwrap()).unwrap()
    }

    pub(crate) fn record(n: u8) -> Record {
        Record {
            tenant: "default".to_owned(),
            policy: "default".to_owned(),
            digest_algorithm: DigestAlgorithm::Sha256,
            digest: [n; 32],
            claimed_at_ms: 1,
            subject: None,
            original: None,
            request_id: None,
        }
    }

    pub(crate) fn push(&mut self, n: u8) {
        self.tree
            .push(entry_leaf_hash(&NONCE, &Self::record(n).encode().unwrap()));
    }

    pub(crate) fn checkpoint(&self, size: u64) -> Checkpoint {
        Checkpoint {
            origin: ORIGIN.to_owned(),
            size,
            root: self.tree.root_at(size).unwrap(),
        }
    }

    /// Any checkpoint with the log's signature.
    pub(crate) fn sign(&self, checkpoint: &Checkpoint) -> Note {
        let note = checkpoint.to_note().unwrap();
        let signature = self.key.sign(note.text().as_bytes());
        let name = checkpoint.origin.clone();
        let vkey =
            Vkey::ed25519(&name, self.key.public_key().as_ref().try_into().unwrap()).unwrap();
        note.attach(vkey.name(), vkey.key_id(), signature.as_ref())
            .unwrap()
    }

    pub(crate) fn signed(&self, size: u64) -> Note {
        self.sign(&self.checkpoint(size))
    }

    pub(crate) async fn intend(&self, size: u64) {
        let checkpoint = self.checkpoint(size);
        let intent = IntentRecorded {
            origin: ORIGIN.to_owned(),
            size,
            root: checkpoint.root.as_bytes().to_vec().into(),
            message_sha256: Hash::of(checkpoint.to_text().as_bytes())
                .as_bytes()
                .to_vec()
                .into(),
            node: "sealing-1".to_owned(),
            ..IntentRecorded::default()
        };
        self.write("log", "main", Kind::IntentRecorded(intent))
            .await;
    }

    /// A request to the witness with a good proof.
    pub(crate) fn request(&self, old_size: u64, size: u64) -> String {
        let proof = self.tree.consistency_proof(old_size, size).unwrap();
        AddCheckpoint {
            old_size,
            proof,
            note: self.signed(size),
        }
        .to_text()
    }

    /// The seal of a leaf under a signed checkpoint.
    pub(crate) fn seal(&self, index: u8, note: &Note) -> Vec<u8> {
        let size = Checkpoint::parse(note.text()).unwrap().size;
        let seal = Seal {
            nonce: NONCE,
            record: Self::record(index),
            index: u64::from(index),
            proof: self.tree.inclusion_proof(u64::from(index), size).unwrap(),
            note: note.clone(),
        };
        seal.to_text().unwrap().into_bytes()
    }

    pub(crate) async fn write(&self, category: &str, id: &str, kind: Kind) -> u64 {
        let name = StreamName::new(category, id).unwrap();
        let mut stream = Stream::load(self.log(), name, Unfolded).await.unwrap();
        let events = [event(kind)];
        soon(stream.execute(Meta::node("test"), |_| Ok(events.to_vec())))
            .await
            .unwrap()
            .position
    }

    pub(crate) fn log(&self) -> Arc<dyn EventLog> {
        let log: Arc<Faulty<Memory>> = Arc::clone(&self.log);
        log
    }

    /// All events in the log.
    pub(crate) async fn events(&self) -> Vec<Kind> {
        let edge = self.log.last_position().await.unwrap();
        let mut subscription = self.log.subscribe(Filter::All, 0).await.unwrap();
        let mut found = Vec::new();
        loop {
            let recorded = soon(subscription.next_commit()).await.unwrap().unwrap();
            found.extend(
                decode(&recorded)
                    .unwrap()
                    .events
                    .into_iter()
                    .filter_map(|e| e.kind),
            );
            if recorded.position >= edge {
                return found;
            }
        }
    }

    /// How many checkpoints were reported.
    pub(crate) async fn sighted(&self) -> usize {
        let events = self.events().await;
        events
            .iter()
            .filter(|kind| matches!(kind, Kind::CheckpointSighted(_)))
            .count()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("verification-1")
    }

    fn identity(&self) -> Identity {
        let authority = Authority::open_or_create(&self.dir.path().join("ca"), "test").unwrap();
        let name = CallerName::new("verification-1").unwrap();
        authority
            .issue(&name, CallerRole::Node, &[], Duration::from_hours(1))
            .unwrap()
    }

    async fn node(&self) -> Arc<Node> {
        let config = SoftwareConfig {
            dir: self.dir.path().join("keys"),
            guard: Guard::File(self.dir.path().join("guard")),
        };
        let keys = SoftwareProvider::open(config).await.unwrap();
        let key = KeyId::new("node.verification-1").unwrap();
        let info = match keys.info(&key).await {
            Ok(info) => info,
            Err(_) => keys
                .create(&CreateKey::ed25519(&key, Purpose::Node))
                .await
                .unwrap(),
        };
        let (board, _task) = Board::follow(self.log());
        Arc::new(Node {
            name: "verification-1".to_owned(),
            role: Role::Verification,
            installation: "test".to_owned(),
            environment: Environment::Production,
            base: "seal.example.com".to_owned(),
            log: self.log(),
            board,
            clock: Arc::new(SystemClock),
            keys: Arc::new(keys),
            key,
            vkey: Vkey::ed25519("verification-1", info.ed25519().unwrap()).unwrap(),
            plan: plan(),
            known_roster: sealwarden_domain::roster::RosterAnchor::new(
                0,
                Arc::new(plan().roster().clone()),
            ),
            plan_dir: PathBuf::new(),
            identity: self.identity(),
            data: self.data(),
            shutdown: CancellationToken::new(),
        })
    }

    pub(crate) async fn try_start(&self, config: Config) -> anyhow::Result<Service> {
        let node = self.node().await;
        let mounts = sealwarden_verification::start(config, Arc::clone(&node)).await?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/witness", listener.local_addr()?);
        let mut tasks = mounts.tasks;
        let shutdown = node.shutdown.clone();
        tasks.spawn(async move {
            let server = axum::serve(listener, mounts.http);
            Ok(server
                .with_graceful_shutdown(shutdown.cancelled_owned())
                .await?)
        });
        Ok(Service {
            node,
            client: VerificationClient::new(mounts.grpc),
            url,
            tasks,
        })
    }

    pub(crate) async fn start(&self) -> Service {
        self.try_start(Config::default()).await.unwrap()
    }
}

impl Service {
    pub(crate) async fn stop(mut self) {
        self.node.shutdown.cancel();
        while let Some(ended) = soon(self.tasks.join_next()).await {
            ended.unwrap().unwrap();
        }
    }

    pub(crate) async fn post(&self, body: impl Into<String>) -> Answer {
        sealwarden_pki::install_ring();
        let client = reqwest::Client::new();
        let request = client
            .post(format!("{}/add-checkpoint", self.url))
            .body(body.into());
        let response = soon(request.send()).await.unwrap();
        let content_type = response.headers()["content-type"]
            .to_str()
            .unwrap()
            .to_owned();
        let status = response.status().as_u16();
        Answer {
            status,
            content_type,
            body: soon(response.text()).await.unwrap(),
        }
    }

    /// The verifier key of a witness that has one.
    pub(crate) async fn witness_vkey(&self) -> Vkey {
        let [vkey] = <[Vkey; 1]>::try_from(self.witness_vkeys().await).unwrap();
        vkey
    }

    /// The witness's verifier keys, as it tells them.
    pub(crate) async fn witness_vkeys(&self) -> Vec<Vkey> {
        sealwarden_pki::install_ring();
        let response = soon(reqwest::get(format!("{}/key", self.url)))
            .await
            .unwrap();
        let text = soon(response.text()).await.unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    pub(crate) async fn until<T>(&self, look: impl FnMut(&Installation) -> Option<T>) -> T {
        soon(self.node.board.wait_until(look)).await
    }
}

pub(crate) fn by<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let name = CallerName::new("somebody").unwrap();
    let caller = Caller {
        name,
        role: CallerRole::Verifier,
        fingerprint: [0; 32],
    };
    request.extensions_mut().insert(caller);
    request
}
