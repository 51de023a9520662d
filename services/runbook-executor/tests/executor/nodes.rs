//! A sealing and a verification node, as far as the executor sees them: they acknowledge directives with their own signed word, through the real domain commands, and
//! answer its calls. They judge no approvals here; the services' own tests show that.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use ring::signature::{Ed25519KeyPair, KeyPair as _};
use sealwarden_domain::At;
use sealwarden_domain::log_control::{
    Command, KeyChanges, LogControl, acknowledgement_text, decide, directive_input,
};
use sealwarden_engine::{Clock as _, Meta, Role, Stream, StreamName, SystemClock};
use sealwarden_eventlog::EventLog;
use sealwarden_pki::{CallerRole, server_tls};
use sealwarden_seal::note::{UnsignedNote, Vkey};
use sealwarden_wire::event::v1::{Directive, DirectiveKind, OriginOpened};
use sealwarden_wire::seal::v1::sealing_server::{Sealing, SealingServer};
use sealwarden_wire::seal::v1::{
    ExportSealsRequest, FailBackRequest, FindAffectedRequest, FindAffectedResponse,
    GetAnchorsRequest, GetAnchorsResponse, GetSealRequest, GetTicketRequest, KeyChangeResponse,
    RotateKeyRequest, SealRequest, SealResponse, SealStreamRequest, SealStreamResponse,
    StatusRequest, StatusResponse, TicketResponse, WatchSealRequest, WatchTicketRequest,
};
use sealwarden_wire::verify::v1::verification_server::{Verification, VerificationServer};
use sealwarden_wire::verify::v1::{
    GetTrustRequest, GetTrustResponse, VerifyRequest, VerifyResponse,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream as Stream2, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::world::{BASE, INSTALLATION, ORIGIN, World};

/// Seals that the new origin exports.
pub(crate) const SEALS: u64 = 300;

/// Both nodes, answering in the background.
pub(crate) struct Nodes {
    /// Whether the sealing node answers.
    pub(crate) sealing: watch::Sender<bool>,
    /// Whether the witness answers.
    pub(crate) witness: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

fn key(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn public(key: &Ed25519KeyPair) -> [u8; 32] {
    key.public_key().as_ref().try_into().unwrap()
}

impl Nodes {
    /// Opens the first origin, asks for a permit, and answers directives while the switches say so.
    pub(crate) async fn start(world: &World) -> Self {
        let mut tasks = JoinSet::new();
        let grpc = serve_grpc(world, &mut tasks).await;
        let http = serve_witness_key(&mut tasks).await;
        let first = origin(1, 0, "");
        let mut stream = control(&world.log).await;
        let at = SystemClock.now();
        stream
            .execute(Meta::node("sealing-1"), |s| {
                decide(s, Command::OpenOrigin(first.clone()), at)
            })
            .await
            .unwrap();
        request_permit(&mut stream, "first").await;
        for (node, role, seed) in [
            ("sealing-1", Role::Sealing, 50),
            ("verification-1", Role::Verification, 60),
        ] {
            let vkey = Vkey::ed25519(node, public(&key(seed))).unwrap();
            world.enrol(node, role, &vkey, &grpc, &http).await;
        }
        let sealing = watch::Sender::new(true);
        let witness = watch::Sender::new(true);
        tasks.spawn(answer(
            Arc::clone(&world.log),
            world.board.changes(),
            sealing.subscribe(),
            "sealing-1",
            50,
        ));
        tasks.spawn(answer(
            Arc::clone(&world.log),
            world.board.changes(),
            witness.subscribe(),
            "verification-1",
            60,
        ));
        Self {
            sealing,
            witness,
            _tasks: tasks,
        }
    }
}

pub(crate) async fn control(log: &Arc<dyn EventLog>) -> Stream<LogControl> {
    Stream::load(
        Arc::clone(log),
        StreamName::new("log", "main").unwrap(),
        LogControl::default(),
    )
    .await
    .unwrap()
}

pub(crate) async fn request_permit(stream: &mut Stream<LogControl>, request_id: &str) {
    let command = Command::RequestPermit {
        node: "sealing-1".to_owned(),
        request_id: request_id.to_owned(),
    };
    let at = SystemClock.now();
    stream
        .execute(Meta::node("sealing-1"), |s| decide(s, command.clone(), at))
        .await
        .unwrap();
}

pub(crate) fn origin(number: u8, epoch: u64, predecessor: &str) -> OriginOpened {
    let origin = format!("{BASE}/main/{number}");
    OriginOpened {
        vkey: Vkey::ed25519(&origin, public(&key(number)))
            .unwrap()
            .to_string(),
        origin,
        key_id: format!("main-{number}"),
        provider: "software".to_owned(),
        provider_can_disable: false,
        node: "sealing-1".to_owned(),
        predecessor: predecessor.to_owned(),
        epoch,
    }
}

async fn answer(
    log: Arc<dyn EventLog>,
    mut changes: watch::Receiver<u64>,
    mut awake: watch::Receiver<bool>,
    node: &'static str,
    seed: u8,
) {
    let mut stream = control(&log).await;
    loop {
        changes.mark_unchanged();
        awake.mark_unchanged();
        if *awake.borrow() {
            stream.refresh().await.unwrap();
            let open: Vec<Directive> = stream
                .state()
                .unanswered(node)
                .map(|d| d.directive.clone())
                .collect();
            for directive in open {
                if node == "sealing-1" || directive.kind() == DirectiveKind::IsolateKey {
                    acknowledge(&mut stream, node, seed, &directive).await;
                }
            }
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            changed = awake.changed() => if changed.is_err() { return },
        }
    }
}

/// Acknowledges as the node would.
pub(crate) async fn acknowledge(
    stream: &mut Stream<LogControl>,
    node: &str,
    seed: u8,
    directive: &Directive,
) {
    let mut results: BTreeMap<String, String> = BTreeMap::new();
    let mut opened = None;
    match directive.kind() {
        DirectiveKind::IsolateKey if node == "sealing-1" => {
            results.insert(
                "provider".to_owned(),
                "cannot disable every copy: a software key is a file".to_owned(),
            );
        }
        DirectiveKind::IsolateKey => {
            results.insert("frozen".to_owned(), format!("{ORIGIN} at size 0"));
        }
        DirectiveKind::RotateOrigin => {
            opened = Some(origin(
                2,
                directive.epoch,
                directive_input(directive, "origin").unwrap(),
            ));
        }
        DirectiveKind::Reseal => {
            results.insert("resealed".to_owned(), SEALS.to_string());
            results.insert("reported".to_owned(), "7".to_owned());
        }
        DirectiveKind::ReadOnly
        | DirectiveKind::Open
        | DirectiveKind::Queue
        | DirectiveKind::QueueNoncritical
        | DirectiveKind::RevokeKey
        | DirectiveKind::DestroyKey
        | DirectiveKind::RestoreKey
        | DirectiveKind::Unspecified => {}
    }
    let head = stream.head();
    let text = acknowledgement_text(
        INSTALLATION,
        node,
        directive,
        (head.position, &head.hash),
        &results,
    );
    let key = key(seed);
    let vkey = Vkey::ed25519(node, public(&key)).unwrap();
    let note = UnsignedNote::new(text).unwrap();
    let signature = key.sign(note.text().as_bytes());
    let note = note
        .attach(node, vkey.key_id(), signature.as_ref())
        .unwrap();
    let command = Command::Acknowledge {
        epoch: directive.epoch,
        node: node.to_owned(),
        note: note.to_string(),
        opened,
        keys: KeyChanges::default(),
    };
    let at: At = SystemClock.now();
    stream
        .execute(Meta::node(node), |s| decide(s, command.clone(), at))
        .await
        .unwrap();
}

struct Peer;

type Answers<T> = Pin<Box<dyn Stream2<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Sealing for Peer {
    type ExportSealsStream = Answers<SealResponse>;
    type WatchTicketStream = Answers<TicketResponse>;
    type SealStreamStream = Answers<SealStreamResponse>;

    async fn seal_stream(
        &self,
        _: Request<Streaming<SealStreamRequest>>,
    ) -> Result<Response<Self::SealStreamStream>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn fail_back(
        &self,
        _: Request<FailBackRequest>,
    ) -> Result<Response<KeyChangeResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn rotate_key(
        &self,
        _: Request<RotateKeyRequest>,
    ) -> Result<Response<KeyChangeResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    type WatchSealStream = Answers<SealResponse>;

    async fn watch_seal(
        &self,
        _: Request<WatchSealRequest>,
    ) -> Result<Response<Self::WatchSealStream>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn get_anchors(
        &self,
        _: Request<GetAnchorsRequest>,
    ) -> Result<Response<GetAnchorsResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn get_ticket(
        &self,
        _: Request<GetTicketRequest>,
    ) -> Result<Response<TicketResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn watch_ticket(
        &self,
        _: Request<WatchTicketRequest>,
    ) -> Result<Response<Self::WatchTicketStream>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn seal(&self, _: Request<SealRequest>) -> Result<Response<SealResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn get_seal(&self, _: Request<GetSealRequest>) -> Result<Response<SealResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn export_seals(
        &self,
        request: Request<ExportSealsRequest>,
    ) -> Result<Response<Self::ExportSealsStream>, Status> {
        let origin = request.into_inner().origin;
        let seals = (0..SEALS).map(move |index| {
            Ok(SealResponse {
                seal: vec![b'x'; 600].into(),
                origin: origin.clone(),
                index,
                ..SealResponse::default()
            })
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(seals))))
    }

    async fn find_affected(
        &self,
        _: Request<FindAffectedRequest>,
    ) -> Result<Response<FindAffectedResponse>, Status> {
        let found = FindAffectedResponse {
            total: SEALS + 7,
            covered: SEALS,
            reported: 7,
            reported_indexes: Vec::new(),
        };
        Ok(Response::new(found))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }
}

#[tonic::async_trait]
impl Verification for Peer {
    type VerifyStreamStream = Answers<VerifyResponse>;

    async fn verify(&self, _: Request<VerifyRequest>) -> Result<Response<VerifyResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn verify_stream(
        &self,
        request: Request<Streaming<VerifyRequest>>,
    ) -> Result<Response<Self::VerifyStreamStream>, Status> {
        let answers = request.into_inner().map(|request| {
            request.map(|_| VerifyResponse {
                verdict: "valid".to_owned(),
                ..VerifyResponse::default()
            })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn get_trust(
        &self,
        _: Request<GetTrustRequest>,
    ) -> Result<Response<GetTrustResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }
}

async fn serve_grpc(world: &World, tasks: &mut JoinSet<()>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    sealwarden_pki::install_ring();
    let server = tonic::transport::Server::builder()
        .tls_config(server_tls(&world.identity("sealing-1", CallerRole::Node)))
        .unwrap()
        .add_service(SealingServer::new(Peer))
        .add_service(VerificationServer::new(Peer));
    tasks.spawn(async move {
        server
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
            .unwrap();
    });
    url
}

async fn serve_witness_key(tasks: &mut JoinSet<()>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let vkey = Vkey::cosignature_v1("verification-1.witness.acme", public(&key(61))).unwrap();
    let router = axum::Router::new().route(
        "/witness/key",
        axum::routing::get(move || async move { vkey.to_string() }),
    );
    tasks.spawn(async move {
        axum::serve(listener, router).await.unwrap();
    });
    url
}
