//! The NATS server as `deploy/` sets it up: TLS, one user a service, each writing only its own streams.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sealwarden_eventlog::test_server::TestServer;
use sealwarden_pki::{Authority, CallerName, CallerRole};
use sealwarden_tests::history::History;
use sealwarden_tests::thief::{self, Thief};
use sealwarden_tests::{Installation, binary, people};
use sealwarden_wire::event::v1::{RunEnded, event::Kind};
use tempfile::TempDir;

const ROLES: [(&str, &str); 4] = [
    ("runbook-executor", "EXECUTOR_PASSWORD"),
    ("sealing", "SEALING_PASSWORD"),
    ("verification", "VERIFICATION_PASSWORD"),
    ("detection", "DETECTION_PASSWORD"),
];

fn deployed(file: &str) -> String {
    let path = binary::repository().join("deploy/nats").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A server's certificate with its authority, in a folder of their own.
struct Certificates(TempDir);

impl Certificates {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let authority =
            Authority::open_or_create(&folder.path().join("pki"), "nats").expect("an authority");
        let hosts = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let name = CallerName::new("nats").expect("a name");
        let day = Duration::from_hours(24);
        let identity = authority
            .issue(&name, CallerRole::Node, &hosts, day)
            .expect("a certificate");
        let put = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).expect("a file");
        };
        put("cert.pem", identity.certificate_pem());
        put("key.pem", identity.key_pem());
        put("ca.pem", identity.authority_pem());
        Self(folder)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn server(certificates: &Certificates) -> TestServer {
    let cert = certificates.file("cert.pem");
    let key = certificates.file("key.pem");
    let mut extra = format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\" }}\n",
        cert.display(),
        key.display()
    );
    for (role, variable) in ROLES {
        for part in [variable, ": \"", role, "-secret\"\n"] {
            extra.push_str(part);
        }
    }
    extra += &deployed("users.conf");
    TestServer::start_with(&extra).expect("a nats-server with users")
}

#[test]
fn the_servers_configuration_is_one() {
    let certificates = Certificates::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let here = |path: &Path| path.to_str().expect("a path").to_owned();
    let config = deployed("nats.conf")
        .replace(
            "/etc/nats/server.cert.pem",
            &here(&certificates.file("cert.pem")),
        )
        .replace(
            "/etc/nats/server.key.pem",
            &here(&certificates.file("key.pem")),
        )
        .replace("/var/lib/nats", &here(folder.path()));
    assert!(config.contains("sync_interval: always"));
    std::fs::write(folder.path().join("nats.conf"), config).expect("a file");
    std::fs::write(folder.path().join("users.conf"), deployed("users.conf")).expect("a file");
    let server = std::env::var_os("SEALWARDEN_NATS_SERVER").map_or_else(
        || binary::repository().join("target/tools/nats/bin/nats-server"),
        PathBuf::from,
    );
    let checked = Command::new(server)
        .args(["-t", "-c", &here(&folder.path().join("nats.conf"))])
        .envs(ROLES.map(|(role, variable)| (variable, role)))
        .output()
        .expect("nats-server runs");
    assert!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn with_one_user_a_service_the_whole_response_works_and_nobody_writes_anothers_streams() {
    let certificates = Certificates::new();
    let server = server(&certificates);
    let address = server
        .url()
        .replace("nats://", "tls://{role}:{role}-secret@");
    let here = Installation::over_nats(&address)
        .named("acme")
        .with_variable("SSL_CERT_FILE", certificates.file("ca.pem"));
    let _services = ROLES.map(|(role, _)| here.serve(role));
    let file = here.file("file", b"x");
    here.seal_eventually(&file);
    assert_eq!(here.verify(&file).good()["verdict"], "valid");

    let thief = Thief::steals_from(&here, "sealing-1").await;
    thief::shows_to_the_witness(&here, &thief.forges("seal.example.com/main/1", 9).await, 1).await;
    let run = people::run_of_the_incident(&here);
    assert_eq!(
        people::approve_until_the_end(&here, &run)["state"],
        "completed"
    );

    for (role, _) in ROLES {
        let url = address.replace("{role}", role);
        let history = History::nats_as(&url, &certificates.file("ca.pem"), "acme").await;
        assert!(
            !history.events(&format!("run/{run}")).await.is_empty(),
            "{role} reads everything"
        );
        let ended = Kind::RunEnded(RunEnded {
            reason: "tampered".to_owned(),
            ..RunEnded::default()
        });
        let written = history
            .tries_to_write("run/R-tampered", role, vec![ended])
            .await;
        assert_eq!(
            written.is_ok(),
            role == "runbook-executor",
            "{role} writes runs: {written:?}"
        );
    }
}
