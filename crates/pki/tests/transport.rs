//! Mutual TLS on loopback, with a real server.
#![cfg(test)]

use std::{path::Path, sync::Arc, time::Duration};

use sealwarden_pki::{
    Authority, Caller, CallerName, CallerRole, Callers, Identity, caller_of, connect, connect_lazy,
    install_ring, require, server_tls,
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code, Request, Status,
    service::{Interceptor as _, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Server},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

const DAY: Duration = Duration::from_hours(24);

fn issue(authority: &Authority, name: &str, role: CallerRole) -> Identity {
    let hosts = match role {
        CallerRole::Node => vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
        CallerRole::Operator | CallerRole::Sealer | CallerRole::Verifier | CallerRole::Detector => {
            Vec::new()
        }
    };
    let name = CallerName::new(name).unwrap();
    authority.issue(&name, role, &hosts, DAY).unwrap()
}

fn authority(dir: &Path) -> Authority {
    Authority::open_or_create(dir, "test").unwrap()
}

/// A health service that admits operators and nodes and tells whom it saw.
async fn serve(identity: &Identity) -> (String, mpsc::Receiver<Caller>) {
    install_ring();
    let (seen, callers) = mpsc::channel(16);
    let mut known = Callers::default();
    let guard = move |request: Request<()>| -> Result<Request<()>, Status> {
        let read = caller_of(&request)?;
        let request = known.call(request)?;
        assert_eq!(request.extensions().get::<Caller>(), Some(&read));
        let caller = caller_of(&request)?;
        seen.try_send(caller.clone()).unwrap();
        require(&caller, &[CallerRole::Operator, CallerRole::Node])?;
        Ok(request)
    };
    let (_reporter, health) = tonic_health::server::health_reporter();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "https://localhost:{}",
        listener.local_addr().unwrap().port()
    );
    let server = Server::builder()
        .tls_config(server_tls(identity))
        .unwrap()
        .add_service(InterceptedService::new(health, guard))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    (url, callers)
}

async fn check(channel: Channel) -> Result<(), Status> {
    HealthClient::new(channel)
        .check(HealthCheckRequest::default())
        .await
        .map(drop)
}

/// Whether the connection itself failed, at whichever step TLS reports it.
async fn is_refused(url: &str, identity: &Identity) -> bool {
    match connect(url, identity).await {
        Err(_) => true,
        Ok(channel) => matches!(
            check(channel).await.unwrap_err().code(),
            Code::Unavailable | Code::Unknown
        ),
    }
}

#[tokio::test]
async fn the_caller_is_who_its_certificate_says() {
    let dir = tempfile::tempdir().unwrap();
    let authority = authority(&dir.path().join("ca"));
    let (url, mut callers) = serve(&issue(&authority, "server", CallerRole::Node)).await;
    let alice = issue(&authority, "alice@example.com", CallerRole::Operator);
    check(connect(&url, &alice).await.unwrap()).await.unwrap();
    let caller = callers.recv().await.unwrap();
    assert_eq!(caller.to_string(), "alice@example.com (operator)");
    assert_eq!(caller.fingerprint, alice.info().unwrap().fingerprint);
    let by_address = url.replace("localhost", "127.0.0.1");
    let channel = connect_lazy(&by_address, &alice).unwrap();
    check(channel.clone()).await.unwrap();
    let bob = issue(&authority, "bob", CallerRole::Operator);
    check(connect(&url, &bob).await.unwrap()).await.unwrap();
    check(channel).await.unwrap();
    for expected in [&alice, &bob, &alice] {
        let caller = callers.recv().await.unwrap();
        assert_eq!(caller.fingerprint, expected.info().unwrap().fingerprint);
    }
}

#[tokio::test]
async fn a_role_that_is_not_admitted_is_denied() {
    let dir = tempfile::tempdir().unwrap();
    let authority = authority(&dir.path().join("ca"));
    let (url, mut callers) = serve(&issue(&authority, "server", CallerRole::Node)).await;
    for role in [
        CallerRole::Sealer,
        CallerRole::Verifier,
        CallerRole::Detector,
    ] {
        let channel = connect(&url, &issue(&authority, "bot", role))
            .await
            .unwrap();
        let status = check(channel).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        assert!(status.message().contains("operator or node"), "{status}");
        assert_eq!(callers.recv().await.unwrap().role, role);
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let authority = authority(&dir.path().join("ca"));
    let (url, mut callers) = serve(&issue(&authority, "server", CallerRole::Node)).await;
    let tls =
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.certificate_pem()));
    let endpoint = Endpoint::from_shared(url).unwrap().tls_config(tls).unwrap();
    let refused = match endpoint.connect().await {
        Err(_) => true,
        Ok(channel) => check(channel).await.is_err(),
    };
    assert!(refused);
    assert!(callers.try_recv().is_err());
}

#[tokio::test]
async fn another_installations_certificate_is_refused_by_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (
        Arc::new(authority(&dir.path().join("ours"))),
        authority(&dir.path().join("theirs")),
    );
    let (url, mut callers) = serve(&issue(&ours, "server", CallerRole::Node)).await;
    let stranger = issue(&theirs, "alice", CallerRole::Operator);
    assert!(is_refused(&url, &stranger).await);
    // A stranger that trusts our authority all the same gets no further.
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(ours.certificate_pem()))
        .identity(tonic::transport::Identity::from_pem(
            stranger.certificate_pem(),
            stranger.key_pem(),
        ));
    let endpoint = Endpoint::from_shared(url).unwrap().tls_config(tls).unwrap();
    let refused = match endpoint.connect().await {
        Err(_) => true,
        Ok(channel) => check(channel).await.is_err(),
    };
    assert!(refused);
    assert!(callers.try_recv().is_err());
}

#[tokio::test]
async fn a_client_certificate_cannot_serve() {
    let dir = tempfile::tempdir().unwrap();
    let authority = authority(&dir.path().join("ca"));
    let (url, _callers) = serve(&issue(&authority, "bot", CallerRole::Sealer)).await;
    assert!(is_refused(&url, &issue(&authority, "alice", CallerRole::Operator)).await);
}

#[tokio::test]
async fn plain_addresses_are_refused_and_failures_name_their_cause() {
    let dir = tempfile::tempdir().unwrap();
    let alice = issue(
        &authority(&dir.path().join("ca")),
        "alice",
        CallerRole::Operator,
    );
    let error = connect("http://localhost:1", &alice).await.unwrap_err();
    assert!(error.to_string().contains("https://host:port"), "{error}");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "https://localhost:{}",
        listener.local_addr().unwrap().port()
    );
    drop(listener);
    let error = connect(&url, &alice).await.unwrap_err().to_string();
    assert!(
        error.contains(&url) && error.to_lowercase().contains("refused"),
        "{error}"
    );
}
