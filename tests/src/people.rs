//! The people of the trial roster: who can approve what, and their signatures.

use std::path::PathBuf;
use std::time::Duration;

use sealwarden_domain::approval::{self, Decision, Environment, Namespace, Statement};
use sealwarden_wire::run::v1::PrepareResponse;
use serde_json::Value;
use ssh_key::PrivateKey;

use crate::binary::Answer;
use crate::installation::Installation;
use crate::wait;

/// How long a whole run may take.
const RUN: Duration = Duration::from_mins(3);

/// One person a role; nobody stands in two places of the same quorum.
const WHO: [(&str, &str); 6] = [
    ("security-lead", "mara.lindqvist"),
    ("on-call-sre", "ines.duarte"),
    ("legal-counsel", "leila.haddad"),
    ("compliance-owner", "pavel.novak"),
    ("product-owner", "aiko.tanaka"),
    ("communications-lead", "samuel.reyes"),
];

/// Somebody with the role.
pub fn with_role(role: &str) -> &'static str {
    WHO.iter()
        .find(|(known, _)| *known == role)
        .map(|(_, person)| *person)
        .expect("a role of the trial roster")
}

/// The roles of a quorum as answers write it: `security-lead: 1, on-call-sre: 1`.
pub fn roles(quorum: &str) -> Vec<String> {
    let role = |part: &str| part.split(':').next().unwrap_or_default().trim().to_owned();
    quorum
        .split(',')
        .map(role)
        .filter(|role| !role.is_empty())
        .collect()
}

/// `approve` as a person, without being asked.
pub fn approve(at: &Installation, run: &str, step: &str, person: &str) -> Answer {
    at.call(&[
        "approve",
        run,
        step,
        "--as",
        person,
        "--yes",
        "--note",
        "told on the phone",
    ])
}

/// A run, as `run show` tells it.
pub fn run(at: &Installation, run: &str) -> Value {
    at.call(&["run", "show", run]).good()
}

/// One step of a run.
pub fn step(run: &Value, id: &str) -> Value {
    let steps = run["steps"].as_array().expect("steps");
    steps
        .iter()
        .find(|step| step["step"] == id)
        .unwrap_or_else(|| panic!("no step {id} in {run}"))
        .clone()
}

/// Whether a step waits for people.
pub fn waits_for_people(step: &Value) -> bool {
    step["state"] == "awaiting-approval" || step["state"] == "awaiting-person"
}

/// Waits until a step is in this state; the step.
pub fn reaches(at: &Installation, id: &str, step_id: &str, state: &str) -> Value {
    wait::eventually(&format!("step {step_id} becomes {state}"), || {
        let answer = at.call(&["run", "show", id]);
        (answer.code == 0)
            .then(|| step(&answer.json(), step_id))
            .filter(|step| step["state"] == state)
    })
}

/// The run that answers an incident, once it has begun.
pub fn run_of_the_incident(at: &Installation) -> String {
    wait::eventually("an incident has a run", || {
        let answer = at.call(&["run", "list"]);
        let runs = (answer.code == 0).then(|| answer.json())?;
        runs["runs"][0]["run"].as_str().map(str::to_owned)
    })
}

/// Approves what waits, once, with one person a role; steps in `but` are left alone. Refusals are fine: the state may have moved on.
pub fn approve_what_waits(at: &Installation, id: &str, but: &[&str]) {
    let answer = at.call(&["run", "show", id]);
    if answer.code != 0 {
        return; // the executor is being restarted
    }
    let shown = answer.json();
    for step in shown["steps"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|step| waits_for_people(step))
    {
        let name = step["step"].as_str().unwrap_or_default();
        if but.contains(&name) {
            continue;
        }
        for role in roles(step["missing"].as_str().unwrap_or_default()) {
            approve(at, id, name, with_role(&role));
        }
    }
}

/// Approves everything until the run has ended; the run.
pub fn approve_until_the_end(at: &Installation, id: &str) -> Value {
    wait::within(RUN, "the run ends", || {
        approve_what_waits(at, id, &[]);
        let answer = at.call(&["run", "show", id]);
        let shown = (answer.code == 0).then(|| answer.json())?;
        assert_ne!(shown["state"], "failed", "{shown:#}");
        (shown["state"] == "completed").then_some(shown)
    })
}

/// Puts another roster in force, as its people do it: proposed by an operator, and signed by these.
pub fn change_roster(at: &Installation, text: &str, signers: &[&str]) -> Value {
    let file = at.file("roster-to-be.yaml", text.as_bytes());
    let file = file.to_str().expect("a path");
    let reason = "the rota changes";
    at.call(&["roster", "propose", file, "--reason", reason])
        .good();
    let mut last = Value::Null;
    for person in signers {
        let approve = ["roster", "approve", "--as", person, "--yes"];
        last = at.call(&approve).good();
    }
    assert_eq!(last["in_force"], true, "{last:#}");
    wait::eventually("the plan folder has the roster in force", || {
        (roster_text(at) == text).then_some(())
    });
    last
}

/// The text of the plan folder's roster.yaml.
pub fn roster_text(at: &Installation) -> String {
    std::fs::read_to_string(at.data().join("plan/roster.yaml")).expect("the roster")
}

/// Where a person's trial key lies.
pub fn key_file(at: &Installation, person: &str) -> PathBuf {
    at.data().join("people").join(person).join("id_ed25519")
}

/// A person's trial key.
pub fn key(at: &Installation, person: &str) -> PrivateKey {
    PrivateKey::read_openssh_file(&key_file(at, person))
        .unwrap_or_else(|e| panic!("the key of {person}: {e}"))
}

/// A statement over what `Prepare` answered, valid for ten minutes.
pub fn statement(prepared: &PrepareResponse, person: &str) -> Statement {
    let decision = if prepared.manual {
        Decision::Confirm
    } else {
        Decision::Approve
    };
    Statement {
        installation: prepared.installation.clone(),
        environment: Environment::parse(&prepared.environment).expect("an environment"),
        incident: prepared.incident.clone(),
        run: prepared.run.clone(),
        step: prepared.step.clone(),
        iteration: prepared.iteration,
        runbook: prepared.runbook.clone(),
        runbook_digest: prepared.runbook_digest.clone(),
        inputs_digest: prepared.inputs_digest.clone(),
        roster_digest: prepared.roster_digest.clone(),
        decision,
        approver: person.to_owned(),
        nonce: nonce(),
        expires_s: jiff::Timestamp::now().as_second() + 600,
    }
}

/// 32 hex digits that were never used.
pub fn nonce() -> String {
    let mut bytes = [0; 16];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
        .expect("random bytes");
    hex::encode(bytes)
}

/// Signs a statement's text with a person's key, in production's namespace.
pub fn sign(at: &Installation, person: &str, text: &str) -> String {
    approval::sign(text, &key(at, person), Namespace::Approval).expect("a signature")
}
