//! One sealing node with everything around it: event log, keys, plan with people who can sign, a grantor.

use super::pair::Pair;
use crate::config::Config;
use crate::grpc::Grpc;
use crate::service::Service;
use sealwarden_domain::At;
use sealwarden_domain::approval::{Decision, Environment, Inputs, Statement, sign};
use sealwarden_domain::log_control::{Command, GrantClock, LogControl, Order, decide};
use sealwarden_engine::{
    Board, Clock as _, ManualClock, Meta, Node, Role, Stream, StreamName, decode,
};
use sealwarden_eventlog::{EventLog, Memory};
use sealwarden_keys::faults::{FaultSwitch, FaultyProvider};
use sealwarden_keys::{
    CreateKey, Guard, KeyId, KeyProvider, Purpose, SoftwareConfig, SoftwareProvider,
};
use sealwarden_pki::{Authority, Caller, CallerName, CallerRole};
use sealwarden_runbook::PlanSet;
use sealwarden_seal::note::Vkey;
use sealwarden_seal::seal::Seal;
use sealwarden_wire::event::v1::{DirectiveKind, Event, SignedStatement};
use sealwarden_wire::seal::v1::sealing_server::Sealing as _;
use sealwarden_wire::seal::v1::{SealRequest, SealResponse};
use ssh_key::private::{Ed25519Keypair, KeypairData};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};

pub(super) const ORIGIN: &str = "drill.invalid/main/1";
/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// Awaits something that an event brings about, for a bounded time.
pub(super) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("it happens in time")
}

/// What outlives a crash of the node.
pub(super) struct World {
    pub(super) dir: tempfile::TempDir,
    pub(super) log: Arc<dyn EventLog>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) plan: Arc<PlanSet>,
    people: BTreeMap<String, ssh_key::PrivateKey>,
}

impl World {
    pub(super) fn new() -> Self {
        let shipped = PlanSet::load(&sealwarden_runbook::SHIPPED).unwrap();
        let people: BTreeMap<_, _> = shipped
            .roster()
            .people()
            .iter()
            .zip(1..)
            .map(|(person, seed)| {
                let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32]));
                (
                    person.id.clone(),
                    ssh_key::PrivateKey::new(pair, "").unwrap(),
                )
            })
            .collect();
        let lines = people
            .iter()
            .map(|(id, key)| (id.clone(), vec![key.public_key().to_openssh().unwrap()]));
        let roster = shipped.roster().with_trial_keys(&lines.collect()).unwrap();
        // The event log's time: one millisecond a commit.
        let time = AtomicI64::new(1_700_000_000_000);
        Self {
            dir: tempfile::tempdir().unwrap(),
            log: Arc::new(Memory::with_clock(move || {
                time.fetch_add(1, Ordering::Relaxed)
            })),
            clock: Arc::new(ManualClock::new(At {
                wall_ms: 1_700_000_000_000,
                boot_ms: 1_000_000,
            })),
            plan: Arc::new(shipped.with_roster(roster).unwrap()),
            people,
        }
    }

    /// Everything in a stream.
    pub(super) async fn events(&self, category: &str, id: &str) -> Vec<Event> {
        let stream = StreamName::new(category, id).unwrap();
        let mut events = Vec::new();
        let mut after = 0;
        loop {
            let page = self.log.read(&stream, after, 512).await.unwrap();
            let Some(last) = page.last() else {
                return events;
            };
            after = last.position;
            events.extend(
                page.iter()
                    .flat_map(|recorded| decode(recorded).unwrap().events),
            );
        }
    }

    /// A statement by a person with this role, over exactly this directive's step.
    fn approve(&self, order: &Order, role: &str, place: usize) -> SignedStatement {
        let person = self.plan.roster().people().iter();
        let person = person
            .filter(|it| it.roles.iter().any(|it| it.as_str() == role))
            .nth(place);
        let person = &person.unwrap().id;
        let statement = Statement {
            installation: "acme".to_owned(),
            environment: Environment::Drill,
            incident: order.incident.clone(),
            run: order.run.clone(),
            step: order.step.clone(),
            iteration: order.iteration,
            runbook: order.runbook.clone(),
            runbook_digest: order.runbook_digest.clone(),
            inputs_digest: Inputs::parse(&order.inputs).unwrap().digest(),
            roster_digest: self.plan.roster().digest_hex(),
            decision: Decision::Approve,
            approver: person.clone(),
            nonce: format!("{:032x}", order.step.len() * 100 + place + role.len() * 7),
            expires_s: self.clock.now().wall_ms / 1000 + 600,
        };
        let text = statement.to_string();
        let namespace = Environment::Drill.namespace();
        let signature = sign(&text, &self.people[person], namespace).unwrap();
        SignedStatement {
            statement: text,
            signature,
        }
    }

    /// An order with the approvals of these roles.
    pub(super) fn order(
        &self,
        kind: DirectiveKind,
        step: &str,
        inputs: &[(&str, &str)],
        roles: &[&str],
    ) -> Order {
        let action = match kind {
            DirectiveKind::Open => "resume",
            DirectiveKind::Queue | DirectiveKind::QueueNoncritical => "divert",
            DirectiveKind::Unspecified
            | DirectiveKind::IsolateKey
            | DirectiveKind::ReadOnly
            | DirectiveKind::RotateOrigin
            | DirectiveKind::RevokeKey
            | DirectiveKind::DestroyKey
            | DirectiveKind::RestoreKey
            | DirectiveKind::Reseal => sealwarden_domain::log_control::kind_name(kind),
        };
        let values = inputs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut order = Order {
            kind,
            log: "main".to_owned(),
            incident: "I-1".to_owned(),
            run: "R-1".to_owned(),
            step: step.to_owned(),
            iteration: 0,
            runbook: "key-compromise".to_owned(),
            runbook_digest: "ab".repeat(32),
            inputs: Inputs::new(action, values.collect()).unwrap().to_string(),
            approvals: Vec::new(),
            requesters: Vec::new(),
        };
        order.approvals = roles
            .iter()
            .map(|role| self.approve(&order, role, 0))
            .collect();
        order
    }
}

