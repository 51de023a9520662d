//! An executor that was tampered with: it writes directives that nobody approved straight into the event log. The nodes refuse.

use sealwarden_eventlog::test_server::TestServer;
use sealwarden_tests::history::History;
use sealwarden_tests::{Installation, people, wait};
use sealwarden_wire::event::v1::event::Kind;
use sealwarden_wire::event::v1::{Directive, DirectiveIssued, DirectiveKind, SignedStatement};

const EXECUTOR: &str = "runbook-executor-1";

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the other kinds are no answers"
)]
fn answer(kind: Kind, epoch: u64) -> Option<(String, bool)> {
    match kind {
        Kind::DirectiveAcknowledged(ack) if ack.epoch == epoch => Some((ack.node, false)),
        Kind::DirectiveRefused(refusal) if refusal.epoch == epoch => Some((refusal.node, true)),
        _ => None,
    }
}

/// Waits until every directive was answered; the answers as `(epoch, node, refused)`.
async fn answers(history: &History, epoch: u64, nodes: usize) -> Vec<(String, bool)> {
    let deadline = std::time::Instant::now() + wait::PATIENCE;
    loop {
        let answers: Vec<(String, bool)> = history
            .events("log/main")
            .await
            .into_iter()
            .filter_map(|kind| answer(kind, epoch))
            .collect();
        if answers.len() >= nodes {
            return answers;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "directive {epoch} is not answered: {answers:?}"
        );
        // bounded poll: the nodes are other processes.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

fn directive(epoch: u64, kind: DirectiveKind, inputs: &str) -> Directive {
    Directive {
        epoch,
        kind: kind.into(),
        log: "main".to_owned(),
        incident: "I-00000000-1".to_owned(),
        run: "R-00000000-1".to_owned(),
        step: format!("step-{epoch}"),
        runbook: "key-compromise".to_owned(),
        runbook_digest: "0".repeat(64),
        inputs: inputs.to_owned(),
        issued_at_ms: jiff::Timestamp::now().as_millisecond(),
        ..Directive::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_refuse_directives_that_nobody_approved() {
    let server = TestServer::start().expect("a nats-server");
    let here = Installation::over_nats(&server.url());
    let _up = here.up();
    here.seal(&here.file("before", b"x"));
    let history = History::nats(&server.url(), &here.name()).await;
    let log = "log: main\n";
    let origin = "origin: seal.example.com/main/1\n";
    let isolate = format!("action: isolate-key\ncompromised-since: 1\n{log}{origin}");
    let tampered = [
        directive(
            1,
            DirectiveKind::ReadOnly,
            &format!("action: read-only\n{log}"),
        ),
        directive(2, DirectiveKind::IsolateKey, &isolate),
        directive(
            3,
            DirectiveKind::RotateOrigin,
            &format!("action: rotate-origin\n{log}{origin}"),
        ),
        with_a_made_up_approval(
            &here,
            directive(
                4,
                DirectiveKind::ReadOnly,
                &format!("action: read-only\n{log}"),
            ),
        ),
    ];
    for directive in tampered {
        let epoch = directive.epoch;
        let both = directive.kind() == DirectiveKind::IsolateKey;
        history
            .writes(
                "log/main",
                EXECUTOR,
                vec![Kind::DirectiveIssued(DirectiveIssued {
                    directive: Some(directive),
                })],
            )
            .await;
        let answers = answers(&history, epoch, if both { 2 } else { 1 }).await;
        assert!(
            answers.iter().all(|(_, refused)| *refused),
            "directive {epoch} is obeyed: {answers:?}"
        );
    }
    let after = here.file("after", b"y");
    here.seal_eventually(&after);
    let status = here.status();
    assert_eq!(
        status["logs"][0]["origin"], "seal.example.com/main/1",
        "{status:#}"
    );
    assert_eq!(status["sealing"]["mode"], "open", "{status:#}");
    assert_eq!(here.verify(&after).good()["verdict"], "valid");
}

/// Signed by one real person, for another step: nothing of it fits, and one is not a quorum.
fn with_a_made_up_approval(here: &Installation, mut directive: Directive) -> Directive {
    let statement = format!(
        "sealwarden approval v1\ninstallation: {}\nenvironment: production\nincident: {}\nrun: {}\nstep: other\niteration: 0\nrunbook: key-compromise sha256:{zeroes}\ninputs: sha256:{zeroes}\nroster: sha256:{zeroes}\ndecision: approve\napprover: mara.lindqvist\nnonce: {}\nexpires: 2099-01-01T00:00:00Z\n",
        here.name(),
        directive.incident,
        directive.run,
        people::nonce(),
        zeroes = "0".repeat(64),
    );
    let signature = people::sign(here, "mara.lindqvist", &statement);
    directive.approvals = vec![SignedStatement {
        statement,
        signature,
    }];
    directive
}
