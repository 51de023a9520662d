//! People with keys, a plan and a runbook for the tests of approvals and runs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sealwarden_runbook::Roster;
use sealwarden_wire::event::v1::{ApproverKeyRevoked, RunStarted};
use ssh_key::private::Ed25519Keypair;
use ssh_key::{HashAlg, PrivateKey};

use super::{Decision, Environment, Namespace, Statement, revocation_text, sign};

/// 2026-11-02T10:00:00Z.
pub(crate) const NOW_MS: i64 = 1_793_613_600_000;

/// Half an hour, as the plan below says.
pub(crate) const VALIDITY_MS: i64 = 1_800_000;

/// Everybody, with their roles. `rita` asks for the run.
pub(crate) const PEOPLE: [(&str, &str); 9] = [
    ("ada", "security-lead"),
    ("grace", "on-call-sre"),
    ("linus", "on-call-sre, security-lead"),
    ("leila", "legal-counsel"),
    ("pete", "product-owner"),
    (
        "rita",
        "security-lead, on-call-sre, legal-counsel, product-owner",
    ),
    ("nora", "legal-counsel"),
    ("bea", "break-glass"),
    ("max", "break-glass, security-lead"),
];

pub(crate) const RUNBOOK: &str = "\
runbook: leak
version: 1
class: key-compromise
title: A small runbook
steps:
  - id: snapshot
    title: Evidence first
    action: snapshot-evidence
    retry: {attempts: 3, backoff: 1s}
    timeout: 1m
  - id: isolate
    title: Isolate the key
    action: isolate-key
    needs: [snapshot]
    with:
      log: ${incident.log}
      origin: ${incident.origin}
      compromised-since: ${incident.compromised_since}
    approval: {quorum: {security-lead: 1, on-call-sre: 1}, within: 15m}
    timeout: 2m
  - id: find
    title: Find what is affected
    action: find-affected
    needs: [isolate]
    with:
      origin: ${incident.origin}
      compromised-since: ${incident.compromised_since}
    timeout: 1m
  - id: rotate
    title: A new origin
    action: rotate-origin
    needs: [isolate, snapshot]
    with:
      log: ${incident.log}
      origin: ${incident.origin}
    approval: {quorum: {product-owner: 1, security-lead: 1}, within: 15m}
    timeout: 1m
  - id: publish
    title: Tell verifiers
    action: publish-trust
    needs: [rotate]
    with:
      log: ${incident.log}
    approval: {quorum: {legal-counsel: 1}, within: 15m}
    timeout: 1m
  - id: tell
    title: Tell the tenants
    action: confirm
    needs: [find]
    manual:
      instructions: Tell the tenants of ${steps.find.reported} seals.
    approval: {quorum: {legal-counsel: 2}, within: 1h}
    timeout: 1h
  - id: reverify
    title: Verify the new origin
    action: reverify
    needs: [publish, tell]
    with:
      origin: ${steps.rotate.origin}
    timeout: 1m
  - id: close
    title: Close
    action: close-incident
    needs: [reverify]
    timeout: 1m
";

pub(crate) const PLAN: &str = "\
plan: trial
version: 3
classes:
  key-compromise:
    title: A key in other hands
    severity: critical
    runbook: leak
    targets: {detect: 5s, contain: 60s, recover: 1h}
containment:
  isolate-key: {security-lead: 1, on-call-sre: 1}
  read-only: {on-call-sre: 1}
  rotate-origin: {security-lead: 1, product-owner: 1}
  reseal: {security-lead: 1}
  open: {security-lead: 1}
hold: 15m
approval_validity: 30m
";

/// A person's key; a stranger's for a name that is not on the roster.
pub(crate) fn key_of(person: &str) -> PrivateKey {
    let mut seed = [0x5a; 32];
    for (byte, letter) in seed.iter_mut().zip(person.bytes()) {
        *byte = letter;
    }
    PrivateKey::from(Ed25519Keypair::from_seed(&seed))
}