/// The node and a grantor, running.
pub(super) struct Rig {
    pub(super) node: Arc<Node>,
    pub(super) service: Arc<Service>,
    pub(super) grpc: Grpc,
    pub(super) fault: FaultSwitch,
    /// How long permits are granted; 0 grants none.
    pub(super) lifetime_ms: watch::Sender<u64>,
    tasks: JoinSet<anyhow::Result<()>>,
    others: Vec<JoinHandle<()>>,
}

impl Rig {
    pub(super) fn config() -> Config {
        Config {
            witness_wait_ms: 200,
            audit_poll_ms: 5,
            ..Config::default()
        }
    }

    pub(super) async fn start(world: &World) -> Self {
        Self::start_with(world, Self::config()).await
    }

    pub(super) async fn start_with(world: &World, config: Config) -> Self {
        let keys = software(world.dir.path()).await;
        let (keys, fault) = FaultyProvider::new(Arc::new(keys));
        Self::start_on(world, config, Arc::new(keys), fault).await
    }

    /// Starts with two providers; `fault` is the preferred one's.
    pub(super) async fn start_pair(world: &World, config: Config) -> Self {
        let (keys, [fault, _]) = Pair::open(world.dir.path()).await;
        Self::start_on(world, config, Arc::new(keys), fault).await
    }

    /// Starts with the same two behind breakers.
    pub(super) async fn start_set(world: &World, config: Config) -> Self {
        let (keys, [fault, _]) = super::pair::set(world.dir.path()).await;
        Self::start_on(world, config, Arc::new(keys), fault).await
    }

    pub(super) async fn start_on(
        world: &World,
        config: Config,
        keys: Arc<dyn KeyProvider>,
        fault: FaultSwitch,
    ) -> Self {
        let (board, follower) = Board::follow(Arc::clone(&world.log));
        let key = KeyId::new("node").unwrap();
        let info = match keys.create(&CreateKey::ed25519(&key, Purpose::Node)).await {
            Ok(info) => info,
            Err(_) => keys.info(&key).await.unwrap(),
        };
        let pki = world.dir.path().join("pki");
        let authority = Authority::open_or_create(&pki, "acme").unwrap();
        let name = CallerName::new("sealing-1").unwrap();
        let validity = Duration::from_hours(1);
        let clock: Arc<dyn sealwarden_engine::Clock> = world.clock.clone();
        let node = Arc::new(Node {
            name: "sealing-1".to_owned(),
            role: Role::Sealing,
            installation: "acme".to_owned(),
            environment: sealwarden_eventlog::Environment::Drill,
            base: "drill.invalid".to_owned(),
            log: Arc::clone(&world.log),
            board,
            clock,
            keys,
            key,
            vkey: Vkey::ed25519("sealing-1", info.ed25519().unwrap()).unwrap(),
            plan: Arc::clone(&world.plan),
            known_roster: sealwarden_domain::roster::RosterAnchor::new(
                0,
                Arc::new(world.plan.roster().clone()),
            ),
            plan_dir: world.dir.path().join("plan"),
            identity: authority
                .issue(&name, CallerRole::Node, &[], validity)
                .unwrap(),
            data: world.dir.path().join("node"),
            shutdown: CancellationToken::new(),
        });
        let (service, tasks) = soon(crate::assemble(config, Arc::clone(&node)))
            .await
            .unwrap();
        let (lifetime_ms, granted) = watch::channel(5_000);
        let grantor = tokio::spawn(grant(Arc::clone(&node), granted));
        Self {
            grpc: Grpc(Arc::clone(&service)),
            node,
            service,
            fault,
            lifetime_ms,
            tasks,
            others: vec![follower, grantor],
        }
    }

    /// Starts, and waits until the node may sign.
    pub(super) async fn open(world: &World) -> Self {
        let rig = Self::start(world).await;
        rig.ready().await;
        rig
    }

