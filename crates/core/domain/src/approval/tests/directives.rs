//! What a node obeys.

use std::collections::{BTreeMap, BTreeSet};

use sealwarden_wire::event::v1::{Directive, DirectiveKind, SignedStatement};

use super::checks::quorum;
use crate::approval::fixture::{NOW_MS, VALIDITY_MS, fingerprint_of, roster, signed, statement};
use crate::approval::{
    Accepted, Decision, DirectiveExpectation, Environment, Inputs, Order, Refusal, RefusalCode,
    Statement, verify_directive,
};

fn inputs() -> Inputs {
    let values = [
        ("log", "main"),
        ("origin", "seal.example.com/main/1"),
        ("compromised-since", "2026-11-02T09:00:00Z"),
    ];
    let values: BTreeMap<String, String> = values
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Inputs::new("isolate-key", values).unwrap()
}

fn of(person: &str, nonce: u64) -> Statement {
    statement(person, &inputs().digest(), nonce)
}

fn approval(statement: &Statement) -> SignedStatement {
    let (statement, signature) = signed(statement);
    SignedStatement {
        statement,
        signature,
    }
}

fn directive(approvals: &[Statement]) -> Directive {
    let like = of("ada", 0);
    Directive {
        epoch: 3,
        kind: DirectiveKind::IsolateKey.into(),
        log: "main".to_owned(),
        incident: like.incident,
        run: like.run,
        step: like.step,
        iteration: 0,
        runbook: like.runbook,
        runbook_digest: like.runbook_digest,
        inputs: inputs().to_string(),
        approvals: approvals.iter().map(approval).collect(),
        issued_at_ms: NOW_MS,
        requesters: vec!["rita".to_owned()],
    }
}

fn verify_knowing(
    directive: &Directive,
    seen: &BTreeSet<Order>,
    requesters: &[String],
) -> Result<Vec<Accepted>, Refusal> {
    verify_without(directive, seen, requesters, &BTreeSet::new())
}

fn verify_without(
    directive: &Directive,
    seen: &BTreeSet<Order>,
    requesters: &[String],
    revoked: &BTreeSet<String>,
) -> Result<Vec<Accepted>, Refusal> {
    let (roster, required) = (
        roster(),
        quorum(&[("security-lead", 1), ("on-call-sre", 1)]),
    );
    let expected = DirectiveExpectation {
        revoked,
        installation: "acme",
        environment: Environment::Production,
        log: "main",
        roster: &roster,
        required: &required,
        max_validity_ms: VALIDITY_MS,
        now_ms: NOW_MS + 1000,
        max_skew_ms: 2000,
        max_age_ms: 60_000,
        seen,
        requesters,
    };
    verify_directive(directive, &expected)
}

fn verify(directive: &Directive) -> Result<Vec<Accepted>, Refusal> {
    verify_knowing(directive, &BTreeSet::new(), &[])
}

fn good() -> Directive {
    directive(&[of("ada", 1), of("grace", 2)])
}

#[test]
fn a_directive_with_its_quorum_is_obeyed() {
    let people: Vec<String> = verify(&good())
        .unwrap()
        .into_iter()
        .map(|accepted| accepted.person)
        .collect();
    assert_eq!(people, ["ada", "grace"]);
}

#[test]
fn a_bad_approval_beside_a_met_quorum_is_passed_over() {
    let mut directive = directive(&[of("leila", 5), of("ada", 1), of("ada", 3), of("grace", 2)]);
    directive.approvals.insert(0, SignedStatement::default());
    assert_eq!(verify(&directive).unwrap().len(), 2);
}