/// Keys in software count for break-glass only where the roster says so.
fn touch(person: &str, line: &str) -> &'static str {
    if ["bea", "max"].contains(&person) && !line.starts_with("sk-") {
        ", touch: waived"
    } else {
        ""
    }
}

/// The roster's text, with further key lines for some people.
pub(crate) fn roster_text(more: &BTreeMap<&str, String>) -> String {
    let mut text = String::from("people:\n");
    for (id, roles) in PEOPLE {
        let own = key_of(id).public_key().to_openssh().unwrap();
        let keys: Vec<String> = [Some(&own), more.get(id)]
            .into_iter()
            .flatten()
            .map(|key| format!("{{key: \"{}\"{}}}", key.trim(), touch(id, key)))
            .collect();
        writeln!(
            text,
            "  - {{id: {id}, name: {id}, roles: [{roles}], contact: none, keys: [{}]}}",
            keys.join(", ")
        )
        .unwrap();
    }
    text
}

pub(crate) fn roster() -> Roster {
    Roster::parse("roster.yaml", &roster_text(&BTreeMap::new())).unwrap()
}

/// The first event of a run of the runbook above.
pub(crate) fn run_started(environment: Environment) -> RunStarted {
    let facts = [
        ("incident.id", "inc-1"),
        ("incident.log", "main"),
        ("incident.origin", "seal.example.com/main/1"),
        ("incident.compromised_since", "2026-11-02T09:00:00Z"),
        ("incident.class", "key-compromise"),
    ];
    RunStarted {
        run: "run-1".to_owned(),
        incident: "inc-1".to_owned(),
        runbook: "leak".to_owned(),
        runbook_digest: super::sha256_hex(RUNBOOK.as_bytes()),
        runbook_text: RUNBOOK.to_owned(),
        roster_digest: roster().digest_hex(),
        roster_text: roster_text(&BTreeMap::new()),
        plan_text: PLAN.to_owned(),
        installation: "acme".to_owned(),
        environment: environment.as_str().to_owned(),
        requesters: vec!["rita".to_owned()],
        facts: facts
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    }
}

/// A statement of `person` about step `isolate` with these inputs, valid for a quarter of an hour.
pub(crate) fn statement(person: &str, inputs_digest: &str, nonce: u64) -> Statement {
    Statement {
        installation: "acme".to_owned(),
        environment: Environment::Production,
        incident: "inc-1".to_owned(),
        run: "run-1".to_owned(),
        step: "isolate".to_owned(),
        iteration: 0,
        runbook: "leak".to_owned(),
        runbook_digest: super::sha256_hex(RUNBOOK.as_bytes()),
        inputs_digest: inputs_digest.to_owned(),
        roster_digest: roster().digest_hex(),
        decision: Decision::Approve,
        approver: person.to_owned(),
        nonce: format!("{nonce:032x}"),
        expires_s: (NOW_MS + VALIDITY_MS / 2) / 1000,
    }
}

/// The statement's text and its signature by its approver's key in the right namespace.
pub(crate) fn signed(statement: &Statement) -> (String, String) {
    signed_by(
        statement,
        &statement.approver,
        statement.environment.namespace(),
    )
}

/// The same by another key or in another namespace.
pub(crate) fn signed_by(
    statement: &Statement,
    person: &str,
    namespace: Namespace,
) -> (String, String) {
    let text = statement.to_string();
    let signature = sign(&text, &key_of(person), namespace).unwrap();
    (text, signature)
}

pub(crate) fn fingerprint_of(person: &str) -> String {
    key_of(person).fingerprint(HashAlg::Sha256).to_string()
}

/// A revocation of one person's key, signed by another.
pub(crate) fn revocation(person: &str, by: &str, reason: &str) -> ApproverKeyRevoked {
    let mut revoked = ApproverKeyRevoked {
        key_fingerprint: fingerprint_of(person),
        person: person.to_owned(),
        by: by.to_owned(),
        reason: reason.to_owned(),
        signature: String::new(),
    };
    let text = revocation_text("acme", Environment::Production, &revoked);
    revoked.signature = sign(&text, &key_of(by), Namespace::Approval).unwrap();
    revoked
}
