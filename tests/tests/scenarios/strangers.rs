//! Callers that should not be there, and requests that make no sense.

use sealwarden_pki::{Authority, CallerName, CallerRole, Identity};
use sealwarden_tests::Installation;
use sealwarden_wire::control::v1::{StatusRequest, control_client::ControlClient};
use sealwarden_wire::incident::v1::{
    ClassifyRequest, ReportRequest, incidents_client::IncidentsClient,
};
use sealwarden_wire::run::v1::{ListRequest, runs_client::RunsClient};
use sealwarden_wire::seal::v1::{SealRequest, sealing_client::SealingClient};
use sealwarden_wire::verify::v1::{VerifyRequest, verification_client::VerificationClient};
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

fn request(digest: &[u8]) -> SealRequest {
    SealRequest {
        digest_algorithm: "sha-256".to_owned(),
        digest: digest.to_vec().into(),
        ..SealRequest::default()
    }
}

fn code<T: std::fmt::Debug>(answer: Result<T, tonic::Status>) -> Code {
    answer.expect_err("it must be refused").code()
}

async fn refused_by_tls(at: &Installation, tls: Option<ClientTlsConfig>, scheme: &str) {
    let url = at.address("sealing", "grpc").replace("https", scheme);
    let mut endpoint = Endpoint::from_shared(url).expect("an address");
    if let Some(tls) = tls {
        endpoint = endpoint.tls_config(tls).expect("TLS settings");
    }
    // TLS 1.3 may refuse a client only after it believes to be connected: then the first call fails.
    let Ok(channel) = endpoint.connect().await else {
        return;
    };
    let status = SealingClient::new(channel)
        .seal(request(&[1; 32]))
        .await
        .expect_err("a stranger is not served");
    assert!(
        matches!(
            status.code(),
            Code::Unavailable
                | Code::Unknown
                | Code::Internal
                | Code::Unauthenticated
                | Code::Cancelled
        ),
        "{status}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_of_the_installation_nobody_is_served() {
    let here = Installation::new();
    let _up = here.up();
    let ours = here.identity("operator");
    let authority = Certificate::from_pem(ours.authority_pem());
    refused_by_tls(
        &here,
        Some(ClientTlsConfig::new().ca_certificate(authority.clone())),
        "https",
    )
    .await;
    refused_by_tls(&here, None, "http").await;

    let foreign = foreign_identity(here.home());
    let pair = tonic::transport::Identity::from_pem(foreign.certificate_pem(), foreign.key_pem());
    refused_by_tls(
        &here,
        Some(
            ClientTlsConfig::new()
                .ca_certificate(authority)
                .identity(pair),
        ),
        "https",
    )
    .await;

    // The installation is unharmed.
    here.seal(&here.file("file", b"x"));
}

fn foreign_identity(home: &std::path::Path) -> Identity {
    let authority = Authority::open_or_create(&home.join("foreign"), "somebody-else")
        .expect("another authority");
    let name = CallerName::new("operator").expect("a name");
    let day = std::time::Duration::from_hours(24);
    authority
        .issue(&name, CallerRole::Operator, &[], day)
        .expect("a certificate")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_may_do_its_work_and_nothing_else() {
    let here = Installation::new();
    let _up = here.up();
    for (name, role) in [
        ("carol", "sealer"),
        ("victor", "verifier"),
        ("dora", "detector"),
    ] {
        here.issue(name, role);
    }
    let seal =
        |channel: Channel| async move { SealingClient::new(channel).seal(request(&[7; 32])).await };
    assert!(seal(here.connect("sealing", "carol").await).await.is_ok());
    for caller in ["victor", "dora"] {
        assert_eq!(
            code(seal(here.connect("sealing", caller).await).await),
            Code::PermissionDenied,
            "{caller}"
        );
    }
    for caller in ["carol", "victor", "dora"] {
        let mut runs = RunsClient::new(here.connect("runbook-executor", caller).await);
        assert_eq!(
            code(runs.list(ListRequest::default()).await),
            Code::PermissionDenied,
            "{caller}"
        );
        let mut control = ControlClient::new(here.connect("runbook-executor", caller).await);
        assert_eq!(
            code(control.status(StatusRequest {}).await),
            Code::PermissionDenied,
            "{caller}"
        );
        let mut incidents = IncidentsClient::new(here.connect("detection", caller).await);
        let classify = ClassifyRequest {
            incident: "I-00000000-1".to_owned(),
            ..ClassifyRequest::default()
        };
        assert_eq!(
            code(incidents.classify(classify).await),
            Code::PermissionDenied,
            "{caller}"
        );
        let mut verification = VerificationClient::new(here.connect("verification", caller).await);
        let answer = verification
            .verify(VerifyRequest::default())
            .await
            .expect("everybody may verify")
            .into_inner();
        assert_eq!(answer.verdict, "malformed");
    }
    for caller in ["carol", "victor"] {
        let mut incidents = IncidentsClient::new(here.connect("detection", caller).await);
        assert_eq!(
            code(incidents.report(ReportRequest::default()).await),
            Code::PermissionDenied,
            "{caller}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_make_no_sense_are_refused_with_the_field_and_its_limit() {
    let here = Installation::new();
    let _up = here.up();
    let mut sealing = SealingClient::new(here.connect("sealing", "operator").await);
    let good = request(&[9; 32]);
    let wrong = [
        (
            SealRequest {
                digest_algorithm: "md5".to_owned(),
                ..good.clone()
            },
            "md5",
        ),
        (
            SealRequest {
                digest_algorithm: String::new(),
                ..good.clone()
            },
            "algorithm",
        ),
        (request(&[9; 20]), "20"),
        (request(&[9; 33]), "33"),
        (request(&[]), "digest"),
        (
            SealRequest {
                tenant: "Not A Tenant".to_owned(),
                ..good.clone()
            },
            "tenant",
        ),
        (
            SealRequest {
                tenant: "t".repeat(65),
                ..good.clone()
            },
            "tenant",
        ),
        (
            SealRequest {
                subject: "s".repeat(257),
                ..good.clone()
            },
            "subject",
        ),
        (
            SealRequest {
                subject: "two\nlines".to_owned(),
                ..good.clone()
            },
            "subject",
        ),
        (
            SealRequest {
                request_id: "r".repeat(65),
                ..good.clone()
            },
            "request_id",
        ),
        (
            SealRequest {
                claimed_at_ms: -1,
                ..good.clone()
            },
            "claimed_at_ms",
        ),
        (
            SealRequest {
                wait: 99,
                ..good.clone()
            },
            "wait",
        ),
    ];
    for (request, word) in wrong {
        let status = sealing
            .seal(request.clone())
            .await
            .expect_err("a bad request");
        assert_eq!(
            status.code(),
            Code::InvalidArgument,
            "{request:?}: {status}"
        );
        assert!(
            status.message().contains(word),
            "{word:?} is not in: {}",
            status.message()
        );
    }
    assert!(sealing.seal(good).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_100_megabytes_is_refused_and_the_service_goes_on() {
    let here = Installation::new();
    let _up = here.up();
    let huge = vec![0; 100 << 20];
    let mut sealing = SealingClient::new(here.connect("sealing", "operator").await);
    let status = sealing
        .seal(request(&huge))
        .await
        .expect_err("100 MB of digest");
    let codes = [
        Code::OutOfRange,
        Code::ResourceExhausted,
        Code::InvalidArgument,
    ];
    assert!(codes.contains(&status.code()), "{status}");
    let mut verification = VerificationClient::new(here.connect("verification", "operator").await);
    let status = verification
        .verify(VerifyRequest {
            seal: huge.clone().into(),
            ..VerifyRequest::default()
        })
        .await;
    assert!(
        status.is_err() || status.is_ok_and(|answer| answer.into_inner().verdict == "malformed")
    );

    let url = format!(
        "{}/witness/add-checkpoint",
        here.address("verification", "http")
    );
    sealwarden_pki::install_ring();
    let answer = reqwest::Client::new().post(url).body(huge).send().await;
    // The server may answer, or close the connection before it has read it all.
    assert!(answer.is_err() || answer.is_ok_and(|a| [400, 413].contains(&a.status().as_u16())));
    here.seal(&here.file("file", b"x"));
}