#[test]
fn without_the_quorum_every_reason_is_told() {
    let none = verify(&directive(&[])).unwrap_err();
    assert_eq!(none.code, RefusalCode::QuorumMissing);
    assert!(
        none.reason.contains("on-call-sre: 1, security-lead: 1"),
        "{none}"
    );
    let expired = Statement {
        expires_s: NOW_MS / 1000,
        ..of("grace", 2)
    };
    let other_run = Statement {
        run: "run-9".into(),
        ..of("grace", 2)
    };
    let drill = Statement {
        environment: Environment::Drill,
        ..of("grace", 2)
    };
    let stale = Statement {
        inputs_digest: "0".repeat(64),
        ..of("grace", 2)
    };
    let cases = [
        (of("ada", 2), "twice"),
        (of("rita", 2), "requester"),
        (of("leila", 2), "wrong-role"),
        (expired, "expired"),
        (other_run, "wrong-run"),
        (drill, "wrong-environment"),
        (stale, "stale-inputs"),
    ];
    for (second, word) in cases {
        let refusal = verify(&directive(&[of("ada", 1), second])).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::QuorumMissing);
        assert!(
            refusal.reason.contains(word) && refusal.reason.contains("on-call-sre: 1"),
            "{refusal}"
        );
    }
}

#[test]
fn one_person_with_both_roles_does_not_do() {
    assert!(verify(&directive(&[of("linus", 1)])).is_err());
    assert!(verify(&directive(&[of("linus", 1), of("ada", 2)])).is_ok());
}

#[test]
fn a_denial_stops_the_directive() {
    let denial = Statement {
        decision: Decision::Deny,
        ..of("linus", 3)
    };
    let refusal = verify(&directive(&[of("ada", 1), of("grace", 2), denial])).unwrap_err();
    assert_eq!(refusal.person, "linus");
}

type Change = fn(&mut Directive);

#[test]
fn a_directive_that_says_other_things_than_were_signed_is_refused() {
    let changes: [(&str, Change); 9] = [
        ("log", |d| d.log = "other".into()),
        ("kind", |d| d.kind = DirectiveKind::Open.into()),
        ("no kind", |d| d.kind = 99),
        ("inputs for another log", |d| {
            d.inputs = d.inputs.replace("log: main", "log: other");
        }),
        ("inputs with a second form", |d| d.inputs.push('\n')),
        ("an action without directive", |d| {
            d.inputs = "action: reverify\nlog: main\norigin: x\n".into();
        }),
        ("an unknown action", |d| {
            d.inputs = "action: destroy\nlog: main\n".into();
        }),
        ("late", |d| d.issued_at_ms -= 60_000),
        ("early", |d| d.issued_at_ms += 60_000),
    ];
    for (what, change) in changes {
        let mut directive = good();
        change(&mut directive);
        let refusal = verify(&directive).unwrap_err();
        let codes = [
            RefusalCode::WrongDirective,
            RefusalCode::Expired,
            RefusalCode::TooEarly,
        ];
        assert!(codes.contains(&refusal.code), "{what}: {refusal}");
    }
    let edits: [(&str, Change); 6] = [
        ("origin", |d| {
            d.inputs = d.inputs.replace("main/1", "main/2");
        }),
        ("run", |d| d.run = "run-2".into()),
        ("step", |d| d.step = "find".into()),
        ("iteration", |d| d.iteration = 1),
        ("incident", |d| d.incident = "inc-2".into()),
        ("runbook", |d| d.runbook_digest = "0".repeat(64)),
    ];
    for (what, edit) in edits {
        let mut directive = good();
        edit(&mut directive);
        assert_eq!(
            verify(&directive).unwrap_err().code,
            RefusalCode::QuorumMissing,
            "{what}"
        );
    }
}

#[test]
fn an_order_is_obeyed_once_whatever_its_epoch() {
    let seen = BTreeSet::from([Order::from(&good())]);
    assert_eq!(
        verify_knowing(&good(), &seen, &[]).unwrap_err().code,
        RefusalCode::Replayed
    );
}

#[test]
fn requesters_that_the_node_knows_cannot_be_left_out() {
    let refusal = verify_knowing(&good(), &BTreeSet::new(), &["ada".to_owned()]).unwrap_err();
    assert!(refusal.reason.contains("requester"), "{refusal}");
}

#[test]
fn a_node_that_has_read_of_a_revoked_key_does_not_count_it() {
    let revoked = BTreeSet::from([fingerprint_of("grace")]);
    let refusal = verify_without(&good(), &BTreeSet::new(), &[], &revoked).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::QuorumMissing);
    assert!(refusal.reason.contains("revoked-key"), "{refusal}");
    let other = BTreeSet::from([fingerprint_of("leila")]);
    assert!(verify_without(&good(), &BTreeSet::new(), &[], &other).is_ok());
}