    pub(super) async fn ready(&self) {
        soon(async {
            let mut permit = self.service.permit_changed.subscribe();
            let mut board = self.node.board.changes();
            while self.service.ready().is_err() {
                tokio::select! {
                    _ = permit.changed() => {}
                    _ = board.changed() => {}
                }
            }
        })
        .await;
    }

    /// As [`Self::ready`], or until the writer has stopped for good.
    pub(super) async fn ready_or_broken(&self) {
        let mut broken = self.service.broken.subscribe();
        tokio::select! {
            () = self.ready() => {}
            _ = broken.wait_for(Option::is_some) => {}
        }
    }

    /// Ends the node as a shutdown does.
    pub(super) async fn stop(mut self) {
        self.node.shutdown.cancel();
        while let Some(ended) = soon(self.tasks.join_next()).await {
            ended.unwrap().unwrap();
        }
        self.others.iter().for_each(JoinHandle::abort);
    }

    /// Ends the node as a crash does: nothing is finished, nothing given back.
    pub(super) async fn crash(mut self) {
        self.others.iter().for_each(JoinHandle::abort);
        soon(self.tasks.shutdown()).await;
        // The files' lock goes with the last owner.
        drop(self.grpc);
        let service = self.service;
        soon(async {
            while Arc::strong_count(&service) > 1 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    pub(super) async fn seal(&self, number: u8) -> Result<SealResponse, Status> {
        let request = SealRequest {
            digest_algorithm: "sha-256".to_owned(),
            digest: vec![number; 32].into(),
            ..SealRequest::default()
        };
        let request = called_by(CallerRole::Sealer, request);
        soon(self.grpc.seal(request))
            .await
            .map(tonic::Response::into_inner)
    }

    pub(super) async fn sealed(&self, number: u8) -> Seal {
        Seal::parse(&self.seal(number).await.unwrap().seal).unwrap()
    }

    /// Decides a command on the log line, as another service does.
    pub(super) async fn command(&self, command: Command) {
        let mut control: Stream<LogControl> = self.node.stream("log", "main").await.unwrap();
        let at = self.node.clock.now();
        let decided = control.execute(Meta::node("executor-1"), |log| {
            decide(log, command.clone(), at)
        });
        let position = decided.await.unwrap().position;
        soon(self.node.board.reached(position)).await;
    }

    /// Issues an order and waits for this node's answer: its acknowledgement, or its reason to refuse.
    pub(super) async fn issue(&self, order: Order) -> Result<String, String> {
        let place = (order.run.clone(), order.step.clone(), order.iteration);
        self.command(Command::Issue(order)).await;
        let answer = self.node.board.wait_until(|installation| {
            let log = installation.logs.get("main")?;
            let state = &log.directives[&log.ordered(&place.0, &place.1, place.2)?];
            let refused = state.refusals.get("sealing-1");
            let refused = refused.map(|it| Err(it.reason.clone()));
            refused.or_else(|| state.acks.get("sealing-1").map(|ack| Ok(ack.note.clone())))
        });
        soon(answer).await
    }

    /// Waits for something in the log line.
    pub(super) async fn until<T>(&self, mut look: impl FnMut(&LogControl) -> Option<T>) -> T {
        let wait = self
            .node
            .board
            .wait_until(|installation| look(installation.logs.get("main")?));
        soon(wait).await
    }

    /// The sealing key's provider, used by somebody else.
    pub(super) async fn thief(&self, world: &World) -> SoftwareProvider {
        software(world.dir.path()).await
    }
}

async fn software(dir: &Path) -> SoftwareProvider {
    let guard = Guard::File(dir.join("guard"));
    SoftwareProvider::open(SoftwareConfig {
        dir: dir.join("keys"),
        guard,
    })
    .await
    .unwrap()
}

pub(super) fn called_by<T>(role: CallerRole, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let name = CallerName::new("ada").unwrap();
    request.extensions_mut().insert(Caller {
        name,
        role,
        fingerprint: [0; 32],
    });
    request
}

/// Grants what is asked for, as the control authority does.
async fn grant(node: Arc<Node>, mut lifetime_ms: watch::Receiver<u64>) {
    let name = StreamName::new("log", "main").unwrap();
    let log = Arc::clone(&node.log);
    let mut control = Stream::load(log, name, LogControl::default())
        .await
        .unwrap();
    let mut changes = node.board.changes();
    loop {
        changes.mark_unchanged();
        let lifetime = *lifetime_ms.borrow_and_update();
        if lifetime > 0 {
            control.refresh().await.unwrap();
            let at = node.clock.now();
            let command = Command::GrantPermit {
                node: "sealing-1".to_owned(),
                lifetime_ms: lifetime,
                key_deadline_ms: 2_000,
                drift_ms: 250,
                clock: GrantClock::starting_at(0),
            };
            let decided = control.execute(Meta::node("executor-1"), |log| {
                decide(log, command.clone(), at)
            });
            if let Err(error) = decided.await {
                tracing::debug!(%error, "not granted");
            }
        }
        tokio::select! {
            _ = changes.changed() => {}
            changed = lifetime_ms.changed() => if changed.is_err() { return },
        }
    }
}
