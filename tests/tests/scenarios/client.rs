//! The client library against the real binary: one document, a seal asked for again, a ticket, a verdict without a server.

use std::time::Duration;

use sealwarden_client::{Client, ClientError, Document, Outcome, Sealed, Stage, Work, verify};
use sealwarden_seal::merkle::Hash;
use sealwarden_seal::seal::Seal;
use sealwarden_tests::{Installation, people, thief, wait::eventually};

const ORIGIN: &str = "seal.example.com/main/1";

async fn connected(here: &Installation) -> Client {
    let client = Client::of_installation(&here.data(), "operator").await;
    client
        .expect("a connection")
        .patience(Duration::from_secs(20))
}

async fn sealed(client: &Client, document: &Document) -> Sealed {
    match client.seal(document).await.expect("a seal") {
        Outcome::Sealed(sealed) => sealed,
        Outcome::Queued { ticket } => panic!("it waits under {ticket}"),
    }
}

fn document(text: &str, id: &str) -> Document {
    Document {
        request_id: id.to_owned(),
        wait: Stage::Witnessed,
        ..Document::new(Hash::of(text.as_bytes()).0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_sealed_asked_for_again_and_verified_without_a_server() {
    let here = Installation::new();
    let up = here.up();
    here.seal_eventually(&here.file("first", b"first"));
    let client = connected(&here).await;
    let one = Document {
        policy: "invoices".to_owned(),
        ..document("one", "invoice-1").for_tenant("acme")
    };
    let first = sealed(&client, &one).await;
    assert_eq!(first.stage, Stage::Witnessed);
    let seal = Seal::parse(&first.seal).expect("a seal that reads");
    assert_eq!(
        (seal.record.tenant.as_str(), seal.record.policy.as_str()),
        ("acme", "invoices")
    );
    // The same id of the same tenant is the same seal, of another tenant another one, and of another document none.
    assert_eq!(sealed(&client, &one).await.index, first.index);
    let of_other = sealed(&client, &one.clone().for_tenant("other")).await;
    assert_ne!(of_other.index, first.index);
    let misused = client
        .seal(&document("two", "invoice-1").for_tenant("acme"))
        .await
        .expect_err("another document");
    let ClientError::Refused(status) = &misused else {
        panic!("{misused}");
    };
    assert_eq!(status.code(), tonic::Code::AlreadyExists);
    for digest in [one.digest, Hash::of(b"two").0] {
        assert!(
            misused.to_string().contains(&hex::encode(digest)),
            "{misused}"
        );
    }

    let again = client.get(ORIGIN, first.index).await.expect("it is there");
    assert_eq!((again.index, again.origin.as_str()), (first.index, ORIGIN));
    let never = client.get(ORIGIN, 1_000_000).await.expect_err("no leaf");
    assert!(never.to_string().contains("no leaf 1000000"), "{never}");
    let trust = std::fs::read(here.trust("trust.json")).expect("a bundle");
    up.terminate();
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let verdict = |digest| {
        let checked = verify(&first.seal, digest, &trust, None, now_ms);
        checked
            .expect("a bundle that reads")
            .verdict
            .as_str()
            .to_owned()
    };
    assert_eq!(verdict(one.digest), "valid");
    assert_eq!(verdict([9; 32]), "document-mismatch");
    assert!(verify(&first.seal, one.digest, b"{}", None, now_ms).is_err());
    let gone = client.patience(Duration::ZERO).seal(&one).await;
    assert!(matches!(gone, Err(ClientError::Refused(_))), "{gone:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_waited_for_and_becomes_the_seal_of_its_document() {
    let here = Installation::new();
    let _up = here.up();
    here.seal_eventually(&here.file("first", b"first"));
    let thief = thief::Thief::steals_from(&here, "sealing-1").await;
    thief::shows_to_the_witness(&here, &thief.forges(ORIGIN, 1_000).await, 1).await;
    eventually("signing is on hold", || {
        (here.status()["sealing"]["mode"] == "hold").then_some(())
    });
    let run = people::run_of_the_incident(&here);
    let client = connected(&here).await;
    let waits = Document {
        accept_queued: true,
        ..document("waits", "w-1")
    };
    let ticket = match client.seal(&waits).await.expect("an answer") {
        Outcome::Queued { ticket } => ticket,
        Outcome::Sealed(sealed) => panic!("sealed as {}", sealed.index),
    };
    let same = client.seal(&waits).await.expect("an answer");
    assert_eq!(
        same,
        Outcome::Queued {
            ticket: ticket.clone()
        }
    );
    let refused = Document {
        accept_queued: false,
        ..document("refused", "r-1")
    };
    let hasty = client.clone().patience(Duration::ZERO);
    let refused = hasty.seal(&refused).await.expect_err("signing is held");
    assert!(matches!(refused, ClientError::Refused(_)), "{refused}");
    let waiting = tokio::spawn({
        let client = client.clone().patience(Duration::from_mins(2));
        let ticket = ticket.clone();
        async move { client.wait_for(&ticket, Stage::Witnessed).await }
    });
    tokio::task::spawn_blocking(move || {
        people::approve_until_the_end(&here, &run);
        here
    })
    .await
    .expect("approved");
    let seal = waiting.await.expect("it ends").expect("a seal");
    assert_eq!(seal.stage, Stage::Witnessed);
    let read = Seal::parse(&seal.seal).expect("a seal that reads");
    assert_eq!(read.record.digest, waits.digest);
    let unknown = client.wait_for("T-0", Stage::Sealed).await;
    assert!(unknown.is_err(), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_and_a_chunks_metadata_are_the_tenants_in_bulk_too() {
    let here = Installation::new();
    std::fs::create_dir_all(here.data()).expect("a folder");
    let text = "sealing:\n  tenants:\n    acme: { policies: [invoices], max_metadata_bytes: 60 }\n";
    std::fs::write(here.data().join("settings.yaml"), text).expect("settings");
    let _up = here.up();
    here.seal_eventually(&here.file("first", b"first"));
    let client = connected(&here).await;
    let bulk = async |policy: &str, subject: &str| {
        let work = Work {
            policy: policy.to_owned(),
            request_id: "w".to_owned(),
            ..Work::new("acme")
        };
        let (to, source) = tokio::sync::mpsc::channel(1);
        let chunk = sealwarden_client::Chunk {
            digests: vec![[3; 32], [4; 32]],
            subjects: vec![subject.to_owned(); 2],
            ..Default::default()
        };
        to.try_send(chunk).expect("room");
        drop(to);
        let mut policies = Vec::new();
        client
            .seal_bulk(&work, source, |_, sealed, _| {
                sealed.for_each_seal(|_, text| {
                    let seal = Seal::parse(text.as_bytes()).expect("a seal that reads");
                    policies.push(seal.record.policy);
                });
            })
            .await
            .map(|()| policies)
    };
    let wrong = bulk("contracts", "").await.expect_err("not its policy");
    assert!(wrong.to_string().contains("use one of invoices"), "{wrong}");
    let long = "a subject that is longer than this tenant may have, by far";
    let wrong = bulk("invoices", long).await.expect_err("too long");
    assert!(wrong.to_string().contains("max_metadata_bytes"), "{wrong}");
    assert_eq!(
        bulk("invoices", "short").await.expect("sealed"),
        ["invoices"; 2]
    );
}
