//! Freezing by directive, judged by the witness's own plan.

use std::collections::BTreeMap;

use sealwarden_domain::approval::{Decision, Environment, Inputs, Namespace, Statement, sign};
use sealwarden_domain::log_control::DirectiveState;
use sealwarden_seal::note::Note;
use sealwarden_wire::event::v1::{
    Directive, DirectiveIssued, DirectiveKind, SignedStatement, event::Kind,
};

use crate::support::{ORIGIN, Service, World, now_ms, person_key, plan};

fn inputs() -> Inputs {
    let values = BTreeMap::from([
        ("log".to_owned(), "main".to_owned()),
        ("origin".to_owned(), ORIGIN.to_owned()),
        (
            "compromised-since".to_owned(),
            "2026-11-02T10:00:00Z".to_owned(),
        ),
    ]);
    Inputs::new("isolate-key", values).unwrap()
}

fn approval(person: &str) -> SignedStatement {
    let statement = Statement {
        installation: "test".to_owned(),
        environment: Environment::Production,
        incident: "I-1".to_owned(),
        run: "R-1".to_owned(),
        step: "isolate".to_owned(),
        iteration: 0,
        runbook: "key-compromise".to_owned(),
        runbook_digest: "ab".repeat(32),
        inputs_digest: inputs().digest(),
        roster_digest: plan().roster().digest_hex(),
        decision: Decision::Approve,
        approver: person.to_owned(),
        nonce: hex::encode([person.as_bytes()[0]; 16]),
        expires_s: now_ms() / 1000 + 600,
    };
    let text = statement.to_string();
    let signature = sign(&text, &person_key(person), Namespace::Approval).unwrap();
    SignedStatement {
        statement: text,
        signature,
    }
}

fn order(epoch: u64, approvals: Vec<SignedStatement>) -> Kind {
    Kind::DirectiveIssued(DirectiveIssued {
        directive: Some(Directive {
            epoch,
            kind: DirectiveKind::IsolateKey.into(),
            log: "main".to_owned(),
            incident: "I-1".to_owned(),
            run: "R-1".to_owned(),
            step: "isolate".to_owned(),
            iteration: 0,
            runbook: "key-compromise".to_owned(),
            runbook_digest: "ab".repeat(32),
            inputs: inputs().to_string(),
            approvals,
            issued_at_ms: now_ms(),
            requesters: Vec::new(),
        }),
    })
}

async fn answered(service: &Service, epoch: u64) -> DirectiveState {
    service
        .until(|installation| {
            let directive = installation.logs.get("main")?.directives.get(&epoch)?;
            directive
                .answered_by("verification-1")
                .then(|| directive.clone())
        })
        .await
}

#[tokio::test]
async fn an_approved_isolation_freezes_the_origin_for_good() {
    let world = World::with_leaves(6).await;
    world.intend(3).await;
    world.intend(5).await;
    let service = world.start().await;
    assert_eq!(service.post(world.request(0, 3)).await.status, 200);
    let approvals = vec![approval("mara.lindqvist"), approval("ines.duarte")];
    world.write("log", "main", order(1, approvals)).await;
    let directive = answered(&service, 1).await;
    let ack = directive.acks.get("verification-1").expect("it is obeyed");
    let note = Note::parse(ack.note.as_bytes()).unwrap();
    assert!(
        note.verify(std::slice::from_ref(&service.node.vkey))
            .is_ok()
    );
    assert!(
        note.text()
            .contains(&format!("frozen: {ORIGIN} at size 3\n")),
        "{}",
        note.text()
    );
    assert!(note.text().contains("\nhead: 3 sha256:"), "{}", note.text());
    // Even what the log intended before comes too late.
    let late = service.post(world.request(3, 5)).await;
    assert_eq!(late.status, 403);
    assert!(late.body.contains("frozen at size 3"), "{}", late.body);
    service.stop().await;
    let service = world.start().await;
    assert_eq!(service.post(world.request(3, 5)).await.status, 403);
    service.stop().await;
    assert_eq!(world.sighted().await, 0);
}

#[tokio::test]
async fn an_order_without_the_plans_quorum_is_refused() {
    let world = World::with_leaves(6).await;
    world.intend(3).await;
    let service = world.start().await;
    world
        .write("log", "main", order(1, vec![approval("mara.lindqvist")]))
        .await;
    let directive = answered(&service, 1).await;
    let reason = directive
        .refusals
        .get("verification-1")
        .expect("it is refused");
    assert!(reason.reason.contains("on-call-sre"), "{reason:?}");
    assert_eq!(service.post(world.request(0, 3)).await.status, 200);
    service.stop().await;
}

#[tokio::test]
async fn an_order_given_while_it_was_away_is_obeyed_when_it_starts() {
    let world = World::with_leaves(6).await;
    world.intend(3).await;
    let approvals = vec![approval("mara.lindqvist"), approval("ines.duarte")];
    world.write("log", "main", order(1, approvals)).await;
    let service = world.start().await;
    assert!(
        answered(&service, 1)
            .await
            .acks
            .contains_key("verification-1")
    );
    assert_eq!(service.post(world.request(0, 3)).await.status, 403);
    service.stop().await;
}
