//! How the log is seen from outside: files over HTTP, witnesses.

use super::rig::{ORIGIN, Rig, World, called_by, soon};
use axum::body::{Body, to_bytes};
use http::{Request, Response, StatusCode, header};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use sealwarden_domain::fold::event;
use sealwarden_seal::cosignature::{Cosignature, message};
use sealwarden_seal::merkle::Hash;
use sealwarden_seal::note::Vkey;
use sealwarden_seal::seal::Seal;
use sealwarden_seal::trust::{
    Environment, FORMAT, FORMAT_2, LogEntry, Payload, Quorum, Roots, TrustBundle, WitnessEntry,
};
use sealwarden_seal::witness::{AddCheckpoint, WitnessState, decide};
use sealwarden_wire::event::v1::{Event, ServiceAnnounced, TrustPublished, event::Kind};
use sealwarden_wire::seal::v1::sealing_server::Sealing as _;
use sealwarden_wire::seal::v1::{SealRequest, Stage};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tower::ServiceExt as _;

async fn fetch(rig: &Rig, path: &str) -> Response<Body> {
    let request = Request::get(path).body(Body::empty()).unwrap();
    crate::tiles::router(&rig.service)
        .oneshot(request)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoint_and_tiles_are_served_with_their_types_and_nothing_else_is() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    for number in 0..3 {
        rig.sealed(number).await;
    }
    for (path, kind, cache) in [
        (
            "/main/1/checkpoint",
            "text/plain; charset=utf-8",
            "no-store",
        ),
        (
            "/main/1/tile/0/000.p/3",
            "application/octet-stream",
            "public, max-age=31536000, immutable",
        ),
        (
            "/main/1/tile/0/000.p/1",
            "application/octet-stream",
            "public, max-age=31536000, immutable",
        ),
        (
            "/main/1/tile/entries/000.p/3",
            "application/octet-stream",
            "public, max-age=31536000, immutable",
        ),
    ] {
        let response = fetch(&rig, path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(response.headers()[header::CONTENT_TYPE], kind, "{path}");
        assert_eq!(response.headers()[header::CACHE_CONTROL], cache, "{path}");
    }
    // A tile that no checkpoint vouches for yet: its bytes may still change.
    let tiles = world.dir.path().join("node/log/main/1/tile/0");
    std::fs::copy(tiles.join("000.p/3"), tiles.join("000.p/4")).unwrap();
    let tile = fetch(&rig, "/main/1/tile/0/000.p/3").await;
    assert_eq!(to_bytes(tile.into_body(), 1024).await.unwrap().len(), 96);
    for path in [
        "/main/2/checkpoint",
        "/main/01/checkpoint",
        "/main/1/tile/0/000",
        "/main/1/tile/0/000.p/4",
        "/main/1/tile/0/000.p/03",
        "/main/1/tile/../log.json",
        "/main/1/tile/%2e%2e/private/0000000000.records",
        "/main/1/staged",
        "/other/1/checkpoint",
    ] {
        assert_eq!(
            fetch(&rig, path).await.status(),
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
}

/// A witness with one key, that answers over HTTP what the protocol's pure decision says.
async fn witness(pair: Arc<Ed25519KeyPair>, vkey: Vkey, log: Vkey) -> String {
    let state = Arc::new(Mutex::new(WitnessState::default()));
    let trusted = Arc::new(BTreeMap::from([(ORIGIN.to_owned(), vec![log])]));
    let answer = move |body: axum::body::Bytes| {
        let (state, trusted) = (Arc::clone(&state), Arc::clone(&trusted));
        let (pair, vkey) = (Arc::clone(&pair), vkey.clone());
        async move {
            let mut state = state.lock().unwrap();
            match decide(&state, &body, &trusted) {
                Ok(accepted) => {
                    let known = state.origins.entry(ORIGIN.to_owned()).or_default();
                    known.size = accepted.checkpoint.size;
                    known.root = accepted.checkpoint.root;
                    let text = message(
                        AddCheckpoint::parse(&body).unwrap().note.text(),
                        1_700_000_000,
                    );
                    let signature = pair.sign(&text).as_ref().try_into().unwrap();
                    let line = Cosignature {
                        time_s: 1_700_000_000,
                        signature,
                    }
                    .into_line(&vkey);
                    (StatusCode::OK, format!("{}\n", line.unwrap()))
                }
                Err(refusal) => (
                    StatusCode::from_u16(refusal.status()).unwrap(),
                    refusal.body(),
                ),
            }
        }
    };
    let routes = axum::Router::new().route("/witness/add-checkpoint", axum::routing::post(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    url
}

/// A published bundle, signed by a root of its own.
pub(super) fn bundle(
    version: u64,
    logs: Vec<LogEntry>,
    witnesses: Vec<WitnessEntry>,
    quorum: u32,
) -> Vec<u8> {
    bundle_of(version, FORMAT, logs, witnesses, quorum)
}

/// The same in a format.
fn bundle_of(
    version: u64,
    format: &str,
    logs: Vec<LogEntry>,
    witnesses: Vec<WitnessEntry>,
    quorum: u32,
) -> Vec<u8> {
    let pair = ssh_key::private::Ed25519Keypair::from_seed(&[77; 32]);
    let root = ssh_key::private::KeypairData::Ed25519(pair);
    let root = ssh_key::PrivateKey::new(root, "").unwrap();
    let issued: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let payload = Payload {
        format: format.to_owned(),
        installation: "acme".to_owned(),
        environment: Environment::Drill,
        version,
        issued,
        expires: "2036-01-01T00:00:00Z".parse().unwrap(),
        previous: (version > 1).then(|| Hash::of(b"the payload before")),
        roots: Roots {
            threshold: 1,
            keys: vec![root.public_key().to_openssh().unwrap()],
        },
        signing_key: Vkey::ed25519("acme.signing", [9; 32]).unwrap(),
        logs,
        witnesses,
        quorum: Quorum::Count(quorum),
        clock_skew_s: 60,
        tsas: Vec::new(),
    };
    let mut bundle = TrustBundle::new(&payload).unwrap();
    let namespace = bundle.namespace().unwrap();
    let text = bundle.payload_text().as_bytes();
    let signature = root
        .sign(namespace, ssh_key::HashAlg::Sha512, text)
        .unwrap();
    bundle
        .add_signature(&signature.to_pem(ssh_key::LineEnding::LF).unwrap())
        .unwrap();
    bundle.to_bytes().unwrap()
}

struct Nothing;

impl sealwarden_domain::Fold for Nothing {
    fn apply(
        &mut self,
        _: &sealwarden_wire::event::v1::Envelope,
        _: &Event,
    ) -> Result<(), sealwarden_domain::IllegalEvent> {
        Ok(())
    }
}

impl Default for Nothing {
    fn default() -> Self {
        Self
    }
}

pub(super) async fn record(rig: &Rig, category: &str, id: &str, kind: Kind) {
    let mut stream = rig.node.stream::<Nothing>(category, id).await.unwrap();
    let recorded = stream
        .execute(rig.node.meta(), |_| Ok(vec![event(kind.clone())]))
        .await
        .unwrap();
    soon(rig.node.board.reached(recorded.position)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_waits_for_witnesses_gets_the_cosigned_checkpoint() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    rig.sealed(1).await;
    let until_witnessed = |number: u8| {
        let request = SealRequest {
            digest_algorithm: "sha-256".to_owned(),
            digest: vec![number; 32].into(),
            wait: Stage::Witnessed.into(),
            ..SealRequest::default()
        };
        rig.grpc
            .seal(called_by(sealwarden_pki::CallerRole::Sealer, request))
    };
    let alone = soon(until_witnessed(2)).await.unwrap().into_inner();
    assert_eq!(
        alone.stage(),
        Stage::Sealed,
        "no witness: the stage says so"
    );

    let pair = Arc::new(Ed25519KeyPair::from_seed_unchecked(&[42; 32]).unwrap());
    let public = pair.public_key().as_ref().try_into().unwrap();
    let vkey = Vkey::cosignature_v1("witness.drill.invalid", public).unwrap();
    let log = rig.service.tree(ORIGIN).unwrap().vkey.clone();
    let http_url = witness(pair, vkey.clone(), log.clone()).await;
    let announced = ServiceAnnounced {
        node: "verification-1".to_owned(),
        role: "verification".to_owned(),
        grpc_url: String::new(),
        http_url,
    };
    record(
        &rig,
        "node",
        "verification-1",
        Kind::ServiceAnnounced(announced),
    )
    .await;
    let published = TrustPublished {
        version: 1,
        digest: String::new(),
        bundle: bundle(
            1,
            vec![LogEntry::active(ORIGIN, vec![log.clone()])],
            vec![WitnessEntry::new("local", vkey.clone(), "acme", true)],
            1,
        )
        .into(),
        reason: "first".to_owned(),
    };
    record(&rig, "trust", "acme", Kind::TrustPublished(published)).await;
    let mut size = rig.service.tree(ORIGIN).unwrap().witnessed.subscribe();
    soon(size.wait_for(|size| *size >= 2)).await.unwrap();
    for number in 3..6 {
        let answer = soon(until_witnessed(number)).await.unwrap().into_inner();
        assert_eq!(answer.stage(), Stage::Witnessed);
        let seal = Seal::parse(&answer.seal).unwrap();
        seal.note.verify(std::slice::from_ref(&vkey)).unwrap();
        assert!(seal.checkpoint().unwrap().size > seal.index);
    }
}

/// What a witness of another operator does with a request.
#[derive(Clone, Debug)]
enum Does {
    Answer(u16, &'static str),
    Hang,
}

/// A witness of another operator, that does this. Its submission prefix.
async fn odd_witness(does: Does) -> String {
    let answer = move || {
        let does = does.clone();
        async move {
            match does {
                Does::Answer(status, body) => (StatusCode::from_u16(status).unwrap(), body),
                Does::Hang => std::future::pending().await,
            }
        }
    };
    let routes = axum::Router::new().route("/add-checkpoint", axum::routing::post(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    url
}

/// What the status of a log says whose only witness does this.
async fn status_of_witness(does: Does) -> sealwarden_wire::seal::v1::WitnessStatus {
    let world = World::new();
    let config = crate::config::Config {
        witness_timeout_ms: 300,
        ..Rig::config()
    };
    let rig = Rig::start_with(&world, config).await;
    rig.ready().await;
    rig.sealed(1).await;
    let pair = Ed25519KeyPair::from_seed_unchecked(&[42; 32]).unwrap();
    let public = pair.public_key().as_ref().try_into().unwrap();
    let vkey = Vkey::cosignature_v1("witness.other.example", public).unwrap();
    let tree = rig.service.tree(ORIGIN).unwrap();
    let entry = WitnessEntry {
        url: Some(odd_witness(does).await),
        ..WitnessEntry::new("other", vkey, "Other GmbH", false)
    };
    let logs = vec![LogEntry::active(ORIGIN, vec![tree.vkey.clone()])];
    let published = TrustPublished {
        version: 1,
        digest: String::new(),
        bundle: bundle_of(1, FORMAT_2, logs, vec![entry], 1).into(),
        reason: "first".to_owned(),
    };
    record(&rig, "trust", "acme", Kind::TrustPublished(published)).await;
    soon(async {
        loop {
            let required = rig.service.witnesses.required(&rig.node.board);
            let mut all = rig.service.answers.status(required.as_deref());
            let witness = all.pop().unwrap();
            if !witness.failing.is_empty() {
                assert_eq!(*tree.witnessed.borrow(), 0);
                return witness;
            }
            // bounded poll: what a witness said last is only read, for the status.
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_odd_answer_of_a_witness_is_shown_with_what_it_means_and_nothing_counts_as_witnessed()
{
    for (does, words) in [
        (Does::Hang, "timed out"),
        (
            Does::Answer(403, "no key"),
            "403 Forbidden (no key); it does not know the log's key",
        ),
        (
            Does::Answer(404, "who?"),
            "404 Not Found (who?); it does not know the log",
        ),
        (
            Does::Answer(409, "7\n"),
            "it has cosigned size 7, and this log has 1",
        ),
        (Does::Answer(409, "0\n"), "this log was forked or cut back"),
        (Does::Answer(409, "many"), "its size is not a number"),
        (Does::Answer(422, "no"), "this log was forked or cut back"),
        (Does::Answer(429, ""), "it is busy, and is asked again"),
        (
            Does::Answer(500, "oh"),
            "500 Internal Server Error (oh); it cannot cosign now",
        ),
        (Does::Answer(503, ""), "it is busy, and is asked again"),
        (Does::Answer(200, ""), "does not hold good cosignatures"),
        (
            Does::Answer(200, "rubbish\n"),
            "does not hold good cosignatures",
        ),
        (
            Does::Answer(200, "\u{2014} witness.other.example AAAAAAAA\n"),
            "does not hold good cosignatures",
        ),
    ] {
        let witness = status_of_witness(does.clone()).await;
        assert!(witness.failing.contains(words), "{does:?}: {witness:?}");
        assert_eq!((witness.size, witness.local), (0, false), "{does:?}");
    }
}
